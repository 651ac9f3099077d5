//! From a disk to packs: what is new is compressed, what was published before is named again.
//!
//! ```text
//!   disk, in the order in which it is to travel
//!     └─ each block ─ zeroes? ─▶ not at all
//!                    known?  ─▶ the map names where it lies: an older pack, or this one
//!                    new     ─▶ frame ─▶ frame ─▶ … ─▶ pack ─▶ sink
//! ```
//! A block is known by its digest, wherever it lies on whichever disk: content that moved costs an
//! extent of the map and nothing else. Runs are followed as long as both sides agree, so that what
//! was whole stays whole.

use std::collections::{HashMap, HashSet};
use std::io;

use goldleaf_block::{
    BLOCK_SIZE, BlockCount, BlockNo, BlockRange, MapBuilder, MapExtent, ReadBlocks, SourceIndex,
    Target,
};
use goldleaf_store::Digest;

use crate::WireError;
use crate::frame::Encoded;
use crate::map::{PackRef, WireMap};
use crate::pack::{PackIndex, assemble};

/// Content of a frame: 768 KiB. A desktop is 449.8 MiB in frames of 256 KiB, 439.1 in those of 512,
/// 434.1 in these; and a read that nobody foresaw waits for all of one.
const FRAME: BlockCount = BlockCount(192);
/// Content of a pack: 16 MiB.
const PACK: BlockCount = BlockCount(4096);
/// Blocks that are read at once.
const PIECE: u64 = 256;

/// Where a block lies: a pack, and a block of its content.
type Place = (u32, u64);

/// Takes a block of a range: its number within it, its bytes and their digest.
type TakeBlock<'a> = dyn FnMut(u64, &[u8], Digest) -> Result<(), WireError> + 'a;

/// Takes packs as they are made.
pub type Sink<'a> = dyn FnMut(&PackRef, Vec<u8>) -> io::Result<()> + 'a;

/// How content is put into packs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effort {
    /// Of zstd: 1 is quick, 19 is small.
    pub level: i32,
    /// How many frames are compressed at once.
    pub threads: usize,
    /// Content of a frame.
    pub frame: BlockCount,
}

impl Effort {
    /// In frames of the usual content.
    pub const fn of(level: i32, threads: usize) -> Self {
        Self { level, threads, frame: FRAME }
    }
}

/// What was published before: every block, and where it lies.
#[derive(Default)]
pub struct Known {
    packs: Vec<PackRef>,
    by_name: HashMap<Digest, u32>,
    blocks: HashMap<Digest, Place>,
    /// The digest of each block of each pack, where that is known.
    content: Vec<Vec<Option<Digest>>>,
}

impl Known {
    /// Learns what a disk that was published has, and where. `disk` is that disk.
    pub fn learn(&mut self, map: &WireMap, disk: &dyn ReadBlocks) -> Result<(), WireError> {
        let packs: Vec<u32> = map.packs.iter().map(|pack| self.pack(*pack)).collect();
        for MapExtent { range, target } in map.map.extents() {
            let Target::Source { source, at } = *target else { continue };
            let pack = packs[source.0 as usize];
            for_each_block(disk, *range, &mut |within, _, digest| {
                self.note(digest, (pack, at.0 + within));
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Learns what a pack has: the digest of each block of its content.
    pub fn learn_pack(&mut self, pack: PackRef, blocks: &[Digest]) {
        let number = self.pack(pack);
        for (digest, at) in blocks.iter().zip(0..pack.blocks.0) {
            self.note(*digest, (number, at));
        }
    }

    /// Whether anything of a pack is known.
    pub fn has_pack(&self, pack: &PackRef) -> bool {
        self.by_name.contains_key(&pack.name)
    }

    fn pack(&mut self, pack: PackRef) -> u32 {
        *self.by_name.entry(pack.name).or_insert_with(|| {
            self.packs.push(pack);
            self.content.push(vec![None; pack.blocks.0 as usize]);
            self.packs.len() as u32 - 1
        })
    }

    /// The first place of a content is where it is found later.
    fn note(&mut self, digest: Digest, place: Place) {
        self.content[place.0 as usize][place.1 as usize] = Some(digest);
        self.blocks.entry(digest).or_insert(place);
    }

    fn has(&self, (pack, block): Place, digest: Digest) -> bool {
        self.content[pack as usize].get(block as usize) == Some(&Some(digest))
    }

    /// Where a content lies; rather behind the block before, so that a run stays one.
    fn find(&self, digest: Digest, before: Option<Place>) -> Option<Place> {
        let behind = before.map(|(pack, block)| (pack, block + 1));
        behind
            .filter(|place| self.has(*place, digest))
            .or_else(|| self.blocks.get(&digest).copied())
    }
}

/// Goes through the blocks that are not all zeroes.
fn for_each_block(
    disk: &dyn ReadBlocks,
    range: BlockRange,
    take: &mut TakeBlock<'_>,
) -> Result<(), WireError> {
    let mut buf = vec![0; (PIECE * BLOCK_SIZE) as usize];
    let mut done = 0;
    while done < range.count.0 {
        let count = PIECE.min(range.count.0 - done);
        let part = &mut buf[..(count * BLOCK_SIZE) as usize];
        disk.read_at(range.start.plus(BlockCount(done)).offset(), part)?;
        for (within, block) in (done..).zip(part.chunks_exact(BLOCK_SIZE as usize)) {
            if block.iter().any(|byte| *byte != 0) {
                take(within, block, Digest::of(block))?;
            }
        }
        done += count;
    }
    Ok(())
}

/// Publishes a disk. `order` covers all of it that is to travel, in the order in which it is to;
/// what comes twice travels once. Learns what it publishes.
pub fn publish(
    disk: &dyn ReadBlocks,
    order: &[BlockRange],
    known: &mut Known,
    effort: Effort,
    sink: &mut Sink<'_>,
) -> Result<WireMap, WireError> {
    let mut work = Work { known, effort, sink, open: Open::default(), found: Vec::new() };
    for range in order {
        let mut before = None;
        for_each_block(disk, *range, &mut |within, bytes, digest| {
            let place = work.place(bytes, digest, before)?;
            before = Some(place);
            work.found.push((range.start.0 + within, place));
            Ok(())
        })?;
    }
    work.close()?;
    work.map(disk.len().blocks())
}

/// The pack that is being filled.
#[derive(Default)]
struct Open {
    /// Its number, once it has content.
    number: u32,
    content: Vec<u8>,
}

struct Work<'a, 's> {
    known: &'a mut Known,
    effort: Effort,
    sink: &'a mut Sink<'s>,
    open: Open,
    /// Blocks of the disk, and where they lie.
    found: Vec<(u64, Place)>,
}

impl Work<'_, '_> {
    fn place(
        &mut self,
        bytes: &[u8],
        digest: Digest,
        before: Option<Place>,
    ) -> Result<Place, WireError> {
        if let Some(place) = self.known.find(digest, before) {
            return Ok(place);
        }
        if self.open.content.len() as u64 == PACK.bytes().0 {
            self.close()?;
        }
        if self.open.content.is_empty() {
            self.open.number = self.known.packs.len() as u32;
            // Its name is not known before it is full.
            let (name, len, head_len) = (Digest([0; 32]), 0, 0);
            self.known.packs.push(PackRef { name, len, head_len, blocks: BlockCount(0) });
            self.known.content.push(Vec::new());
        }
        let block = (self.open.content.len() / BLOCK_SIZE as usize) as u64;
        self.open.content.extend_from_slice(bytes);
        let place = (self.open.number, block);
        self.known.content[place.0 as usize].push(None);
        self.known.note(digest, place);
        Ok(place)
    }

    /// Makes a pack of what there is.
    fn close(&mut self) -> Result<(), WireError> {
        let Open { number, content } = std::mem::take(&mut self.open);
        if content.is_empty() {
            return Ok(());
        }
        let (name, bytes) = assemble(&encode(&content, self.effort)?)?;
        let head_len = PackIndex::head_len(&bytes)? as u32;
        let blocks = BlockCount(content.len() as u64 / BLOCK_SIZE);
        let pack = PackRef { name, len: bytes.len() as u64, head_len, blocks };
        self.known.packs[number as usize] = pack;
        self.known.by_name.insert(name, number);
        (self.sink)(&pack, bytes).map_err(WireError::Sink)
    }

    /// The map of what was found, over the packs that it needs, in the order in which these are to
    /// travel.
    fn map(mut self, blocks: BlockCount) -> Result<WireMap, WireError> {
        let mut seen = HashSet::new();
        let packs = self.found.iter().map(|(_, (pack, _))| *pack);
        let travel: Vec<u32> = packs.filter(|pack| seen.insert(*pack)).collect();
        self.found.sort_unstable();
        self.found.dedup_by_key(|(block, _)| *block);
        // What came twice may lie in a second pack, which nobody needs then.
        let used: HashSet<u32> = self.found.iter().map(|(_, (pack, _))| *pack).collect();
        let travel: Vec<u32> = travel.into_iter().filter(|pack| used.contains(pack)).collect();
        let packs = travel.iter().map(|pack| self.known.packs[*pack as usize]).collect();
        let numbers: HashMap<u32, SourceIndex> =
            travel.into_iter().zip((0..).map(SourceIndex)).collect();
        let mut builder = MapBuilder::new(blocks);
        for (block, (pack, at)) in self.found {
            let range = BlockRange::new(BlockNo(block), BlockCount(1));
            let target = Target::Source { source: numbers[&pack], at: BlockNo(at) };
            builder.push(MapExtent { range, target })?;
        }
        Ok(WireMap { packs, map: builder.finish() })
    }
}

/// Compresses the frames of a pack, some at once.
fn encode(content: &[u8], effort: Effort) -> Result<Vec<Encoded>, WireError> {
    let frames: Vec<&[u8]> = content.chunks(effort.frame.bytes().0 as usize).collect();
    let share = frames.len().div_ceil(effort.threads.max(1));
    let one = |frames: &[&[u8]]| -> Result<Vec<Encoded>, WireError> {
        frames.iter().map(|frame| Encoded::new(frame, effort.level)).collect()
    };
    let parts = std::thread::scope(|scope| {
        let started: Vec<_> =
            frames.chunks(share).map(|frames| scope.spawn(move || one(frames))).collect();
        let join = |part: std::thread::ScopedJoinHandle<'_, _>| {
            part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        started.into_iter().map(join).collect::<Result<Vec<_>, WireError>>()
    })?;
    Ok(parts.concat())
}
