//! The files of a cache.

use std::io;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use goldleaf_block::{BLOCK_SIZE, BlockCount, BlockNo, BlockRange};
use goldleaf_host::{Dir, File, read_file, replace_file};
use goldleaf_store::Digest;
use goldleaf_wire::{FrameInfo, PackIndex, PackRef, WireError};
use serde::{Deserialize, Serialize};

use crate::bitmap::Bitmap;
use crate::error::io as io_error;
use crate::{CacheError, Carried};

/// Longest list of packs that is read, in bytes: a hundred thousand packs fit.
const LIST_LIMIT: u64 = 32 << 20;

/// Names of the files beside the content of a cache.
pub fn sidecars(name: &str) -> [String; 3] {
    ["packs", "heads", "have"].map(|end| format!("{name}.{end}"))
}

/// A pack in the list.
#[derive(Serialize, Deserialize)]
struct Listed {
    name: String,
    len: u64,
    head_len: u32,
    blocks: BlockCount,
}

/// A pack of a cache.
pub(crate) struct Slot {
    pub pack: PackRef,
    /// First block of its content.
    pub first: u64,
    /// Where its index is kept, in bytes.
    head_at: u64,
    index: OnceLock<Arc<PackIndex>>,
}

impl Slot {
    pub fn object(&self) -> Carried {
        Carried::Pack(self.pack.name)
    }

    pub fn blocks(&self) -> Range<u64> {
        self.first..self.first + self.pack.blocks.0
    }
}

/// What has arrived of some packs.
pub struct Cache {
    pub(crate) noted: Arc<dyn File>,
    pub(crate) content: Arc<dyn File>,
    heads: Arc<dyn File>,
    slots: Vec<Slot>,
    pub(crate) have: Bitmap,
    /// Blocks that were seen to be right by this process.
    pub(crate) verified: Bitmap,
}

impl Cache {
    /// Makes an empty cache for some packs. What of an earlier one has this name goes.
    pub fn create(dir: Arc<dyn Dir>, name: &str, packs: &[PackRef]) -> Result<Self, CacheError> {
        let what = || io_error("making a cache");
        let [list_name, heads_name, have_name] = sidecars(name);
        let listed: Vec<Listed> = packs.iter().map(listed).collect();
        let list = serde_json::to_vec(&listed).map_err(|error| CacheError::Corrupt {
            place: list_name.clone(),
            why: error.to_string(),
        })?;
        for file in sidecars(name).iter().map(String::as_str).chain([name]) {
            match dir.remove(file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(what()(error)),
                _ => {}
            }
        }
        let noted = dir.create(&have_name).map_err(what())?;
        let content = dir.create(name).map_err(what())?;
        let (slots, blocks, _) = slots(packs);
        content.set_len(blocks * BLOCK_SIZE).map_err(what())?;
        let heads = dir.create(&heads_name).map_err(what())?;
        replace_file(dir.as_ref(), &list_name, &list).map_err(what())?;
        let (have, verified) = (Bitmap::new(blocks), Bitmap::new(blocks));
        Ok(Self { noted, content, heads, slots, have, verified })
    }

    /// Opens a cache; `None` where the file is no cache but plain content.
    pub fn open(dir: Arc<dyn Dir>, name: &str) -> Result<Option<Self>, CacheError> {
        let what = || io_error("opening a cache");
        let [list_name, heads_name, have_name] = sidecars(name);
        let list = match read_file(dir.as_ref(), &list_name, LIST_LIMIT) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(what())?,
        };
        let packs = parse(&list).map_err(|why| CacheError::Corrupt { place: list_name, why })?;
        let (slots, blocks, _) = slots(&packs);
        let content = dir.open_rw(name).map_err(what())?;
        let heads = dir.open_rw(&heads_name).map_err(what())?;
        let noted = match dir.open_rw(&have_name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => dir.create(&have_name),
            other => other,
        };
        let noted = noted.map_err(what())?;
        let have = Bitmap::from_bytes(&noted_bits(noted.as_ref(), blocks)?, blocks);
        Ok(Some(Self { noted, content, heads, slots, have, verified: Bitmap::new(blocks) }))
    }

    /// Its content, holes included.
    pub fn content(&self) -> &Arc<dyn File> {
        &self.content
    }

    /// Length of its content.
    pub fn blocks(&self) -> BlockCount {
        BlockCount(self.slots.last().map_or(0, |slot| slot.blocks().end))
    }

    /// How much of it has arrived.
    pub fn arrived(&self) -> BlockCount {
        BlockCount(self.have.count())
    }

    /// Whether all of it has arrived.
    pub fn is_whole(&self) -> bool {
        self.arrived() == self.blocks()
    }

    /// Ranges as bits of its content.
    pub(crate) fn bits(&self, blocks: impl IntoIterator<Item = BlockRange>) -> Bitmap {
        let bits = Bitmap::new(self.blocks().0);
        blocks.into_iter().for_each(|range| bits.set(range.start.0..range.end().0));
        bits
    }

    /// Its packs, each with the first block of its content.
    pub fn packs(&self) -> impl ExactSizeIterator<Item = (PackRef, BlockNo)> + '_ {
        self.slots.iter().map(|slot| (slot.pack, BlockNo(slot.first)))
    }

    pub(crate) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// The pack in whose content a block lies.
    pub(crate) fn slot_at(&self, block: u64) -> &Slot {
        &self.slots[self.slots.partition_point(|slot| slot.blocks().end <= block)]
    }

    /// The index of a pack, if it has arrived.
    pub(crate) fn index(&self, slot: &Slot) -> Option<Arc<PackIndex>> {
        if let Some(index) = slot.index.get() {
            return Some(index.clone());
        }
        // What is not there, or not whole, is asked for again.
        let index = check_head(&slot.pack, &self.head(slot)?).ok()?;
        Some(slot.index.get_or_init(|| Arc::new(index)).clone())
    }

    /// The index of a pack as it arrived, if anything did.
    pub(crate) fn head(&self, slot: &Slot) -> Option<Vec<u8>> {
        let mut head = vec![0; slot.pack.head_len as usize];
        self.heads.read_exact_at(&mut head, slot.head_at).ok()?;
        Some(head)
    }

    /// Takes the index of a pack as it arrived.
    pub(crate) fn put_head(&self, slot: &Slot, head: &[u8]) -> Result<Arc<PackIndex>, CacheError> {
        let index = check_head(&slot.pack, head)?;
        self.heads.write_all_at(head, slot.head_at).map_err(io_error("keeping an index"))?;
        Ok(slot.index.get_or_init(|| Arc::new(index)).clone())
    }

    /// Takes a frame as it arrived.
    pub(crate) fn put(
        &self,
        slot: &Slot,
        frame: &FrameInfo,
        stored: &[u8],
    ) -> Result<(), CacheError> {
        self.put_content(slot, frame, &frame.decode(stored)?)
    }

    /// Takes the content of a frame, which was compared with its digest.
    pub(crate) fn put_content(
        &self,
        slot: &Slot,
        frame: &FrameInfo,
        content: &[u8],
    ) -> Result<(), CacheError> {
        let blocks = blocks_of(slot, frame);
        self.content
            .write_all_at(content, blocks.start * BLOCK_SIZE)
            .map_err(io_error("keeping content"))?;
        self.verified.set(blocks.clone());
        self.have.set(blocks);
        Ok(())
    }

    /// Makes what has arrived durable, and then notes that it has.
    pub fn keep(&self) -> Result<(), CacheError> {
        let what = || io_error("keeping what has arrived");
        // Before the content is synced: what arrives meanwhile is not noted.
        let mut have = self.have.to_bytes();
        self.content.sync_data().map_err(what())?;
        self.heads.sync_data().map_err(what())?;
        // Another process may have noted what it brought. Where both do at once one note is lost,
        // and what it was about is brought again.
        let noted = noted_bits(self.noted.as_ref(), self.blocks().0)?;
        have.iter_mut().zip(noted).for_each(|(ours, theirs)| *ours |= theirs);
        self.noted.write_all_at(&have, 0).map_err(what())?;
        self.noted.sync_data().map_err(what())
    }
}

/// What was noted of so many blocks.
pub(crate) fn noted_bits(noted: &dyn File, blocks: u64) -> Result<Vec<u8>, CacheError> {
    let what = || io_error("reading what has arrived");
    let len = noted.len().map_err(what())?.min(blocks.div_ceil(64) * 8);
    let mut bits = vec![0; len as usize];
    noted.read_exact_at(&mut bits, 0).map_err(what())?;
    Ok(bits)
}

/// The blocks of a frame's content.
pub(crate) fn blocks_of(slot: &Slot, frame: &FrameInfo) -> Range<u64> {
    let first = slot.first + frame.from / BLOCK_SIZE;
    first..first + u64::from(frame.len) / BLOCK_SIZE
}

fn slots(packs: &[PackRef]) -> (Vec<Slot>, u64, u64) {
    let (mut slots, mut first, mut head_at) = (Vec::with_capacity(packs.len()), 0, 0);
    for pack in packs {
        slots.push(Slot { pack: *pack, first, head_at, index: OnceLock::new() });
        (first, head_at) = (first + pack.blocks.0, head_at + u64::from(pack.head_len));
    }
    (slots, first, head_at)
}

/// Reads an index, and holds it to what the map says of its pack.
fn check_head(pack: &PackRef, head: &[u8]) -> Result<PackIndex, WireError> {
    let index = PackIndex::parse(head, &pack.name)?;
    let what = "a pack";
    let malformed = |why: &str| WireError::Malformed { what, why: why.into() };
    let lengths = [(pack.len, index.pack_len), (pack.blocks.0 * BLOCK_SIZE, index.content_len)];
    // It is what its name says, so it is the map that is wrong.
    if let Some((expected, found)) = lengths.into_iter().find(|(named, is)| named != is) {
        return Err(WireError::Length { what, expected, found });
    }
    if index.frames().iter().any(|frame| u64::from(frame.len) % BLOCK_SIZE != 0) {
        return Err(malformed("a frame that is not of whole blocks"));
    }
    Ok(index)
}

fn listed(pack: &PackRef) -> Listed {
    let PackRef { name, len, head_len, blocks } = *pack;
    Listed { name: name.to_string(), len, head_len, blocks }
}

fn parse(list: &[u8]) -> Result<Vec<PackRef>, String> {
    let listed: Vec<Listed> = serde_json::from_slice(list).map_err(|error| error.to_string())?;
    let pack = |listed: Listed| {
        let name = Digest::parse(&listed.name).ok_or("a name that is no digest")?;
        let Listed { len, head_len, blocks, .. } = listed;
        Ok(PackRef { name, len, head_len, blocks })
    };
    listed.into_iter().map(pack).collect()
}
