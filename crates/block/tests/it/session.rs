//! The session log on real files.

use std::sync::Arc;

use goldleaf_block::{
    BLOCK_SIZE, BlockCount, BlockNo, BlockRange, ByteLen, ByteOffset, ExtentMap, FileBlocks,
    MapDevice, ReadBlocks, SessionDevice, SessionId, SourceIndex, WriteBlocks,
};
use goldleaf_host::{Dir, RealDir};

const MIB: u64 = 1 << 20;
const DIGEST: [u8; 32] = [5; 32];

struct Bench {
    scratch: tempfile::TempDir,
    base: Arc<dyn ReadBlocks>,
}

impl Bench {
    fn new(blocks: u64) -> Self {
        let map = Arc::new(ExtentMap::zero(BlockCount(blocks)));
        let base = Arc::new(MapDevice::new(map, Vec::new()).expect("base"));
        Self { scratch: tempfile::tempdir().expect("scratch"), base }
    }

    fn dir(&self) -> Arc<dyn Dir> {
        RealDir::open(self.scratch.path()).expect("dir")
    }

    fn create(&self) -> SessionDevice {
        let id = SessionId([1; 16]);
        SessionDevice::create(self.dir(), Arc::clone(&self.base), id, DIGEST).expect("create")
    }

    fn open(&self) -> SessionDevice {
        SessionDevice::open(self.dir(), Arc::clone(&self.base), &DIGEST).expect("open").0
    }
}

fn block(number: u64) -> ByteOffset {
    BlockNo(number).offset()
}

/// Content that says which block it is and which time it was written.
fn stamp(number: u64, version: u64) -> Vec<u8> {
    [number, version].iter().cycle().take(512).flat_map(|n| n.to_le_bytes()).collect()
}

#[test]
fn a_trim_gives_space_back() {
    let bench = Bench::new(64 * 256);
    let device = bench.create();
    device.write_at(block(0), &vec![7; 48 << 20]).expect("write");
    device.flush().expect("flush");
    assert!(device.usage().expect("usage").data_allocated.0 >= 48 * MIB);
    device.discard(block(0), ByteLen(32 * MIB)).expect("discard");
    device.flush().expect("flush");
    let usage = device.usage().expect("usage");
    assert!(usage.data_allocated.0 < 17 * MIB, "{usage:?}");
    assert_eq!((usage.live, usage.punch_failures), (BlockCount(16 * 256), 0));
    let kind = device.status(block(0), ByteLen(48 * MIB)).expect("status");
    assert_eq!(kind.0, ByteLen(32 * MIB));
}

#[test]
fn overwriting_does_not_grow_for_ever() {
    let bench = Bench::new(4 * 256);
    let device = bench.create();
    for version in 0..60 {
        for number in 0..1024 {
            device.write_at(block(number * 389 % 1024), &stamp(number, version)).expect("write");
            if number % 32 == 31 {
                device.flush().expect("flush");
            }
        }
    }
    let usage = device.usage().expect("usage");
    assert!(usage.data_allocated.0 < (4 + 16 + 8) * MIB, "{usage:?}");
    assert!(usage.index.0 < 5 * MIB, "1,920 records of a block, so it was compacted: {usage:?}");
    drop(device);
    let device = bench.open();
    let mut found = vec![0; BLOCK_SIZE as usize];
    for number in 0..1024 {
        device.read_at(block(number * 389 % 1024), &mut found).expect("read");
        assert!(found == stamp(number, 59));
    }
}

#[test]
fn a_finished_session_is_a_map_over_its_data_file() {
    let bench = Bench::new(1000);
    let device = bench.create();
    device.write_at(block(10), &stamp(10, 1)).expect("write");
    device.write_at(ByteOffset(block(500).0 + 100), &[9; 10_000]).expect("write");
    device.write_at(block(30), &stamp(30, 1)).expect("write");
    device.discard(block(30), ByteLen(BLOCK_SIZE)).expect("discard");
    device.flush().expect("flush");
    let range = |start, count| BlockRange::new(BlockNo(start), BlockCount(count));
    assert_eq!(device.dirty(), [range(10, 1), range(30, 1), range(500, 3)]);
    let map = ExtentMap::zero(BlockCount(1000)).overlaid(&device.extents(SourceIndex(0)));
    let source = Arc::new(FileBlocks::new(device.data_file()).expect("source"));
    let sealed = MapDevice::new(Arc::new(map.expect("map")), vec![source]).expect("device");
    let (mut a, mut b) = (vec![1; 1000 * 4096], vec![2; 1000 * 4096]);
    sealed.read_at(ByteOffset(0), &mut a).expect("read");
    device.read_at(ByteOffset(0), &mut b).expect("read");
    assert!(a == b && a.iter().filter(|&&byte| byte == 9).count() == 10_000);
}

/// Readers must never see a punched slot, writers must not lose each other's bytes, and every flush
/// that returned covers what its thread wrote.
#[test]
fn threads_share_a_device() {
    const BLOCKS: u64 = 512;
    let bench = Bench::new(BLOCKS + 1);
    let device = bench.create();
    for number in 0..BLOCKS {
        device.write_at(block(number), &stamp(number, 1)).expect("write");
    }
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let device = &device;
            scope.spawn(move || {
                for version in 2..40 {
                    for number in (0..BLOCKS).filter(|number| number % 2 == thread) {
                        device.write_at(block(number), &stamp(number, version)).expect("write");
                    }
                    let mine = ByteOffset(block(BLOCKS).0 + thread * 512 + version);
                    device.write_at(mine, &[version as u8]).expect("part of a block");
                    device.flush().expect("flush");
                }
            });
            scope.spawn(move || {
                let mut found = vec![0; BLOCK_SIZE as usize];
                for i in 0..40_000 {
                    let number = (i * 31 + thread) % BLOCKS;
                    device.read_at(block(number), &mut found).expect("read");
                    assert_eq!(found[..8], number.to_le_bytes(), "never a hole");
                }
            });
        }
    });
    drop(device);
    let device = bench.open();
    let mut shared = [0; 1024];
    device.read_at(block(BLOCKS), &mut shared).expect("read");
    let mut found = vec![0; BLOCK_SIZE as usize];
    for number in 0..BLOCKS {
        device.read_at(block(number), &mut found).expect("read");
        assert!(found == stamp(number, 39));
    }
    for version in 2..40 {
        assert_eq!([shared[version], shared[512 + version]], [version as u8; 2]);
    }
}
