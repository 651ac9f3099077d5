//! A first start over a link of 20 ms and 50 Mbit/s: what a guest reads when it starts, read again in
//! that order as fast as it comes, without what a guest does in between. The time begins with
//! `start`, behind `subscribe`, so that composing is in it.
//!
//! A boot loader that reads kernel and initial file system from the disk reads as much as all that
//! comes after it, and nothing makes these smaller. Guests whose hypervisor has both are measured,
//! too (`boot`): so it was with whom the bar is from. Theirs is a draft of its own, in the order in
//! which they read. The others are `boot.loader` and `apps`.
//!
//! What it is compared with is the least that could be: what of the packs has to come, at the rate
//! of the link, and eight round trips. The peer is nbdkit's curl plugin with its cache, which reads
//! the same of an uncompressed disk.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use goldleaf_block::{BlockCount, BlockRange, ByteLen, ByteOffset, ReadBlocks, Target};
use goldleaf_e2e::{Link, Nginx};
use goldleaf_feed::{Location, names};
use goldleaf_figures::{Bar, Row, Table};
use goldleaf_host::Silent;
use goldleaf_player::desktop::{self, Desktop, Live};
use goldleaf_player::feeds::{self, SubscribeOptions};
use goldleaf_player::livepc::{self, NewLivePc};
use goldleaf_player::workshop::{Rehearsal, Until, rehearse};
use goldleaf_player::{apps, bring};
use goldleaf_tree::GuestPath;
use goldleaf_wire::{BootProfile, PackIndex, WireMap};
use serde::{Deserialize, Serialize};

use super::ground::{Ground, V1};
use super::offering::Offering;
use super::publishing::{self, Made, read_map};
use crate::Result;
use crate::ground::open_home;
use crate::memory::peak_rss;

const DELAY: Duration = Duration::from_millis(20);
/// Bytes in a second.
const RATE: u64 = 50_000_000 / 8;
/// What the least that could be has of round trips.
const TRIPS: f64 = 8.0;
/// Longest request of a guest's, in bytes.
const REQUEST: u64 = 128 << 10;
/// From when on the link is to be busy, and until when that is watched at least.
const BUSY_FROM: Duration = Duration::from_secs(1);
const BUSY_FOR: Duration = Duration::from_secs(5);
/// Names of feeds and of all that comes of them: everything is read from the disk; all but what a
/// boot loader reads.
const FEED: &str = "desktop";
const HOSTED: &str = "hosted";
/// The same as the first, but nobody says what is read first.
const UNPROFILED: &str = "unprofiled";
/// Where an image has what its boot loader reads.
const LOADED: &str = "boot/";
/// Where it is kept what a guest reads when it starts and nothing else.
const BOOT: &str = "boot.profile";

/// Starts what a desktop's user starts first, and powers off. Only where the program is there.
const AT_START: &str = "[Unit]
After=multi-user.target systemd-logind.service
[Service]
Type=oneshot
Environment=HOME=/root MOZ_HEADLESS=1
ExecStart=-/bin/sh -c 'timeout 600 firefox-esr --headless --screenshot /tmp/a.png about:blank'
ExecStart=-/bin/sh -c 'echo hi >/tmp/x.txt; timeout 600 soffice --headless --convert-to pdf \
--outdir /tmp /tmp/x.txt'
ExecStart=/bin/systemctl poweroff
[Install]
WantedBy=multi-user.target
";

/// How a start went.
#[derive(Serialize, Deserialize)]
struct Streamed {
    /// Until all was read that a guest reads when it starts, in seconds.
    boot_s: f64,
    /// Until all was read that its first programs read, too.
    apps_s: f64,
    /// How busy the link was, of 1.
    link_use: f64,
    peak_rss: u64,
}

/// Records what a guest reads, where that is not known yet: by itself, and with programs.
pub fn record(ground: &Ground) -> Result<()> {
    let images = ground.home.images()?;
    let version = images.open(V1, None)?.record;
    if images.boot_profile(V1, &version)?.is_some() {
        return Ok(());
    }
    let rehearse = |name: &str, layers: Vec<String>, until| -> Result<BootProfile> {
        eprintln!("a guest starts ({name})");
        let livepc = match livepc::get(&ground.home, name) {
            Ok(livepc) => livepc,
            Err(_) => {
                let (name, image) = (name.into(), V1.into());
                let (memory_mib, cpus, rules) = (2048, 2, None);
                let new = NewLivePc { name, image, layers, memory_mib, cpus, rules };
                livepc::create(&ground.home, new)?
            }
        };
        let rehearsal = Rehearsal { anew: true, headless: true, until, accel: None };
        Ok(rehearse(&ground.home, &livepc, &rehearsal, &Silent)?)
    };
    let boot = rehearse("boot", Vec::new(), Until::Started)?;
    let place = ground.fresh("at-start")?;
    let units = place.join("etc/systemd/system");
    fs::create_dir_all(units.join("multi-user.target.wants"))?;
    fs::write(units.join("at-start.service"), AT_START)?;
    let wanted = units.join("multi-user.target.wants/at-start.service");
    std::os::unix::fs::symlink("../at-start.service", wanted)?;
    if apps::get(&ground.home, "at-start").is_err() {
        bring::add_layer(&ground.home, "at-start", V1, &[place], &Silent)?;
    }
    let programs = rehearse("programs", vec!["at-start".into()], Until::ShutDown)?;
    let all = boot.runs().iter().chain(programs.runs()).copied();
    let all = BootProfile::new(all, version.blocks);
    fs::write(ground.place.join(BOOT), boot.to_bytes()?)?;
    Ok(images.keep_boot_profile(V1, version.number, &all)?)
}

/// Measures, with the first version as it was published into a feed.
pub fn run(ground: &Ground, feed: &str, made: &Made, table: &mut Table) -> Result<()> {
    let (boot, all) = profiles(ground)?;
    let hosted = without_loader(ground, &boot)?;
    let hosted_feed = ground.fresh(HOSTED)?;
    let in_order = publishing::in_order(ground, &hosted_feed, &hosted)?;
    Offering::begin(ground, &ground.place.join(feed), FEED)?.offer(V1, made, Some(&all))?;
    Offering::begin(ground, &hosted_feed, HOSTED)?.offer(V1, &in_order, Some(&hosted))?;
    Offering::begin(ground, &ground.place.join(feed), UNPROFILED)?.offer(V1, made, None)?;
    eprintln!("a first start over a link");
    let part = |feed: &str, of: &str| ground.part("stream", &[feed.as_ref(), of.as_ref()]);
    let streamed: Streamed = part(feed, FEED)?;
    let with_kernel: Streamed = part(HOSTED, HOSTED)?;
    let unprofiled: Streamed = part(feed, UNPROFILED)?;
    let [hosted_theirs] = nbdkit(ground, [hosted.runs()])?;
    let [boot_theirs, rest_theirs] = nbdkit(ground, [boot.runs(), &rest(&boot, &all)])?;
    let feed = ground.place.join(feed);
    let (whole, hosted_map) = (read_map(&feed, &made.map)?, read_map(&hosted_feed, &in_order.map)?);
    let apps_theirs = boot_theirs + rest_theirs;
    let loaded = (&feed, &whole);
    let rows = [
        (
            "boot",
            &hosted,
            (&hosted_feed, &hosted_map),
            with_kernel.boot_s,
            Some(2.8),
            hosted_theirs,
        ),
        ("boot.loader", &boot, loaded, streamed.boot_s, None, boot_theirs),
        ("apps", &all, loaded, streamed.apps_s, Some(24.0), apps_theirs),
    ];
    for (name, read, (feed, map), secs, most, theirs) in rows {
        let bound = needed(feed, map, read.runs())? as f64 / RATE as f64;
        let bound = bound + TRIPS * DELAY.as_secs_f64();
        let row =
            Row::new(format!("{name}.stall_s"), secs, "s").beside("nbdkit curl, cache", theirs);
        table.push(most.map_or(row.clone(), |most| row.bar(Bar::AtMost(most))));
        let row = Row::new(format!("{name}.stall"), secs, "s").beside("the least", bound);
        table.push(row.bar(Bar::AtMostPeer(1.2)));
        let mib = read.blocks().bytes().0 as f64 / (1 << 20) as f64;
        table.push(Row::new(format!("{name}.read_mib"), mib, "MiB"));
    }
    let row = Row::new("apps.unprofiled.stall_s", unprofiled.apps_s, "s");
    let row = row.beside("nbdkit curl, cache", apps_theirs);
    table.push(row.bar(Bar::AtMostPeer(1.0 / 3.0)));
    table.push(Row::new("link.use", streamed.link_use, "").bar(Bar::AtLeast(0.95)));
    let rss = streamed.peak_rss.max(with_kernel.peak_rss) as f64 / 1e6;
    table.push(Row::new("client.rss_mb", rss, "MB").bar(Bar::AtMost(150.0)));
    Ok(())
}

/// What is left of what a guest reads where its hypervisor has kernel and initial file system.
fn without_loader(ground: &Ground, boot: &BootProfile) -> Result<BootProfile> {
    let (image, layout) = ground.image(V1)?;
    let is_loaded = |path: &GuestPath| path.as_bytes().starts_with(LOADED.as_bytes());
    let loaded = layout.files.iter().filter(|file| is_loaded(&file.path));
    let mut loaded: Vec<BlockRange> =
        loaded.flat_map(|file| file.extents.iter().map(|(_, range)| *range)).collect();
    loaded.sort_unstable_by_key(|range| range.start);
    let mut left = Vec::new();
    for run in boot.runs() {
        let mut at = run.start;
        let first = loaded.partition_point(|range| range.end() <= run.start);
        for range in loaded[first..].iter().take_while(|range| range.start < run.end()) {
            if at < range.start {
                left.push(BlockRange::new(at, BlockCount(range.start.0 - at.0)));
            }
            at = range.end();
        }
        if at < run.end() {
            left.push(BlockRange::new(at, BlockCount(run.end().0 - at.0)));
        }
    }
    Ok(BootProfile::new(left, image.record.blocks))
}

/// What a guest reads when it starts, and with its first programs.
fn profiles(ground: &Ground) -> Result<(BootProfile, BootProfile)> {
    let images = ground.home.images()?;
    let version = images.open(V1, None)?.record;
    let all = images.boot_profile(V1, &version)?.ok_or("nothing was recorded")?;
    let boot = BootProfile::from_bytes(&fs::read(ground.place.join(BOOT))?, version.blocks)?;
    Ok((boot, all))
}

/// What is read after the start.
fn rest(boot: &BootProfile, all: &BootProfile) -> Vec<BlockRange> {
    let mut blocks = boot.blocks().0;
    // The start comes first in all.
    let behind = all.runs().iter().filter_map(|run| {
        let skip = blocks.min(run.count.0);
        blocks -= skip;
        let count = BlockCount(run.count.0 - skip);
        let start = run.start.plus(BlockCount(skip));
        (count.0 > 0).then(|| BlockRange::new(start, count))
    });
    behind.collect()
}

/// Bytes of the packs that have to come before some runs of the disk can be read: frames, and the
/// indexes of their packs.
fn needed(feed: &Path, map: &WireMap, runs: &[BlockRange]) -> Result<u64> {
    let mut blocks: Vec<(u32, u64, u64)> = Vec::new();
    for extent in runs.iter().flat_map(|run| map.map.slice(*run)) {
        let Target::Source { source, at } = extent.target else { continue };
        blocks.push((source.0, at.0, at.0 + extent.range.count.0));
    }
    blocks.sort_unstable();
    let mut bytes = 0;
    for part in blocks.chunk_by(|one, other| one.0 == other.0) {
        let pack = &map.packs[part[0].0 as usize];
        let file = fs::read(feed.join(names::pack(&pack.name)))?;
        let index = PackIndex::parse(&file[..pack.head_len as usize], &pack.name)?;
        let is_needed = |from: u64, to: u64| {
            part.iter().any(|(_, start, end)| start * 4096 < to && from < end * 4096)
        };
        let frames = index.frames().iter();
        let frames =
            frames.filter(|frame| is_needed(frame.from, frame.from + u64::from(frame.len)));
        bytes += u64::from(pack.head_len);
        bytes += frames.map(|frame| u64::from(frame.stored_len)).sum::<u64>();
    }
    Ok(bytes)
}

/// Reads runs of a disk as a guest asks for them.
fn replay(disk: &dyn ReadBlocks, runs: &[BlockRange]) -> Result<()> {
    let mut buffer = vec![0; REQUEST as usize];
    for run in runs {
        let (start, len) = (run.start.offset(), run.count.bytes().0);
        for at in (0..len).step_by(REQUEST as usize) {
            let part = (len - at).min(REQUEST) as usize;
            disk.read_at(start.plus(ByteLen(at)), &mut buffer[..part])?;
        }
    }
    Ok(())
}

/// The process: `PLACE FEED NAME`. A machine that never had the feed of that name.
pub fn child(args: &[&str]) -> Result<ExitCode> {
    let [place, feed, name] = args else { return Err("stream: PLACE FEED NAME".into()) };
    let ground = Ground::open(Path::new(place))?;
    let (mut boot, mut all) = profiles(&ground)?;
    if *name == HOSTED {
        boot = without_loader(&ground, &boot)?;
        all = boot.clone();
    }
    let nginx = Nginx::serve(&ground.place.join(feed))?;
    let link = Arc::new(Link::to(nginx.port(), DELAY, RATE)?);
    let place = ground.fresh("streamer")?;
    let home = open_home(&place)?;
    let address = format!("http://127.0.0.1:{}/feeds/{name}", link.port());
    let options = SubscribeOptions {
        location: Location::parse(&address).ok_or("no address")?,
        mirrors: Vec::new(),
        name: (*name).into(),
        root: None,
    };
    drop(feeds::subscribe(&home, &options, &Silent)?);
    desktop::create(&home, name, name)?;
    let mut desktop = Desktop::open(&home, name)?;
    let is_over = Arc::new(AtomicBool::new(false));
    let begun = Instant::now();
    let busy = thread::spawn({
        let (link, is_over) = (link.clone(), is_over.clone());
        move || busy(&link, begun, &is_over)
    });
    let live = Live::begin(&home, &mut desktop, &Silent)?;
    replay(live.device().as_ref(), boot.runs())?;
    let boot_s = begun.elapsed().as_secs_f64();
    replay(live.device().as_ref(), &rest(&boot, &all))?;
    let apps_s = begun.elapsed().as_secs_f64();
    is_over.store(true, Ordering::Relaxed);
    let link_use = busy.join().map_err(|_| "a thread panicked")?;
    let streamed = Streamed { boot_s, apps_s, link_use, peak_rss: peak_rss()? };
    drop((live, desktop));
    fs::remove_dir_all(&place)?;
    println!("{}", serde_json::to_string(&streamed)?);
    Ok(ExitCode::SUCCESS)
}

/// How busy a link is from its first second on, until it is over or for a while at least.
fn busy(link: &Link, begun: Instant, is_over: &AtomicBool) -> f64 {
    thread::sleep(BUSY_FROM.saturating_sub(begun.elapsed()));
    let (from, before) = (Instant::now(), link.carried());
    while !is_over.load(Ordering::Relaxed) || from.elapsed() < BUSY_FOR {
        thread::sleep(Duration::from_millis(20));
    }
    let carried = (link.carried() - before) as f64;
    carried / (RATE as f64 * from.elapsed().as_secs_f64())
}

/// nbdkit over the same link, gone with this.
struct Nbdkit(Child);

impl Drop for Nbdkit {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the peer needs for each of some lists of reads, one after the other, in seconds.
fn nbdkit<const N: usize>(ground: &Ground, lists: [&[BlockRange]; N]) -> Result<[f64; N]> {
    eprintln!("the same with nbdkit");
    let disk = ground.raw(V1);
    let nginx = Nginx::serve(disk.parent().ok_or("a file")?)?;
    let link = Link::to(nginx.port(), DELAY, RATE)?;
    let place = ground.fresh("nbdkit")?;
    let socket = place.join("nbd.sock");
    let server = Command::new("nbdkit")
        .args(["-f", "-U"])
        .arg(&socket)
        .args(["--filter=cache", "curl", "cache-on-read=true", "cache-min-block-size=64K"])
        .arg(format!("url=http://127.0.0.1:{}/0001.data", link.port()))
        .env("TMPDIR", &place)
        .stdin(Stdio::null())
        .spawn()
        .map_err(|error| format!("running nbdkit: {error}"))?;
    let _server = Nbdkit(server);
    let begun = Instant::now();
    while !socket.exists() {
        if begun.elapsed() > Duration::from_secs(20) {
            return Err("nbdkit does not listen".into());
        }
        thread::sleep(Duration::from_millis(10));
    }
    let mut secs = [0.0; N];
    for (list, secs) in lists.iter().zip(&mut secs) {
        *secs = qemu_io(&socket, list)?;
    }
    fs::remove_dir_all(&place)?;
    Ok(secs)
}

/// How long QEMU takes for some reads, one after the other, in seconds.
fn qemu_io(socket: &Path, runs: &[BlockRange]) -> Result<f64> {
    let mut text = String::new();
    for run in runs {
        let (start, len) = (run.start.offset().0, run.count.bytes().0);
        for at in (0..len).step_by(REQUEST as usize) {
            let part = (len - at).min(REQUEST);
            text.push_str(&format!("read -q {} {part}\n", ByteOffset(start + at)));
        }
    }
    let begun = Instant::now();
    let mut child = Command::new("qemu-io")
        .args(["-r", "-f", "raw"])
        .arg(format!("nbd+unix:///?socket={}", socket.display()))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| format!("running qemu-io: {error}"))?;
    child.stdin.take().ok_or("no input")?.write_all(text.as_bytes())?;
    if !child.wait()?.success() {
        return Err("qemu-io failed".into());
    }
    Ok(begun.elapsed().as_secs_f64())
}
