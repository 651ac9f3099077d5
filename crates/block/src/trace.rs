//! What of some sources was read, in the order in which it was read first.

use std::ops::Range;
use std::sync::{Arc, PoisonError};

use goldleaf_host::sync::{Mutex, MutexGuard};

use crate::{
    BLOCK_SIZE, BlockCount, BlockError, BlockNo, BlockRange, ByteLen, ByteOffset, ExtentMap,
    MapExtent, RangeKind, ReadBlocks, SourceIndex, Target,
};

/// First reads of sources, as they happen.
#[derive(Default)]
pub struct Trace {
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Of each source: one bit a block.
    bits: Vec<Vec<u64>>,
    blocks: u64,
    order: Vec<(SourceIndex, BlockRange)>,
}

impl Trace {
    /// The next source, so that reads of it are noted. Sources are numbered as they come.
    pub fn source(self: &Arc<Self>, inner: Arc<dyn ReadBlocks>) -> Arc<dyn ReadBlocks> {
        let mut seen = self.seen();
        let index = SourceIndex(seen.bits.len() as u32);
        seen.bits.push(vec![0; inner.len().blocks().0.div_ceil(64) as usize]);
        Arc::new(Traced { inner, index, trace: self.clone() })
    }

    /// How many blocks were read so far.
    pub fn blocks(&self) -> BlockCount {
        BlockCount(self.seen().blocks)
    }

    /// The same on the disk that a map makes of the sources: what was read, in that order. Of
    /// blocks of the disk that share a place the first stands for all.
    pub fn on(&self, map: &ExtentMap) -> Vec<BlockRange> {
        let places = places(map);
        let mut ranges: Vec<BlockRange> = Vec::new();
        for (source, read) in &self.seen().order {
            let read = read.start.0..read.end().0;
            let first = places
                .partition_point(|place| (place.source, place.at.end) <= (*source, read.start));
            let met = places[first..]
                .iter()
                .take_while(|place| place.source == *source && place.at.start < read.end);
            for place in met {
                let from = place.at.start.max(read.start);
                let count = BlockCount(place.at.end.min(read.end) - from);
                let start = place.start.plus(BlockCount(from - place.at.start));
                match ranges.last_mut() {
                    Some(last) if last.end() == start => last.count.0 += count.0,
                    _ => ranges.push(BlockRange::new(start, count)),
                }
            }
        }
        ranges
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn note(&mut self, source: SourceIndex, blocks: Range<u64>) {
        for block in blocks {
            let word = &mut self.bits[source.0 as usize][(block / 64) as usize];
            let bit = 1 << (block % 64);
            if *word & bit != 0 {
                continue;
            }
            *word |= bit;
            self.blocks += 1;
            match self.order.last_mut() {
                Some((last, range)) if *last == source && range.end().0 == block => {
                    range.count.0 += 1;
                }
                _ => {
                    let range = BlockRange::new(BlockNo(block), BlockCount(1));
                    self.order.push((source, range));
                }
            }
        }
    }
}

/// Blocks of a source that a disk has from `start` on.
struct Place {
    source: SourceIndex,
    at: Range<u64>,
    start: BlockNo,
}

/// Where on a disk its sources are: sorted, and no block of a source twice.
fn places(map: &ExtentMap) -> Vec<Place> {
    let extents = map.extents().iter().filter_map(|MapExtent { range, target }| match *target {
        Target::Zero => None,
        Target::Source { source, at } => Some((source, at.0, *range)),
    });
    let mut extents: Vec<_> = extents.collect();
    extents.sort_unstable();
    let mut places: Vec<Place> = Vec::with_capacity(extents.len());
    for (source, at, range) in extents {
        let done = match places.last() {
            Some(last) if last.source == source => last.at.end,
            _ => 0,
        };
        let (from, end) = (at.max(done), at + range.count.0);
        if from < end {
            let start = range.start.plus(BlockCount(from - at));
            places.push(Place { source, at: from..end, start });
        }
    }
    places
}

/// A source whose reads are noted.
struct Traced {
    inner: Arc<dyn ReadBlocks>,
    index: SourceIndex,
    trace: Arc<Trace>,
}

impl ReadBlocks for Traced {
    fn len(&self) -> ByteLen {
        self.inner.len()
    }

    fn read_at(&self, at: ByteOffset, buf: &mut [u8]) -> Result<(), BlockError> {
        self.inner.read_at(at, buf)?;
        let end = (at.0 + buf.len() as u64).div_ceil(BLOCK_SIZE);
        self.trace.seen().note(self.index, at.block().0..end);
        Ok(())
    }

    fn status(&self, at: ByteOffset, limit: ByteLen) -> Result<(ByteLen, RangeKind), BlockError> {
        self.inner.status(at, limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MapDevice;

    struct Nothing(u64);

    impl ReadBlocks for Nothing {
        fn len(&self) -> ByteLen {
            BlockCount(self.0).bytes()
        }
        fn read_at(&self, _: ByteOffset, _: &mut [u8]) -> Result<(), BlockError> {
            Ok(())
        }
        fn status(
            &self,
            _: ByteOffset,
            limit: ByteLen,
        ) -> Result<(ByteLen, RangeKind), BlockError> {
            Ok((limit, RangeKind::Data))
        }
    }

    fn range(start: u64, count: u64) -> BlockRange {
        BlockRange::new(BlockNo(start), BlockCount(count))
    }

    fn extent(start: u64, count: u64, source: u32, at: u64) -> MapExtent {
        let target = Target::Source { source: SourceIndex(source), at: BlockNo(at) };
        MapExtent { range: range(start, count), target }
    }

    #[test]
    fn first_reads_come_back_as_places_of_the_disk() {
        // Block 4 of the disk is what block 30 is, too.
        let extents = vec![
            extent(2, 6, 0, 10),
            extent(8, 4, 1, 0),
            extent(30, 1, 0, 12),
            extent(31, 2, 0, 3),
        ];
        let lens = [BlockCount(20), BlockCount(5)];
        let map = Arc::new(ExtentMap::checked(BlockCount(40), extents, &lens).expect("a map"));
        let trace = Arc::new(Trace::default());
        let sources = lens.map(|len| trace.source(Arc::new(Nothing(len.0))));
        let disk = MapDevice::new(map.clone(), sources.to_vec()).expect("a disk");
        let read = |start: u64, count: u64| {
            let mut buf = vec![0; BlockCount(count).bytes().0 as usize];
            disk.read_at(BlockNo(start).offset(), &mut buf).expect("a read");
        };
        read(31, 1);
        read(7, 3);
        read(0, 9);
        read(30, 1);
        read(32, 1);
        assert_eq!(trace.on(&map), [range(31, 1), range(7, 3), range(2, 5), range(32, 1)]);
        assert_eq!(trace.blocks(), BlockCount(10));
    }
}
