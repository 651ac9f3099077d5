//! The fuzz targets, all of them, each for as long as the budget has: `fuzz/run` as a subprocess,
//! which builds the program and says how each target went. What a crash needs to be seen again is
//! in what that script prints.

use std::path::Path;
use std::process::{Command, Stdio};

use goldleaf_figures::{Bar, Row, Table};

use crate::Result;
use crate::budget::Budget;

/// Seconds for each target: for every submission, and for nights.
const SECONDS: (u32, u32) = (20, 300);
/// Says how many targets run at once.
pub const JOBS: &str = "FUZZ_JOBS";
/// Fewer targets than this, and some format has lost its own.
const TARGETS_MIN: f64 = 30.0;

/// Runs all targets.
pub fn run(budget: &Budget, table: &mut Table) -> Result<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/run");
    let seconds = budget.of(SECONDS.0, SECONDS.1).to_string();
    let jobs = match std::env::var(JOBS) {
        Ok(jobs) => jobs,
        Err(_) => std::thread::available_parallelism()?.to_string(),
    };
    let mut command = Command::new(&script);
    // Zero would let each target choose its own.
    let seed = (budget.seed as u32).max(1).to_string();
    command.arg(seconds).env(JOBS, jobs).env("FUZZ_SEED", seed).stderr(Stdio::inherit());
    let output = command.output()?;
    let text = String::from_utf8(output.stdout)?;
    eprint!("{text}");
    let ends = text.lines().filter_map(End::parse).collect::<Vec<_>>();
    let crashes = ends.iter().filter(|end| !end.is_fine).count();
    if ends.is_empty() || (crashes == 0 && !output.status.success()) {
        return Err(format!("{}: {}", script.display(), output.status).into());
    }
    let runs: f64 = ends.iter().map(|end| end.runs).sum();
    table.push(Row::new("fuzz.targets", ends.len() as f64, "").bar(Bar::AtLeast(TARGETS_MIN)));
    table.push(Row::new("fuzz.crashes", crashes as f64, "").bar(Bar::AtMost(0.0)));
    table.push(Row::new("fuzz.runs", runs, ""));
    Ok(())
}

/// How one target ended.
#[derive(Debug, PartialEq)]
struct End {
    runs: f64,
    is_fine: bool,
}

impl End {
    /// From a line such as `gpt  8688 runs  1241/s  534 edges  28 MiB  ok`.
    fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (_, runs, "runs") = (words.first()?, words.get(1)?, *words.get(2)?) else {
            return None;
        };
        Some(Self { runs: runs.parse().unwrap_or(0.0), is_fine: *words.last()? == "ok" })
    }
}

#[cfg(test)]
mod tests {
    use super::End;

    #[test]
    fn lines_are_understood() {
        let line = "gpt                     8688 runs    1241/s    534 edges   28 MiB  ok";
        assert_eq!(End::parse(line), Some(End { runs: 8688.0, is_fine: true }));
        let line = "mbr                        ? runs       ?/s      ? edges    ? MiB  CRASHED";
        assert_eq!(End::parse(line), Some(End { runs: 0.0, is_fine: false }));
        assert_eq!(End::parse("something else"), None);
    }
}
