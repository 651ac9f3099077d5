//! What a layer keeps alive, and what of it can be read.

use goldleaf_store::{Digest, LiveSet, Store};
use goldleaf_tree::GuestPath;

use super::directory::{Subtree, content_of, load};
use super::{Layer, ManifestError};
use crate::Entry;

/// What a survey comes upon.
#[derive(Debug)]
pub enum Surveyed<'a> {
    /// What the layer says about a path.
    Entry(&'a GuestPath, &'a Entry),
    /// The directory object of what is below a path; it can be read.
    Directory(&'a GuestPath, Digest),
    /// The directory object of what is below a path; it cannot be read, and what is below is not
    /// surveyed.
    Unreadable(&'a GuestPath, Digest),
}

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

    /// Goes through everything below the version object, and on where something is damaged.
    pub fn survey(&self, store: &Store, visit: &mut dyn FnMut(Surveyed<'_>)) {
        let root = GuestPath::root();
        if let Some(entry) = &self.version().root_entry {
            visit(Surveyed::Entry(&root, entry));
        }
        let mut open: Vec<(GuestPath, Subtree)> =
            self.root().into_iter().map(|below| (root.clone(), below)).collect();
        while let Some((path, subtree)) = open.pop() {
            let children = load(store, &subtree).and_then(|children| {
                let named = children.into_iter().map(|child| Ok((path.join(&child.name)?, child)));
                named.collect::<Result<Vec<_>, ManifestError>>()
            });
            let Ok(children) = children else {
                visit(Surveyed::Unreadable(&path, subtree.object));
                continue;
            };
            visit(Surveyed::Directory(&path, subtree.object));
            for (path, child) in children {
                if let Some(entry) = &child.entry {
                    visit(Surveyed::Entry(&path, entry));
                }
                open.extend(child.below.map(|below| (path, below)));
            }
        }
    }
}

fn add_blobs(entry: &Entry, live: &mut LiveSet) {
    let extents = content_of(entry).map(|content| content.extents.as_slice());
    live.blobs.extend(extents.unwrap_or_default().iter().map(|run| run.blob));
}
