//! The jail, from inside: what a captured parser would try is tried in a worker that was started
//! and confined as the product's are, each attempt in a process of its own.
//!
//! An attempt is denied when the kernel answers EPERM or EACCES, or kills. The same attempts are
//! made without the jail, where they must fare otherwise: so that a wrong argument is no proof.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::Arc;

use goldleaf_block::{BlockCount, MapBuilder};
use goldleaf_figures::{Bar, Row, Table};
use goldleaf_host::{File, file_from_fd};
use goldleaf_jail::probes::{self, Part, Probe, Surroundings};
use goldleaf_jail::{Cause, Jailed, Limits};
use goldleaf_worker::protocol::{DiskReport, DiskSpec, Reply, Task};
use goldleaf_worker::{Channel, Launcher, Scale, WorkerError};

use crate::Result;
use crate::budget::Budget;

/// For what is to go past them.
const TIGHT: Limits = Limits { memory_bytes: 256 << 20, cpu_secs: 1, file_bytes: 1 << 20 };
/// How a worker can end before its time, and what the parent is to say of it.
const ENDS: [(&str, Cause); 5] = [
    ("memory", Cause::Memory),
    ("processor", Cause::Processor),
    ("output", Cause::Output),
    ("panic", Cause::Panic),
    ("abort", Cause::Signal(6)),
];
/// What a worker finds missing, by its name here.
const PARTS: [(&str, Part); 2] = [("landlock", Part::Landlock), ("seccomp", Part::Seccomp)];

/// Runs the group.
pub fn run(_budget: &Budget, table: &mut Table) -> Result<()> {
    let count = probes::all().count() as f64;
    let (mut denied, mut told_apart) = (0, 0);
    for (number, probe) in probes::all().enumerate() {
        match attempt("jailed", number)? {
            Outcome::Denied => denied += 1,
            Outcome::Other(what) => eprintln!("  NOT denied: {}: {what}", probe.name),
        }
        if probe.outside {
            match attempt("free", number)? {
                Outcome::Denied => eprintln!("  no proof here: {} is denied outside", probe.name),
                _ => told_apart += 1,
            }
        }
    }
    let row = Row::new("sandbox.denied", f64::from(denied), "probes");
    table.push(row.beside("probes", count).bar(Bar::Ratio(1.0)));
    table.push(Row::new("sandbox.probes", count, "probes").bar(Bar::AtLeast(40.0)));
    let row = Row::new("sandbox.told-apart", f64::from(told_apart), "probes");
    table.push(row.bar(Bar::AtLeast(count * 0.8)));
    let limits = ENDS.iter().map(|end| ends_as(end.0, end.1));
    let kept = limits.collect::<Result<Vec<bool>>>()?;
    push_all(table, "sandbox.ends", "ends", &kept);
    let refusals = PARTS.iter().map(|part| refuses_without(part.0));
    let refused = refusals.collect::<Result<Vec<bool>>>()?;
    push_all(table, "sandbox.refusals", "starts", &refused);
    Ok(())
}

/// So many of so many.
fn push_all(table: &mut Table, name: &str, unit: &'static str, good: &[bool]) {
    let count = good.iter().filter(|good| **good).count() as f64;
    table.push(Row::new(name, count, unit).bar(Bar::AtLeast(good.len() as f64)));
}

enum Outcome {
    Denied,
    /// What happened instead.
    Other(String),
}

/// Tries one of the probes, in the jail or free of it.
fn attempt(how: &str, number: usize) -> Result<Outcome> {
    let worker = start(&[how, &number.to_string(), &std::process::id().to_string()])?;
    Ok(match worker.finish::<Option<i32>>() {
        Ok((None, _)) => Outcome::Other("done".into()),
        Ok((Some(errno), _)) if probes::is_denial(errno) => Outcome::Denied,
        Ok((Some(errno), _)) => Outcome::Other(format!("error {errno}")),
        Err(WorkerError::Died { cause: Cause::Signal(_), .. }) if how == "jailed" => {
            Outcome::Denied
        }
        Err(WorkerError::Died { cause, .. }) => Outcome::Other(cause.to_string()),
        Err(error) => return Err(error.into()),
    })
}

/// This program as a worker with other arguments, with an empty disk to look at.
fn start(args: &[&str]) -> Result<goldleaf_worker::Session> {
    let mut own: Vec<OsString> = vec!["probe".into()];
    own.extend(args.iter().map(OsString::from));
    let launcher = Launcher::new(std::env::current_exe()?, own);
    let file: Arc<dyn File> = file_from_fd(tempfile::tempfile()?.into());
    let map = MapBuilder::new(BlockCount(1)).finish();
    let task = Task::Inspect(DiskSpec { map, sources: Vec::new() });
    Ok(launcher.start(&[file], Scale { files: 0, output_bytes: 0 }, &task)?)
}

/// Lets a jailed process come to its end; whether the parent sees what it was.
fn ends_as(what: &str, expected: Cause) -> Result<bool> {
    let file = tempfile::tempfile()?;
    let args = ["probe".into(), "misuse".into(), what.into()];
    let program = std::env::current_exe()?;
    let jailed: Jailed = goldleaf_jail::spawn(&program, &args, &[file.as_fd()], TIGHT)?;
    let ended = jailed.wait()?;
    eprintln!("  {what}: {}", ended.cause());
    Ok(ended.cause() == expected)
}

/// Starts a worker where a part of the kernel is missing; whether it refuses, and says so.
fn refuses_without(part: &str) -> Result<bool> {
    let said = match start(&["without", part]) {
        Ok(worker) => match worker.finish::<DiskReport>() {
            Ok(_) => return Ok(false),
            Err(error) => error.to_string(),
        },
        // It may be gone before it was told what to do.
        Err(error) => error.to_string(),
    };
    eprintln!("  without {part}: {said}");
    Ok(said.contains("this kernel cannot confine the worker"))
}

/// What this program does when this group started it.
pub fn child(args: &[String]) -> Result<ExitCode> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        [how @ ("jailed" | "free"), number, parent, _] => {
            let probe = probes::all().nth(number.parse()?).ok_or("probe: which?")?;
            tell(how == "jailed", probe, parent.parse()?)?;
        }
        ["misuse", what] => misuse(what)?,
        ["without", part, count] => {
            let part = PARTS.iter().find(|known| known.0 == part).ok_or("without what?")?;
            probes::take_away(part.1)?;
            goldleaf_worker::serve(count.parse()?)?;
        }
        _ => return Err("probe: started by the group `sandbox` only".into()),
    }
    Ok(ExitCode::SUCCESS)
}

/// As a worker serves: confined before the first byte of the task is read.
fn tell(jailed: bool, probe: &Probe, parent: u32) -> Result<()> {
    let socket = goldleaf_jail::inherited_socket();
    let output = socket.as_fd().try_clone_to_owned()?;
    let handed = goldleaf_jail::inherited(1);
    let fd = std::os::fd::AsRawFd::as_raw_fd(&handed[0]);
    if jailed {
        goldleaf_jail::enter()?;
    }
    let mut channel = Channel::from_halves(socket, output);
    channel.receive::<Task>()?;
    let answer = probe.run(Surroundings { parent, fd });
    channel.send(&Reply::Done(answer))?;
    Ok(channel.flush()?)
}

fn misuse(what: &str) -> Result<()> {
    let output = file_from_fd(goldleaf_jail::inherited(1).remove(0));
    goldleaf_jail::enter()?;
    let block = vec![1; 1 << 20];
    let mut kept = Vec::new();
    loop {
        match what {
            "memory" => kept.push(block.clone()),
            "panic" => panic!("as asked"),
            "abort" => std::process::abort(),
            "processor" => std::hint::spin_loop(),
            _ => output.write_all_at(&block, 1)?,
        }
    }
}
