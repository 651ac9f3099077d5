//! The smallest guest there is: a file system whose every state is sound, and a home on a simulated
//! storage in which the player's own code works with it.
//!
//! ```text
//!   disk   block  0 … 3    file 0        four blocks a file; the file is there when its first
//!                 4 … 7    file 1        block is not all zeroes
//!                  …
//!                  24      the composer's, from the metadata file
//! ```
//! What a worker would make of ext4 is here a few lines, so that no process is needed. Whatever
//! bytes a guest writes, the disk means something.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use goldleaf_block::{
    BlockCount, BlockError, BlockNo, BlockRange, ByteOffset, ExtentMap, FileBlocks, MapDevice,
    MapExtent, ReadBlocks, SourceIndex, Target,
};
use goldleaf_host::sim::SimDir;
use goldleaf_host::{Clock, Entropy, File, Progress, Silent};
use goldleaf_image::{VersionRecord, canonical_digest};
use goldleaf_layer::{
    Content, ContentExtent, Entry, EntryAttrs, EntryNode, Kind, Layer, LayerEditor, Owner,
    VersionMeta,
};
use goldleaf_player::apps::{self, AppsVersion};
use goldleaf_player::desktop::{self, Harvest, Harvested, Hex, Packs, Stack, StoreName, TakeItem};
use goldleaf_player::jobs::{ComposeJob, Composition, Jobs, Reading};
use goldleaf_player::livepc::{self, NewLivePc};
use goldleaf_player::{Home, PlayerError};
use goldleaf_tree::{GuestPath, NodeKind, Timestamp};
use goldleaf_worker::protocol::{
    ComposeReply, DiskReport, DiskRun, Fate, HarvestReply, Item, SealReport,
};
use goldleaf_worker::{Launcher, WorkerUsage};

use crate::Result;
use crate::dice::Dice;
use crate::storage::oracle::BLOCK;

/// Files that there can be.
pub const FILES: usize = 6;
/// Blocks of a file.
const FILE_BLOCKS: u64 = 4;
/// Bytes of a file.
pub const FILE_LEN: usize = FILE_BLOCKS as usize * BLOCK;
/// Bytes of a disk.
pub const DISK_LEN: usize = FILES * FILE_LEN + BLOCK;
/// The file that an apps layer has, where there is one.
pub const APPS_FILE: usize = FILES - 1;
/// What the composer's block is filled with.
pub const COMPOSED: u8 = 0xC3;
/// Names of what there is one of.
pub const IMAGE: &str = "golden";
/// The desktop.
pub const DESKTOP: &str = "desk";
const LIVEPC: &str = "office";
const LAYER: &str = "tools";

/// The path of a file; two directories, a layer each.
pub fn path(file: usize) -> String {
    format!("{}/f{file}", if file % 2 == 0 { "home" } else { "var" })
}

fn layer(file: usize) -> Kind {
    if file % 2 == 0 { Kind::UserData } else { Kind::Local }
}

fn guest_path(file: usize) -> std::result::Result<GuestPath, PlayerError> {
    GuestPath::parse(path(file)).map_err(|error| PlayerError::Refused(error.to_string()))
}

fn file_of(path: &GuestPath) -> std::result::Result<Option<usize>, PlayerError> {
    for file in 0..FILES {
        if guest_path(file)? == *path {
            return Ok(Some(file));
        }
    }
    Ok(None)
}

/// The blocks of a file.
fn range(file: usize) -> BlockRange {
    BlockRange::new(BlockNo(file as u64 * FILE_BLOCKS), BlockCount(FILE_BLOCKS))
}

/// What a device has of a file; `None` when it is not there.
fn read(device: &dyn ReadBlocks, file: usize) -> std::result::Result<Option<Vec<u8>>, BlockError> {
    let mut bytes = vec![0; FILE_LEN];
    device.read_at(ByteOffset((file * FILE_LEN) as u64), &mut bytes)?;
    Ok(bytes[..BLOCK].iter().any(|byte| *byte != 0).then_some(bytes))
}

/// In the place of workers.
struct Toy;

impl Jobs for Toy {
    fn compose(
        &self,
        _home: &Home,
        order: ComposeJob<'_>,
        _progress: &dyn Progress,
    ) -> std::result::Result<Composition, PlayerError> {
        let images = order.stack.image.files.len() as u32;
        let mut packs = Packs::default();
        let (mut files, mut entries) = (BTreeMap::new(), 0);
        for (_, store, layer) in order.stack.layers() {
            for item in layer.walk(order.stack.store(store)) {
                let (path, entry) = item?;
                entries += 1;
                if let Some(file) = file_of(&path)? {
                    files.insert(file, (store, entry));
                }
            }
        }
        let mut extents = Vec::new();
        for (file, (store, entry)) in files {
            let content = match entry.node {
                EntryNode::Whiteout => Content::default(),
                EntryNode::Node { content, .. } => content,
            };
            let first_pack = images + 1;
            place(order.stack, store, file, &content, &mut packs, first_pack, &mut extents)?;
        }
        let what = PlayerError::io("writing metadata");
        order.metadata.write_all_at(&[COMPOSED; BLOCK], 0).map_err(what)?;
        let target = Target::Source { source: SourceIndex(images), at: BlockNo(0) };
        let last = BlockRange::new(range(FILES).start, BlockCount(1));
        extents.push(MapExtent { range: last, target });
        let reply = ComposeReply {
            extents,
            metadata_blocks: 1,
            below: Vec::new(),
            dormant: Vec::new(),
            reports: Vec::new(),
            notes: Vec::new(),
            stale: false,
        };
        Ok(Composition { reply, packs, entries, usage: WorkerUsage::default() })
    }

    fn harvest<'a>(
        &self,
        _home: &Home,
        order: &'a Harvest<'a>,
    ) -> std::result::Result<Box<dyn Reading + 'a>, PlayerError> {
        Ok(Box::new(ToyReading(order)))
    }

    /// In the canonical form, files that are not there are zeroes.
    fn judge(
        &self,
        _home: &Home,
        map: &ExtentMap,
        files: &[Arc<dyn File>],
    ) -> std::result::Result<(DiskReport, SealReport), PlayerError> {
        let sources = files.iter().map(|file| Ok(Arc::new(FileBlocks::new(file.clone())?) as _));
        let sources = sources.collect::<std::result::Result<Vec<_>, BlockError>>()?;
        let disk = MapDevice::new(Arc::new(map.clone()), sources)?;
        let mut zeroes = Vec::new();
        for file in 0..FILES {
            if read(&disk, file)?.is_none() {
                zeroes.push(range(file));
            }
        }
        let report = DiskReport {
            volumes: Vec::new(),
            problems: Vec::new(),
            remarks: Vec::new(),
            os: "Toy".into(),
            identity: Vec::new(),
            root_partition: None,
        };
        Ok((report, SealReport { files: (FILES - zeroes.len()) as u64, zeroes }))
    }
}

/// A session that the toy reads back.
struct ToyReading<'a>(&'a Harvest<'a>);

impl Reading for ToyReading<'_> {
    fn collect(
        self: Box<Self>,
        take: &mut TakeItem<'_>,
        _progress: &dyn Progress,
    ) -> std::result::Result<Harvested, PlayerError> {
        let order = self.0;
        let (before, image) = (order.composed.device()?, order.stack.image.device()?);
        let apps = delivered(order.stack)?;
        let mut items = BTreeMap::new();
        for file in 0..FILES {
            let (was, is) = (read(&before, file)?, read(&order.view.device, file)?);
            if was == is {
                continue;
            }
            let below = match &apps {
                Some(bytes) if file == APPS_FILE => Some(bytes.clone()),
                _ => read(&image, file)?,
            };
            let (layer, runs) = (layer(file), vec![whole(file)]);
            let fate = match &is {
                same if *same == below => Fate::Forget,
                Some(_) => Fate::Keep { layer, entry: entry(), runs },
                None => Fate::Keep { layer, entry: whiteout(), runs: Vec::new() },
            };
            let (present, existed) = (is.is_some(), was.is_some());
            let (path, why) = (guest_path(file)?, String::new());
            let size = if present { FILE_LEN as u64 } else { 0 };
            items.insert(path.clone(), Item { path, present, existed, size, fate, why });
        }
        let reply = HarvestReply {
            records: Vec::new(),
            notes: Vec::new(),
            summary: Default::default(),
            explained: true,
            replayed: 0,
            hibernated: false,
        };
        items.into_values().try_for_each(take)?;
        Ok(Harvested { reply, usage: WorkerUsage::default() })
    }
}

/// What the apps layer has of its file, if there is one.
fn delivered(stack: &Stack) -> std::result::Result<Option<Vec<u8>>, PlayerError> {
    let Some((_, _, layer)) = stack.apps.first() else { return Ok(None) };
    for item in layer.walk(&stack.public) {
        let EntryNode::Node { content, .. } = item?.1.node else { continue };
        let Some(place) = content.extents.first().and_then(|one| stack.public.blob(&one.blob))
        else {
            return Err(PlayerError::Refused("content of the apps layer is missing".into()));
        };
        let mut bytes = vec![0; FILE_LEN];
        stack.public.pack_blocks(place.pack)?.read_at(place.at.offset(), &mut bytes)?;
        return Ok(Some(bytes));
    }
    Ok(None)
}

/// Makes an apps layer with one file, in a pack most of which nothing names.
fn deliver(home: &Home, bytes: &[u8]) -> Result<()> {
    let store = home.public()?;
    let mut writer = store.writer()?;
    let mut put = |bytes: &[u8]| {
        writer.put_blob(BlockCount(FILE_BLOCKS), &mut |buf| {
            buf.copy_from_slice(bytes);
            Ok(())
        })
    };
    [1, 2].into_iter().try_for_each(|fill| put(&[fill; FILE_LEN]).map(drop))?;
    let (file_block, blob_block, blob) = (0, 0, put(bytes)?);
    let extents = vec![ContentExtent { file_block, blocks: FILE_BLOCKS, blob, blob_block }];
    let mut entry = entry();
    if let EntryNode::Node { content, .. } = &mut entry.node {
        content.extents = extents;
    }
    let mut editor = LayerEditor::new(&store, &Layer::empty(Kind::Apps))?;
    editor.put(&guest_path(APPS_FILE)?, entry)?;
    let (created, cause) = (home.clock.now_unix().as_secs(), String::from("made"));
    let meta = VersionMeta { created, cause: cause.clone(), records: Vec::new() };
    let digest = Hex(editor.commit(&mut writer, meta)?);
    let _filed = writer.finish()?;
    apps::add_version(home, LAYER, IMAGE, |number| AppsVersion {
        number,
        digest,
        image_version: 1,
        created_unix_secs: created,
        cause,
        entries: 1,
        bytes: FILE_LEN as u64,
    })?;
    Ok(())
}

/// Maps a file's content to where it lies; what no run covers is zeroes.
fn place(
    stack: &Stack,
    store: StoreName,
    file: usize,
    content: &Content,
    packs: &mut Packs,
    first_pack: u32,
    extents: &mut Vec<MapExtent>,
) -> std::result::Result<(), PlayerError> {
    let first = range(file).start;
    let mut push = |from: u64, to: u64, target: Target| {
        if from < to {
            let range = BlockRange::new(BlockNo(first.0 + from), BlockCount(to - from));
            extents.push(MapExtent { range, target });
        }
    };
    let mut at = 0;
    for extent in &content.extents {
        let missing = || PlayerError::Refused(format!("content {} is missing", extent.blob));
        let there = stack.store(store).blob(&extent.blob).ok_or_else(missing)?;
        let source = SourceIndex(first_pack + packs.index(store, there.pack));
        push(at, extent.file_block, Target::Zero);
        at = extent.file_block + extent.blocks;
        let target = Target::Source { source, at: BlockNo(there.at.0 + extent.blob_block) };
        push(extent.file_block, at, target);
    }
    push(at, FILE_BLOCKS, Target::Zero);
    Ok(())
}

fn whole(file: usize) -> DiskRun {
    DiskRun { file_block: 0, blocks: FILE_BLOCKS, disk_block: range(file).start }
}

fn whiteout() -> Entry {
    let node = EntryNode::Whiteout;
    Entry { node, package: None, origin: None, digest: None, edit: false }
}

fn entry() -> Entry {
    let now = Timestamp { secs: 0, nanos: 0 };
    let root = Owner::Name("root".into());
    let attrs = EntryAttrs {
        mode: 0o644,
        user: root.clone(),
        group: root,
        mtime: now,
        ctime: now,
        crtime: now,
        flags: 0,
    };
    let node = EntryNode::Node {
        kind: NodeKind::File,
        attrs,
        xattrs: Vec::new(),
        acl_names: Vec::new(),
        content: Content { size: FILE_LEN as u64, extents: Vec::<ContentExtent>::new() },
        target: Vec::new(),
        link: None,
    };
    Entry { node, ..whiteout() }
}

/// A clock that somebody turns, and random numbers that follow from a seed.
pub struct World {
    seconds: AtomicU64,
    dice: Mutex<Dice>,
}

impl World {
    /// From a seed.
    pub fn new(seed: u64) -> Arc<Self> {
        let dice = Mutex::new(Dice::new(seed, 7));
        Arc::new(Self { seconds: AtomicU64::new(1_800_000_000), dice })
    }

    /// Lets time go by.
    pub fn wait(&self, seconds: u64) {
        self.seconds.fetch_add(seconds, Ordering::Relaxed);
    }

    /// A home in a directory.
    pub fn home(self: &Arc<Self>, dir: &SimDir) -> std::result::Result<Home, PlayerError> {
        let (clock, entropy, jobs) = (self.clone(), self.clone(), Arc::new(Toy));
        let nobody = Launcher::new(PathBuf::new(), Vec::new());
        Ok(Home { clock, entropy, jobs, ..Home::on(Arc::new(dir.clone()), nobody)? })
    }

    /// A home with an image, perhaps an apps layer, a LivePC of them, and a desktop.
    pub fn furnish(
        self: &Arc<Self>,
        dir: &SimDir,
        image: &[u8],
        apps: Option<&[u8]>,
    ) -> Result<()> {
        let home = self.home(dir)?;
        let images = home.images()?;
        let own = images.create(IMAGE)?;
        let file = own.create("0001.data")?;
        file.write_all_at(image, 0)?;
        file.sync_data()?;
        own.sync()?;
        let blocks = BlockCount((DISK_LEN / BLOCK) as u64);
        let target = Target::Source { source: SourceIndex(0), at: BlockNo(0) };
        let range = BlockRange::new(BlockNo(0), blocks);
        let map = ExtentMap::zero(blocks).overlaid(&[MapExtent { range, target }])?;
        let device = MapDevice::new(Arc::new(map.clone()), vec![Arc::new(FileBlocks::new(file)?)])?;
        let version = VersionRecord {
            number: 1,
            digest: canonical_digest(&device, &Silent)?,
            blocks,
            created_unix_secs: home.clock.now_unix().as_secs(),
            cause: "made".into(),
            os: "Toy".into(),
            data: vec!["0001.data".into()],
            identity: Vec::new(),
            volumes: Vec::new(),
        };
        images.add_version(IMAGE, version, &map)?;
        apps.map_or(Ok(()), |bytes| deliver(&home, bytes))?;
        let (name, image) = (LIVEPC.into(), IMAGE.into());
        let layers = apps.iter().map(|_| LAYER.into()).collect();
        let new = NewLivePc { name, image, layers, memory_mib: 64, cpus: 1, rules: None };
        livepc::create(&home, new)?;
        desktop::create(&home, DESKTOP, LIVEPC)?;
        Ok(())
    }
}

impl Clock for World {
    fn now_unix(&self) -> Duration {
        Duration::from_secs(self.seconds.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        self.now_unix()
    }

    fn sleep(&self, _duration: Duration) {}
}

impl Entropy for World {
    fn fill(&self, buf: &mut [u8]) -> io::Result<()> {
        let mut dice = self.dice.lock().unwrap_or_else(PoisonError::into_inner);
        buf.copy_from_slice(&dice.bytes(buf.len()));
        Ok(())
    }
}

/// Every version of a private layer that a desktop's record names, opened.
pub fn versions(
    home: &Home,
) -> std::result::Result<(goldleaf_store::Store, Vec<Layer>), PlayerError> {
    let dir = desktop::directory(home, DESKTOP)?;
    let private = dir.dir("private").map_err(PlayerError::io("opening a store"))?;
    let store = goldleaf_store::Store::open(private)?;
    let record = desktop::peek(home, DESKTOP)?;
    let named = record.layers.values().flat_map(|history| &history.versions);
    let layers = named.map(|version| Layer::open(&store, &version.digest.0));
    let layers = layers.collect::<std::result::Result<_, _>>()?;
    Ok((store, layers))
}
