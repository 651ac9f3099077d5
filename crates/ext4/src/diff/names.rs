//! Finding the names of inodes: ext4 keeps no way back from an inode to the directory naming it.
//!
//! First the directories that changed, then those whose inodes stand shortly before the wanted one
//! (the allocator puts a file into its directory's group, mostly right behind it), then all.

use std::collections::{HashMap, HashSet};

use goldleaf_tree::GuestPath;

use crate::dir::{self, Listed, Step};
use crate::error::{Result, corrupt};
use crate::inode::{Inode, InodeNo};
use crate::volume::Volume;

/// Inodes before the wanted one that may be its directory: a few blocks of the table.
const NEAR: u32 = 128;

/// What a record's type says of a directory.
const DIRECTORY: u8 = 2;

/// A name: the directory and the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    pub ino: InodeNo,
    pub dir: InodeNo,
    pub name: Vec<u8>,
}

/// A search for all names of some inodes.
pub(super) struct NameSearch<'a> {
    volume: &'a Volume,
    /// Names still missing of each.
    missing: HashMap<InodeNo, u32>,
    searched: HashSet<InodeNo>,
    found: Vec<Name>,
}

impl<'a> NameSearch<'a> {
    /// For inodes with their numbers of names.
    pub fn new(volume: &'a Volume, wanted: impl IntoIterator<Item = (InodeNo, u32)>) -> Self {
        let missing = wanted.into_iter().filter(|(_, links)| *links > 0).collect();
        Self { volume, missing, searched: HashSet::new(), found: Vec::new() }
    }

    /// Looks through a directory that was read anyway.
    pub fn listed(&mut self, dir: InodeNo, list: &[Listed]) {
        if !self.searched.insert(dir) {
            return;
        }
        for entry in list.iter().filter(|entry| entry.file_type != DIRECTORY) {
            self.note(dir, entry.ino, &entry.name);
        }
    }

    /// Takes a name that is wanted.
    fn note(&mut self, dir: InodeNo, ino: InodeNo, name: &[u8]) {
        let Some(missing) = self.missing.get_mut(&ino) else { return };
        *missing -= 1;
        if *missing == 0 {
            self.missing.remove(&ino);
        }
        self.found.push(Name { ino, dir, name: name.to_vec() });
    }

    /// Runs the search, `first` being the directories to begin with; returns the names and how
    /// many directories were read.
    pub fn run(mut self, first: &[InodeNo]) -> Result<(Vec<Name>, u64)> {
        for &ino in first {
            if !self.searched.contains(&ino) {
                self.search(ino, &mut Vec::new())?;
            }
        }
        self.near()?;
        let mut stack = vec![InodeNo::ROOT];
        let mut walked = HashSet::new();
        while let Some(ino) = stack.pop().filter(|_| !self.missing.is_empty()) {
            if walked.insert(ino) {
                self.search(ino, &mut stack)?;
            }
        }
        Ok((self.found, self.searched.len() as u64))
    }

    /// Reads one directory, unless nothing is missing; pushes the directories below it.
    fn search(&mut self, ino: InodeNo, below: &mut Vec<InodeNo>) -> Result<()> {
        if self.missing.is_empty() {
            return Ok(());
        }
        let known = !self.searched.insert(ino);
        let volume = self.volume;
        dir::for_each(volume, &volume.inode(ino)?, &mut |entry| {
            if entry.is_dot() {
                return Ok(Step::Next);
            }
            if entry.file_type == DIRECTORY {
                below.push(entry.ino);
            } else if !known {
                self.note(ino, entry.ino, entry.name);
            }
            Ok(Step::Next)
        })
    }

    /// Looks at the directories shortly before each wanted inode in its group, the nearest first.
    fn near(&mut self) -> Result<()> {
        let mut wanted: Vec<InodeNo> = self.missing.keys().copied().collect();
        wanted.sort_unstable();
        for ino in wanted {
            let per_group = self.volume.superblock().inodes_per_group;
            let first = self.volume.group_of(ino) * per_group + 1;
            let start = ino.0.saturating_sub(NEAR).max(first);
            for candidate in (start..ino.0).rev().map(InodeNo) {
                if !self.missing.contains_key(&ino) {
                    break;
                }
                if !self.searched.contains(&candidate) && self.is_directory(candidate)? {
                    self.search(candidate, &mut Vec::new())?;
                }
            }
        }
        Ok(())
    }

    /// Whether an inode is a directory in use.
    fn is_directory(&self, ino: InodeNo) -> Result<bool> {
        let sb = self.volume.superblock();
        let (block, at) = self.volume.inode_place(ino)?;
        let bytes = self.volume.block(block)?;
        let raw = &bytes[at..at + usize::from(sb.inode_size)];
        if raw[1] >> 4 != 4 || !self.volume.inode_in_use(ino)? {
            return Ok(false);
        }
        let inode = Inode::parse(sb, ino, raw, true)?;
        Ok(inode.is_live() && !sb.is_hidden(ino))
    }
}

/// Paths of directories, found by climbing `..`; each is looked for once.
pub(super) struct Paths<'a> {
    volume: &'a Volume,
    known: HashMap<InodeNo, GuestPath>,
    /// Names of the directories in those that were climbed through.
    named: HashMap<InodeNo, HashMap<InodeNo, Vec<u8>>>,
}

impl<'a> Paths<'a> {
    pub fn new(volume: &'a Volume) -> Self {
        let known = HashMap::from([(InodeNo::ROOT, GuestPath::root())]);
        Self { volume, known, named: HashMap::new() }
    }

    /// The path of a directory in use.
    pub fn of(&mut self, dir: InodeNo) -> Result<GuestPath> {
        let mut climbed = Vec::new();
        let mut met = HashSet::new();
        let mut ino = dir;
        let mut path = loop {
            if let Some(path) = self.known.get(&ino) {
                break path.clone();
            }
            if !met.insert(ino) {
                return Err(corrupt(dir, "a way up to the root", "a circle"));
            }
            let inode = self.volume.inode(ino)?;
            let Some(parent) = dir::lookup(self.volume, &inode, b"..")? else {
                return Err(corrupt(ino, "an entry `..`", "none"));
            };
            climbed.push((ino, self.name_in(parent, ino)?));
            ino = parent;
        };
        for (ino, name) in climbed.into_iter().rev() {
            path = path.join(&name)?;
            self.known.insert(ino, path.clone());
        }
        Ok(path)
    }

    /// A directory's name in the one above. All that is named there is read at once: a directory of
    /// a thousand others is climbed through a thousand times.
    fn name_in(&mut self, parent: InodeNo, child: InodeNo) -> Result<Vec<u8>> {
        if !self.named.contains_key(&parent) {
            let dir = self.volume.inode(parent)?;
            let mut names = HashMap::new();
            dir::for_each(self.volume, &dir, &mut |entry| {
                if entry.file_type == DIRECTORY && !entry.is_dot() {
                    names.insert(entry.ino, entry.name.to_vec());
                }
                Ok(Step::Next)
            })?;
            self.named.insert(parent, names);
        }
        let name = self.named.get(&parent).and_then(|names| names.get(&child));
        name.cloned().ok_or_else(|| corrupt(parent, format!("a name for {child}"), "none"))
    }
}
