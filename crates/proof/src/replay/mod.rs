//! Real file systems over our export, and the power cut at any moment: what is recovered must be a
//! file system that its own checker finds no fault with, and must hold every file that was synced.
//!
//! ```text
//!   workload ──▶ ext4 · xfs · btrfs ──▶ loop ──▶ FUSE export of qemu-storage-daemon
//!        │                                            │ NBD, unix socket
//!        │ what is synced                             ▼
//!        │          gate, cuts ◀── files of SessionDevice ◀── server
//!        ▼            ▼
//!      check: recover ──▶ image ──▶ mount (its journal) ──▶ files there? ──▶ its checker
//! ```
//! A cut is taken at the end of a sync of ours, and five after random operations behind it, each
//! keeping another part of what was not synced. Checks wait until the workload's file system is
//! unmounted, because no kernel likes two file systems of one identity.
//!
//! Needs root, and `mkfs`, `mount` and checkers of all three, `qemu-storage-daemon`, `unshare` and
//! `setpriv`. All of it happens in a process with mounts and processes of its own, which the kernel
//! takes down with everything in it when this program ends in whatever way. Its scratch files are in
//! a memory of its own for the same reason: half a gigabyte of it.

mod bridge;
mod check;
mod fs;
pub mod tools;
mod workload;

use std::path::Path;
use std::process::{Command, Stdio};

use goldleaf_figures::{Bar, Row, Table};

use crate::Result;
use crate::budget::Budget;
use crate::dice::Dice;
use bridge::{Bridge, Trust};
use fs::{ALL, FileSystem};
use workload::Cut;

/// Says that the process has its own mounts already.
const INSIDE: &str = "GOLDLEAF_PROOF_REPLAY";
/// Before the counts that the inner process says.
const COUNTS: &str = "replay counts:";
/// Cuts in one life of a file system.
const CUTS: usize = 24;

/// What was found.
#[derive(Default)]
struct Found {
    images: u64,
    fsck_errors: u64,
    lost_files: u64,
    files: u64,
    /// Whether nothing is told of what is wrong: it is meant to be.
    quiet: bool,
}

/// Runs it, in a process of its own.
pub fn run(budget: &Budget, table: &mut Table) -> Result<()> {
    if std::env::var_os(INSIDE).is_some() {
        let found = work(budget)?;
        let Found { images, fsck_errors, lost_files, files, .. } = found;
        println!("{COUNTS} {images} {fsck_errors} {lost_files} {files}");
        std::process::exit(0);
    }
    let found = in_own_process(budget)?;
    let (images, errors) = (found.images as f64, found.fsck_errors as f64);
    table.push(Row::new("replay.images", images, "images").bar(Bar::AtLeast(200.0)));
    table.push(Row::new("replay.fsck_errors", errors, "images").bar(Bar::AtMost(0.0)));
    table.push(Row::new("replay.files", found.files as f64, "files"));
    let lost = found.lost_files as f64;
    table.push(Row::new("replay.lost_files", lost, "files").bar(Bar::AtMost(0.0)));
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
    let counts = counts.ok_or("the process with its own mounts failed; it needs root")?;
    let numbers: Vec<u64> =
        counts.split_whitespace().map(str::parse).collect::<std::result::Result<_, _>>()?;
    let [images, fsck_errors, lost_files, files] = numbers[..] else {
        return Err(format!("the inner process said {said}").into());
    };
    Ok(Found { images, fsck_errors, lost_files, files, quiet: false })
}

fn work(budget: &Budget) -> Result<Found> {
    tools::need(&["mount", "umount", "qemu-storage-daemon"])?;
    for system in ALL {
        tools::need(system.programs())?;
    }
    let scratch = std::env::temp_dir();
    let scratch = scratch.to_str().ok_or("a path that is no text")?;
    tools::succeed("mount", &["-t", "tmpfs", "-o", "mode=0700", "scratch", scratch])?;
    let mut found = Found::default();
    liar_is_found(budget)?;
    let wanted = budget.of(200, 10_000);
    for life in 0.. {
        if found.images >= wanted {
            break;
        }
        let system = ALL[life % ALL.len()];
        let mut dice = Dice::new(budget.seed, 5000 + life as u64);
        one_life(system, Trust::Honest, &mut dice, &mut found)?;
        eprintln!("  {}: {} images so far", system.name(), found.images);
    }
    Ok(found)
}

/// The same over a disk that ignores flushes must find something, or it proves nothing.
fn liar_is_found(budget: &Budget) -> Result<()> {
    let mut found = Found { quiet: true, ..Found::default() };
    let mut dice = Dice::new(budget.seed, 4999);
    one_life(FileSystem::Ext4, Trust::Liar, &mut dice, &mut found)?;
    let wrong = found.fsck_errors + found.lost_files;
    if wrong == 0 {
        return Err("a disk that ignores flushes was not found out".into());
    }
    eprintln!("  a disk that ignores flushes was found out {wrong} times");
    Ok(())
}

/// Makes a file system, lets it work until all cuts are taken, and looks at each of them.
fn one_life(system: FileSystem, trust: Trust, dice: &mut Dice, found: &mut Found) -> Result<()> {
    let place = tempfile::tempdir()?;
    let bridge = Bridge::build(system, trust, place.path())?;
    let cuts = workload::run(&bridge, CUTS, dice)?;
    let base = bridge.close()?;
    for (number, cut) in cuts.into_iter().enumerate() {
        look_at(system, &cut, &base, place.path(), found).map_err(|error| {
            format!("{}, cut {number} with seed {}: {error}", system.name(), cut.seed)
        })?;
    }
    Ok(())
}

fn look_at(
    system: FileSystem,
    cut: &Cut,
    base: &Path,
    place: &Path,
    found: &mut Found,
) -> Result<()> {
    found.images += 1;
    found.files += cut.synced.len() as u64;
    let image = place.join("image");
    let recovered = check::recover(cut, base, &image);
    let verdict = match recovered {
        Ok(()) => check::check(system, cut, &image, &place.join("mounted"))?,
        Err(error) => check::Verdict { fault: Some(error.to_string()), lost: Vec::new() },
    };
    found.lost_files += verdict.lost.len() as u64;
    found.fsck_errors += u64::from(verdict.fault.is_some());
    if found.quiet {
        return Ok(());
    }
    for what in verdict.lost.iter().chain(&verdict.fault).take(3) {
        eprintln!("  wrong: {}, seed {}: {what}", system.name(), cut.seed);
    }
    Ok(())
}
