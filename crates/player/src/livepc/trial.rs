//! Trials: an edition that is new is on trial until a guest came up on it. After three starts in
//! which none did, what was before it is back.
//!
//! ```text
//!   adopt ──▶ on trial ── a guest came up: pass ──▶ good; what was before is forgotten
//!              │  ▲  │
//!        start │  │  └── start after the third: back ──▶ what was before; this one has failed here
//!              ▼  │
//!             counted before the guest runs
//! ```
//! Each arrow is one write of `livepc.json` under the LivePC's lock: several desktops of it may
//! start at once. A start of which nothing more is heard, whatever cut it off, did not come up.

use std::time::Duration;

use goldleaf_host::{Dir, Lock};
use serde::{Deserialize, Serialize};

use super::{LivePc, dir, get, open};
use crate::home::{step, write_record};
use crate::{Home, PlayerError};

/// Starts after which an edition that did not come up is given up: the first may have been cut off
/// by a power cut, the second by a person who was impatient.
pub const STARTS_MAX: u32 = 3;
/// How often the lock is asked for, and how long is waited in between. Whoever has it writes one
/// record.
const LOCK_TRIES: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// No guest came up on an edition yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// Starts so far.
    pub starts: u32,
    /// The LivePC as it is to be again if none comes up.
    pub before: Box<LivePc>,
}

/// An edition that was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GivenUp {
    /// The version that did not come up.
    pub version: u64,
    /// The version that is back.
    pub back: Option<u64>,
}

/// What a LivePC becomes by a new edition; `None` when it has that one, or when that one failed.
pub(super) fn adopted(before: Option<LivePc>, next: &LivePc) -> Option<LivePc> {
    let Some(before) = before else { return Some(next.clone()) };
    let version = next.version();
    if version == before.version() || version.is_some_and(|one| before.failed.contains(&one)) {
        return None;
    }
    let mut failed = before.failed.clone();
    let good = match &before.trial {
        // What never came up is nothing to come back to; once tried, it is nothing to go on with.
        Some(trial) => {
            failed.extend(before.version().filter(|_| trial.starts > 0));
            trial.before.clone()
        }
        None => Box::new(LivePc { failed: Default::default(), ..before }),
    };
    let is_new = good.version() != version;
    let trial = is_new.then_some(Trial { starts: 0, before: good });
    Some(LivePc { trial, failed, ..next.clone() })
}

/// Counts a start of an edition, before its guest runs. How many starts these are; `None` when that
/// version is not on trial.
pub fn count(home: &Home, name: &str, version: u64) -> Result<Option<u32>, PlayerError> {
    let counted = change(home, name, "livepc.try", |mut record| {
        let is_current = record.version() == Some(version);
        record.trial.as_mut().filter(|_| is_current)?.starts += 1;
        Some(record)
    })?;
    Ok(counted.and_then(|record| record.trial).map(|trial| trial.starts))
}

/// A guest came up on an edition: it is good, and what was before it is forgotten. One that was
/// given up meanwhile has not failed.
pub fn pass(home: &Home, name: &str, version: u64) -> Result<(), PlayerError> {
    change(home, name, "livepc.pass", |mut record| {
        let is_current = record.version() == Some(version);
        let was_on_trial = record.trial.take_if(|_| is_current).is_some();
        (record.failed.remove(&version) || was_on_trial).then_some(record)
    })
    .map(drop)
}

/// Brings back what was before an edition that was tried often enough; `None` where there is none.
pub fn judge(home: &Home, name: &str) -> Result<Option<GivenUp>, PlayerError> {
    let Some(version) = get(home, name)?.version() else { return Ok(None) };
    let back = change(home, name, "livepc.back", |mut record| {
        let is_current = record.version() == Some(version);
        let trial = record.trial.filter(|trial| is_current && trial.starts >= STARTS_MAX)?;
        record.failed.insert(version);
        Some(LivePc { failed: record.failed, ..*trial.before })
    })?;
    Ok(back.map(|record| GivenUp { version, back: record.version() }))
}

/// Lets an edition that failed be adopted once more.
pub fn retry(home: &Home, name: &str, version: u64) -> Result<(), PlayerError> {
    if open(home, name)?.is_none() {
        return Ok(());
    }
    change(home, name, "livepc.retry", |mut record| {
        record.failed.remove(&version).then_some(record)
    })
    .map(drop)
}

/// Changes a record, when there is something to change: read under the lock, written anew.
fn change(
    home: &Home,
    name: &str,
    as_step: &'static str,
    next: impl Fn(LivePc) -> Option<LivePc>,
) -> Result<Option<LivePc>, PlayerError> {
    // Most starts find nothing to do, and need not wait for it.
    if next(get(home, name)?).is_none() {
        return Ok(None);
    }
    let own = dir(home)?.dir(name).map_err(PlayerError::io("opening a LivePC"))?;
    let _lock = lock(home, own.as_ref(), name)?;
    let Some(record) = next(get(home, name)?) else { return Ok(None) };
    step(as_step, || write_record(own.as_ref(), "livepc.json", &record))?;
    Ok(Some(record))
}

/// Waits for the LivePC's lock.
pub(super) fn lock(home: &Home, own: &dyn Dir, name: &str) -> Result<Box<dyn Lock>, PlayerError> {
    for _ in 0..LOCK_TRIES {
        let lock = own.try_lock("lock").map_err(PlayerError::io("locking a LivePC"))?;
        if let Some(lock) = lock {
            return Ok(lock);
        }
        home.clock.sleep(LOCK_PAUSE);
    }
    let detail = "another command writes its record".into();
    Err(PlayerError::Busy { kind: "LivePC", name: name.into(), detail })
}
