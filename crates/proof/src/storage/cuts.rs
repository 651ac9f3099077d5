//! Random workloads into power cuts (A1), and power cuts in the middle of recoveries (A4).

use std::io::ErrorKind;

use goldleaf_host::Dir as _;
use goldleaf_host::sim::SimDir;

use super::oracle::{BLOCK, Oracle, Wrong};
use super::workload::{Base, Random, Step, content, create, open};
use super::{Failure, failure};

/// Ways in which one cut turns out that are looked at.
const WAYS: u64 = 12;

/// What was met, so that it is known to be met.
#[derive(Debug, Clone, Copy, Default)]
pub struct Met {
    /// States after a power cut that were recovered and compared.
    pub states: u64,
    /// Of these, after a recovery that was itself cut.
    pub recoveries_cut: u64,
    /// Records that were there without their data.
    pub dropped: u64,
    /// States in which a flush that had returned was lost.
    pub lost: u64,
    /// States with a torn block, or with blocks of different moments.
    pub torn: u64,
    /// States in which a block had what another one had.
    pub stale: u64,
}

impl Met {
    /// Both together.
    pub fn with(self, other: Met) -> Met {
        Met {
            states: self.states + other.states,
            recoveries_cut: self.recoveries_cut + other.recoveries_cut,
            dropped: self.dropped + other.dropped,
            lost: self.lost + other.lost,
            torn: self.torn + other.torn,
            stale: self.stale + other.stale,
        }
    }

    /// Counts and tells what a disk must not hold; any other failure stays one.
    pub fn with_wrong(mut self, failure: Failure) -> Result<Met, Failure> {
        let count = match failure.wrong {
            None => return Err(failure),
            Some(Wrong::Lost(_)) => &mut self.lost,
            Some(Wrong::Torn(_) | Wrong::Mixed) => &mut self.torn,
            Some(Wrong::Stale(_)) => &mut self.stale,
        };
        *count += 1;
        eprintln!("  {failure}");
        Ok(self)
    }
}

/// One life of a session: some rounds of work, each ended by a power cut.
pub fn life(seed: u64) -> Result<Met, Failure> {
    let mut random = Random(seed);
    let len = [8, 16, 24][random.below(3)] * BLOCK - 1536 * random.below(2);
    let mut dir = SimDir::new();
    let mut device = create(&dir, len).map_err(failure(seed, "creating"))?;
    let mut oracle = Oracle::new(Base(len).content());
    if random.below(4) == 0 {
        // A session that was made is there, and holds what its base holds.
        dir = dir.crash(seed);
        device = open(&dir, len).map_err(failure(seed, "opening what was made"))?.0;
    }
    let mut met = Met::default();
    for round in 0..3 {
        dir.stop_after(random.below(160) as u64, ErrorKind::Other);
        work(&device, &mut oracle, &mut random, len).map_err(failure(seed, "working"))?;
        let mut next = None;
        for way in 0..WAYS {
            let cut = dir.crash(seed ^ (round << 56 | way << 48));
            next = Some(recover(&cut, len, &oracle, &mut random, &mut met, seed)?);
        }
        let Some((settled, found)) = next else { break };
        dir = settled;
        device = open(&dir, len).map_err(failure(seed, "opening again"))?.0;
        let again = content(&device).map_err(failure(seed, "reading again"))?;
        if again != found {
            return Err(failure(seed, "opening again")("another content than before"));
        }
        oracle = Oracle::new(found);
    }
    Ok(met)
}

/// Steps until the machine stops.
fn work(
    device: &goldleaf_block::SessionDevice,
    oracle: &mut Oracle,
    random: &mut Random,
    len: usize,
) -> Result<(), String> {
    // A guest that hardly ever flushes lets many records wait for one sync.
    let rarely = random.below(3);
    loop {
        let step = random.step(len);
        if step == Step::Flush && random.below(4) < rarely {
            continue;
        }
        oracle.begin(&step);
        match step.apply(device) {
            Ok(()) if step == Step::Flush => oracle.flushed(),
            Ok(()) => {}
            Err(_) => return Ok(()),
        }
        if random.below(8) == 0 {
            match content(device) {
                Ok(bytes) if bytes == oracle.content() => {}
                Ok(_) => return Err(format!("{step:?}: another content than the model's")),
                Err(_) => return Ok(()),
            }
        }
    }
}

/// Recovers what a cut left, once in one go and once with cuts between; the second is returned.
fn recover(
    cut: &SimDir,
    len: usize,
    oracle: &Oracle,
    random: &mut Random,
    met: &mut Met,
    seed: u64,
) -> Result<(SimDir, Vec<u8>), Failure> {
    let copy = cut.crash(0);
    let (device, recovery) = open(&copy, len).map_err(failure(seed, "recovering"))?;
    let found = content(&device).map_err(failure(seed, "reading what was recovered"))?;
    oracle.check(&found).map_err(|wrong| Failure {
        wrong: Some(wrong),
        ..failure(seed, "after a power cut")(wrong)
    })?;
    let names = copy.list().map_err(failure(seed, "listing"))?;
    if !names.iter().map(|item| item.name.as_str()).eq(["data", "index"]) {
        return Err(failure(seed, "after a recovery")(format!("files are left: {names:?}")));
    }
    met.states += 1;
    met.dropped += recovery.dropped_commits;
    let mut dir = cut.crash(0);
    if random.below(4) == 0 {
        for again in 0..=random.below(2) as u64 {
            dir.stop_after(random.below(40) as u64, ErrorKind::Other);
            met.recoveries_cut += u64::from(open(&dir, len).is_err());
            dir = dir.crash(seed ^ again << 40);
        }
        let device = open(&dir, len).map_err(failure(seed, "recovering a recovery"))?.0;
        let second = content(&device).map_err(failure(seed, "reading a recovery's recovery"))?;
        if second != found {
            return Err(failure(seed, "recovering a recovery")("another content than at once"));
        }
        met.states += 1;
    } else {
        dir = copy;
    }
    drop(device);
    // Nobody has flushed since, but what was recovered is settled.
    let settled = dir.crash(seed.rotate_left(9));
    let device = open(&settled, len).map_err(failure(seed, "a cut behind a recovery"))?.0;
    let third = content(&device).map_err(failure(seed, "reading behind a recovery"))?;
    met.states += 1;
    if third != found {
        return Err(failure(seed, "a cut behind a recovery")("another content than before"));
    }
    Ok((settled, found))
}
