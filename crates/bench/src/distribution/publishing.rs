//! Publishing a first version, and the next one in two ways, each in a process of its own whose
//! memory counts.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use goldleaf_feed::{Object, Publisher, names};
use goldleaf_fetch::Destination;
use goldleaf_figures::{Bar, Row, Table};
use goldleaf_host::{RealDir, Silent};
use goldleaf_image::order;
use goldleaf_wire::{BootProfile, Effort, WireMap};
use serde::{Deserialize, Serialize};

use super::ground::{Ground, V1, V2, V2R};
use super::{Size, shares};
use crate::Result;
use crate::memory::peak_rss;
use crate::timing::{Took, median, time};

/// Of what endpoints fetch.
pub const FINAL: i32 = 19;
/// Of what an author tries out.
pub const DRAFT: i32 = 3;
/// Frames compressed at once.
const THREADS: usize = 2;
const MIB: f64 = (1 << 20) as f64;

/// What was published.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Made {
    /// The map.
    pub map: Object,
    /// Length of the new packs, in bytes.
    pub pack_bytes: u64,
    /// How many these are.
    pub packs: u64,
    /// Time of making them and the map, in seconds: without what is known being learned.
    pub wall_s: f64,
    /// Processor time of the same, in seconds.
    pub cpu_s: f64,
    /// Most memory of the process, in bytes.
    pub peak_rss: u64,
}

impl Made {
    /// What an endpoint fetches of it that has the version before, in MiB.
    pub fn mib(&self) -> f64 {
        (self.pack_bytes + self.map.len) as f64 / MIB
    }
}

/// Only how large the first version is.
pub fn full(ground: &Ground, table: &mut Table) -> Result<()> {
    eprintln!("publishing {V1}");
    let first = publish(ground, &ground.fresh("full")?, V1, FINAL, &[], None)?;
    table.push(Row::new("full.mib", first.mib(), "MiB"));
    table.push(Row::new("full.make_s.cpu", first.cpu_s, "s"));
    Ok(())
}

/// Measures. Returns all three: `v1`, `v2` and `v2r`.
pub fn run(ground: &Ground, size: Size, table: &mut Table) -> Result<Vec<Made>> {
    drafts(ground, size, table)?;
    let feed = ground.fresh("feed")?;
    eprintln!("publishing {V1}");
    let first = publish(ground, &feed, V1, FINAL, &[], None)?;
    let peer = zstd(&ground.raw(V1), 9)? as f64 / MIB;
    let row = Row::new("full.mib", first.mib(), "MiB").beside("zstd -9 --long", peer);
    table.push(row.bar(Bar::AtMostAndPeer(450.0, 1.0)));
    table.push(Row::new("full.make_s", first.wall_s, "s"));
    table.push(Row::new("full.make_s.cpu", first.cpu_s, "s"));
    shares::add("full", ground, &feed, V1, &first, &[], table)?;
    let mut all = vec![first.clone()];
    // Each beside the first version alone: they are two ways to the same update.
    for (name, prefix) in [(V2, "update.v1_v2"), (V2R, "update.v1_v2r")] {
        eprintln!("publishing {name} over {V1}");
        let made = publish(ground, &feed, name, FINAL, &[&first.map], None)?;
        table.push(Row::new(format!("{prefix}_packs_mib"), made.mib(), "MiB"));
        shares::add(prefix, ground, &feed, name, &made, &[&first], table)?;
        all.push(made);
    }
    Ok(all)
}

/// All of a version is new in its first draft. Rates are also told by processor time, which a
/// machine that is busy with other things distorts less.
fn drafts(ground: &Ground, size: Size, table: &mut Table) -> Result<()> {
    eprintln!("publishing drafts");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..size.runs {
        let made = draft(ground)?;
        let bytes = content(&ground.place.join("draft"), &made.map)? as f64 / 1e6;
        ours.push((bytes / made.wall_s, bytes / made.cpu_s));
        let (_, took) = time(|| zstd(&ground.raw(V1), DRAFT))?;
        theirs.push((bytes / took.wall_s, bytes / took.cpu_s));
    }
    let wall = |rates: &[(f64, f64)]| median(rates.iter().map(|(wall, _)| *wall));
    let cpu = |rates: &[(f64, f64)]| median(rates.iter().map(|(_, cpu)| *cpu));
    let peer = "zstd -3 --long";
    let row = Row::new("publish.mb_s", wall(&ours), "MB/s").beside(peer, wall(&theirs));
    table.push(row.bar(Bar::AtLeast(150.0)));
    let row = Row::new("publish.mb_s.cpu", cpu(&ours), "MB/s");
    table.push(row.beside(peer, cpu(&theirs)));
    Ok(())
}

/// Publishes the first version as a draft, into a feed of its own.
pub fn draft(ground: &Ground) -> Result<Made> {
    publish(ground, &ground.fresh("draft")?, V1, DRAFT, &[], None)
}

/// Publishes the next version over a draft of the first.
pub fn next_draft(ground: &Ground, first: &Made) -> Result<Made> {
    publish(ground, &ground.place.join("draft"), V2, DRAFT, &[&first.map], None)
}

/// Publishes the first version as a draft, in the order of another profile than its own.
pub fn in_order(ground: &Ground, feed: &Path, profile: &BootProfile) -> Result<Made> {
    let file = feed.join("profile");
    fs::write(&file, profile.to_bytes()?)?;
    publish(ground, feed, V1, DRAFT, &[], Some(&file))
}

/// Bytes of content in the packs of a map.
fn content(feed: &Path, map: &Object) -> Result<u64> {
    Ok(read_map(feed, map)?.packs.iter().map(|pack| pack.blocks.bytes().0).sum())
}

/// A map of a feed.
pub fn read_map(feed: &Path, map: &Object) -> Result<WireMap> {
    let bytes = fs::read(feed.join(names::map(&map.name()?)))?;
    Ok(WireMap::from_bytes(&bytes)?)
}

/// Publishes an image over versions that are in the feed, in a process of its own: in the order of
/// the profile in a file, or of its own.
fn publish(
    ground: &Ground,
    feed: &Path,
    image: &str,
    level: i32,
    known: &[&Object],
    profile: Option<&Path>,
) -> Result<Made> {
    let (level, known) = (level.to_string(), serde_json::to_string(known)?);
    let profile = profile.map_or(OsStr::new(""), Path::as_os_str);
    let args = [feed.as_os_str(), image.as_ref(), level.as_ref(), known.as_ref(), profile];
    ground.part("publish", &args)
}

/// The process: `PLACE FEED IMAGE LEVEL KNOWN PROFILE`.
pub fn child(args: &[&str]) -> Result<ExitCode> {
    let [place, feed, image, level, known, profile] = args else {
        return Err("publish: arguments".into());
    };
    let known: Vec<Object> = serde_json::from_str(known)?;
    let ground = Ground::open(Path::new(place))?;
    let (image, layout) = ground.image(image)?;
    // As `publish` does it: what a guest reads when it starts comes first, where that is known.
    let profile = match *profile {
        "" => ground.home.images()?.boot_profile(&image.image, &image.record)?,
        file => Some(BootProfile::from_bytes(&fs::read(file)?, image.record.blocks)?),
    };
    let mut travel = profile.unwrap_or_default().runs().to_vec();
    travel.extend(order(&layout, image.map.blocks()));
    let feed = RealDir::create(&PathBuf::from(feed))?;
    let effort = Effort::of(level.parse()?, THREADS);
    // The one place where the benchmark publishes: what endpoints are to fetch is made here.
    let mut publisher = Publisher::new(&Destination::directory(feed, "the feed"), effort);
    for map in known {
        publisher.learn(&map, &Silent)?;
    }
    let (map, took) = time(|| Ok(publisher.disk(&image.device()?, &travel, &Silent)?))?;
    let written = publisher.written;
    let (pack_bytes, packs) = (written.pack_bytes, written.packs);
    let Took { wall_s, cpu_s } = took;
    let made = Made { map, pack_bytes, packs, wall_s, cpu_s, peak_rss: peak_rss()? };
    println!("{}", serde_json::to_string(&made)?);
    Ok(ExitCode::SUCCESS)
}

/// Length of a disk as zstd compresses all of it at once, in bytes.
fn zstd(disk: &Path, level: i32) -> Result<u64> {
    let mut child = Command::new("zstd")
        .args([&format!("-{level}"), "--long=27", "-T2", "-q", "-c"])
        .arg(disk)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("running zstd: {error}"))?;
    let mut out = child.stdout.take().ok_or("no output")?;
    let bytes = std::io::copy(&mut out, &mut std::io::sink())?;
    if child.wait()?.success() { Ok(bytes) } else { Err("zstd failed".into()) }
}
