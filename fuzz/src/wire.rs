//! What travels: maps, packs, boot profiles and deltas, valid ones that were spoiled; digests are mended, because
//! an author may be hostile too.
//!
//! ```text
//!   wire:   0 a map, 1 a pack, 2 a boot profile │ how, 1 │ edits
//!   delta:  how, 1 │ edits
//!   how:    0 edits of a valid one; 1 what is left of the input instead
//! ```

use std::sync::LazyLock;

use goldleaf_block::{
    BLOCK_SIZE, BlockCount, BlockError, BlockNo, BlockRange, ByteLen, ByteOffset, RangeKind,
    ReadBlocks, SourceIndex,
};
use goldleaf_store::Digest;
use goldleaf_wire::{
    BootProfile, DeltaEffort, DeltaIndex, Effort, Known, PackIndex, PackRun, REFERENCE_MAX,
    UNIT_MAX, Versions, WireMap, make_delta, publish,
};

use crate::input::{Input, apply};

/// Blocks of the disks that there are.
const BLOCKS: u64 = 150;
/// Bytes before what is compressed, of small forms and of a delta.
const SEALED_FIXED: usize = 12;
const DELTA_FIXED: usize = 16;
/// Longest reference for which content is made up.
const MADE_UP_MAX: u64 = 1 << 20;

/// A disk of blocks, each of one byte.
struct Disk(Vec<u8>);

impl Disk {
    fn read(&self, run: PackRun, content: &mut [u8]) -> Result<(), BlockError> {
        self.read_at(run.blocks.start.offset(), content)
    }
}

impl ReadBlocks for Disk {
    fn len(&self) -> ByteLen {
        ByteLen(self.0.len() as u64 * BLOCK_SIZE)
    }

    fn read_at(&self, at: ByteOffset, buf: &mut [u8]) -> Result<(), BlockError> {
        for (byte, at) in buf.iter_mut().zip(at.0..) {
            *byte = self.0[(at / BLOCK_SIZE) as usize];
        }
        Ok(())
    }

    fn status(&self, _: ByteOffset, limit: ByteLen) -> Result<(ByteLen, RangeKind), BlockError> {
        Ok((limit, RangeKind::Data))
    }
}

/// Two disks of one pack each. No block is there twice, so a pack's content is its disk.
struct Two {
    old: Disk,
    new: Disk,
}

impl Versions for Two {
    fn read_new(&self, run: PackRun, content: &mut [u8]) -> Result<(), BlockError> {
        self.new.read(run, content)
    }

    fn read_old(&self, run: PackRun, content: &mut [u8]) -> Result<(), BlockError> {
        self.old.read(run, content)
    }

    fn reference(&self, run: PackRun) -> Vec<PackRun> {
        let count = BlockCount(run.blocks.count.0.min(80));
        let blocks = BlockRange::new(BlockNo(run.blocks.start.0 / 2), count);
        vec![PackRun { pack: SourceIndex(0), blocks }]
    }
}

struct Valid {
    map: Vec<u8>,
    profile: Vec<u8>,
    pack: Vec<u8>,
    delta_head: Vec<u8>,
    delta_units: Vec<u8>,
    old: Disk,
}

static VALID: LazyLock<Valid> = LazyLock::new(|| {
    let disk = |first: u8| Disk((0..BLOCKS as u8).map(|block| block.wrapping_add(first)).collect());
    let all = [BlockRange::new(BlockNo(0), BlockCount(BLOCKS))];
    let effort = Effort { level: 1, threads: 1, frame: BlockCount(64) };
    let made = |disk: &Disk| {
        let mut packs = Vec::new();
        let mut sink = |_: &_, bytes| {
            packs.push(bytes);
            Ok(())
        };
        let map = publish(disk, &all, &mut Known::default(), effort, &mut sink).expect("a disk");
        (map, packs.remove(0))
    };
    let two = Two { old: disk(1), new: disk(100) };
    let ((old, _), (map, pack)) = (made(&two.old), made(&two.new));
    let head = pack[..map.packs[0].head_len as usize].to_vec();
    let effort = DeltaEffort { level: 1, threads: 1, unit: ByteLen(64 * BLOCK_SIZE) };
    let mut delta_units = Vec::new();
    let mut sink = |unit: Vec<u8>| {
        delta_units.extend(unit);
        Ok(())
    };
    let delta = make_delta(&[old.packs[0].name], &[head], &two, effort, &mut sink);
    let (_, delta_head) = delta.expect("a delta");
    let map = map.to_bytes().expect("a map");
    let run = |start, count| BlockRange::new(BlockNo(start), BlockCount(count));
    let runs = [run(90, 3), run(2, 1), run(40, 20)];
    let profile = BootProfile::new(runs, BlockCount(BLOCKS)).to_bytes().expect("a profile");
    Valid { map, profile, pack, delta_head, delta_units, old: two.old }
});

/// Edits of something valid, or what is left of the input.
fn spoiled(mut input: Input<'_>, valid: &[u8]) -> Vec<u8> {
    if input.byte() & 1 != 0 {
        return input.0.to_vec();
    }
    let mut bytes = valid.to_vec();
    for edit in input.edits() {
        // Behind the end, so that there can be more of it than there was.
        if edit.place == 0xff {
            bytes.extend_from_slice(&edit.bytes);
        }
        apply(&mut bytes, &edit);
    }
    bytes
}

fn packed(body: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(body, 1).expect("it can be compressed")
}

fn unpacked(packed: &[u8]) -> Vec<u8> {
    zstd::bulk::decompress(packed, 1 << 20).expect("a valid one")
}

/// Maps, packs and boot profiles.
pub fn wire(data: &[u8]) {
    let mut input = Input(data);
    match input.byte() % 3 {
        0 => map(&sealed(input, &VALID.map)),
        1 => pack(&spoiled(input, &VALID.pack)),
        _ => profile(&sealed(input, &VALID.profile)),
    }
}

/// A small form, its body spoiled.
fn sealed(input: Input<'_>, valid: &[u8]) -> Vec<u8> {
    let body = spoiled(input, &unpacked(&valid[SEALED_FIXED..]));
    let len = (body.len() as u32).to_le_bytes();
    [&valid[..SEALED_FIXED - 4], &len, &packed(&body)].concat()
}

fn profile(bytes: &[u8]) {
    let disk = BlockCount(BLOCKS);
    let Ok(profile) = BootProfile::from_bytes(bytes, disk) else { return };
    assert!(profile.blocks() <= disk, "no block is in it twice");
    let again = profile.to_bytes().expect("it was read before");
    assert_eq!(BootProfile::from_bytes(&again, disk).expect("it was read before"), profile);
}

fn map(bytes: &[u8]) {
    let Ok(map) = WireMap::from_bytes(bytes) else { return };
    for extent in map.map.extents() {
        assert!(extent.range.end().0 <= map.map.blocks().0, "it lies on the disk");
    }
    if let Ok(again) = map.to_bytes() {
        assert_eq!(WireMap::from_bytes(&again).expect("it was read before"), map);
    }
}

fn pack(bytes: &[u8]) {
    let Ok(head_len) = PackIndex::head_len(bytes) else { return };
    let Some(head) = bytes.get(..head_len) else { return };
    let Ok(index) = PackIndex::parse(head, &Digest::of(head)) else { return };
    let (mut at, mut from) = (head_len as u64, 0);
    for frame in index.frames() {
        assert_eq!((frame.at, frame.from), (at, from), "frames lie behind one another");
        assert_eq!(index.frame_at(frame.from), Some(frame));
        (at, from) = (at + u64::from(frame.stored_len), from + u64::from(frame.len));
        let Some(stored) = bytes.get(frame.at as usize..at as usize) else { continue };
        let frame = goldleaf_wire::FrameInfo { stored: Digest::of(stored), ..*frame };
        if let Ok(content) = frame.decode(stored) {
            assert_eq!((content.len(), Digest::of(&content)), (frame.len as usize, frame.content));
        }
    }
    assert_eq!((index.pack_len, index.content_len), (at, from));
}

/// Deltas.
pub fn delta(data: &[u8]) {
    let body = spoiled(Input(data), &unpacked(&VALID.delta_head[DELTA_FIXED..]));
    let packed = packed(&body);
    let lens = [packed.len(), body.len()].map(|len| (len as u32).to_le_bytes());
    let head = [&VALID.delta_head[..DELTA_FIXED - 8], lens.as_flattened(), &packed].concat();
    assert_eq!(DeltaIndex::head_len(&head).ok(), Some(head.len()));
    let Ok(index) = DeltaIndex::parse(&head, &Digest::of(&head)) else { return };
    let mut at = head.len() as u64;
    let mut behind = (0, 0);
    for unit in index.units() {
        assert_eq!(unit.at, at, "units lie behind one another");
        at += u64::from(unit.stored_len);
        let here = (unit.pack.0, unit.frames.start);
        assert!(behind <= here && unit.frames.start < unit.frames.end, "no frame comes twice");
        behind = (unit.pack.0, unit.frames.end);
        let content: u64 = index.frames(unit).iter().map(|frame| u64::from(frame.len)).sum();
        assert!(content <= UNIT_MAX && unit.reference_blocks().bytes().0 <= REFERENCE_MAX);
        for run in &unit.reference {
            assert!((run.pack.0 as usize) < index.old_packs().len());
        }
        decode(&index, unit, head.len() as u64);
    }
    assert_eq!(index.len, at);
}

/// Decodes a unit with the reference that it asks for, as far as there is one.
fn decode(index: &DeltaIndex, unit: &goldleaf_wire::DeltaUnit, head_len: u64) {
    let len = unit.reference_blocks().bytes().0;
    let at = (unit.at - head_len) as usize;
    let Some(stored) = VALID.delta_units.get(at..at + unit.stored_len as usize) else { return };
    if len > MADE_UP_MAX {
        return;
    }
    let mut reference = vec![0; len as usize];
    let mut rest = &mut reference[..];
    for run in &unit.reference {
        let (part, behind) = rest.split_at_mut(run.blocks.count.bytes().0 as usize);
        if run.blocks.end().0 <= BLOCKS {
            VALID.old.read(*run, part).expect("it is in memory");
        }
        rest = behind;
    }
    let unit = goldleaf_wire::DeltaUnit { stored: Digest::of(stored), ..unit.clone() };
    if let Ok(content) = index.decode(&unit, stored, &reference, Vec::new()) {
        for (frame, bytes) in content.frames() {
            assert_eq!(Digest::of(bytes), frame.content);
        }
    }
}
