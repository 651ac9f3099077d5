//! What the threads do to the disk, and what they saw.

use std::sync::{Mutex, PoisonError};

use goldleaf_block::{
    BlockError, ByteLen, ByteOffset, MapExtent, ReadBlocks, SessionDevice, Snapshot, SourceIndex,
    Target, WriteBlocks,
};
use goldleaf_host::sync::{AtomicU64, Ordering};

use crate::dice::Dice;
use crate::storage::oracle::BLOCK;
use crate::storage::workload::Base;

/// Cells of a block: halves, so that writes meet within one too.
pub const PER_BLOCK: usize = 2;
/// Bytes of a cell.
pub const CELL: usize = BLOCK / PER_BLOCK;
/// Cells of the disk.
pub const CELLS: usize = 6 * PER_BLOCK;
/// Bytes of the disk.
pub const LEN: usize = CELLS * CELL;

/// What each cell is filled with.
pub type Cells = [u8; CELLS];

/// One thing that a thread does. Places and lengths are in cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Fills cells with a number that nothing else has.
    Write(usize, usize, u8),
    /// Makes cells read as zeroes.
    Zero(usize, usize),
    /// Trims: the whole blocks among the cells.
    Trim(usize, usize),
    /// Reads.
    Read(usize, usize),
    /// Flushes.
    Flush,
    /// Takes a snapshot, in place of the one that the thread had.
    Snapshot,
    /// Reads the snapshot, and lets go of it.
    Look,
    /// Asks what the log occupies.
    Usage,
}

impl Act {
    /// Any, in the first `span` cells; `fill` is for a write.
    pub fn any(dice: &mut Dice, span: usize, fill: u8) -> Self {
        match dice.below(5) {
            0 | 1 => Self::change(dice, span, fill),
            2 => Self::look(dice, span),
            _ => Self::Flush,
        }
    }

    /// One that changes the disk.
    pub fn change(dice: &mut Dice, span: usize, fill: u8) -> Self {
        let (at, cells) = place(dice, span);
        match dice.below(10) {
            0..=5 => Self::Write(at, cells, fill),
            6 => Self::Zero(at, cells),
            _ => Self::Trim(at, cells),
        }
    }

    /// One that does not.
    pub fn look(dice: &mut Dice, span: usize) -> Self {
        let (at, cells) = place(dice, span);
        match dice.below(8) {
            0..=3 => Self::Read(at, cells),
            4 | 5 => Self::Snapshot,
            6 => Self::Look,
            _ => Self::Usage,
        }
    }

    /// What it makes of a disk.
    pub fn effect(&self, mut cells: Cells) -> Cells {
        match *self {
            Self::Write(at, len, fill) => cells[at..at + len].fill(fill),
            Self::Zero(at, len) => cells[at..at + len].fill(0),
            Self::Trim(at, len) => {
                let (first, end) = (at.next_multiple_of(PER_BLOCK), (at + len) / PER_BLOCK);
                let end = (end * PER_BLOCK).max(first);
                cells[first..end].fill(0);
            }
            _ => {}
        }
        cells
    }

    /// Whether it changes anything.
    pub fn is_change(&self) -> bool {
        matches!(self, Self::Write(..) | Self::Zero(..) | Self::Trim(..))
    }
}

/// Mostly whole blocks.
fn place(dice: &mut Dice, span: usize) -> (usize, usize) {
    let unit = if dice.one_in(4) { 1 } else { PER_BLOCK };
    let at = dice.index(span / unit) * unit;
    (at, ((1 + dice.index(3)) * unit).min(span - at))
}

/// Something that was done.
#[derive(Debug, Clone)]
pub struct Done {
    /// What.
    pub act: Act,
    /// When it began, in steps of a clock that all threads share.
    pub begin: u64,
    /// When it returned; `None` when it failed, and may have been done in part or later.
    pub end: Option<u64>,
    /// Cells, and what was read there.
    pub seen: Vec<(usize, u8)>,
}

/// A disk that threads work on.
pub struct Stage {
    /// The disk.
    pub device: SessionDevice,
    clock: AtomicU64,
    done: Mutex<Vec<Done>>,
}

/// A snapshot that a thread holds, and when it was taken.
struct Held {
    snapshot: Snapshot,
    when: (u64, u64),
}

impl Stage {
    /// Nothing was done yet.
    pub fn new(device: SessionDevice) -> Self {
        Self { device, clock: AtomicU64::new(0), done: Mutex::default() }
    }

    /// Does one thing after the other. The first that fails is the last.
    pub fn play(&self, acts: &[Act]) -> Result<(), String> {
        let mut held = None;
        acts.iter()
            .chain(&[Act::Look])
            .try_for_each(|act| self.act(*act, &mut held).map_err(|e| format!("{act:?}: {e}")))
    }

    /// All that was done, and the disk.
    pub fn end(self) -> (SessionDevice, Vec<Done>) {
        (self.device, self.done.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::AcqRel)
    }

    fn act(&self, act: Act, held: &mut Option<Held>) -> Result<(), String> {
        let called = self.tick();
        let outcome = self.carry_out(act, called, held);
        let returned = self.tick();
        let mut done = Done { act, begin: called, end: None, seen: Vec::new() };
        let outcome = outcome.map(|seen| {
            let (begin, end) = seen.when.unwrap_or((called, returned));
            (done.begin, done.end, done.seen) = (begin, Some(end), seen.cells);
        });
        self.done.lock().unwrap_or_else(PoisonError::into_inner).push(done);
        outcome
    }

    fn carry_out(&self, act: Act, called: u64, held: &mut Option<Held>) -> Result<Seen, String> {
        let place = |cell: usize| ByteOffset((cell * CELL) as u64);
        let len = |cells: usize| ByteLen((cells * CELL) as u64);
        let device = &self.device;
        match act {
            Act::Write(at, n, fill) => device.write_at(place(at), &vec![fill; n * CELL]),
            Act::Zero(at, n) => device.write_zeroes(place(at), len(n)),
            Act::Trim(at, n) => device.discard(place(at), len(n)),
            Act::Flush => device.flush(),
            Act::Usage => device.usage().map(drop),
            Act::Snapshot => device.snapshot(SourceIndex(0)).map(|snapshot| {
                *held = Some(Held { snapshot, when: (called, self.tick()) });
            }),
            Act::Read(at, n) => {
                let mut bytes = vec![0xEE; n * CELL];
                device.read_at(place(at), &mut bytes).map_err(|error| error.to_string())?;
                return Ok(Seen { cells: cells_of(at, &bytes)?, when: None });
            }
            Act::Look => return held.take().map_or(Ok(Seen::default()), |held| self.look(&held)),
        }
        .map(|()| Seen::default())
        .map_err(|error: BlockError| error.to_string())
    }

    /// A snapshot is what the disk was when it was taken, whenever it is looked at.
    fn look(&self, held: &Held) -> Result<Seen, String> {
        let mut bytes = Base(LEN).content();
        let data = self.device.data_file();
        for MapExtent { range, target } in &held.snapshot.extents {
            let (start, end) = (range.start.offset().0, range.end().offset().0);
            let part = &mut bytes[start as usize..end as usize];
            match target {
                Target::Source { at, .. } => data
                    .read_exact_at(part, at.offset().0)
                    .map_err(|error| format!("reading a snapshot: {error}"))?,
                Target::Zero => part.fill(0),
            }
        }
        Ok(Seen { cells: cells_of(0, &bytes)?, when: Some(held.when) })
    }
}

/// What an act saw.
#[derive(Default)]
struct Seen {
    cells: Vec<(usize, u8)>,
    /// From when to when it may have been so, where that is not while the act went on.
    when: Option<(u64, u64)>,
}

/// What cells are filled with, from the cell `at` on.
pub fn cells_of(at: usize, bytes: &[u8]) -> Result<Vec<(usize, u8)>, String> {
    let one = |(cell, bytes): (usize, &[u8])| match bytes.iter().all(|byte| *byte == bytes[0]) {
        true => Ok((cell, bytes[0])),
        false => Err(format!("cell {cell} is torn")),
    };
    (at..).zip(bytes.chunks(CELL)).map(one).collect()
}

/// The whole disk's.
pub fn disk_of(bytes: &[u8]) -> Result<Cells, String> {
    let cells = cells_of(0, bytes)?;
    Ok(std::array::from_fn(|cell| cells[cell].1))
}
