//! One life of a file system over a session, and what is left of it to look at.

use std::path::PathBuf;

use tempfile::TempDir;

use super::bridge::{Bridge, Trust};
use super::cut::Cut;
use super::fs::FileSystem;
use super::workload::{self, History, LiveCut};
use super::write_log::WriteLog;
use crate::Result;
use crate::dice::Dice;

/// A file system that has done its work and is unmounted.
pub struct Life {
    /// What it is.
    pub system: FileSystem,
    /// What its disk was at first.
    pub base: PathBuf,
    /// What it did to its disk.
    pub log: WriteLog,
    /// What its files were.
    pub history: History,
    /// Where all files of it are.
    pub place: TempDir,
}

impl Life {
    /// Makes a file system and lets it work; so often the power is cut meanwhile, and once at its
    /// end.
    pub fn live(system: FileSystem, trust: Trust, cuts: usize, dice: &mut Dice) -> Result<Self> {
        let place = tempfile::tempdir()?;
        let bridge = Bridge::build(system, trust, place.path())?;
        let mut history = workload::run(&bridge, cuts, dice)?;
        bridge.unmount()?;
        let (position, seed) = (workload::file_len(&bridge.log)?, dice.next());
        history.cuts.push(LiveCut { sim: bridge.gate.crash(seed), position, seed });
        let log = WriteLog::parse(std::fs::read(&bridge.log)?)?;
        let base = bridge.base.clone();
        Ok(Self { system, base, log, history, place })
    }

    /// The power cuts of its time. What was under way came to the log later, so all of the rest may
    /// be there; nothing that was not asked for yet can be.
    pub fn take_cuts(&mut self) -> Vec<Cut> {
        let cuts = std::mem::take(&mut self.history.cuts);
        cuts.into_iter()
            .map(|LiveCut { sim, position, seed }| {
                let flush = self.log.last_flush(self.log.count_within(position));
                let durable = flush.map_or(0, |flush| flush + 1);
                let may = (durable..self.log.entries().len()).collect();
                Cut { sim, position, durable, may, seed }
            })
            .collect()
    }
}
