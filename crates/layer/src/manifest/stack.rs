//! Several layers as one.

use goldleaf_store::Store;
use goldleaf_tree::GuestPath;

use super::directory::FromObject;
use super::outline::Outline;
use super::walk::Walk;
use super::{Layer, ManifestError};
use crate::Entry;

/// Walks layers, the lowest first, as one: in the order of paths, for each path the topmost layer
/// that has an entry, its index and the entry. What a layer says is hidden by a whiteout of a
/// higher one at the path or above it, and by anything but a directory of a higher one above it.
/// Whiteouts are handed out too: they say what lower stacks are to lose.
pub fn walk_stack<'s>(layers: &[(&'s Store, &Layer)]) -> StackWalk<'s> {
    StackWalk::over(layers.iter().map(|(store, layer)| layer.walk(store)))
}

/// As [`walk_stack`], of entries no more than has to be known to pass them on.
pub fn walk_outlines<'s>(layers: &[(&'s Store, &Layer)]) -> StackWalk<'s, Outline> {
    StackWalk::over(layers.iter().map(|(store, layer)| layer.walk_outlines(store)))
}

/// See [`walk_stack`].
pub struct StackWalk<'s, E = Entry> {
    walks: Vec<Source<'s, E>>,
    /// Paths that hide what is below them, each within the one before, with the highest layer that
    /// says so: what layers under it have there is hidden.
    covers: Vec<(GuestPath, usize)>,
    done: bool,
}

/// One layer's walk, one entry ahead.
struct Source<'s, E> {
    walk: Walk<'s, E>,
    next: Option<Result<(GuestPath, E), ManifestError>>,
}

impl<'s, E: FromObject> Source<'s, E> {
    fn new(mut walk: Walk<'s, E>) -> Self {
        let next = walk.next();
        Self { walk, next }
    }

    fn path(&self) -> Option<&GuestPath> {
        self.next.as_ref()?.as_ref().ok().map(|(path, _)| path)
    }

    fn advance(&mut self) -> Option<Result<(GuestPath, E), ManifestError>> {
        std::mem::replace(&mut self.next, self.walk.next())
    }
}

impl<'s, E: FromObject> StackWalk<'s, E> {
    fn over(walks: impl Iterator<Item = Walk<'s, E>>) -> Self {
        Self { walks: walks.map(Source::new).collect(), covers: Vec::new(), done: false }
    }

    fn take_error(&mut self) -> Option<ManifestError> {
        let failed = |source: &&mut Source<'_, E>| matches!(source.next, Some(Err(_)));
        let source = self.walks.iter_mut().find(failed)?;
        source.next.take()?.err()
    }

    /// Takes all entries at the next path: the topmost one, and who hides what is below.
    fn take_path(&mut self) -> Option<(GuestPath, usize, E)> {
        let next = self.walks.iter().enumerate();
        let next = next.filter_map(|(index, source)| Some((source.path()?, index)));
        let (_, mut index) = next.min()?;
        let (path, mut entry) = self.walks[index].advance()?.ok()?;
        while self.covers.last().is_some_and(|(cover, _)| !path.starts_with(cover)) {
            self.covers.pop();
        }
        let mut cover = entry.hides_below().then_some(index);
        for higher in index + 1..self.walks.len() {
            if self.walks[higher].path() != Some(&path) {
                continue;
            }
            if let Some(Ok((_, above))) = self.walks[higher].advance() {
                cover = if above.hides_below() { Some(higher) } else { cover };
                (index, entry) = (higher, above);
            }
        }
        let above = self.covers.last().map(|(_, above)| *above);
        // The lowest layer has nothing to hide, and what is hidden above needs no saying again.
        if let Some(cover) = cover.filter(|&cover| cover > above.unwrap_or(0)) {
            self.covers.push((path.clone(), cover));
        }
        // A hidden entry is marked by an index that no layer has.
        let hidden = above.is_some_and(|above| index < above);
        Some((path, if hidden { usize::MAX } else { index }, entry))
    }
}

impl<E: FromObject> Iterator for StackWalk<'_, E> {
    type Item = Result<(GuestPath, usize, E), ManifestError>;

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
