//! Receiving a layer: the file of a store's pack, which travels as if it were a disk.
//!
//! ```text
//!   map ─▶ cache on a bench ◀── blobs that are filed here: an older version's, other layers'
//!              ▲    └──▶ the pack's file ──▶ a store of its own ──▶ filed into the public store
//!              └── packs, for what is new
//! ```
//! The pack's index is at its end and names every blob in it. It is brought first, and what is here of
//! these blobs is not brought again: so an update costs what is new of a layer.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use goldleaf_block::{
    BLOCK_SIZE, BlockCount, BlockNo, BlockRange, ByteLen, ByteOffset, ExtentMap, MapDevice,
    MapExtent, ReadBlocks, SourceIndex, Target,
};
use goldleaf_cache::{Cache, Cached, Missing, Seed};
use goldleaf_feed::PublishedLayer;
use goldleaf_host::Dir;
use goldleaf_image::{ImageError, check_name, placed};
use goldleaf_layer::Layer;
use goldleaf_store::{
    Digest, LiveSet, Location, PackId, PackNo, PackedBlob, Store, StoreError, pack_file_name,
    packed_blobs,
};
use goldleaf_wire::PackRef;

use super::receive::{Receiver, STREAMS};
use crate::PlayerError;
use crate::apps::AppsVersion;
use crate::desktop::{Hex, StartOptions};
use crate::home::step;
use crate::workshop::Bench;

/// Bytes that are copied at once.
const PIECE: u64 = 1 << 20;

impl Receiver<'_> {
    /// The name and the version that a layer has here.
    pub(super) fn layer(
        &self,
        published: &PublishedLayer,
        image_version: u32,
    ) -> Result<(String, u32), PlayerError> {
        check_name(&published.name)?;
        let name = format!("{}.{}", self.name, published.name);
        check_name(&name)?;
        let named = |digest: &str| {
            Digest::parse(digest)
                .ok_or_else(|| PlayerError::corrupt("a published layer", "a name that is none"))
        };
        let (digest, pack) = (named(&published.digest)?, PackId(named(&published.pack)?));
        match crate::apps::get(self.home, &name) {
            Err(PlayerError::Unknown { .. }) => {}
            other => {
                let known = other?.versions.into_iter().find(|known| known.digest.0 == digest);
                if let Some(known) = known {
                    return Ok((name, known.number));
                }
            }
        }
        let bench = Bench::open(self.home, &format!("receive-{name}"), &StartOptions::default())?;
        let store = step("receive.layer", || self.bring(&bench, published, pack))?;
        let public = self.home.public()?;
        let mut live = LiveSet::default();
        Layer::open(&store, &digest)?.add_live(&store, &mut live)?;
        let mut writer = public.writer()?;
        writer.copy(&store, &live)?;
        let filed = writer.finish()?;
        let layer = crate::apps::add_version(self.home, &name, self.name, |number| AppsVersion {
            number,
            digest: Hex(digest),
            image_version,
            created_unix_secs: published.created_unix_secs,
            cause: published.cause.clone(),
            entries: published.entries,
            bytes: published.bytes,
        })?;
        drop(filed);
        bench.clear()?;
        Ok((name, layer.version(None)?.number))
    }

    /// The store's pack that has a layer, put together again on a bench.
    fn bring(
        &self,
        bench: &Bench,
        published: &PublishedLayer,
        pack: PackId,
    ) -> Result<Store, PlayerError> {
        const DATA: &str = "layer.data";
        let what = || PlayerError::io("receiving a layer");
        let wire = self.channel.map(&published.map)?;
        if wire.map.blocks() != ByteLen(published.pack_len).blocks() {
            return Err(PlayerError::corrupt("a published layer", "a map of another length"));
        }
        let cache =
            Cache::create(bench.dir.clone(), DATA, &wire.packs).map_err(ImageError::from)?;
        let starts: Vec<_> = cache.packs().map(|(_, at)| (SourceIndex(0), at)).collect();
        let map = Arc::new(placed(&wire, &starts)?);
        let cached = Cached::new(cache.into(), Some(self.channel.content()));
        let cached = cached.wanting(targets(&map).map(|(there, _)| there));
        let total = cached.wanted().bytes().0;
        let told = |arrived: BlockCount| {
            self.progress.at("receiving a layer", arrived.bytes().0, total);
            ControlFlow::Continue(())
        };
        let disk = MapDevice::new(map.clone(), vec![Arc::new(cached.clone())])?;
        let filed = Filed::new(&self.home.public()?, &disk, published.pack_len, pack, &map)?;
        if filed.has_any() {
            cached.take_from(&[&filed], &told)?;
        }
        cached.fill(STREAMS, &told)?;
        let dir = bench.dir.create_dir("store").map_err(what())?;
        copy(&disk, published.pack_len, dir.as_ref(), &pack_file_name(pack))?;
        Ok(Store::open(dir)?)
    }
}

/// The blocks that a map has of its one source, and where on the disk they are.
fn targets(map: &ExtentMap) -> impl Iterator<Item = (BlockRange, BlockNo)> + '_ {
    map.extents().iter().filter_map(|MapExtent { range, target }| match target {
        Target::Source { at, .. } => Some((BlockRange::new(*at, range.count), range.start)),
        _ => None,
    })
}

/// Blocks that follow each other in a cache, and from where on they do so on the disk.
type Run = (BlockRange, BlockNo);

/// What is filed here of a pack that is to arrive.
struct Filed {
    /// Blobs of the pack that are here, in the order in which they lie in it.
    blobs: Vec<(PackedBlob, Location)>,
    /// Where the blocks of the cache are on the disk that is the pack, by the cache's blocks.
    runs: Vec<Run>,
    packs: HashMap<PackNo, Arc<dyn ReadBlocks>>,
}

impl Filed {
    /// Looks which blobs of the pack are here, after bringing its index.
    fn new(
        public: &Store,
        disk: &dyn ReadBlocks,
        len: u64,
        pack: PackId,
        map: &ExtentMap,
    ) -> Result<Self, PlayerError> {
        let blobs = match packed_blobs(disk, len, pack) {
            // It did not arrive: nothing of a store's has failed.
            Err(StoreError::Content(error)) => return Err(error.into()),
            blobs => blobs?,
        };
        let places = public.blobs(&blobs.iter().map(|blob| blob.digest).collect::<Vec<_>>());
        let here = blobs.into_iter().zip(places);
        let blobs: Vec<_> = here.filter_map(|(blob, place)| Some((blob, place?))).collect();
        let mut packs = HashMap::new();
        for (_, Location { pack, .. }) in &blobs {
            if !packs.contains_key(pack) {
                packs.insert(*pack, public.pack_blocks(*pack)?);
            }
        }
        let mut runs: Vec<Run> = targets(map).collect();
        runs.sort_unstable_by_key(|(there, _)| there.start);
        Ok(Self { blobs, runs, packs })
    }

    fn has_any(&self) -> bool {
        !self.blobs.is_empty()
    }

    /// Where a block of the cache is on the disk, and how many follow it there.
    fn on_disk(&self, block: BlockNo) -> Option<BlockRange> {
        let behind = self.runs.partition_point(|(there, _)| there.start <= block);
        let (there, disk) = self.runs[..behind].last()?;
        let within = block.0 - there.start.0;
        let left = there.count.0.checked_sub(within).filter(|left| *left > 0)?;
        Some(BlockRange::new(BlockNo(disk.0 + within), BlockCount(left)))
    }

    /// Reads blocks of the disk from a blob that is here; how many it has of them.
    fn read(&self, range: BlockRange, content: &mut [u8]) -> Option<u64> {
        let behind = self.blobs.partition_point(|(blob, _)| blob.at <= range.start);
        let (blob, place) = self.blobs[..behind].last()?;
        let within = range.start.0 - blob.at.0;
        let count = blob.blocks.0.checked_sub(within).filter(|left| *left > 0)?.min(range.count.0);
        let from = BlockNo(place.at.0 + within).offset();
        let part = &mut content[..(count * BLOCK_SIZE) as usize];
        self.packs.get(&place.pack)?.read_at(from, part).ok()?;
        Some(count)
    }
}

impl Seed for Filed {
    fn head(&self, _pack: &PackRef) -> Option<Vec<u8>> {
        None
    }

    fn frame(&self, missing: &Missing<'_>, content: &mut [u8]) -> bool {
        let (mut at, end) = (missing.blocks.start, missing.blocks.end());
        let mut rest = content;
        while at < end {
            let left = end.0 - at.0;
            let range = self
                .on_disk(at)
                .map(|range| BlockRange::new(range.start, BlockCount(range.count.0.min(left))));
            let Some(count) = range.and_then(|range| self.read(range, rest)) else { return false };
            at = BlockNo(at.0 + count);
            rest = &mut rest[(count * BLOCK_SIZE) as usize..];
        }
        true
    }
}

/// Writes the first bytes of a disk into a file.
fn copy(disk: &dyn ReadBlocks, len: u64, dir: &dyn Dir, name: &str) -> Result<(), PlayerError> {
    let what = || PlayerError::io("writing a layer");
    let file = dir.create(name).map_err(what())?;
    let mut buf = vec![0; PIECE as usize];
    for at in (0..len).step_by(PIECE as usize) {
        let part = (len - at).min(PIECE) as usize;
        disk.read_at(ByteOffset(at), &mut buf[..part])?;
        file.write_all_at(&buf[..part], at).map_err(what())?;
    }
    Ok(())
}
