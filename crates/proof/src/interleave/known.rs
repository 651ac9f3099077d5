//! Interleavings that broke others, step by step, and some that this log must bear.
//!
//! A script says which thread goes on until it is about to take which step for the how manieth
//! time; one that waits has come as far as it can. Each is followed to its end, and into a power
//! cut at every operation on the files. That a script still leads where it should is tested with
//! the bug planted that others had.

use super::choose::Script;
use super::work::Act::{Flush, Look, Read, Snapshot, Trim, Write};
use super::{Outcome, Plan, try_plan};

/// To the end, or until it waits.
const ON: (&str, usize) = ("end", 1);

/// Operations on the files that a script takes, at most.
const OPERATIONS: u64 = 40;
/// Fates that each power cut is tried with.
const FATES: u64 = 8;

/// Counts what came of one interleaving; a bug may be planted.
type Replay = fn(&mut Outcome, Option<&'static str>);

const ALL: [(Replay, &str); 4] = [
    (late_hole, "a slot is used again before its hole is punched"),
    (sweep_past_a_reference, "a snapshot counts only when it is handed out"),
    (write_beside_a_sync, "data counts as changed before it is written"),
    (record_beside_a_sync, "a record that was written during a sync counts as synced"),
];

/// All of them.
pub fn all(bug: Option<&'static str>) -> Outcome {
    let mut outcome = Outcome::default();
    ALL.iter().for_each(|(replay, _)| replay(&mut outcome, bug));
    outcome
}

/// Follows a script to every end of it.
fn follow(
    outcome: &mut Outcome,
    name: &str,
    plan: &Plan,
    script: &[(usize, (&'static str, usize))],
) {
    for stop in (0..OPERATIONS).map(Some).chain([None]) {
        for fate in 0..FATES {
            let plan = Plan { stop, fate: fate << 32, ..plan.clone() };
            let result = try_plan(plan, Box::new(Script::new(script)));
            outcome.count(format_args!("{name}"), result);
            if !outcome.failures.is_empty() {
                return;
            }
        }
    }
}

/// Cloud Hypervisor, pull request 8624: a hole that is punched late erases what took the place.
///
/// A trim covers whole blocks (1), what it freed is noted, and its hole is due (2, 3). Before it is
/// punched, another queue writes, which takes new space (4), and flushes (5). Then comes the hole
/// (6). Here a slot whose hole is due is never used again, and the flush of (5) waits for the hole.
fn late_hole(outcome: &mut Outcome, bug: Option<&'static str>) {
    let plan = Plan {
        // Blocks 0 to 2 have the last slots of the file, as many as go back in one hole.
        before: vec![Write(6, 6, 1), Flush, Write(0, 6, 2), Flush],
        threads: vec![
            vec![Trim(0, 6), Flush, Trim(6, 2), Flush],
            vec![Write(8, 4, 3), Read(8, 4), Flush, Read(8, 4)],
        ],
        bug,
        ..Plan::default()
    };
    let script = [(0, ("punch", 1)), (1, ON), (0, ON), (1, ON)];
    follow(outcome, "a late hole", &plan, &script);
}

/// Proxmox, PSA-2025-00019: a collection that is under way misses a reference that came since.
///
/// A collection knows what it will remove (1, 2). A snapshot now refers to what is there (3), and
/// what else referred to it goes (4); the collection goes on, and so does the next. Tried with the
/// snapshot taken and about to be counted, and with it counted.
fn sweep_past_a_reference(outcome: &mut Outcome, bug: Option<&'static str>) {
    let plan = Plan {
        before: vec![Write(8, 4, 1), Flush, Write(0, 4, 2), Flush],
        threads: vec![
            vec![Trim(8, 4), Flush, Trim(6, 2), Flush],
            vec![Snapshot, Look],
            vec![Write(0, 4, 3), Flush, Write(4, 2, 4), Flush],
        ],
        bug,
        ..Plan::default()
    };
    for adds in [2, 3] {
        let script = [(0, ("punch", 1)), (1, ("add", adds)), (2, ON), (0, ON), (2, ON), (1, ON)];
        follow(outcome, "a sweep past a reference", &plan, &script);
    }
}

/// What this log had: a write that began before a sync and ended behind it counted as synced.
///
/// A flush has written its record and is about to sync the data (1). A write says that the data is
/// changed, and has not changed it yet (2). The flush takes that for its own, syncs, and returns
/// (3). The write is done and returns, and a flush after it finds nothing to sync (4).
fn write_beside_a_sync(outcome: &mut Outcome, bug: Option<&'static str>) {
    let threads = vec![vec![Write(0, 2, 1), Flush], vec![Write(4, 2, 2), Flush]];
    let plan = Plan { threads, bug, ..Plan::default() };
    // The first swap is the write's own.
    let script = [(0, ("swap", 2)), (1, ("write", 1)), (0, ON), (1, ON)];
    follow(outcome, "a write beside a sync", &plan, &script);
}

/// A record that was written while a sync was under way is not synced with it.
///
/// A flush is about to sync (1). Another thread writes, and a snapshot closes the record of that
/// (2). The sync goes on, and the next record says what is durable: not this one (3).
fn record_beside_a_sync(outcome: &mut Outcome, bug: Option<&'static str>) {
    let threads = vec![
        vec![Write(0, 2, 1), Flush, Write(4, 2, 2), Flush],
        vec![Write(8, 4, 3), Snapshot, Look],
    ];
    let plan = Plan { threads, bug, ..Plan::default() };
    // The data is synced, and the index is about to be.
    let script = [(0, ("sync", 2)), (1, ON), (0, ON)];
    follow(outcome, "a record beside a sync", &plan, &script);
}

#[cfg(test)]
mod tests {
    use super::{ALL, Outcome};

    #[test]
    fn replays_lead_where_others_broke() {
        for (replay, bug) in ALL {
            let with = |bug| {
                let mut outcome = Outcome::default();
                replay(&mut outcome, bug);
                outcome.failures
            };
            assert!(with(None).is_empty(), "{:?}", with(None));
            assert!(!with(Some(bug)).is_empty(), "{bug}: it does not come to it");
        }
    }
}
