//! Layers mean what the documentation says: random lives of desktops held against a model of their
//! own, a table of conflicts, and clones.

mod ground;
mod life;
mod model;
mod policy;
mod seen;
mod sequence;

use goldleaf_figures::{Bar, Row, Table};

use crate::Result;
use crate::budget::Budget;

/// Runs it.
pub fn run(budget: &Budget, table: &mut Table) -> Result<()> {
    let count = std::env::var("LIVES").map_or(budget.of(1_000, 10_000), |n| n.parse().unwrap());
    let found = sequence::run(budget, count, None)?;
    table.push(Row::new("layers.sequences", found.sequences as f64, "lives").bar(Bar::AtLeast(count as f64)));
    table.push(Row::new("layers.reboots", found.reboots as f64, "reboots"));
    table.push(Row::new("layers.wrong", found.wrong as f64, "paths").bar(Bar::AtMost(0.0)));
    Ok(())
}
