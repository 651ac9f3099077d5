//! The benchmark: what the product promises in figures, measured beside a peer in the same run.
//!
//! ```text
//!   main ── "worker", "memory"? ──▶ a jailed worker, or a process of the player's part alone
//!     └──▶ disks, ground      the image, the desktops, and what a guest's kernel does to a disk
//!     └──▶ composing, harvesting, serving, memory      one module a group of figures
//!     └──▶ distribution      a benchmark of its own: what publishing costs, bench/distribution.json
//!              └──▶ figures   medians, bars, bench/latest.json
//! ```
//! Ours and the peer take turns, five runs each, and the median counts: a machine that is busy is
//! busy for both. `--quick` makes everything smaller; its figures are for trying out, and are not
//! written to `bench/latest.json`, nor are those of single groups (`nbd`, `compose`, `harvest`,
//! `rss`). `--in=DIR` works in DIR, and uses an image that an earlier run of the same size left
//! there. Needs root, for loop mounts.
#![forbid(unsafe_code)]

mod composing;
mod disks;
mod distribution;
mod ground;
mod harvesting;
mod memory;
mod serving;
mod timing;

use std::ffi::OsString;
use std::process::ExitCode;

use goldleaf_figures::Table;

/// The product's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The program is an executable: what went wrong is printed, not handled.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    match run(&args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[OsString]) -> Result<ExitCode> {
    match args.first().and_then(|first| first.to_str()) {
        Some("worker") => worker(&args[1..]),
        Some("memory") => memory::child(&args[1..]),
        Some("distribution") => distribution::run(&args[1..]),
        _ => bench(args),
    }
}

/// A worker that this program started, as the product's own program would be one.
fn worker(args: &[OsString]) -> Result<ExitCode> {
    let count = args.first().and_then(|count| count.to_str()).ok_or("worker: how many files?")?;
    let count = count.parse()?;
    match args.get(1).and_then(|name| name.to_str()) {
        Some(name) => Err(goldleaf_worker::exec_tool(count, name, &args[2..]).into()),
        None => Ok(goldleaf_worker::serve(count).map(|()| ExitCode::SUCCESS)?),
    }
}

/// How large everything is.
#[derive(Debug, Clone, Copy)]
struct Size {
    runs: usize,
    image_files: u32,
    layer_files: u32,
    user_files: u32,
    operations: u32,
    fio_secs: u32,
    random_writes: u64,
}

const FULL: Size = Size {
    runs: 5,
    image_files: 300_000,
    layer_files: 200_000,
    user_files: 20_000,
    operations: 1_000,
    fio_secs: 4,
    random_writes: (10 << 30) / goldleaf_block::BLOCK_SIZE,
};

const QUICK: Size = Size {
    runs: 3,
    image_files: 60_000,
    layer_files: 200_000,
    fio_secs: 1,
    random_writes: (1 << 30) / goldleaf_block::BLOCK_SIZE,
    ..FULL
};

fn bench(args: &[OsString]) -> Result<ExitCode> {
    let quick = args.iter().any(|arg| arg == "--quick");
    let only: Vec<&str> =
        args.iter().filter_map(|arg| arg.to_str()).filter(|arg| !arg.starts_with("--")).collect();
    let wants = |group: &str| only.is_empty() || only.contains(&group);
    let size = if quick { QUICK } else { FULL };
    let mut table = Table::default();
    let lasting = args.iter().find_map(|arg| arg.to_str()?.strip_prefix("--in="));
    let scratch = disks::Scratch::new(lasting)?;
    eprintln!("the load of this machine is {}", timing::load()?);
    if wants("nbd") {
        serving::run(scratch.path(), size, &mut table)?;
    }
    if wants("compose") || wants("harvest") || wants("rss") {
        let ground = ground::Ground::prepare(scratch.path(), size)?;
        if wants("compose") {
            composing::run(&ground, size, &mut table)?;
        }
        if wants("harvest") {
            harvesting::run(&ground, size, &mut table)?;
        }
        if wants("rss") {
            memory::run(&ground, size, &mut table)?;
        }
    }
    table.print();
    if !quick && only.is_empty() {
        table.write("latest.json")?;
    }
    Ok(if table.all_met() { ExitCode::SUCCESS } else { ExitCode::from(2) })
}
