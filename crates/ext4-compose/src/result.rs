//! The extents of a composed volume, from everything that says something about a block.

use goldleaf_block::{BlockCount, BlockNo, BlockRange, MapExtent, SourceIndex, Target};

use crate::overlay::Overlay;

/// Joins metadata slots, content by reference, unused inode tables and freed blocks. Content never
/// meets the others; a slot within an unused inode table wins over its zeroes.
pub(crate) fn assemble(
    overlay: &Overlay,
    source: SourceIndex,
    content: Vec<MapExtent>,
    released: &[(u64, u64)],
) -> Vec<MapExtent> {
    let placed = overlay.placed();
    let mut extents = content;
    for &(block, at) in &placed {
        let target = Target::Source { source, at: BlockNo(at) };
        push(&mut extents, block, 1, target);
    }
    for (start, end) in overlay.zeroes().chain(released.iter().copied()) {
        let first = placed.partition_point(|&(block, _)| block < start);
        let mut at = start;
        for &(block, _) in placed[first..].iter().take_while(|&&(block, _)| block < end) {
            push(&mut extents, at, block - at, Target::Zero);
            at = block + 1;
        }
        push(&mut extents, at, end - at, Target::Zero);
    }
    extents.sort_by_key(|extent| extent.range.start);
    join(&mut extents);
    extents
}

fn push(extents: &mut Vec<MapExtent>, start: u64, count: u64, target: Target) {
    if count > 0 {
        let range = BlockRange::new(BlockNo(start), BlockCount(count));
        extents.push(MapExtent { range, target });
    }
}

/// Makes one of neighbours that go on one where the other ends.
fn join(extents: &mut Vec<MapExtent>) {
    extents.dedup_by(|next, last| {
        let joined = last.range.end() == next.range.start && follows(last, next.target);
        if joined {
            last.range.count.0 += next.range.count.0;
        }
        joined
    });
}

fn follows(last: &MapExtent, target: Target) -> bool {
    match (last.target, target) {
        (Target::Zero, Target::Zero) => true,
        (Target::Source { source: left, at }, Target::Source { source: right, at: next }) => {
            left == right && at.plus(last.range.count) == next
        }
        _ => false,
    }
}
