//! Clients that are not ours: libnbd's tools and QEMU's, against a model in a plain file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use goldleaf_block::{ByteOffset, FileBlocks, ReadBlocks, SessionDevice, WriteBlocks};
use goldleaf_host::RealDir;
use goldleaf_nbd::Options;

use super::Tally;
use super::served::{DIGEST, KnownDisk, Served, known_disk};
use crate::Result;
use crate::budget::Budget;
use crate::dice::Dice;

/// Length of the disk, in bytes: no whole number of blocks.
const LEN: u64 = (24 << 20) + 512;
/// The longest request of theirs, in bytes.
const REQUEST_LEN_MAX: u64 = 300_000;
/// Commands in one run of `qemu-io`.
const COMMANDS: u64 = 200;

/// Random work over several connections, each step compared with the same done to an array.
const SCRIPT: &str = include_str!("random_work.py");

type Outcome = std::result::Result<(), String>;

struct Bench {
    disk: KnownDisk,
    served: Served,
    /// A file that holds what the disk should.
    model: PathBuf,
    content: Vec<u8>,
}

/// Lets all of them work on one disk, one after the other.
pub fn run(budget: &Budget, tally: &mut Tally) -> Result<()> {
    let mut dice = Dice::new(budget.seed, 2);
    let mut disk = known_disk(LEN, &mut dice)?;
    let content = std::mem::take(&mut disk.content);
    let served = Served::new(disk.device.clone(), false, Options::default())?;
    let model = disk.base.with_extension("model");
    fs::write(&model, &content)?;
    let mut bench = Bench { disk, served, model, content };
    tally.count(bench.info());
    for ability in ["connect", "df", "flush", "fua", "multi-conn", "trim", "write", "zero"] {
        tally.count(bench.ability("--can", ability, true));
    }
    for (question, ability) in [("--can", "cache"), ("--can", "fast-zero"), ("--is", "read-only")] {
        tally.count(bench.ability(question, ability, false));
    }
    for round in 0..budget.of(4, 200) {
        tally.count(bench.nbdsh(dice.next()));
        tally.count(bench.qemu_io(&mut dice));
        tally.count(bench.copy(&mut dice, round % 2 == 0));
    }
    let violations = bench.served.server().stats().violations;
    let well = violations == 0;
    tally.count(well.then_some(()).ok_or(format!("{violations} violations by honest clients")));
    tally.count(bench.reopen());
    Ok(())
}

fn call(program: &str, args: &[&str]) -> std::result::Result<(Option<i32>, String), String> {
    let output = Command::new(program)
        .args(args)
        // libnbd's module is the system's Python's, whichever other comes first.
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("running {program}, see scripts/bootstrap: {error}"))?;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.code(), String::from_utf8_lossy(&said).into_owned()))
}

fn succeed(program: &str, args: &[&str]) -> std::result::Result<String, String> {
    match call(program, args)? {
        (Some(0), said) => Ok(said),
        (code, said) => Err(format!("{program} ended with {code:?}: {said}")),
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

impl Bench {
    fn info(&self) -> Outcome {
        let uri = self.served.uri();
        let said = succeed("nbdinfo", &[&uri])?;
        let size = format!("export-size: {LEN}");
        for line in [&size, "using structured packets", "base:allocation"] {
            if !said.contains(line) {
                return Err(format!("nbdinfo does not say {line}: {said}"));
            }
        }
        let list = succeed("nbdinfo", &["--list", &uri])?;
        list.contains("disk").then_some(()).ok_or(format!("nbdinfo lists {list}"))
    }

    fn ability(&self, question: &str, ability: &str, expected: bool) -> Outcome {
        let (code, said) = call("nbdinfo", &[question, ability, &self.served.uri()])?;
        // 2 is its no.
        if code == Some(if expected { 0 } else { 2 }) {
            return Ok(());
        }
        Err(format!("nbdinfo {question} {ability}: {code:?} {said}"))
    }

    /// The script writes what it did to the model.
    fn nbdsh(&mut self, seed: u64) -> Outcome {
        let values = [
            format!("uri = {:?}", self.served.uri()),
            format!("model = {:?}", text(&self.model)),
            format!("seed = {seed}"),
        ];
        let values = values.join("\n");
        succeed("nbdsh", &["-c", &values, "-c", SCRIPT])
            .map_err(|error| format!("seed {seed}: {error}"))?;
        self.content = fs::read(&self.model).map_err(|error| error.to_string())?;
        self.compare()
    }

    fn qemu_io(&mut self, dice: &mut Dice) -> Outcome {
        let commands: Vec<String> = (0..COMMANDS).map(|_| self.command(dice)).collect();
        let uri = self.served.uri();
        let mut args = vec!["-f", "raw", "-d", "unmap", &uri];
        commands.iter().for_each(|command| args.extend(["-c", command]));
        let said = succeed("qemu-io", &args)?;
        if said.contains("failed") || said.contains("rror") {
            return Err(format!("qemu-io: {said}"));
        }
        fs::write(&self.model, &self.content).map_err(|error| error.to_string())?;
        self.compare()
    }

    /// Makes up a command, and does the same to the model.
    fn command(&mut self, dice: &mut Dice) -> String {
        let at = dice.below(LEN);
        let len = (1 + dice.below(REQUEST_LEN_MAX)).min(LEN - at);
        let pattern = dice.below(256) as u8;
        let fua = if dice.one_in(4) { "-f " } else { "" };
        let range = at as usize..(at + len) as usize;
        match dice.below(8) {
            0 => "flush".into(),
            1 => "aio_flush".into(),
            2 => {
                // Of a range that is no whole blocks it keeps the ends.
                let (at, end) = (at.next_multiple_of(4096), (at + len) / 4096 * 4096);
                if at >= end {
                    return "flush".into();
                }
                self.content[at as usize..end as usize].fill(0);
                format!("discard {at} {}", end - at)
            }
            3 | 4 => {
                self.content[range].fill(0);
                let unmap = if dice.one_in(2) { "-u " } else { "" };
                format!("write -z {fua}{unmap}{at} {len}")
            }
            5 => {
                self.content[range].fill(pattern);
                format!("write -P {pattern} {fua}{at} {len}")
            }
            _ => {
                self.content[range].fill(pattern);
                format!("aio_write -P {pattern} {fua}{at} {len}\n").trim_end().into()
            }
        }
    }

    /// Copies the disk out, and another content in.
    fn copy(&mut self, dice: &mut Dice, many: bool) -> Outcome {
        let uri = self.served.uri();
        let back = self.model.with_extension("back");
        let options =
            if many { ["--connections=4", "--threads=4"] } else { ["--sparse=0", "--synchronous"] };
        succeed("nbdcopy", &[options[0], options[1], &uri, text(&back)])?;
        if fs::read(&back).map_err(|error| error.to_string())? != self.content {
            return Err("nbdcopy read other content".into());
        }
        for _ in 0..8 {
            let at = dice.below(LEN);
            let len = (dice.below(4) << 18).min(LEN - at) as usize;
            let new = if dice.one_in(2) { vec![0; len] } else { dice.bytes(len) };
            self.content[at as usize..][..len].copy_from_slice(&new);
        }
        fs::write(&self.model, &self.content).map_err(|error| error.to_string())?;
        succeed("nbdcopy", &[options[0], options[1], "--flush", text(&self.model), &uri])?;
        self.compare()
    }

    fn compare(&self) -> Outcome {
        let (model, uri) = (text(&self.model), self.served.uri());
        succeed("qemu-img", &["compare", "-f", "raw", "-F", "raw", model, &uri])?;
        let mut content = vec![0; LEN as usize];
        self.disk.device.read_at(ByteOffset(0), &mut content).map_err(|error| error.to_string())?;
        (content == self.content).then_some(()).ok_or("the device has other content".into())
    }

    /// What is left in the session's files is what was written.
    fn reopen(self) -> Outcome {
        let fail = |error: &dyn std::error::Error| error.to_string();
        drop(self.served);
        self.disk.device.flush().map_err(|error| fail(&error))?;
        let session = RealDir::open(&self.disk.session()).map_err(|error| fail(&error))?;
        let place = self.disk.base.parent().ok_or("a base without a directory")?;
        let base = RealDir::open(place).and_then(|dir| dir.open("base.raw"));
        let base = FileBlocks::new(base.map_err(|error| fail(&error))?);
        let base = Arc::new(base.map_err(|error| fail(&error))?);
        let (device, _) =
            SessionDevice::open(session, base, &DIGEST).map_err(|error| fail(&error))?;
        let mut content = vec![0; LEN as usize];
        device.read_at(ByteOffset(0), &mut content).map_err(|error| fail(&error))?;
        (content == self.content).then_some(()).ok_or("reopened with other content".into())
    }
}
