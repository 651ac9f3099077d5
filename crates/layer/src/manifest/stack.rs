//! Several layers as one.

use goldleaf_store::Store;
use goldleaf_tree::{GuestPath, NodeKind};

use super::walk::Walk;
use super::{Layer, ManifestError};
use crate::{Entry, EntryNode};

/// Walks layers, the lowest first, as one: in the order of paths, for each path the topmost layer
/// that has an entry, its index and the entry. What a layer says is hidden by a whiteout of a
/// higher one at the path or above it, and by anything but a directory of a higher one above it.
/// Whiteouts are handed out too: they say what lower stacks are to lose.
pub fn walk_stack<'s>(layers: &[(&'s Store, &Layer)]) -> StackWalk<'s> {
    let walks = layers.iter().map(|(store, layer)| Source::new(layer.walk(store))).collect();
    StackWalk { walks, covers: Vec::new(), done: false }
}

/// See [`walk_stack`].
pub struct StackWalk<'s> {
    walks: Vec<Source<'s>>,
    /// Paths that hide what is below them, each within the one before, with the highest layer that
    /// says so: what layers under it have there is hidden.
    covers: Vec<(GuestPath, usize)>,
    done: bool,
}

/// One layer's walk, one entry ahead.
struct Source<'s> {
    walk: Walk<'s>,
    next: Option<Result<(GuestPath, Entry), ManifestError>>,
}

impl<'s> Source<'s> {
    fn new(mut walk: Walk<'s>) -> Self {
        let next = walk.next();
        Self { walk, next }
    }

    fn path(&self) -> Option<&GuestPath> {
        self.next.as_ref()?.as_ref().ok().map(|(path, _)| path)
    }

    fn advance(&mut self) -> Option<Result<(GuestPath, Entry), ManifestError>> {
        std::mem::replace(&mut self.next, self.walk.next())
    }
}

/// Whether an entry hides what lower layers have below its path.
fn hides(entry: &Entry) -> bool {
    !matches!(&entry.node, EntryNode::Node { kind: NodeKind::Directory, .. })
}

impl StackWalk<'_> {
    fn take_error(&mut self) -> Option<ManifestError> {
        let failed = |source: &&mut Source| matches!(source.next, Some(Err(_)));
        let source = self.walks.iter_mut().find(failed)?;
        source.next.take()?.err()
    }

    /// Takes all entries at the next path: the topmost one, and who hides what is below.
    fn take_path(&mut self) -> Option<(GuestPath, usize, Entry)> {
        let path = self.walks.iter().filter_map(Source::path).min()?.clone();
        while self.covers.last().is_some_and(|(cover, _)| !path.starts_with(cover)) {
            self.covers.pop();
        }
        let (mut top, mut cover) = (None, None);
        for index in 0..self.walks.len() {
            if self.walks[index].path() != Some(&path) {
                continue;
            }
            if let Some(Ok((_, entry))) = self.walks[index].advance() {
                cover = if hides(&entry) { Some(index) } else { cover };
                top = Some((index, entry));
            }
        }
        let (index, entry) = top?;
        let above = self.covers.last().map(|(_, above)| *above);
        if let Some(cover) = cover {
            self.covers.push((path.clone(), above.map_or(cover, |above| above.max(cover))));
        }
        // A hidden entry is marked by an index that no layer has.
        let hidden = above.is_some_and(|above| index < above);
        Some((path, if hidden { usize::MAX } else { index }, entry))
    }
}

impl Iterator for StackWalk<'_> {
    type Item = Result<(GuestPath, usize, Entry), ManifestError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.done {
            if let Some(error) = self.take_error() {
                self.done = true;
                return Some(Err(error));
            }
            match self.take_path() {
                None => self.done = true,
                Some((_, usize::MAX, _)) => {}
                Some(item) => return Some(Ok(item)),
            }
        }
        None
    }
}
