//! The session log on a simulated storage (section 4.A of what reliability means here). The moves
//! above it are in [`crate::moves`].
//!
//! ```text
//!   workload ── steps ──▶ the log over a SimDir        oracle: a plain array, and what it was
//!                             │                          │
//!   cuts    random lives, a power cut a round ───────────┤   A1, A4
//!   ways    all small workloads, all cuts ───────────────┤   A2
//!   errors  every operation of every workflow fails ─────┤   A3
//!   rest    media that go bad, another base, old age ────┤   A7
//!   ageing  old age again, on the host's file system ────┘   A7
//!   bugs    all of it again, with a bug planted              A9
//! ```
//! The log has little limits in most runs, so that small workloads meet generations that fill up,
//! sweeps and compactions.

mod ageing;
pub mod bugs;
mod cuts;
mod errors;
mod hasty;
pub mod oracle;
mod rest;
mod ways;
pub mod workload;

use std::fmt;

use goldleaf_block::use_little_limits;
use goldleaf_figures::{Bar, Row, Table};

use crate::Result;
use crate::budget::Budget;
use crate::moves;
use oracle::Wrong;

/// What must not happen, and the seed with which it happened.
#[derive(Debug)]
pub struct Failure {
    what: String,
    seed: u64,
    /// What a disk held, if that was it.
    wrong: Option<Wrong>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}: {}", self.seed, self.what)
    }
}

impl std::error::Error for Failure {}

/// Makes failures of whatever went wrong.
fn failure<E: fmt::Display>(seed: u64, during: &'static str) -> impl Fn(E) -> Failure {
    move |error| Failure { what: format!("{during}: {error}"), seed, wrong: None }
}

/// Power cuts: random lives, and all small workloads.
pub fn cuts(budget: &Budget, table: &mut Table) -> Result<()> {
    let moved = moves::cuts(budget, table)?;
    let met = lives(budget)?;
    let row = |name: &str, count: u64| Row::new(format!("crash.{name}"), count as f64, "");
    table.push(row("states", met.states + moved).bar(Bar::AtLeast(budget.of(1e6, 1e7))));
    table.push(row("recoveries_cut", met.recoveries_cut).bar(Bar::AtLeast(budget.of(1e5, 1e6))));
    table.push(row("records_dropped", met.dropped).bar(Bar::AtLeast(1000.0)));
    for (name, count) in [
        ("lost_acknowledged_flushes", met.lost),
        ("torn_blocks_visible", met.torn),
        ("stale_reads", met.stale),
    ] {
        table.push(row(name, count).bar(Bar::AtMost(0.0)));
    }
    use_little_limits(true);
    small_workloads(budget, table)
}

/// Errors at every operation.
pub fn errors(_budget: &Budget, table: &mut Table) -> Result<()> {
    use_little_limits(true);
    let found = errors::run()?;
    table.push(Row::new("errors.workflows", found.workflows as f64, "").bar(Bar::AtLeast(20.0)));
    let row = Row::new("errors.indices", found.failed as f64, "operations");
    let all = found.operations as f64;
    table.push(row.beside("operations without a fault", all).bar(Bar::Ratio(1.0)));
    Ok(())
}

/// Media that go bad, another base, and old age.
pub fn rest(budget: &Budget, table: &mut Table) -> Result<()> {
    use_little_limits(true);
    let decays = ageing_and_rest(budget.seed, budget.of(300, 3000), budget.of(20_000, 200_000))?;
    table.push(Row::new("media.decays", decays as f64, "places").bar(Bar::AtLeast(10_000.0)));
    use_little_limits(false);
    let aged = ageing::runs(budget.seed, budget.of(3, 30))?;
    let row = |name: &str, value: f64, unit| Row::new(format!("ageing.{name}"), value, unit);
    table.push(row("runs", aged.runs as f64, "").bar(Bar::AtLeast(budget.of(3.0, 30.0))));
    table.push(row("overwrites", aged.overwrites, "").bar(Bar::AtLeast(budget.of(300.0, 3000.0))));
    table.push(row("growth", aged.growth, "x live").bar(Bar::AtMost(1.05)));
    table.push(row("beyond_live", aged.beyond_mb, "MB").beside("live", aged.live_mb));
    table.push(row("leaked", aged.leaked as f64, "blocks").bar(Bar::AtMost(0.0)));
    let twice = row("referenced_twice", aged.twice as f64, "blocks");
    table.push(twice.bar(Bar::AtMost(0.0)));
    Ok(())
}

/// Bugs that are planted. The seeds are always the same: what is caught once is caught always.
pub fn bugs(_budget: &Budget, table: &mut Table) -> Result<()> {
    use_little_limits(true);
    let mut survivors = bugs::survivors(bugs::BUGS, |_| bugs::hunt(1, 4000));
    survivors.extend(bugs::survivors(moves::BUGS, |_| moves::hunt(1)));
    let planted = (bugs::BUGS.len() + moves::BUGS.len()) as f64;
    let survived = survivors.len() as f64;
    let row = Row::new("mutants.caught", planted - survived, "bugs");
    table.push(row.beside("planted", planted).bar(Bar::Ratio(1.0)));
    Ok(())
}

/// Random lives, on both cores; every eighth with the limits of the product.
fn lives(budget: &Budget) -> Result<cuts::Met> {
    let wanted = budget.of(1_000_000, 10_000_000);
    let threads = 2;
    let run = |first: u64| -> std::result::Result<cuts::Met, Failure> {
        let mut met = cuts::Met::default();
        let mut seed = budget.seed.wrapping_mul(1_000_003).wrapping_add(first);
        while met.states < wanted / threads {
            use_little_limits(seed % 8 != 0);
            match cuts::life(seed) {
                Ok(life) => met = met.with(life),
                // Counted, and enough: the next lives would only say the same.
                Err(failure) => return met.with_wrong(failure),
            }
            seed = seed.wrapping_add(threads);
        }
        Ok(met)
    };
    let met = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..threads).map(|first| scope.spawn(move || run(first))).collect();
        runs.into_iter()
            .map(|run| run.join().map_err(|_| "a life panicked".into()))
            .collect::<Result<Vec<_>>>()
    })?;
    let met = met.into_iter().collect::<std::result::Result<Vec<_>, _>>()?;
    Ok(met.into_iter().fold(cuts::Met::default(), cuts::Met::with))
}

/// All workloads of one and two steps; with the long budget of three.
fn small_workloads(budget: &Budget, table: &mut Table) -> Result<()> {
    let alphabet = ways::alphabet();
    let mut states = 0;
    for one in &alphabet {
        states += ways::all_cuts(&[*one], budget.of(2, 3))?;
    }
    let mut pairs = 0;
    for one in &alphabet {
        for two in &alphabet {
            states += ways::all_cuts(&[*one, *two], budget.of(1, 2))?;
            pairs += 1;
            for three in alphabet.iter().filter(|_| budget.long) {
                states += ways::all_cuts(&[*one, *two, *three], 1)?;
            }
        }
    }
    table.push(Row::new("workloads.seq2", f64::from(pairs), "workloads").bar(Bar::AtLeast(400.0)));
    table.push(Row::new("workloads.states", states as f64, "states"));
    Ok(())
}

/// Media that go bad, another base, and old age.
fn ageing_and_rest(seed: u64, overwrites: usize, decays: u64) -> std::result::Result<u64, Failure> {
    rest::other_base()?;
    for life in 0..3 {
        rest::age(seed + life, overwrites)?;
        rest::earlier_life(seed + life)?;
    }
    (0..decays).try_fold(0, |sum, life| Ok(sum + rest::decay(seed + life)?))
}
