//! The memory of the player and its worker. The player's part runs in a process of its own, so that
//! what the benchmark itself needs does not count.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};

use goldleaf_block::{BLOCK_SIZE, ByteOffset, ReadBlocks, WriteBlocks};
use goldleaf_host::Silent;
use goldleaf_player::desktop::{Desktop, Live, Stack, compose};
use serde::{Deserialize, Serialize};

use crate::ground::{Dice, FULL, Ground, open_home};
use crate::{Result, Size, harvesting};
use goldleaf_figures::{Bar, Row, Table};

/// Writes between two flushes: a guest's flusher comes every few seconds.
const WRITES_PER_FLUSH: u64 = 8192;

/// What the process of the player's part says.
#[derive(Serialize, Deserialize)]
struct Said {
    /// Most memory of the worker that composed, in bytes.
    worker: u64,
    /// Most memory of the player until the session was ready, in bytes.
    ready: u64,
    /// The same after the writes.
    written: u64,
    /// How long the writes took, in seconds.
    writing_s: f64,
}

/// Measures.
pub fn run(ground: &Ground, size: Size, table: &mut Table) -> Result<()> {
    eprintln!("measuring memory over {} random writes", size.random_writes);
    let harvester = harvesting::worker_peak(ground, size)?;
    let output = Command::new(std::env::current_exe()?)
        .arg("memory")
        .arg(&ground.path)
        .arg(size.random_writes.to_string())
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    let said: Said = serde_json::from_slice(&output.stdout)?;
    let worker = said.worker.max(harvester);
    let mb = |bytes: u64| bytes as f64 / 1e6;
    let row = |name: &str, bytes: u64| Row::new(format!("player.rss_mb{name}"), mb(bytes), "MB");
    table.push(row("", said.ready + worker).bar(Bar::AtMost(150.0)));
    table.push(row(".after_writes", said.written + worker).bar(Bar::AtMost(150.0)));
    table.push(row(".player", said.ready));
    table.push(row(".compose_worker", said.worker));
    table.push(row(".harvest_worker", harvester));
    let iops = size.random_writes as f64 / said.writing_s;
    table.push(Row::new("session.random_writes", iops, "IOPS"));
    Ok(())
}

/// The process of the player's part: `memory HOME WRITES`.
pub fn child(args: &[OsString]) -> Result<ExitCode> {
    let [home, writes] = args else { return Err("memory: HOME WRITES".into()) };
    let writes: u64 = writes.to_str().ok_or("not text")?.parse()?;
    let home = open_home(Path::new(home))?;
    let mut desktop = Desktop::open(&home, FULL)?;
    if desktop.dir.dir("composed").is_ok() {
        desktop.dir.remove_dir_all("composed")?;
    }
    let worker = {
        let stack = Stack::open(&home, &desktop.dir, &desktop.versions(&home)?)?;
        compose(&home, &desktop.dir, &stack, &Silent)?.1.peak_rss_bytes
    };
    let live = Live::begin(&home, &mut desktop, &Silent)?;
    let ready = peak_rss()?;
    let begun = std::time::Instant::now();
    write(live.device().as_ref(), writes)?;
    let writing_s = begun.elapsed().as_secs_f64();
    let said = Said { worker, ready, written: peak_rss()?, writing_s };
    println!("{}", serde_json::to_string(&said)?);
    drop(live);
    desktop.commit("bench", |record| record.session = None)?;
    desktop.dir.remove_dir_all("sessions")?;
    Ok(ExitCode::SUCCESS)
}

fn write<D: ReadBlocks + WriteBlocks + ?Sized>(device: &D, writes: u64) -> Result<()> {
    let blocks = device.len().blocks().0;
    let mut dice = Dice::new(3);
    let mut block = [0x5a; BLOCK_SIZE as usize];
    for number in 0..writes {
        block[..8].copy_from_slice(&number.to_le_bytes());
        device.write_at(ByteOffset(dice.below(blocks) * BLOCK_SIZE), &block)?;
        if number % WRITES_PER_FLUSH == 0 {
            device.flush()?;
        }
    }
    Ok(device.flush()?)
}

/// The most memory that this process ever had, in bytes.
pub fn peak_rss() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024)
}
