//! What a power cut left, and what must be there by the log of what was done.

use std::path::Path;
use std::sync::Arc;

use goldleaf_block::{BLOCK_SIZE, ByteLen, ByteOffset, RangeKind, ReadBlocks, SessionDevice};
use goldleaf_host::sim::SimDir;

use super::bridge::open_base;
use super::write_log::WriteLog;
use crate::Result;
use crate::nbd::served::DIGEST;

/// What is read at one time, in bytes.
const PIECE_LEN: u64 = 1 << 20;

/// The session's files as a power cut left them.
pub struct Cut {
    /// The session.
    pub sim: SimDir,
    /// Length of the log of writes at that moment, in bytes.
    pub position: u64,
    /// So many entries of the log must be there: up to the last flush.
    pub durable: usize,
    /// Entries behind these that may be there, each of its blocks for itself.
    pub may: Vec<usize>,
    /// By which part of what was not durable is kept.
    pub seed: u64,
}

impl Cut {
    /// Opens the session as after any power cut.
    pub fn recovered(&self, base: &Path) -> Result<SessionDevice> {
        let dir = Arc::new(self.sim.clone());
        Ok(SessionDevice::open(dir, open_base(base)?, &DIGEST)?.0)
    }
}

/// Shows the whole of a device piece by piece, what is stored and what reads as zeroes.
pub fn walk(
    device: &dyn ReadBlocks,
    mut show: impl FnMut(u64, RangeKind, &[u8]) -> Result<()>,
) -> Result<()> {
    let (len, mut at) = (device.len().0, 0);
    let mut bytes = vec![0; usize::try_from(PIECE_LEN)?];
    while at < len {
        let (run, kind) = device.status(ByteOffset(at), ByteLen(PIECE_LEN.min(len - at)))?;
        let piece = &mut bytes[..usize::try_from(run.0)?];
        match kind {
            RangeKind::Data => device.read_at(ByteOffset(at), piece)?,
            RangeKind::Zero => piece.fill(0),
        }
        show(at, kind, piece)?;
        at += run.0;
    }
    Ok(())
}

/// The disk that a log prescribes, up to an entry.
pub struct Prescribed<'a> {
    log: &'a WriteLog,
    disk: Vec<u8>,
    done: usize,
}

impl<'a> Prescribed<'a> {
    /// The base, to which nothing is done yet.
    pub fn new(log: &'a WriteLog, base: &Path) -> Result<Self> {
        let base = open_base(base)?;
        let mut disk = vec![0; usize::try_from(base.len().0)?];
        walk(base.as_ref(), |at, kind, bytes| {
            // What is not touched takes no memory.
            if kind == RangeKind::Data {
                disk[at as usize..][..bytes.len()].copy_from_slice(bytes);
            }
            Ok(())
        })?;
        Ok(Self { log, disk, done: 0 })
    }

    /// Goes on until so many entries are done. It never goes back.
    pub fn go_to(&mut self, count: usize) {
        for entry in &self.log.entries()[self.done.min(count)..count] {
            self.log.lay(entry, 0, &mut self.disk);
        }
        self.done = self.done.max(count);
    }

    /// How many blocks of a part of a recovered disk are other than they may be.
    pub fn count_wrong(&self, start: u64, part: &[u8], may: &[usize]) -> u64 {
        let blocks = (start..).step_by(BLOCK_SIZE as usize).zip(part.chunks(BLOCK_SIZE as usize));
        blocks.filter(|(at, block)| !self.allows(*at, block, may)).count() as u64
    }

    /// A block is as it was at the flush, or as any of the later entries made it.
    fn allows(&self, at: u64, found: &[u8], may: &[usize]) -> bool {
        let durable = &self.disk[at as usize..][..found.len()];
        if durable == found {
            return true;
        }
        let mut block = durable.to_vec();
        may.iter().any(|number| {
            self.log.lay(&self.log.entries()[*number], at, &mut block) && block == found
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::write_log::tests::log;
    use super::*;

    #[test]
    fn a_block_is_as_at_the_flush_or_as_one_of_the_later_writes_made_it() {
        let bytes = log(&[(0, 8, 0, 1), (0, 0, 1, 0), (0, 8, 0, 2), (8, 8, 0, 3), (2, 1, 0, 4)]);
        let log = WriteLog::parse(bytes).expect("a log");
        let place = tempfile::tempdir().expect("scratch");
        let base = place.path().join("base");
        std::fs::write(&base, vec![9; 2 * 4096]).expect("base");
        let mut prescribed = Prescribed::new(&log, &base).expect("base");
        prescribed.go_to(2);
        let disk = |first: u8, second: u8| [[first; 4096], [second; 4096]].concat();
        let wrong = |disk: &[u8], may: &[usize]| prescribed.count_wrong(0, disk, may);
        assert_eq!(wrong(&disk(1, 9), &[]), 0);
        assert_eq!(wrong(&disk(9, 9), &[2, 3, 4]), 1, "the flush is lost");
        assert_eq!(wrong(&disk(1, 3), &[2, 3, 4]), 0, "each block for itself");
        assert_eq!(wrong(&disk(2, 3), &[2, 4]), 1, "what was not asked for");
        let mut torn = disk(1, 9);
        torn[..512].fill(2);
        assert_eq!(wrong(&torn, &[2, 3, 4]), 1, "half of a write");
        let mut last = disk(2, 9);
        last[1024..1536].fill(4);
        assert_eq!(wrong(&last, &[2, 3, 4]), 0);
        assert_eq!(wrong(&last, &[3, 4]), 1, "on what was not asked for");
    }
}
