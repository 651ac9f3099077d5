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
    use Step::Flush;
    use Work::{Create, Open, OpenAfterCut, Snapshot, Steps};
    let filled = || vec![write(0, 20, 1), Flush];
    let unflushed = || vec![write(0, 4, 1), Flush, write(2, 6, 2)];
    let part = |at, len| Step::Write { at, len, fill: 9 };
    let zero = |at, len| Step::Zero { at, len };
    let trim = |blocks: usize| Step::Discard { at: 0, len: blocks * BLOCK };
    let all = |fill| write(0, 20, fill);
    let old_data = || Steps(vec![zero(3 * BLOCK, 3 * BLOCK), Flush]);
    let flows = [
        ("create", vec![], Create),
        ("write new blocks", vec![], Steps(vec![write(0, 3, 1)])),
        ("write and flush", vec![], Steps(vec![write(0, 3, 1), Flush])),
        ("overwrite at once", vec![write(0, 4, 1)], Steps(vec![write(1, 2, 2), Flush])),
        ("overwrite what was flushed", filled(), Steps(vec![write(1, 2, 2), Flush])),
        ("overwrite old and new", unflushed(), Steps(vec![write(1, 9, 3), Flush])),
        ("part of a block", filled(), Steps(vec![part(700, 9), Flush])),
        ("across blocks", filled(), Steps(vec![part(4000, 9000), Flush])),
        ("more than a record", vec![], Steps(vec![write(0, 24, 4), Flush])),
        ("zero what is there", filled(), Steps(vec![zero(100, 9000), Flush])),
        ("zero what only the base has", vec![], old_data()),
        ("trim", filled(), Steps(vec![trim(3), Flush])),
        ("trim much, and give it back", filled(), Steps(vec![trim(20), Flush, Flush])),
        ("overwrite much twice", filled(), Steps(vec![all(2), Flush, all(3), Flush])),
        ("flush only", unflushed(), Steps(vec![Flush])),
        ("write the index anew", long_past(), Steps(vec![write(0, 1, 7), Flush, Flush])),
        ("snapshot", unflushed(), Snapshot(vec![])),
        ("work on a snapshot", filled(), Snapshot(vec![all(5), Flush, all(6), Flush])),
        ("open", unflushed(), Open),
        ("open with a long past", long_past(), Open),
        ("open after a cut", unflushed(), OpenAfterCut(1)),
        ("open after another cut", unflushed(), OpenAfterCut(6)),
    ];
    flows.into_iter().map(|(name, before, work)| Workflow { name, before, work }).collect()
}

/// What was run.
#[derive(Default)]
pub struct Found {
    /// Workflows.
    pub workflows: u64,
    /// Operations that failed, of all workflows in all ways.
    pub failed: u64,
    /// Operations that workflows without a fault consist of, as often as there are ways to fail.
    pub operations: u64,
}

/// Runs all workflows.
pub fn run() -> Result<Found, Failure> {
    let mut found = Found::default();
    for workflow in workflows() {
        let run = |fault: Fault| {
            let what = |error| format!("{}, {fault:?}: {error}", workflow.name);
            once(&workflow, fault).map_err(|error| failure(fault.after, "errors")(what(error)))
        };
        for (kind, short) in KINDS {
            let whole = run(Fault { kind, short, after: NEVER })?;
            found.operations += whole.operations;
            for after in 0..whole.operations {
                found.failed += u64::from(run(Fault { kind, short, after })?.met);
            }
        }
        found.workflows += 1;
    }
    Ok(found)
}

/// More operations than any workflow has.
const NEVER: u64 = 1 << 40;

/// How the n-th operation from now on fails.
#[derive(Debug, Clone, Copy)]
struct Fault {
    kind: ErrorKind,
    short: bool,
    after: u64,
}

/// How far a run came.
#[derive(Debug, Clone, Copy)]
struct Run {
    operations: u64,
    /// Whether the operation that was to fail was reached.
    met: bool,
}

impl Fault {
    /// Runs `work` with the fault planned. How far it came, and what came of it; an error
    /// without a fault, or of another type than it must have, is what must not be.
    fn during<T>(
        self,
        dir: &SimDir,
        work: impl FnOnce() -> Result<T, BlockError>,
    ) -> Result<(Run, Option<T>), String> {
        let start = dir.operations();
        match self.short {
            true => dir.cut_short_after(self.after, self.kind),
            false => dir.fail_after(self.after, self.kind),
        }
        let outcome = work();
        let operations = dir.operations() - start;
        let met = operations > self.after;
        let run = Run { operations, met };
        dir.heal();
        match outcome {
            Ok(value) => Ok((run, Some(value))),
            Err(BlockError::Io { .. } | BlockError::Poisoned) if met => Ok((run, None)),
            Err(error) => Err(format!("{error} (the fault was met: {met})")),
        }
    }
}

/// Runs a workflow with a fault, and looks at everything afterwards.
fn once(workflow: &Workflow, fault: Fault) -> Result<Run, String> {
    let dir = SimDir::new();
    let mut oracle = Oracle::new(Base(LEN).content());
    if let Work::Create = workflow.work {
        return match fault.during(&dir, || create(&dir, LEN))? {
            (run, Some(_)) if run.met => Err("an error was passed over".into()),
            (run, None) => Ok(run),
            (run, Some(device)) => settle(&dir, &device, &oracle).map(|()| run),
        };
    }
    let device = create(&dir, LEN).map_err(|error| error.to_string())?;
    do_steps(&device, &workflow.before, &mut oracle).map_err(|error| error.to_string())?;
    let (dir, run, device) = match &workflow.work {
        Work::Steps(steps) => {
            let (run, _) = fault.during(&dir, || do_steps(&device, steps, &mut oracle))?;
            (dir, run, device)
        }
        Work::Snapshot(steps) => {
            let (run, _) = fault.during(&dir, || on_snapshot(&device, steps, &mut oracle))?;
            (dir, run, device)
        }
        work => {
            drop(device);
            let dir = if let Work::OpenAfterCut(seed) = work { dir.crash(*seed) } else { dir };
            let (run, opened) = fault.during(&dir, || Ok(open(&dir, LEN)?.0))?;
            let again = || open(&dir, LEN).map_err(|error| format!("a second time: {error}"));
            let device = opened.map_or_else(|| again().map(|opened| opened.0), Ok)?;
            (dir, run, device)
        }
    };
    let live = content(&device).map_err(|error| error.to_string())?;
    oracle.check(&live)?;
    oracle.found(&live);
    settle(&dir, &device, &oracle)?;
    Ok(run)
}

/// Steps while a snapshot is held. What the snapshot refers to stays, whatever fails.
fn on_snapshot(
    device: &SessionDevice,
    steps: &[Step],
    oracle: &mut Oracle,
) -> Result<(), BlockError> {
    let snapshot = device.snapshot(SourceIndex(0))?;
    let before = held(device, &snapshot.extents);
    let done = do_steps(device, steps, oracle);
    assert!(before == held(device, &snapshot.extents), "a snapshot lost what it refers to");
    done
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
            let mut read = || file.read_exact_at(&mut bytes, at.offset().0);
            // The fault may be met here: it comes once.
            read().or_else(|_| read()).map(|()| bytes).unwrap_or_default()
        }
        _ => Vec::new(),
    };
    extents.iter().map(read).collect()
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
