//! Real file systems over our export, and the power cut at any moment: what is recovered must be, to
//! the block, what a log that others keep says; a file system that its own checker finds no fault
//! with; and must hold every file that was synced.
//!
//! ```text
//!   workload ──▶ ext4 · xfs · btrfs ──▶ loop ──▶ nbdfuse ──▶ qemu-storage-daemon ──▶ log of writes
//!        │                                                   │ NBD, unix socket     │
//!        │ what is synced                                    ▼                      │
//!        │     live cuts ◀── gate ◀── files of SessionDevice ◀── server             │
//!        │         │                                                                │
//!        │         │   cuts ◀── files of SessionDevice ◀── again, entry by entry ◀──┤
//!        ▼         ▼     ▼                                                          ▼
//!      check: recover ──▶ image, compared with the disk that the log prescribes up to its last flush
//!                           └──▶ mount (its journal) ──▶ files there? ──▶ its checker
//! ```
//! Most cuts are taken when the log is done again, where every byte that reached the disk is known,
//! and its order: at a flush, and in the middle of a random part of what came before the next one.
//! The others are taken while the file system works, because only then is our server between: at the
//! end of a sync of ours and after random operations behind it, and when all is over, which must
//! leave the disk that the log ends with. Each cut keeps another part of what was not synced. Checks
//! wait until the workload's file system is unmounted, because no kernel likes two file systems of
//! one identity.
//!
//! Needs root, and `mkfs`, `mount` and checkers of all three, `qemu-storage-daemon`, `nbdfuse`
//! (which, unlike QEMU's own export by FUSE, lets discards through to a log), `unshare` and
//! `setpriv`. All of it happens in a process with mounts and processes of its own, which the kernel
//! takes down with everything in it when this program ends in whatever way. Its scratch files are in
//! a memory of its own for the same reason: half a gigabyte of it.

mod again;
mod bridge;
mod bugs;
mod check;
mod cut;
mod fs;
mod life;
pub mod tools;
mod workload;
mod write_log;

use std::process::{Command, Stdio};

use goldleaf_figures::{Bar, Row, Table};

use crate::Result;
use crate::budget::Budget;
use crate::dice::Dice;
use again::Again;
use bridge::Trust;
use check::Verdict;
use cut::{Cut, Prescribed};
use fs::{ALL, FileSystem};
use life::Life;
use write_log::Deed;

/// Says that the process has its own mounts already.
const INSIDE: &str = "GOLDLEAF_PROOF_REPLAY";
/// Before the counts that the inner process says.
const COUNTS: &str = "replay counts:";
/// Power cuts in one life of a file system while it works.
const LIVE_CUTS: usize = 6;
/// Flushes of a life at which the power is cut when its log is done again.
const FLUSHES: usize = 12;
/// At one in so many of them it is cut behind it too, and the file system and its files are looked
/// at; at the others only the blocks are.
const LOOKED_AT_ONE_IN: usize = 3;
/// Power cuts behind such a flush.
const BEHIND: u64 = 5;

/// How much of what was recovered is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    Blocks,
    /// Blocks, the file system in them, and its files.
    Files,
}

/// What was found.
#[derive(Default)]
struct Found {
    images: u64,
    live_images: u64,
    flushes: u64,
    writes: u64,
    discards: u64,
    wrong_blocks: u64,
    fsck_errors: u64,
    files: u64,
    lost_files: u64,
    bugs_caught: u64,
    /// Whether nothing is told of what is wrong: it is meant to be.
    quiet: bool,
}

impl Found {
    /// All counts, for the way from one process to another.
    fn counts(&mut self) -> [&mut u64; 10] {
        [
            &mut self.images,
            &mut self.live_images,
            &mut self.flushes,
            &mut self.writes,
            &mut self.discards,
            &mut self.wrong_blocks,
            &mut self.fsck_errors,
            &mut self.files,
            &mut self.lost_files,
            &mut self.bugs_caught,
        ]
    }

    fn parse(counts: &str) -> Result<Self> {
        let mut found = Self::default();
        let mut words = counts.split_whitespace();
        for count in found.counts() {
            *count = words.next().ok_or("a count is missing")?.parse()?;
        }
        Ok(found)
    }
}

/// Runs it, in a process of its own.
pub fn run(budget: &Budget, table: &mut Table) -> Result<()> {
    if std::env::var_os(INSIDE).is_some() {
        let counts = work(budget)?.counts().map(|count| count.to_string()).join(" ");
        println!("{COUNTS} {counts}");
        std::process::exit(0);
    }
    let found = in_own_process(budget)?;
    let none = Some(Bar::AtMost(0.0));
    let bugs = bugs::BUGS.len() as f64;
    for (name, count, unit, bar) in [
        ("replay.images", found.images, "images", Some(Bar::AtLeast(200.0))),
        ("replay.live_images", found.live_images, "images", None),
        ("replay.flush_boundaries", found.flushes, "flushes", None),
        ("replay.logged_writes", found.writes, "writes", None),
        ("replay.logged_discards", found.discards, "discards", Some(Bar::AtLeast(1.0))),
        ("replay.wrong_blocks", found.wrong_blocks, "blocks", none),
        ("replay.fsck_errors", found.fsck_errors, "images", none),
        ("replay.files", found.files, "files", None),
        ("replay.lost_files", found.lost_files, "files", none),
        ("replay.bugs_caught", found.bugs_caught, "bugs", Some(Bar::AtLeast(bugs))),
    ] {
        let row = Row::new(name, count as f64, unit);
        table.push(match bar {
            Some(bar) => row.bar(bar),
            None => row,
        });
    }
    Ok(())
}

/// Starts this program again where its mounts and processes end with it.
fn in_own_process(budget: &Budget) -> Result<Found> {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "SIGKILL", "unshare", "--mount", "--pid", "--fork"]);
    command.args(["--kill-child", "--mount-proc"]).arg(std::env::current_exe()?);
    command.arg(format!("--seed={}", budget.seed)).arg("replay");
    if budget.long {
        command.arg("--long");
    }
    let child = command.env(INSIDE, "1").stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let output = child.map_err(|e| format!("running setpriv: {e}"))?.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let counts = said.lines().find_map(|line| line.strip_prefix(COUNTS));
    Found::parse(counts.ok_or("the process with its own mounts failed; it needs root")?)
}

fn work(budget: &Budget) -> Result<Found> {
    tools::need(&["mount", "umount", "qemu-storage-daemon", "nbdfuse"])?;
    for system in ALL {
        tools::need(system.programs())?;
    }
    let scratch = std::env::temp_dir();
    tools::succeed(
        "mount",
        &["-t", "tmpfs", "-o", "mode=0700", "scratch", tools::text(&scratch)?],
    )?;
    let mut found = Found { bugs_caught: it_can_fail(budget)?, ..Found::default() };
    let wanted = budget.of(200, 10_000);
    for number in 0.. {
        if found.images >= wanted {
            break;
        }
        let system = ALL[number % ALL.len()];
        let mut dice = Dice::new(budget.seed, 5000 + number as u64);
        one_life(system, &mut dice, &mut found)?;
        eprintln!("  {}: {} images so far", system.name(), found.images);
    }
    Ok(found)
}

/// A disk that ignores flushes must be found out by its blocks and by its files, or all this proves
/// nothing; and so must bugs by their blocks, of which those are counted that are caught.
fn it_can_fail(budget: &Budget) -> Result<u64> {
    let mut found = Found { quiet: true, ..Found::default() };
    let mut dice = Dice::new(budget.seed, 4999);
    let mut life = Life::live(FileSystem::Ext4, Trust::Liar, 2 * LIVE_CUTS, &mut dice)?;
    look_at_live(&mut life, &mut found)?;
    let Found { wrong_blocks, fsck_errors, lost_files, .. } = found;
    if wrong_blocks == 0 || fsck_errors + lost_files == 0 {
        return Err("a disk that ignores flushes was not found out".into());
    }
    eprintln!(
        "  a disk that ignores flushes: {wrong_blocks} wrong blocks, {fsck_errors} broken file \
         systems, {lost_files} lost files"
    );
    Ok(bugs::caught(&life, &mut dice)? as u64)
}

/// Makes a file system, lets it work, and looks at each power cut, first those of its time.
fn one_life(system: FileSystem, dice: &mut Dice, found: &mut Found) -> Result<()> {
    let mut life = Life::live(system, Trust::Honest, LIVE_CUTS, dice)?;
    let before = found.images;
    look_at_live(&mut life, found)?;
    found.live_images += found.images - before;
    let (log, base) = (&life.log, life.base.as_path());
    let flushes = again::some_flushes(log, life.history.begin, FLUSHES, dice);
    found.flushes += flushes.len() as u64;
    found.writes += log.count(Deed::Write);
    found.discards += log.count(Deed::Discard);
    let mut prescribed = Prescribed::new(log, base)?;
    let mut again = Again::new(log, base)?;
    for (number, flush) in flushes.into_iter().enumerate() {
        again.go_to(flush)?;
        let (depth, behind) = match number % LOOKED_AT_ONE_IN {
            0 => (Depth::Files, BEHIND),
            _ => (Depth::Blocks, 0),
        };
        for cut in again.cuts(behind, dice) {
            look_at(&life, &cut?, depth, &mut prescribed, found)?;
        }
    }
    Ok(())
}

fn look_at_live(life: &mut Life, found: &mut Found) -> Result<()> {
    let cuts = life.take_cuts();
    let mut prescribed = Prescribed::new(&life.log, &life.base)?;
    cuts.iter().try_for_each(|cut| look_at(life, cut, Depth::Files, &mut prescribed, found))
}

fn look_at(
    life: &Life,
    cut: &Cut,
    depth: Depth,
    prescribed: &mut Prescribed<'_>,
    found: &mut Found,
) -> Result<()> {
    let name = life.system.name();
    let verdict = verdict(life, cut, depth, prescribed)
        .map_err(|error| format!("{name}, the cut with seed {}: {error}", cut.seed))?;
    if depth == Depth::Files {
        found.images += 1;
        found.files += life.history.synced(cut.position).len() as u64;
    }
    found.lost_files += verdict.lost.len() as u64;
    found.fsck_errors += u64::from(verdict.fault.is_some());
    found.wrong_blocks += verdict.wrong_blocks;
    if found.quiet {
        return Ok(());
    }
    let blocks = (verdict.wrong_blocks > 0).then(|| format!("{} blocks", verdict.wrong_blocks));
    for what in verdict.lost.iter().chain(&verdict.fault).chain(&blocks).take(3) {
        eprintln!("  wrong: {name}, seed {}, at {}: {what}", cut.seed, cut.position);
    }
    Ok(())
}

fn verdict(
    life: &Life,
    cut: &Cut,
    depth: Depth,
    prescribed: &mut Prescribed<'_>,
) -> Result<Verdict> {
    let (image, at) = (life.place.path().join("image"), life.place.path().join("mounted"));
    let wanted = (depth == Depth::Files).then_some(image.as_path());
    let wrong_blocks = match check::recover(cut, &life.base, prescribed, wanted) {
        Ok(wrong_blocks) => wrong_blocks,
        Err(error) => {
            return Ok(Verdict { fault: Some(error.to_string()), ..Verdict::default() });
        }
    };
    let verdict = match depth {
        Depth::Blocks => Verdict::default(),
        Depth::Files => check::check(life.system, &life.history.synced(cut.position), &image, &at)?,
    };
    Ok(Verdict { wrong_blocks, ..verdict })
}
