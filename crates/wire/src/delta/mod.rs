//! Deltas: frames of new packs, compressed with what an older version has before their eyes.
//!
//! ```text
//!   old packs   ▓▓▓▓▓▓▓▓▓▓▓ here already         "GLDELT\x00\x01"   magic and format, 8 bytes
//!                 │   │  │  runs of blocks        length of the index as it is stored, 4 bytes,
//!                 └─┬─┘──┘                          little-endian
//!               reference ─┐                      length of the index, 4 bytes, little-endian
//!   delta       unit ──────┴▶ content             index, one zstd frame
//!                             │ cut, verified     units, one behind the other
//!   new pack           │frame│frame│frame│
//! ```
//! A *unit* is some frames of one new pack, one behind the other, compressed as one zstd frame
//! after a *reference*: content of old packs that is likely to be alike. It is another encoding of
//! content that is named already: the delta brings the heads of the new packs with it, and each
//! frame is compared with its digest there. So a delta need not be believed, and a wrong one is
//! useless and no more: frames that no delta brings come from their packs.
//!
//! The index comes first, so that a delta can be used while it arrives. The delta's name is the
//! digest of all that is before the units, and the index has the digest of each: as with packs, the
//! decompressor sees nothing that the delta's author did not make.
//!
//! The index: number of old packs, then their names; number of new packs, then of each the length
//! of its head, and the head; number of units, then their columns: packs since the unit before,
//! frames left out since then, frames, runs of the reference, length of what is stored, and its
//! digest; then the columns of all runs: old pack, as a difference from that of the run before;
//! blocks; first block, as a difference from where the run before ended. Numbers are varints. Units
//! ascend, so that no frame comes twice.

mod author;
mod parse;
mod unit;

use std::ops::Range;

use goldleaf_block::{BLOCK_SIZE, BlockCount, BlockRange, SourceIndex};
use goldleaf_store::Digest;

use crate::frame::{FRAME_MAX, FrameInfo};
use crate::pack::PackIndex;

pub use author::{DeltaEffort, DeltaSink, Versions, make_delta};
pub use unit::UnitContent;

/// Most content of old packs that a unit refers to, in bytes: with it, a unit and what is stored of
/// that, whoever applies a delta stays within 150 MB, two units at a time included.
pub const REFERENCE_MAX: u64 = 24 << 20;
/// Most content of a unit, in bytes: half of a pack's as they are published. With the longest
/// reference it makes 32 MiB, a window for which an author needs 400 MB; units of 16 MiB were no
/// smaller.
pub const UNIT_MAX: u64 = 8 << 20;
// What is stored of a unit may be as long as its content. The rest of the 150 MB is the index's.
const _: () = assert!(2 * (REFERENCE_MAX + 2 * UNIT_MAX) < 90_000_000);
/// Most bytes of an index, decompressed: the frames of 50 GB of new content fit. Whoever has more
/// to bring does not need a delta.
const INDEX_MAX: usize = 16 << 20;
/// Most runs of all references. A run takes three bytes of an index, and eight times that in
/// memory.
const RUNS_MAX: usize = 1 << 20;
/// Most blocks in a pack.
const PACK_BLOCKS_MAX: u64 = (crate::pack::PACK_FRAMES_MAX * FRAME_MAX) as u64 / BLOCK_SIZE;
const MAGIC: &[u8; 8] = b"GLDELT\x00\x01";
/// Bytes before the index: as many say how long it is.
const FIXED: usize = MAGIC.len() + 8;
const WHAT: &str = "a delta";

/// A delta, as whoever offers it names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeltaRef {
    /// Its name: the digest of all that is before its units.
    pub name: Digest,
    /// Length of all of it, in bytes.
    pub len: u64,
}

/// A run of blocks of a pack's content. Which packs are counted is said where there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PackRun {
    /// The pack, by its place in a list.
    pub pack: SourceIndex,
    /// Blocks of its content.
    pub blocks: BlockRange,
}

/// Length of a reference.
pub(crate) fn blocks_of(runs: &[PackRun]) -> BlockCount {
    BlockCount(runs.iter().map(|run| run.blocks.count.0).sum())
}

/// A new pack, as a delta brings it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPack {
    /// Its name: the digest of its head.
    pub name: Digest,
    /// All that is before its frames.
    pub head: Vec<u8>,
    /// The same, read.
    pub index: PackIndex,
}

/// Frames of a new pack that come together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeltaUnit {
    /// Where it is stored in the delta, in bytes.
    pub at: u64,
    /// Length of what is stored, in bytes.
    pub stored_len: u32,
    /// BLAKE3 of what is stored.
    pub stored: Digest,
    /// The pack, in [`DeltaIndex::packs`].
    pub pack: SourceIndex,
    /// Its frames that this is. There is one at least.
    pub frames: Range<usize>,
    /// What must be here to read it, in this order: runs of [`DeltaIndex::old_packs`], 24 MiB at
    /// most. Nobody checked that the old packs have as many blocks.
    pub reference: Vec<PackRun>,
}

impl DeltaUnit {
    /// Length of its reference, in blocks.
    pub fn reference_blocks(&self) -> BlockCount {
        blocks_of(&self.reference)
    }
}

/// What is in a delta.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeltaIndex {
    old_packs: Vec<Digest>,
    packs: Vec<NewPack>,
    units: Vec<DeltaUnit>,
    /// Length of the whole delta, in bytes.
    pub len: u64,
}

impl DeltaIndex {
    /// Names of the packs that references are from.
    pub fn old_packs(&self) -> &[Digest] {
        &self.old_packs
    }

    /// The packs that it brings frames of.
    pub fn packs(&self) -> &[NewPack] {
        &self.packs
    }

    /// Its units, in the order of packs and frames, which is that in which they are stored.
    pub fn units(&self) -> &[DeltaUnit] {
        &self.units
    }

    /// The frames of one of its units. Another delta's units have no meaning here.
    pub fn frames(&self, unit: &DeltaUnit) -> &[FrameInfo] {
        &self.packs[unit.pack.0 as usize].index.frames()[unit.frames.clone()]
    }
}

/// Length of the content of frames, in bytes.
fn content_len(frames: &[FrameInfo]) -> u64 {
    frames.iter().map(|frame| u64::from(frame.len)).sum()
}
