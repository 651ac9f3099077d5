//! The session log against a plain model, without and with power cuts. The limits are small here,
//! so that every workload closes generations, sweeps and compacts.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::Arc;

use goldleaf_host::sim::SimDir;
use proptest::prelude::*;

use super::*;

/// Not a whole number of blocks: the last one is short.
const LEN: usize = 40 * BLOCK - 1536;
const DIGEST: [u8; 32] = [3; 32];

/// Odd stretches of 5 blocks have content, even ones read as zeroes.
struct Base;

impl Base {
    fn byte(at: usize) -> u8 {
        let block = at / BLOCK;
        if block / 5 % 2 == 1 { 0x80 | block as u8 } else { 0 }
    }

    fn content() -> Vec<u8> {
        (0..LEN).map(Self::byte).collect()
    }
}

impl ReadBlocks for Base {
    fn len(&self) -> ByteLen {
        ByteLen(LEN as u64)
    }

    fn read_at(&self, at: ByteOffset, buf: &mut [u8]) -> Result<(), BlockError> {
        check_range(at, ByteLen(buf.len() as u64), self.len())?;
        buf.iter_mut().enumerate().for_each(|(i, byte)| *byte = Self::byte(at.0 as usize + i));
        Ok(())
    }

    fn status(&self, at: ByteOffset, limit: ByteLen) -> Result<(ByteLen, RangeKind), BlockError> {
        let stretch = 5 * BLOCK_SIZE;
        let rest = (stretch - at.0 % stretch).min(limit.0).min(LEN as u64 - at.0);
        let kind = if Self::byte(at.0 as usize) == 0 { RangeKind::Zero } else { RangeKind::Data };
        Ok((ByteLen(rest), kind))
    }
}

#[derive(Debug, Clone)]
enum Op {
    Write(usize, usize, u8),
    Zero(usize, usize),
    Discard(usize, usize),
    Flush,
}

/// Random numbers for workloads: the constants are Knuth's MMIX generator's.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % end as u64) as usize
    }

    fn range(&mut self) -> (usize, usize) {
        let unit = [1, 512, BLOCK, BLOCK][self.below(4)];
        let at = self.below(LEN / unit) * unit;
        let len = (self.below(6) + 1) * unit + self.below(2) * self.below(unit);
        (at, len.min(LEN - at))
    }

    fn op(&mut self) -> Op {
        let ((at, len), fill) = (self.range(), self.below(255) as u8 + 1);
        match self.below(16) {
            0..=9 => Op::Write(at, len, fill),
            10 => Op::Zero(at, len),
            11 => Op::Discard(at, len),
            12 => Op::Discard(at / BLOCK * BLOCK, (12 * BLOCK).min(LEN - at / BLOCK * BLOCK)),
            _ => Op::Flush,
        }
    }
}

fn op() -> impl Strategy<Value = Op> {
    any::<u64>().prop_map(|seed| Random(seed).op())
}

fn apply(device: &SessionDevice, op: &Op) -> Result<(), BlockError> {
    let place = |at: usize| ByteOffset(at as u64);
    match *op {
        Op::Write(at, len, fill) => device.write_at(place(at), &vec![fill; len]),
        Op::Zero(at, len) => device.write_zeroes(place(at), ByteLen(len as u64)),
        Op::Discard(at, len) => device.discard(place(at), ByteLen(len as u64)),
        Op::Flush => device.flush(),
    }
}

fn apply_to(model: &mut [u8], op: &Op) {
    match *op {
        Op::Write(at, len, fill) => model[at..at + len].fill(fill),
        Op::Zero(at, len) => model[at..at + len].fill(0),
        Op::Discard(at, len) => {
            let end = if at + len == LEN { LEN } else { (at + len) / BLOCK * BLOCK };
            let start = at.next_multiple_of(BLOCK);
            if start < end {
                model[start..end].fill(0);
            }
        }
        Op::Flush => {}
    }
}

fn content(device: &SessionDevice) -> Vec<u8> {
    let mut bytes = vec![0xee; LEN];
    device.read_at(ByteOffset(0), &mut bytes).expect("reading everything");
    bytes
}

fn create(dir: &SimDir) -> Result<SessionDevice, BlockError> {
    SessionDevice::create(Arc::new(dir.clone()), Arc::new(Base), SessionId([9; 16]), DIGEST)
}

fn open(dir: &SimDir) -> Result<(SessionDevice, Recovery), BlockError> {
    SessionDevice::open(Arc::new(dir.clone()), Arc::new(Base), &DIGEST)
}

/// The map, the dirty list and the block status must say what reading says.
fn check_maps(device: &SessionDevice, content: &[u8]) {
    let mut from_extents = Base::content();
    from_extents.resize(40 * BLOCK, 0);
    for extent in device.extents(SourceIndex(0)) {
        let start = extent.range.start.offset().0 as usize;
        let bytes = &mut from_extents[start..start + extent.range.count.bytes().0 as usize];
        match extent.target {
            Target::Zero => bytes.fill(0),
            Target::Source { at, .. } => {
                device.data_file().read_exact_at(bytes, at.offset().0).expect("slot")
            }
        }
    }
    assert!(from_extents[..LEN] == *content);
    let dirty = device.dirty();
    assert!(dirty.windows(2).all(|pair| pair[0].end() < pair[1].start));
    let base = Base::content();
    for block in (0..40).filter(|&b| !dirty.iter().any(|range| range.contains(BlockNo(b)))) {
        let bytes = block as usize * BLOCK..((block as usize + 1) * BLOCK).min(LEN);
        assert!(content[bytes.clone()] == base[bytes]);
    }
    let mut at = 0;
    while at < LEN {
        let rest = ByteLen((LEN - at) as u64);
        let (len, kind) = device.status(ByteOffset(at as u64), rest).expect("status");
        let bytes = &content[at..at + len.0 as usize];
        assert!(kind == RangeKind::Data || bytes.iter().all(|&byte| byte == 0));
        at += len.0 as usize;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn does_what_a_plain_array_does(rounds in prop::collection::vec(prop::collection::vec(op(), 0..60), 1..4)) {
        let dir = SimDir::new();
        let mut device = create(&dir).expect("create");
        let mut model = Base::content();
        for ops in rounds {
            for op in ops {
                apply(&device, &op).expect("op");
                apply_to(&mut model, &op);
                prop_assert!(content(&device) == model, "after {op:?}");
            }
            check_maps(&device, &model);
            device.flush().expect("flush");
            drop(device);
            device = open(&dir).expect("open").0;
            prop_assert!(content(&device) == model);
            check_maps(&device, &model);
        }
    }
}

/// Per block: what it may hold after a crash. The first is what the last flush left.
struct Allowed(Vec<Vec<Vec<u8>>>);

impl Allowed {
    fn only(content: &[u8]) -> Self {
        Self(content.chunks(BLOCK).map(|block| vec![block.to_vec()]).collect())
    }

    fn add(&mut self, content: &[u8]) {
        for (allowed, block) in self.0.iter_mut().zip(content.chunks(BLOCK)) {
            if !allowed.iter().any(|known| known == block) {
                allowed.push(block.to_vec());
            }
        }
    }

    fn check(&self, content: &[u8]) {
        for (number, (allowed, block)) in self.0.iter().zip(content.chunks(BLOCK)).enumerate() {
            assert!(allowed.iter().any(|known| known == block), "block {number}");
        }
    }
}

/// Runs a workload into a power cut. Returns what may be there afterwards.
fn run_until_cut(dir: &SimDir, device: &SessionDevice, random: &mut Random) -> Allowed {
    let mut model = content(device);
    let mut allowed = Allowed::only(&model);
    dir.stop_after(random.below(400) as u64, ErrorKind::Other);
    loop {
        let op = random.op();
        apply_to(&mut model, &op);
        allowed.add(&model);
        match apply(device, &op) {
            Ok(()) if matches!(op, Op::Flush) => allowed = Allowed::only(&model),
            Ok(()) => {}
            Err(_) => return allowed,
        }
    }
}

/// Counts what the crash tests met, so that they are known to meet it.
#[derive(Default, Debug)]
struct Met {
    dropped: u64,
    checked: u64,
    interrupted_opens: u64,
    compactions: u64,
}

fn crash_run(seed: u64, met: &mut Met) {
    let mut random = Random(seed);
    let mut dir = SimDir::new();
    let mut device = create(&dir).expect("create");
    for round in 0..4 {
        let allowed = run_until_cut(&dir, &device, &mut random);
        met.compactions += u64::from(device.log.lock().expect("lock").compacted > 0);
        let cut = seed * 4 + round;
        let (clean, recovery) = open(&dir.crash(cut)).expect("recovery");
        let found = content(&clean);
        allowed.check(&found);
        check_maps(&clean, &found);
        met.dropped += recovery.dropped_commits;
        met.checked += recovery.checked_commits;
        dir = dir.crash(cut);
        for again in 0..random.below(3) as u64 {
            dir.stop_after(random.below(20) as u64, ErrorKind::Other);
            met.interrupted_opens += u64::from(open(&dir).is_err());
            dir = dir.crash(cut ^ (again + 1) << 40);
        }
        device = open(&dir).expect("recovery of a recovery").0;
        assert!(content(&device) == found, "seed {seed}: recovery is idempotent");
    }
}

#[test]
fn no_power_cut_loses_a_flush_or_tears_a_block() {
    let mut met = Met::default();
    for seed in 0..1000 {
        crash_run(seed, &mut met);
    }
    println!("{met:?}");
    assert!(met.dropped > 100 && met.checked > 100, "{met:?}");
    assert!(met.interrupted_opens > 100 && met.compactions > 100, "{met:?}");
}

#[test]
fn a_full_disk_fails_one_write_and_loses_nothing() {
    let mut refused = 0;
    for seed in 0..300 {
        let mut random = Random(seed);
        let dir = SimDir::new();
        let device = create(&dir).expect("create");
        let mut allowed = Allowed::only(&content(&device));
        let mut model = content(&device);
        for _ in 0..40 {
            dir.fail_after(random.below(6) as u64, ErrorKind::StorageFull);
            let op = random.op();
            apply_to(&mut model, &op);
            allowed.add(&model);
            match apply(&device, &op) {
                Ok(()) if matches!(op, Op::Flush) => allowed = Allowed::only(&model),
                Ok(()) => {}
                Err(BlockError::Io { code: Some(28), .. }) => {
                    refused += 1;
                    model = content(&device);
                    allowed.add(&model);
                }
                Err(BlockError::Poisoned) => break,
                Err(error) => panic!("{error}"),
            }
        }
        dir.fail_after(u64::from(u32::MAX), ErrorKind::Other);
        assert!(content(&device) == model || device.core.check().is_err());
        allowed.check(&content(&open(&dir.crash(seed)).expect("open").0));
    }
    assert!(refused > 100);
}

#[test]
fn a_full_disk_can_be_tried_again() {
    let dir = SimDir::new();
    let device = create(&dir).expect("create");
    device.write_at(ByteOffset(0), &[1; BLOCK]).expect("write");
    dir.fail_after(0, ErrorKind::StorageFull);
    let refused = device.write_at(ByteOffset(BLOCK_SIZE), &[2; BLOCK]);
    assert!(matches!(refused, Err(BlockError::Io { code: Some(28), .. })));
    dir.fail_after(0, ErrorKind::StorageFull);
    assert!(matches!(device.flush(), Err(BlockError::Io { code: Some(28), .. })));
    device.write_at(ByteOffset(BLOCK_SIZE), &[3; BLOCK]).expect("write");
    device.flush().expect("flush");
    let (device, _) = open(&dir.crash(1)).expect("open");
    assert!(content(&device)[..2 * BLOCK] == [[1; BLOCK], [3; BLOCK]].concat());
}

#[test]
fn any_other_failure_stops_writes_but_not_reads() {
    for after in 0..4 {
        let dir = SimDir::new();
        let device = create(&dir).expect("create");
        dir.fail_after(after, ErrorKind::Other);
        let write = device.write_at(ByteOffset(0), &[1; BLOCK]);
        let outcome = write.and_then(|()| device.flush());
        assert!(matches!(outcome, Err(BlockError::Io { code: Some(5), .. })), "operation {after}");
        assert!(matches!(device.write_at(ByteOffset(0), &[1; 1]), Err(BlockError::Poisoned)));
        assert!(matches!(device.flush(), Err(BlockError::Poisoned)));
        assert!(matches!(
            device.discard(ByteOffset(0), ByteLen(BLOCK_SIZE)),
            Err(BlockError::Poisoned)
        ));
        assert_eq!(content(&device).len(), LEN);
    }
}

#[test]
fn a_flush_costs_no_more_operations_than_it_needs() {
    let dir = SimDir::new();
    let device = create(&dir).expect("create");
    let cost = |work: &dyn Fn()| {
        let before = dir.operations();
        work();
        dir.operations() - before
    };
    let write = |at: u64, count: usize| {
        device.write_at(ByteOffset(at * BLOCK_SIZE), &vec![1; count * BLOCK]).expect("write");
    };
    let flush = || device.flush().expect("flush");
    write(0, 1);
    flush();
    assert_eq!(cost(&|| write(1, 8)), 1, "one write for a run");
    assert_eq!(cost(&|| write(0, 8)), 2, "one for what is new, one for what is overwritten");
    assert_eq!(cost(&flush), 3, "a record and two syncs");
    assert_eq!(cost(&flush), 0, "nothing to do");
    device.discard(ByteOffset(0), ByteLen(BLOCK_SIZE)).expect("discard");
    assert_eq!(cost(&flush), 2, "no data, no sync of data");
}

#[test]
fn damage_in_the_middle_is_not_taken_for_a_torn_end() {
    let dir = SimDir::new();
    let device = create(&dir).expect("create");
    for block in 0..4 {
        device.write_at(ByteOffset(block * BLOCK_SIZE), &[7; BLOCK]).expect("write");
        device.flush().expect("flush");
    }
    drop(device);
    let index = dir.open_rw(INDEX).expect("open");
    let mut byte = [0];
    index.read_exact_at(&mut byte, 2 * BLOCK_SIZE + 100).expect("read");
    index.write_all_at(&[!byte[0]], 2 * BLOCK_SIZE + 100).expect("write");
    assert!(matches!(open(&dir), Err(BlockError::Corrupt { .. })));
    index.write_all_at(&byte, 2 * BLOCK_SIZE + 100).expect("write");
    open(&dir).expect("mended");
    index.write_all_at(b"X", 0).expect("write");
    assert!(matches!(open(&dir), Err(BlockError::Corrupt { .. })));
    index.set_len(100).expect("cut");
    assert!(matches!(open(&dir), Err(BlockError::Corrupt { .. })));
}

#[test]
fn another_base_is_refused() {
    let dir = SimDir::new();
    drop(create(&dir).expect("create"));
    let other = SessionDevice::open(Arc::new(dir.clone()), Arc::new(Base), &[4; 32]);
    assert!(matches!(other.err(), Some(BlockError::WrongBase { .. })));
}

#[test]
fn a_snapshot_keeps_what_it_refers_to() {
    let dir = SimDir::new();
    let device = create(&dir).expect("create");
    let fill = |byte: u8| {
        for block in 0..30 {
            device.write_at(ByteOffset(block * BLOCK_SIZE), &[byte; BLOCK]).expect("write");
        }
        device.flush().expect("flush");
    };
    fill(1);
    let snapshot = device.snapshot(SourceIndex(0)).expect("snapshot");
    (2..9).for_each(fill);
    let read = || {
        let mut bytes = BTreeMap::new();
        for extent in &snapshot.extents {
            let Target::Source { at, .. } = extent.target else { panic!("data") };
            let mut buf = vec![0; extent.range.count.bytes().0 as usize];
            device.data_file().read_exact_at(&mut buf, at.offset().0).expect("read");
            bytes.insert(extent.range.start.0, buf);
        }
        bytes.into_values().flatten().collect::<Vec<u8>>()
    };
    assert!(read() == vec![1; 30 * BLOCK]);
    drop(snapshot);
    fill(9);
    fill(10);
    let allocated = device.usage().expect("usage").data_allocated.0;
    assert!(allocated <= 70 * BLOCK_SIZE, "{allocated}");
}
