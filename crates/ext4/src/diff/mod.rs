//! What a session changed: two states of a volume in, differences by path out.
//!
//! [`diff`] is guided by the blocks that were written. Written blocks of inode tables name the
//! changed inodes, changed directories name what came and went, and **every written block must be
//! explained**: fixed metadata, the journal, a free block, or a block of a changed inode. One that
//! is not (an in-place write that never touched an inode) makes it a full comparison, never a
//! guess. [`diff_full`] compares everything and is the oracle.
//!
//! Both compare by value at each path. Access times, change times and link counts alone are no
//! difference. When one name of a node is put, all its names are.

mod compare;
mod dirty;
mod guided;
mod names;
mod owners;
mod visit;

use goldleaf_block::{BlockCount, BlockRange};
use goldleaf_tree::{Change, GuestPath};

use crate::error::Result;
use crate::inode::InodeNo;
use crate::volume::Volume;
use dirty::Dirty;
use visit::Visitor;

/// The differences between two states of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diff {
    /// Differences, sorted by path, one a path.
    pub changes: Vec<Change>,
    /// Written blocks that nothing owns. The changes are complete all the same, by a full
    /// comparison; such blocks carry nothing that a path leads to.
    pub unexplained: Vec<BlockRange>,
    /// How it was found.
    pub stats: DiffStats,
}

impl Diff {
    /// Whether every written block was accounted for.
    pub fn explained(&self) -> bool {
        self.unexplained.is_empty()
    }
}

/// How a difference was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiffStats {
    /// Blocks written, replayed ones included.
    pub dirty_blocks: u64,
    /// Inodes whose records differ.
    pub changed_inodes: u64,
    /// Directories read in search of names.
    pub directories_searched: u64,
    /// Whether everything had to be compared.
    pub full: bool,
}

/// Compares two states of a volume, reading what `dirty` leads to. `dirty` are the blocks written
/// since `before`; what the journal's replay changed is added here.
pub fn diff(before: &Volume, after: &Volume, dirty: &[BlockRange]) -> Result<Diff> {
    let dirty = Dirty::new(dirty, before, after);
    let stats = DiffStats { dirty_blocks: dirty.count().0, ..DiffStats::default() };
    if !comparable(before, after) {
        return full(before, after, &dirty, stats);
    }
    guided::run(before, after, &dirty, stats)
}

/// Compares two states of a volume wholly, content included.
pub fn diff_full(before: &Volume, after: &Volume) -> Result<Diff> {
    let changes = compare_all(Visitor::new(before, after, None))?;
    let stats = DiffStats { full: true, ..DiffStats::default() };
    Ok(Diff { changes, unexplained: Vec::new(), stats })
}

/// The full comparison in which content is compared where it was written.
fn full(before: &Volume, after: &Volume, dirty: &Dirty, stats: DiffStats) -> Result<Diff> {
    let changes = compare_all(Visitor::new(before, after, Some(dirty)))?;
    let data = owners::differing(before, after, dirty)?;
    let unexplained = owners::unowned(after, data)?
        .into_iter()
        .map(|block| BlockRange::new(block, BlockCount(1)))
        .collect();
    let stats = DiffStats { full: true, ..stats };
    Ok(Diff { changes, unexplained: crate::canonical::merge(unexplained), stats })
}

fn compare_all(mut visitor: Visitor<'_>) -> Result<Vec<Change>> {
    visitor.remember_links();
    visitor.visit(GuestPath::root(), Some(InodeNo::ROOT), Some(InodeNo::ROOT), true)?;
    visitor.link_remembered()?;
    Ok(visitor.finish())
}

/// Whether inode tables of one state can be laid over those of the other: a volume may have grown,
/// but what was there must not have moved.
fn comparable(before: &Volume, after: &Volume) -> bool {
    let (old, new) = (before.superblock(), after.superblock());
    old.inode_size == new.inode_size
        && old.inodes_per_group == new.inodes_per_group
        && old.blocks_per_group == new.blocks_per_group
        && old.groups() <= new.groups()
        && before
            .groups()
            .iter()
            .zip(after.groups())
            .all(|(old, new)| old.inode_table == new.inode_table)
}
