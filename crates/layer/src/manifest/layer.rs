//! One version of a layer, opened.

use std::collections::BTreeMap;

use goldleaf_store::{Digest, Store};
use goldleaf_tree::GuestPath;

use super::directory::{Child, Subtree, load, load_packages};
use super::outline::Outline;
use super::walk::Walk;
use super::{Counts, ManifestError, Version};
use crate::{Entry, Kind};

/// One version of a layer. It holds the version object only; directories are read when they are
/// asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    digest: Option<Digest>,
    version: Version,
}

impl Layer {
    /// Opens a version.
    pub fn open(store: &Store, version: &Digest) -> Result<Self, ManifestError> {
        let bytes = store.object(version)?;
        Ok(Self { digest: Some(*version), version: Version::decode(*version, &bytes)? })
    }

    /// The layer that says nothing.
    pub fn empty(kind: Kind) -> Self {
        Self { digest: None, version: Version::empty(kind) }
    }

    /// Whether another version holds the same entries and records.
    pub fn same_content(&self, other: &Layer) -> bool {
        let (mine, theirs) = (&self.version, &other.version);
        (mine.root, &mine.root_entry, &mine.records)
            == (theirs.root, &theirs.root_entry, &theirs.records)
    }

    /// The version's name; `None` for an empty layer that was never stored.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Kind of the layer.
    pub fn kind(&self) -> Kind {
        self.version.kind
    }

    /// What the version object says.
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// How much the layer has.
    pub fn counts(&self) -> Counts {
        self.version.counts
    }

    /// The packages that own entries, with the number of entries of each.
    pub fn packages(&self, store: &Store) -> Result<BTreeMap<String, u64>, ManifestError> {
        self.version
            .packages
            .as_ref()
            .map_or_else(|| Ok(BTreeMap::new()), |p| load_packages(store, p))
    }

    /// What the layer itself says about a path.
    pub fn get(&self, store: &Store, path: &GuestPath) -> Result<Option<Entry>, ManifestError> {
        if path.is_root() {
            return Ok(self.version.root_entry.clone());
        }
        Ok(self.child(store, path)?.and_then(|child| child.entry))
    }

    /// All entries in the order of paths. Holds the directories from the root to where it is.
    pub fn walk<'s>(&self, store: &'s Store) -> Walk<'s> {
        Walk::all(store, self.version.root_entry.clone(), self.version.root)
    }

    /// As [`walk`](Self::walk), of entries no more than has to be known to pass them on.
    pub(super) fn walk_outlines<'s>(&self, store: &'s Store) -> Walk<'s, Outline> {
        Walk::all(store, self.version.root_entry.clone().map(Outline::of), self.version.root)
    }

    /// The entries at a path and below it, in the order of paths.
    pub fn walk_below<'s>(
        &self,
        store: &'s Store,
        path: &GuestPath,
    ) -> Result<Walk<'s>, ManifestError> {
        match path.parent() {
            None => Ok(self.walk(store)),
            Some(parent) => Ok(Walk::of(store, parent, self.child(store, path)?)),
        }
    }

    pub(super) fn root(&self) -> Option<Subtree> {
        self.version.root
    }

    /// The name at the end of a path that is not the root.
    fn child(&self, store: &Store, path: &GuestPath) -> Result<Option<Child>, ManifestError> {
        let mut below = self.version.root;
        let mut found = None;
        for name in path.components() {
            let Some(subtree) = below else { return Ok(None) };
            let mut children = load(store, &subtree)?;
            let place = children.binary_search_by(|child| child.name.as_slice().cmp(name));
            let Ok(place) = place else { return Ok(None) };
            let child = children.swap_remove(place);
            below = child.below;
            found = Some(child);
        }
        Ok(found)
    }
}
