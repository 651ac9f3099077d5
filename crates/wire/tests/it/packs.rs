//! Packs and frames.

use goldleaf_store::Digest;
use goldleaf_wire::{Encoded, FRAME_MAX, Method, PACK_FRAMES_MAX, PackIndex, WireError, assemble};
use proptest::prelude::*;

/// Content that compresses by about a half.
pub fn content(seed: u8, len: usize) -> Vec<u8> {
    let mut state = u32::from(seed) + 1;
    let mut byte = |at: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if at % 64 < 32 { seed } else { (state >> 24) as u8 }
    };
    (0..len).map(&mut byte).collect()
}

fn noise(len: usize) -> Vec<u8> {
    let mut state = 7u64;
    let mut byte = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..len).map(|_| byte()).collect()
}

/// All content of a pack, read as an endpoint does: head first, then frame by frame.
pub fn read(name: &Digest, pack: &[u8]) -> Result<Vec<u8>, WireError> {
    let head = PackIndex::head_len(&pack[..pack.len().min(12)])?;
    let index = PackIndex::parse(&pack[..head.min(pack.len())], name)?;
    let mut all = Vec::new();
    for frame in index.frames() {
        let (from, to) = (frame.at as usize, frame.at as usize + frame.stored_len as usize);
        assert_eq!(index.frame_at(frame.from), Some(frame));
        assert_eq!(index.frame_at(frame.from + u64::from(frame.len) - 1), Some(frame));
        all.extend(frame.decode(&pack[from.min(pack.len())..to.min(pack.len())])?);
    }
    assert!(index.frame_at(index.content_len).is_none());
    assert_eq!(all.len() as u64, index.content_len);
    Ok(all)
}

fn encode(contents: &[Vec<u8>]) -> Vec<Encoded> {
    contents.iter().map(|content| Encoded::new(content, 3).unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_goes_in_comes_out(
        contents in prop::collection::vec((any::<u8>(), 1..40_000usize), 1..12),
    ) {
        let contents: Vec<Vec<u8>> =
            contents.into_iter().map(|(seed, len)| content(seed, len)).collect();
        let (name, pack) = assemble(&encode(&contents)).unwrap();
        prop_assert_eq!(read(&name, &pack).unwrap(), contents.concat());
    }

    /// Whatever the bytes are, and whoever vouches for them: an answer, and no more memory than is
    /// said.
    #[test]
    fn nonsense_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut pack = b"GLPACK\x00\x01".to_vec();
        pack.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        pack.extend_from_slice(&bytes);
        let name = Digest::of(&pack);
        prop_assert!(PackIndex::parse(&pack, &Digest::of(b"another")).is_err());
        if let Ok(index) = PackIndex::parse(&pack, &name) {
            for frame in index.frames() {
                prop_assert!(frame.decode(&vec![0; frame.stored_len as usize]).is_err());
            }
        }
    }
}

#[test]
fn what_does_not_compress_is_stored_as_it_is() {
    let frame = Encoded::new(&noise(70_000), 19).unwrap();
    assert_eq!((frame.method, frame.stored.len()), (Method::Raw, 70_000));
    let frame = Encoded::new(&content(1, FRAME_MAX), 3).unwrap();
    assert_eq!(frame.method, Method::Zstd);
    assert!(frame.stored.len() < FRAME_MAX * 3 / 4);
}

/// Each byte changed, each length, one frame for another.
#[test]
fn a36_a37_a38_a39_no_byte_may_change() {
    let contents = [content(1, 5000), noise(300), content(2, 9000)];
    let (name, pack) = assemble(&encode(&contents)).unwrap();
    assert_eq!(read(&name, &pack).unwrap(), contents.concat());
    for at in 0..pack.len() {
        let mut other = pack.clone();
        other[at] ^= 1 << (at % 8);
        assert!(read(&name, &other).is_err(), "byte {at}");
    }
    for len in 12..pack.len() {
        assert!(read(&name, &pack[..len]).is_err(), "{len} bytes");
    }
    let twins = encode(&[content(1, 5000), content(2, 5000)]);
    let (name, pack) = assemble(&twins).unwrap();
    let index = PackIndex::parse(&pack[..PackIndex::head_len(&pack).unwrap()], &name).unwrap();
    let wrong = index.frames()[0].decode(&twins[1].stored);
    assert!(matches!(wrong, Err(WireError::Length { .. } | WireError::HashMismatch { .. })));
}

/// More than was said. The digests are right: it is the author who is hostile.
#[test]
fn a33_bombs_do_not_go_off() {
    let zeroes = vec![0; 64 << 20];
    let stored = zstd::bulk::compress(&zeroes, 19).unwrap();
    let (len, method) = (FRAME_MAX, Method::Zstd);
    let bomb = Encoded { len, method, content: Digest::of(&zeroes[..len]), stored };
    let (name, pack) = assemble(&[bomb]).unwrap();
    assert!(matches!(read(&name, &pack), Err(WireError::Decompress { .. })));
}

/// A frame of zstd's that asks for a window of 2 GiB, for a block of one byte again and again (RFC
/// 8878, section 3.1): what it gives is what was said, and there is no window.
#[test]
fn a33_a_window_of_2_gib() {
    let len = 4096usize;
    let header = ((len as u32) << 3 | 0b011).to_le_bytes();
    let stored = [&[0x28, 0xB5, 0x2F, 0xFD, 0x00, 0xA8][..], &header[..3], &[7]].concat();
    let content = Digest::of(&vec![7; len]);
    let frame = Encoded { len, method: Method::Zstd, content, stored };
    let (name, pack) = assemble(&[frame]).unwrap();
    assert!(read(&name, &pack).unwrap() == vec![7; len]);
}

#[test]
fn there_are_limits() {
    assert!(matches!(Encoded::new(&[], 3), Err(WireError::TooLarge { .. })));
    assert!(matches!(Encoded::new(&vec![0; FRAME_MAX + 1], 3), Err(WireError::TooLarge { .. })));
    assert!(matches!(assemble(&[]), Err(WireError::TooLarge { .. })));
    let one = Encoded::new(&[1], 3).unwrap();
    let most = vec![one.clone(); PACK_FRAMES_MAX];
    let (name, pack) = assemble(&most).unwrap();
    assert_eq!(read(&name, &pack).unwrap().len(), PACK_FRAMES_MAX);
    assert!(assemble(&vec![one; PACK_FRAMES_MAX + 1]).is_err());
}
