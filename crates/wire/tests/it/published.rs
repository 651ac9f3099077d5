//! Disks into packs and back: nothing is lost, nothing travels twice.

use std::collections::BTreeMap;

use goldleaf_block::{
    BLOCK_SIZE, BlockCount, BlockError, BlockNo, BlockRange, ByteLen, ByteOffset, RangeKind,
    ReadBlocks, Target,
};
use goldleaf_store::Digest;
use goldleaf_wire::{Effort, Known, WireMap, publish};
use proptest::prelude::*;

use crate::packs::read;

const BLOCK: usize = BLOCK_SIZE as usize;

/// A disk in memory.
pub struct Disk(pub Vec<u8>);

impl ReadBlocks for Disk {
    fn len(&self) -> ByteLen {
        ByteLen(self.0.len() as u64)
    }

    fn read_at(&self, at: ByteOffset, buf: &mut [u8]) -> Result<(), BlockError> {
        buf.copy_from_slice(&self.0[at.0 as usize..][..buf.len()]);
        Ok(())
    }

    fn status(&self, _: ByteOffset, limit: ByteLen) -> Result<(ByteLen, RangeKind), BlockError> {
        Ok((limit, RangeKind::Data))
    }
}

/// One block a number; 0 is a block of zeroes.
fn disk(numbers: &[u16]) -> Disk {
    let block = |number: &u16| match number {
        0 => vec![0; BLOCK],
        number => number.to_le_bytes().repeat(BLOCK / 2),
    };
    Disk(numbers.iter().flat_map(block).collect())
}

#[derive(Default)]
struct Author {
    known: Known,
    /// Content of packs, by name.
    server: BTreeMap<Digest, Vec<u8>>,
    /// Bytes of the packs that were made last.
    made: usize,
}

impl Author {
    fn publish(&mut self, disk: &Disk, order: &[BlockRange]) -> WireMap {
        let (server, made) = (&mut self.server, &mut self.made);
        *made = 0;
        let effort = Effort { level: 3, threads: 2, frame: BlockCount(64) };
        publish(disk, order, &mut self.known, effort, &mut |pack, bytes| {
            assert_eq!(bytes.len() as u64, pack.len);
            *made += bytes.len();
            let content = read(&pack.name, &bytes).unwrap();
            assert_eq!(content.len() as u64, pack.blocks.bytes().0);
            assert!(server.insert(pack.name, content).is_none(), "a pack was made twice");
            Ok(())
        })
        .unwrap()
    }

    fn disk(&self, map: &WireMap) -> Vec<u8> {
        let map = WireMap::from_bytes(&map.to_bytes().unwrap()).unwrap();
        let mut disk = vec![0; map.map.blocks().bytes().0 as usize];
        for extent in map.map.extents() {
            let Target::Source { source, at } = extent.target else { continue };
            let content = &self.server[&map.packs[source.0 as usize].name];
            let (to, from) = (extent.range.start.0 as usize * BLOCK, at.0 as usize * BLOCK);
            let len = extent.range.count.0 as usize * BLOCK;
            disk[to..to + len].copy_from_slice(&content[from..from + len]);
        }
        disk
    }
}

pub fn whole(disk: &Disk) -> Vec<BlockRange> {
    vec![BlockRange::new(BlockNo(0), BlockCount((disk.0.len() / BLOCK) as u64))]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Versions of a disk, each read back whole; later ones by an author who knows what an earlier
    /// one only from its map and its disk.
    #[test]
    fn every_version_comes_back(
        versions in prop::collection::vec(prop::collection::vec(0..40u16, 1..200), 1..4),
        split in 0..200usize,
    ) {
        let mut author = Author::default();
        let mut last: Option<(WireMap, Disk)> = None;
        for numbers in versions {
            let disk = disk(&numbers);
            if let Some((map, disk)) = &last {
                author.known = Known::default();
                author.known.learn(map, disk).unwrap();
            }
            // In two halves, the second one first, with a part that comes twice.
            let split = split.min(numbers.len());
            let count = |from: usize, to: usize| BlockCount((to - from) as u64);
            let order = [
                BlockRange::new(BlockNo(split as u64), count(split, numbers.len())),
                BlockRange::new(BlockNo(0), count(0, split)),
                BlockRange::new(BlockNo(0), count(0, split / 2)),
            ];
            let map = author.publish(&disk, &order);
            prop_assert_eq!(&author.disk(&map), &disk.0);
            last = Some((map, disk));
        }
    }
}

/// As after a file system was built anew: the same blocks at other places.
#[test]
fn what_moved_costs_nothing() {
    let numbers: Vec<u16> = (1..3000).collect();
    let mut author = Author::default();
    let first = disk(&numbers);
    author.publish(&first, &whole(&first));
    assert!(author.made > 0);
    let moved: Vec<u16> = numbers.chunks(100).rev().flatten().copied().collect();
    let moved = disk(&moved);
    let map = author.publish(&moved, &whole(&moved));
    assert_eq!(author.made, 0);
    assert_eq!(author.disk(&map), moved.0);
    assert_eq!(map.map.extents().len(), 30, "runs stay runs");
}

/// One content at many places: a run goes on where the run before it went on.
#[test]
fn runs_are_followed_through_what_is_everywhere() {
    let numbers: Vec<u16> = (0..600).map(|at| if at % 3 == 0 { 7 } else { 100 + at }).collect();
    let mut author = Author::default();
    let first = disk(&numbers);
    author.publish(&first, &whole(&first));
    let made = author.made;
    let again = author.publish(&first, &whole(&first));
    assert_eq!(author.made, 0);
    assert!(made > 0 && author.disk(&again) == first.0);
}

/// Packs are filled, and no more than that.
#[test]
fn a_large_disk_is_several_packs() {
    let numbers: Vec<u16> = (1..10_000).collect();
    let mut author = Author::default();
    let disk = disk(&numbers);
    let map = author.publish(&disk, &whole(&disk));
    let blocks: Vec<u64> = map.packs.iter().map(|pack| pack.blocks.0).collect();
    assert_eq!(blocks, [4096, 4096, 1807]);
    assert_eq!(author.disk(&map), disk.0);
}

/// Packs are listed as they are to travel, wherever on the disk their content is.
#[test]
fn packs_are_in_the_order_of_their_content() {
    let numbers: Vec<u16> = (1..10_000).collect();
    let mut author = Author::default();
    let disk = disk(&numbers);
    let half = BlockNo(5000);
    let order = [
        BlockRange::new(half, BlockCount(9999 - half.0)),
        BlockRange::new(BlockNo(0), BlockCount(half.0)),
    ];
    let map = author.publish(&disk, &order);
    let blocks: Vec<u64> = map.packs.iter().map(|pack| pack.blocks.0).collect();
    assert_eq!(blocks, [4096, 4096, 1807]);
    let first = map.map.extents().iter().find(|extent| extent.range.contains(half));
    let source = |extent: &goldleaf_block::MapExtent| match extent.target {
        goldleaf_block::Target::Source { source, .. } => source.0,
        goldleaf_block::Target::Zero => u32::MAX,
    };
    assert_eq!(first.map(source), Some(0));
    assert_eq!(author.disk(&map), disk.0);
}
