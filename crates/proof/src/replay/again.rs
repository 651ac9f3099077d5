//! What a log of writes says is done again, to a session on a storage that loses power.

use std::path::Path;
use std::sync::Arc;

use goldleaf_block::{BlockError, ByteLen, ByteOffset, ReadBlocks, SessionDevice, WriteBlocks};
use goldleaf_host::sim::{Exceptions, SimDir};

use super::bridge::open_base;
use super::cut::Cut;
use super::write_log::{Deed, Entry, WriteLog};
use crate::Result;
use crate::dice::Dice;
use crate::nbd::served::{DIGEST, SESSION};

/// Operations on the session's files that an entry needs, at most, about.
const OPERATIONS_AN_ENTRY: u64 = 3;
/// Operations on the session's files that a flush needs, at most, about.
const OPERATIONS_A_FLUSH: u64 = 8;

/// A session in which a log is done again.
pub struct Again<'a> {
    log: &'a WriteLog,
    base: Arc<dyn ReadBlocks>,
    sim: SimDir,
    device: SessionDevice,
    done: usize,
}

impl<'a> Again<'a> {
    /// Nothing is done yet.
    pub fn new(log: &'a WriteLog, base: &Path) -> Result<Self> {
        let (sim, base) = (SimDir::new(), open_base(base)?);
        let dir = Arc::new(sim.clone());
        let device = SessionDevice::create(dir, Arc::clone(&base), SESSION, DIGEST)?;
        Ok(Self { log, base, sim, device, done: 0 })
    }

    /// Goes on until a flush is done.
    pub fn go_to(&mut self, flush: usize) -> Result<()> {
        for entry in &self.log.entries()[self.done..=flush] {
            self.act(&self.device, entry)?;
        }
        self.done = flush + 1;
        Ok(())
    }

    fn act(&self, device: &SessionDevice, entry: &Entry) -> std::result::Result<(), BlockError> {
        let at = ByteOffset(entry.at);
        let written = self.log.written(entry);
        match entry.deed {
            Deed::Flush => device.flush(),
            Deed::Discard => device.discard(at, ByteLen(entry.len)),
            // What was asked for as zeroes is not told apart from zeroes that were written.
            Deed::Write if written.iter().all(|byte| *byte == 0) => {
                device.write_zeroes(at, ByteLen(entry.len))
            }
            Deed::Write => device.write_at(at, written),
        }
    }

    /// Power cuts: one at the flush, and so many behind it.
    pub fn cuts(&self, behind: u64, dice: &mut Dice) -> impl Iterator<Item = Result<Cut>> {
        let first = std::iter::once(Ok(self.cut(dice.next())));
        first.chain((0..behind).map(|_| self.cut_behind(dice.next())))
    }

    /// The power goes right after the flush.
    fn cut(&self, seed: u64) -> Cut {
        let position = self.log.len_of(self.done);
        Cut { sim: self.sim.crash(seed), position, durable: self.done, may: Vec::new(), seed }
    }

    /// The session is opened after the flush, gets some of what comes before the next one, and the
    /// power goes at any operation on its files, in that or in a flush behind it.
    fn cut_behind(&self, seed: u64) -> Result<Cut> {
        let mut dice = Dice::new(seed, 8);
        let rest = &self.log.entries()[self.done..];
        let between = rest.iter().take_while(|entry| entry.deed != Deed::Flush).count();
        let may: Vec<usize> =
            (self.done..self.done + between).filter(|_| !dice.one_in(3)).collect();
        let sim = self.sim.crash_by(&mut Exceptions::default());
        let dir = Arc::new(sim.clone());
        let (device, _) = SessionDevice::open(dir, Arc::clone(&self.base), &DIGEST)?;
        let operations = OPERATIONS_AN_ENTRY * may.len() as u64 + OPERATIONS_A_FLUSH;
        sim.stop_after(dice.below(operations), std::io::ErrorKind::Other);
        let entries = may.iter().map(|number| &self.log.entries()[*number]);
        // The first error is the power cut.
        let all = entries.map(|entry| self.act(&device, entry)).all(|outcome| outcome.is_ok());
        let _ = all.then(|| device.flush());
        let last = may.last().map_or(self.done, |number| number + 1);
        let position = self.log.len_of(last);
        Ok(Cut { sim: sim.crash(seed), position, durable: self.done, may, seed })
    }
}

/// Flushes to cut the power at: some of those behind `begin`, which is a length of the log, that
/// have something between them and the next one.
pub fn some_flushes(log: &WriteLog, begin: u64, count: usize, dice: &mut Dice) -> Vec<usize> {
    let pairs = log.entries().windows(2).enumerate().skip(log.count_within(begin));
    let mut flushes: Vec<usize> = pairs
        .filter(|(_, pair)| pair[0].deed == Deed::Flush && pair[1].deed != Deed::Flush)
        .map(|(number, _)| number)
        .collect();
    while flushes.len() > count {
        flushes.remove(dice.index(flushes.len()));
    }
    flushes
}
