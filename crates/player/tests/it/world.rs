//! An author with a feed in a directory, what is carried of it to others, and an endpoint that
//! follows that.
//!
//! ```text
//!   author/ ── carry ──▶ carried/ ◀── the attacker
//!                          ▲
//!                   home/ ─┘ the endpoint
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use goldleaf_block::{
    BLOCK_SIZE, BlockCount, BlockNo, BlockRange, ByteLen, ByteOffset, FileBlocks, ReadBlocks,
};
use goldleaf_feed::{
    Channel, FORMAT, LivePcVersion, Location, Object, Offer, PublishedImage, PublishedLayer,
    Publisher, offers, target_name,
};
use goldleaf_fetch::{Destination, Directory};
use goldleaf_host::sim::SimDir;
use goldleaf_host::{Clock, Dir, RealClock, RealDir, Silent, file_from_fd};
use goldleaf_layer::{
    Content, ContentExtent, Entry, EntryAttrs, EntryNode, Kind, Layer, LayerEditor, Owner,
    VersionMeta,
};
use goldleaf_player::feeds::{self, SubscribeOptions, Subscription};
use goldleaf_player::{Home, PlayerError, apps, livepc};
use goldleaf_store::{Digest, Store, pack_file_name};
use goldleaf_tree::{GuestPath, NodeKind, Timestamp};
use goldleaf_trust::{
    Authority, Line, Quorum, ROOT_LIFE, Repository, SigningKey, TARGETS_LIFE, Target, Targets,
};
use goldleaf_wire::Effort;
use goldleaf_worker::Launcher;
use tempfile::TempDir;

/// The feed, and what follows it.
pub const FEED: &str = "office";
const CHANNEL: &str = "stable";
/// What all versions of the layer have in common.
const SAME: BlockCount = BlockCount(256);
const EFFORT: Effort = Effort { level: 1, threads: 2, frame: BlockCount(64) };
/// How much faster the endpoint's clock runs than time does: what is slow is found out in seconds, and
/// a busy machine is not taken for it.
const HASTE: u32 = 6;

fn image_key() -> SigningKey {
    SigningKey::from_seed(&[1; 32])
}

fn online_key() -> SigningKey {
    SigningKey::from_seed(&[2; 32])
}

/// A clock by which all waits are short.
struct Hasty(RealClock);

impl Clock for Hasty {
    fn now_unix(&self) -> Duration {
        self.0.now_unix()
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic() * HASTE
    }

    fn sleep(&self, duration: Duration) {
        self.0.sleep(duration / HASTE);
    }
}

/// Blocks of a disk by number, each with a byte that all of it says.
pub type Blocks = BTreeMap<u64, u8>;

/// The blocks of an ordinary version: one of them is another in each.
pub fn blocks(version: u8) -> Blocks {
    let mut blocks: Blocks = (0..40).map(|block| (block, block as u8 + 1)).collect();
    blocks.insert(7, 100 + version);
    blocks
}

/// A disk as its author has it: sparse, each block unlike the others.
fn disk(blocks: &Blocks, len: BlockCount) -> FileBlocks {
    let file = file_from_fd(tempfile::tempfile().unwrap().into());
    file.set_len(len.bytes().0).unwrap();
    for (block, fill) in blocks {
        file.write_all_at(&content(*block, *fill), block * BLOCK_SIZE).unwrap();
    }
    FileBlocks::new(file).unwrap()
}

/// What fills a block that begins like a qcow2 image over `/etc/passwd`.
pub const QCOW2: u8 = 255;

/// The content of a block: what no other has, and what does not compress.
pub fn content(block: u64, fill: u8) -> Vec<u8> {
    let part = |part: u64| Digest::of(&[block.to_le_bytes(), part.to_le_bytes()].concat()).0;
    let mut content: Vec<u8> = (0..BLOCK_SIZE / 32).flat_map(part).collect();
    content[0] = fill;
    if fill == QCOW2 {
        // Magic number, version, where the name of the file below is, and its length.
        let head = [&b"QFI\xfb\0\0\0\x02"[..], &72u64.to_be_bytes(), &11u32.to_be_bytes()].concat();
        content[..head.len()].copy_from_slice(&head);
        content[72..83].copy_from_slice(b"/etc/passwd");
    }
    content
}

pub fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for item in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(item.file_name());
        match item.file_type().unwrap().is_dir() {
            true => copy_tree(&item.path(), &to),
            false => drop(fs::copy(item.path(), to).unwrap()),
        }
    }
}

/// In memory where there is such a place: what is tried here are attacks, not power cuts.
fn scratch() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// The author.
pub struct Author {
    pub path: PathBuf,
    dir: Arc<dyn Dir>,
    clock: RealClock,
    /// What it publishes next may be anything, once this has changed it.
    pub offered: BTreeMap<u64, Target>,
    maps: Vec<Object>,
}

impl Author {
    fn new(path: PathBuf) -> Self {
        let dir = RealDir::create(&path).unwrap();
        let clock = RealClock::new();
        let author = Self { path, dir, clock, offered: BTreeMap::new(), maps: Vec::new() };
        let mut repository = author.repository();
        let quorum = |key: SigningKey| Quorum { keys: vec![key.public()], threshold: 1 };
        let (root, targets) = (quorum(image_key()), quorum(image_key()));
        let authority = Authority { root, targets, online: quorum(online_key()) };
        let line = Line { organisation: "acme".into(), feed: format!("{FEED}/{CHANNEL}") };
        let until = author.clock.now_unix() + ROOT_LIFE;
        let draft = repository.draft_first_root(&line, &authority, until).unwrap();
        repository.sign(&draft, &image_key()).unwrap();
        author
    }

    fn repository(&self) -> Repository {
        let parts = ["feeds", FEED, CHANNEL, "metadata"];
        let dir = parts.iter().fold(self.dir.clone(), |dir, part| dir.create_dir(part).unwrap());
        Repository::open(dir).unwrap()
    }

    /// Publishes what there is of a disk, in packs of their own where `maps` knows none of it.
    pub fn disk(&mut self, blocks: &Blocks, len: BlockCount) -> Object {
        let mut publisher =
            Publisher::new(&Destination::directory(self.dir.clone(), "the feed"), EFFORT);
        for map in &self.maps {
            publisher.learn(map, &Silent).unwrap();
        }
        let one = |block: &u64| BlockRange::new(BlockNo(*block), BlockCount(1));
        let order: Vec<BlockRange> = blocks.keys().map(one).collect();
        let map = publisher.disk(&disk(blocks, len), &order, &Silent).unwrap();
        self.maps.push(map.clone());
        map
    }

    /// A version over a disk, with a layer of one file.
    pub fn version(&mut self, blocks: &Blocks, len: BlockCount, layer: u8) -> LivePcVersion {
        let map = self.disk(blocks, len);
        let image = PublishedImage {
            line: "golden".into(),
            digest: map.digest.clone(),
            blocks: len,
            created_unix_secs: 1,
            cause: "a test".into(),
            os: "none".into(),
            identity: vec![],
            volumes: vec![],
            map,
            profile: None,
        };
        let layers = vec![self.layer(layer)];
        let (livepc, rules) = (FEED.into(), None);
        LivePcVersion { format: FORMAT, livepc, image, layers, rules, memory_mib: 64, cpus: 1 }
    }

    fn layer(&mut self, fill: u8) -> PublishedLayer {
        let shelf = SimDir::new();
        let store = Store::open(Arc::new(shelf.clone())).unwrap();
        let mut writer = store.writer().unwrap();
        let blob = writer.put_blob(BlockCount(1), &mut |buf| {
            buf.fill(fill);
            Ok(())
        });
        let mut editor = LayerEditor::new(&store, &Layer::empty(Kind::Apps)).unwrap();
        let same = writer.put_blob(SAME, &mut |buf| {
            buf.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at / 4096) as u8);
            Ok(())
        });
        let path = |path| GuestPath::parse(path).unwrap();
        editor.put(&path("opt/tool"), file(blob.unwrap(), BlockCount(1))).unwrap();
        editor.put(&path("opt/same"), file(same.unwrap(), SAME)).unwrap();
        let digest = editor.commit(&mut writer, VersionMeta::default()).unwrap();
        let pack = writer.finish().unwrap().pack.unwrap();
        let file = shelf.open_rw(&pack_file_name(pack)).unwrap();
        let pack_len = file.len().unwrap();
        let blocks = ByteLen(pack_len).blocks();
        file.set_len(blocks.bytes().0).unwrap();
        let mut publisher =
            Publisher::new(&Destination::directory(self.dir.clone(), "the feed"), EFFORT);
        let all = [BlockRange::new(BlockNo(0), blocks)];
        let map = publisher.disk(&FileBlocks::new(file).unwrap(), &all, &Silent).unwrap();
        PublishedLayer {
            name: "tool".into(),
            line: "golden".into(),
            digest: digest.to_string(),
            created_unix_secs: 1,
            cause: "a test".into(),
            entries: 2,
            bytes: 4096 + SAME.bytes().0,
            pack: pack.0.to_string(),
            pack_len,
            map,
        }
    }

    /// Offers a version as the next one, whatever is wrong with it.
    pub fn offer(&mut self, version: &LivePcVersion) {
        let bytes = serde_json::to_vec_pretty(version).unwrap();
        let shelf = self.path.join("versions");
        fs::create_dir_all(&shelf).unwrap();
        fs::write(shelf.join(Digest::of(&bytes).to_string()), &bytes).unwrap();
        self.offer_target(Target::of(&bytes, serde_json::Value::Null));
    }

    /// Offers a target as the next version.
    pub fn offer_target(&mut self, target: Target) {
        let version = self.offered.keys().next_back().map_or(1, |last| last + 1);
        let offer = Offer { version, published_unix_secs: 1, stage: 100, deltas: Vec::new() };
        self.offered.insert(version, offer.over(&target).unwrap());
        self.sign();
    }

    /// Signs what is offered.
    pub fn sign(&self) {
        let named = self.offered.iter().map(|(number, one)| (target_name(*number), one.clone()));
        self.sign_targets(&Targets { targets: named.collect() });
    }

    pub fn sign_targets(&self, targets: &Targets) {
        let (mut repository, now) = (self.repository(), self.clock.now_unix());
        let draft = repository.draft_targets(targets, now + TARGETS_LIFE).unwrap();
        repository.sign(&draft, &image_key()).unwrap();
        repository.publish(&[&online_key()], now).unwrap();
    }

    /// Publishes an ordinary version of the disk.
    pub fn publish(&mut self, number: u8) {
        let version = self.version(&blocks(number), BlockCount(64), number);
        self.offer(&version);
    }

    /// The newest version, as it is published.
    pub fn newest(&self) -> LivePcVersion {
        let carried = Directory::new(self.dir.clone(), "the author's own");
        let targets = self.repository().targets().unwrap().unwrap();
        let (_, target) = offers(&targets).unwrap().pop_last().unwrap().1;
        Channel::new(Arc::new(carried), FEED, CHANNEL).version(&target).unwrap()
    }
}

/// A file that is one blob.
fn file(blob: Digest, blocks: BlockCount) -> Entry {
    let time = Timestamp { secs: 1, nanos: 0 };
    let (user, group) = (Owner::Name("root".into()), Owner::Name("root".into()));
    let attrs =
        EntryAttrs { mode: 0o644, user, group, mtime: time, ctime: time, crtime: time, flags: 0 };
    let run = ContentExtent { file_block: 0, blocks: blocks.0, blob, blob_block: 0 };
    let node = EntryNode::Node {
        kind: NodeKind::File,
        attrs,
        xattrs: Vec::new(),
        acl_names: Vec::new(),
        content: Content { size: blocks.bytes().0, extents: vec![run] },
        target: Vec::new(),
        link: None,
    };
    Entry { node, package: None, origin: None, digest: None, edit: false }
}

/// An author, what is carried, and an endpoint.
pub struct World {
    pub author: Author,
    pub carried: PathBuf,
    pub home: Home,
    pub path: PathBuf,
    pub scratch: TempDir,
}

/// What an endpoint believes, and what runs there.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    believed: Vec<u8>,
    runs: Runs,
}

/// What runs at an endpoint: the LivePC's record, and the content of its disk and layers.
#[derive(Debug, PartialEq, Eq)]
pub struct Runs {
    pub version: u64,
    livepc: livepc::LivePc,
    /// Digest of all that the disk says.
    disk: Digest,
    layers: Vec<Digest>,
}

impl World {
    /// With version 1 published, and nobody who follows.
    pub fn unfollowed() -> Self {
        let scratch = scratch();
        let mut author = Author::new(scratch.path().join("author"));
        author.publish(1);
        let (path, carried) = (scratch.path().join("home"), scratch.path().join("carried"));
        let launcher = Launcher::new("/nowhere".into(), Vec::new());
        let home = Home::open(&path, launcher).unwrap();
        let home = Home { clock: Arc::new(Hasty(RealClock::new())), ..home };
        let world = Self { author, carried, home, path, scratch };
        world.carry();
        world
    }

    /// With version 1, which the endpoint has all of.
    pub fn new() -> Self {
        let world = Self::unfollowed();
        world.subscribe(&[&world.root()]).unwrap();
        world.update().unwrap();
        world
    }

    /// Carries all that the author has, and nothing else.
    pub fn carry(&self) {
        if self.carried.exists() {
            fs::remove_dir_all(&self.carried).unwrap();
        }
        copy_tree(&self.author.path, &self.carried);
    }

    /// Where it is carried, as a person would write it.
    pub fn root(&self) -> String {
        self.carried.to_str().unwrap().into()
    }

    /// Follows the feed from these places.
    pub fn subscribe(&self, roots: &[&str]) -> Result<(), PlayerError> {
        let (feed, channel) = (FEED.into(), CHANNEL.into());
        let options = SubscribeOptions {
            location: Location { root: roots[0].into(), feed, channel },
            mirrors: roots[1..].iter().map(|&root| root.into()).collect(),
            name: FEED.into(),
            root: None,
        };
        feeds::subscribe(&self.home, &options, &Silent).map(drop)
    }

    /// Follows it from other places from now on.
    pub fn follow(&self, roots: &[&str]) {
        let roots = roots.iter().map(|&root| root.into()).collect();
        Subscription::open(&self.home, FEED).unwrap().carry(&self.home, roots).unwrap();
    }

    /// Updates, as a person would who wants it all at once.
    pub fn update(&self) -> Result<(), PlayerError> {
        let subscription = Subscription::open(&self.home, FEED)?;
        let told = |_| ControlFlow::Continue(());
        assert!(subscription.update(&self.home, &Silent, &told)?.is_whole);
        Ok(())
    }

    /// What is believed and what runs: read without anybody who could bring anything.
    pub fn seen(&self) -> Seen {
        let believed = self.path.join("subscriptions").join(FEED).join("believed");
        Seen { believed: fs::read(believed).unwrap(), runs: self.runs() }
    }

    /// What runs.
    pub fn runs(&self) -> Runs {
        let livepc = livepc::get(&self.home, FEED).unwrap();
        let edition = livepc.edition.clone().unwrap();
        let images = self.home.images_here().unwrap();
        let image = images.open(FEED, Some(edition.image_version)).unwrap();
        let device = image.device().unwrap();
        let public = self.home.public().unwrap();
        let layer = |(name, number): (&String, Option<u32>)| {
            let record = apps::get(&self.home, name).unwrap();
            let digest = record.version(number).unwrap().digest.0;
            Layer::open(&public, &digest).unwrap();
            digest
        };
        let layers = livepc.layer_versions().map(layer).collect();
        let disk = Digest::of(&read(&device, 0, device.len().0 as usize));
        Runs { version: edition.version, livepc, disk, layers }
    }

    /// After an attack: the next honest version arrives, and is what its author made.
    pub fn still_updates(&mut self) {
        let number = self.author.offered.len() as u8 + 1;
        self.author.publish(number);
        self.carry();
        self.update().unwrap();
        let expected = read(&disk(&blocks(number), BlockCount(64)), 0, 64 * BLOCK_SIZE as usize);
        let runs = self.runs();
        assert_eq!((runs.version, runs.disk), (number.into(), Digest::of(&expected)));
    }
}

pub fn read(device: &dyn ReadBlocks, at: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    device.read_at(ByteOffset(at), &mut bytes).unwrap();
    bytes
}
