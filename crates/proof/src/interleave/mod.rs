//! Deterministic interleavings (A8): several threads at one session log, one at a time, in an order
//! that is decided and can be told.
//!
//! ```text
//!   work    acts of each thread: write, zero, trim, flush, read, snapshot      one history
//!   choose  who goes on: a random walk, ranks, all orders, a script     ──▶  of what was done
//!   judge   is there an order that explains it? while it runs, after a cut   and read
//!   known   interleavings that broke others, step by step
//!   bugs    bugs that no single thread can meet
//! ```
//! The product's own code runs, in threads of the system; its locks and atomics are those of
//! `goldleaf_host::sync`, its files those of the simulator, and each use of one is a step at which
//! another thread may go on (`goldleaf_host::sim::turns`). A checker that replaces the standard
//! library's locks in a build of its own, such as shuttle, would do the same with coroutines; it
//! would also keep this group from sharing a build, the simulator and the planted bugs with the
//! others, and bring two dozen crates.
//!
//! Everything follows from a seed: the acts, who goes on, where the power is cut. A failure names
//! it, and prints the schedule.

mod bugs;
pub mod choose;
mod judge;
mod known;
mod work;

use std::fmt;
use std::sync::{Mutex, PoisonError};

use goldleaf_block::use_little_limits;
use goldleaf_figures::{Bar, Row, Table};
use goldleaf_host::sim::SimDir;
use goldleaf_host::sim::turns::{self, Choose, Ran, Step};

use crate::Result;
use crate::budget::Budget;
use crate::dice::Dice;
use crate::moves::hands;
use crate::storage::bugs::survivors;
use crate::storage::workload::{Base, content, create, open};
use choose::{All, Ranks, Walk};
use work::{Act, Cells, Done, LEN, PER_BLOCK, Stage, disk_of};

pub use bugs::BUGS;

/// Ways in which one cut turns out that are looked at.
const WAYS: u64 = 3;

/// About how many steps all threads take together, and how many of them are at locks and files.
const STEPS: u64 = 200;
const STEPS_COARSE: u64 = 80;

/// What is done, whatever the order.
#[derive(Debug, Clone, Default)]
struct Plan {
    /// By one thread, before the others begin.
    before: Vec<Act>,
    threads: Vec<Vec<Act>>,
    /// Operations on the files behind which the power is cut; else it is cut when all is done.
    stop: Option<u64>,
    /// What decides how the cut turns out.
    fate: u64,
    bug: Option<&'static str>,
}

/// What must not happen, and how it came to it.
struct Failure {
    what: String,
    how: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}", self.what, self.how)
    }
}

/// Random schedules, all orders of small workloads, and known interleavings.
pub fn run(budget: &Budget, table: &mut Table) -> Result<()> {
    let (mut tried, mut failed) = (0, 0);
    for outcome in [known::all(None), small(budget), random(budget)?] {
        tried += outcome.tried;
        for failure in &outcome.failures {
            failed += 1;
            eprintln!("  {failure}");
        }
    }
    let row = Row::new("interleavings.schedules", tried as f64, "");
    table.push(row.bar(Bar::AtLeast(budget.of(1e5, 1e7))));
    table.push(Row::new("interleavings.failures", f64::from(failed), "").bar(Bar::AtMost(0.0)));
    hands::run(budget, table)?;
    let survived = survivors(BUGS, bugs::hunt).len() + survivors(hands::BUGS, hands::hunt).len();
    let (planted, survived) = ((BUGS.len() + hands::BUGS.len()) as f64, survived as f64);
    let row = Row::new("mutants.interleaved", planted - survived, "bugs");
    table.push(row.beside("planted", planted).bar(Bar::Ratio(1.0)));
    Ok(())
}

/// What came of some schedules.
#[derive(Default)]
struct Outcome {
    tried: u64,
    failures: Vec<String>,
}

impl Outcome {
    fn count(&mut self, name: fmt::Arguments<'_>, result: std::result::Result<(), Failure>) {
        self.tried += 1;
        self.failures.extend(result.err().map(|failure| format!("{name}: {failure}")));
    }
}

/// Random plans in random orders, on both cores.
fn random(budget: &Budget) -> Result<Outcome> {
    let sides = 2;
    let count = budget.of(100_000, 10_000_000) / sides;
    let run = |side: u64| {
        let mut outcome = Outcome::default();
        for number in 0..count {
            let seed = budget.seed.wrapping_mul(1_000_003).wrapping_add(number * sides + side);
            outcome.count(format_args!("seed {seed}"), chance(seed, None));
            if !outcome.failures.is_empty() {
                // Enough: the next would only say the same.
                break;
            }
        }
        outcome
    };
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..sides).map(|side| scope.spawn(move || run(side))).collect();
        let mut all = Outcome::default();
        for run in runs {
            let side = run.join().map_err(|_| "a side panicked")?;
            all.tried += side.tried;
            all.failures.extend(side.failures);
        }
        Ok(all)
    })
}

/// The schedule that follows from a seed.
fn chance(seed: u64, bug: Option<&'static str>) -> std::result::Result<(), Failure> {
    let mut dice = Dice::new(seed, 0);
    let plan = Plan { bug, ..Plan::random(&mut dice) };
    let threads = plan.threads.len();
    let (way, falls) = (dice.below(8), 1 + dice.below(3));
    let choose: Box<dyn Choose> = match way {
        0 => Box::new(Walk::new(dice, 3)),
        1 => Box::new(Walk::new(dice, 12)),
        2 | 3 => Box::new(Ranks::new(dice, threads, falls, STEPS)),
        _ => Box::new(Ranks::new(dice, threads, falls, STEPS_COARSE).coarse()),
    };
    try_plan(plan, choose)
}

/// Every two small workloads in every order with few interruptions.
fn small(budget: &Budget) -> Outcome {
    let mut outcome = Outcome::default();
    let alphabet = alphabet();
    for (number, one) in alphabet.iter().enumerate() {
        for two in &alphabet[number..] {
            let plan = Plan {
                before: before(8),
                threads: vec![one.to_vec(), two.to_vec()],
                ..Plan::default()
            };
            let all = All::new(budget.of(1, 2));
            loop {
                let result = try_plan(plan.clone(), Box::new(all.clone()));
                outcome.count(format_args!("a small workload"), result);
                if !all.advance() || !outcome.failures.is_empty() {
                    break;
                }
            }
        }
    }
    outcome
}

/// What a thread of a small workload may do. The numbers of writes are those of no other.
fn alphabet() -> Vec<Vec<Act>> {
    vec![
        vec![Act::Write(0, 2, 101)],
        vec![Act::Write(1, 4, 102), Act::Flush],
        vec![Act::Trim(0, 4), Act::Flush],
        vec![Act::Zero(1, 2)],
        vec![Act::Flush],
        vec![Act::Read(0, 4)],
        vec![Act::Snapshot],
    ]
}

/// Rounds of a write and a flush, which leave dead slots and records that were overtaken.
fn before(rounds: usize) -> Vec<Act> {
    let round = |round: usize| {
        let at = round * 4 % (work::CELLS - PER_BLOCK);
        [Act::Write(at, 2 * PER_BLOCK, round as u8 + 1), Act::Flush]
    };
    (0..rounds).flat_map(round).collect()
}

impl Plan {
    fn random(dice: &mut Dice) -> Self {
        let mut fills = 1..;
        let mut fill = || fills.next().unwrap_or_default();
        // Where there is little room, threads meet.
        let span = dice.one(&[2 * PER_BLOCK, 4 * PER_BLOCK, work::CELLS]);
        let mut plan = Self::default();
        for _ in 0..dice.below(10) {
            plan.before.extend([Act::change(dice, span, fill()), Act::Flush]);
        }
        for _ in 0..2 + dice.below(2) {
            let (role, acts) = (dice.below(3), 3 + dice.below(3));
            let act = |_| match role {
                0 => vec![Act::any(dice, span, fill())],
                1 => vec![Act::change(dice, span, fill()), Act::Flush],
                _ => vec![Act::look(dice, span)],
            };
            plan.threads.push((0..acts).flat_map(act).collect());
        }
        plan.stop = dice.one_in(2).then(|| dice.below(60));
        plan.fate = dice.next();
        plan
    }

    /// The plan and a schedule, for people.
    fn followed_by(&self, steps: &[Step]) -> String {
        let mut text = format!("    before: {:?}\n", self.before);
        for (thread, acts) in self.threads.iter().enumerate() {
            text += &format!("    thread {thread}: {acts:?}\n");
        }
        text += &format!("    power cut: {:?}, fate {}; schedule:", self.stop, self.fate);
        for turn in steps.chunk_by(|one, two| one.thread == two.thread) {
            let whats: Vec<&str> = turn.iter().map(|step| step.what).collect();
            text += &format!("\n      {}: {}", turn[0].thread, whats.join(" "));
        }
        text
    }
}

/// Runs a plan in the order that `choose` decides, and judges what came of it.
fn try_plan(plan: Plan, choose: Box<dyn Choose>) -> std::result::Result<(), Failure> {
    let mut steps = Vec::new();
    attempt(&plan, choose, &mut steps)
        .map_err(|what| Failure { what, how: plan.followed_by(&steps) })
}

fn attempt(
    plan: &Plan,
    choose: Box<dyn Choose>,
    steps: &mut Vec<Step>,
) -> std::result::Result<(), String> {
    let text = |error: goldleaf_block::BlockError| error.to_string();
    prepare_thread(plan);
    let dir = SimDir::new();
    let stage = Stage::new(create(&dir, LEN).map_err(text)?);
    stage.play(&plan.before)?;
    let start = disk_of(&Base(LEN).content())?;
    let start = plan.before.iter().fold(start, |disk, act| act.effect(disk));
    let stage = Stage::new(stage.end().0);
    let stop = plan.stop.map(|after| {
        dir.stop_after(after, std::io::ErrorKind::Other);
        dir.operations() + after
    });
    let is_cut = || stop.is_some_and(|stop| dir.operations() > stop);
    let ran = play(plan, &stage, choose, &is_cut);
    *steps = ran.steps;
    if ran.stuck {
        return Err("the threads wait for one another".into());
    }
    if let Some(what) = ran.failed {
        return Err(what);
    }
    if !is_cut() {
        dir.heal();
        stage.play(&[Act::Read(0, work::CELLS)])?;
    }
    let (device, done) = stage.end();
    judge::reads(&start, &done)?;
    drop(device);
    cut(plan, &dir, &start, &done)
}

/// How the threads' part of a plan went.
struct Played {
    steps: Vec<Step>,
    stuck: bool,
    failed: Option<String>,
}

/// Lets the threads play. What fails before the power is cut is a failure.
fn play(
    plan: &Plan,
    stage: &Stage,
    choose: Box<dyn Choose>,
    is_cut: &(dyn Fn() -> bool + Sync),
) -> Played {
    let failed = Mutex::new(None);
    let thread = |acts: &'_ [Act]| {
        prepare_thread(plan);
        if let Err(error) = stage.play(acts)
            && !is_cut()
        {
            *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        }
    };
    let thread = &thread;
    let threads = plan
        .threads
        .iter()
        .map(|acts| -> Box<dyn FnOnce() + Send> { Box::new(move || thread(acts)) });
    let Ran { steps, stuck, panicked } = turns::run(choose, threads.collect());
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    let failed = failed.or(panicked.first().map(|thread| format!("thread {thread} panicked")));
    Played { steps, stuck, failed }
}

/// Limits and bugs are a thread's own.
fn prepare_thread(plan: &Plan) {
    use_little_limits(true);
    goldleaf_host::plant(plan.bug);
}

/// Cuts the power, and judges what is found afterwards.
fn cut(plan: &Plan, dir: &SimDir, start: &Cells, done: &[Done]) -> std::result::Result<(), String> {
    for way in 0..WAYS {
        let dir = dir.crash(plan.fate.wrapping_add(way));
        let (device, _) = open(&dir, LEN).map_err(|error| format!("recovering: {error}"))?;
        let found = content(&device).map_err(|error| format!("reading: {error}"))?;
        judge::moment(start, done, &disk_of(&found)?)?;
    }
    Ok(())
}
