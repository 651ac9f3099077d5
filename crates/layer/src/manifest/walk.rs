//! Walking one layer.

use std::vec;

use goldleaf_store::Store;
use goldleaf_tree::GuestPath;

use super::ManifestError;
use super::directory::{Child, FromObject, Subtree, load};
use crate::Entry;

/// Entries in the order of paths, a directory before what is below it. Ends after an error.
pub struct Walk<'s, E = Entry> {
    store: &'s Store,
    root_entry: Option<E>,
    /// From the outermost directory to the one that the walk is in.
    open: Vec<(GuestPath, vec::IntoIter<Child<E>>)>,
    failed: Option<ManifestError>,
}

impl<'s, E: FromObject> Walk<'s, E> {
    pub(super) fn all(store: &'s Store, root_entry: Option<E>, root: Option<Subtree>) -> Self {
        let mut walk = Self { store, root_entry, open: Vec::new(), failed: None };
        if let Some(root) = root {
            walk.enter(GuestPath::root(), &root);
        }
        walk
    }

    /// One name of the directory `parent`, and what is below it.
    pub(super) fn of(store: &'s Store, parent: GuestPath, child: Option<Child<E>>) -> Self {
        let children: Vec<Child<E>> = child.into_iter().collect();
        let open = vec![(parent, children.into_iter())];
        Self { store, root_entry: None, open, failed: None }
    }

    /// An error waits until the directory's own entry has been handed out.
    fn enter(&mut self, path: GuestPath, below: &Subtree) {
        match load(self.store, below) {
            Ok(children) => self.open.push((path, children.into_iter())),
            Err(error) => self.failed = Some(error),
        }
    }

    fn step(&mut self) -> Result<Option<(GuestPath, E)>, ManifestError> {
        loop {
            if let Some(error) = self.failed.take() {
                self.open.clear();
                return Err(error);
            }
            let Some((directory, children)) = self.open.last_mut() else { return Ok(None) };
            let Some(child) = children.next() else {
                self.open.pop();
                continue;
            };
            let path = directory.join(&child.name)?;
            if let Some(below) = &child.below {
                self.enter(path.clone(), below);
            }
            if let Some(entry) = child.entry {
                return Ok(Some((path, entry)));
            }
        }
    }
}

impl<E: FromObject> Iterator for Walk<'_, E> {
    type Item = Result<(GuestPath, E), ManifestError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(entry) = self.root_entry.take() {
            return Some(Ok((GuestPath::root(), entry)));
        }
        let result = self.step();
        if result.is_err() {
            self.open.clear();
        }
        result.transpose()
    }
}
