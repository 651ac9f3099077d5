//! Writing a feed: packs and maps of disks, and versions over them.
//!
//! Everything is written under the name of its digest before anything names it, and nothing that is
//! there is ever written again. What makes a version visible is the signed metadata, which come last.

use std::io;
use std::sync::Arc;

use goldleaf_block::{BLOCK_SIZE, BlockRange, ReadBlocks};
use goldleaf_fetch::{Destination, Source};
use goldleaf_host::{Content, Progress, Shelf};
use goldleaf_store::Digest;
use goldleaf_trust::Target;
use goldleaf_wire::{BootProfile, Effort, Known, PackIndex, PackRef, WireMap, publish};

use crate::version::Object;
use crate::{FeedError, LivePcVersion, names};

/// Longest map that is read, in bytes.
const MAP_LIMIT: u64 = 64 << 20;
/// Longest pack that is read at once, in bytes: this program makes them a fourth of that.
const PACK_LIMIT: u64 = 64 << 20;

/// Writes versions to where a feed is carried.
pub struct Publisher {
    source: Arc<dyn Source>,
    packs: Arc<dyn Shelf>,
    pub(crate) deltas: Arc<dyn Shelf>,
    maps: Arc<dyn Shelf>,
    profiles: Arc<dyn Shelf>,
    versions: Arc<dyn Shelf>,
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
    /// Writes to where a feed is, or is to be.
    pub fn new(to: &Destination, effort: Effort) -> Self {
        let shelf = |name: &str| to.shelf.folder(name);
        Self {
            source: to.source.clone(),
            packs: shelf(names::PACKS),
            deltas: shelf(names::DELTAS),
            maps: shelf(names::MAPS),
            profiles: shelf(names::PROFILES),
            versions: shelf(names::VERSIONS),
            effort,
            known: Known::default(),
            written: Written::default(),
        }
    }

    /// Learns what a disk that was published has, so that it is not published again.
    pub fn learn(&mut self, map: &Object, progress: &dyn Progress) -> Result<(), FeedError> {
        let bytes = self.read(&names::map(&map.name()?), MAP_LIMIT)?;
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

    /// A file of the feed.
    fn read(&self, path: &str, limit: u64) -> Result<Vec<u8>, FeedError> {
        match self.source.read(path, limit)? {
            Some(bytes) if bytes.len() as u64 > limit => {
                Err(FeedError::malformed(path, "longer than any"))
            }
            Some(bytes) => Ok(bytes),
            None => Err(FeedError::Missing(path.into())),
        }
    }

    /// What is before the frames of a pack.
    pub(crate) fn head(&self, pack: &PackRef) -> Result<Vec<u8>, FeedError> {
        let mut head = vec![0; pack.head_len as usize];
        self.source.read_range(&names::pack(&pack.name), 0, &mut head)?;
        Ok(head)
    }

    fn blocks_of(&self, pack: &PackRef) -> Result<Vec<Digest>, FeedError> {
        let bytes = self.read(&names::pack(&pack.name), PACK_LIMIT)?;
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
            put(packs.as_ref(), &pack.name, Content::of(&bytes))?;
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

/// Writes a file under the name of its digest.
fn write(shelf: &dyn Shelf, bytes: &[u8]) -> Result<Object, FeedError> {
    let name = Digest::of(bytes);
    put(shelf, &name, Content::of(bytes))
        .map_err(FeedError::io(format!("writing {name} of the feed")))?;
    Ok(Object { digest: name.to_string(), len: bytes.len() as u64 })
}

/// Writes a file under the name of its content, unless it is there.
pub(crate) fn put(shelf: &dyn Shelf, name: &Digest, content: Content<'_>) -> io::Result<()> {
    let name = name.to_string();
    match shelf.len_of(&name)? {
        Some(len) if len == content.len()? => Ok(()),
        Some(_) => shelf.replace(&name, content),
        None => match shelf.add(&name, content) {
            // Somebody else put the same there meanwhile.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            put => put,
        },
    }
}
