//! Disks that a hostile guest made: a list of cases by hand, and structure-aware mutations.
//!
//! ```text
//!   ground (mke2fs, the kernel) ──▶ layout: where everything lies, sums that fit
//!      list    by hand ──▶ judge: the product's own import, start and harvest, in jailed workers
//!      mutate  by dice ──▶ batch: a jailed process that runs all readers over one after the other
//! ```

mod batch;
mod ground;
mod judge;
mod layout;
mod list;
mod mutate;

pub use batch::child;

use std::sync::Arc;

use goldleaf_figures::{Bar, Row, Table};
use goldleaf_jail::Cause;

use crate::Result;
use crate::budget::Budget;
use ground::Ground;
use judge::{Answer, Judge};
use list::{Expected, On};

/// Runs the group.
pub fn run(budget: &Budget, table: &mut Table) -> Result<()> {
    let ground = Ground::prepare()?;
    let deaths = listed(&ground, table)?;
    let count = budget.of(20_000, 1_000_000);
    let tally = batch::run(&ground, budget.seed, count)?;
    for (seed, _) in &tally.deaths {
        save(&ground, *seed)?;
    }
    let row = |name, value: u64, unit| Row::new(name, value as f64, unit);
    let most = |row: Row| row.bar(Bar::AtMost(0.0));
    let tried = row("hostile.images", tally.tried, "disks");
    table.push(tried.bar(Bar::AtLeast(count as f64)));
    table.push(row("hostile.let_through", tally.sound, "disks"));
    let hangs = tally.deaths.iter().filter(|(_, cause)| *cause == Cause::Processor).count() as u64;
    table.push(most(row("hostile.worker_panics", tally.deaths.len() as u64 - hangs, "deaths")));
    table.push(most(row("hostile.hangs", hangs, "hangs")));
    let slowest = row("hostile.slowest", tally.slowest_ms, "ms");
    table.push(slowest.bar(Bar::AtMost(30_000.0)));
    // Each death of a worker was seen and named, or this program would not be here.
    table.push(most(row("hostile.parent_deaths", deaths, "deaths")));
    Ok(())
}

/// Keeps a disk that something died of, beside the program.
fn save(ground: &Ground, seed: u64) -> Result<()> {
    let mut disk = batch::bases(ground)[mutate::base_of(seed)].clone();
    let places = mutate::places(&disk);
    mutate::mutate(&mut disk, &places, seed);
    let path = std::env::current_exe()?.with_file_name(format!("hostile-{seed}.img"));
    eprintln!("  the disk of seed {seed} is {}", path.display());
    Ok(std::fs::write(path, disk.bytes)?)
}

/// The list of cases by hand; how often the parent died.
fn listed(ground: &Ground, table: &mut Table) -> Result<u64> {
    let judges = [&ground.clean, &ground.gpt, &ground.mbr].map(Judge::new);
    let [clean, gpt, mbr] = judges.map(|judge| judge.map(Arc::new));
    let judges = [clean?, gpt?, mbr?];
    let (mut failures, mut deaths) = (0_u32, 0_u64);
    let cases = list::all();
    for case in &cases {
        let disk = case.disk(ground);
        let judge = match case.on {
            On::Clean | On::Dirty => &judges[0],
            On::Gpt => &judges[1],
            On::Mbr => &judges[2],
        };
        let verdict = judge.verdict(disk);
        deaths += u64::from(verdict.parent_died);
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
    Ok(deaths)
}

fn meets(answer: &Answer, expected: Expected) -> bool {
    match expected {
        Expected::Accepted => *answer == Answer::Accepted,
        Expected::Refused => matches!(answer, Answer::Refused(_)),
    }
}
