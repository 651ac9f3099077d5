//! The extent map: a whole disk described by reference.
//!
//! A golden image, a composed volume and a sealed session are all the same thing: a sorted list of
//! extents, each of which reads as zeroes or is a run of blocks in one of a few *sources* (an
//! image's data file, a pack of file content, composed metadata, a session's data). Making a map
//! over maps flattens them, so that a read costs one binary search whatever stands on what.
//! The idea of one merged index is overlaybd's.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::file::check_range;
use crate::{
    BLOCK_SIZE, BlockCount, BlockError, BlockNo, BlockRange, ByteLen, ByteOffset, RangeKind,
    ReadBlocks,
};

/// Which of a map's sources a run of blocks lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SourceIndex(pub u32);

/// What the blocks of an extent are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Target {
    /// Zeroes, occupying nothing.
    Zero,
    /// A run in a source, from `at` on.
    Source {
        /// The source.
        source: SourceIndex,
        /// First block of the run in the source.
        at: BlockNo,
    },
}

/// A run of blocks of the disk and what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MapExtent {
    /// The run on the disk.
    pub range: BlockRange,
    /// What it is.
    pub target: Target,
}

impl MapExtent {
    /// The target of the block `skip` blocks into the extent.
    fn target_after(&self, skip: u64) -> Target {
        match self.target {
            Target::Zero => Target::Zero,
            Target::Source { source, at } => {
                Target::Source { source, at: at.plus(BlockCount(skip)) }
            }
        }
    }

    /// The part of this extent within `range`, which must meet it.
    fn clip(&self, range: BlockRange) -> MapExtent {
        let start = self.range.start.max(range.start);
        let end = self.range.end().min(range.end());
        MapExtent {
            range: BlockRange::new(start, BlockCount(end.0 - start.0)),
            target: self.target_after(start.0 - self.range.start.0),
        }
    }
}

/// A disk of whole blocks. Extents are sorted, do not overlap and are as long as they can be; what
/// none covers reads as zeroes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct ExtentMap {
    blocks: BlockCount,
    extents: Vec<MapExtent>,
}

/// A map as it came from elsewhere: nothing holds of it yet. The lengths of the sources are not
/// known here; [`MapDevice::new`] compares with them.
#[derive(Deserialize)]
struct Unchecked {
    blocks: BlockCount,
    extents: Vec<MapExtent>,
}

impl TryFrom<Unchecked> for ExtentMap {
    type Error = BlockError;

    fn try_from(map: Unchecked) -> Result<Self, BlockError> {
        check_len(map.blocks)?;
        let mut builder = MapBuilder::new(map.blocks);
        map.extents.into_iter().try_for_each(|extent| builder.push(extent))?;
        Ok(builder.finish())
    }
}

impl ExtentMap {
    /// A disk that reads as zeroes.
    pub fn zero(blocks: BlockCount) -> Self {
        Self { blocks, extents: Vec::new() }
    }

    /// Takes extents as they came from elsewhere (a file, a worker), refusing any that are out of
    /// order, overlap, are empty, or leave the disk. `source_blocks` has the length of each source.
    pub fn checked(
        blocks: BlockCount,
        extents: Vec<MapExtent>,
        source_blocks: &[BlockCount],
    ) -> Result<Self, BlockError> {
        check_len(blocks)?;
        let mut builder = MapBuilder::new(blocks);
        for extent in &extents {
            check_extent(extent, source_blocks)?;
            builder.push(*extent)?;
        }
        Ok(builder.finish())
    }

    /// Refuses a map that names blocks which its sources do not have. `source_blocks` has the
    /// length of each.
    pub fn check_sources(&self, source_blocks: &[BlockCount]) -> Result<(), BlockError> {
        self.extents.iter().try_for_each(|extent| check_extent(extent, source_blocks))
    }

    /// Length of the disk.
    pub fn blocks(&self) -> BlockCount {
        self.blocks
    }

    /// The extents, sorted. Zero extents do not appear.
    pub fn extents(&self) -> &[MapExtent] {
        &self.extents
    }

    /// What begins at `block`: the target of that block and how many blocks on it is contiguous.
    pub fn look_up(&self, block: BlockNo) -> (Target, BlockCount) {
        let next = self.extents.partition_point(|extent| extent.range.end() <= block);
        match self.extents.get(next) {
            Some(extent) if extent.range.start <= block => (
                extent.target_after(block.0 - extent.range.start.0),
                BlockCount(extent.range.end().0 - block.0),
            ),
            Some(extent) => (Target::Zero, BlockCount(extent.range.start.0 - block.0)),
            None => (Target::Zero, BlockCount(self.blocks.0.saturating_sub(block.0).max(1))),
        }
    }

    /// The map that shows `upper` (sorted, apart, zero extents included) where it covers and this
    /// one elsewhere. An `upper` that is not so, or leaves the disk, is refused. It names the same
    /// sources.
    pub fn overlaid(&self, upper: &[MapExtent]) -> Result<ExtentMap, BlockError> {
        let mut builder = MapBuilder::new(self.blocks);
        let mut done = BlockNo(0);
        for extent in upper {
            self.copy_range(&mut builder, done, extent.range.start)?;
            builder.push(*extent)?;
            done = extent.range.end();
        }
        self.copy_range(&mut builder, done, BlockNo(self.blocks.0))?;
        Ok(builder.finish())
    }

    /// The extents within `range`, clipped to it.
    pub fn slice(&self, range: BlockRange) -> Vec<MapExtent> {
        let first = self.extents.partition_point(|extent| extent.range.end() <= range.start);
        self.extents[first..]
            .iter()
            .take_while(|extent| extent.range.start < range.end())
            .map(|extent| extent.clip(range))
            .collect()
    }

    fn copy_range(
        &self,
        builder: &mut MapBuilder,
        from: BlockNo,
        to: BlockNo,
    ) -> Result<(), BlockError> {
        if from >= to {
            return Ok(());
        }
        let range = BlockRange::new(from, BlockCount(to.0 - from.0));
        self.slice(range).into_iter().try_for_each(|extent| builder.push(extent))
    }
}

/// A disk's length in bytes is a number of 64 bits.
fn check_len(blocks: BlockCount) -> Result<(), BlockError> {
    if blocks.0 <= u64::MAX / BLOCK_SIZE {
        return Ok(());
    }
    Err(BlockError::Corrupt {
        place: "extent map".into(),
        expected: "a disk of at most 2^64 bytes".into(),
        found: format!("{blocks} blocks"),
    })
}

fn check_extent(extent: &MapExtent, source_blocks: &[BlockCount]) -> Result<(), BlockError> {
    let Target::Source { source, at } = extent.target else { return Ok(()) };
    let len = source_blocks.get(source.0 as usize).map_or(0, |count| count.0);
    match at.0.checked_add(extent.range.count.0) {
        Some(end) if end <= len => Ok(()),
        _ => Err(BlockError::Corrupt {
            place: format!("extent map, disk block {}", extent.range.start),
            expected: format!("a run within source {} of {len} blocks", source.0),
            found: format!("{} blocks at {at}", extent.range.count),
        }),
    }
}

/// Collects extents in ascending order, joining neighbours.
pub struct MapBuilder {
    map: ExtentMap,
    next: BlockNo,
}

impl MapBuilder {
    /// For a disk of `blocks` blocks.
    pub fn new(blocks: BlockCount) -> Self {
        Self { map: ExtentMap::zero(blocks), next: BlockNo(0) }
    }

    /// Adds an extent behind all that were added.
    pub fn push(&mut self, extent: MapExtent) -> Result<(), BlockError> {
        let end = extent.range.start.0.checked_add(extent.range.count.0);
        let fits = extent.range.count.0 > 0
            && extent.range.start >= self.next
            && end.is_some_and(|end| end <= self.map.blocks.0);
        if !fits {
            return Err(BlockError::Corrupt {
                place: "extent map".into(),
                expected: format!("a run within blocks {} to {}", self.next, self.map.blocks),
                found: format!("{} blocks at {}", extent.range.count, extent.range.start),
            });
        }
        self.next = extent.range.end();
        if extent.target == Target::Zero {
            return Ok(());
        }
        if let Some(last) = self.map.extents.last_mut()
            && last.range.end() == extent.range.start
            && last.target_after(last.range.count.0) == extent.target
        {
            last.range.count.0 += extent.range.count.0;
        } else {
            self.map.extents.push(extent);
        }
        Ok(())
    }

    /// The map.
    pub fn finish(self) -> ExtentMap {
        self.map
    }
}

/// A map together with its sources: a device.
pub struct MapDevice {
    map: Arc<ExtentMap>,
    sources: Vec<Arc<dyn ReadBlocks>>,
    len: ByteLen,
}

impl MapDevice {
    /// A device of the map's length. Every source that the map names must be in `sources`.
    pub fn new(map: Arc<ExtentMap>, sources: Vec<Arc<dyn ReadBlocks>>) -> Result<Self, BlockError> {
        let lens: Vec<BlockCount> = sources.iter().map(|source| source.len().blocks()).collect();
        check_len(map.blocks())?;
        map.check_sources(&lens)?;
        let len = map.blocks().bytes();
        Ok(Self { map, sources, len })
    }

    /// The map.
    pub fn map(&self) -> &Arc<ExtentMap> {
        &self.map
    }

    /// The sources, in the order of their indexes.
    pub fn sources(&self) -> &[Arc<dyn ReadBlocks>] {
        &self.sources
    }

    /// What begins at byte `at`: target, offset within the target's first block, bytes in the run.
    fn run_at(&self, at: ByteOffset) -> (Target, u64, u64) {
        let within = at.0 % BLOCK_SIZE;
        let (target, count) = self.map.look_up(at.block());
        (target, within, count.bytes().0 - within)
    }
}

impl ReadBlocks for MapDevice {
    fn len(&self) -> ByteLen {
        self.len
    }

    fn read_at(&self, at: ByteOffset, buf: &mut [u8]) -> Result<(), BlockError> {
        check_range(at, ByteLen(buf.len() as u64), self.len)?;
        let mut done = 0;
        while done < buf.len() {
            let (target, within, run) = self.run_at(at.plus(ByteLen(done as u64)));
            let part = usize::try_from(run).unwrap_or(usize::MAX).min(buf.len() - done);
            let piece = &mut buf[done..done + part];
            match target {
                Target::Zero => piece.fill(0),
                Target::Source { source, at } => {
                    let device = &self.sources[source.0 as usize];
                    read_padded(device.as_ref(), at.offset().plus(ByteLen(within)), piece)?;
                }
            }
            done += part;
        }
        Ok(())
    }

    fn status(&self, at: ByteOffset, limit: ByteLen) -> Result<(ByteLen, RangeKind), BlockError> {
        check_range(at, ByteLen(1), self.len)?;
        let (target, _, run) = self.run_at(at);
        let kind = if target == Target::Zero { RangeKind::Zero } else { RangeKind::Data };
        Ok((ByteLen(run.min(limit.0).max(1)), kind))
    }
}

/// Reads from a source whose last block may be short; what lies behind its end is zeroes.
fn read_padded(source: &dyn ReadBlocks, at: ByteOffset, buf: &mut [u8]) -> Result<(), BlockError> {
    let there = source.len().0.saturating_sub(at.0);
    let (stored, padding) =
        buf.split_at_mut(usize::try_from(there).unwrap_or(usize::MAX).min(buf.len()));
    padding.fill(0);
    source.read_at(at, stored)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(start: u64, count: u64, at: Option<u64>) -> MapExtent {
        MapExtent {
            range: BlockRange::new(BlockNo(start), BlockCount(count)),
            target: at.map_or(Target::Zero, |at| Target::Source {
                source: SourceIndex(0),
                at: BlockNo(at),
            }),
        }
    }

    #[test]
    fn neighbours_join_and_look_ups_find_them() {
        let extents = vec![extent(2, 3, Some(10)), extent(5, 1, Some(13)), extent(8, 1, Some(0))];
        let map = ExtentMap::checked(BlockCount(10), extents, &[BlockCount(20)]).expect("valid");
        assert_eq!(map.extents().len(), 2);
        assert_eq!(map.look_up(BlockNo(0)), (Target::Zero, BlockCount(2)));
        let target = Target::Source { source: SourceIndex(0), at: BlockNo(13) };
        assert_eq!(map.look_up(BlockNo(5)), (target, BlockCount(1)));
        assert_eq!(map.look_up(BlockNo(9)), (Target::Zero, BlockCount(1)));
    }

    #[test]
    fn an_overlay_covers_and_zeroes() {
        let map =
            ExtentMap::checked(BlockCount(10), vec![extent(0, 10, Some(0))], &[BlockCount(20)])
                .expect("valid");
        let upper = [extent(2, 2, None), extent(4, 1, Some(15))];
        let over = map.overlaid(&upper).expect("overlay");
        let expected = [extent(0, 2, Some(0)), extent(4, 1, Some(15)), extent(5, 5, Some(5))];
        assert_eq!(over.extents(), expected);
    }

    #[test]
    fn maps_from_elsewhere_are_checked() {
        let lens = [BlockCount(4)];
        for bad in [
            vec![extent(0, 5, Some(0))],
            vec![extent(0, 0, Some(0))],
            vec![extent(9, 2, None)],
            vec![extent(3, 1, None), extent(2, 1, None)],
            vec![extent(0, 1, Some(u64::MAX))],
        ] {
            assert!(ExtentMap::checked(BlockCount(10), bad, &lens).is_err());
        }
    }

    #[test]
    fn a_map_that_cannot_be_is_refused_wherever_it_comes_from() {
        let huge = BlockCount(u64::MAX / BLOCK_SIZE + 1);
        assert!(ExtentMap::checked(huge, Vec::new(), &[]).is_err());
        assert!(MapDevice::new(Arc::new(ExtentMap::zero(huge)), Vec::new()).is_err());
        let sent = |blocks, extents| {
            let json = serde_json::to_string(&ExtentMap { blocks, extents }).expect("sent");
            serde_json::from_str::<ExtentMap>(&json)
        };
        let sound = vec![extent(0, 1, Some(3)), extent(4, 1, None)];
        assert_eq!(sent(BlockCount(5), sound).expect("a map").look_up(BlockNo(0)).1, BlockCount(1));
        assert!(sent(huge, Vec::new()).is_err());
        assert!(sent(BlockCount(5), vec![extent(4, 1, Some(0)), extent(0, 1, Some(0))]).is_err());
        assert!(sent(BlockCount(5), vec![extent(u64::MAX, 2, Some(0))]).is_err());
        assert!(sent(BlockCount(5), vec![extent(0, 2, Some(0)), extent(1, 1, Some(5))]).is_err());
    }
}
