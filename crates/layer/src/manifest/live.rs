//! What a layer keeps alive.

use goldleaf_store::{LiveSet, Store};

use super::directory::{Subtree, content_of, load};
use super::{Layer, ManifestError};
use crate::Entry;

impl Layer {
    /// Adds every object that this version is made of and every blob that it refers to. Its parent
    /// version is not kept alive by it. Directories that `live` has already are not read again, so
    /// that a history of versions costs what differs.
    pub fn add_live(&self, store: &Store, live: &mut LiveSet) -> Result<(), ManifestError> {
        let version = self.version();
        live.objects.extend(self.digest());
        live.objects.extend(&version.records);
        live.objects.extend(version.packages);
        version.root_entry.iter().for_each(|entry| add_blobs(entry, live));
        let mut open: Vec<Subtree> = self.root().into_iter().collect();
        while let Some(subtree) = open.pop() {
            if !live.objects.insert(subtree.object) {
                continue;
            }
            for child in load(store, &subtree)? {
                child.entry.iter().for_each(|entry| add_blobs(entry, live));
                open.extend(child.below);
            }
        }
        Ok(())
    }
}

fn add_blobs(entry: &Entry, live: &mut LiveSet) {
    let extents = content_of(entry).map(|content| content.extents.as_slice());
    live.blobs.extend(extents.unwrap_or_default().iter().map(|run| run.blob));
}
