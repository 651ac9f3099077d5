//! What publishing and subscribing cost: `goldleaf-bench distribution`.
//!
//! ```text
//!   archive ─▶ pair ─▶ ground          three images of one system, imported as the product does
//!                        ├─▶ publishing      a first version, and two ways to the next
//!                        │      ├─▶ shares   what of an image it is that travels
//!                        │      ├─▶ deltas   what an endpoint fetches of the next, and how fast
//!                        │      ├─▶ applying    the next start on what was fetched
//!                        │      └─▶ streaming   a first start over a link
//!                        ├─▶ mapping         the map of a disk of 40 GB
//!                        ├─▶ reading         what has arrived, read by a guest
//!                        └─▶ peers           other people's stores on the same images (`--peers`)
//! ```
//! Groups (`publish`, `map`, `read`) run alone when they are named; `full` is
//! the size of the first version alone; `delta`, `apply` and `stream` are deltas, applying and
//! streaming alone, of drafts. `--little` takes a system without a desktop, for trying out.
//! `--in=DIR` keeps images and
//! what was imported of them, so that the next run fetches nothing. A whole run on the desktop
//! writes `bench/distribution.json`. Needs root, for mounts, and some 30 GB of room.

mod applying;
mod archive;
mod deltas;
mod ground;
mod mapping;
mod offering;
mod pair;
mod peers;
mod publishing;
mod reading;
mod shares;
mod streaming;

use std::ffi::OsString;
use std::process::ExitCode;

use goldleaf_figures::Table;

use crate::{Result, disks, timing};
use ground::Ground;

/// How large everything is.
#[derive(Debug, Clone, Copy)]
struct Size {
    /// Which images.
    kind: pair::Kind,
    /// What their directory is called.
    place: &'static str,
    /// Runs of what is quick, ours and the peer's in turn.
    runs: usize,
    /// How often the image's files are on the large disk, beside the first time.
    copies: u8,
    fio_secs: u32,
}

const FULL: Size = Size { kind: pair::DESKTOP, place: "desktop", runs: 3, copies: 5, fio_secs: 4 };
const LITTLE: Size = Size { kind: pair::LITTLE, place: "little", runs: 3, copies: 1, fio_secs: 1 };

/// Runs it.
pub fn run(args: &[OsString]) -> Result<ExitCode> {
    let args: Vec<&str> = args
        .iter()
        .map(|arg| arg.to_str().ok_or("not text"))
        .collect::<std::result::Result<_, _>>()?;
    if let ["child", task, rest @ ..] = &args[..] {
        return child(task, rest);
    }
    let has = |option: &str| args.contains(&option);
    let only: Vec<&str> = args.iter().filter(|arg| !arg.starts_with("--")).copied().collect();
    let wants = |group: &str| only.is_empty() || only.contains(&group);
    let size = if has("--little") { LITTLE } else { FULL };
    let scratch = disks::Scratch::new(args.iter().find_map(|arg| arg.strip_prefix("--in=")))?;
    eprintln!("the load of this machine is {}", timing::load()?);
    let ground = Ground::prepare(&scratch.path().join(size.place), size.kind)?;
    let (mut table, mut fetched) = (Table::default(), None);
    if wants("publish") {
        streaming::record(&ground)?;
        let made = publishing::run(&ground, size, &mut table)?;
        fetched = Some(deltas::run(&ground, &made, &mut table)?);
        applying::run(&ground, "feed", &made, &mut table)?;
        streaming::run(&ground, "feed", &made[0], &mut table)?;
    }
    if only.contains(&"apply") {
        let first = publishing::draft(&ground)?;
        let next = publishing::next_draft(&ground, &first)?;
        applying::run(&ground, "draft", &[first, next], &mut table)?;
    }
    if only.contains(&"full") {
        publishing::full(&ground, &mut table)?;
    }
    if only.contains(&"delta") {
        let first = publishing::draft(&ground)?;
        let next = publishing::next_draft(&ground, &first)?;
        deltas::drafts(&ground, &first, &next, &mut table)?;
    }
    if only.contains(&"stream") {
        streaming::record(&ground)?;
        streaming::run(&ground, "draft", &publishing::draft(&ground)?, &mut table)?;
    }
    if wants("map") {
        mapping::run(&ground, size, &mut table)?;
    }
    if wants("read") {
        reading::run(&ground, size, &mut table)?;
    }
    let is_whole = only.is_empty() && !has("--little");
    if is_whole {
        table.write("distribution.json")?;
    }
    // They take long, and what was measured stands by itself.
    if let (Some(fetched), true) = (fetched, has("--peers")) {
        peers::run(&ground, fetched, &mut table)?;
        if is_whole {
            table.write("distribution.json")?;
        }
    }
    table.print();
    Ok(if table.all_met() { ExitCode::SUCCESS } else { ExitCode::from(2) })
}

/// A part whose memory counts: a process of its own.
fn child(task: &str, args: &[&str]) -> Result<ExitCode> {
    match task {
        "publish" => publishing::child(args),
        "delta" => deltas::make(args),
        "apply" => deltas::apply(args),
        "stream" => streaming::child(args),
        "map" => mapping::child(args),
        other => Err(format!("no part of the benchmark: {other}").into()),
    }
}
