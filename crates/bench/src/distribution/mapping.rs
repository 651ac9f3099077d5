//! The map of a disk of 40 GB: how long it is, and what it takes to use it.
//!
//! The first version is grown, and its files are copied into it several times by the kernel, each
//! time with every byte changed: so it has a desktop's mix of files that were never seen before,
//! content that is there twice included. The rest of the disk is free. Free space costs a map
//! nothing; a disk that is fuller has more packs, whose names are what does not compress.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use goldleaf_block::{
    BlockNo, BlockRange, ByteLen, ExtentMap, FileBlocks, MapBuilder, MapExtent, SourceIndex, Target,
};
use goldleaf_figures::{Bar, Row, Table};
use goldleaf_host::{File, RealDir, Silent};
use goldleaf_image::{VersionRecord, inspect_disk, layout, order, seal_disk};
use goldleaf_player::Home;
use goldleaf_wire::{Effort, Known, WireMap, publish};
use goldleaf_worker::Launcher;

use super::Size;
use super::ground::{Ground, V1};
use crate::Result;
use crate::disks::{DISK_LEN, Mounted};
use crate::ground::open_home;
use crate::memory::peak_rss;

/// Name of the image.
const LARGE: &str = "large";
/// Where the image's partition begins, in bytes.
const START: u64 = 2 << 20;
/// What is copied: all that has files of packages.
const TREES: [&str; 5] = ["boot", "etc", "opt", "usr", "var"];
/// Compression does not matter to a map.
const EFFORT: Effort = Effort::of(1, 2);

/// Measures.
pub fn run(ground: &Ground, size: Size, table: &mut Table) -> Result<()> {
    prepare(ground, size)?;
    eprintln!("mapping a disk of 40 GB");
    let disk = Disk::open(&ground.place)?;
    let launcher = &ground.home.launcher;
    let volumes = inspect_disk(launcher, &disk.map, &disk.files)?.volumes;
    let layout = layout(launcher, &disk.map, &disk.files, &volumes, &Silent)?;
    let order = order(&layout, disk.map.blocks());
    let device = FileBlocks::new(disk.files[0].clone())?;
    let mut sink = |_: &_, _: Vec<u8>| Ok(());
    let map = publish(&device, &order, &mut Known::default(), EFFORT, &mut sink)?;
    let bytes = map.to_bytes()?;
    let row = Row::new("map.wire_kb", bytes.len() as f64 / 1e3, "kB");
    table.push(row.bar(Bar::AtMost(1000.0)));
    let used: u64 = map.map.extents().iter().map(|extent| extent.range.count.bytes().0).sum();
    table.push(Row::new("map.used_gb", used as f64 / 1e9, "GB"));
    table.push(Row::new("map.files", layout.files.len() as f64, ""));
    table.push(Row::new("map.extents", map.map.extents().len() as f64, ""));
    table.push(Row::new("map.packs", map.packs.len() as f64, ""));
    let file = ground.place.join("large.map");
    fs::write(&file, &bytes)?;
    let rss: u64 = ground.part("map", &[file.as_ref()])?;
    table.push(Row::new("map.rss_mb", rss as f64 / 1e6, "MB").bar(Bar::AtMost(20.0)));
    Ok(())
}

/// The process: `PLACE MAP`. Says what subscribing to that map and opening its disk add to the most
/// memory that it ever had.
pub fn child(args: &[&str]) -> Result<ExitCode> {
    let [place, file] = args else { return Err("map: PLACE MAP".into()) };
    let path = Path::new(place).join("subscriber");
    let home = open_home(&path)?;
    let before = peak_rss()?;
    let device = {
        let map = WireMap::from_bytes(&fs::read(file)?)?;
        let record = record(ByteLen(DISK_LEN));
        home.images()?.add_published(LARGE, record, &map)?;
        home.images()?.open(LARGE, None)?.device()?
    };
    println!("{}", peak_rss()? - before);
    drop(device);
    Ok(fs::remove_dir_all(path).map(|()| ExitCode::SUCCESS)?)
}

/// A version of which only the disk matters.
pub fn record(len: ByteLen) -> VersionRecord {
    VersionRecord {
        number: 1,
        digest: String::new(),
        blocks: len.blocks(),
        created_unix_secs: 0,
        cause: String::new(),
        os: String::new(),
        data: Vec::new(),
        identity: Vec::new(),
        volumes: Vec::new(),
    }
}

/// The disk as a file.
struct Disk {
    map: ExtentMap,
    files: Vec<Arc<dyn File>>,
}

impl Disk {
    fn open(place: &Path) -> Result<Self> {
        let file = RealDir::open(place)?.open_rw(&format!("{LARGE}.raw"))?;
        let range = BlockRange::new(BlockNo(0), ByteLen(file.len()?).blocks());
        let mut map = MapBuilder::new(range.count);
        let target = Target::Source { source: SourceIndex(0), at: BlockNo(0) };
        map.push(MapExtent { range, target })?;
        Ok(Self { map: map.finish(), files: vec![file] })
    }

    /// Brings it into canonical form, where it is: an import would need as much room again.
    fn seal(&self, launcher: &Launcher) -> Result<()> {
        let volumes = inspect_disk(launcher, &self.map, &self.files)?.volumes;
        for range in seal_disk(launcher, &self.map, &self.files, &volumes)?.zeroes {
            self.files[0].punch_hole(range.start.offset().0, range.count.bytes().0)?;
        }
        Ok(self.files[0].sync_data()?)
    }
}

/// Makes the disk and brings it into canonical form, each unless that was done before.
fn prepare(ground: &Ground, size: Size) -> Result<()> {
    let disk = ground.place.join(format!("{LARGE}.raw"));
    if !disk.exists() {
        eprintln!("making a disk of 40 GB");
        let unfinished = disk.with_extension("unfinished");
        fill(ground, &unfinished, size.copies)?;
        fs::rename(unfinished, &disk)?;
    }
    let sealed = disk.with_extension("sealed");
    if !sealed.exists() {
        Disk::open(&ground.place)?.seal(&ground.home.launcher)?;
        fs::write(sealed, "")?;
    }
    Ok(())
}

fn fill(ground: &Ground, disk: &Path, copies: u8) -> Result<()> {
    grown(ground, disk)?;
    let mounted = Mounted::at(disk, START)?;
    for number in 1..=copies {
        let to = mounted.path().join("srv").join(number.to_string());
        for tree in TREES {
            copy(&mounted.path().join(tree), &to.join(tree), number)?;
        }
    }
    mounted.close()
}

/// The first version, grown as the product does it.
fn grown(ground: &Ground, disk: &Path) -> Result<()> {
    let path = ground.fresh("grown")?;
    let home: Home = open_home(&path)?;
    let grown = Ground { home, place: path.clone() };
    grown.import(V1, &ground.place.join("v1.raw"), Some(DISK_LEN))?;
    fs::rename(path.join("images").join(V1).join("0001.data"), disk)?;
    Ok(fs::remove_dir_all(path)?)
}

/// Copies directories and regular files, each byte changed by `number`.
fn copy(from: &Path, to: &Path, number: u8) -> Result<()> {
    if !from.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(to)?;
    let mut entries: Vec<PathBuf> = fs::read_dir(from)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()?;
    entries.sort();
    for path in entries {
        let to = to.join(path.file_name().ok_or("an entry without a name")?);
        let kind = fs::symlink_metadata(&path)?.file_type();
        if kind.is_dir() {
            copy(&path, &to, number)?;
        } else if kind.is_file() {
            let mut bytes = Vec::new();
            fs::File::open(&path)?.read_to_end(&mut bytes)?;
            bytes.iter_mut().for_each(|byte| *byte ^= number);
            fs::File::create(&to)?.write_all(&bytes)?;
        }
    }
    Ok(())
}
