//! Deltas: from a directory to whoever has the older disk, wrong ones included.

use std::ops::{ControlFlow, Range};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use goldleaf_block::{
    BLOCK_SIZE, BlockCount, BlockNo, BlockRange, ByteLen, ByteOffset, FileBlocks, ReadBlocks,
};
use goldleaf_cache::{Cache, Cached, Carried, Supply, SupplyError, Take};
use goldleaf_feed::{Channel, Disk, Pair, Publisher, names};
use goldleaf_fetch::{Destination, Directory};
use goldleaf_host::sim::SimDir;
use goldleaf_host::{Dir, Silent};
use goldleaf_wire::{DeltaEffort, DeltaRef, DiskFile, Effort, Side, WireMap};

/// Blocks of the one file that there is: a pack and a bit.
const BLOCKS: u64 = 4096 + 100;
const EFFORT: DeltaEffort = DeltaEffort { level: 3, threads: 2, unit: ByteLen(1 << 20) };

/// What nothing compresses by itself, and a version of it: a few bytes of each block are others.
fn file(version: u8) -> Vec<u8> {
    let mut bytes: Vec<u8> = Vec::with_capacity((BLOCKS * BLOCK_SIZE) as usize);
    for block in 0..BLOCKS {
        let first = bytes.len();
        for part in 0..BLOCK_SIZE / 32 {
            let seed = [block.to_le_bytes(), part.to_le_bytes()].concat();
            bytes.extend_from_slice(&goldleaf_store::Digest::of(&seed).0);
        }
        bytes[first + (block % 4000) as usize] ^= version;
    }
    bytes
}

/// A feed with two versions of a disk, and a delta between them.
struct Feed {
    dir: SimDir,
    maps: [WireMap; 2],
    delta: DeltaRef,
}

fn publisher(dir: &SimDir) -> Publisher {
    let effort = Effort { level: 1, threads: 2, frame: BlockCount(64) };
    Publisher::new(&Destination::directory(Arc::new(dir.clone()), "the feed"), effort)
}

fn publish(dir: &SimDir, publisher: &mut Publisher, content: &[u8]) -> WireMap {
    let file = SimDir::new().create("disk").unwrap();
    file.write_all_at(content, 0).unwrap();
    let all = [BlockRange::new(BlockNo(0), BlockCount(BLOCKS))];
    let map = publisher.disk(&FileBlocks::new(file).unwrap(), &all, &Silent).unwrap();
    channel(dir).map(&map).unwrap()
}

fn channel(dir: &SimDir) -> Channel {
    Channel::new(Arc::new(Directory::new(Arc::new(dir.clone()), "it")), "office", "stable")
}

fn cache(map: &WireMap, supply: Arc<dyn Supply>) -> Cached {
    let cache = Cache::create(Arc::new(SimDir::new()), "data", &map.packs).unwrap();
    Cached::new(cache.into(), Some(supply))
}

fn feed() -> &'static Feed {
    static FEED: OnceLock<Feed> = OnceLock::new();
    FEED.get_or_init(author)
}

/// As an author makes it, who has nothing but the feed.
fn author() -> Feed {
    let dir = SimDir::new();
    let mut publisher = publisher(&dir);
    let maps = [file(0), file(1)].map(|content| publish(&dir, &mut publisher, &content));
    let extents = [(BlockNo(0), BlockRange::new(BlockNo(0), BlockCount(BLOCKS)))];
    let files = [DiskFile { path: b"a file", extents: &extents }];
    let content = channel(&dir).content();
    let disk =
        |map| Disk { side: Side { map, files: &files }, content: cache(map, content.clone()) };
    let pair = Pair::new(disk(&maps[0]), disk(&maps[1]));
    let delta =
        publisher.delta(&pair, &SimDir::new(), EFFORT, &Silent).unwrap().expect("it is small");
    assert_eq!(publisher.written.delta_bytes, delta.len);
    let len = |map: &WireMap| map.packs.iter().map(|pack| pack.len).sum::<u64>();
    assert!(delta.len * 50 < len(&maps[1]), "{} of {}", delta.len, len(&maps[1]));
    let names: Vec<String> =
        dir.dir(names::DELTAS).unwrap().list().unwrap().into_iter().map(|item| item.name).collect();
    assert_eq!(names, [delta.name.to_string()], "and nothing is left beside it");
    Feed { dir, maps, delta }
}

/// Counts what is asked for, and may lie about deltas.
struct Link {
    content: Arc<dyn Supply>,
    packs: AtomicUsize,
    deltas: AtomicUsize,
    /// Which byte of the delta is wrong, for as long as nobody complains.
    lie: Mutex<Option<u64>>,
}

impl Link {
    fn new(dir: &SimDir, lie: Option<u64>) -> Arc<Self> {
        let content = channel(dir).content();
        let (packs, deltas) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self { content, packs, deltas, lie: Mutex::new(lie) })
    }

    fn asked(&self) -> (usize, usize) {
        (self.packs.load(Ordering::Relaxed), self.deltas.load(Ordering::Relaxed))
    }
}

impl Supply for Link {
    fn stream(
        &self,
        object: Carried,
        range: Range<u64>,
        take: &mut Take<'_>,
    ) -> Result<(), SupplyError> {
        let Carried::Delta(_) = object else {
            self.packs.fetch_add(1, Ordering::Relaxed);
            return self.content.stream(object, range, take);
        };
        self.deltas.fetch_add(1, Ordering::Relaxed);
        let mut at = range.start;
        self.content.stream(object, range, &mut |piece| {
            let mut piece = piece.to_vec();
            let lie = self.lie.lock().unwrap().and_then(|lie| lie.checked_sub(at));
            if let Some(byte) = lie.and_then(|lie| piece.get_mut(lie as usize)) {
                *byte ^= 1;
            }
            at += piece.len() as u64;
            take(&piece)
        })
    }

    fn distrust(&self, _object: Carried) -> bool {
        self.lie.lock().unwrap().take().is_some()
    }
}

fn go_on(_: BlockCount) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// An endpoint that has all of the first version.
fn endpoint(feed: &Feed) -> Cached {
    let old = cache(&feed.maps[0], channel(&feed.dir).content());
    assert!(old.fill(2, &go_on).unwrap());
    old
}

fn assert_content(cached: &Cached, version: u8) {
    let expected = file(version);
    let mut found = vec![0; expected.len()];
    // A disk without a block twice, in its order, is the content of its packs.
    cached.read_at(ByteOffset(0), &mut found).unwrap();
    assert!(found == expected);
    cached.check().unwrap();
}

#[test]
fn a_delta_brings_all_that_is_new() {
    let feed = feed();
    let old = endpoint(feed);
    let link = Link::new(&feed.dir, None);
    let new = cache(&feed.maps[1], link.clone());
    assert!(new.fill_from_delta(&feed.delta, &[old], &go_on).unwrap());
    assert!(new.cache().is_whole());
    assert_eq!(link.asked(), (0, 2), "its head, and all units in one stream");
    assert_content(&new, 1);
    assert_eq!(link.asked(), (0, 2), "and nothing for the indexes of packs");
}

#[test]
fn it_goes_on_where_it_was_cut_off() {
    let feed = feed();
    let old = [endpoint(feed)];
    let link = Link::new(&feed.dir, None);
    let new = cache(&feed.maps[1], link.clone());
    let half = |arrived: BlockCount| match arrived.0 > BLOCKS / 2 {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    };
    assert!(!new.fill_from_delta(&feed.delta, &old, &half).unwrap());
    let arrived = new.cache().arrived();
    assert!(arrived.0 > BLOCKS / 2 && arrived.0 < BLOCKS, "{arrived}");
    let told = Mutex::new(Vec::new());
    let note = |arrived| {
        told.lock().unwrap().push(arrived);
        ControlFlow::Continue(())
    };
    assert!(new.fill_from_delta(&feed.delta, &old, &note).unwrap());
    assert!(told.lock().unwrap()[0] > arrived, "what was here does not come again");
    assert_content(&new, 1);
    assert_eq!(link.asked().0, 0);
}

/// A wrong byte anywhere: the head, the first unit, the last.
#[test]
fn who_lies_is_not_asked_again() {
    let feed = feed();
    let old = [endpoint(feed)];
    for lie in [0, 9, 40, feed.delta.len / 2, feed.delta.len - 1] {
        let link = Link::new(&feed.dir, Some(lie));
        let new = cache(&feed.maps[1], link.clone());
        assert!(new.fill_from_delta(&feed.delta, &old, &go_on).unwrap(), "{lie}");
        assert!(link.lie.lock().unwrap().is_none(), "{lie}: nobody complained");
        assert_content(&new, 1);
        assert_eq!(link.asked().0, 0, "{lie}");
    }
}

#[test]
fn what_it_cannot_bring_comes_from_the_packs() {
    let feed = feed();
    // Nothing of the old version is here; half of it is; it went bad, and cannot be brought.
    let bare = || cache(&feed.maps[0], channel(&feed.dir).content());
    let half = bare();
    let stop = |_| ControlFlow::Break(());
    assert!(!half.fill(1, &stop).unwrap());
    let bad = Cache::create(Arc::new(SimDir::new()), "data", &feed.maps[0].packs).unwrap();
    let bad = Arc::new(bad);
    assert!(Cached::new(bad.clone(), Some(channel(&feed.dir).content())).fill(1, &go_on).unwrap());
    for at in 0..BLOCKS {
        bad.content().write_all_at(&[0xaa; 8], at * BLOCK_SIZE + 4080).unwrap();
    }
    let bad = Cached::new(bad, None);
    for old in [vec![], vec![bare()], vec![half], vec![bad]] {
        let link = Link::new(&feed.dir, None);
        let new = cache(&feed.maps[1], link.clone());
        assert!(new.fill_from_delta(&feed.delta, &old, &go_on).unwrap());
        assert!(!new.cache().is_whole());
        assert!(new.fill(2, &go_on).unwrap() && new.cache().is_whole());
        assert!(link.asked().0 > 0);
        assert_content(&new, 1);
    }
}

#[test]
fn another_length_or_another_delta_is_an_error() {
    let feed = feed();
    let old = [endpoint(feed)];
    let new = cache(&feed.maps[1], channel(&feed.dir).content());
    let longer = DeltaRef { len: feed.delta.len + 1, ..feed.delta };
    assert!(new.fill_from_delta(&longer, &old, &go_on).is_err());
    let other = DeltaRef { name: goldleaf_store::Digest::of(b"another"), ..feed.delta };
    assert!(new.fill_from_delta(&other, &old, &go_on).is_err());
    assert_eq!(new.cache().arrived(), BlockCount(0));
}

#[test]
fn a_delta_that_is_no_smaller_is_none() {
    let dir = SimDir::new();
    let mut publisher = publisher(&dir);
    let zeroes = vec![0; (BLOCKS * BLOCK_SIZE) as usize];
    let maps = [zeroes, file(1)].map(|content| publish(&dir, &mut publisher, &content));
    let content = channel(&dir).content();
    let disk = |map| Disk { side: Side { map, files: &[] }, content: cache(map, content.clone()) };
    let pair = Pair::new(disk(&maps[0]), disk(&maps[1]));
    assert_eq!(publisher.delta(&pair, &SimDir::new(), EFFORT, &Silent).unwrap(), None);
    // Nothing is new.
    let pair = Pair::new(disk(&maps[1]), disk(&maps[1]));
    assert_eq!(publisher.delta(&pair, &SimDir::new(), EFFORT, &Silent).unwrap(), None);
    assert!(dir.dir(names::DELTAS).is_err(), "nothing was put there");
}
