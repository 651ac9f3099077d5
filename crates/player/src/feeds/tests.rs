//! A feed in a directory, and a simulated home that follows it: images without a guest in them.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use goldleaf_block::{
    BLOCK_SIZE, BlockCount, BlockNo, BlockRange, ByteOffset, FileBlocks, MapBuilder, MapDevice,
    MapExtent, ReadBlocks, SourceIndex, Target,
};
use goldleaf_feed::{Channel, Publisher};
use goldleaf_fetch::Destination;
use goldleaf_fetch::Directory;
use goldleaf_host::sim::SimDir;
use goldleaf_host::{Dir, RealDir, Silent};
use goldleaf_image::{VersionRecord, canonical_digest};
use goldleaf_wire::{Effort, WireMap};
use goldleaf_worker::Launcher;
use tempfile::TempDir;

use super::SubscriptionRecord;
use crate::Home;
use crate::home::write_record;
use crate::livepc::{self, Edition, LivePc};

/// The subscription of most tests.
pub(crate) const NAME: &str = "followed";
/// Blocks of each disk: ten frames.
pub(crate) const BLOCKS: u64 = 640;

/// A disk that was published.
pub(crate) struct Published {
    pub map: WireMap,
    digest: String,
}

/// A directory that is published into.
pub(crate) struct Shelf {
    pub scratch: TempDir,
    publisher: Publisher,
}

impl Shelf {
    pub fn new() -> Self {
        let scratch = tempfile::tempdir().expect("scratch");
        let dir = RealDir::open(scratch.path()).expect("directory");
        let effort = Effort { level: 1, threads: 1, frame: BlockCount(64) };
        let publisher = Publisher::new(&Destination::directory(dir, "the feed"), effort);
        Self { scratch, publisher }
    }

    pub fn publish(&mut self, disk: &[u8]) -> Published {
        let file = SimDir::new().create("disk").expect("disk");
        file.write_all_at(disk, 0).expect("disk");
        let order = [BlockRange::new(BlockNo(0), BlockCount(BLOCKS))];
        let disk: Arc<dyn ReadBlocks> = Arc::new(FileBlocks::new(file).expect("disk"));
        let map = self.publisher.disk(disk.as_ref(), &order, &Silent).expect("published");
        let target = Target::Source { source: SourceIndex(0), at: BlockNo(0) };
        let mut whole = MapBuilder::new(BlockCount(BLOCKS));
        whole.push(MapExtent { range: order[0], target }).expect("map");
        let device = MapDevice::new(whole.finish().into(), vec![disk]).expect("device");
        let digest = canonical_digest(&device, &Silent).expect("digest");
        let dir = RealDir::open(self.scratch.path()).expect("directory");
        let channel = Channel::new(Arc::new(Directory::new(dir, "it")), "office", "stable");
        Published { map: channel.map(&map).expect("map"), digest }
    }

    pub fn place(&self) -> String {
        self.scratch.path().to_string_lossy().into_owned()
    }
}

/// A disk whose blocks are all unlike: each says which version it is of, as `version` tells.
pub(crate) fn disk(version: impl Fn(u64) -> u64) -> Vec<u8> {
    let block = |number| {
        let text = format!("block {number} of version {} ", version(number));
        text.into_bytes().into_iter().cycle().take(BLOCK_SIZE as usize)
    };
    (0..BLOCKS).flat_map(block).collect()
}

/// The disk of a version: 2 has its own first three frames, 3 its own first two.
pub(crate) fn version(number: u64) -> Vec<u8> {
    disk(|block| match block {
        0..128 => number,
        128..192 => number.min(2),
        _ => 1,
    })
}

pub(crate) fn home(dir: &SimDir) -> Home {
    let launcher = Launcher::new(PathBuf::from("/nowhere"), Vec::new());
    Home::on(Arc::new(dir.clone()), launcher).expect("home")
}

/// Follows what a directory carries.
pub(crate) fn follow(home: &Home, name: &str, place: String) {
    let record = SubscriptionRecord {
        format: 1,
        name: name.into(),
        organisation: "acme".into(),
        feed: "office".into(),
        channel: "stable".into(),
        sources: vec![place],
        lot: 0,
        pinned: None,
        deferred_until: None,
        created_unix_secs: 1,
    };
    let dir = home.sub("subscriptions").expect("shelf").create_dir(name).expect("directory");
    write_record(dir.as_ref(), "subscription.json", &record).expect("record");
    home.dir.sync().expect("sync");
    home.settle("subscriptions", name).expect("sync");
}

/// Receives a version of the image, but for the content.
pub(crate) fn take(home: &Home, name: &str, number: u32, published: &Published) {
    let version = VersionRecord {
        number,
        digest: published.digest.clone(),
        blocks: BlockCount(BLOCKS),
        created_unix_secs: number.into(),
        cause: "a test".into(),
        os: "none".into(),
        data: Vec::new(),
        identity: Vec::new(),
        volumes: Vec::new(),
    };
    home.images().expect("images").add_published(name, version, &published.map).expect("received");
}

/// Receives all of a version.
pub(crate) fn receive(home: &Home, name: &str, number: u32, published: &Published) {
    take(home, name, number, published);
    let image = home.images().expect("images").open(name, Some(number)).expect("image");
    for data in image.published() {
        assert!(data.fill(1, &|_| ControlFlow::Continue(())).expect("filled"));
    }
}

/// Makes a version the one that starts next, and says that a guest came up on it.
pub(crate) fn adopt(home: &Home, name: &str, image_version: u32, layers: &[(&str, u32)]) {
    try_out(home, name, image_version, layers);
    livepc::trial::pass(home, name, image_version.into()).expect("came up");
}

/// Makes a version the one that starts next.
pub(crate) fn try_out(home: &Home, name: &str, image_version: u32, layers: &[(&str, u32)]) {
    let layer_versions = layers.iter().map(|(_, version)| *version).collect();
    let version = image_version.into();
    let livepc = LivePc {
        format: 1,
        name: name.into(),
        image: name.into(),
        layers: layers.iter().map(|(name, _)| name.to_string()).collect(),
        memory_mib: 64,
        cpus: 1,
        created_unix_secs: 1,
        edition: Some(Edition { version, image_version, layer_versions, rules: None }),
        trial: None,
        failed: BTreeSet::new(),
    };
    livepc::adopt(home, &livepc).expect("adopted");
}

/// The disk of a version as it is here.
pub(crate) fn read(home: &Home, name: &str, number: u32) -> Vec<u8> {
    let image = home.images_here().expect("images").open(name, Some(number)).expect("image");
    let mut bytes = vec![0; (BLOCKS * BLOCK_SIZE) as usize];
    image.device().expect("device").read_at(ByteOffset(0), &mut bytes).expect("read");
    bytes
}
