//! The NBD server over a session's disk: conformance by other people's clients, every command at
//! every boundary, clients that mean harm, and what a flush promises.
//!
//! ```text
//!   tools (libnbd, QEMU) ─┐
//!   cases (raw client) ───┼──▶ unix socket ──▶ server ──▶ SessionDevice ──▶ a real directory
//!   hostile (raw client) ─┘
//!   ordering (raw clients) ──▶ the same ──▶ SessionDevice ──▶ gate ──▶ SimDir, which loses power
//! ```
//! Needs `nbdinfo`, `nbdcopy`, `nbdsh`, `qemu-io` and `qemu-img`.

mod cases;
mod client;
pub mod gate;
mod hostile;
pub mod liar;
mod ordering;
pub mod served;
mod tools;

use goldleaf_figures::{Bar, Row, Table};

use crate::Result;
use crate::budget::Budget;

/// What was tried, and what was wrong.
#[derive(Default)]
pub struct Tally {
    /// What was tried.
    pub tried: u64,
    /// What was wrong.
    pub wrong: u64,
    /// Whether nothing is told of what is wrong: it is meant to be.
    pub quiet: bool,
}

/// So many failures are told in full.
const TOLD_MAX: u64 = 20;

impl Tally {
    /// Counts one, and tells what was wrong with it.
    pub fn count(&mut self, outcome: std::result::Result<(), String>) {
        self.tried += 1;
        if let Err(what) = outcome {
            self.wrong += 1;
            if self.wrong <= TOLD_MAX && !self.quiet {
                eprintln!("  wrong: {what}");
            }
        }
    }
}

/// Runs all of it.
pub fn run(budget: &Budget, table: &mut Table) -> Result<()> {
    let mut cases = Tally::default();
    let mut tools = Tally::default();
    tools::run(budget, &mut tools)?;
    cases::run(budget, &mut cases)?;
    table.push(Row::new("nbd.tools", tools.tried as f64, "checks").bar(Bar::AtLeast(10.0)));
    table.push(Row::new("nbd.cases", cases.tried as f64, "cases").bar(Bar::AtLeast(2000.0)));
    let wrong = (tools.wrong + cases.wrong) as f64;
    table.push(Row::new("nbd.failures", wrong, "cases").bar(Bar::AtMost(0.0)));
    let mut attacks = Tally::default();
    hostile::run(budget, &mut attacks)?;
    let least = Bar::AtLeast(10_000.0);
    table.push(Row::new("nbd.hostile", attacks.tried as f64, "attacks").bar(least));
    let wrong = attacks.wrong as f64;
    table.push(Row::new("nbd.hostile_failures", wrong, "attacks").bar(Bar::AtMost(0.0)));
    if !ordering::finds_a_liar(budget)? {
        return Err("a disk that ignores flushes was not found out".into());
    }
    eprintln!("  a disk that ignores flushes was found out");
    let mut histories = Tally::default();
    let cuts = ordering::run(budget, &mut histories)?;
    let least = Bar::AtLeast(10_000.0);
    table.push(Row::new("nbd.histories", histories.tried as f64, "histories").bar(least));
    table.push(Row::new("nbd.history_cuts", cuts as f64, "cuts"));
    let lost = histories.wrong as f64;
    let name = "nbd.lost_acknowledged_flushes";
    table.push(Row::new(name, lost, "histories").bar(Bar::AtMost(0.0)));
    Ok(())
}
