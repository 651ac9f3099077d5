//! Maps.

use goldleaf_block::{
    BlockCount, BlockNo, BlockRange, ExtentMap, MapBuilder, MapExtent, SourceIndex, Target,
};
use goldleaf_store::Digest;
use goldleaf_wire::{PackRef, WireError, WireMap};
use proptest::prelude::*;

const PACK_BLOCKS: u64 = 4096;

fn pack(number: u64) -> PackRef {
    let name = Digest::of(&number.to_le_bytes());
    PackRef { name, len: 900_000 + number, head_len: 700, blocks: BlockCount(PACK_BLOCKS) }
}

/// Extents of (gap, blocks, pack, block in it).
pub fn map(packs: u64, extents: &[(u64, u64, u64, u64)]) -> WireMap {
    let disk = extents.iter().map(|(gap, count, ..)| gap + count).sum::<u64>() + 10;
    let mut builder = MapBuilder::new(BlockCount(disk));
    let mut start = 0;
    for &(gap, count, source, at) in extents {
        let range = BlockRange::new(BlockNo(start + gap), BlockCount(count));
        let target = Target::Source { source: SourceIndex(source as u32), at: BlockNo(at) };
        builder.push(MapExtent { range, target }).unwrap();
        start = range.end().0;
    }
    WireMap { packs: (0..packs).map(pack).collect(), map: builder.finish() }
}

proptest! {
    #[test]
    fn a_map_comes_back(
        packs in 1..40u64,
        extents in prop::collection::vec((0..9u64, 1..300u64, 0..40u64, 0..3000u64), 0..200),
    ) {
        let extents: Vec<_> =
            extents.into_iter().map(|(gap, count, pack, at)| (gap, count, pack % packs, at)).collect();
        let map = map(packs, &extents);
        prop_assert_eq!(WireMap::from_bytes(&map.to_bytes().unwrap()).unwrap(), map);
    }

    #[test]
    fn nonsense_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut whole = b"GLMAP\x00\x00\x01".to_vec();
        whole.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        whole.extend_from_slice(&zstd::bulk::compress(&bytes, 1).unwrap());
        // An answer; where it is a map, one whose every extent is checked.
        if let Ok(map) = WireMap::from_bytes(&whole) {
            let lens: Vec<BlockCount> = map.packs.iter().map(|pack| pack.blocks).collect();
            prop_assert!(map.map.check_sources(&lens).is_ok());
        }
    }
}

/// A34: what is signed may still be wrong.
#[test]
fn an_extent_outside_of_its_pack_is_refused() {
    let mut map = map(2, &[(0, 10, 0, 0), (3, 20, 1, 4070)]);
    map.packs[1].blocks = BlockCount(4089);
    assert!(matches!(WireMap::from_bytes(&map.to_bytes().unwrap()), Err(WireError::Map(_))));
    let nothing = WireMap { packs: Vec::new(), map: ExtentMap::zero(BlockCount(7)) };
    assert_eq!(WireMap::from_bytes(&nothing.to_bytes().unwrap()).unwrap(), nothing);
}

#[test]
fn a_damaged_map_is_refused_or_another() {
    let map = map(5, &[(0, 10, 0, 0), (3, 20, 1, 40), (0, 1, 4, 9)]);
    let bytes = map.to_bytes().unwrap();
    for len in 0..bytes.len() {
        assert!(WireMap::from_bytes(&bytes[..len]).is_err(), "{len} bytes");
    }
    for at in 0..bytes.len() {
        let mut other = bytes.clone();
        other[at] ^= 0x10;
        // Whoever uses a map has verified its digest: here it must only not do harm.
        let _ = WireMap::from_bytes(&other);
    }
}

/// A disk of 40 GB in a hundred thousand pieces, as an image that was upgraded for months is: the
/// map stays well below a megabyte.
#[test]
fn a_large_map_is_small() {
    let mut state = 1u64;
    let mut any = |below: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let packs = 2_500;
    let extents: Vec<_> = (0..100_000)
        .map(|_| (any(40) * any(2), 1 + any(120), any(packs), any(PACK_BLOCKS - 130)))
        .collect();
    let bytes = map(packs, &extents).to_bytes().unwrap();
    assert!(bytes.len() < 1_000_000, "{} bytes", bytes.len());
}
