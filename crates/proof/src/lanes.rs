//! Groups side by side: each in a process of its own, one more than there are processors. Most groups
//! work in one thread, some wait, and what one plants in its process must not be found by another.
//!
//! What a group says comes out when it has ended, in one piece; its figures come in a file.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Instant;

use goldleaf_figures::{Row, Table};

use crate::budget::Budget;
use crate::{GROUPS, Result};

/// Groups that take longest, which begin first; those that mostly wait before those that compute.
const LONG: [&str; 8] =
    ["fuzz", "guests", "cuts", "interleave", "layers", "killpoints", "bugs", "nbd"];
/// Of the ticks in which Linux tells a process's time: the same on all machines that matter.
const TICKS_A_SECOND: f64 = 100.0;

/// Runs groups; all of their figures go into the table.
pub fn run(budget: &Budget, names: &[&str], table: &mut Table) -> Result<()> {
    let began = Instant::now();
    let scratch = tempfile::tempdir()?;
    let rows = |name: &str| scratch.path().join(name);
    let mut order = names.to_vec();
    order.sort_by_key(|name| LONG.iter().position(|long| long == name).unwrap_or(LONG.len()));
    let (waiting, failed) = (Mutex::new(order.into_iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..=std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(name) = next(&waiting) {
                    if let Err(error) = group(budget, name, &rows(name)) {
                        failed.lock().expect("no panics").push(format!("{name}: {error}"));
                    }
                }
            });
        }
    });
    for name in names.iter().filter(|name| rows(name).exists()) {
        table.take_in(&rows(name))?;
    }
    if names.len() == GROUPS.len() && !budget.long {
        table.push(Row::new("t1.seconds", began.elapsed().as_secs_f64(), "s"));
    }
    let failed = failed.into_inner()?;
    if failed.is_empty() { Ok(()) } else { Err(failed.join("; ").into()) }
}

/// The lock is not held while a group runs.
fn next<'a>(waiting: &Mutex<impl Iterator<Item = &'a str>>) -> Option<&'a str> {
    waiting.lock().expect("no panics").next()
}

/// One group, from its beginning to its end.
fn group(budget: &Budget, name: &str, rows: &Path) -> Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(name).arg(format!("--seed={}", budget.seed));
    command.args(budget.long.then_some("--long"));
    command.arg(format!("--rows={}", rows.display()));
    // One after the other, the fuzz targets would be what all wait for in the end.
    command.env(crate::fuzz::JOBS, "2").stdin(Stdio::null());
    let output = command.output()?;
    std::io::stderr().lock().write_all(&output.stderr)?;
    if output.status.success() { Ok(()) } else { Err(output.status.to_string().into()) }
}

/// What this process and those that it waited for took of a processor: fields 14 to 17 of
/// `/proc/self/stat` (proc(5)).
pub fn processor_secs() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').ok_or("/proc/self/stat without a name")?;
    let ticks = fields.split_whitespace().skip(11).take(4).map(str::parse::<f64>);
    let ticks: f64 = ticks.sum::<std::result::Result<f64, _>>()?;
    Ok(ticks / TICKS_A_SECOND)
}
