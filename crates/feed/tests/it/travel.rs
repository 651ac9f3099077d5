//! From a disk to a directory, and from the directory to a disk.

use std::ops::ControlFlow;
use std::sync::Arc;

use goldleaf_block::{
    BLOCK_SIZE, BlockCount, BlockNo, BlockRange, ByteOffset, FileBlocks, ReadBlocks,
};
use goldleaf_cache::{Cache, Cached};
use goldleaf_feed::{
    Channel, FORMAT, FeedError, LivePcVersion, Object, PublishedImage, PublishedLayer, Publisher,
    names,
};
use goldleaf_fetch::{Destination, Directory};
use goldleaf_host::sim::SimDir;
use goldleaf_host::{Dir, Silent};
use goldleaf_trust::TrustError;
use goldleaf_wire::{BootProfile, Effort, WireMap};
use proptest::prelude::*;

const EFFORT: Effort = Effort { level: 1, threads: 2, frame: BlockCount(64) };

/// A disk of blocks that say a number; 0 is a block of zeroes.
fn disk(blocks: &[u8]) -> FileBlocks {
    let file = SimDir::new().create("disk").unwrap();
    let bytes: Vec<u8> = blocks.iter().flat_map(|block| [*block; BLOCK_SIZE as usize]).collect();
    file.write_all_at(&bytes, 0).unwrap();
    FileBlocks::new(file).unwrap()
}

fn publisher(dir: &SimDir) -> Publisher {
    Publisher::new(&Destination::directory(Arc::new(dir.clone()), "the feed"), EFFORT)
}

fn publish(publisher: &mut Publisher, blocks: &[u8]) -> Object {
    let all = [BlockRange::new(BlockNo(0), BlockCount(blocks.len() as u64))];
    publisher.disk(&disk(blocks), &all, &Silent).unwrap()
}

fn channel(dir: &SimDir) -> Channel {
    let carried = Directory::new(Arc::new(dir.clone()), "the feed");
    Channel::new(Arc::new(carried), "office", "stable")
}

/// The blocks of a disk, as an endpoint has them.
fn arrive(channel: &Channel, wire: &WireMap) -> Vec<u8> {
    let cache = Cache::create(Arc::new(SimDir::new()), "data", &wire.packs).unwrap();
    let starts: Vec<BlockNo> = cache.packs().map(|(_, at)| at).collect();
    let cached = Cached::new(Arc::new(cache), Some(channel.content()));
    assert!(cached.fill(2, &|_| ControlFlow::Continue(())).unwrap());
    let mut blocks = vec![0; wire.map.blocks().0 as usize];
    for extent in wire.map.extents() {
        let goldleaf_block::Target::Source { source, at } = extent.target else { continue };
        for within in 0..extent.range.count.0 {
            let mut block = vec![0; BLOCK_SIZE as usize];
            let from = starts[source.0 as usize].0 + at.0 + within;
            cached.read_at(ByteOffset(from * BLOCK_SIZE), &mut block).unwrap();
            assert!(block.iter().all(|byte| *byte == block[0]));
            blocks[(extent.range.start.0 + within) as usize] = block[0];
        }
    }
    blocks
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    /// Whatever two versions are, an endpoint gets them, and the second costs what is new in it.
    #[test]
    fn what_arrives_is_what_was_published(
        first in prop::collection::vec(any::<u8>(), 1..300),
        second in prop::collection::vec(any::<u8>(), 1..300),
    ) {
        let dir = SimDir::new();
        let mut author = publisher(&dir);
        let one = publish(&mut author, &first);
        // Another day, another process.
        let mut author = publisher(&dir);
        author.learn(&one, &Silent).unwrap();
        let two = publish(&mut author, &second);
        let is_new = second.iter().any(|block| *block != 0 && !first.contains(block));
        prop_assert_eq!(author.written.packs > 0, is_new);
        let channel = channel(&dir);
        prop_assert_eq!(arrive(&channel, &channel.map(&one).unwrap()), first);
        prop_assert_eq!(arrive(&channel, &channel.map(&two).unwrap()), second);
    }
}

fn version(map: Object) -> LivePcVersion {
    let image = PublishedImage {
        line: "golden".into(),
        digest: "00".into(),
        blocks: BlockCount(3),
        created_unix_secs: 0,
        cause: "a test".into(),
        os: "none".into(),
        identity: vec![],
        volumes: vec![],
        map,
        profile: None,
    };
    let (livepc, layers) = ("office".into(), vec![]);
    LivePcVersion { format: FORMAT, livepc, image, layers, rules: None, memory_mib: 1, cpus: 1 }
}

#[test]
fn nothing_is_believed_that_is_not_vouched_for() {
    let dir = SimDir::new();
    let mut publisher = publisher(&dir);
    let object = publish(&mut publisher, &[1, 2, 3]);
    let profile = BootProfile::new([BlockRange::new(BlockNo(1), BlockCount(2))], BlockCount(3));
    let read_first = publisher.profile(&profile).unwrap();
    let mut published = version(object.clone());
    published.image.profile = Some(read_first.clone());
    let target = publisher.version(&published).unwrap();
    let channel = channel(&dir);
    assert_eq!(channel.version(&target).unwrap(), published);
    assert_eq!(channel.profile(&read_first, BlockCount(3)).unwrap(), profile);
    // It is another disk's.
    let refused = channel.profile(&read_first, BlockCount(2));
    assert!(matches!(refused, Err(FeedError::Wire(_))), "{refused:?}");

    let spoil = |path: String| {
        let (shelf, name) = path.split_once('/').unwrap();
        let file = dir.dir(shelf).unwrap().open_rw(name).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, 20).unwrap();
        file.write_all_at(&[byte[0] ^ 1], 20).unwrap();
    };
    spoil(names::map(&object.name().unwrap()));
    assert!(matches!(channel.map(&object), Err(FeedError::Malformed { .. })));
    spoil(names::profile(&read_first.name().unwrap()));
    let refused = channel.profile(&read_first, BlockCount(3));
    assert!(matches!(refused, Err(FeedError::Malformed { .. })), "{refused:?}");
    let named = goldleaf_store::Digest::parse(&target.hashes["blake3"]).unwrap();
    spoil(names::version(&named));
    let refused = channel.version(&target);
    assert!(
        matches!(refused, Err(FeedError::Trust(TrustError::HashMismatch { .. }))),
        "{refused:?}"
    );
    let gone = Object { digest: "ab".repeat(32), len: 5 };
    assert!(matches!(channel.map(&gone), Err(FeedError::Missing(_))));
}

/// Nobody publishes it.
#[test]
fn a47_a_layer_of_another_image_is_incompatible() {
    let dir = SimDir::new();
    let mut publisher = publisher(&dir);
    let map = publish(&mut publisher, &[1]);
    let mut published = version(map.clone());
    published.layers.push(PublishedLayer {
        name: "tool".into(),
        line: "another".into(),
        digest: "00".into(),
        created_unix_secs: 0,
        cause: "a test".into(),
        entries: 1,
        bytes: 1,
        pack: "00".into(),
        pack_len: 1,
        map,
    });
    assert!(matches!(publisher.version(&published), Err(FeedError::Incompatible { .. })));
    published.layers[0].line = "golden".into();
    publisher.version(&published).unwrap();
}
