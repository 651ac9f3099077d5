//! Where a volume keeps what is not the content of files: all that a mount, a walk through the
//! tree, or a composer reads.
//!
//! ```text
//!   superblocks, descriptors (with those reserved for growth), bitmaps, multi-mount block
//!   inode tables up to the last inode that was ever used
//!   blocks of directories (hash trees are in them), of long links, of attributes, of extent trees
//!   the journal's first block; whole files of the file system's own, as the orphan file
//! ```
//! Kernel documentation, filesystems/ext4, "Layout", "Special inodes". The body of the journal is not
//! among it: in the canonical form it reads as zeroes. The blocks behind the initialised part of an
//! inode table are not either: no reader looks at them, and who takes them into use writes them.

use goldleaf_block::{BlockNo, BlockRange};

use crate::bits::Bits;
use crate::error::{Result, corrupt};
use crate::extent::read_map;
use crate::fields::Fields;
use crate::group::fixed_in_use;
use crate::inode::{Inode, InodeNo};
use crate::table;
use crate::volume::Volume;
use crate::xattr;

/// Finds the blocks of metadata, in blocks of the volume: sorted, apart, as long as they can be.
///
/// All inodes in use are looked at, and nothing that they name leaves the volume. On a volume that
/// was validated the work grows with its inodes; on another one a block may be met very often.
/// Memory is one bit a block, and one group's inode table.
pub fn metadata(volume: &Volume) -> Result<Vec<BlockRange>> {
    let sb = volume.superblock();
    let mut found = Found { volume, blocks: Bits::new(sb.blocks) };
    fixed_in_use(sb, volume.groups()).into_iter().for_each(|range| found.put(range));
    for group in 0..sb.groups() {
        table::for_each_in_use(volume, group, &mut |ino, raw| found.inode(ino, raw))?;
    }
    Ok(found.blocks.ranges())
}

struct Found<'a> {
    volume: &'a Volume,
    blocks: Bits,
}

impl Found<'_> {
    /// Notes blocks that were found to be on the volume.
    fn put(&mut self, range: BlockRange) {
        for block in range.start.0..range.end().0 {
            self.blocks.set(block);
        }
    }

    fn put_one(&mut self, block: BlockNo, owner: InodeNo) -> Result<()> {
        let blocks = self.volume.superblock().blocks;
        if block.0 >= blocks {
            return Err(corrupt(owner, format!("a block below {blocks}"), block));
        }
        self.blocks.set(block.0);
        Ok(())
    }

    fn inode(&mut self, ino: InodeNo, raw: &[u8]) -> Result<()> {
        let sb = self.volume.superblock();
        if sb.is_void(ino, raw) {
            return Ok(());
        }
        let inode = Inode::parse(sb, ino, raw, true)?;
        if ino == InodeNo::RESIZE {
            return self.resize_inode(&inode);
        }
        inode.check()?;
        if let Some(block) = xattr::block_of(&inode) {
            self.put_one(block, ino)?;
        }
        let map = read_map(self.volume, &inode)?;
        for &node in &map.nodes {
            self.put_one(node, ino)?;
        }
        if sb.journal() == Some(ino) {
            let first = map.runs.iter().find(|run| run.file_block == 0);
            return first.map_or(Ok(()), |run| self.put_one(run.range.start, ino));
        }
        if !inode.is_file() || sb.is_hidden(ino) {
            map.runs.iter().for_each(|run| self.put(run.range));
        }
        Ok(())
    }

    /// The resize inode's own block names the descriptors that are reserved for growth.
    fn resize_inode(&mut self, inode: &Inode) -> Result<()> {
        match u64::from(Fields(&inode.body).u32(13 * 4)) {
            0 => Ok(()),
            block => self.put_one(BlockNo(block), inode.ino),
        }
    }
}
