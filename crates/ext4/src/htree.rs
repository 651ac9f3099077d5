//! Whether a directory's hash tree is one. Names are read without it, but the kernel and the
//! composer's library go by it.
//!
//! ```text
//! root     block 0: `.`, `..`, 0 u32 | hash u8 | 8 u8 | levels u8 | 0 u8 | records from byte 32
//! node     an empty record over the whole block, records from byte 8
//! records  limit u16 | count u16 | block u32, then (count - 1) times hash u32 | block u32
//! ```
//! Kernel documentation, filesystems/ext4, "Hash Tree Directories".

use goldleaf_block::{BLOCK_SIZE, BlockNo};

use crate::error::{Ext4Error, Result, corrupt};
use crate::extent::read_map;
use crate::fields::Fields;
use crate::inode::{FLAG_INDEX, Inode};
use crate::volume::Volume;

const BLOCK: usize = BLOCK_SIZE as usize;
/// The hashes that exist: legacy, half MD4 and TEA, each signed or unsigned, and SipHash.
const HASH_MAX: u8 = 6;
/// Levels of nodes below the root; three with directories that the gate refuses.
const LEVELS_MAX: u8 = 1;
const ROOT_AT: usize = 32;
const NODE_AT: usize = 8;

/// Checks the tree of a directory that has one: every block of it is named once and is one of the
/// directory's, and hashes ascend.
pub(crate) fn check(volume: &Volume, dir: &Inode) -> Result<()> {
    if dir.flags & FLAG_INDEX == 0 {
        return Ok(());
    }
    let content = read_map(volume, dir)?.content(dir.size);
    let blocks = content.iter().flat_map(|extent| {
        (0..extent.blocks).map(move |block| BlockNo(extent.volume_block + block))
    });
    let mut tree = Tree { volume, dir, blocks: blocks.map(Some).collect() };
    let root = tree.take(0)?;
    let fields = Fields(&root);
    let (hash, len, levels) = (fields.u8(0x1C), fields.u8(0x1D), fields.u8(0x1E));
    if hash > HASH_MAX || len != 8 || levels > LEVELS_MAX {
        let expected = format!("at most {LEVELS_MAX} levels of a known hash");
        return Err(tree.wrong(expected, format!("{levels} of hash {hash}")));
    }
    tree.node(&root, ROOT_AT, levels)
}

struct Tree<'a> {
    volume: &'a Volume,
    dir: &'a Inode,
    /// The directory's blocks, as long as no record has named them.
    blocks: Vec<Option<BlockNo>>,
}

impl Tree<'_> {
    /// Reads a block that no record has named before.
    fn take(&mut self, index: u32) -> Result<std::sync::Arc<[u8]>> {
        self.volume.block(self.name(index)?)
    }

    fn name(&mut self, index: u32) -> Result<BlockNo> {
        let count = self.blocks.len();
        let place = self.blocks.get_mut(index as usize).and_then(Option::take);
        place.ok_or_else(|| self.wrong(format!("each of {count} blocks at most once"), index))
    }

    /// The records of one node; the recursion is as deep as there are levels.
    fn node(&mut self, block: &[u8], at: usize, levels: u8) -> Result<()> {
        let fields = Fields(block);
        let (limit, count) = (usize::from(fields.u16(at)), usize::from(fields.u16(at + 2)));
        if count == 0 || count > limit || at + limit * 8 > BLOCK {
            return Err(self.wrong("records that fit", format!("{count} of {limit}")));
        }
        let mut last = 0;
        for index in 0..count {
            let record = at + index * 8;
            let hash = if index == 0 { 0 } else { fields.u32(record) };
            if hash < last {
                return Err(self.wrong("hashes that ascend", format!("{hash} behind {last}")));
            }
            last = hash;
            let child = fields.u32(record + 4) & 0x0FFF_FFFF;
            if levels == 0 {
                self.name(child)?;
            } else {
                let block = self.take(child)?;
                self.node(&block, NODE_AT, levels - 1)?;
            }
        }
        Ok(())
    }

    fn wrong(&self, expected: impl ToString, found: impl ToString) -> Ext4Error {
        let place = format!("{}, hash tree", self.dir.ino);
        corrupt(place, expected.to_string(), found.to_string())
    }
}
