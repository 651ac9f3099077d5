//! An error at every operation of every workflow (A3; the method is SQLite's).
//!
//! A workflow runs on a session that is prepared for it, and its n-th operation on the storage
//! fails, for every n until it runs through. Then the storage is well again, and: the error was of
//! the right type, what lives reads as before or after, a flush that returns now keeps its word
//! (an fsync that failed once and then succeeds has kept nothing), and after a power cut there is
//! nothing but what the model allows.

use std::io::ErrorKind;

use goldleaf_block::{BlockError, SessionDevice, SourceIndex, WriteBlocks};
use goldleaf_host::sim::SimDir;

use super::oracle::{BLOCK, Oracle};
use super::workload::{Base, Step, content, create, open};
use super::{Failure, failure};

const LEN: usize = 24 * BLOCK;

/// How an operation fails: with an error, or half done with an error.
const KINDS: [(ErrorKind, bool); 6] = [
    (ErrorKind::Other, false),
    (ErrorKind::StorageFull, false),
    (ErrorKind::Other, true),
    (ErrorKind::StorageFull, true),
    (ErrorKind::Interrupted, false),
    (ErrorKind::ReadOnlyFilesystem, false),
];

/// What is done while an operation fails.
enum Work {
    /// Steps on an open session.
    Steps(Vec<Step>),
    /// Steps while a snapshot is held, taken among what may fail.
    Snapshot(Vec<Step>),
    /// Opening the session again after its process was killed.
    Open,
    /// Opening it again after a power cut with this seed.
    OpenAfterCut(u64),
    /// Making the session.
    Create,
}

/// A workflow: its name, what comes before, and what is done.
struct Workflow {
    name: &'static str,
    before: Vec<Step>,
    work: Work,
}

fn write(block: usize, blocks: usize, fill: u8) -> Step {
    Step::Write { at: block * BLOCK, len: blocks * BLOCK, fill }
}

/// Enough flushes to make the next one compact the index.
fn long_past() -> Vec<Step> {
    (0..9).flat_map(|round| [write(round % 3, 1, round as u8 + 1), Step::Flush]).collect()
}

fn workflows() -> Vec<Workflow> {
    use Work::{Create, Open, OpenAfterCut, Snapshot, Steps};
    let filled = || vec![write(0, 20, 1), Step::Flush];
    let unflushed = || vec![write(0, 4, 1), Step::Flush, write(2, 6, 2)];
    let flow = |name, before, work| Workflow { name, before, work };
    let discard =
        |block: usize, blocks: usize| Step::Discard { at: block * BLOCK, len: blocks * BLOCK };
    vec![
        flow("create", vec![], Create),
        flow("write new blocks", vec![], Steps(vec![write(0, 3, 1)])),
        flow("write and flush", vec![], Steps(vec![write(0, 3, 1), Step::Flush])),
        flow(
            "overwrite within a generation",
            vec![write(0, 4, 1)],
            Steps(vec![write(1, 2, 2), Step::Flush]),
        ),
        flow("overwrite what was flushed", filled(), Steps(vec![write(1, 2, 2), Step::Flush])),
        flow(
            "overwrite old and new at once",
            unflushed(),
            Steps(vec![write(1, 9, 3), Step::Flush]),
        ),
        flow(
            "part of a block",
            filled(),
            Steps(vec![Step::Write { at: 700, len: 9, fill: 9 }, Step::Flush]),
        ),
        flow(
            "across blocks",
            filled(),
            Steps(vec![Step::Write { at: 4000, len: 9000, fill: 9 }, Step::Flush]),
        ),
        flow("more than a record", vec![], Steps(vec![write(0, 24, 4), Step::Flush])),
        flow(
            "zero what is there",
            filled(),
            Steps(vec![Step::Zero { at: 100, len: 9000 }, Step::Flush]),
        ),
        flow(
            "zero what only the base has",
            vec![],
            Steps(vec![Step::Zero { at: 3 * BLOCK, len: 3 * BLOCK }, Step::Flush]),
        ),
        flow("trim", filled(), Steps(vec![discard(0, 3), Step::Flush])),
        flow(
            "trim much, and give it back",
            filled(),
            Steps(vec![discard(0, 20), Step::Flush, Step::Flush]),
        ),
        flow(
            "overwrite much, and give it back",
            filled(),
            Steps(vec![write(0, 20, 2), Step::Flush, write(0, 20, 3), Step::Flush]),
        ),
        flow("flush only", unflushed(), Steps(vec![Step::Flush])),
        flow(
            "flush, and write the index anew",
            long_past(),
            Steps(vec![write(0, 1, 7), Step::Flush, write(1, 1, 8), Step::Flush]),
        ),
        flow("snapshot", unflushed(), Snapshot(vec![])),
        flow(
            "work on a snapshot",
            filled(),
            Snapshot(vec![write(0, 20, 5), Step::Flush, write(0, 20, 6), Step::Flush]),
        ),
        flow("open", unflushed(), Open),
        flow("open with an index in pieces", long_past(), Open),
        flow("open after a cut", unflushed(), OpenAfterCut(1)),
        flow("open after another cut", unflushed(), OpenAfterCut(6)),
    ]
}

/// Runs all workflows; returns how many there are, and how many operations failed in all.
pub fn run() -> Result<(u64, u64), Failure> {
    let (mut flows, mut indices) = (0, 0);
    for workflow in workflows() {
        for kind in KINDS {
            for after in 0.. {
                match once(&workflow, kind, after).map_err(|error| Failure {
                    what: format!("{}, {kind:?} at {after}: {error}", workflow.name),
                    seed: after,
                })? {
                    true => indices += 1,
                    false => break,
                }
            }
        }
        flows += 1;
    }
    Ok((flows, indices))
}

/// Whether the operation that was to fail was reached.
fn once(workflow: &Workflow, (kind, short): (ErrorKind, bool), after: u64) -> Result<bool, String> {
    let mut dir = SimDir::new();
    let mut oracle = Oracle::new(Base(LEN).content());
    let plan = |dir: &SimDir| match short {
        true => dir.cut_short_after(after, kind),
        false => dir.fail_after(after, kind),
    };
    if let Work::Create = workflow.work {
        let start = dir.operations();
        plan(&dir);
        let made = create(&dir, LEN);
        let reached = dir.operations() - start > after;
        dir.heal();
        return match made {
            Err(error) if reached => typed(&error).map(|()| true),
            Err(error) => Err(error.to_string()),
            Ok(_) if reached => Err("an error was passed over".into()),
            Ok(device) => settle(&dir, &device, &oracle).map(|()| false),
        };
    }
    let device = create(&dir, LEN).map_err(|error| error.to_string())?;
    for step in &workflow.before {
        oracle.begin(step);
        step.apply(&device).map_err(|error| error.to_string())?;
        if *step == Step::Flush {
            oracle.flushed();
        }
    }
    let mut device = Some(device);
    if let Work::Open | Work::OpenAfterCut(_) = workflow.work {
        device = None;
    }
    if let Work::OpenAfterCut(seed) = workflow.work {
        dir = dir.crash(seed);
    }
    let start = dir.operations();
    plan(&dir);
    let outcome = match &workflow.work {
        Work::Steps(steps) => device.as_ref().map(|device| do_steps(device, steps, &mut oracle)),
        Work::Snapshot(steps) => device.as_ref().map(|device| {
            let snapshot = device.snapshot(SourceIndex(0))?;
            let held = held(device, &snapshot.extents);
            let done = do_steps(device, steps, &mut oracle);
            // What the snapshot refers to stays, whatever failed.
            if held != self::held(device, &snapshot.extents) {
                return Err(BlockError::Poisoned);
            }
            done
        }),
        _ => Some(open(&dir, LEN).map(|(opened, _)| device = Some(opened))),
    };
    let reached = dir.operations() - start > after;
    dir.heal();
    match outcome {
        Some(Err(error)) if !reached => return Err(error.to_string()),
        Some(Err(error)) => typed(&error)?,
        _ => {}
    }
    let device = match device {
        Some(device) => device,
        None => open(&dir, LEN).map_err(|error| format!("opening a second time: {error}"))?.0,
    };
    let live = content(&device).map_err(|error| error.to_string())?;
    oracle.check(&live)?;
    oracle.found(&live);
    settle(&dir, &device, &oracle)?;
    Ok(reached)
}

fn do_steps(device: &SessionDevice, steps: &[Step], oracle: &mut Oracle) -> Result<(), BlockError> {
    for step in steps {
        oracle.begin(step);
        step.apply(device)?;
        if *step == Step::Flush {
            oracle.flushed();
        }
    }
    Ok(())
}

/// What a snapshot's extents hold, read from the session's file as a compose would.
fn held(device: &SessionDevice, extents: &[goldleaf_block::MapExtent]) -> Vec<Vec<u8>> {
    let read = |extent: &goldleaf_block::MapExtent| match extent.target {
        goldleaf_block::Target::Source { at, .. } => {
            let mut bytes = vec![0; extent.range.count.bytes().0 as usize];
            let file = device.data_file();
            file.read_exact_at(&mut bytes, at.offset().0).map(|()| bytes).unwrap_or_default()
        }
        _ => Vec::new(),
    };
    extents.iter().map(read).collect()
}

fn typed(error: &BlockError) -> Result<(), String> {
    match error {
        BlockError::Io { .. } | BlockError::Poisoned => Ok(()),
        other => Err(format!("an error of another type: {other}")),
    }
}

/// A flush either keeps its word or does not return; and a power cut leaves what is allowed.
fn settle(dir: &SimDir, device: &SessionDevice, oracle: &Oracle) -> Result<(), String> {
    let live = content(device).map_err(|error| error.to_string())?;
    let flushed = device.flush().is_ok();
    for seed in 0..6 {
        let cut = dir.crash(seed);
        let (after, _) = open(&cut, LEN).map_err(|error| format!("after a cut: {error}"))?;
        let found = content(&after).map_err(|error| error.to_string())?;
        oracle.check(&found)?;
        if flushed && found != live {
            return Err("a flush that returned did not keep what it had".into());
        }
    }
    go_on(dir, oracle)
}

/// The process is killed without a power cut, and another one goes on with what the cache has.
fn go_on(dir: &SimDir, oracle: &Oracle) -> Result<(), String> {
    let (device, _) = open(dir, LEN).map_err(|error| format!("by another process: {error}"))?;
    let found = content(&device).map_err(|error| error.to_string())?;
    oracle.check(&found)?;
    let mut oracle = Oracle::new(found);
    do_steps(&device, &[write(5, 2, 77), Step::Flush], &mut oracle).map_err(|e| e.to_string())?;
    for seed in 0..4 {
        let (after, _) = open(&dir.crash(seed), LEN).map_err(|e| format!("after both: {e}"))?;
        oracle.check(&content(&after).map_err(|error| error.to_string())?)?;
    }
    Ok(())
}

/// As [`run`], as a trial of its own.
pub fn trial() -> Result<u64, Failure> {
    run().map(|(_, indices)| indices).map_err(|error| failure(error.seed, "errors")(error.what))
}
