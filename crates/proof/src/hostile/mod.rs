//! Disks that a hostile guest made: a list of cases by hand, and structure-aware mutations.
//!
//! ```text
//!   ground (mke2fs, the kernel) ──▶ layout: where everything lies, sums that fit
//!      list    by hand ──▶ judge: the product's own import, start and harvest, in jailed workers
//!      mutate  by dice ──▶ batch: a jailed process that runs all readers over one after the other
//! ```

mod ground;
mod judge;
mod layout;
mod list;

use std::sync::Arc;

use goldleaf_figures::{Bar, Row, Table};

use crate::Result;
use crate::budget::Budget;
use ground::Ground;
use judge::{Answer, Judge};
use list::{Expected, On};

/// Runs the group.
pub fn run(_budget: &Budget, table: &mut Table) -> Result<()> {
    let ground = Ground::prepare()?;
    listed(&ground, table)
}

/// The list of cases by hand.
fn listed(ground: &Ground, table: &mut Table) -> Result<()> {
    let judges = [&ground.clean, &ground.gpt, &ground.mbr].map(Judge::new);
    let [clean, gpt, mbr] = judges.map(|judge| judge.map(Arc::new));
    let judges = [clean?, gpt?, mbr?];
    let (mut failures, mut deaths) = (0, 0);
    let cases = list::all();
    for case in &cases {
        let disk = case.disk(ground);
        let judge = match case.on {
            On::Clean | On::Dirty => &judges[0],
            On::Gpt => &judges[1],
            On::Mbr => &judges[2],
        };
        let verdict = judge.verdict(disk);
        deaths += u32::from(verdict.parent_died);
        let met = meets(&verdict.image, case.image) && meets(&verdict.session, case.session);
        if !met {
            failures += 1;
            eprintln!("  {}: as an image {:?}", case.name, verdict.image);
            eprintln!("  {}: as a session {:?}", case.name, verdict.session);
        }
    }
    table.push(Row::new("hostile.listed", cases.len() as f64, "disks").bar(Bar::AtLeast(60.0)));
    let row = Row::new("hostile.listed_failures", f64::from(failures), "disks");
    table.push(row.bar(Bar::AtMost(0.0)));
    let row = Row::new("hostile.parent_deaths", f64::from(deaths), "deaths");
    table.push(row.bar(Bar::AtMost(0.0)));
    Ok(())
}

fn meets(answer: &Answer, expected: Expected) -> bool {
    match expected {
        Expected::Accepted => *answer == Answer::Accepted,
        Expected::Refused => matches!(answer, Answer::Refused(_)),
    }
}
