//! The set of blocks that were written.

use goldleaf_block::{BlockCount, BlockNo, BlockRange};

use crate::canonical::merge;
use crate::volume::Volume;

/// Sorted, disjoint ranges of written blocks.
pub(super) struct Dirty(Vec<BlockRange>);

impl Dirty {
    /// What the session wrote and what either journal's replay changed, within the volume.
    pub fn new(written: &[BlockRange], before: &Volume, after: &Volume) -> Self {
        let single = |block| BlockRange::new(block, BlockCount(1));
        let replayed = before.replayed_blocks().into_iter().chain(after.replayed_blocks());
        let blocks = after.superblock().blocks;
        let inside = |range: &BlockRange| {
            let end = range.start.0.saturating_add(range.count.0).min(blocks);
            BlockRange::new(range.start, BlockCount(end.saturating_sub(range.start.0)))
        };
        let all = written.iter().map(inside).chain(replayed.map(single)).collect();
        Self(merge(all))
    }

    /// How many there are.
    pub fn count(&self) -> BlockCount {
        BlockCount(self.0.iter().map(|range| range.count.0).sum())
    }

    /// All of them, one by one.
    pub fn blocks(&self) -> impl Iterator<Item = BlockNo> + '_ {
        self.0.iter().flat_map(|range| (range.start.0..range.end().0).map(BlockNo))
    }

    /// The written parts of a range.
    pub fn within(&self, range: BlockRange) -> impl Iterator<Item = BlockRange> + '_ {
        let first = self.0.partition_point(|dirty| dirty.end() <= range.start);
        self.0[first..].iter().take_while(move |dirty| dirty.start < range.end()).map(
            move |dirty| {
                let start = dirty.start.max(range.start);
                let end = dirty.end().min(range.end());
                BlockRange::new(start, BlockCount(end.0 - start.0))
            },
        )
    }
}
