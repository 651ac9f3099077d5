//! Composed disks: image and layers as one disk that a guest can boot from, without copying data.
//!
//! A composed disk is a cache: `composed/KEY/` holds the metadata that the composer wrote, the
//! extent map over image, metadata and packs, and facts that the harvest will need. KEY names what
//! went in. Nothing of it is synced: after a power cut it is made again, and because composing is
//! deterministic an unfinished session finds the same bytes under its feet; the digest in the
//! facts proves it.

use std::io;
use std::sync::Arc;

use goldleaf_block::{
    BLOCK_SIZE, BlockNo, ExtentMap, FileBlocks, MapDevice, ReadBlocks, SourceIndex,
};
use goldleaf_host::sync::both;
use goldleaf_host::{Dir, File, Progress, read_file};
use goldleaf_layer::merge::{FileState, Note, Record};
use goldleaf_layer::plan::Report;
use goldleaf_layer::{ContentExtent, Digest, Outline, walk_outlines};
use goldleaf_store::{Location, PackId};
use goldleaf_tree::{GuestPath, Timestamp};
use goldleaf_worker::protocol::{ComposeTask, DeriveTask, SentEntry, SourceRun, StackLayer, Task};
use goldleaf_worker::{BATCH, Scale, WorkerError, WorkerUsage};
use serde::{Deserialize, Serialize};

use super::stack::{Handing, Packs, Source, Stack, StoreName, open_pack, pack_id};
use crate::home::step;
use crate::jobs::{ComposeJob, Composition};
use crate::{Home, PlayerError};

/// The time that composed metadata bears: any will do, if it is always the same.
/// 2026-01-01T00:00:00Z.
const COMPOSED_AT: Timestamp = Timestamp { secs: 1_767_225_600, nanos: 0 };
/// Longest map and facts that are read, in bytes.
const MAP_LIMIT: u64 = 512 << 20;

/// A composed disk, opened.
pub struct Composed {
    /// Names what went in.
    pub key: Digest,
    /// The disk over its sources.
    pub map: Arc<ExtentMap>,
    /// Files of the sources, in the order of their indexes.
    pub files: Vec<Arc<dyn File>>,
    /// Devices of the sources.
    pub devices: Vec<Arc<dyn ReadBlocks>>,
    /// What each source is.
    pub sources: Vec<Source>,
    /// What the harvest needs.
    pub facts: Facts,
}

/// `facts`: what was learnt while composing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Facts {
    /// BLAKE3 of the metadata file and the map.
    pub digest: Digest,
    /// The packs among the sources, behind image and metadata.
    packs: Vec<(StoreName, Digest)>,
    /// The merged files beneath the user's layers.
    pub below: Vec<(GuestPath, FileState)>,
    /// Records of the user that found no place.
    pub dormant: Vec<Record>,
    /// What was kept aside, shadowed or superseded.
    pub reports: Vec<Report>,
    /// What the merge handlers have to say.
    pub notes: Vec<Note>,
    /// Entries that were composed.
    pub entries: u64,
    /// Blocks of metadata.
    pub metadata_blocks: u64,
}

impl Composed {
    /// The disk.
    pub fn device(&self) -> Result<MapDevice, PlayerError> {
        Ok(MapDevice::new(self.map.clone(), self.devices.clone())?)
    }
}

/// The composed disk of a stack: from the cache, or made now.
pub fn compose(
    home: &Home,
    desktop: &Arc<dyn Dir>,
    stack: &Stack,
    progress: &dyn Progress,
) -> Result<(Composed, WorkerUsage), PlayerError> {
    let key = stack.key();
    let cache = desktop.create_dir("composed").map_err(PlayerError::io("opening composed"))?;
    if let Some(composed) = cached(&cache, stack, key)? {
        return Ok((composed, WorkerUsage::default()));
    }
    step("composed.make", || make(home, &cache, stack, key, progress))
}

/// The composed disk of a session that was begun, under the key that it had then. While the cache
/// stands, a program that would compose otherwise by now goes on with what is there.
pub fn recompose(
    home: &Home,
    desktop: &Arc<dyn Dir>,
    stack: &Stack,
    key: Digest,
    progress: &dyn Progress,
) -> Result<Composed, PlayerError> {
    let cache = desktop.create_dir("composed").map_err(PlayerError::io("opening composed"))?;
    if let Some(composed) = cached(&cache, stack, key)? {
        return Ok(composed);
    }
    if stack.key() != key {
        return Err(PlayerError::Refused(
            "the session was begun by another release of Goldleaf, and what that composed is lost; \
             finish it with that release, or drop it with `goldleaf start --discard-session`"
                .into(),
        ));
    }
    Ok(step("composed.make", || make(home, &cache, stack, key, progress))?.0)
}

/// A composed disk from the cache; none where a power cut spoilt it.
fn cached(
    cache: &Arc<dyn Dir>,
    stack: &Stack,
    key: Digest,
) -> Result<Option<Composed>, PlayerError> {
    match open(cache, stack, key) {
        Err(PlayerError::Corrupt { .. } | PlayerError::Block(_)) => Ok(None),
        other => other,
    }
}

/// A composed disk from the cache.
fn open(cache: &Arc<dyn Dir>, stack: &Stack, key: Digest) -> Result<Option<Composed>, PlayerError> {
    let dir = match cache.dir(&key.to_string()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(PlayerError::io("opening a composed disk"))?,
    };
    let read = |name: &str| match read_file(dir.as_ref(), name, MAP_LIMIT) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some).map_err(PlayerError::io("reading a composed disk")),
    };
    let (Some(facts), Some(map)) = (read("facts")?, read("map")?) else { return Ok(None) };
    let facts: Facts = decode_facts(&facts)?;
    let metadata = match dir.open("metadata") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(PlayerError::io("opening composed metadata"))?,
    };
    if with_map(metadata_hasher(&metadata)?, &map) != facts.digest {
        return Err(PlayerError::corrupt("a composed disk", "another digest"));
    }
    let mut packs = Packs::default();
    for (store, id) in &facts.packs {
        // A pack that was collected meanwhile: the disk is composed again, over the new one.
        let Some(no) = stack.store(*store).pack_no(PackId(*id)) else { return Ok(None) };
        packs.index(*store, no);
    }
    let parts = Parts::collect(stack, &metadata, &packs)?;
    let map = ExtentMap::from_bytes(&map, &parts.lens())?;
    Ok(Some(parts.into_composed(key, map, facts)))
}

/// The packs that a desktop's composed disks map blocks of. A composed disk that cannot be read
/// pins nothing, for it is made again before it is used; unless `session`, which was begun, stands
/// on it: it must come out the same, from whatever packs it was made, and nobody knows which. Then
/// `None`.
pub fn pinned_packs(
    desktop: &Arc<dyn Dir>,
    session: Option<Digest>,
) -> Result<Option<Vec<(StoreName, Digest)>>, PlayerError> {
    let what = || PlayerError::io("reading composed disks");
    let cache = desktop.create_dir("composed").map_err(what())?;
    let (mut packs, mut is_known) = (Vec::new(), session.is_none());
    for item in cache.list().map_err(what())?.iter().filter(|item| item.is_dir) {
        let dir = match cache.dir(&item.name) {
            // Cleared meanwhile, by a desktop that has made another.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other.map_err(what())?,
        };
        let facts = read_file(dir.as_ref(), "facts", MAP_LIMIT).ok();
        if let Some(facts) = facts.and_then(|bytes| decode_facts(&bytes).ok()) {
            packs.extend(facts.packs);
            is_known |= session.is_some_and(|key| item.name == key.to_string());
        }
    }
    Ok(is_known.then_some(packs))
}

/// Files, devices and kinds of the sources of a composed disk.
struct Parts {
    files: Vec<Arc<dyn File>>,
    devices: Vec<Arc<dyn ReadBlocks>>,
    sources: Vec<Source>,
}

impl Parts {
    fn collect(
        stack: &Stack,
        metadata: &Arc<dyn File>,
        packs: &Packs,
    ) -> Result<Self, PlayerError> {
        let mut parts = Self {
            files: stack.image.files.clone(),
            devices: stack.image.sources(),
            sources: vec![Source::Image; stack.image.files.len()],
        };
        parts.push(
            metadata.clone(),
            Arc::new(FileBlocks::new(metadata.clone())?),
            Source::Metadata,
        );
        for &(store, no) in packs.list() {
            let (device, file) = open_pack(stack, store, no)?;
            parts.push(file, device, Source::Pack(store, no));
        }
        Ok(parts)
    }

    fn push(&mut self, file: Arc<dyn File>, device: Arc<dyn ReadBlocks>, source: Source) {
        self.files.push(file);
        self.devices.push(device);
        self.sources.push(source);
    }

    fn lens(&self) -> Vec<goldleaf_block::BlockCount> {
        self.devices.iter().map(|device| device.len().blocks()).collect()
    }

    fn into_composed(self, key: Digest, map: ExtentMap, facts: Facts) -> Composed {
        let Self { files, devices, sources } = self;
        Composed { key, map: Arc::new(map), files, devices, sources, facts }
    }
}

fn make(
    home: &Home,
    cache: &Arc<dyn Dir>,
    stack: &Stack,
    key: Digest,
    progress: &dyn Progress,
) -> Result<(Composed, WorkerUsage), PlayerError> {
    let name = key.to_string();
    match cache.remove_dir_all(&name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(PlayerError::io("clearing a composed disk")(error));
        }
        _ => {}
    }
    let dir = cache.create_dir(&name).map_err(PlayerError::io("making a composed disk"))?;
    let metadata = dir.create("metadata").map_err(PlayerError::io("making metadata"))?;
    let first = once(home, stack, &metadata, Vec::new(), progress)?;
    let derived =
        if first.composition.reply.stale { derive(home, stack, &first)? } else { Vec::new() };
    let made = if derived.is_empty() {
        first
    } else {
        metadata.set_len(0).map_err(PlayerError::io("clearing metadata"))?;
        once(home, stack, &metadata, derived, progress)?
    };
    let Made { composition: Composition { reply, packs, entries, usage }, parts, map } = made;
    // The worker has left its processor: what is to be hashed and what is to be written share both.
    let bytes = map.to_bytes();
    let (hasher, written) =
        both(|| metadata_hasher(&metadata), || write_plain(dir.as_ref(), "map", &bytes));
    written?;
    let facts = Facts {
        digest: with_map(hasher?, &bytes),
        packs: pack_names(stack, &packs)?,
        below: reply.below,
        dormant: reply.dormant,
        reports: reply.reports,
        notes: reply.notes,
        entries,
        metadata_blocks: reply.metadata_blocks,
    };
    // The facts come last: without them there is no composed disk.
    write_plain(dir.as_ref(), "facts", &encode_facts(&facts)?)?;
    Ok((parts.into_composed(key, map, facts), usage))
}

/// What one run of the composer came to.
struct Made {
    composition: Composition,
    parts: Parts,
    map: ExtentMap,
}

fn once(
    home: &Home,
    stack: &Stack,
    metadata: &Arc<dyn File>,
    derived: Vec<(GuestPath, Vec<u8>)>,
    progress: &dyn Progress,
) -> Result<Made, PlayerError> {
    let composition = home.jobs.compose(home, ComposeJob { stack, metadata, derived }, progress)?;
    let parts = Parts::collect(stack, metadata, &composition.packs)?;
    let map = stack.image.map.overlaid(&composition.reply.extents)?;
    map.check_sources(&parts.lens())?;
    Ok(Made { composition, parts, map })
}

/// Builds derived files anew over what was composed.
fn derive(
    home: &Home,
    stack: &Stack,
    made: &Made,
) -> Result<Vec<(GuestPath, Vec<u8>)>, PlayerError> {
    let mut handing = Handing::default();
    let disk = handing.disk(&made.map, &made.parts.files);
    let task = Task::Derive(DeriveTask { disk, volumes: stack.volumes()? });
    let scale = Scale { files: made.composition.entries, output_bytes: 0 };
    let worker = home.launcher.start(handing.files(), scale, &task)?;
    Ok(worker.finish()?.0)
}

fn pack_names(stack: &Stack, packs: &Packs) -> Result<Vec<(StoreName, Digest)>, PlayerError> {
    packs.list().iter().map(|&(store, no)| Ok((store, pack_id(stack, store, no)?.0))).collect()
}

/// Composes in a worker of its own.
pub(crate) fn compose_in_worker(
    home: &Home,
    order: ComposeJob<'_>,
    progress: &dyn Progress,
) -> Result<Composition, PlayerError> {
    let ComposeJob { stack, metadata, derived } = order;
    let mut packs = Packs::default();
    let mut handing = Handing::default();
    let disk = handing.disk(&stack.image.map, &stack.image.files);
    let metadata_number = handing.file(metadata);
    let images = stack.image.files.len() as u32;
    let (apps_records, user_records) = all_records(stack)?;
    let task = Task::Compose(ComposeTask {
        disk,
        volumes: stack.volumes()?,
        metadata: metadata_number,
        metadata_source: SourceIndex(images),
        now: COMPOSED_AT,
        apps_records,
        user_records,
        site_rules: stack.rules.clone(),
        below: stack.below(),
        derived,
    });
    let total: u64 = stack.layers().iter().map(|(_, _, layer)| layer.counts().entries).sum();
    let scale = Scale { files: total, output_bytes: metadata_limit(stack, total) };
    let mut worker = home.launcher.start(handing.files(), scale, &task)?;
    let mut feeder = Feeder { stack, packs: &mut packs, first_pack: images + 1 };
    let entries = match feeder.feed(&mut worker, total, progress) {
        // A worker that refused ends the conversation; what it said is in its reply.
        Err(PlayerError::Worker(WorkerError::Io(_))) => 0,
        sent => sent?,
    };
    let (reply, usage) = worker.finish().map_err(|error| too_small(stack, error))?;
    Ok(Composition { reply, packs, entries, usage })
}

/// Says of which image it is that the layers do not fit, and what length would do.
fn too_small(stack: &Stack, error: WorkerError) -> PlayerError {
    let WorkerError::TooSmall(volumes) = &error else { return error.into() };
    // Of a disk, only the root's partition and file system can be made to grow.
    let root = volumes.iter().all(|volume| volume.mount.is_root());
    let growth = volumes.iter().map(|volume| volume.growth.0).max().filter(|_| root);
    let disk = stack.image.record.blocks.bytes().0;
    let wanted = growth.map(|growth| disk.saturating_add(growth).saturating_add(DISK_ENDS));
    PlayerError::TooSmall { image: stack.image.image.clone(), wanted, source: error }
}

/// What a partition table takes at the end of a disk, and what alignment may cost.
const DISK_ENDS: u64 = 2 << 20;

/// The composer may write this much metadata: what an entry may cost at the worst, and room to
/// rewrite the volume's own.
fn metadata_limit(stack: &Stack, entries: u64) -> u64 {
    const PER_ENTRY: u64 = 3 * BLOCK_SIZE;
    let disk = stack.image.map.blocks().bytes().0;
    // Each volume has a region of the file that is as long as the volume.
    disk + entries * PER_ENTRY + (256 << 20)
}

type Records = (Vec<Vec<Record>>, Vec<Record>);

fn all_records(stack: &Stack) -> Result<Records, PlayerError> {
    let (mut apps, mut user) = (Vec::new(), Vec::new());
    for (which, store, layer) in stack.layers() {
        let records = stack.records(store, layer)?;
        match which {
            StackLayer::Apps(_) => apps.push(records),
            StackLayer::Private(_) => user.extend(records),
        }
    }
    Ok((apps, user))
}

/// An entry of the stack whose content is not looked up yet.
struct Unplaced {
    path: GuestPath,
    layer: StackLayer,
    store: StoreName,
    outline: Outline,
}

/// Sends the stack's entries to the worker, content by place.
struct Feeder<'a> {
    stack: &'a Stack,
    packs: &'a mut Packs,
    first_pack: u32,
}

impl Feeder<'_> {
    fn feed(
        &mut self,
        worker: &mut goldleaf_worker::Session,
        total: u64,
        progress: &dyn Progress,
    ) -> Result<u64, PlayerError> {
        let layers = self.stack.layers();
        let stores: Vec<_> =
            layers.iter().map(|(_, store, layer)| (self.stack.store(*store), *layer)).collect();
        let mut batch = Vec::with_capacity(BATCH);
        let mut sent = 0;
        for item in walk_outlines(&stores) {
            let (path, index, outline) = item?;
            let (layer, store, _) = layers[index];
            batch.push(Unplaced { path, layer, store, outline });
            if batch.len() == BATCH {
                sent += self.send(worker, &mut batch)?;
                progress.at("composing", sent, total);
            }
        }
        if !batch.is_empty() {
            sent += self.send(worker, &mut batch)?;
        }
        worker.send(&Vec::<SentEntry>::new())?;
        Ok(sent)
    }

    /// Sends a batch and empties it; how many entries it had.
    fn send(
        &mut self,
        worker: &mut goldleaf_worker::Session,
        batch: &mut Vec<Unplaced>,
    ) -> Result<u64, PlayerError> {
        let mut places = self.places(batch).into_iter();
        let mut entries = Vec::with_capacity(batch.len());
        for Unplaced { path, layer, store, outline } in batch.drain(..) {
            let runs = outline.extents.iter();
            let runs = runs.map(|extent| self.run(extent, store, places.next().flatten()));
            let runs = runs.collect::<Result<Vec<SourceRun>, PlayerError>>()?;
            entries.push(SentEntry { path, layer, entry: outline.entry, runs });
        }
        worker.send(&entries)?;
        Ok(entries.len() as u64)
    }

    /// Where the content of a batch lies, extent by extent.
    fn places(&self, batch: &[Unplaced]) -> Vec<Option<Location>> {
        let of_one_store = batch.chunk_by(|one, next| one.store == next.store);
        let places = of_one_store.flat_map(|part| {
            let extents = part.iter().flat_map(|entry| &entry.outline.extents);
            let blobs: Vec<Digest> = extents.map(|extent| extent.blob).collect();
            self.stack.store(part[0].store).blobs(&blobs)
        });
        places.collect()
    }

    fn run(
        &mut self,
        extent: &ContentExtent,
        store: StoreName,
        place: Option<Location>,
    ) -> Result<SourceRun, PlayerError> {
        let place = place.ok_or_else(|| {
            PlayerError::corrupt("a layer", format!("content {} is missing", extent.blob))
        })?;
        let within = extent.blob_block.checked_add(extent.blocks);
        if within.is_none_or(|end| end > place.blocks.0) {
            return Err(PlayerError::corrupt("a layer", "a run outside its content"));
        }
        let pack = self.packs.index(store, place.pack);
        Ok(SourceRun {
            file_block: extent.file_block,
            blocks: extent.blocks,
            source: SourceIndex(self.first_pack + pack),
            at: BlockNo(place.at.0 + extent.blob_block),
        })
    }
}

/// BLAKE3 of the metadata file, to be gone on with by [`with_map`].
fn metadata_hasher(metadata: &Arc<dyn File>) -> Result<blake3::Hasher, PlayerError> {
    let what = || PlayerError::io("reading composed metadata");
    let len = metadata.len().map_err(what())?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    // Each volume has a region of its own: between them are holes as large as volumes.
    while let Some((start, end)) = metadata.next_data(at).map_err(what())? {
        at = start;
        hasher.update(&start.to_le_bytes());
        while at < end.min(len) {
            let part = (end.min(len) - at).min(buffer.len() as u64) as usize;
            metadata.read_exact_at(&mut buffer[..part], at).map_err(what())?;
            hasher.update(&buffer[..part]);
            at += part as u64;
        }
    }
    Ok(hasher)
}

/// The digest of a composed disk: of the metadata file and of the map over it.
fn with_map(mut metadata: blake3::Hasher, map: &[u8]) -> Digest {
    Digest(*metadata.update(map).finalize().as_bytes())
}

fn write_plain(dir: &dyn Dir, name: &str, bytes: &[u8]) -> Result<(), PlayerError> {
    let file = dir.create(name).map_err(PlayerError::io(format!("making {name}")))?;
    file.write_all_at(bytes, 0).map_err(PlayerError::io(format!("writing {name}")))
}

/// Facts as stored: BLAKE3 of the rest, then postcard.
fn encode_facts(facts: &Facts) -> Result<Vec<u8>, PlayerError> {
    let body = postcard::to_stdvec(facts)
        .map_err(|error| PlayerError::corrupt("facts", error.to_string()))?;
    let mut bytes = Digest::of(&body).0.to_vec();
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

fn decode_facts(bytes: &[u8]) -> Result<Facts, PlayerError> {
    let bad = |found: &str| PlayerError::corrupt("facts of a composed disk", found);
    let (sum, body) = bytes.split_at_checked(32).ok_or_else(|| bad("a short file"))?;
    if Digest::of(body).0 != sum {
        return Err(bad("another checksum"));
    }
    postcard::from_bytes(body).map_err(|error| bad(&error.to_string()))
}
