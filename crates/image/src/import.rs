//! Importing a disk: whatever its format, it becomes a raw, sparse file in canonical form.
//!
//! ```text
//!   qemu-img (converts every format) ─▶ raw file ─▶ worker: inspect ─▶ refuse, or
//!      grow disk, partition and file system ─▶ worker: seal ─▶ punch what is not canonical ─▶ digest
//! ```

use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use goldleaf_block::{
    BLOCK_SIZE, BlockCount, BlockNo, BlockRange, ByteLen, ExtentMap, MapBuilder, MapExtent,
    SourceIndex, Target,
};
use goldleaf_host::{Clock, Dir, File, Progress};
use goldleaf_worker::protocol::{DiskReport, DiskSpec, SealReport, SealTask, Task, VolumeSpec};
use goldleaf_worker::{Launcher, Scale};
use serde::{Deserialize, Serialize};

use crate::grow::grow;
use crate::{ImageError, Images, VersionRecord, VolumeRecord};

/// Data is read and hashed in pieces of this many bytes.
const PIECE: u64 = 1 << 20;
/// For limits: a file of a desktop has some 16 KiB on average, and the worker may need more.
const BYTES_PER_FILE: u64 = 4096;

/// How a disk is imported.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// Name of the new image.
    pub name: String,
    /// Grow disk, root partition and file system to this many bytes on the way in.
    pub grow_to: Option<u64>,
    /// Where the disk comes from, in words; `None` for "imported from" and its path.
    pub cause: Option<String>,
}

/// What an import made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// The image.
    pub image: String,
    /// Its version.
    pub version: u32,
    /// Digest of the canonical form.
    pub digest: String,
    /// What the guest calls itself.
    pub os: String,
    /// Identity that the image carries; desktops get their own.
    pub identity: Vec<String>,
    /// What a person should know.
    pub remarks: Vec<String>,
    /// Bytes that the image occupies.
    pub bytes: u64,
}

/// Imports a disk as version 1 of a new image. Nothing half-made is left when it fails.
pub fn import(
    images: &Images,
    launcher: &Launcher,
    clock: &dyn Clock,
    source: &Path,
    options: &ImportOptions,
    progress: &dyn Progress,
) -> Result<Imported, ImageError> {
    let dir = images.create(&options.name)?;
    let _lock = dir
        .try_lock("lock")
        .map_err(ImageError::io("locking an image"))?
        .ok_or_else(|| ImageError::Exists(options.name.clone()))?;
    let work = Import { images, launcher, clock, options, progress, dir: &dir };
    let result = work.run(source);
    if result.is_err() {
        // The error is what counts; what cannot be cleared is not an image and goes at `gc`.
        let _ = images.abandon(&options.name);
    }
    result
}

struct Import<'a> {
    images: &'a Images,
    launcher: &'a Launcher,
    clock: &'a dyn Clock,
    options: &'a ImportOptions,
    progress: &'a dyn Progress,
    dir: &'a Arc<dyn Dir>,
}

impl Import<'_> {
    fn run(&self, source: &Path) -> Result<Imported, ImageError> {
        const DATA: &str = "0001.data";
        let path = self.dir.path().map(|dir| dir.join(DATA)).ok_or_else(|| {
            ImageError::Tool("an import needs a home on a real file system".into())
        })?;
        self.progress.at("converting the disk", 0, 0);
        convert(source, &path)?;
        let file = self.dir.open_rw(DATA).map_err(ImageError::io("opening the disk"))?;
        round_up(&file)?;
        let mut report = inspect(self.launcher, &file)?;
        if let Some(bytes) = self.options.grow_to {
            self.progress.at("growing the disk", 0, 0);
            grow(self.launcher, &file, &report, bytes)?;
            report = inspect(self.launcher, &file)?;
        }
        self.progress.at("validating the file systems", 0, 0);
        let files = std::slice::from_ref(&file);
        let sealed = seal_disk(self.launcher, &map_of(&file)?, files, &report.volumes)?;
        punch(&file, &sealed.zeroes)?;
        let map = map_of(&file)?;
        let digest = digest(&file, &map, self.progress)?;
        file.sync_data().map_err(ImageError::io("writing the disk"))?;
        self.dir.sync().map_err(ImageError::io("writing the disk"))?;
        let imported = || format!("imported from {}", source.display());
        let cause = self.options.cause.clone().unwrap_or_else(imported);
        let version = self.version(&report, &map, digest, cause, DATA);
        let imported = Imported {
            image: self.options.name.clone(),
            version: version.number,
            digest: version.digest.clone(),
            os: version.os.clone(),
            identity: version.identity.clone(),
            remarks: report.remarks,
            bytes: file.allocated().map_err(ImageError::io("reading the disk"))?,
        };
        self.images.add_version(&self.options.name, version, &map)?;
        Ok(imported)
    }

    fn version(
        &self,
        report: &DiskReport,
        map: &ExtentMap,
        digest: String,
        cause: String,
        data: &str,
    ) -> VersionRecord {
        VersionRecord {
            number: 1,
            digest,
            blocks: map.blocks(),
            created_unix_secs: self.clock.now_unix().as_secs(),
            cause,
            os: report.os.clone(),
            data: vec![data.into()],
            identity: report.identity.iter().map(ToString::to_string).collect(),
            volumes: volume_records(&report.volumes),
        }
    }
}

/// Volumes as a version's record has them.
pub fn volume_records(volumes: &[VolumeSpec]) -> Vec<VolumeRecord> {
    let record = |volume: &VolumeSpec| VolumeRecord {
        mount: String::from_utf8_lossy(volume.mount.as_bytes()).into_owned(),
        start: volume.start,
        len: volume.len,
    };
    volumes.iter().map(record).collect()
}

/// Converts any format that QEMU knows. The format is told from the file's name: probing would let
/// the content of a raw disk pose as another format.
fn convert(source: &Path, target: &Path) -> Result<(), ImageError> {
    if !source.is_file() {
        return Err(ImageError::Refused {
            reason: format!("{} is not a file", source.display()),
            cure: "give the disk file of a virtual machine that is shut down".into(),
        });
    }
    let format = format_of(source)?;
    let output = Command::new("qemu-img")
        .args(["convert", "-f", format, "-O", "raw", "-S", "4k", "-t", "none", "-T", "none", "--"])
        .args([source, target])
        .output();
    let output = match output {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ImageError::Tool(
                "qemu-img is missing; install it with `apt-get install qemu-utils`".into(),
            ));
        }
        other => other.map_err(ImageError::io("running qemu-img"))?,
    };
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("No space left") {
        return Err(ImageError::io("converting the disk")(io::ErrorKind::StorageFull.into()));
    }
    Err(ImageError::Refused {
        reason: format!(
            "{} cannot be read as {format}: {}",
            source.display(),
            said.lines().last().unwrap_or("qemu-img failed").escape_debug()
        ),
        cure: "check that the file is complete and that its name ends in its format".into(),
    })
}

/// The format by the file's name.
fn format_of(source: &Path) -> Result<&'static str, ImageError> {
    let extension = source.extension().map(|e| e.to_string_lossy().to_lowercase());
    Ok(match extension.as_deref() {
        Some("qcow2") => "qcow2",
        Some("vmdk") => "vmdk",
        Some("vdi") => "vdi",
        Some("vhd" | "vpc") => "vpc",
        Some("vhdx") => "vhdx",
        Some("raw" | "img") => "raw",
        other => {
            return Err(ImageError::Refused {
                reason: format!(
                    "{} does not end in a format that is known ({})",
                    source.display(),
                    other.unwrap_or("no ending")
                ),
                cure: "rename it to end in .raw, .img, .qcow2, .vmdk, .vdi, .vhd or .vhdx".into(),
            });
        }
    })
}

/// Disks are whole blocks of 4 KiB here; the rest of the last one is zeroes.
fn round_up(file: &Arc<dyn File>) -> Result<(), ImageError> {
    let len = file.len().map_err(ImageError::io("reading a length"))?;
    let whole = len.div_ceil(BLOCK_SIZE) * BLOCK_SIZE;
    if whole != len {
        file.set_len(whole).map_err(ImageError::io("rounding the disk up"))?;
    }
    Ok(())
}

/// A raw file as a disk for the worker.
pub fn whole_file(file: &Arc<dyn File>) -> Result<DiskSpec, ImageError> {
    let len = ByteLen(file.len().map_err(ImageError::io("reading a length"))?).blocks();
    let mut map = MapBuilder::new(len);
    if len > BlockCount(0) {
        let target = Target::Source { source: SourceIndex(0), at: BlockNo(0) };
        map.push(MapExtent { range: BlockRange::new(BlockNo(0), len), target })?;
    }
    Ok(DiskSpec { map: map.finish(), sources: vec![0] })
}

/// How large a task over a disk is, by its blocks: the worker alone knows how many files there are.
pub(crate) fn scale(map: &ExtentMap) -> Scale {
    let blocks: u64 = map.extents().iter().map(|extent| extent.range.count.0).sum();
    Scale { files: blocks * BLOCK_SIZE / BYTES_PER_FILE, output_bytes: 0 }
}

/// Lets the worker look at a raw disk.
pub fn inspect(launcher: &Launcher, file: &Arc<dyn File>) -> Result<DiskReport, ImageError> {
    inspect_disk(launcher, &whole_file(file)?.map, std::slice::from_ref(file))
}

/// A disk over all of some files, for the worker.
pub(crate) fn disk_spec(map: &ExtentMap, files: &[Arc<dyn File>]) -> DiskSpec {
    DiskSpec { map: map.clone(), sources: (0..files.len() as u32).collect() }
}

/// Lets the worker look at a disk; refuses with the first reason when it cannot be an image.
pub fn inspect_disk(
    launcher: &Launcher,
    map: &ExtentMap,
    files: &[Arc<dyn File>],
) -> Result<DiskReport, ImageError> {
    let task = Task::Inspect(disk_spec(map, files));
    let worker = launcher.start(files, scale(map), &task)?;
    let (report, _) = worker.finish::<DiskReport>()?;
    match report.problems.first() {
        None => Ok(report),
        Some(first) => {
            Err(ImageError::Refused { reason: first.reason.clone(), cure: first.cure.clone() })
        }
    }
}

/// Lets the worker validate the volumes of a disk and name what its canonical form leaves out.
pub fn seal_disk(
    launcher: &Launcher,
    map: &ExtentMap,
    files: &[Arc<dyn File>],
    volumes: &[VolumeSpec],
) -> Result<SealReport, ImageError> {
    let disk = disk_spec(map, files);
    let task = Task::Seal(SealTask { disk, volumes: volumes.to_vec() });
    let worker = launcher.start(files, scale(map), &task)?;
    Ok(worker.finish::<SealReport>()?.0)
}

fn punch(file: &Arc<dyn File>, zeroes: &[BlockRange]) -> Result<(), ImageError> {
    let len = ByteLen(file.len().map_err(ImageError::io("reading a length"))?).blocks();
    for range in zeroes {
        let end = range.start.0.checked_add(range.count.0);
        if end.is_none_or(|end| end > len.0) {
            return Err(ImageError::Corrupt {
                place: "the worker's canonical form".into(),
                expected: format!("blocks below {len}"),
                found: format!("{} blocks at {}", range.count, range.start),
            });
        }
        file.punch_hole(range.start.offset().0, range.count.bytes().0)
            .map_err(ImageError::io("writing the canonical form"))?;
    }
    Ok(())
}

/// The extents of a sparse file that hold data, as a map over it.
fn map_of(file: &Arc<dyn File>) -> Result<ExtentMap, ImageError> {
    let len = file.len().map_err(ImageError::io("reading a length"))?;
    let mut map = MapBuilder::new(ByteLen(len).blocks());
    let mut at = 0;
    while let Some((start, end)) = file.next_data(at).map_err(ImageError::io("finding data"))? {
        let (first, last) = (start / BLOCK_SIZE, end.div_ceil(BLOCK_SIZE));
        let range = BlockRange::new(BlockNo(first), BlockCount(last - first));
        let target = Target::Source { source: SourceIndex(0), at: BlockNo(first) };
        map.push(MapExtent { range, target })?;
        at = last * BLOCK_SIZE;
    }
    Ok(map.finish())
}

/// BLAKE3 of the canonical form: of the number and content of every block that is not zero.
fn digest(
    file: &Arc<dyn File>,
    map: &ExtentMap,
    progress: &dyn Progress,
) -> Result<String, ImageError> {
    let device = goldleaf_block::FileBlocks::new(file.clone())?;
    let device: Arc<dyn goldleaf_block::ReadBlocks> = Arc::new(device);
    let device = goldleaf_block::MapDevice::new(Arc::new(map.clone()), vec![device])?;
    canonical_digest(&device, progress)
}

/// BLAKE3 of a disk in canonical form. Zero blocks do not count, however they are stored.
pub fn canonical_digest(
    device: &goldleaf_block::MapDevice,
    progress: &dyn Progress,
) -> Result<String, ImageError> {
    use goldleaf_block::ReadBlocks;
    let map = device.map();
    let total: u64 = map.extents().iter().map(|extent| extent.range.count.bytes().0).sum();
    let mut hasher = blake3::Hasher::new();
    hasher.update(&map.blocks().0.to_le_bytes());
    let mut buffer = vec![0; PIECE as usize];
    let mut done = 0;
    for extent in map.extents() {
        let mut at = extent.range.start.offset().0;
        let end = extent.range.end().offset().0;
        while at < end {
            let part = (end - at).min(PIECE) as usize;
            device.read_at(goldleaf_block::ByteOffset(at), &mut buffer[..part])?;
            for block in buffer[..part].chunks(BLOCK_SIZE as usize) {
                if block.iter().any(|&byte| byte != 0) {
                    hasher.update(&(at / BLOCK_SIZE).to_le_bytes()).update(block);
                }
                at += block.len() as u64;
            }
            done += part as u64;
            progress.at("reading the disk", done, total);
        }
    }
    Ok(hasher.finalize().to_hex().to_string())
}
