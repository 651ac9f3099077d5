//! The format is frozen: what was published once can be read for ever. A digest that changes here
//! is a new format, and needs a new number and a reader of both.

use goldleaf_block::{BlockCount, BlockNo, BlockRange, ExtentMap, MapExtent, SourceIndex, Target};
use goldleaf_store::Digest;
use goldleaf_wire::{BootProfile, Encoded, Method, PackRef, WireMap, assemble};

use crate::hostile_deltas::{decoded, good};
use crate::packs::read;

/// A pack as it was written by hand: compressors may change, what is stored may not be read
/// otherwise.
#[test]
fn packs() {
    let stored = vec![7; 40];
    let raw = |len: usize, stored: &[u8]| Encoded {
        len,
        method: Method::Raw,
        stored: stored.to_vec(),
        content: Digest::of(stored),
    };
    let (name, pack) = assemble(&[raw(40, &stored), raw(3, b"abc")]).unwrap();
    assert_eq!(
        (name.to_string().as_str(), Digest::of(&pack).to_string().as_str()),
        (
            "a0e552500fb4b518eba4601542bfb39a8f2f3c3b490b581379a2f3a1b9593e0a",
            "d9af779851fe9a4053a1faf441d07b3279df57ba8461bbb2b4da32e7f1ec9e06"
        )
    );
    assert_eq!(read(&name, &pack).unwrap(), [&stored[..], b"abc"].concat());
}

/// What zstd 1.5.7 wrote, every release must read.
#[test]
fn frames() {
    const STORED: [u8; 21] =
        [40, 181, 47, 253, 160, 160, 134, 1, 0, 77, 0, 0, 8, 120, 1, 0, 156, 134, 57, 16, 2];
    let content = vec![b'x'; 100_000];
    let (len, method, stored) = (content.len(), Method::Zstd, STORED.to_vec());
    let frame = Encoded { len, method, stored, content: Digest::of(&content) };
    let (name, pack) = assemble(&[frame]).unwrap();
    assert_eq!(read(&name, &pack).unwrap(), content);
}

#[test]
fn maps() {
    let extent = |start, count, source, at| MapExtent {
        range: BlockRange::new(BlockNo(start), BlockCount(count)),
        target: Target::Source { source: SourceIndex(source), at: BlockNo(at) },
    };
    let extents = vec![extent(2, 3, 1, 0), extent(5, 1, 0, 200), extent(9, 100, 1, 3)];
    let pack = |number: u8, blocks| PackRef {
        name: Digest([number; 32]),
        len: 100_000,
        head_len: 300,
        blocks: BlockCount(blocks),
    };
    let packs = vec![pack(1, 256), pack(2, 128)];
    let lens = [BlockCount(256), BlockCount(128)];
    let map = ExtentMap::checked(BlockCount(1000), extents, &lens).unwrap();
    let bytes = WireMap { packs, map: map.clone() }.to_bytes().unwrap();
    let body = zstd::bulk::decompress(&bytes[12..], 1 << 20).unwrap();
    assert_eq!(
        Digest::of(&body).to_string(),
        "fa9a20009edfd8ad6543437bbc1bed80da874495fb5dc742e3f2d280ee90ecd7"
    );
    assert_eq!(WireMap::from_bytes(&bytes).unwrap().map, map);
}

#[test]
fn boot_profiles() {
    let range = |start, count| BlockRange::new(BlockNo(start), BlockCount(count));
    let profile = BootProfile::new([range(900, 3), range(2, 1), range(40, 60)], BlockCount(1000));
    let bytes = profile.to_bytes().unwrap();
    let body = zstd::bulk::decompress(&bytes[12..], 1 << 20).unwrap();
    assert_eq!(body, [3, 136, 14, 137, 14, 74, 3, 1, 60]);
    assert_eq!(BootProfile::from_bytes(&bytes, BlockCount(1000)).unwrap(), profile);
}

/// An index as it was written by hand, field by field.
#[test]
fn deltas() {
    let body = good().bytes();
    assert_eq!(
        Digest::of(&body).to_string(),
        "0780bf7cce1f3a25b075bae9dd37376d0bd3988a97f4d3ec2fe751efec570e94"
    );
    assert!(good().parse().is_ok());
}

/// What zstd 1.5.7 wrote after a reference, every release must read: three times all of it but for
/// its first byte, and that one behind.
#[test]
fn units() {
    const STORED: [u8; 27] = [
        40, 181, 47, 253, 96, 0, 47, 141, 0, 0, 24, 0, 0, 120, 2, 0, 253, 63, 0, 167, 23, 250, 23,
        0, 255, 96, 1,
    ];
    let reference: Vec<u8> = (0..4096u32).map(|at| ((at * at) >> 7) as u8).collect();
    let content = [&reference[1..], b"x"].concat().repeat(3);
    assert_eq!(decoded(&STORED, &reference, &content).unwrap(), content);
}
