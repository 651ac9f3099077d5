//! Reading a disk before all of it has arrived.

use std::ops::{ControlFlow, Range};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use goldleaf_block::{
    BLOCK_SIZE, BlockCount, BlockError, BlockNo, BlockRange, ByteLen, ByteOffset, FileBlocks,
    ReadBlocks,
};
use goldleaf_cache::{Cache, Cached, Carried, Supply, SupplyError, Take};
use goldleaf_host::Dir;
use goldleaf_host::sim::SimDir;
use goldleaf_wire::{Effort, Known, PackRef, publish};
use proptest::prelude::*;

/// Packs on a server, and what it is asked for.
#[derive(Default)]
pub(crate) struct Server {
    packs: Vec<(PackRef, Vec<u8>)>,
    pub(crate) asked: AtomicUsize,
    lies: AtomicBool,
    distrusted: AtomicUsize,
}

impl Server {
    fn bytes(&self, object: Carried, range: Range<u64>) -> Result<Vec<u8>, SupplyError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let is_it = |(known, _): &&(PackRef, Vec<u8>)| Carried::Pack(known.name) == object;
        let (_, bytes) = self.packs.iter().find(is_it).ok_or("no such pack")?;
        let mut bytes = bytes[range.start as usize..range.end as usize].to_vec();
        if self.lies.load(Ordering::Relaxed) {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }
        Ok(bytes)
    }
}

impl Supply for Server {
    fn stream(
        &self,
        object: Carried,
        range: Range<u64>,
        take: &mut Take<'_>,
    ) -> Result<(), SupplyError> {
        for piece in self.bytes(object, range)?.chunks(10_000) {
            if take(piece).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn distrust(&self, _object: Carried) -> bool {
        // The second source is honest.
        self.distrusted.fetch_add(1, Ordering::Relaxed);
        self.lies.swap(false, Ordering::Relaxed)
    }
}

/// A disk without a block of zeroes, each block unlike the others, and a server that has it. Blocks
/// are published in their order, so the content of the packs is the disk.
fn published(blocks: u64) -> (Vec<u8>, Arc<Server>) {
    let dir = SimDir::new();
    let file = dir.create("disk").unwrap();
    let mut disk = Vec::new();
    for block in 1..=blocks {
        let text = format!("block {block} ");
        disk.extend(text.bytes().cycle().take(BLOCK_SIZE as usize));
    }
    file.write_all_at(&disk, 0).unwrap();
    let packs = Mutex::new(Vec::new());
    let device = FileBlocks::new(file).unwrap();
    let effort = Effort { level: 1, threads: 1, frame: BlockCount(64) };
    let order = [BlockRange::new(BlockNo(0), BlockCount(blocks))];
    publish(&device, &order, &mut Known::default(), effort, &mut |pack, bytes| {
        packs.lock().unwrap().push((*pack, bytes));
        Ok(())
    })
    .unwrap();
    let server = Server { packs: packs.into_inner().unwrap(), ..Server::default() };
    (disk, Arc::new(server))
}

pub(crate) fn refs(server: &Server) -> Vec<PackRef> {
    server.packs.iter().map(|(pack, _)| *pack).collect()
}

pub(crate) fn read(device: &Cached, at: u64, len: usize) -> Result<Vec<u8>, BlockError> {
    let mut buf = vec![0; len];
    device.read_at(ByteOffset(at), &mut buf).map(|()| buf)
}

/// Two packs and a bit.
pub(crate) const BLOCKS: u64 = 2 * 4096 + 70;

fn disk() -> &'static (Vec<u8>, Arc<Server>) {
    static DISK: std::sync::OnceLock<(Vec<u8>, Arc<Server>)> = std::sync::OnceLock::new();
    DISK.get_or_init(|| published(BLOCKS))
}

/// The same disk on a server of its own, to count what it is asked for.
pub(crate) fn fresh() -> (&'static [u8], Arc<Server>) {
    let (disk, server) = disk();
    let packs = server.packs.clone();
    (disk, Arc::new(Server { packs, ..Server::default() }))
}

#[test]
fn what_is_read_is_what_was_published_whatever_is_read_first() {
    let (disk, server) = fresh();
    let dir: Arc<dyn Dir> = Arc::new(SimDir::new());
    let cache = Arc::new(Cache::create(dir, "0001.data", &refs(&server)).unwrap());
    let device = Cached::new(cache.clone(), Some(server.clone()));
    assert_eq!(device.len(), ByteLen(BLOCKS * BLOCK_SIZE));
    let len = disk.len() as u64;
    for (at, part) in [(len - 1, 1), (5, 3), (4096 * BLOCK_SIZE - 3, 6), (64 * BLOCK_SIZE - 1, 2)] {
        assert_eq!(read(&device, at, part).unwrap(), disk[at as usize..at as usize + part]);
    }
    // Three packs and their heads; the reads lie in one, one, two and two frames, two of them the same.
    assert_eq!(server.asked.load(Ordering::Relaxed), 3 + 5);
    assert_eq!(read(&device, 0, disk.len()).unwrap(), disk);
    let asked = server.asked.load(Ordering::Relaxed);
    assert_eq!(read(&device, 0, disk.len()).unwrap(), disk);
    assert_eq!(server.asked.load(Ordering::Relaxed), asked, "what is there is not asked for");
    assert_eq!(cache.arrived().0, BLOCKS);
    let past = read(&device, len - 1, 2);
    assert!(matches!(past, Err(BlockError::OutOfRange { .. })));
}

#[test]
fn what_was_kept_is_read_offline_and_the_rest_is_refused() {
    let (disk, server) = fresh();
    let dir = SimDir::new();
    let open = || Cache::open(Arc::new(dir.clone()), "0001.data").unwrap().unwrap();
    let cache =
        Arc::new(Cache::create(Arc::new(dir.clone()), "0001.data", &refs(&server)).unwrap());
    let device = Cached::new(cache.clone(), Some(server.clone()));
    read(&device, 0, 1).unwrap();
    cache.keep().unwrap();
    let offline = Cached::new(Arc::new(open()), None);
    assert_eq!(offline.cache().arrived().0, 64);
    assert_eq!(read(&offline, 0, 64 * 4096).unwrap(), disk[..64 * 4096]);
    let missing = read(&offline, 64 * 4096, 1);
    assert!(matches!(&missing, Err(BlockError::Io { message, .. }) if message.contains("nowhere")));
    assert!(Cache::open(Arc::new(dir.clone()), "0002.data").unwrap().is_none());
}

#[test]
fn what_another_attempt_left_is_in_nobodys_way() {
    let (disk, server) = fresh();
    let dir = SimDir::new();
    for _ in 0..2 {
        let cache = Cache::create(Arc::new(dir.clone()), "c", &refs(&server)).unwrap();
        let device = Cached::new(Arc::new(cache), Some(server.clone()));
        assert_eq!(device.cache().arrived().0, 0);
        assert_eq!(read(&device, 0, 10).unwrap(), disk[..10]);
        device.cache().keep().unwrap();
    }
}

#[test]
fn what_was_changed_on_the_disk_is_brought_anew() {
    let (disk, server) = fresh();
    let dir = SimDir::new();
    let cache = Cache::create(Arc::new(dir.clone()), "c", &refs(&server)).unwrap();
    let device = Cached::new(Arc::new(cache), Some(server.clone()));
    assert_eq!(read(&device, 0, disk.len()).unwrap(), disk);
    device.cache().keep().unwrap();
    dir.open_rw("c").unwrap().write_all_at(b"!", 70 * 4096 + 9).unwrap();
    let asked = || server.asked.load(Ordering::Relaxed);
    let before = asked();
    let open = || Arc::new(Cache::open(Arc::new(dir.clone()), "c").unwrap().unwrap());
    let offline = Cached::new(open(), None);
    assert!(read(&offline, 64 * 4096, 1).is_err(), "damage is not read");
    assert_eq!(read(&offline, 0, 64 * 4096).unwrap(), disk[..64 * 4096]);
    let again = Cached::new(open(), Some(server.clone()));
    assert_eq!(read(&again, 0, disk.len()).unwrap(), disk);
    assert_eq!(asked(), before + 1, "the damaged frame and no other");
}

#[test]
fn a_source_that_lies_is_left_and_nothing_of_it_is_kept() {
    let (disk, server) = fresh();
    let dir: Arc<dyn Dir> = Arc::new(SimDir::new());
    let cache = Arc::new(Cache::create(dir, "c", &refs(&server)).unwrap());
    let device = Cached::new(cache, Some(server.clone()));
    for at in [0, 70 * 4096] {
        server.lies.store(true, Ordering::Relaxed);
        assert_eq!(read(&device, at, 10).unwrap(), disk[at as usize..at as usize + 10]);
    }
    assert_eq!(server.distrusted.load(Ordering::Relaxed), 2, "a head, and a frame");
}

/// A server that lies whatever it is told.
struct Liar(Arc<Server>);

impl Supply for Liar {
    fn stream(
        &self,
        object: Carried,
        range: Range<u64>,
        take: &mut Take<'_>,
    ) -> Result<(), SupplyError> {
        let mut bytes = self.0.bytes(object, range.clone())?;
        if range.start > 0 {
            bytes[0] ^= 0x80;
        }
        let _ = take(&bytes);
        Ok(())
    }

    fn distrust(&self, _object: Carried) -> bool {
        false
    }
}

#[test]
fn lies_end() {
    let (_, server) = fresh();
    let dir: Arc<dyn Dir> = Arc::new(SimDir::new());
    let cache = Arc::new(Cache::create(dir, "c", &refs(&server)).unwrap());
    let device = Cached::new(cache.clone(), Some(Arc::new(Liar(server.clone()))));
    assert!(matches!(read(&device, 0, 1), Err(BlockError::Corrupt { .. })));
    assert_eq!(server.asked.load(Ordering::Relaxed), 1 + 2);
    assert_eq!(cache.arrived().0, 0);
}

#[test]
fn many_readers_ask_once() {
    let (disk, server) = fresh();
    let dir: Arc<dyn Dir> = Arc::new(SimDir::new());
    let cache = Arc::new(Cache::create(dir, "c", &refs(&server)).unwrap());
    let device = Cached::new(cache, Some(server.clone()));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(read(&device, 0, disk.len()).unwrap(), disk));
        }
    });
    let frames = BLOCKS.div_ceil(64) as usize;
    let asked = server.asked.load(Ordering::Relaxed);
    // Heads are small, and may be asked for by each reader.
    assert!((frames + 3..=frames + 3 * 8).contains(&asked), "{asked} of {frames}");
}

#[test]
fn filling_brings_what_is_missing_in_few_requests() {
    let (disk, server) = fresh();
    let dir = SimDir::new();
    let cache = Cache::create(Arc::new(dir.clone()), "c", &refs(&server)).unwrap();
    let device = Cached::new(Arc::new(cache), Some(server.clone()));
    // Of the first pack the index and a frame are here, and of the second nothing.
    read(&device, 1000 * 4096, 1).unwrap();
    let before = server.asked.load(Ordering::Relaxed);
    let go_on = |_| ControlFlow::Continue(());
    assert!(device.fill(2, &go_on).unwrap());
    assert!(server.asked.load(Ordering::Relaxed) - before <= 4);
    let offline = Arc::new(Cache::open(Arc::new(dir), "c").unwrap().unwrap());
    assert_eq!(offline.arrived(), offline.blocks());
    assert_eq!(read(&Cached::new(offline, None), 0, disk.len()).unwrap(), disk);
}

#[test]
fn what_is_wanted_first_comes_first_and_in_few_requests() {
    let (disk, server) = fresh();
    let dir: Arc<dyn Dir> = Arc::new(SimDir::new());
    let cache = Arc::new(Cache::create(dir, "c", &refs(&server)).unwrap());
    let device = Cached::new(cache.clone(), Some(server.clone()));
    let go_on = |_| ControlFlow::Continue(());
    // Nothing is known of the second pack: its index, and two runs of frames that are far apart
    // would be asked for; these are near. The first comes whole.
    let wanted = [4096 + 640..4096 + 650, 4096 + 640..4096 + 1000, 0..3, 100..101];
    assert!(device.fill_first(&wanted, &go_on).unwrap());
    assert_eq!(server.asked.load(Ordering::Relaxed), 2 + 1);
    let frames = 64 * 1000_u64.div_ceil(64) - 640;
    assert_eq!(cache.arrived().0, frames + 4096);
    assert!(device.fill_first(&wanted, &go_on).unwrap());
    assert_eq!(server.asked.load(Ordering::Relaxed), 3, "what is there is not asked for");
    for blocks in wanted {
        let bytes = blocks.start * BLOCK_SIZE..blocks.end * BLOCK_SIZE;
        let content = &disk[bytes.start as usize..bytes.end as usize];
        assert_eq!(read(&device, bytes.start, content.len()).unwrap(), content);
    }
    assert_eq!(server.asked.load(Ordering::Relaxed), 3);
}

/// Reads the second frame while the first one has just arrived and the stream rests for a while.
/// Returns how often was asked.
fn read_behind_a_stream(rest: Duration) -> usize {
    let (disk, server) = fresh();
    let dir: Arc<dyn Dir> = Arc::new(SimDir::new());
    let cache = Arc::new(Cache::create(dir, "c", &refs(&server)).unwrap());
    let device = Cached::new(cache, Some(server.clone()));
    let (is_first, reader) = (AtomicBool::new(true), device.clone());
    std::thread::scope(|scope| {
        let told = |_| {
            if is_first.swap(false, Ordering::Relaxed) {
                let at = 70 * BLOCK_SIZE;
                let part = &disk[at as usize..at as usize + 10];
                let reader = &reader;
                scope.spawn(move || assert_eq!(read(reader, at, part.len()).unwrap(), part));
                std::thread::sleep(rest);
            }
            ControlFlow::Continue(())
        };
        assert!(device.fill_first(&[0..100, 100..200], &told).unwrap());
    });
    server.asked.load(Ordering::Relaxed)
}

#[test]
fn what_a_stream_is_about_to_bring_is_not_asked_for() {
    assert_eq!(read_behind_a_stream(Duration::from_millis(100)), 1);
    assert_eq!(read_behind_a_stream(Duration::from_millis(1500)), 2, "it did not move");
}

#[test]
fn filling_stops_and_goes_on() {
    let (disk, server) = fresh();
    let dir = SimDir::new();
    Cache::create(Arc::new(dir.clone()), "c", &refs(&server)).unwrap();
    let mut rounds = 0;
    loop {
        let cache = Cache::open(Arc::new(dir.clone()), "c").unwrap().unwrap();
        let before = cache.arrived().0;
        let device = Cached::new(Arc::new(cache), Some(server.clone()));
        let told = |arrived: BlockCount| match arrived.0 < before + 3000 {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        };
        let is_whole = device.fill(1, &told).unwrap();
        assert!(device.cache().arrived().0 > before);
        rounds += 1;
        if is_whole {
            assert_eq!(read(&device, 0, disk.len()).unwrap(), disk);
            break;
        }
    }
    assert_eq!(rounds, 3);
}

#[test]
fn filling_leaves_a_source_that_lies() {
    let (disk, server) = fresh();
    let dir: Arc<dyn Dir> = Arc::new(SimDir::new());
    let cache = Arc::new(Cache::create(dir, "c", &refs(&server)).unwrap());
    let device = Cached::new(cache, Some(server.clone()));
    server.lies.store(true, Ordering::Relaxed);
    assert!(device.fill(1, &|_| ControlFlow::Continue(())).unwrap());
    assert_eq!(server.distrusted.load(Ordering::Relaxed), 1);
    assert_eq!(read(&device, 0, disk.len()).unwrap(), disk);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    /// Whatever a power cut leaves of the files, what is read afterwards is right, and what was kept
    /// is there offline.
    #[test]
    fn a_power_cut_costs_at_most_what_was_not_kept(
        seed in any::<u64>(),
        kept in prop::collection::vec(0u64..BLOCKS, 0..4),
        lost in prop::collection::vec(0u64..BLOCKS, 0..4),
    ) {
        let (disk, server) = fresh();
        let dir = SimDir::new();
        let cache = Cache::create(Arc::new(dir.clone()), "c", &refs(&server)).unwrap();
        let device = Cached::new(Arc::new(cache), Some(server.clone()));
        let block = |at: u64| disk[(at * 4096) as usize..][..4096].to_vec();
        for at in &kept {
            read(&device, at * 4096, 4096).unwrap();
        }
        device.cache().keep().unwrap();
        for at in &lost {
            read(&device, at * 4096, 4096).unwrap();
        }
        let after = dir.crash(seed);
        let open = || Arc::new(Cache::open(Arc::new(after.clone()), "c").unwrap().unwrap());
        let offline = Cached::new(open(), None);
        for at in &kept {
            prop_assert_eq!(read(&offline, at * 4096, 4096).unwrap(), block(*at));
        }
        for at in &lost {
            if let Ok(found) = read(&offline, at * 4096, 4096) {
                prop_assert_eq!(found, block(*at));
            }
        }
        let online = Cached::new(open(), Some(server.clone()));
        for at in kept.iter().chain(&lost) {
            prop_assert_eq!(read(&online, at * 4096, 4096).unwrap(), block(*at));
        }
    }
}
