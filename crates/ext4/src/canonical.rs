//! The canonical form: which blocks carry no meaning and must read as zeroes in a golden image, so
//! that two imports of the same files have one digest.
//!
//! Those are the free blocks and the journal's body. The journal's superblock stays: it has the
//! UUID and the sequence number that the guest goes on from.

use goldleaf_block::{BlockCount, BlockNo, BlockRange};

use crate::error::{Ext4Error, Result};
use crate::extent::read_map;
use crate::volume::{Volume, bit};

/// The blocks that read as zeroes in the canonical form: sorted, apart, as long as they can be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CanonicalMap {
    /// The ranges, in blocks of the volume.
    pub zeroes: Vec<BlockRange>,
}

/// Finds the blocks without meaning. The volume must be clean, as after validation.
pub fn canonical(volume: &Volume) -> Result<CanonicalMap> {
    if !volume.replayed_blocks().is_empty() {
        return Err(Ext4Error::NeedsRecovery);
    }
    let mut ranges = Ranges::default();
    for group in 0..volume.superblock().groups() {
        free_blocks(volume, group, &mut ranges)?;
    }
    if let Some(ino) = volume.superblock().journal() {
        for run in read_map(volume, &volume.inode(ino)?)?.runs {
            let skip = u64::from(run.file_block == 0);
            let start = run.range.start.0 + skip;
            ranges.0.push(BlockRange::new(BlockNo(start), BlockCount(run.range.count.0 - skip)));
        }
    }
    Ok(CanonicalMap { zeroes: merge(ranges.0) })
}

#[derive(Default)]
struct Ranges(Vec<BlockRange>);

impl Ranges {
    fn push(&mut self, block: BlockNo) {
        match self.0.last_mut() {
            Some(last) if last.end() == block => last.count.0 += 1,
            _ => self.0.push(BlockRange::new(block, BlockCount(1))),
        }
    }
}

fn free_blocks(volume: &Volume, group: u32, into: &mut Ranges) -> Result<()> {
    let sb = volume.superblock();
    let start = sb.group_start(group);
    let count = u64::from(sb.blocks_per_group).min(sb.blocks - start.0) as u32;
    let bitmap = volume.block_bitmap(group)?;
    for index in 0..count {
        let block = start.plus(BlockCount(u64::from(index)));
        let used = match &bitmap {
            Some(bits) => bit(bits, index),
            None => volume.is_fixed(block),
        };
        if !used {
            into.push(block);
        }
    }
    Ok(())
}

/// Sorts ranges and joins those that touch or overlap; empty ones go.
pub(crate) fn merge(mut ranges: Vec<BlockRange>) -> Vec<BlockRange> {
    ranges.retain(|range| range.count.0 > 0);
    ranges.sort();
    let mut out: Vec<BlockRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match out.last_mut() {
            Some(last) if range.start <= last.end() => {
                last.count.0 = last.count.0.max(range.end().0 - last.start.0);
            }
            _ => out.push(range),
        }
    }
    out
}
