//! Deltas from people who mean harm: each field beyond what it may be.

use goldleaf_store::Digest;
use goldleaf_wire::{DeltaIndex, Encoded, Method, PackIndex, WireError, assemble};

use crate::deltas::sealed;

const BLOCK: usize = 4096;
const REFERENCE: &[u8] = &[7; BLOCK];

/// The body of an index, field by field, as the format has it.
#[derive(Clone)]
pub struct Body {
    pub old: Vec<Digest>,
    pub heads: Vec<Vec<u8>>,
    /// Packs since the one before, frames left out, frames, runs, length of what is stored.
    pub units: Vec<[u64; 5]>,
    pub stored: Vec<Digest>,
    /// Old pack and first block, both as differences, and blocks.
    pub runs: Vec<[i64; 3]>,
}

fn put(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

impl Body {
    pub fn bytes(&self) -> Vec<u8> {
        let mut body = Vec::new();
        put(&mut body, self.old.len() as u64);
        self.old.iter().for_each(|name| body.extend_from_slice(&name.0));
        put(&mut body, self.heads.len() as u64);
        for head in &self.heads {
            put(&mut body, head.len() as u64);
            body.extend_from_slice(head);
        }
        put(&mut body, self.units.len() as u64);
        (0..5).for_each(|at| self.units.iter().for_each(|unit| put(&mut body, unit[at])));
        self.stored.iter().for_each(|digest| body.extend_from_slice(&digest.0));
        let zigzag = |value: i64| (value << 1 ^ value >> 63) as u64;
        self.runs.iter().for_each(|run| put(&mut body, zigzag(run[0])));
        self.runs.iter().for_each(|run| put(&mut body, run[2] as u64));
        self.runs.iter().for_each(|run| put(&mut body, zigzag(run[1])));
        body
    }

    pub fn parse(&self) -> Result<DeltaIndex, WireError> {
        let (name, head) = sealed(&self.bytes());
        DeltaIndex::parse(&head, &name)
    }
}

/// Three blocks, each of one byte.
fn blocks(bytes: [u8; 3]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| [*byte; BLOCK]).collect()
}

/// The head of a pack of frames of one block each.
fn head(content: &[u8]) -> Vec<u8> {
    let frame = |stored: &[u8]| {
        let (content, stored) = (Digest::of(stored), stored.to_vec());
        Encoded { len: BLOCK, method: Method::Raw, content, stored }
    };
    let frames: Vec<Encoded> = content.chunks(BLOCK).map(frame).collect();
    let (_, mut pack) = assemble(&frames).unwrap();
    pack.truncate(PackIndex::head_len(&pack).unwrap());
    pack
}

/// Two packs of three frames each, one frame of which comes from its pack.
pub fn good() -> Body {
    Body {
        old: vec![Digest([1; 32]), Digest([2; 32])],
        heads: vec![head(&blocks([1, 2, 3])), head(&blocks([4, 5, 6]))],
        units: vec![[0, 0, 2, 2, 60], [1, 1, 2, 1, 40]],
        stored: vec![Digest([3; 32]), Digest([4; 32])],
        runs: vec![[1, 10, 5], [-1, -15, 6144 - 5], [1, -6139, 6144]],
    }
}

#[test]
fn what_is_within_all_limits_is_read() {
    let index = good().parse().unwrap();
    let units = index.units();
    assert_eq!((units[0].frames.clone(), units[1].frames.clone()), (0..2, 1..3));
    assert_eq!((units[1].at - units[0].at, index.len - units[1].at), (60, 40));
    let runs = |unit: usize| -> Vec<(u32, u64, u64)> {
        let runs = units[unit].reference.iter();
        runs.map(|run| (run.pack.0, run.blocks.start.0, run.blocks.count.0)).collect()
    };
    assert_eq!((runs(0), runs(1)), (vec![(1, 10, 5), (0, 0, 6139)], vec![(1, 0, 6144)]));
    assert_eq!(index.frames(&units[1])[0].content, Digest::of(&[5; BLOCK]));
}

#[track_caller]
fn refused(change: impl FnOnce(&mut Body)) -> WireError {
    let mut body = good();
    change(&mut body);
    body.parse().expect_err("it must be refused")
}

#[test]
fn fields_beyond_their_limits_are_refused() {
    // Units: no such pack; no such frame; no frames; ends that wrap around.
    for (unit, field, value) in [
        (1, 0, 2),
        (1, 0, u64::MAX),
        (0, 1, 2),
        (0, 1, u64::MAX),
        (0, 2, 4),
        (0, 2, 0),
        (0, 2, u64::MAX),
        (1, 4, 0),
        (0, 4, 8192 + 4096),
        (0, 4, u64::MAX),
    ] {
        let error = refused(|body| body.units[unit][field] = value);
        assert!(matches!(error, WireError::Malformed { .. }), "{unit} {field} {value}: {error}");
    }
    // Frames that come twice cannot even be said: the second unit begins behind the first.
    refused(|body| body.units[1] = [0, 0, 2, 1, 40]);
    // Runs: no such pack, none of no blocks, none longer than any pack, none before or past all
    // ends.
    for (run, field, value) in [
        (0, 0, 2),
        (0, 0, -1),
        (0, 0, i64::MIN),
        (0, 2, 0),
        (0, 1, -1),
        (0, 1, 1 << 22),
        (0, 1, i64::MAX),
        (0, 2, 1 << 22),
        (0, 2, -1),
    ] {
        let error = refused(|body| body.runs[run][field] = value);
        let typed = matches!(error, WireError::Malformed { .. } | WireError::TooLarge { .. });
        assert!(typed, "{run} {field} {value}: {error}");
    }
    let error = refused(|body| body.runs[2][2] = 6145);
    assert!(matches!(error, WireError::TooLarge { limit: 25_165_824, .. }), "{error}");
    for runs in [2, 1 << 20, 1 << 40, u64::MAX] {
        refused(|body| body.units[1][3] = runs);
    }
}

#[test]
fn heads_and_lists_are_checked() {
    // A head of other digests is another pack's, which nobody asked for.
    let mut other = good();
    other.heads[0][20] ^= 1;
    assert_ne!(other.parse().unwrap().packs()[0].name, good().parse().unwrap().packs()[0].name);
    refused(|body| body.heads[0][12] ^= 1);
    refused(|body| body.heads[0].push(0));
    refused(|body| body.heads[1].truncate(200));
    refused(|body| body.heads.clear());
    refused(|body| body.old.clear());
    refused(|body| body.stored.truncate(1));
    refused(|body| body.stored.push(Digest([9; 32])));
    refused(|body| body.runs.push([0, 0, 1]));
    refused(|body| body.runs.truncate(2));
}

/// A unit of more content than one may have: nine frames of a mebibyte.
#[test]
fn a_unit_is_no_larger_than_one_may_be() {
    let content = vec![0; 1 << 20];
    let (len, method, stored) = (content.len(), Method::Zstd, vec![1]);
    let frame = Encoded { len, method, content: Digest::of(&content), stored };
    let (_, mut pack) = assemble(&vec![frame; 9]).unwrap();
    pack.truncate(PackIndex::head_len(&pack).unwrap());
    let mut body = good();
    body.heads = vec![pack];
    (body.units, body.stored, body.runs) = (vec![[0, 0, 8, 0, 9]], vec![Digest([3; 32])], vec![]);
    assert_eq!(body.parse().unwrap().units().len(), 1);
    body.units[0][2] = 9;
    assert!(matches!(body.parse(), Err(WireError::TooLarge { .. })));
}

#[test]
fn an_index_is_no_longer_than_one_may_be() {
    let (_, good) = sealed(&good().bytes());
    for at in [8, 12] {
        let mut head = good.clone();
        head[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(DeltaIndex::head_len(&head), Err(WireError::Malformed { .. })));
        assert!(DeltaIndex::parse(&head, &Digest::of(&head)).is_err());
    }
    let mut longer = good.clone();
    longer[12] += 1;
    assert!(DeltaIndex::parse(&longer, &Digest::of(&longer)).is_err());
    assert!(DeltaIndex::head_len(b"GLDELT\x00\x02........").is_err());
    // More than it says: 64 MiB of zeroes behind a length of four bytes.
    let packed = zstd::bulk::compress(&vec![0; 64 << 20], 1).unwrap();
    let lens = [packed.len(), 4].map(|len| (len as u32).to_le_bytes());
    let bomb = [b"GLDELT\x00\x01", lens.as_flattened(), &packed].concat();
    assert!(DeltaIndex::parse(&bomb, &Digest::of(&bomb)).is_err());
}

/// What is stored of a unit of three frames of a block each, by an author whose digests are right.
pub fn decoded(stored: &[u8], reference: &[u8], content: &[u8]) -> Result<Vec<u8>, WireError> {
    let mut body = good();
    body.heads = vec![head(content)];
    body.units = vec![[0, 0, 3, 1, stored.len() as u64]];
    body.stored = vec![Digest::of(stored)];
    body.runs = vec![[0, 0, (reference.len() / BLOCK) as i64]];
    let index = body.parse()?;
    let unit = &index.units()[0];
    Ok(index.decode(unit, stored, reference, Vec::new())?.bytes().to_vec())
}

#[test]
fn only_frames_of_one_kind_reach_the_decompressor() {
    let content = blocks([1, 2, 3]);
    let good = zstd::bulk::compress(&content, 3).unwrap();
    assert_eq!(decoded(&good, REFERENCE, &content).unwrap(), content);
    let refused = |stored: &[u8]| {
        let error = decoded(stored, REFERENCE, &content).unwrap_err();
        assert!(matches!(error, WireError::Decompress { .. }), "{error}");
    };
    // A frame with a window of its own, as large as 128 MiB, and of a length that it does not say.
    let mut windowed = zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
    windowed.window_log(27).unwrap();
    std::io::Write::write_all(&mut windowed, &content).unwrap();
    refused(&windowed.finish().unwrap());
    // Another length; two frames; something behind it; something that is skipped; no frame at all.
    refused(&zstd::bulk::compress(&content[..BLOCK], 3).unwrap());
    refused(&zstd::bulk::compress(&[&content[..], &content].concat(), 3).unwrap());
    let halves = content.split_at(BLOCK);
    let both = [halves.0, halves.1].map(|half| zstd::bulk::compress(half, 3).unwrap());
    refused(&both.concat());
    refused(&[&good[..], b"x"].concat());
    refused(&[b"\x50\x2A\x4D\x18\x00\x00\x00\x00", &good[..]].concat());
    refused(&good[..good.len() - 1]);
    refused(&good[..4]);
    refused(b"x");
    // A bomb that says that it is none: its header has the length that is wanted.
    let mut bomb = zstd::bulk::compress(&vec![0; 3 * BLOCK + 1], 3).unwrap();
    bomb[5..7].copy_from_slice(&((3 * BLOCK - 256) as u16).to_le_bytes());
    refused(&bomb);
}

#[test]
fn content_that_is_another_is_refused() {
    let other = zstd::bulk::compress(&[9; 3 * BLOCK], 3).unwrap();
    assert!(matches!(
        decoded(&other, REFERENCE, &[1; 3 * BLOCK]),
        Err(WireError::HashMismatch { .. })
    ));
}
