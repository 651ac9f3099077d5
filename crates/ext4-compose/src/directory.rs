//! Directories while they are being changed.
//!
//! Operations come sorted by path, so the directories that can still change are those on the way
//! from the root to the current path: a stack. What becomes of a directory's entries is collected
//! and written once, when it is left. A few new names go into an existing directory in place; many,
//! or any that find no room, make it be built anew, which is linear where insertion is not.

use std::collections::BTreeMap;

use goldleaf_ext4::Seed;

use crate::dirblock::{Built, Shape};
use crate::error::{ComposeError, Result};
use crate::extents::ExtentList;
use crate::inode::{FLAG_EXTENTS, FLAG_INDEX, RawInode};
use crate::names::{Edit, FILE_TYPE_DIR, Names};
use crate::overlay::Block;
use crate::volume::{Area, Ino, Volume};

/// More new names than this, and building anew is cheaper than inserting: an insertion may read the
/// whole directory.
const INSERTED_IN_PLACE: usize = 16;
/// `EXT4_LINK_MAX`: directories with more are recorded with one link.
pub(crate) const LINKS_MAX: u64 = 65_000;

/// A directory on the stack.
pub(crate) struct OpenDir {
    pub ino: Ino,
    parent: Ino,
    /// The component of the path; empty for the root.
    pub name: Vec<u8>,
    /// Whether it was made just now, so that no blocks are there.
    fresh: bool,
    existing: Names,
    edits: BTreeMap<usize, Edit>,
    added: Names,
    /// The group where the last inode of a child was found.
    pub inode_group: u32,
}

/// An entry that stands in a directory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    pub index: usize,
    pub ino: Ino,
}

impl OpenDir {
    /// Opens a directory that is on the volume.
    pub(crate) fn existing(volume: &Volume, ino: Ino, parent: Ino, name: &[u8]) -> Result<Self> {
        let mut open = Self::fresh(volume, ino, parent, name);
        open.fresh = false;
        open.existing = volume.list(ino)?;
        Ok(open)
    }

    /// Opens a directory whose inode was made just now.
    pub(crate) fn fresh(volume: &Volume, ino: Ino, parent: Ino, name: &[u8]) -> Self {
        Self {
            ino,
            parent,
            name: name.to_vec(),
            fresh: true,
            existing: Names::default(),
            edits: BTreeMap::new(),
            added: Names::default(),
            inode_group: volume.group_of(ino),
        }
    }

    /// The entry of that name among those that were there when the directory was opened.
    pub(crate) fn find(&self, name: &[u8]) -> Option<Found> {
        let index = self.existing.find(name)?;
        match self.edits.get(&index) {
            Some(Edit::Remove) => None,
            Some(Edit::Redirect { ino, .. }) => Some(Found { index, ino: *ino }),
            None => Some(Found { index, ino: self.existing.get(index).ino }),
        }
    }

    /// Removes an entry.
    pub(crate) fn remove(&mut self, found: Found) {
        self.edits.insert(found.index, Edit::Remove);
    }

    /// Makes a name stand for an inode: the entry that is there, or a new one.
    pub(crate) fn set(&mut self, found: Option<Found>, name: &[u8], ino: Ino, file_type: u8) {
        match found {
            Some(found) => {
                self.edits.insert(found.index, Edit::Redirect { ino, file_type });
            }
            None => self.added.push(name, ino, file_type),
        }
    }

    /// Writes what was collected; returns whether the blocks were built anew.
    pub(crate) fn close(self, volume: &mut Volume) -> Result<bool> {
        if self.fresh {
            self.build(volume)?;
            return Ok(true);
        }
        if self.edits.is_empty() && self.added.is_empty() {
            return Ok(false);
        }
        if self.change_in_place(volume)? {
            self.correct_links(volume)?;
            return Ok(false);
        }
        volume.give_content(self.ino)?;
        self.build(volume)?;
        Ok(true)
    }

    fn change_in_place(&self, volume: &mut Volume) -> Result<bool> {
        if self.added.len() > INSERTED_IN_PLACE {
            return Ok(false);
        }
        if !self.edits.is_empty() {
            volume.edit(self.ino, &self.existing, &self.edits)?;
        }
        for entry in self.added.iter() {
            if !volume.link(self.ino, entry.name, entry.ino, entry.file_type)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn correct_links(&self, volume: &mut Volume) -> Result<()> {
        let links = self.links(volume)?;
        let mut inode = volume.read_inode(self.ino)?;
        if inode.links() != links {
            inode.set_links(links);
            volume.write_inode(self.ino, &mut inode)?;
        }
        Ok(())
    }

    /// All entries as they are to be.
    fn names(&self) -> Names {
        let mut names = Names::default();
        for (index, entry) in self.existing.iter().enumerate() {
            match self.edits.get(&index) {
                Some(Edit::Remove) => {}
                Some(Edit::Redirect { ino, file_type }) => {
                    names.push(entry.name, *ino, *file_type);
                }
                None => names.push(entry.name, entry.ino, entry.file_type),
            }
        }
        self.added.iter().for_each(|entry| names.push(entry.name, entry.ino, entry.file_type));
        names
    }

    /// Two links and one for every subdirectory.
    fn links(&self, volume: &Volume) -> Result<u16> {
        let is_dir = |file_type: u8| u64::from(file_type == FILE_TYPE_DIR);
        let mut links = 2;
        for (index, entry) in self.existing.iter().enumerate() {
            links += match self.edits.get(&index) {
                Some(Edit::Remove) => 0,
                Some(Edit::Redirect { file_type, .. }) => is_dir(*file_type),
                None => is_dir(entry.file_type),
            };
        }
        links += self.added.iter().map(|entry| is_dir(entry.file_type)).sum::<u64>();
        if links <= LINKS_MAX {
            return Ok(links as u16);
        }
        if volume.geometry.has_dir_nlink {
            return Ok(1);
        }
        Err(ComposeError::Refused(format!("{links} subdirectories need the feature dir_nlink")))
    }

    /// Writes the directory from scratch. Its inode is on the volume; its blocks, if it had any,
    /// were given back.
    fn build(&self, volume: &mut Volume) -> Result<()> {
        let links = self.links(volume)?;
        let mut inode = volume.read_inode(self.ino)?;
        let seed = volume.seed_of(self.ino, &inode);
        let built = if self.fresh {
            self.blocks(volume, seed, &self.added)?
        } else {
            self.blocks(volume, seed, &self.names())?
        };
        let extents = write_blocks(volume, &built.blocks)?;
        let (root, tree_blocks) = extents.list.build(volume, |_| seed)?;
        let index = if built.indexed { FLAG_INDEX } else { 0 };
        inode.set_flags(inode.flags() & !FLAG_INDEX | FLAG_EXTENTS | index);
        inode.set_words(&root);
        inode.set_size(extents.blocks * 4096);
        inode.set_blocks(extents.blocks + tree_blocks + xattr_blocks(&inode));
        inode.set_links(links);
        volume.write_inode(self.ino, &mut inode)
    }

    fn blocks(&self, volume: &Volume, seed: Option<Seed>, names: &Names) -> Result<Built> {
        let geometry = &volume.geometry;
        let shape = Shape { geometry, seed, ino: self.ino, parent: self.parent };
        shape.build(names, |name| volume.hash(name))
    }
}

struct Written {
    list: ExtentList,
    blocks: u64,
}

fn write_blocks(volume: &mut Volume, blocks: &[Box<Block>]) -> Result<Written> {
    let count = blocks.len() as u64;
    let mut blocks = blocks.iter();
    let (mut list, mut at) = (ExtentList::default(), 0);
    for piece in volume.take_blocks(Area::Metadata, count)? {
        list.push(at, piece);
        at += piece.count as u32;
        for (number, block) in (piece.start..).zip(blocks.by_ref().take(piece.count as usize)) {
            volume.write_block(number, block)?;
        }
    }
    Ok(Written { list, blocks: count })
}

/// Blocks that an inode's extended attributes take.
pub(crate) fn xattr_blocks(inode: &RawInode) -> u64 {
    u64::from(inode.xattr_block() != 0)
}
