//! Deltas from the first version to the next, made from the feed alone, and applied by an endpoint
//! that has the first version. Each is a process of its own whose memory counts.

use std::ffi::OsStr;
use std::fs;
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use goldleaf_cache::{Carried, Supply, SupplyError, Take};
use goldleaf_feed::{Channel, OfferedDelta, PublishedImage, Publisher};
use goldleaf_fetch::{Destination, Directory};
use goldleaf_figures::{Bar, Row, Table};
use goldleaf_host::{Dir, RealDir, Silent};
use goldleaf_image::Images;
use goldleaf_player::feeds::{Differ, published, received};
use goldleaf_wire::Effort;
use serde::{Deserialize, Serialize};

use super::ground::{Ground, PAIR, V1, V2, V2R};
use super::pair;
use super::publishing::{DRAFT, FINAL, Made};
use crate::Result;
use crate::memory::peak_rss;
use crate::timing::time;

/// Units compressed at once.
const THREADS: usize = 2;
/// Name of the image with an endpoint.
const NAME: &str = "desktop";
/// The feed of drafts.
const DRAFTS: &str = "draft";
const MIB: f64 = (1 << 20) as f64;

/// A delta that was made.
#[derive(Serialize, Deserialize)]
struct Delta {
    offered: OfferedDelta,
    wall_s: f64,
    peak_rss: u64,
}

/// What it was to an endpoint.
#[derive(Serialize, Deserialize)]
struct Applied {
    /// Content that it brought, in bytes.
    content: u64,
    wall_s: f64,
    cpu_s: f64,
    peak_rss: u64,
    /// Requests for it, and for the packs that had to help out.
    requests: u64,
    /// Bytes that came of both.
    bytes: u64,
}

/// Applying a delta between drafts, which is made in a minute: its rate and its memory are those of
/// one that was made well, near enough to try something out.
pub fn drafts(ground: &Ground, first: &Made, next: &Made, table: &mut Table) -> Result<()> {
    let delta = ground.made(DRAFTS, first, V2, next)?;
    let applied = ground.applied(DRAFTS, first, V2, next, &delta.offered)?;
    let rate = applied.content as f64 / 1e6 / applied.wall_s;
    table.push(Row::new("delta.apply_rss_mb", applied.peak_rss as f64 / 1e6, "MB"));
    table.push(Row::new("delta.apply_mb_s", rate, "MB/s"));
    Ok(())
}

/// Measures. Returns what an endpoint fetches of each version, in MiB.
pub fn run(ground: &Ground, made: &[Made], table: &mut Table) -> Result<[f64; 3]> {
    let [first, in_place, anew] = made else { return Err("three versions".into()) };
    let mut fetched = [first.mib(), 0.0, 0.0];
    let debs = pair::package_bytes(&ground.place)? as f64 / MIB;
    let (mut make_rss, mut apply_rss, mut requests, mut rates) = (0, 0, 0, Vec::new());
    for (number, (name, next)) in [(V2, in_place), (V2R, anew)].into_iter().enumerate() {
        eprintln!("making a delta from {V1} to {name}");
        let delta = ground.made("feed", first, name, next)?;
        eprintln!("applying it");
        let applied = ground.applied("feed", first, name, next, &delta.offered)?;
        let mib = (applied.bytes + next.map.len) as f64 / MIB;
        let row = Row::new(format!("delta.v1_{name}_mib"), mib, "MiB");
        table.push(row.beside("apt's packages", debs).bar(Bar::AtMost(105.0)));
        table.push(Row::new(format!("delta.v1_{name}_make_s"), delta.wall_s, "s"));
        let rate = |secs: f64| applied.content as f64 / 1e6 / secs;
        rates.push((rate(applied.wall_s), rate(applied.cpu_s)));
        make_rss = make_rss.max(delta.peak_rss);
        apply_rss = apply_rss.max(applied.peak_rss);
        // And its map.
        requests = requests.max(applied.requests + 1);
        fetched[number + 1] = mib;
    }
    let slowest = |one: fn(&(f64, f64)) -> f64| rates.iter().map(one).fold(f64::MAX, f64::min);
    let mb = |bytes: u64| bytes as f64 / 1e6;
    table.push(Row::new("delta.requests", requests as f64, "").bar(Bar::AtMost(40.0)));
    table.push(Row::new("delta.make_rss_mb", mb(make_rss), "MB").bar(Bar::AtMost(1000.0)));
    table.push(Row::new("delta.apply_rss_mb", mb(apply_rss), "MB").bar(Bar::AtMost(150.0)));
    let row = Row::new("delta.apply_mb_s", slowest(|rate| rate.0), "MB/s");
    table.push(row.bar(Bar::AtLeast(150.0)));
    table.push(Row::new("delta.apply_mb_s.cpu", slowest(|rate| rate.1), "MB/s"));
    Ok(fetched)
}

impl Ground {
    fn made(&self, feed: &str, first: &Made, name: &str, next: &Made) -> Result<Delta> {
        let (from, to) = (self.published(V1, first)?, self.published(name, next)?);
        self.part("delta", &[feed.to_owned(), from, to].each_ref().map(OsStr::new))
    }

    fn applied(
        &self,
        feed: &str,
        first: &Made,
        name: &str,
        next: &Made,
        offered: &OfferedDelta,
    ) -> Result<Applied> {
        let (from, to) = (self.published(V1, first)?, self.published(name, next)?);
        let (feed, nothing) = (feed.to_owned(), "null".to_owned());
        // What the older version's arrival needed of memory is not the delta's.
        let place = self.fresh("subscriber")?;
        let part = |args: [&String; 4]| self.part("apply", &args.map(OsStr::new));
        let _: Option<Applied> = part([&feed, &from, &to, &nothing])?;
        let applied: Option<Applied> = part([&feed, &from, &to, &serde_json::to_string(offered)?])?;
        fs::remove_dir_all(place)?;
        applied.ok_or_else(|| "nothing was applied".into())
    }

    /// An image as it is published, in JSON.
    fn published(&self, name: &str, made: &Made) -> Result<String> {
        debug_assert!(PAIR.contains(&name));
        let record = self.home.images()?.open(name, None)?.record;
        Ok(serde_json::to_string(&published(NAME, record, made.map.clone(), None))?)
    }
}

/// The feed that all were published into.
fn feed(place: &Path, name: &str) -> Result<Arc<dyn Dir>> {
    Ok(RealDir::open(&place.join(name))?)
}

fn channel(feed: &Arc<dyn Dir>) -> Channel {
    Channel::new(Arc::new(Directory::new(feed.clone(), "a feed")), NAME, "stable")
}

/// The process: `PLACE FEED FROM TO`.
pub fn make(args: &[&str]) -> Result<ExitCode> {
    let [place, name, from, to] = args else { return Err("delta: PLACE FEED FROM TO".into()) };
    let ground = Ground::open(Path::new(place))?;
    let feed = feed(&ground.place, name)?;
    let level = if *name == DRAFTS { DRAFT } else { FINAL };
    let effort = Effort::of(level, THREADS);
    let mut publisher = Publisher::new(&Destination::directory(feed.clone(), "the feed"), effort);
    let differ =
        Differ { home: &ground.home, name: NAME, channel: &channel(&feed), progress: &Silent };
    let (from, to) = (serde_json::from_str(from)?, serde_json::from_str(to)?);
    let (offered, took) = time(|| Ok(differ.delta(&mut publisher, &from, &to)?))?;
    let offered = offered.ok_or("a delta that is not worth it")?;
    let delta = Delta { offered, wall_s: took.wall_s, peak_rss: peak_rss()? };
    println!("{}", serde_json::to_string(&delta)?);
    Ok(ExitCode::SUCCESS)
}

/// Counts what is fetched.
struct Counted {
    content: Arc<dyn Supply>,
    requests: AtomicU64,
    bytes: AtomicU64,
}

impl Supply for Counted {
    fn stream(
        &self,
        object: Carried,
        range: Range<u64>,
        take: &mut Take<'_>,
    ) -> std::result::Result<(), SupplyError> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.content.stream(object, range, &mut |piece| {
            self.bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
            take(piece)
        })
    }

    fn distrust(&self, object: Carried) -> bool {
        self.content.distrust(object)
    }
}

/// The process: `PLACE FEED FROM TO DELTA`. Without a delta, all of the older version arrives; with
/// one, the next version does.
pub fn apply(args: &[&str]) -> Result<ExitCode> {
    let [place, name, from, to, delta] = args else {
        return Err("apply: PLACE FEED FROM TO DELTA".into());
    };
    let place = Path::new(place);
    let channel = channel(&feed(place, name)?);
    let (requests, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
    let counted = Arc::new(Counted { content: channel.content(), requests, bytes });
    let supply = counted.clone();
    let images = Images::new(RealDir::open(&place.join("subscriber"))?);
    let images = images.supplied(Arc::new(move |_| Some(supply.clone())));
    let go_on = |_| ControlFlow::Continue(());
    let (from, to): (PublishedImage, PublishedImage) =
        (serde_json::from_str(from)?, serde_json::from_str(to)?);
    let Some(delta): Option<OfferedDelta> = serde_json::from_str(delta)? else {
        images.add_published(NAME, received(&from, 1), &channel.map(&from.map)?)?;
        for data in images.open(NAME, None)?.published() {
            data.fill(1, &go_on)?;
        }
        println!("null");
        return Ok(ExitCode::SUCCESS);
    };
    let delta = delta.reference()?;
    images.add_published(NAME, received(&to, 2), &channel.map(&to.map)?)?;
    let (older, image) = (images.open(NAME, Some(1))?, images.open(NAME, Some(2))?);
    let arrived =
        || -> u64 { image.published().iter().map(|data| data.cache().arrived().bytes().0).sum() };
    let before = arrived();
    let ((), took) = time(|| {
        for data in image.published().iter().filter(|data| !data.cache().is_whole()) {
            data.fill_from_delta(&delta, older.published(), &go_on)?;
            data.fill(1, &go_on)?;
        }
        Ok(())
    })?;
    let peak_rss = peak_rss()?;
    let content = arrived() - before;
    let (requests, bytes) =
        (counted.requests.load(Ordering::Relaxed), counted.bytes.load(Ordering::Relaxed));
    image.check(&Silent)?;
    let (wall_s, cpu_s) = (took.wall_s, took.cpu_s);
    let applied = Applied { content, wall_s, cpu_s, peak_rss, requests, bytes };
    println!("{}", serde_json::to_string(&Some(applied))?);
    Ok(ExitCode::SUCCESS)
}
