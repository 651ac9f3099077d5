//! Layers mean what the documentation says: random lives of desktops held against a model of their
//! own, a table of conflicts, and clones.

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
pub const BUGS: &[&str] = &[];

/// Runs it.
pub fn run(budget: &Budget, table: &mut Table) -> Result<()> {
    let (cases, wrong) = conflicts::run(None)?;
    wrong.iter().for_each(|line| eprintln!("  wrong: {line}"));
    let conflicts = Row::new("layers.conflict_cases", cases as f64, "cases");
    table.push(conflicts.bar(Bar::AtLeast(60.0)));
    let count = std::env::var("LIVES").map_or(budget.of(1_000, 10_000), |n| n.parse().unwrap());
    let found = sequence::run(budget.seed, count, None)?;
    let lives = Row::new("layers.sequences", found.sequences as f64, "lives");
    table.push(lives.bar(Bar::AtLeast(count as f64)));
    table.push(Row::new("layers.reboots", found.reboots as f64, "reboots"));
    table.push(Row::new("layers.wrong", (found.wrong + wrong.len() as u64) as f64, "paths").bar(Bar::AtMost(0.0)));
    Ok(())
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
