//! What is done to a process at a step: the process does it to itself, exactly there.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use goldleaf_host::Side;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::process::{Signal, getpid, kill_process};

use crate::Result;

/// What happens at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// SIGKILL.
    Kill,
    /// SIGSTOP; somebody else lets it go on.
    Stop,
    /// The step fails with EIO.
    Fail,
    /// The disk is full from here on.
    Fill,
}

/// All of them.
pub const DEEDS: [Deed; 4] = [Deed::Kill, Deed::Stop, Deed::Fail, Deed::Fill];

/// What a process tells when it is at its end, and only looks around from there.
pub const END: &str = "end";

/// The file that fills the disk, beside the home.
pub const FILLER: &str = "filler";

/// A point of a run: a side of a step, and the how manieth time that the run comes there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// The step.
    pub step: String,
    /// Before or after it.
    pub side: Side,
    /// 1 for the first time.
    pub hit: usize,
}

impl std::fmt::Display for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let side = if self.side == Side::Before { "before" } else { "after" };
        write!(f, "{side} {} ({})", self.step, self.hit)
    }
}

/// A point and what happens there, as a child process is told it.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where.
    pub point: Point,
    /// What.
    pub deed: Deed,
}

impl Plan {
    /// As arguments.
    pub fn to_args(&self) -> [String; 4] {
        let (point, before) = (&self.point, self.point.side == Side::Before);
        let deed = DEEDS.iter().position(|deed| *deed == self.deed).unwrap_or_default();
        [point.step.clone(), before.to_string(), point.hit.to_string(), deed.to_string()]
    }

    /// From arguments; `None` when there are none.
    pub fn from_args(args: &[String]) -> Result<Option<Self>> {
        let [step, before, hit, deed] = args else { return Ok(None) };
        let side = if before.parse()? { Side::Before } else { Side::After };
        let point = Point { step: step.clone(), side, hit: hit.parse()? };
        let deed = DEEDS.get(deed.parse::<usize>()?).ok_or("no such deed")?;
        Ok(Some(Self { point, deed: *deed }))
    }
}

/// Watches the steps of this process: tells each point on standard output, and does the deed at
/// the one that is planned.
pub fn watch(plan: Option<Plan>, disk: PathBuf) {
    let seen: Mutex<Vec<(&'static str, Side)>> = Mutex::default();
    goldleaf_host::watch_steps(Box::new(move |step, side| {
        let mut seen = seen.lock().map_err(|_| io::Error::other("a thread panicked"))?;
        seen.push((step, side));
        let hit = seen.iter().filter(|one| **one == (step, side)).count();
        let point = Point { step: step.into(), side, hit };
        println!("{} {} {hit}", step, side == Side::Before);
        match &plan {
            Some(plan) if plan.point == point => act(plan.deed, &disk),
            _ => Ok(()),
        }
    }));
}

/// Reads what [`watch`] told.
pub fn points(told: &str) -> Vec<Point> {
    let point = |line: &str| {
        let mut words = line.split(' ');
        let (step, before, hit) = (words.next()?, words.next()?, words.next()?.parse().ok()?);
        let side = if before.parse().ok()? { Side::Before } else { Side::After };
        Some(Point { step: step.into(), side, hit })
    };
    told.lines().take_while(|line| *line != END).filter_map(point).collect()
}

fn act(deed: Deed, disk: &Path) -> io::Result<()> {
    match deed {
        Deed::Kill => Ok(kill_process(getpid(), Signal::KILL)?),
        Deed::Stop => Ok(kill_process(getpid(), Signal::STOP)?),
        Deed::Fail => Err(io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error())),
        Deed::Fill => fill(&disk.join(FILLER)),
    }
}

/// Takes all the room that is left on a disk.
fn fill(path: &Path) -> io::Result<()> {
    let file = File::create(path)?;
    let (mut at, mut piece) = (0, 1 << 30);
    while piece >= 4096 {
        match fallocate(&file, FallocateFlags::empty(), at, piece) {
            Ok(()) => at += piece,
            Err(rustix::io::Errno::NOSPC) => piece /= 2,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    file.sync_all()
}
