//! The NBD server over a session's disk, beside `qemu-nbd` over a qcow2 overlay of the same base.
//! Both keep to the host's page cache, and make durable what a flush covers.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use goldleaf_block::{
    BLOCK_SIZE, BlockNo, BlockRange, ByteLen, ByteOffset, FileBlocks, MapBuilder, MapDevice,
    MapExtent, ReadBlocks, SessionDevice, SessionId, SourceIndex, Target,
};
use goldleaf_host::RealDir;
use goldleaf_nbd::{Export, Options, Server};
use serde_json::Value;

use crate::ground::Dice;
use crate::timing::median;
use crate::{Result, Size, disks};
use goldleaf_figures::{Bar, Row, Table};

/// Length of the base, in bytes: it fits into the page cache, so that the servers are compared and
/// not the machine's disk.
const BASE_LEN: u64 = 2 << 30;

/// What fio is asked to do.
pub struct Load {
    /// What the figure is called.
    pub name: &'static str,
    /// As fio calls it.
    pub mode: &'static str,
    /// Length of a request, as fio has it.
    pub block: &'static str,
    /// Requests under way at once.
    pub depth: u32,
    /// Writes between two flushes.
    pub fsync: u32,
}

/// The part of a disk that is read.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Where it begins.
    pub at: ByteOffset,
    /// Its length.
    pub len: ByteLen,
}

const LOADS: [Load; 4] = [
    Load { name: "randread_4k_qd1", mode: "randread", block: "4k", depth: 1, fsync: 0 },
    Load { name: "randread_4k_qd32", mode: "randread", block: "4k", depth: 32, fsync: 0 },
    Load { name: "read_64k_qd16", mode: "read", block: "64k", depth: 16, fsync: 0 },
    Load { name: "randwrite_4k_qd32_flush", mode: "randwrite", block: "4k", depth: 32, fsync: 32 },
];

/// Measures.
pub fn run(scratch: &Path, size: Size, table: &mut Table) -> Result<()> {
    eprintln!("serving");
    let base = scratch.join("base.raw");
    fill_base(&base)?;
    for load in &LOADS {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..size.runs {
            ours.push(serve_ours(scratch, &base, load, size)?);
            theirs.push(serve_theirs(scratch, &base, load, size)?);
        }
        let row = Row::new(format!("nbd.{}", load.name), median(ours), "IOPS");
        table.push(row.beside("qemu-nbd, qcow2", median(theirs)).bar(Bar::Ratio(1.0)));
    }
    Ok(fs::remove_file(&base)?)
}

fn fill_base(path: &Path) -> Result<()> {
    let mut file = fs::File::create(path)?;
    let mut dice = Dice::new(5);
    let mut piece = vec![0u8; 1 << 20];
    for _ in 0..BASE_LEN / piece.len() as u64 {
        for word in piece.chunks_exact_mut(8) {
            word.copy_from_slice(&dice.below(u64::MAX).to_le_bytes());
        }
        file.write_all(&piece)?;
    }
    Ok(file.sync_all()?)
}

fn serve_ours(scratch: &Path, base: &Path, load: &Load, size: Size) -> Result<f64> {
    let place = scratch.join("ours");
    fs::create_dir_all(&place)?;
    let session = place.join("session");
    let device = SessionDevice::create(
        RealDir::create(&session)?,
        Arc::new(map_over(base)?),
        SessionId([1; 16]),
        [2; 32],
    )?;
    let socket = place.join("disk.sock");
    let export = Export { name: "disk".into(), device: Arc::new(device), read_only: false };
    let server = Server::start(UnixListener::bind(&socket)?, export, Options::default())?;
    let iops = fio(&socket, load, None, size.fio_secs);
    server.stop();
    fs::remove_dir_all(&place)?;
    iops
}

/// The base as an image's disk would be: a map over a file.
fn map_over(base: &Path) -> Result<MapDevice> {
    let dir = RealDir::open(base.parent().ok_or("a file without a directory")?)?;
    let file: Arc<dyn ReadBlocks> = Arc::new(FileBlocks::new(dir.open("base.raw")?)?);
    let blocks = ByteLen(BASE_LEN).blocks();
    let mut map = MapBuilder::new(blocks);
    let target = Target::Source { source: SourceIndex(0), at: BlockNo(0) };
    map.push(MapExtent { range: BlockRange::new(BlockNo(0), blocks), target })?;
    Ok(MapDevice::new(Arc::new(map.finish()), vec![file])?)
}

/// A server of theirs; ended when dropped, and its directory goes.
pub struct Theirs {
    child: Child,
    place: PathBuf,
    socket: PathBuf,
}

impl Theirs {
    /// Serves a qcow2 from a directory of its own. `disk` is its path, and options before it.
    pub fn serve(place: &Path, disk: &[&str]) -> Result<Self> {
        fs::create_dir_all(place)?;
        let socket = place.join("disk.sock");
        let child = Command::new("qemu-nbd")
            .args(["--format=qcow2", "--export-name=disk", "--persistent", "--shared=16"])
            .args(["--cache=writeback", "--aio=threads", "--discard=unmap"])
            .arg(format!("--socket={}", socket.display()))
            .args(disk)
            .stdin(Stdio::null())
            .spawn()
            .map_err(|error| format!("running qemu-nbd: {error}"))?;
        let theirs = Self { child, place: place.into(), socket };
        for _ in 0..500 {
            if theirs.socket.exists() {
                return Ok(theirs);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err("qemu-nbd did not begin to serve".into())
    }

    /// Where it serves.
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for Theirs {
    fn drop(&mut self) {
        // It may have ended by itself, and its files go with the scratch directory at the latest.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.place);
    }
}

fn serve_theirs(scratch: &Path, base: &Path, load: &Load, size: Size) -> Result<f64> {
    let place = scratch.join("theirs");
    fs::create_dir_all(&place)?;
    let overlay = place.join("overlay.qcow2");
    let (base, overlay) = base.to_str().zip(overlay.to_str()).ok_or("not text")?;
    let create = ["create", "-q", "-f", "qcow2", "-F", "raw", "-b", base, overlay];
    disks::sh("qemu-img", &create)?;
    let theirs = Theirs::serve(&place, &[overlay])?;
    fio(theirs.socket(), load, None, size.fio_secs)
}

/// Lets fio load a server for some seconds. Returns requests a second.
pub fn fio(socket: &Path, load: &Load, window: Option<Window>, secs: u32) -> Result<f64> {
    let part =
        window.map(|part| [format!("--offset={}", part.at.0), format!("--size={}", part.len.0)]);
    let output = Command::new("fio")
        .args(["--name=load", "--ioengine=nbd", "--output-format=json", "--time_based"])
        .arg(format!("--uri=nbd+unix:///disk?socket={}", socket.display()))
        .args([format!("--rw={}", load.mode), format!("--bs={}", load.block)])
        .args([format!("--iodepth={}", load.depth), format!("--fsync={}", load.fsync)])
        .arg(format!("--runtime={secs}"))
        .args(part.into_iter().flatten())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("running fio: {error}"))?;
    if !output.status.success() {
        return Err(format!("fio failed: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    // fio says what it thinks of the machine before the figures.
    let text = String::from_utf8_lossy(&output.stdout);
    let begin = text.find('{').ok_or("fio gave no figures")?;
    let value: Value = serde_json::from_str(&text[begin..])?;
    let side = if load.mode.ends_with("read") { "read" } else { "write" };
    let iops = value["jobs"][0][side]["iops"].as_f64().filter(|iops| *iops > 0.0);
    iops.ok_or_else(|| "fio did nothing".into())
}

const _: () = assert!(BASE_LEN % BLOCK_SIZE == 0, "the base is whole blocks");
