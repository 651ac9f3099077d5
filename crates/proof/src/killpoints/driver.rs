//! The driver: enumerates the points, puts a process into each, and looks at what it left.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use goldleaf_figures::{Bar, Row, Table};
use goldleaf_player::desktop;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, waitpid};

use super::STEPS;
use super::chapters::{CHAPTERS, Chapter, Stage, open_home};
use super::deed::{DEEDS, Deed, END, FILLER, Plan, Point, points, watch};
use super::ground::{HostDisk, make_disk};
use super::look::look;
use crate::Result;
use crate::budget::Budget;
use crate::replay::tools::{self, text};

/// A step that is taken often is interrupted so many times only.
const HITS_MAX: usize = 3;
/// How long a process is stopped.
const STOP: Duration = Duration::from_secs(2);
/// Begins the lines that say what is there in the end.
const SEEN: &str = "there is ";
/// Cases at once: those that are stopped cost nothing.
const AT_ONCE: usize = 8;

/// A line for everything that a home holds.
type Seen = BTreeSet<String>;

/// Runs the group.
pub fn run(_budget: &Budget, table: &mut Table) -> Result<()> {
    tools::need(&["mke2fs", "mkfs.ext4", "debugfs", "mkswap", "sfdisk", "mount"])?;
    tools::need(&["qemu-img", "qemu-system-x86_64"])?;
    let ground = Ground::new()?;
    let (mut cases, mut wrong, mut hit) = (0, 0, BTreeSet::new());
    for (number, chapter) in CHAPTERS.iter().enumerate() {
        let told = ground.in_peace(number)?;
        let all: Vec<Plan> = plans(&points(&told), chapter.1);
        hit.extend(all.iter().map(|plan| plan.point.step.clone()));
        let failures = ground.all(number, &all, &seen(&told))?;
        eprintln!("  {}: {} cases, {} wrong", chapter.0, all.len(), failures.len());
        failures.iter().for_each(|failure| eprintln!("    {failure}"));
        cases += all.len();
        wrong += failures.len();
    }
    let listed: BTreeSet<String> = STEPS.iter().map(|step| step.to_string()).collect();
    listed.difference(&hit).for_each(|step| eprintln!("  never hit: {step}"));
    hit.difference(&listed).for_each(|step| eprintln!("  not in the list: {step}"));
    let row = Row::new("killpoints", hit.intersection(&listed).count() as f64, "steps");
    table.push(row.beside("steps named", listed.union(&hit).count() as f64).bar(Bar::Ratio(1.0)));
    table.push(Row::new("killpoints.cases", cases as f64, "cases"));
    table.push(Row::new("killpoints.wrong", wrong as f64, "cases").bar(Bar::AtMost(0.0)));
    Ok(())
}

/// What is done to a chapter, at the steps whose names begin so.
fn plans(points: &[Point], prefix: &str) -> Vec<Plan> {
    let points = points.iter().filter(|point| point.step.starts_with(prefix));
    let points = points.filter(|point| point.hit <= HITS_MAX);
    points.flat_map(|point| DEEDS.map(|deed| Plan { point: point.clone(), deed })).collect()
}

/// What all cases share: goods, and the home at the beginning of a chapter and at its end.
struct Ground {
    scratch: tempfile::TempDir,
    /// Where disks are mounted: the sockets in a home have short paths.
    mounts: tempfile::TempDir,
}

/// A place for one case at a time.
struct Slot {
    disk: HostDisk,
    memory: PathBuf,
}

impl Slot {
    fn new(ground: &Ground, name: &str) -> Result<Self> {
        let dir = ground.scratch.path().join(name);
        fs::create_dir(&dir)?;
        let disk = HostDisk::new(&dir.join("disk"), ground.mounts.path().join(name))?;
        Ok(Self { disk, memory: dir.join("memory") })
    }

    fn home(&self) -> PathBuf {
        self.disk.path().join("home")
    }

    /// Puts a home here, as a chapter begins with it.
    fn prepare(&self, home: &Path) -> Result<()> {
        self.disk.clear()?;
        let _ = fs::remove_dir_all(&self.memory);
        fs::create_dir(&self.memory)?;
        copy(home, &self.home())
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    tools::succeed("cp", &["-a", "--sparse=always", text(from)?, text(to)?])
}

impl Ground {
    fn new() -> Result<Self> {
        let program = std::env::current_exe()?;
        let beside = program.parent().ok_or("a program without a directory")?;
        let scratch = tempfile::Builder::new().prefix("killpoints-").tempdir_in(beside)?;
        let ground = Self { scratch, mounts: tempfile::tempdir()? };
        let goods = ground.goods();
        let goods_files =
            [("tools", "usr/bin/tool"), ("newer", "usr/bin/tool"), ("spare", "usr/bin/spare")];
        for (name, file) in goods_files {
            let path = goods.join(name).join(file);
            fs::create_dir_all(path.parent().ok_or("no parent")?)?;
            fs::write(path, name.repeat(3000))?;
        }
        fs::create_dir_all(goods.join("scripts"))?;
        make_disk(&goods.join("golden.raw"))?;
        fs::write(goods.join("junk.raw"), vec![1; 1 << 20])?;
        fs::create_dir(ground.begun(0))?;
        Ok(ground)
    }

    fn goods(&self) -> PathBuf {
        self.scratch.path().join("goods")
    }

    /// The home with which a chapter begins.
    fn begun(&self, chapter: usize) -> PathBuf {
        self.scratch.path().join(format!("home-{chapter}"))
    }

    /// Plays a chapter without any harm; gives what it told.
    fn in_peace(&self, chapter: usize) -> Result<String> {
        let slot = Slot::new(self, &format!("p{chapter}"))?;
        slot.prepare(&self.begun(chapter))?;
        let (end, told) = self.play(&slot, chapter, None)?.end()?;
        if end != End::Code(0) {
            return Err(format!("chapter {} in peace: {end:?}: {told}", CHAPTERS[chapter].0).into());
        }
        copy(&slot.home(), &self.begun(chapter + 1))?;
        Ok(told)
    }

    /// All cases of a chapter; gives what went wrong.
    fn all(&self, chapter: usize, plans: &[Plan], expected: &Seen) -> Result<Vec<String>> {
        let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        std::thread::scope(|scope| -> Result<()> {
            let mut threads = Vec::new();
            for number in 0..AT_ONCE {
                let slot = Slot::new(self, &format!("c{chapter}-{number}"))?;
                let (next, failures) = (&next, &failures);
                threads.push(scope.spawn(move || {
                    while let Some(plan) = plans.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if let Err(error) = self.case(&slot, chapter, plan, expected) {
                            let text = format!("{:?} {}: {error}", plan.deed, plan.point);
                            failures.lock().expect("no panics").push(text);
                        }
                    }
                }));
            }
            threads.into_iter().try_for_each(|thread| {
                thread.join().map_err(|_| "a thread of the driver panicked".into())
            })
        })?;
        Ok(failures.into_inner()?)
    }

    fn play(&self, slot: &Slot, chapter: usize, plan: Option<&Plan>) -> Result<Player> {
        let chapter = CHAPTERS[chapter].0;
        let child = Command::new(std::env::current_exe()?)
            .args(["chapter", text(slot.disk.path())?, text(&self.goods())?, text(&slot.memory)?])
            .arg(chapter)
            .args(plan.map(Plan::to_args).iter().flatten())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        Ok(Player(child))
    }

    /// One case: the chapter with a deed in it, and the chapter once more.
    fn case(&self, slot: &Slot, chapter: usize, plan: &Plan, expected: &Seen) -> Result<()> {
        slot.prepare(&self.begun(chapter))?;
        let player = self.play(slot, chapter, Some(plan))?;
        if plan.deed == Deed::Stop {
            player.meanwhile(slot)?;
        }
        let (end, told) = player.end()?;
        check_end(plan.deed, &end, &told)?;
        let filler = slot.disk.path().join(FILLER);
        if filler.exists() {
            fs::remove_file(filler)?;
        }
        let (end, told) = self.play(slot, chapter, None)?.end()?;
        if end != End::Code(0) {
            return Err(format!("again: {end:?}: {}", last_line(&told)).into());
        }
        let seen = seen(&told);
        let lost: Vec<&String> = expected.difference(&seen).collect();
        let added: Vec<&String> = seen.difference(expected).collect();
        if lost.is_empty() && added.is_empty() {
            return Ok(());
        }
        Err(format!("in the end there is {added:?}, not {lost:?}").into())
    }
}

/// What a process saw at its end.
fn seen(told: &str) -> Seen {
    told.lines().filter_map(|line| line.strip_prefix(SEEN)).map(String::from).collect()
}

/// Whether a process ended as what was done to it lets expect.
fn check_end(deed: Deed, end: &End, told: &str) -> Result<()> {
    let fits = match (deed, end) {
        (Deed::Kill, End::Signal(9)) | (Deed::Stop, End::Code(0)) => true,
        // What fails may be something that matters to nobody.
        (Deed::Fail | Deed::Fill, End::Code(code)) => [0, 1].contains(code),
        _ => false,
    };
    if fits { Ok(()) } else { Err(format!("{end:?}: {}", last_line(told)).into()) }
}

fn last_line(text: &str) -> &str {
    text.trim().lines().last().unwrap_or_default()
}

/// How a process ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Code(i32),
    Signal(i32),
}

/// A process that plays a chapter.
struct Player(Child);

impl Player {
    /// Waits until it stopped itself, looks around as other commands would, and lets it go on.
    fn meanwhile(&self, slot: &Slot) -> Result<()> {
        let pid = Pid::from_child(&self.0);
        let status = waitpid(Some(pid), WaitOptions::UNTRACED)?.map(|(_, status)| status);
        if !status.is_some_and(WaitStatus::stopped) {
            return Err("it did not stop".into());
        }
        let home = open_home(&slot.home())?;
        for record in desktop::list(&home)? {
            desktop::history(&home, &record.name)?;
        }
        std::thread::sleep(STOP);
        Ok(kill_process(pid, Signal::CONT)?)
    }

    /// Waits for its end; gives what it told and said, too.
    fn end(self) -> Result<(End, String)> {
        let output = self.0.wait_with_output()?;
        let told = [&output.stdout[..], &output.stderr].concat();
        let signal = std::os::unix::process::ExitStatusExt::signal(&output.status);
        let end = signal.map(End::Signal).or(output.status.code().map(End::Code));
        let end = end.ok_or("an end that is none")?;
        Ok((end, String::from_utf8_lossy(&told).into_owned()))
    }
}

/// What this program does when this group started it: plays a chapter, and where nothing is
/// planned against it, looks at the end. Alone in its process, so that no other thread's children
/// hold its locks.
pub fn child(args: &[String]) -> Result<ExitCode> {
    let [disk, goods, memory, name, plan @ ..] = args else {
        return Err("chapter: started by the group `killpoints` only".into());
    };
    let disk = PathBuf::from(disk);
    let chapter: &Chapter = CHAPTERS.iter().find(|known| known.0 == name).ok_or("no chapter")?;
    let home = open_home(&disk.join("home"))?;
    let plan = Plan::from_args(plan)?;
    let in_peace = plan.is_none();
    watch(plan, disk.clone());
    chapter.2(&Stage { home: home.clone(), goods: goods.into(), memory: memory.into() })?;
    if in_peace {
        println!("{END}");
        look(&home)?.iter().for_each(|line| println!("{SEEN}{line}"));
    }
    Ok(ExitCode::SUCCESS)
}
