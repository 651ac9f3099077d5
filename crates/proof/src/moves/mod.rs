//! Power cuts in the moves above a session: a snapshot of one that runs, filing, reset, an image's
//! next version, collection.
//!
//! ```text
//!   play   a round of moves ──▶ the player's own code over a SimDir      model: plain arrays,
//!                                   │    toy: a guest without a worker     before and after
//!   life   rounds, a stop in each, ─┤                                         │
//!          the cut in some ways     └──▶ look: start, read, walk, list ◀──────┘
//! ```
//! After any cut the home is as before the move or as after it, whole; what a session flushed is
//! there; whatever a record names is there and is what its digest says; and after a collection
//! nothing is there that no record names. The same holds after a process that was killed, and after
//! a power cut that comes behind its successor: [`killed`] tries each moment of one move. [`hands`]
//! lets two processes make moves at once.

pub mod hands;
mod killed;
mod life;
mod look;
mod model;
mod play;
mod toy;

use std::panic::{AssertUnwindSafe, catch_unwind};

use goldleaf_block::use_little_limits;
use goldleaf_figures::{Bar, Row, Table};

use crate::Result;
use crate::budget::Budget;

use life::Met;
use play::{MOVES, Move};

/// Bugs that can be planted in the moves, by the name that the code asks for.
pub const BUGS: &[&str] = &[
    "a bench goes before its record",
    "a bench's session is not synced",
    "a collection removes before it has written anew",
    "a collection takes what a session stands on",
    "a new pack's name is not synced",
    "a new session's directory is not synced",
    "a pack is named before it is synced",
    "a record is replaced by one that is not synced",
    "a replaced record's name is not synced",
    "a session goes before the record that forgets it",
    "a version names data that is not synced",
    "what a killed process left is built upon",
];

/// Runs it; returns how many states were looked at.
pub fn cuts(budget: &Budget, table: &mut Table) -> Result<u64> {
    let (met, mut wrong) = lives(budget)?;
    let killed = killed::everywhere().unwrap_or_else(|failure| {
        wrong.push(failure);
        0
    });
    wrong.iter().for_each(|line| eprintln!("  wrong: {line}"));
    let names = ["session", "snapshot", "filing", "reset", "image_update", "collection"];
    for ((name, count), (kind, _)) in names.iter().zip(met.by).zip(MOVES) {
        let row = Row::new(format!("crash.moves.{name}"), count as f64, "states");
        let most = if kind == Move::Session { 0.0 } else { budget.of(1e3, 1e4) };
        table.push(row.bar(Bar::AtLeast(most)));
    }
    let cut = Row::new("crash.moves.recoveries_cut", met.recoveries_cut as f64, "");
    table.push(cut.bar(Bar::AtLeast(budget.of(1e3, 1e4))));
    let wrong = Row::new("crash.moves.wrong", wrong.len() as f64, "lives");
    table.push(wrong.bar(Bar::AtMost(0.0)));
    Ok(met.states() + killed)
}

/// Random lives, on both cores.
fn lives(budget: &Budget) -> Result<(Met, Vec<String>)> {
    let lives = budget.of(LIVES, 10 * LIVES);
    let first = budget.seed.wrapping_mul(1_000_003);
    let run = |thread: u64| {
        let (mut met, mut wrong) = (Met::default(), Vec::new());
        for life in (thread..lives).step_by(2) {
            use_little_limits(life % 8 < 6);
            match life::life(first.wrapping_add(life)) {
                Ok(life) => met = met.with(life),
                Err(failure) => wrong.push(failure),
            }
        }
        (met, wrong)
    };
    let (one, other) = std::thread::scope(|scope| {
        let other = scope.spawn(|| run(1));
        (run(0), other.join())
    });
    let other = other.map_err(|_| "a life panicked")?;
    Ok((one.0.with(other.0), [one.1, other.1].concat()))
}

/// Lives for every submission.
const LIVES: u64 = 80;
/// Lives in which a bug must show.
const LIVES_A_BUG: u64 = 200;

/// What caught the bug that is planted, if anything did.
pub fn hunt(seed: u64) -> Option<String> {
    let found = |trial: &dyn Fn() -> std::result::Result<(), String>| match catch_unwind(
        AssertUnwindSafe(trial),
    ) {
        Ok(Ok(())) => None,
        Ok(Err(failure)) => Some(failure),
        Err(_) => Some("a panic".into()),
    };
    found(&|| killed::everywhere().map(drop)).or_else(|| {
        (seed..seed + LIVES_A_BUG).find_map(|seed| found(&|| life::life(seed).map(drop)))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    /// Every bug that the code of the moves asks for is in the list, and the reverse.
    #[test]
    fn the_list_is_whole() {
        const ELSEWHERE: &str = "a path stays in the layer that had it";
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut asked = BTreeSet::new();
        for name in ["host", "image", "player", "store"] {
            collect(&crates.join(name).join("src"), &mut asked);
        }
        assert!(asked.remove(ELSEWHERE), "a bug of the layers");
        let listed = super::BUGS.iter().chain(super::hands::BUGS);
        let listed: BTreeSet<String> = listed.map(|bug| bug.to_string()).collect();
        assert_eq!(asked, listed);
    }

    fn collect(dir: &Path, asked: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(dir).expect("sources") {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                collect(&path, asked);
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("text");
            for rest in text.split("planted(\"").skip(1) {
                asked.extend(rest.split('"').next().map(str::to_owned));
            }
        }
    }
}
