//! Layers mean what the documentation says: a table of conflicts, clones, and random lives of
//! desktops held against a model of their own.
//!
//! ```text
//!   docs/conflicts.md ──▶ conflicts ─┐            ┌─▶ player: begin, file, roll back, reset
//!                 clones ────────────┼─▶ ground ──┼─▶ workers: compose, harvest
//!   policy ──▶ model ◀──▶ sequence ──┘            └─▶ the kernel's ext4: what a guest sees and does
//! ```
//! Needs root, for mounts.

mod clones;
mod conflicts;
mod ground;
mod life;
mod model;
mod policy;
mod seen;
mod sequence;

use std::process::ExitCode;

use goldleaf_figures::{Bar, Row, Table};

use crate::Result;
use crate::budget::Budget;

/// Bugs that can be planted in how layers are made and composed: each must be found out.
const BUGS: &[&str] = &[
    "a directory stays though nothing is left in it",
    "a path stays in the layer that had it",
    "a removal is no change",
    "an edit is taken for a whole file",
    "an edit takes the mode along",
    "an entry forgets what it replaced",
    "names of one node are kept apart",
];
/// Lives in which a bug must show, if no conflict shows it.
const LIVES_A_BUG: u64 = 30;

/// Runs it.
pub fn run(budget: &Budget, table: &mut Table) -> Result<()> {
    let (cases, wrong) = conflicts::run(None)?;
    wrong.iter().for_each(|line| eprintln!("  wrong: {line}"));
    let conflicts = Row::new("layers.conflict_cases", cases as f64, "cases");
    table.push(conflicts.bar(Bar::AtLeast(60.0)));
    let equal = clones::run(100, None)?;
    table.push(Row::new("layers.clones_equal", equal as f64, "things").bar(Bar::AtMost(0.0)));
    let survivors = BUGS.iter().filter(|bug| !is_caught(budget.seed, bug)).count();
    let caught = (BUGS.len() - survivors) as f64;
    let bar = Bar::AtLeast(BUGS.len() as f64);
    table.push(Row::new("layers.bugs_caught", caught, "bugs").bar(bar));
    let count = budget.of(1_000, 10_000);
    let found = sequence::run(budget.seed, count, None)?;
    let lives = Row::new("layers.sequences", found.sequences as f64, "lives");
    table.push(lives.bar(Bar::AtLeast(count as f64)));
    table.push(Row::new("layers.reboots", found.reboots as f64, "reboots"));
    let wrong = (found.wrong + wrong.len() as u64) as f64;
    table.push(Row::new("layers.wrong", wrong, "paths").bar(Bar::AtMost(0.0)));
    Ok(())
}

/// Whether a bug that is planted is found out. An error is as good as a wrong path.
fn is_caught(seed: u64, bug: &'static str) -> bool {
    goldleaf_host::plant(Some(bug));
    let table = conflicts::run(Some(bug));
    goldleaf_host::plant(None);
    let by = match table {
        Ok((_, wrong)) if wrong.is_empty() => match sequence::run(seed, LIVES_A_BUG, Some(bug)) {
            Ok(found) if found.wrong == 0 => "SURVIVED".into(),
            Ok(found) => format!("{} wrong paths of random lives", found.wrong),
            Err(error) => error.to_string(),
        },
        Ok((_, wrong)) => wrong[0].clone(),
        Err(error) => error.to_string(),
    };
    eprintln!("    {bug}: {by}");
    by != "SURVIVED"
}

/// Some of the lives, in a process of their own.
pub fn child(args: &[String]) -> Result<ExitCode> {
    sequence::child(args).map(|()| ExitCode::SUCCESS)
}

/// Plants the bug of that name in this process.
pub fn plant(name: Option<&String>) {
    let bug = name.and_then(|name| BUGS.iter().find(|bug| **bug == name.as_str()));
    goldleaf_host::plant(bug.copied());
}
