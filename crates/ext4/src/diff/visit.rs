//! Compares the two states path by path, from any path down, and collects changes.

use std::collections::{BTreeMap, HashMap};

use goldleaf_tree::{Change, GuestPath, NodeKind};

use super::compare::{Compare, Likeness};
use super::dirty::Dirty;
use crate::dir::{self, Listed};
use crate::error::{Result, corrupt};
use crate::inode::{Inode, InodeNo};
use crate::volume::Volume;

/// A path and what stands there in either state.
pub(super) struct Place {
    pub path: GuestPath,
    pub before: Option<InodeNo>,
    pub after: Option<InodeNo>,
}

/// Collects changes.
pub(super) struct Visitor<'a> {
    pub compare: Compare<'a>,
    changes: BTreeMap<GuestPath, Change>,
    /// Where each directory was met, in either state: a directory has one path, and one walk.
    met: [HashMap<InodeNo, GuestPath>; 2],
    /// Names of nodes with several, when they are to be remembered.
    links: Option<HashMap<InodeNo, Vec<Place>>>,
}

impl<'a> Visitor<'a> {
    pub fn new(before: &'a Volume, after: &'a Volume, dirty: Option<&'a Dirty>) -> Self {
        let compare = Compare { before, after, dirty };
        Self { compare, changes: BTreeMap::new(), met: Default::default(), links: None }
    }

    /// From now on keeps every name of nodes with several.
    pub fn remember_links(&mut self) {
        self.links = Some(HashMap::new());
    }

    /// Compares what is at `path`; `deep`: and all below it.
    pub fn visit(
        &mut self,
        path: GuestPath,
        before: Option<InodeNo>,
        after: Option<InodeNo>,
        deep: bool,
    ) -> Result<()> {
        let mut stack = vec![Place { path, before, after }];
        while let Some(place) = stack.pop() {
            let old = place.before.map(|ino| self.compare.before.inode(ino)).transpose()?;
            let new = place.after.map(|ino| self.compare.after.inode(ino)).transpose()?;
            self.one(&place, old.as_ref(), new.as_ref())?;
            if deep {
                self.below(&place.path, old.as_ref(), new.as_ref(), &mut stack)?;
            }
        }
        Ok(())
    }

    fn one(&mut self, place: &Place, old: Option<&Inode>, new: Option<&Inode>) -> Result<()> {
        if let Some(new) = new {
            self.remember(place, new);
        }
        match (old, new) {
            (Some(old), Some(new)) => match self.compare.inodes(old, new)? {
                Likeness::Same => Ok(()),
                likeness => self.put(place, new, likeness),
            },
            (None, Some(new)) => self.put(place, new, Likeness::Other),
            (Some(old), None) => {
                let change = Change::Remove { path: place.path.clone(), kind: old.kind()? };
                self.changes.insert(place.path.clone(), change);
                Ok(())
            }
            (None, None) => Ok(()),
        }
    }

    fn remember(&mut self, place: &Place, new: &Inode) {
        let Some(links) = self.links.as_mut().filter(|_| new.links > 1 && !new.is_dir()) else {
            return;
        };
        let place = Place { path: place.path.clone(), ..*place };
        links.entry(new.ino).or_default().push(place);
    }

    fn put(&mut self, place: &Place, new: &Inode, likeness: Likeness) -> Result<()> {
        let after = self.compare.after;
        let target = if new.is_symlink() { after.target(new)? } else { Vec::new() };
        let change = Change::Put {
            path: place.path.clone(),
            node: new.node()?,
            target,
            xattrs: crate::xattr::read(after, new)?,
            extents: after.content(new)?,
            existed: place.before.is_some(),
            meta_only: likeness != Likeness::Other,
        };
        self.changes.insert(place.path.clone(), change);
        Ok(())
    }

    /// Pushes the names of a directory in either state.
    fn below(
        &mut self,
        path: &GuestPath,
        old: Option<&Inode>,
        new: Option<&Inode>,
        stack: &mut Vec<Place>,
    ) -> Result<()> {
        let old = old.filter(|inode| inode.is_dir());
        let new = new.filter(|inode| inode.is_dir());
        let again_old = self.meet(0, old, path)?;
        let again_new = self.meet(1, new, path)?;
        if (old.is_none() || again_old) && (new.is_none() || again_new) {
            return Ok(());
        }
        let lists = [list(self.compare.before, old)?, list(self.compare.after, new)?];
        for (name, before, after) in merge(&lists[0], &lists[1]) {
            stack.push(Place { path: path.join(name)?, before, after });
        }
        Ok(())
    }

    /// Notes where a directory was met; returns whether it was met there before.
    fn meet(&mut self, side: usize, inode: Option<&Inode>, path: &GuestPath) -> Result<bool> {
        let Some(inode) = inode else { return Ok(false) };
        match self.met[side].get(&inode.ino) {
            None => {
                self.met[side].insert(inode.ino, path.clone());
                Ok(false)
            }
            Some(known) if known == path => Ok(true),
            Some(known) => Err(corrupt(inode.ino, format!("one path, {known}"), path)),
        }
    }

    /// Makes one name of a node with several a `Put` if it is not yet.
    pub fn link(&mut self, place: &Place) -> Result<()> {
        let Some(ino) = place.after else { return Ok(()) };
        if matches!(self.changes.get(&place.path), Some(Change::Put { .. })) {
            return Ok(());
        }
        let new = self.compare.after.inode(ino)?;
        let old = place.before.map(|ino| self.compare.before.inode(ino)).transpose()?;
        let likeness = match &old {
            Some(old) => self.compare.inodes(old, &new)?,
            None => Likeness::Other,
        };
        self.put(place, &new, likeness)
    }

    /// Puts the remembered names of all nodes that have a name put.
    pub fn link_remembered(&mut self) -> Result<()> {
        let links = self.links.take().unwrap_or_default();
        for ino in self.linked().into_keys() {
            for place in links.get(&ino).into_iter().flatten() {
                self.link(place)?;
            }
        }
        Ok(())
    }

    /// Nodes with several names of which one is put: how many they have, and which are put.
    pub fn linked(&self) -> HashMap<InodeNo, (u32, Vec<GuestPath>)> {
        let mut out: HashMap<InodeNo, (u32, Vec<GuestPath>)> = HashMap::new();
        for change in self.changes.values() {
            let Change::Put { path, node, .. } = change else { continue };
            let directory = node.kind == NodeKind::Directory;
            if node.links > 1 && !directory {
                let ino = InodeNo(node.id.0 as u32);
                out.entry(ino).or_insert_with(|| (node.links, Vec::new())).1.push(path.clone());
            }
        }
        out
    }

    /// The changes, sorted by path.
    pub fn finish(self) -> Vec<Change> {
        self.changes.into_values().collect()
    }
}

fn list(volume: &Volume, inode: Option<&Inode>) -> Result<Vec<Listed>> {
    inode.map_or(Ok(Vec::new()), |inode| dir::list(volume, inode))
}

/// Names of two sorted lists with what each names.
pub(super) fn merge<'l>(
    old: &'l [Listed],
    new: &'l [Listed],
) -> Vec<(&'l [u8], Option<InodeNo>, Option<InodeNo>)> {
    let mut out = Vec::with_capacity(old.len().max(new.len()));
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return out,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(old), Some(new)) => old.name.cmp(&new.name),
        };
        let left = old.next_if(|_| order.is_le());
        let right = new.next_if(|_| order.is_ge());
        if let Some(entry) = left.or(right) {
            out.push((&entry.name[..], left.map(|e| e.ino), right.map(|e| e.ino)));
        }
    }
}

/// Walks `path` in a state; `None` when nothing is there.
pub(super) fn resolve(volume: &Volume, path: &GuestPath) -> Result<Option<InodeNo>> {
    let mut ino = InodeNo::ROOT;
    for name in path.components() {
        let inode = volume.inode(ino)?;
        if !inode.is_dir() {
            return Ok(None);
        }
        match dir::lookup(volume, &inode, name)? {
            Some(next) => ino = next,
            None => return Ok(None),
        }
    }
    Ok(Some(ino))
}
