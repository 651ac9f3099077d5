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

/// What is signed may still be wrong.
#[test]
fn a34_an_extent_outside_of_its_pack() {
    let mut map = map(2, &[(0, 10, 0, 0), (3, 20, 1, 4070)]);
    map.packs[1].blocks = BlockCount(4089);
    assert!(matches!(WireMap::from_bytes(&map.to_bytes().unwrap()), Err(WireError::Map(_))));
    let nothing = WireMap { packs: Vec::new(), map: ExtentMap::zero(BlockCount(7)) };
    assert_eq!(WireMap::from_bytes(&nothing.to_bytes().unwrap()).unwrap(), nothing);
}

/// A map of these numbers, in the order in which they travel: blocks; packs, each a name and three
/// numbers; then extents, by columns. Numbers below 64 are one byte each.
fn raw(blocks: &[u8], packs: &[(u8, [u8; 3])], count: u8, columns: &[u8]) -> Vec<u8> {
    let mut body = blocks.to_vec();
    body.push(packs.len() as u8);
    for (name, numbers) in packs {
        body.extend_from_slice(&[*name; 32]);
        body.extend_from_slice(numbers);
    }
    body.push(count);
    body.extend_from_slice(columns);
    let packed = zstd::bulk::compress(&body, 1).unwrap();
    [b"GLMAP\x00\x00\x01", &(body.len() as u32).to_le_bytes()[..], &packed].concat()
}

#[test]
fn a34_numbers_that_make_no_map() {
    const PACK: &[(u8, [u8; 3])] = &[(7, [60, 50, 20])];
    // 2^63 and 2^64 - 1.
    const HUGE: &[u8] = &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1];
    const MOST: &[u8] = &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1];
    let with = |number: &[u8], columns: &[u8]| [number, columns].concat();
    // Gaps, counts, packs, and where the content is from where the extent before ended.
    let good = raw(&[40], PACK, 2, &[0, 3, 4, 5, 0, 0, 0, 0]);
    assert_eq!(WireMap::from_bytes(&good).unwrap().map.extents().len(), 2);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("a disk of 2^63 blocks", raw(HUGE, PACK, 0, &[])),
        ("a disk of 2^64 - 1 blocks", raw(MOST, PACK, 0, &[])),
        ("an extent behind the end", raw(&[8], PACK, 1, &[5, 4, 0, 0])),
        ("an extent that wraps around", raw(&[40], PACK, 2, &with(&[0], &with(MOST, &[4; 6])))),
        ("2^63 blocks", raw(&[40], PACK, 1, &with(&[0], &with(HUGE, &[0, 0])))),
        ("no blocks", raw(&[40], PACK, 1, &[0, 0, 0, 0])),
        ("a pack that there is not", raw(&[40], PACK, 1, &[0, 4, 2, 0])),
        ("a pack before the first", raw(&[40], PACK, 1, &[0, 4, 1, 0])),
        ("content behind the pack's end", raw(&[40], PACK, 1, &[0, 4, 0, 34])),
        ("content before the pack's beginning", raw(&[40], PACK, 1, &[0, 4, 0, 1])),
        ("fewer extents than were counted", raw(&[40], PACK, 3, &[0, 3, 4, 5, 0, 0, 0, 0])),
        ("more extents than were counted", raw(&[40], PACK, 1, &[0, 3, 4, 5, 0, 0, 0, 0])),
        ("a pack without frames", raw(&[40], &[(7, [50, 50, 20])], 0, &[])),
        ("a pack of too much", raw(&with(&[40, 1], &[7; 32]), &[], 0, &[])),
    ];
    for (what, bytes) in cases {
        let result = WireMap::from_bytes(&bytes);
        let is_it = matches!(result, Err(WireError::Malformed { .. } | WireError::Map(_)));
        assert!(is_it, "{what}: {result:?}");
    }
}

#[test]
fn a33_a_map_of_more_than_it_says() {
    let body = vec![0; 80 << 20];
    let packed = zstd::bulk::compress(&body, 19).unwrap();
    assert!(packed.len() < 10_000);
    for (len, is_too_large) in [(100u32, false), (64 << 20, false), (80 << 20, true)] {
        let bytes = [b"GLMAP\x00\x00\x01", &len.to_le_bytes()[..], &packed].concat();
        let result = WireMap::from_bytes(&bytes);
        let is_it = match result {
            Err(WireError::TooLarge { .. }) => is_too_large,
            Err(WireError::Decompress { .. }) => !is_too_large,
            _ => false,
        };
        assert!(is_it, "{len}: {result:?}");
    }
}

#[test]
fn a38_a_damaged_map_is_refused_or_another() {
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
