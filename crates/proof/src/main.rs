//! The proof of reliability: what the product promises about crashes and hostile input, tried as
//! often as a budget allows, with counts and seeds in `bench/reliability.json`.
//!
//! ```text
//!   main ──▶ groups, a module each, with the budget
//!     └──▶ figures: bars, bench/reliability.json, bench/reliability-totals.jsonl
//! ```
//! `goldleaf-proof [--long] [--seed=N] [GROUP…]` runs all groups, or those that are named, each in a
//! process of its own and one more at once than there are processors; one alone in this process. The
//! short budget is for every submission; `--long` is for nights, and adds a line to the totals.
//! Long runs take other seeds each time where `--seed` does not say which: what failed once is run
//! again with the seed that its run printed.
#![forbid(unsafe_code)]

mod budget;
mod dice;
mod fuzz;
mod guests;
mod hostile;
mod interleave;
mod killpoints;
mod lanes;
mod layers;
mod moves;
mod nbd;
mod replay;
mod sandbox;
mod storage;
#[cfg(test)]
mod totals;

use std::process::ExitCode;
use std::time::Instant;

use budget::Budget;
use goldleaf_figures::Table;

/// The program is an executable: what went wrong is printed, not handled.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A group of proofs: its name, and what runs it.
type Group = (&'static str, fn(&Budget, &mut Table) -> Result<()>);

const GROUPS: &[Group] = &[
    ("cuts", storage::cuts),
    ("errors", storage::errors),
    ("rest", storage::rest),
    ("interleave", interleave::run),
    ("bugs", storage::bugs),
    ("killpoints", killpoints::run),
    ("layers", layers::run),
    ("sandbox", sandbox::run),
    ("hostile", hostile::run),
    ("nbd", nbd::run),
    ("replay", replay::run),
    ("guests", guests::run),
    ("fuzz", fuzz::run),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match args.split_first() {
        Some((word, rest)) if word == "worker" => worker(rest),
        Some((word, rest)) if word == "lives" => layers::child(rest),
        Some((word, rest)) if word == "batch" => hostile::child(rest),
        Some((word, rest)) if word == "chapter" => killpoints::child(rest),
        Some((word, rest)) if word == "probe" => sandbox::child(rest),
        _ => run(&args),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A worker that this program started, as the product's own program would be one.
fn worker(args: &[String]) -> Result<ExitCode> {
    let (count, bug) = args.split_last().ok_or("worker: how many files?")?;
    layers::plant(bug.first());
    let count = count.parse()?;
    Ok(goldleaf_worker::serve(count).map(|()| ExitCode::SUCCESS)?)
}

fn run(args: &[String]) -> Result<ExitCode> {
    let (options, names): (Vec<&str>, Vec<&str>) =
        args.iter().map(String::as_str).partition(|arg| arg.starts_with("--"));
    let budget = Budget::parse(&options)?;
    if let Some(unknown) = names.iter().find(|name| GROUPS.iter().all(|group| group.0 != **name)) {
        let known: Vec<&str> = GROUPS.iter().map(|group| group.0).collect();
        return Err(format!("no group {unknown}; there are: {}", known.join(", ")).into());
    }
    let mut table = Table::default();
    if let [name] = names[..] {
        one(&budget, name, &mut table)?;
        if let Some(path) = &budget.rows {
            table.hand_over(path)?;
            return Ok(ExitCode::SUCCESS);
        }
    } else {
        eprintln!("seed {}", budget.seed);
        let all = GROUPS.iter().map(|group| group.0);
        let chosen: Vec<&str> =
            all.filter(|name| names.is_empty() || names.contains(name)).collect();
        lanes::run(&budget, &chosen, &mut table)?;
    }
    table.print();
    table.write_into("reliability.json")?;
    if budget.long {
        table.add_to_totals("reliability-totals.jsonl", budget.seed)?;
    }
    Ok(if table.all_met() { ExitCode::SUCCESS } else { ExitCode::from(2) })
}

/// Runs a group in this process.
fn one(budget: &Budget, name: &str, table: &mut Table) -> Result<()> {
    let group = GROUPS.iter().find(|group| group.0 == name).ok_or("no such group")?;
    eprintln!("{name}, seed {}", budget.seed);
    let began = Instant::now();
    group.1(budget, table)?;
    let (wall, processor) = (began.elapsed().as_secs_f64(), lanes::processor_secs()?);
    eprintln!("  {name}: {wall:.1} s, of a processor {processor:.1} s");
    Ok(())
}
