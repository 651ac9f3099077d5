//! Content that nobody needs goes, and comes back when somebody does.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use goldleaf_block::{BlockCount, BlockNo, BlockRange};
use goldleaf_cache::{Cache, Cached};
use goldleaf_host::Dir;
use goldleaf_host::sim::SimDir;
use proptest::prelude::*;

use crate::reading::{BLOCKS, fresh, read, refs};

fn range(start: u64, count: u64) -> BlockRange {
    BlockRange::new(BlockNo(start), BlockCount(count))
}

fn go_on(_: BlockCount) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn open(dir: &SimDir) -> Arc<Cache> {
    Arc::new(Cache::open(Arc::new(dir.clone()), "c").unwrap().unwrap())
}

#[test]
fn only_frames_that_nothing_needs_go() {
    let (disk, server) = fresh();
    let dir = SimDir::new();
    Cache::create(Arc::new(dir.clone()), "c", &refs(&server)).unwrap();
    Cached::new(open(&dir), Some(server.clone())).fill(2, &go_on).unwrap();
    // One block of the first pack's third frame, and all of the last pack.
    let needed = [range(130, 1), range(2 * 4096, 70)];
    let cache = open(&dir);
    let spare = cache.spare(needed).unwrap();
    assert_eq!(spare, [range(0, 128), range(192, 2 * 4096 - 192)]);
    cache.give_up(&spare).unwrap();
    assert_eq!(open(&dir).arrived(), BlockCount(64 + 70));
    let file = dir.open("c").unwrap();
    assert_eq!(file.allocated().unwrap(), (64 + 70) * 4096);
    assert_eq!(cache.spare(needed).unwrap(), []);

    // What is needed is whole and sound, offline too, and nothing is brought for it.
    let asked = server.asked.load(Ordering::Relaxed);
    let device = Cached::new(open(&dir), Some(server.clone())).wanting(needed);
    assert_eq!((device.wanted().0, device.arrived().0, device.is_whole()), (71, 71, true));
    device.check().unwrap();
    assert!(device.fill(2, &go_on).unwrap());
    assert_eq!(read(&device, 130 * 4096, 4096).unwrap(), disk[130 * 4096..131 * 4096]);
    assert_eq!(server.asked.load(Ordering::Relaxed), asked);
    read(&Cached::new(open(&dir), None), 0, 1).unwrap_err();
    // The rest comes back.
    let all = Cached::new(open(&dir), Some(server));
    assert!(!all.is_whole() && all.fill(1, &go_on).unwrap());
    assert_eq!(read(&all, 0, disk.len()).unwrap(), disk);
}

#[test]
fn no_more_is_brought_than_what_is_wanted() {
    let (disk, server) = fresh();
    let dir = SimDir::new();
    Cache::create(Arc::new(dir.clone()), "c", &refs(&server)).unwrap();
    let device = Cached::new(open(&dir), Some(server)).wanting([range(4096 + 640, 65)]);
    assert!(device.fill(2, &go_on).unwrap() && device.is_whole());
    assert_eq!((device.arrived().0, device.cache().arrived().0), (65, 128));
    let found = read(&device, (4096 + 640) * 4096, 65 * 4096).unwrap();
    assert_eq!(found, disk[(4096 + 640) * 4096..][..65 * 4096]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Wherever a power cut comes, what is needed is there offline, no bit speaks of a hole, and
    /// giving up again comes to the same end.
    #[test]
    fn a_power_cut_leaves_no_bit_over_a_hole(
        seed in any::<u64>(),
        stop in 0u64..8,
        start in 0u64..BLOCKS - 300,
        count in 1u64..300,
    ) {
        let (disk, server) = fresh();
        let dir = SimDir::new();
        Cache::create(Arc::new(dir.clone()), "c", &refs(&server)).unwrap();
        Cached::new(open(&dir), Some(server)).fill(1, &go_on).unwrap();
        let needed = [range(start, count)];
        let cache = open(&dir);
        let spare = cache.spare(needed).unwrap();
        dir.stop_after(stop, std::io::ErrorKind::Other);
        let _ = cache.give_up(&spare);
        let after = dir.crash(seed);
        Cached::new(open(&after), None).check().unwrap();
        let again = open(&after);
        again.give_up(&again.spare(needed).unwrap()).unwrap();
        let kept = (start + count).div_ceil(64).min(BLOCKS.div_ceil(64)) * 64;
        let kept = kept.min(BLOCKS) - start / 64 * 64;
        prop_assert_eq!(after.open("c").unwrap().allocated().unwrap(), kept * 4096);
        let device = Cached::new(open(&after), None).wanting(needed);
        prop_assert!(device.is_whole());
        let found = read(&device, start * 4096, (count * 4096) as usize).unwrap();
        prop_assert_eq!(found, disk[(start * 4096) as usize..][..(count * 4096) as usize].to_vec());
    }
}
