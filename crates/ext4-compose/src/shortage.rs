//! What is missing on a volume that is too small.
//!
//! The composer goes on when a volume is full: what is removed gives space back as ever, and what
//! is put is only counted here, so that at the end it can be said how much more would do.

use std::collections::HashSet;

use goldleaf_block::BLOCK_SIZE;
use goldleaf_tree::{GuestPath, NodeKind};

use crate::inode::WORDS;
use crate::op::{Content, Free, PutNode};
use crate::volume::Geometry;

/// How much more than a volume has is wanted of it. At least one number is not zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shortage {
    /// Blocks of 4 KiB.
    pub blocks: u64,
    /// Inodes.
    pub inodes: u64,
    /// By how many blocks the volume would have to be longer. More than what is missing, because
    /// groups hold inode tables and bitmaps too.
    pub grow_blocks: u64,
}

/// What operations want of a volume that is full.
#[derive(Default)]
pub(crate) struct Wanted {
    blocks: u64,
    inodes: u64,
    /// Bytes of directory entries.
    entries: u64,
    /// Numbers of nodes with several names that are counted.
    links: HashSet<u64>,
    /// The most that was missing at once, in blocks and inodes: what is removed later gives its
    /// space back too late.
    most: (u64, u64),
}

/// Extents that lie in an inode, and in a block of an extent tree.
const EXTENTS_IN_INODE: usize = 4;
const EXTENTS_IN_BLOCK: usize = 340;
/// Extended attributes of more bytes than this take a block (an inode of 256 bytes has 92 to
/// spare).
const XATTRS_IN_INODE: usize = 92;
/// Descriptor, bitmaps and copies of the superblock and its reserve take fewer blocks of a group.
const GROUP_OVERHEAD: u64 = 64;

impl Wanted {
    pub(crate) fn add_blocks(&mut self, count: u64) {
        self.blocks += count;
    }

    /// Counts a name of a node that is there already.
    pub(crate) fn add_name(&mut self, name: &[u8]) {
        self.entries += (8 + name.len() as u64).next_multiple_of(4);
    }

    /// Counts a node that is to be put at a path.
    pub(crate) fn add(&mut self, path: &GuestPath, node: &PutNode) {
        self.add_name(path.name().unwrap_or_default());
        if node.link.is_some_and(|link| !self.links.insert(link)) {
            return;
        }
        self.inodes += 1;
        self.blocks += node_blocks(node);
    }

    /// Notes what is missing of it while so much is left.
    pub(crate) fn measure(&mut self, free: Free) {
        let blocks = self.blocks + self.entries.div_ceil(BLOCK_SIZE);
        let (most_blocks, most_inodes) = self.most;
        let inodes = self.inodes.saturating_sub(free.inodes).max(most_inodes);
        self.most = (blocks.saturating_sub(free.blocks).max(most_blocks), inodes);
    }

    /// What was missing.
    pub(crate) fn shortage(&self, geometry: &Geometry) -> Shortage {
        let (blocks, inodes) = self.most;
        let in_group = u64::from(geometry.inodes_per_group).max(1);
        let groups = inodes.div_ceil(in_group);
        let grow_blocks = growth(blocks, groups, in_group, geometry);
        Shortage { blocks, inodes, grow_blocks }
    }
}

/// By how many blocks a volume must be longer to have so many more and so many more groups.
fn growth(blocks: u64, groups: u64, inodes_in_group: u64, geometry: &Geometry) -> u64 {
    let per_group = geometry.blocks_per_group;
    // The last group may be cut short; it has its inode table already.
    let end = geometry.first_block + u64::from(geometry.groups) * per_group;
    let room = end.saturating_sub(geometry.blocks);
    let overhead = GROUP_OVERHEAD + inodes_in_group * geometry.inode_size as u64 / BLOCK_SIZE;
    let usable = per_group.saturating_sub(overhead).max(1);
    let with_tables = |groups: u64, rest: u64| match rest {
        0 => room + groups * per_group,
        rest => room + groups * per_group + overhead + rest,
    };
    let for_blocks = match blocks.checked_sub(room) {
        Some(beyond) => with_tables(beyond / usable, beyond % usable),
        None => blocks,
    };
    let for_groups = groups.checked_sub(1).map_or(0, |before| with_tables(before, 1));
    for_blocks.max(for_groups)
}

/// Blocks that a node takes besides its inode and its name.
fn node_blocks(node: &PutNode) -> u64 {
    let own = match node.kind {
        NodeKind::Directory => 1,
        NodeKind::File => content_blocks(&node.content),
        NodeKind::Symlink if node.target.len() >= WORDS => 1,
        _ => 0,
    };
    let xattrs: usize = node.xattrs.iter().map(|it| 16 + it.name.len() + it.value.len()).sum();
    own + u64::from(xattrs > XATTRS_IN_INODE)
}

fn content_blocks(content: &Content) -> u64 {
    match content {
        Content::Bytes(bytes) => (bytes.len() as u64).div_ceil(BLOCK_SIZE),
        Content::Runs { runs, .. } => {
            let tree = if runs.len() > EXTENTS_IN_INODE {
                runs.len().div_ceil(EXTENTS_IN_BLOCK)
            } else {
                0
            };
            runs.iter().map(|run| run.blocks).sum::<u64>() + tree as u64
        }
    }
}
