//! Filling a cache in the order of its packs, while others read; what is wanted first before that.
//!
//! A pack comes as one stream from the first frame that is missing; each frame is kept as it is whole.
//! Between pieces the stream stands back for reads that wait for something else; those that wait for
//! what it brings next just wait.

use std::collections::BTreeSet;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use goldleaf_block::{BlockCount, BlockError};
use goldleaf_wire::PackIndex;

use crate::cached::{Failure, stored};
use crate::coming::Streaming;
use crate::files::{Slot, blocks_of};
use crate::{CacheError, Cached, Supply};

/// Frames that are here and lie between missing ones are brought again, where that is less than
/// this many bytes: asking anew costs more.
pub(crate) const GAP: u64 = 256 << 10;

/// Told after each frame how much has arrived; [`ControlFlow::Break`] ends the filling.
pub type Told<'a> = dyn Fn(BlockCount) -> ControlFlow<()> + Sync + 'a;

impl Cached {
    /// Brings all that is wanted and missing, several packs at a time, and keeps it. Returns
    /// whether it is whole: it is not when `told` ended it.
    pub fn fill(&self, streams: usize, told: &Told<'_>) -> Result<bool, BlockError> {
        let next = AtomicUsize::new(0);
        let one = || {
            while let Some(slot) = self.cache().slots().get(next.fetch_add(1, Ordering::Relaxed)) {
                if !self.fill_pack(slot, told)? {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        let all: Result<Vec<bool>, BlockError> = std::thread::scope(|scope| {
            let started: Vec<_> = (0..streams.max(1)).map(|_| scope.spawn(one)).collect();
            let join = |one: std::thread::ScopedJoinHandle<'_, _>| {
                one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            started.into_iter().map(join).collect()
        });
        // What did arrive is kept, whatever became of the rest.
        let kept = self.cache().keep();
        let is_whole = all?.into_iter().all(|whole| whole);
        kept.map_err(|error| not_kept(&error))?;
        Ok(is_whole)
    }

    /// Brings what is missing of some blocks, in the order in which they are wanted, as one stream
    /// where that may be. It is kept when something else is. Returns whether all of it is here.
    pub fn fill_first(&self, wanted: &[Range<u64>], told: &Told<'_>) -> Result<bool, BlockError> {
        for (slot, wanted) in by_pack(self.cache().slots(), wanted) {
            let runs = match self.cache().index(slot) {
                // What is wanted from its beginning on was put there to be wanted first.
                None if wanted[0].start == slot.first && self.wanted.has(slot.blocks()) => {
                    vec![Run::whole()]
                }
                _ => {
                    let index = self.index(slot)?;
                    let frames = wanted.iter().flat_map(|blocks| frames_of(slot, &index, blocks));
                    self.missing(slot, &index, frames)
                }
            };
            if !self.bring_runs(slot, &runs, told)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn fill_pack(&self, slot: &Slot, told: &Told<'_>) -> Result<bool, BlockError> {
        if self.has_wanted(slot.blocks()) {
            return Ok(true);
        }
        let runs = match self.cache().index(slot) {
            // Its frames come behind its index.
            None if self.wanted.has(slot.blocks()) => vec![Run::whole()],
            _ => {
                let index = self.index(slot)?;
                self.missing(slot, &index, 0..index.frames().len())
            }
        };
        if !self.bring_runs(slot, &runs, told)? {
            return Ok(false);
        }
        // A machine that loses power begins again here.
        self.cache().keep().map(|()| true).map_err(|error| not_kept(&error))
    }

    fn bring_runs(&self, slot: &Slot, runs: &[Run], told: &Told<'_>) -> Result<bool, BlockError> {
        for run in runs {
            if !self.until_right(slot.object(), |supply| {
                Arriving::new(self, slot, run, told).all(supply)
            })? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Runs to ask for at once, of some frames in the order in which they are wanted.
    fn missing(
        &self,
        slot: &Slot,
        index: &Arc<PackIndex>,
        frames: impl IntoIterator<Item = usize>,
    ) -> Vec<Run> {
        let (mut runs, mut seen): (Vec<Run>, _) = (Vec::new(), BTreeSet::new());
        for number in frames {
            let frame = &index.frames()[number];
            if !seen.insert(number) || self.has_wanted(blocks_of(slot, frame)) {
                continue;
            }
            match runs.last_mut() {
                Some(run) if run.frames.end <= number && run.gap(index, number) < GAP => {
                    run.frames.end = number + 1;
                }
                _ => runs.push(Run { index: Some(index.clone()), frames: number..number + 1 }),
            }
        }
        runs
    }
}

/// Blocks that are wanted, by the packs that they lie in, for as long as it is the same one.
fn by_pack<'a>(slots: &'a [Slot], wanted: &[Range<u64>]) -> Vec<(&'a Slot, Vec<Range<u64>>)> {
    let mut packs: Vec<(&Slot, Vec<Range<u64>>)> = Vec::new();
    for blocks in wanted {
        let first = slots.partition_point(|slot| slot.blocks().end <= blocks.start);
        for slot in slots[first..].iter().take_while(|slot| slot.first < blocks.end) {
            let pack = slot.blocks();
            let part = blocks.start.max(pack.start)..blocks.end.min(pack.end);
            match packs.last_mut() {
                Some((last, parts)) if last.first == slot.first => parts.push(part),
                _ => packs.push((slot, vec![part])),
            }
        }
    }
    packs
}

/// The frames that some blocks of a pack lie in.
fn frames_of(slot: &Slot, index: &PackIndex, blocks: &Range<u64>) -> Range<usize> {
    let frames = index.frames();
    let from = frames.partition_point(|frame| blocks_of(slot, frame).end <= blocks.start);
    let to = frames.partition_point(|frame| blocks_of(slot, frame).start < blocks.end);
    from..to
}

pub(crate) fn not_kept(error: &CacheError) -> BlockError {
    BlockError::Io { what: "keeping what has arrived", message: error.to_string(), code: None }
}

/// What is asked for at once: frames of a pack, behind its index where that is not known.
struct Run {
    index: Option<Arc<PackIndex>>,
    frames: Range<usize>,
}

impl Run {
    /// All of a pack that nothing is known of.
    fn whole() -> Self {
        Self { index: None, frames: 0..usize::MAX }
    }

    /// Bytes between its end and a frame behind it.
    fn gap(&self, index: &PackIndex, number: usize) -> u64 {
        let frames = index.frames();
        frames[number].at - stored(&frames[self.frames.end - 1]).end
    }
}

/// A run while it arrives.
struct Arriving<'a> {
    cached: &'a Cached,
    slot: &'a Slot,
    told: &'a Told<'a>,
    index: Option<Arc<PackIndex>>,
    /// Frames that are still to come.
    frames: Range<usize>,
    /// What came of the next one.
    rest: Vec<u8>,
}

impl<'a> Arriving<'a> {
    fn new(cached: &'a Cached, slot: &'a Slot, run: &Run, told: &'a Told<'a>) -> Self {
        let (index, frames) = (run.index.clone(), run.frames.clone());
        Self { cached, slot, told, index, frames, rest: Vec::new() }
    }

    /// Takes all of it. Returns whether it came to its end.
    fn all(mut self, supply: &dyn Supply) -> Result<bool, Failure> {
        let range = match &self.index {
            None => 0..self.slot.pack.len,
            Some(index) => {
                let frames = index.frames();
                frames[self.frames.start].at..stored(&frames[self.frames.end - 1]).end
            }
        };
        let coming = self.cached.coming.clone();
        let streaming = coming.stream(self.slot.first, range.clone());
        let (slot, mut wrong, mut stopped) = (self.slot, None, false);
        let mut take = |piece: &[u8]| {
            self.cached.demand.let_pass();
            match self.take(piece, &streaming) {
                Ok(flow) => {
                    stopped = flow.is_break();
                    flow
                }
                Err(error) => {
                    wrong = Some(error);
                    ControlFlow::Break(())
                }
            }
        };
        let streamed = supply.stream(slot.object(), range, &mut take);
        if let Some(error) = wrong {
            return Err(Failure::Cache(error));
        }
        streamed.map_err(Failure::Supply)?;
        Ok(!stopped)
    }

    fn take(
        &mut self,
        piece: &[u8],
        streaming: &Streaming<'_>,
    ) -> Result<ControlFlow<()>, CacheError> {
        self.rest.extend_from_slice(piece);
        loop {
            let frame = match &self.index {
                None => None,
                Some(index) => match index.frames().get(self.frames.start) {
                    Some(frame) if !self.frames.is_empty() => Some(*frame),
                    _ => return Ok(ControlFlow::Continue(())),
                },
            };
            let len = frame.map_or(self.slot.pack.head_len, |frame| frame.stored_len) as usize;
            if self.rest.len() < len {
                return Ok(ControlFlow::Continue(()));
            }
            let part: Vec<u8> = self.rest.drain(..len).collect();
            let Some(frame) = frame else {
                self.index = Some(self.cached.cache().put_head(self.slot, &part)?);
                streaming.reached(len as u64);
                continue;
            };
            self.cached.cache().put(self.slot, &frame, &part)?;
            self.frames.start += 1;
            streaming.reached(stored(&frame).end);
            if (self.told)(self.cached.arrived()).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }
}
