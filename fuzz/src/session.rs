//! The session log: its files, spoiled and opened; and operations against a plain model.
//!
//! ```text
//!   log:  mending, 1 │ edits: place 0 the index's header, 1 `data`, others a record each
//!   ops:  operations: kind 1 │ place 2 │ length 2 │ fill 1
//! ```

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use goldleaf_block::{
    BLOCK_SIZE, ByteLen, ByteOffset, RangeKind, ReadBlocks, SessionDevice, SessionId, SourceIndex,
    WriteBlocks, use_little_limits,
};
use goldleaf_host::Dir;
use goldleaf_host::sim::SimDir;

use crate::disk::{BLOCK, Disk};
use crate::input::{Input, apply, le32, put};

/// The disk: 20 blocks and a half.
const LEN: usize = 20 * BLOCK + 2048;
const DIGEST: [u8; 32] = [7; 32];
const RECORD: &[u8] = b"GLSESREC";

fn base() -> Arc<dyn ReadBlocks> {
    static BASE: LazyLock<Disk> = LazyLock::new(|| {
        let mut disk = Disk::zero(LEN as u64);
        (0..10).for_each(|block| disk.write(block * 2 * BLOCK_SIZE, &[block as u8 + 100; BLOCK]));
        disk.frozen()
    });
    Arc::new(BASE.clone())
}

fn dir(sim: &SimDir) -> Arc<dyn Dir> {
    Arc::new(sim.clone())
}

fn content(device: &dyn ReadBlocks) -> Vec<u8> {
    let mut bytes = vec![0; LEN];
    device.read_at(ByteOffset(0), &mut bytes).expect("all of the disk");
    bytes
}

fn file_bytes(sim: &SimDir, name: &str) -> Vec<u8> {
    let file = sim.open(name).expect("a file");
    let mut bytes = vec![0; file.len().expect("a length") as usize];
    file.read_exact_at(&mut bytes, 0).expect("its bytes");
    bytes
}

/// Index and data of a session of some records.
static FILES: LazyLock<(Vec<u8>, Vec<u8>)> = LazyLock::new(|| {
    use_little_limits(true);
    let sim = SimDir::new();
    let id = SessionId([9; 16]);
    let device = SessionDevice::create(dir(&sim), base(), id, DIGEST).expect("a session");
    for round in 0..5u64 {
        for block in 0..4 {
            let at = ByteOffset((round * 3 + block) % 20 * BLOCK_SIZE);
            device.write_at(at, &[round as u8 + 1; BLOCK]).expect("written");
        }
        let zeroes = (ByteOffset(round * 4 * BLOCK_SIZE), ByteLen(2 * BLOCK_SIZE));
        device.write_zeroes(zeroes.0, zeroes.1).expect("zeroed");
        device.flush().expect("flushed");
    }
    (file_bytes(&sim, "index"), file_bytes(&sim, "data"))
});

/// The files of a session that somebody or something spoiled.
pub fn log(data: &[u8]) {
    use_little_limits(true);
    let mut input = Input(data);
    let mends = input.byte() & 1 == 0;
    let (mut index, mut blocks) = FILES.clone();
    for edit in input.edits() {
        match edit.place % 12 {
            0 => apply(&mut index[..BLOCK], &edit),
            1 => apply(&mut blocks, &edit),
            record => {
                let at = (record - 1) * BLOCK;
                // Near its start stand the header and the entries that are used.
                let len = if edit.at & 0x8000 == 0 { 512 } else { BLOCK };
                apply(index.get_mut(at..at + len).unwrap_or_default(), &edit);
            }
        }
    }
    if mends {
        mend(&mut index);
    }
    let sim = SimDir::new();
    for (name, bytes) in [("index", &index), ("data", &blocks)] {
        sim.create(name).expect("made").write_all_at(bytes, 0).expect("written");
    }
    let Ok((device, _)) = SessionDevice::open(dir(&sim), base(), &DIGEST) else { return };
    // A block whose sum is wrong is a typed error, and stays one.
    let mut bytes = vec![0; LEN];
    let first = device.read_at(ByteOffset(0), &mut bytes).map(|()| bytes.clone());
    let dirty = device.dirty();
    drop(device);
    let (device, _) = SessionDevice::open(dir(&sim), base(), &DIGEST).expect("opened once more");
    let again = device.read_at(ByteOffset(0), &mut bytes).map(|()| bytes.clone());
    assert_eq!(first.ok(), again.ok(), "recovery is idempotent");
    assert_eq!(dirty, device.dirty(), "recovery is idempotent");
    if device.write_at(ByteOffset(100), &[0xAB; 9000]).is_ok() && device.flush().is_ok() {
        let mut written = [0; 9000];
        device.read_at(ByteOffset(100), &mut written).expect("what was written");
        assert!(written.iter().all(|&byte| byte == 0xAB), "what was written is read");
    }
}

/// Mends the sums of the header and of all records, and the chain that they make.
fn mend(index: &mut [u8]) {
    let mut previous = sum(&mut index[..BLOCK], 12);
    let mut at = BLOCK;
    while index.get(at..at + 8) == Some(RECORD) {
        let entries = le32(index, at + 32) as usize;
        let len = entries.saturating_mul(64).saturating_add(64).div_ceil(BLOCK) * BLOCK;
        let Some(record) = index.get_mut(at..at.saturating_add(len)) else { return };
        put(record, 40, &previous.to_le_bytes());
        previous = sum(record, 36);
        at += len;
    }
}

fn sum(bytes: &mut [u8], at: usize) -> u32 {
    put(bytes, at, &[0; 4]);
    let sum = crc32c::crc32c(bytes);
    put(bytes, at, &sum.to_le_bytes());
    sum
}

/// The plain model: what the disk holds, and of each block what it held since the last flush.
struct Model {
    now: Vec<u8>,
    before: Vec<Vec<Vec<u8>>>,
}

impl Model {
    fn of(now: Vec<u8>) -> Self {
        let before = vec![Vec::new(); now.len().div_ceil(BLOCK)];
        Self { now, before }
    }

    fn write(&mut self, range: Range<usize>, fill: u8) {
        if range.is_empty() {
            return;
        }
        for block in range.start / BLOCK..=(range.end - 1) / BLOCK {
            let there = block * BLOCK..((block + 1) * BLOCK).min(LEN);
            self.before[block].push(self.now[there].to_vec());
        }
        self.now[range].fill(fill);
    }

    /// Whole blocks read as zeroes after a discard (the short one at the end is whole), the rest
    /// of the range stays.
    fn discard(&mut self, range: Range<usize>) {
        let end = if range.end == LEN { LEN } else { range.end / BLOCK * BLOCK };
        self.write(range.start.next_multiple_of(BLOCK)..end, 0);
    }

    fn flush(&mut self) {
        self.before.iter_mut().for_each(Vec::clear);
    }

    /// Whether this may be found after a power cut: of each block what it was at the last flush,
    /// or anything that was written to it since.
    fn accept(&mut self, found: Vec<u8>) -> bool {
        let mut blocks = found.chunks(BLOCK).zip(self.now.chunks(BLOCK)).zip(&self.before);
        let fits = blocks.all(|((found, now), before)| {
            found == now || before.iter().any(|version| version == found)
        });
        *self = Self::of(found);
        fits
    }
}

/// Operations, power cuts included.
pub fn operations(data: &[u8]) {
    use_little_limits(true);
    let mut input = Input(data);
    let mut sim = SimDir::new();
    let made = SessionDevice::create(dir(&sim), base(), SessionId([1; 16]), DIGEST);
    let mut device = made.expect("a session");
    let mut model = Model::of(content(&*base()));
    for _ in 0..100 {
        if input.is_empty() {
            break;
        }
        let kind = input.byte();
        let (at, len) = (usize::from(input.u16()) % LEN, usize::from(input.u16()) % (4 * BLOCK));
        let (range, fill) = (at..(at + len).min(LEN), input.byte());
        if kind % 8 == 7 {
            drop(device);
            sim = sim.crash(fill.into());
            (device, _) = SessionDevice::open(dir(&sim), base(), &DIGEST).expect("recovered");
            assert!(model.accept(content(&device)), "nothing that was flushed is lost");
            continue;
        }
        operate(&device, &mut model, kind, range.clone(), fill);
        let mut bytes = vec![0; range.len()];
        device.read_at(ByteOffset(at as u64), &mut bytes).expect("read");
        assert!(bytes == model.now[range], "the device is the model");
        holes_are_zeroes(&device, ByteOffset(at as u64));
    }
    assert!(content(&device) == model.now, "the device is the model");
}

fn operate(device: &SessionDevice, model: &mut Model, kind: u8, range: Range<usize>, fill: u8) {
    let (at, len) = (ByteOffset(range.start as u64), ByteLen(range.len() as u64));
    match kind % 8 {
        3 => {
            device.write_zeroes(at, len).expect("zeroed");
            model.write(range, 0);
        }
        4 => {
            device.discard(at, len).expect("discarded");
            model.discard(range);
        }
        5 => {
            device.flush().expect("flushed");
            model.flush();
        }
        6 => drop(device.snapshot(SourceIndex(0)).expect("a snapshot")),
        _ => {
            device.write_at(at, &vec![fill; range.len()]).expect("written");
            model.write(range, fill);
        }
    }
}

fn holes_are_zeroes(device: &SessionDevice, at: ByteOffset) {
    let Ok((len, RangeKind::Zero)) = device.status(at, ByteLen(3 * BLOCK_SIZE)) else { return };
    let mut bytes = vec![1; len.0 as usize];
    device.read_at(at, &mut bytes).expect("what has a status can be read");
    assert!(bytes.iter().all(|&byte| byte == 0), "a hole reads as zeroes");
}
