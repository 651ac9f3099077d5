//! What happens besides power cuts: media that go bad, another base, old age (A7).

use std::fmt::Display;
use std::io::ErrorKind;

use goldleaf_block::{SessionDevice, SourceIndex, Target};
use goldleaf_host::sim::SimDir;

use super::oracle::{BLOCK, Oracle};
use super::workload::{Base, DIGEST, Random, Step, content, create, open};
use super::{Failure, failure};

const LEN: usize = 24 * BLOCK;

/// Lets the index of a settled session go bad in one place. It is refused then, or nothing that it
/// says has changed.
pub fn decay(seed: u64) -> Result<u64, Failure> {
    let fail = |error: &dyn Display| failure(seed, "preparing media that go bad")(error);
    let dir = SimDir::new();
    let device = create(&dir, LEN).map_err(|error| fail(&error))?;
    let mut random = Random(seed);
    for _ in 0..30 {
        random.step(LEN).apply(&device).map_err(|error| fail(&error))?;
    }
    Step::Flush.apply(&device).map_err(|error| fail(&error))?;
    let before = content(&device).map_err(|error| fail(&error))?;
    drop(device);
    drop(open(&dir, LEN).map_err(|error| fail(&error))?);
    let Some(decay) = dir.decay("index", seed) else { return Ok(0) };
    let Ok((device, _)) = open(&dir, LEN) else { return Ok(1) };
    let fail = |error: &dyn Display| failure(seed, "an index that went bad")(error);
    match content(&device) {
        Ok(found) if found != before => Err(fail(&format!("{decay:?} changed the content"))),
        _ => Ok(1),
    }
}

/// A session is not opened over another base, or one of another length.
pub fn other_base() -> Result<u64, Failure> {
    let fail = |error: &dyn Display| failure(0, "a session on another base")(error);
    let dir = SimDir::new();
    drop(create(&dir, LEN).map_err(|error| fail(&error))?);
    let open = |digest: [u8; 32], len: usize| {
        let base = std::sync::Arc::new(Base(len));
        goldleaf_block::SessionDevice::open(std::sync::Arc::new(dir.clone()), base, &digest)
    };
    if open([4; 32], LEN).is_ok() || open(DIGEST, LEN + BLOCK).is_ok() {
        return Err(fail(&"it was opened"));
    }
    open(DIGEST, LEN).map_err(|error| fail(&error))?;
    Ok(3)
}

/// Leaves records behind the end of the log that once were whole: a record whose data the cut took,
/// with a whole one behind it. Then the recovery is cut as well. None of them may come back.
pub fn earlier_life(seed: u64) -> Result<u64, Failure> {
    let fail = |error: &dyn Display| failure(seed, "records of an earlier life")(error);
    let dir = SimDir::new();
    let device = create(&dir, LEN).map_err(|error| fail(&error))?;
    let fill = |blocks: usize, fill| Step::Write { at: 0, len: blocks * BLOCK, fill };
    for step in [fill(8, 1), Step::Flush, fill(16, 2), Step::Discard { at: 0, len: 7 * BLOCK }] {
        step.apply(&device).map_err(|error| fail(&error))?;
    }
    // The last record is written then, and the sync of the data fails.
    dir.stop_after(1, ErrorKind::Other);
    let _ = Step::Flush.apply(&device);
    let (mut cuts, mut hits) = (0, 0);
    for way in 0..200 {
        let cut = dir.crash(seed ^ way << 32);
        let clean = cut.crash(0);
        let (device, recovery) = open(&clean, LEN).map_err(|error| fail(&error))?;
        if recovery.dropped_commits < 2 {
            continue;
        }
        hits += 1;
        let found = content(&device).map_err(|error| fail(&error))?;
        for stop in 0..40 {
            for again in 0..30 {
                let dir = cut.crash(0);
                dir.stop_after(stop, ErrorKind::Other);
                let _ = open(&dir, LEN);
                let dir = dir.crash(seed ^ again << 40 ^ stop);
                let (device, _) = open(&dir, LEN).map_err(|error| fail(&error))?;
                if content(&device).map_err(|error| fail(&error))? != found {
                    return Err(fail(&format!("way {way}, stopped at {stop}: they came back")));
                }
                cuts += 1;
            }
        }
        if hits == 2 {
            break;
        }
    }
    if hits == 0 {
        return Err(fail(&"no cut left them behind"));
    }
    Ok(cuts)
}

/// Overwrites a whole device again and again, with trims between, and looks for slots that leak:
/// what is allocated is what is reachable and what waits to be given back, and not much more. Some
/// rounds are of a guest that does not flush.
pub fn age(seed: u64, overwrites: usize) -> Result<u64, Failure> {
    let fail = |error: &dyn Display| failure(seed, "old age")(error);
    let dir = SimDir::new();
    let mut device = create(&dir, LEN).map_err(|error| fail(&error))?;
    let mut random = Random(seed);
    let mut oracle = Oracle::new(Base(LEN).content());
    for round in 0..overwrites {
        let lazy = random.below(8) == 0;
        for _ in 0..if lazy { 200 } else { 24 } {
            let step = random.step(LEN);
            if lazy && step == Step::Flush {
                continue;
            }
            oracle.begin(&step);
            step.apply(&device).map_err(|error| fail(&error))?;
        }
        check_space(&device).map_err(|error| fail(&format!("round {round}, {error}")))?;
        Step::Flush.apply(&device).map_err(|error| fail(&error))?;
        oracle.flushed();
        if random.below(16) == 0 {
            drop(device);
            device = open(&dir, LEN).map_err(|error| fail(&error))?.0;
        }
        if content(&device).map_err(|error| fail(&error))? != oracle.content() {
            return Err(fail(&format!("round {round}: another content than the model's")));
        }
        check_space(&device).map_err(|error| fail(&format!("round {round}: {error}")))?;
    }
    Ok(overwrites as u64)
}

/// Whether a log occupies what it may.
fn check_space(device: &SessionDevice) -> Result<(), String> {
    let slots = |target| matches!(target, Target::Source { .. });
    let extents = device.extents(SourceIndex(0));
    let reachable: u64 = extents.iter().filter(|e| slots(e.target)).map(|e| e.range.count.0).sum();
    let usage = device.usage().map_err(|error| error.to_string())?;
    if usage.live.0 != reachable {
        return Err(format!("{} slots count, {reachable} are reachable", usage.live));
    }
    let allocated = usage.data_allocated.0 / BLOCK as u64;
    if allocated > reachable + usage.dead.0 || allocated > reachable * 105 / 100 + RESERVE {
        return Err(format!("{allocated} blocks for {reachable} and {} that wait", usage.dead));
    }
    if usage.index.0 > INDEX_MOST {
        return Err(format!("an index of {} bytes", usage.index));
    }
    Ok(())
}

/// Blocks that may wait to be given back, with little limits: what one round kills, twice.
const RESERVE: u64 = 60;
/// Bytes of an index, with little limits, of a device of 24 blocks.
const INDEX_MOST: u64 = 160 << 10;
