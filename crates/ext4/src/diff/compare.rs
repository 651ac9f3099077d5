//! Whether two nodes are the same.

use std::collections::BTreeSet;

use goldleaf_block::{BLOCK_SIZE, BlockCount, BlockNo, BlockRange};
use goldleaf_tree::FileExtent;

use super::dirty::Dirty;
use crate::error::Result;
use crate::inode::Inode;
use crate::volume::Volume;
use crate::xattr;

/// Blocks that are compared at once.
const CHUNK: u64 = 64;

/// How alike two nodes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Likeness {
    /// Nothing differs that is kept.
    Same,
    /// Attributes differ, content does not.
    Meta,
    /// Kind or content differ.
    Other,
}

/// Two states of a volume; with `dirty`, unwritten blocks are taken to be equal.
#[derive(Clone, Copy)]
pub(super) struct Compare<'a> {
    pub before: &'a Volume,
    pub after: &'a Volume,
    pub dirty: Option<&'a Dirty>,
}

impl Compare<'_> {
    /// Compares two inodes by value.
    pub fn inodes(&self, old: &Inode, new: &Inode) -> Result<Likeness> {
        if old.kind()? != new.kind()? || !self.same_content(old, new)? {
            return Ok(Likeness::Other);
        }
        if !same_attrs(old, new)? || !self.same_xattrs(old, new)? {
            return Ok(Likeness::Meta);
        }
        Ok(Likeness::Same)
    }

    fn same_content(&self, old: &Inode, new: &Inode) -> Result<bool> {
        if new.is_symlink() {
            return Ok(self.before.target(old)? == self.after.target(new)?);
        }
        if !new.is_file() {
            return Ok(true);
        }
        if old.size != new.size {
            return Ok(false);
        }
        let (was, extents) = (self.before.content(old)?, self.after.content(new)?);
        if was != extents {
            return self.same_bytes(&was, &extents);
        }
        for extent in extents {
            let range = BlockRange::new(BlockNo(extent.volume_block), BlockCount(extent.blocks));
            if !self.same_range(range)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Compares files whose content lies elsewhere: one that was written anew may still say the
    /// same. Holes are zeroes.
    fn same_bytes(&self, old: &[FileExtent], new: &[FileExtent]) -> Result<bool> {
        let mut bounds = BTreeSet::new();
        for extent in old.iter().chain(new) {
            bounds.extend([extent.file_block, extent.file_block + extent.blocks]);
        }
        let bounds: Vec<u64> = bounds.into_iter().collect();
        for piece in bounds.windows(2) {
            let (was, is) = (place(old, piece[0]), place(new, piece[0]));
            let mut at = piece[0];
            while at < piece[1] && (was.is_some() || is.is_some()) {
                let count = (piece[1] - at).min(CHUNK);
                let read = |volume: &Volume, first: Option<u64>| -> Result<Vec<u8>> {
                    let mut bytes = vec![0; (count * BLOCK_SIZE) as usize];
                    let first = first.map(|first| BlockNo(first + at - piece[0]));
                    first.map_or(Ok(()), |first| volume.read_blocks(first, &mut bytes))?;
                    Ok(bytes)
                };
                if read(self.before, was)? != read(self.after, is)? {
                    return Ok(false);
                }
                at += count;
            }
        }
        Ok(true)
    }

    fn same_range(&self, range: BlockRange) -> Result<bool> {
        let Some(dirty) = self.dirty else { return self.same_blocks(range) };
        for part in dirty.within(range) {
            if !self.same_blocks(part)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether blocks hold the same bytes; a block that was not there before does not.
    pub fn same_blocks(&self, range: BlockRange) -> Result<bool> {
        let there = self.before.superblock().blocks.min(self.after.superblock().blocks);
        if range.end().0 > there {
            return Ok(false);
        }
        let mut done = 0;
        while done < range.count.0 {
            let count = (range.count.0 - done).min(CHUNK);
            let mut old = vec![0; (count * BLOCK_SIZE) as usize];
            let mut new = old.clone();
            let at = range.start.plus(BlockCount(done));
            self.before.read_blocks(at, &mut old)?;
            self.after.read_blocks(at, &mut new)?;
            if old != new {
                return Ok(false);
            }
            done += count;
        }
        Ok(true)
    }

    fn same_xattrs(&self, old: &Inode, new: &Inode) -> Result<bool> {
        if old.xattr_block == 0 && new.xattr_block == 0 && old.xattr_at == new.xattr_at {
            let raw = (self.before.inode_bytes(old.ino)?, self.after.inode_bytes(new.ino)?);
            if raw.0.get(old.xattr_at..) == raw.1.get(new.xattr_at..) {
                return Ok(true);
            }
        }
        Ok(xattr::read(self.before, old)? == xattr::read(self.after, new)?)
    }
}

/// Where a block of a file lies on its volume.
fn place(extents: &[FileExtent], block: u64) -> Option<u64> {
    let behind = extents.partition_point(|extent| extent.file_block <= block);
    let extent = extents[..behind].last()?;
    let within = block - extent.file_block;
    (within < extent.blocks).then(|| extent.volume_block + within)
}

fn same_attrs(old: &Inode, new: &Inode) -> Result<bool> {
    let (old, mut new) = (old.node()?.attrs, new.node()?.attrs);
    new.ctime = old.ctime;
    Ok(old == new)
}
