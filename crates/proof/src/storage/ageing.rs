//! Old age on the host's own file system, with the limits of the product (A7): a device is
//! overwritten a hundred times, block by block, as files that are rewritten, and trimmed between.
//! All along, what the log's files occupy is compared with what lives in them; after each overwrite
//! every block of the data file must be reachable, or known to be dead, and none reachable twice.
//! Now and then the session is ended, settled on the disk, opened and read.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use goldleaf_block::{
    BlockCount, BlockNo, ByteLen, ByteOffset, ReadBlocks, SessionDevice, SessionId, SourceIndex,
    Target, WriteBlocks,
};
use goldleaf_host::{Dir, RealDir};

use super::hasty::HastyDir;
use super::oracle::BLOCK;
use super::workload::{Base, DIGEST};
use crate::Result;
use crate::dice::Dice;

/// Blocks of the device: 128 MiB, eight times what always may wait.
const BLOCKS: u64 = 32_768;
/// Times that as many blocks are written as the device has, in a run.
const OVERWRITES: u64 = 100;
/// Overwrites between two ends of the session.
const LIFE: u64 = 25;
/// Bytes that a log may occupy beyond its share of what lives, when no write is longer than 1 MiB:
/// 16 MiB that always may wait, as much that waits for a flush, and as much that is spare.
const RESERVE: u64 = 48 << 20;
/// Bytes of a block and of its entry in the index.
const LIVE: u64 = BLOCK as u64 + 64;
/// Changes between two flushes, and between two looks at the files.
const FLUSH: u64 = 256;

/// What was met.
#[derive(Default)]
pub struct Aged {
    /// Runs.
    pub runs: u64,
    /// Overwrites of the whole device.
    pub overwrites: f64,
    /// The most that the files occupied, without the reserve, by what lived then.
    pub growth: f64,
    /// The most that they occupied beyond what lived, in megabytes.
    pub beyond_mb: f64,
    /// What lived at the end, in megabytes.
    pub live_mb: f64,
    /// Blocks of the data file that are neither reachable nor known to be dead.
    pub leaked: u64,
    /// Slots that two blocks have.
    pub twice: u64,
}

impl Aged {
    fn with(self, other: Self) -> Self {
        Self {
            runs: self.runs + other.runs,
            overwrites: self.overwrites + other.overwrites,
            growth: self.growth.max(other.growth),
            beyond_mb: self.beyond_mb.max(other.beyond_mb),
            live_mb: self.live_mb.max(other.live_mb),
            leaked: self.leaked + other.leaked,
            twice: self.twice + other.twice,
        }
    }
}

/// So many runs, on both cores.
pub fn runs(seed: u64, runs: u64) -> Result<Aged> {
    let mut aged = Aged::default();
    for first in (0..runs).step_by(2) {
        let pair: Vec<_> = std::thread::scope(|scope| {
            let seeds = seed + first..seed + runs.min(first + 2);
            let pair: Vec<_> = seeds.map(|seed| scope.spawn(move || one(seed))).collect();
            pair.into_iter().map(|run| run.join().map_err(|_| "a run panicked")).collect()
        });
        for run in pair {
            aged = aged.with(run??);
        }
    }
    Ok(aged)
}

fn one(seed: u64) -> std::result::Result<Aged, String> {
    let mut aged = Aged { runs: 1, growth: f64::MIN, ..Aged::default() };
    let mut run = || -> Result<()> {
        let scratch = tempfile::tempdir()?;
        Disk::create(scratch.path(), seed)?.age(&mut aged)
    };
    run().map_err(|error| format!("ageing, seed {seed}: {error}"))?;
    Ok(aged)
}

/// A device that grows old, and what it must hold: the number of the last write a block, 0 where
/// it was trimmed.
struct Disk<'a> {
    path: &'a Path,
    device: SessionDevice,
    model: Vec<u64>,
    dice: Dice,
    /// Blocks written.
    written: u64,
    /// Changes made.
    changes: u64,
}

impl<'a> Disk<'a> {
    fn create(path: &'a Path, seed: u64) -> Result<Self> {
        let dir = Arc::new(HastyDir(RealDir::open(path)?));
        let device = SessionDevice::create(dir, base(), SessionId([9; 16]), DIGEST)?;
        let model = vec![0; BLOCKS as usize];
        let mut disk =
            Self { path, device, model, dice: Dice::new(seed, 7), written: 0, changes: 0 };
        for start in (0..BLOCKS).step_by(256) {
            disk.write(start, 256)?;
        }
        Ok(disk)
    }

    fn age(mut self, aged: &mut Aged) -> Result<()> {
        for overwrite in 1..=OVERWRITES {
            while self.written < (overwrite + 1) * BLOCKS {
                self.change(overwrite)?;
                self.changes += 1;
                if self.changes % FLUSH == 0 {
                    // One that is lazy leaves it to the log.
                    if overwrite % 8 != 0 {
                        self.device.flush()?;
                    }
                    self.measure(aged)?;
                }
            }
            self.device.flush()?;
            self.check_slots(aged)?;
            if overwrite % LIFE == 0 {
                self = self.end_and_open()?;
            }
        }
        aged.overwrites += self.written as f64 / BLOCKS as f64 - 1.0;
        aged.live_mb = self.measure(aged)? / 1e6;
        Ok(())
    }

    /// One change: of a block, of some, of a whole file; written, now and then trimmed.
    fn change(&mut self, overwrite: u64) -> Result<()> {
        let most = [1, 1, 16, 256][(overwrite % 4) as usize];
        let count = if most == 256 { 256 } else { 1 + self.dice.below(most) };
        let start = self.dice.below(BLOCKS / count) * count;
        if self.dice.below(16) == 0 {
            let (at, len) = (BlockNo(start).offset(), BlockCount(count).bytes());
            self.device.discard(at, len)?;
            self.model[start as usize..][..count as usize].fill(0);
            return Ok(());
        }
        self.write(start, count)
    }

    fn write(&mut self, start: u64, count: u64) -> Result<()> {
        self.written += count;
        let mut bytes = vec![0x5A; count as usize * BLOCK];
        for (block, number) in (start..).zip(bytes.chunks_exact_mut(BLOCK)) {
            self.model[block as usize] = self.written;
            number[..8].copy_from_slice(&self.written.to_le_bytes());
            number[8..16].copy_from_slice(&block.to_le_bytes());
        }
        Ok(self.device.write_at(BlockNo(start).offset(), &bytes)?)
    }

    /// What the files occupy beside what lives, which is returned, in bytes.
    fn measure(&self, aged: &mut Aged) -> Result<f64> {
        let live = (self.device.usage()?.live.0 * LIVE) as f64;
        let occupied = |name| Ok::<_, std::io::Error>(self.path.join(name).metadata()?.blocks());
        let all = (occupied("data")? + occupied("index")?) * 512;
        let growth = (all as f64 - RESERVE as f64) / live;
        aged.growth = aged.growth.max(growth);
        aged.beyond_mb = aged.beyond_mb.max((all as f64 - live) / 1e6);
        Ok(live)
    }

    /// Looks for slots that leak, and for slots that two blocks have.
    fn check_slots(&self, aged: &mut Aged) -> Result<()> {
        let mut slots: Vec<u64> = Vec::new();
        for extent in self.device.extents(SourceIndex(0)) {
            if let Target::Source { at, .. } = extent.target {
                slots.extend(at.0..at.0 + extent.range.count.0);
            }
        }
        let reachable = slots.len() as u64;
        slots.sort_unstable();
        slots.dedup();
        aged.twice += reachable - slots.len() as u64;
        let (mut at, mut there) = (0, 0);
        while let Some((start, end)) = self.device.data_file().next_data(at)? {
            (at, there) = (end, there + (end - start).div_ceil(BLOCK as u64));
        }
        let usage = self.device.usage()?;
        aged.leaked += there.saturating_sub(slots.len() as u64 + usage.dead.0);
        let lost = usage.live.0 != reachable || usage.punch_failures > 0;
        if lost { Err(format!("{reachable} are reachable: {usage:?}").into()) } else { Ok(()) }
    }

    /// Ends the session, and goes on with what the disk has of it.
    fn end_and_open(self) -> Result<Self> {
        drop(self.device);
        let dir = RealDir::open(self.path)?;
        let (device, _) = SessionDevice::open(dir.clone(), base(), &DIGEST)?;
        let mut block = [0; BLOCK];
        for (number, &written) in self.model.iter().enumerate() {
            device.read_at(ByteOffset((number * BLOCK) as u64), &mut block)?;
            let word = |at: usize| block[at..at + 8].try_into().map(u64::from_le_bytes);
            let place = if written == 0 { 0 } else { number as u64 };
            if (word(0)?, word(8)?) != (written, place) {
                return Err(format!("block {number} does not hold write {written}").into());
            }
        }
        drop(device);
        let dir = Arc::new(HastyDir(dir as Arc<dyn Dir>));
        let (device, _) = SessionDevice::open(dir, base(), &DIGEST)?;
        Ok(Self { device, ..self })
    }
}

fn base() -> Arc<Base> {
    let len = ByteLen(BLOCKS * BLOCK as u64);
    Arc::new(Base(len.0 as usize))
}
