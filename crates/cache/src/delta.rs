//! Filling a cache from a delta.
//!
//! ```text
//!   delta ── stream ──▶ unit ─┬─▶ frames, compared with their digests ──▶ this cache
//!   caches of older packs ────┘ its reference
//! ```
//! Two units are decoded at once while the next one comes. A unit whose frames are here already, or
//! whose reference is not, is passed over; so is one that its author made wrong. What no unit brought
//! is missing still, and comes from the packs.

use std::collections::HashMap;
use std::ops::{ControlFlow, Range};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use goldleaf_block::{BlockError, BlockNo, BlockRange, ReadBlocks};
use goldleaf_store::Digest;
use goldleaf_wire::{
    DeltaIndex, DeltaRef, DeltaUnit, PackRun, REFERENCE_MAX, UNIT_MAX, UnitContent, WireError,
};

use crate::cached::Failure;
use crate::files::{Slot, blocks_of};
use crate::fill::{GAP, not_kept};
use crate::{CacheError, Cached, Carried, Supply, Told};

/// Units that are decoded at once. Each needs memory for its reference, 24 MiB at most, and for its
/// content, 8 MiB at most.
const WORKERS: usize = 2;

/// Packs by name: in which cache they are, and where.
type Packs<'a> = HashMap<Digest, (&'a Cached, &'a Slot)>;

impl Cached {
    /// Brings what a delta has of these packs, and keeps it. `here` has the older packs that it may
    /// refer to. Returns whether it came to its end: it did not when `told` ended it.
    pub fn fill_from_delta(
        &self,
        delta: &DeltaRef,
        here: &[Cached],
        told: &Told<'_>,
    ) -> Result<bool, BlockError> {
        let object = Carried::Delta(delta.name);
        let index = self.until_right(object, |supply| head(delta, supply))?;
        let (own, older) = (packs(std::slice::from_ref(self)), packs(here));
        let work = Work { cached: self, object, index: &index, own, older, told };
        let filled = self.until_right(object, |supply| work.all(supply));
        // What did arrive is kept, whatever became of the rest.
        self.cache().keep().map_err(|error| not_kept(&error))?;
        filled
    }
}

/// The packs of caches, by name.
fn packs<'a>(caches: &'a [Cached]) -> Packs<'a> {
    let slots = |cached: &'a Cached| cached.cache().slots().iter().map(move |slot| (cached, slot));
    caches.iter().flat_map(slots).map(|found| (found.1.pack.name, found)).collect()
}

/// Brings the index of a delta.
fn head(delta: &DeltaRef, supply: &dyn Supply) -> Result<DeltaIndex, Failure> {
    let wrong = |error: WireError| Failure::Cache(error.into());
    let (mut head, mut head_len) = (Vec::new(), Ok(DeltaIndex::FIRST));
    let mut take = |piece: &[u8]| {
        head.extend_from_slice(piece);
        if head.len() >= DeltaIndex::FIRST {
            head_len = DeltaIndex::head_len(&head);
        }
        match head_len {
            Ok(len) if head.len() < len => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    };
    supply.stream(Carried::Delta(delta.name), 0..delta.len, &mut take).map_err(Failure::Supply)?;
    head.truncate(head_len.map_err(wrong)?);
    let index = DeltaIndex::parse(&head, &delta.name).map_err(wrong)?;
    if index.len == delta.len {
        return Ok(index);
    }
    let (what, expected, found) = ("a delta", delta.len, index.len);
    Err(wrong(WireError::Length { what, expected, found }))
}

struct Work<'a> {
    /// What is filled.
    cached: &'a Cached,
    object: Carried,
    index: &'a DeltaIndex,
    own: Packs<'a>,
    older: Packs<'a>,
    told: &'a Told<'a>,
}

/// A unit as it came, and where its pack is in the cache.
type Unit<'a> = (&'a DeltaUnit, &'a Slot, Vec<u8>);

/// Cuts what comes into units.
struct Cutting<'a, 'b> {
    /// Those that are still to come.
    units: std::slice::Iter<'b, (&'a DeltaUnit, &'a Slot)>,
    /// Where in the delta the next piece begins.
    at: u64,
    /// What came of the next unit.
    stored: Vec<u8>,
    /// Room of units that were taken.
    spare: &'b Spare,
}

/// Room that is used again. What is made anew for each unit, by one thread, and dropped by another,
/// takes an allocator twice as much.
type Spare = Mutex<Vec<Vec<u8>>>;

/// What a worker uses again.
struct Room {
    reference: Vec<u8>,
    content: Vec<u8>,
}

impl<'a> Cutting<'a, '_> {
    /// The next unit, if the piece has the rest of it. What was used of the piece is cut off it.
    fn next_whole(&mut self, piece: &mut &[u8]) -> Option<Unit<'a>> {
        let (unit, slot) = *self.units.as_slice().first()?;
        let skipped = unit.at.saturating_sub(self.at).min(piece.len() as u64) as usize;
        let missing = unit.stored_len as usize - self.stored.len();
        let used = (skipped + missing).min(piece.len());
        self.stored.extend_from_slice(&piece[skipped..used]);
        self.at += used as u64;
        *piece = &piece[used..];
        if self.stored.len() < unit.stored_len as usize {
            return None;
        }
        self.units.next();
        Some((unit, slot, std::mem::replace(&mut self.stored, take_spare(self.spare))))
    }
}

fn take_spare(spare: &Spare) -> Vec<u8> {
    let spare = spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
    spare.unwrap_or_else(|| Vec::with_capacity(UNIT_MAX as usize))
}

impl<'a> Work<'a> {
    /// Takes all that is of use, from where it was left. Returns whether it came to its end.
    fn all(&self, supply: &dyn Supply) -> Result<bool, Failure> {
        let units: Vec<_> =
            self.index.units().iter().filter_map(|unit| self.wanted(unit)).collect();
        let end = |unit: &DeltaUnit| unit.at + u64::from(unit.stored_len);
        for run in units.chunk_by(|(one, _), (next, _)| next.at - end(one) < GAP) {
            let range = run[0].0.at..end(run[run.len() - 1].0);
            if !self.run(run, range, supply)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A unit and where its pack is in this cache, if it is missing here and can be read.
    fn wanted(&self, unit: &'a DeltaUnit) -> Option<(&'a DeltaUnit, &'a Slot)> {
        let name = self.index.packs()[unit.pack.0 as usize].name;
        let (_, slot) = *self.own.get(&name)?;
        let is_here = |frame| self.cached.has_wanted(blocks_of(slot, frame));
        let is_missing = !self.index.frames(unit).iter().all(is_here);
        let is_readable = unit.reference.iter().all(|run| {
            self.place(run).is_some_and(|(older, blocks)| {
                older.cache().have.has(blocks.start.0..blocks.end().0)
            })
        });
        (is_missing && is_readable).then_some((unit, slot))
    }

    /// Where a run of an older pack is; `None` where that pack is not here, or not as long.
    fn place(&self, run: &PackRun) -> Option<(&'a Cached, BlockRange)> {
        let name = self.index.old_packs()[run.pack.0 as usize];
        let (older, slot) = *self.older.get(&name)?;
        let start = BlockNo(slot.first + run.blocks.start.0);
        let is_there = run.blocks.end().0 <= slot.pack.blocks.0;
        is_there.then(|| (older, BlockRange::new(start, run.blocks.count)))
    }

    /// Takes units that lie behind one another in the delta, while more of them come. Returns
    /// whether it came to its end.
    fn run(
        &self,
        units: &[(&'a DeltaUnit, &'a Slot)],
        range: Range<u64>,
        supply: &dyn Supply,
    ) -> Result<bool, Failure> {
        // No more than one waits: each has its memory.
        let (arrived, units_arrived) = sync_channel(1);
        let (queue, is_over) = (Mutex::new(units_arrived), AtomicBool::new(false));
        let spare = Spare::default();
        let (streamed, taken) = thread::scope(|scope| {
            let take = || self.take_all(&queue, &is_over, &spare);
            let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(take)).collect();
            let (units, at, stored) = (units.iter(), range.start, take_spare(&spare));
            let mut cut = Cutting { units, at, stored, spare: &spare };
            let streamed = supply.stream(self.object, range, &mut |mut piece| {
                self.cached.demand.let_pass();
                while let Some(unit) = cut.next_whole(&mut piece) {
                    // Workers go on to receive until nobody sends any more.
                    let is_gone = arrived.send(unit).is_err();
                    if is_gone || is_over.load(Ordering::Relaxed) {
                        return ControlFlow::Break(());
                    }
                }
                match cut.units.as_slice() {
                    [] => ControlFlow::Break(()),
                    _ => ControlFlow::Continue(()),
                }
            });
            drop(arrived);
            let join = |one: thread::ScopedJoinHandle<'_, _>| {
                one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            let taken: Result<Vec<bool>, CacheError> = workers.into_iter().map(join).collect();
            (streamed, taken)
        });
        let is_whole = taken.map_err(Failure::Cache)?.into_iter().all(|whole| whole);
        // Whoever ended it knows why it was cut off.
        if is_whole { streamed.map(|()| true).map_err(Failure::Supply) } else { Ok(false) }
    }

    /// Takes units as they come, until there are no more. Returns whether nobody ended it.
    fn take_all(
        &self,
        queue: &Mutex<Receiver<Unit<'a>>>,
        is_over: &AtomicBool,
        spare: &Spare,
    ) -> Result<bool, CacheError> {
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let mut outcome = Ok(true);
        let mut room = Room {
            reference: Vec::with_capacity(REFERENCE_MAX as usize),
            content: Vec::with_capacity(UNIT_MAX as usize),
        };
        while let Ok((unit, slot, mut stored)) = next() {
            if is_over.load(Ordering::Relaxed) {
                continue;
            }
            outcome = match self.take(unit, slot, &stored, &mut room) {
                Ok(()) => Ok((self.told)(self.cached.arrived()).is_continue()),
                wrong => wrong.map(|()| false),
            };
            is_over.fetch_or(!matches!(outcome, Ok(true)), Ordering::Relaxed);
            stored.clear();
            spare.lock().unwrap_or_else(PoisonError::into_inner).push(stored);
        }
        outcome
    }

    fn take(
        &self,
        unit: &DeltaUnit,
        slot: &Slot,
        stored: &[u8],
        room: &mut Room,
    ) -> Result<(), CacheError> {
        unit.verify(stored)?;
        let cache = self.cached.cache();
        // Whoever carries it is not to blame from here on, so asking again is of no use.
        let Some(content) = self.content(unit, stored, room) else { return Ok(()) };
        let pack = &self.index.packs()[unit.pack.0 as usize];
        if cache.index(slot).is_none() && cache.put_head(slot, &pack.head).is_err() {
            return Ok(());
        }
        content.frames().try_for_each(|(frame, bytes)| cache.put_content(slot, frame, bytes))?;
        room.content = content.into_room();
        let is_last = unit.frames.end == pack.index.frames().len();
        // A machine that loses power begins again here.
        if is_last { cache.keep() } else { Ok(()) }
    }

    /// The content of a unit; `None` where its reference went bad or its author made it wrong.
    fn content(&self, unit: &DeltaUnit, stored: &[u8], room: &mut Room) -> Option<UnitContent> {
        let Room { reference, content } = room;
        reference.resize(unit.reference_blocks().bytes().0 as usize, 0);
        let mut rest = &mut reference[..];
        for run in &unit.reference {
            let (older, blocks) = self.place(run)?;
            let (part, behind) = rest.split_at_mut(blocks.count.bytes().0 as usize);
            older.read_at(blocks.start.offset(), part).ok()?;
            rest = behind;
        }
        self.index.decode(unit, stored, reference, std::mem::take(content)).ok()
    }
}
