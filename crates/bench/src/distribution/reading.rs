//! Reading what has arrived of a published image as a guest does: NBD, session log, map, cache. All
//! of it was verified before, so this is what a desktop sees from its second minute on. Beside
//! `qemu-nbd` over the same disk as an uncompressed qcow2, without an overlay.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

use goldleaf_block::{ByteLen, ByteOffset, MapDevice, ReadBlocks, SessionDevice, SessionId};
use goldleaf_cache::Supply;
use goldleaf_feed::Channel;
use goldleaf_fetch::Directory;
use goldleaf_figures::{Bar, Row, Table};
use goldleaf_host::RealDir;
use goldleaf_nbd::{Export, Options, Server};

use super::Size;
use super::ground::{Ground, V1};
use super::mapping::record;
use super::publishing::{draft, read_map};
use crate::Result;
use crate::disks::sh;
use crate::ground::open_home;
use crate::serving::{Load, Theirs, Window, fio};
use crate::timing::median;

/// What is read of the disk: its fullest part of this length, in bytes. Holes cost next to nothing
/// and would flatter both.
const WINDOW: u64 = 512 << 20;
/// Where it may begin, in bytes.
const STEP: u64 = 16 << 20;

const SMALL: Load = Load { name: "4k_qd1", mode: "randread", block: "4k", depth: 1, fsync: 0 };
const LARGE: Load = Load { name: "1m", mode: "read", block: "1m", depth: 1, fsync: 0 };

/// Measures.
pub fn run(ground: &Ground, size: Size, table: &mut Table) -> Result<()> {
    eprintln!("reading");
    let place = ground.fresh("reading")?;
    let device = Arc::new(subscribed(ground, &place)?);
    let window = fullest(&device);
    let qcow2 = place.join("disk.qcow2");
    let (raw, text) = (ground.raw(V1), qcow2.to_str().ok_or("not text")?);
    let raw = raw.to_str().ok_or("not text")?;
    sh("qemu-img", &["convert", "-f", "raw", "-O", "qcow2", raw, text])?;
    for load in [SMALL, LARGE] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..size.runs {
            ours.push(serve_ours(&place, device.clone(), &load, window, size)?);
            let server = Theirs::serve(&place.join("theirs"), &["--read-only", text])?;
            theirs.push(fio(server.socket(), &load, Some(window), size.fio_secs)?);
        }
        let (ours, theirs, peer) = (median(ours), median(theirs), "qemu-nbd, qcow2");
        table.push(if load.name == SMALL.name {
            Row::new("read.4k_qd1_iops", ours, "IOPS")
                .beside(peer, theirs)
                .bar(Bar::AtLeast(50_000.0))
        } else {
            let mb = |iops: f64| iops * (1 << 20) as f64 / 1e6;
            Row::new("read.1m_mb_s", mb(ours), "MB/s").beside(peer, mb(theirs)).bar(Bar::Ratio(1.0))
        });
    }
    Ok(fs::remove_dir_all(place)?)
}

/// The first version in another home, all of it arrived and read once.
fn subscribed(ground: &Ground, place: &Path) -> Result<MapDevice> {
    let made = draft(ground)?;
    let feed = ground.place.join("draft");
    let map = read_map(&feed, &made.map)?;
    let source = Arc::new(Directory::new(RealDir::open(&feed)?, "a feed"));
    let packs: Arc<dyn Supply> = Channel::new(source, "bench", "stable").content();
    let home = open_home(&place.join("home"))?;
    let images = home.images()?.supplied(Arc::new(move |_: &str| Some(packs.clone())));
    images.add_published(V1, record(map.map.blocks().bytes()), &map)?;
    let image = images.open(V1, None)?;
    for data in image.published() {
        data.fill(1, &|_| std::ops::ControlFlow::Continue(()))?;
    }
    let device = image.device()?;
    let mut buffer = vec![0; 1 << 20];
    for at in (0..device.len().0).step_by(buffer.len()) {
        let part = (device.len().0 - at).min(buffer.len() as u64) as usize;
        device.read_at(ByteOffset(at), &mut buffer[..part])?;
    }
    Ok(device)
}

/// The part of a disk that has most data.
fn fullest(device: &MapDevice) -> Window {
    let data = |at: u64| -> u64 {
        let overlap = |extent: &goldleaf_block::MapExtent| {
            let (start, end) = (extent.range.start.offset().0, extent.range.end().offset().0);
            end.min(at + WINDOW).saturating_sub(start.max(at))
        };
        device.map().extents().iter().map(overlap).sum()
    };
    let last = device.len().0.saturating_sub(WINDOW);
    let found = (0..=last).step_by(STEP as usize).map(|at| (data(at), at)).max();
    let (bytes, at) = found.unwrap_or_default();
    eprintln!("  of {} MiB {} MiB are data", WINDOW >> 20, bytes >> 20);
    Window { at: ByteOffset(at), len: ByteLen(WINDOW) }
}

fn serve_ours(
    place: &Path,
    base: Arc<MapDevice>,
    load: &Load,
    window: Window,
    size: Size,
) -> Result<f64> {
    let place = place.join("ours");
    fs::create_dir_all(&place)?;
    let session = RealDir::create(&place.join("session"))?;
    let device = SessionDevice::create(session, base, SessionId([1; 16]), [2; 32])?;
    let socket = place.join("disk.sock");
    let export = Export { name: "disk".into(), device: Arc::new(device), read_only: false };
    let server = Server::start(UnixListener::bind(&socket)?, export, Options::default())?;
    let iops = fio(&socket, load, Some(window), size.fio_secs);
    server.stop();
    fs::remove_dir_all(&place)?;
    iops
}
