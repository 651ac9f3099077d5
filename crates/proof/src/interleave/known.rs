//! Interleavings that broke others, step by step.

use super::choose::Script;
use super::work::Act;
use super::{Outcome, Plan, try_plan};

/// All of them.
pub fn all() -> Outcome {
    let mut outcome = Outcome::default();
    outcome.count(format_args!("a late hole"), late_hole(None));
    outcome.count(format_args!("a sweep past a snapshot"), sweep_past_a_snapshot(None));
    outcome
}

type Result = std::result::Result<(), super::Failure>;

/// Cloud Hypervisor, pull request 8624: a hole that is punched late erases what took the place.
///
/// A trim frees a cluster, a flush on another queue makes that durable and the cluster free, a
/// third queue writes to it and flushes; then the hole is punched.
pub fn late_hole(bug: Option<&'static str>) -> Result {
    let plan = Plan {
        // Written last, block 0 has the last slots of the file.
        before: vec![Act::Write(4, 6, 1), Act::Flush, Act::Write(0, 4, 2), Act::Flush],
        threads: vec![
            vec![Act::Trim(0, 4), Act::Flush, Act::Flush],
            vec![Act::Write(8, 4, 3), Act::Read(8, 4), Act::Flush],
        ],
        bug,
        ..Plan::default()
    };
    try_plan(plan, Box::new(Script::new(&[(0, "punch", 1), (1, "lock", 2), (0, "", 1)])))
}

/// Proxmox, PSA-2025-00019: a sweep that began before does not know of a reference that came since.
///
/// A collection begins, a snapshot refers to what is there, what else referred to it goes; then the
/// collection goes through what it believes to be unused.
pub fn sweep_past_a_snapshot(bug: Option<&'static str>) -> Result {
    let plan = Plan {
        before: vec![Act::Write(0, 4, 1), Act::Flush],
        threads: vec![
            vec![Act::Snapshot, Act::Look],
            vec![Act::Write(0, 4, 2), Act::Flush, Act::Flush, Act::Flush],
        ],
        bug,
        ..Plan::default()
    };
    try_plan(plan, Box::new(Script::new(&[(0, "add", 2), (1, "", 1), (0, "", 1)])))
}
