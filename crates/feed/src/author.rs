//! Writing a feed: packs and maps of disks, and versions over them.
//!
//! Everything is written under the name of its digest before anything names it, and nothing that is
//! there is ever written again. What makes a version visible is the signed metadata, which come last.

use std::sync::Arc;

use goldleaf_block::{BLOCK_SIZE, BlockRange, ReadBlocks};
use goldleaf_host::{Dir, Progress, read_file, replace_file};
use goldleaf_store::Digest;
use goldleaf_trust::Target;
use goldleaf_wire::{BootProfile, Effort, Known, PackIndex, PackRef, WireMap, publish};

use crate::version::Object;
use crate::{FeedError, LivePcVersion, names};

/// Longest map that is read, in bytes.
const MAP_LIMIT: u64 = 64 << 20;
/// Longest pack that is read at once, in bytes: this program makes them a fourth of that.
const PACK_LIMIT: u64 = 64 << 20;

/// Writes versions into a feed's directory.
pub struct Publisher {
    pub(crate) packs: Arc<dyn Dir>,
    pub(crate) deltas: Arc<dyn Dir>,
    maps: Arc<dyn Dir>,
    profiles: Arc<dyn Dir>,
    versions: Arc<dyn Dir>,
    /// How much is done to make it small.
    pub effort: Effort,
    known: Known,
    /// What was written so far.
    pub written: Written,
}

/// What was written into a feed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// New packs.
    pub packs: u64,
    /// Their length in bytes.
    pub pack_bytes: u64,
    /// Length of the maps, in bytes.
    pub map_bytes: u64,
    /// Length of the deltas, in bytes.
    pub delta_bytes: u64,
}

impl Written {
    /// Both together.
    pub fn and(self, other: Self) -> Self {
        Self {
            packs: self.packs + other.packs,
            pack_bytes: self.pack_bytes + other.pack_bytes,
            map_bytes: self.map_bytes + other.map_bytes,
            delta_bytes: self.delta_bytes + other.delta_bytes,
        }
    }
}

impl Publisher {
    /// Opens a feed's directory to write into it.
    pub fn open(dir: &dyn Dir, effort: Effort) -> Result<Self, FeedError> {
        let shelf = |name: &str| {
            dir.create_dir(name).map_err(FeedError::io(format!("making the directory {name}")))
        };
        let (packs, deltas) = (shelf(names::PACKS)?, shelf(names::DELTAS)?);
        let (maps, profiles) = (shelf(names::MAPS)?, shelf(names::PROFILES)?);
        let versions = shelf(names::VERSIONS)?;
        dir.sync().map_err(FeedError::io("making a feed's directory"))?;
        let (known, written) = (Known::default(), Written::default());
        Ok(Self { packs, deltas, maps, profiles, versions, effort, known, written })
    }

    /// Learns what a disk that was published has, so that it is not published again.
    pub fn learn(&mut self, map: &Object, progress: &dyn Progress) -> Result<(), FeedError> {
        let bytes = get(self.maps.as_ref(), &map.name()?, MAP_LIMIT)?;
        let mut packs = WireMap::from_bytes(&bytes)?.packs;
        packs.retain(|pack| !self.known.has_pack(pack));
        let total = packs.len() as u64;
        let threads = self.effort.threads.max(1);
        for (done, some) in packs.chunks(threads).enumerate() {
            progress.at("reading what was published", (done * threads) as u64, total);
            for (pack, blocks) in some.iter().zip(self.blocks(some)?) {
                self.known.learn_pack(*pack, &blocks);
            }
        }
        Ok(())
    }

    /// The digests of the blocks of some packs, read side by side.
    fn blocks(&self, packs: &[PackRef]) -> Result<Vec<Vec<Digest>>, FeedError> {
        std::thread::scope(|scope| {
            let read = |pack| scope.spawn(move || self.blocks_of(pack));
            let started: Vec<_> = packs.iter().map(read).collect();
            let join = |one: std::thread::ScopedJoinHandle<'_, _>| {
                one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            started.into_iter().map(join).collect()
        })
    }

    fn blocks_of(&self, pack: &PackRef) -> Result<Vec<Digest>, FeedError> {
        let bytes = get(self.packs.as_ref(), &pack.name, PACK_LIMIT)?;
        let cut = || FeedError::malformed(names::pack(&pack.name), "cut short");
        let head = bytes.get(..pack.head_len as usize).ok_or_else(cut)?;
        let mut blocks = Vec::new();
        for frame in PackIndex::parse(head, &pack.name)?.frames() {
            let end = frame.at + u64::from(frame.stored_len);
            let stored = bytes.get(frame.at as usize..end as usize).ok_or_else(cut)?;
            let content = frame.decode(stored)?;
            blocks.extend(content.chunks(BLOCK_SIZE as usize).map(Digest::of));
        }
        Ok(blocks)
    }

    /// Publishes a disk: packs of what is new, and its map.
    pub fn disk(
        &mut self,
        disk: &dyn ReadBlocks,
        order: &[BlockRange],
        progress: &dyn Progress,
    ) -> Result<Object, FeedError> {
        let (packs, written) = (&self.packs, &mut self.written);
        let mut sink = |pack: &PackRef, bytes: Vec<u8>| {
            put(packs.as_ref(), &pack.name, &bytes)?;
            written.packs += 1;
            written.pack_bytes += bytes.len() as u64;
            progress.at("writing packs", written.pack_bytes, 0);
            Ok(())
        };
        let map = publish(disk, order, &mut self.known, self.effort, &mut sink)?.to_bytes()?;
        self.written.map_bytes += map.len() as u64;
        write(self.maps.as_ref(), &map)
    }

    /// Writes what of a disk a guest reads when it starts.
    pub fn profile(&self, profile: &BootProfile) -> Result<Object, FeedError> {
        write(self.profiles.as_ref(), &profile.to_bytes()?)
    }

    /// Writes a version. It is seen when signed metadata offer it.
    pub fn version(&self, version: &LivePcVersion) -> Result<Target, FeedError> {
        let bytes = version.to_bytes()?;
        write(self.versions.as_ref(), &bytes)?;
        Ok(Target::of(&bytes, serde_json::Value::Null))
    }
}

fn get(shelf: &dyn Dir, name: &Digest, limit: u64) -> Result<Vec<u8>, FeedError> {
    read_file(shelf, &name.to_string(), limit)
        .map_err(FeedError::io(format!("reading {name} of the feed")))
}

/// Writes a file under the name of its digest.
fn write(shelf: &dyn Dir, bytes: &[u8]) -> Result<Object, FeedError> {
    let name = Digest::of(bytes);
    put(shelf, &name, bytes).map_err(FeedError::io(format!("writing {name} of the feed")))?;
    Ok(Object { digest: name.to_string(), len: bytes.len() as u64 })
}

/// Writes a file under the name of its digest, unless it is there.
fn put(dir: &dyn Dir, name: &Digest, bytes: &[u8]) -> std::io::Result<()> {
    let name = name.to_string();
    match dir.open(&name) {
        // Whoever wrote it may have been killed before its name was durable.
        Ok(there) if there.len()? == bytes.len() as u64 => dir.sync(),
        Ok(_) => replace_file(dir, &name, bytes),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            replace_file(dir, &name, bytes)
        }
        Err(error) => Err(error),
    }
}
