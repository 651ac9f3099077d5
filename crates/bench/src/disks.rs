//! Disks as files: partitioned, formatted, mounted, and written to by this machine's kernel.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use goldleaf_block::{BLOCK_SIZE, ByteOffset, MapDevice, ReadBlocks, Target, WriteBlocks};
use goldleaf_host::RealDir;

use crate::Result;

/// Length of a disk, in bytes; sparse.
pub const DISK_LEN: u64 = 40 << 30;
/// Where the one partition begins, in bytes.
pub const START: u64 = 1 << 20;
/// Bytes that are compared at once.
const PIECE: usize = 1 << 20;

/// A place for everything.
pub struct Scratch {
    path: PathBuf,
    _own: Option<tempfile::TempDir>,
}

impl Scratch {
    /// The directory that was named, which stays; else one beside the program, which goes: the
    /// build's directory is on a disk that has room.
    pub fn new(lasting: Option<&str>) -> Result<Self> {
        if let Some(path) = lasting {
            fs::create_dir_all(path)?;
            return Ok(Self { path: fs::canonicalize(path)?, _own: None });
        }
        let program = std::env::current_exe()?;
        let beside = program.parent().ok_or("a program without a directory")?;
        let own = tempfile::Builder::new().prefix("bench-").tempdir_in(beside)?;
        Ok(Self { path: own.path().into(), _own: Some(own) })
    }

    /// Where.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Runs a command; what it says matters only when it fails.
pub fn sh(program: &str, args: &[&str]) -> Result<()> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("running {program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program} {args:?} failed: {}", said.trim()).into())
}

/// Makes a disk with an empty ext4 partition.
pub fn make(path: &Path) -> Result<()> {
    fs::File::create(path)?.set_len(DISK_LEN)?;
    let text = path.to_str().ok_or("a path that is not text")?;
    let table = format!("label: gpt\nstart={}, type=linux\n", START / 512);
    let mut child = Command::new("sfdisk")
        .args(["--quiet", text])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| format!("running sfdisk: {error}"))?;
    std::io::Write::write_all(&mut child.stdin.take().ok_or("no input")?, table.as_bytes())?;
    if !child.wait()?.success() {
        return Err("sfdisk failed".into());
    }
    let blocks = ((DISK_LEN - 2 * START) / BLOCK_SIZE).to_string();
    let offset = format!("offset={START}");
    sh("mkfs.ext4", &["-q", "-F", "-b", "4096", "-E", &offset, text, &blocks])
}

/// A mounted partition of a disk; unmounted when dropped.
pub struct Mounted {
    at: PathBuf,
}

impl Mounted {
    /// Mounts the disk's partition beside it.
    pub fn new(disk: &Path) -> Result<Self> {
        Self::at(disk, START)
    }

    /// Mounts the partition that begins at a byte.
    pub fn at(disk: &Path, start: u64) -> Result<Self> {
        let at = disk.with_extension("mnt");
        fs::create_dir_all(&at)?;
        let options = format!("loop,offset={start},noatime,noinit_itable");
        let (text, place) = (disk.to_str(), at.to_str());
        let (text, place) = text.zip(place).ok_or("a path that is not text")?;
        sh("mount", &["-t", "ext4", "-o", &options, text, place])?;
        Ok(Self { at })
    }

    /// Where.
    pub fn path(&self) -> &Path {
        &self.at
    }

    /// Unmounts, and says how that went.
    pub fn close(self) -> Result<()> {
        let at = self.at.clone();
        std::mem::forget(self);
        sh("umount", &[at.to_str().ok_or("a path that is not text")?])
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Only on the way out of an error, which is what counts.
        let _ = Command::new("umount").arg(&self.at).status();
    }
}

/// Writes a text file, with the directories that it needs.
pub fn write(root: &Path, path: &str, text: &str, mode: u32) -> Result<()> {
    let path = root.join(path);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(&path, text)?;
    Ok(fs::set_permissions(&path, fs::Permissions::from_mode(mode))?)
}

/// Blocks that a guest wrote, by number.
pub struct Changes(Vec<(u64, Box<[u8; BLOCK_SIZE as usize]>)>);

impl Changes {
    /// Lets `work` run on the mounted disk, and finds the blocks that are different afterwards.
    pub fn of(
        disk: &MapDevice,
        scratch: &Path,
        work: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Self> {
        copy_out(disk, scratch)?;
        let mounted = Mounted::new(scratch)?;
        work(mounted.path())?;
        mounted.close()?;
        let changes = Self(differing(disk, scratch)?);
        fs::remove_file(scratch)?;
        Ok(changes)
    }

    /// Writes them to a session's disk.
    pub fn apply(&self, device: &dyn WriteBlocks) -> Result<()> {
        for (number, block) in &self.0 {
            device.write_at(ByteOffset(number * BLOCK_SIZE), &block[..])?;
        }
        Ok(device.flush()?)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// Writes a disk into a sparse file.
fn copy_out(disk: &MapDevice, path: &Path) -> Result<()> {
    let file = fs::File::create(path)?;
    file.set_len(disk.len().0)?;
    let mut buffer = vec![0; PIECE];
    for extent in disk.map().extents() {
        if extent.target == Target::Zero {
            continue;
        }
        let end = extent.range.end().offset().0;
        let mut at = extent.range.start.offset().0;
        while at < end {
            let part = (end - at).min(PIECE as u64) as usize;
            disk.read_at(ByteOffset(at), &mut buffer[..part])?;
            file.write_all_at(&buffer[..part], at)?;
            at += part as u64;
        }
    }
    Ok(())
}

/// The blocks of a file that are not as on the disk that it was copied from.
fn differing(disk: &MapDevice, path: &Path) -> Result<Vec<(u64, Box<[u8; BLOCK_SIZE as usize]>)>> {
    let dir = RealDir::open(path.parent().ok_or("a file without a directory")?)?;
    let name = path.file_name().and_then(|name| name.to_str()).ok_or("a name that is not text")?;
    let file = dir.open(name)?;
    let (mut ours, mut theirs) = (vec![0; PIECE], vec![0; PIECE]);
    let (mut found, mut from) = (Vec::new(), 0);
    while let Some((start, end)) = file.next_data(from)? {
        let mut at = start / BLOCK_SIZE * BLOCK_SIZE;
        while at < end {
            let part = (disk.len().0 - at).min(PIECE as u64) as usize;
            disk.read_at(ByteOffset(at), &mut ours[..part])?;
            file.read_exact_at(&mut theirs[..part], at)?;
            let pairs = ours[..part].chunks(4096).zip(theirs[..part].chunks(4096));
            for (number, (ours, theirs)) in (at / BLOCK_SIZE..).zip(pairs) {
                if ours != theirs {
                    found.push((number, Box::new(theirs.try_into()?)));
                }
            }
            at += part as u64;
        }
        from = at.max(end);
    }
    Ok(found)
}
