//! The sound disks that the knife is put to: made by mke2fs, filled by this machine's kernel.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::layout::Disk;
use crate::Result;

/// Bytes of a volume: two groups of 2,048 blocks.
pub const VOLUME: usize = 16 << 20;
/// Where a partition begins, in bytes.
pub const START: usize = 1 << 20;

/// Sound disks.
pub struct Ground {
    /// A volume with sums.
    pub clean: Disk,
    /// The same volume while a guest has it mounted: its journal is not empty.
    pub dirty: Disk,
    /// A volume without sums.
    pub plain: Disk,
    /// That one with a journal that is not empty.
    pub plain_dirty: Disk,
    /// The first one as a partition of a GPT.
    pub gpt: Disk,
    /// The first one as the logical partition of an MBR.
    pub mbr: Disk,
}

impl Ground {
    /// Makes them all.
    pub fn prepare() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let (clean, dirty) = volume(dir.path(), "metadata_csum,64bit")?;
        let (plain, plain_dirty) = volume(dir.path(), "^metadata_csum,^64bit")?;
        let logical = format!(
            "label: dos\nstart={}, type=5\nstart={}, size={}, type=83\n",
            START / 512 - 64,
            START / 512,
            VOLUME / 512
        );
        let whole = format!("label: gpt\nstart={}, size={}\n", START / 512, VOLUME / 512);
        Ok(Self {
            gpt: partitioned(dir.path(), &whole, &clean)?,
            mbr: partitioned(dir.path(), &logical, &clean)?,
            clean: Disk::new(clean),
            dirty: Disk::new(dirty),
            plain: Disk::new(plain),
            plain_dirty: Disk::new(plain_dirty),
        })
    }
}

fn sh(program: &str, args: &[&str], input: Option<&str>) -> Result<()> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("running {program}: {error}"))?;
    if let (Some(mut pipe), Some(text)) = (child.stdin.take(), input) {
        std::io::Write::write_all(&mut pipe, text.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program} {args:?} failed: {}", said.trim()).into())
}

/// A filled volume at rest, and while it is written to.
fn volume(dir: &Path, features: &str) -> Result<(Vec<u8>, Vec<u8>)> {
    let (image, mount) = (dir.join("volume"), dir.join("mount"));
    fs::File::create(&image)?.set_len(VOLUME as u64)?;
    fs::create_dir_all(&mount)?;
    let text = image.to_str().ok_or("a path that is not text")?;
    let fixed = ["-U", "6f0a1b52-43a1-4b0c-9d53-0f1e2d3c4b5a", "-E", "lazy_itable_init=0"];
    let size = ["-q", "-F", "-t", "ext4", "-b", "4096", "-g", "2048", "-N", "1024", "-J", "size=4"];
    sh("mke2fs", &[&size[..], &fixed, &["-O", features, text]].concat(), None)?;
    let mounted = Mounted::new(&image, mount)?;
    fill(&mounted.0)?;
    mounted.close()?;
    let clean = fs::read(&image)?;
    let mounted = Mounted::new(&image, dir.join("mount"))?;
    work(&mounted.0)?;
    let dirty = fs::read(&image)?;
    mounted.close()?;
    Ok((clean, dirty))
}

/// A mounted volume; unmounted when dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn new(image: &Path, at: PathBuf) -> Result<Self> {
        let (image, place) = (image.to_str(), at.to_str());
        let (image, place) = image.zip(place).ok_or("a path that is not text")?;
        sh("mount", &["-t", "ext4", "-o", "loop,noatime,commit=300", image, place], None)?;
        Ok(Self(at))
    }

    fn close(self) -> Result<()> {
        let at = self.0.clone();
        std::mem::forget(self);
        sh("umount", &[at.to_str().ok_or("a path that is not text")?], None)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Only on the way out of an error, which is what counts.
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// As much of a Debian as an import asks for, and one of every kind of file.
fn fill(root: &Path) -> Result<()> {
    let status = "Package: base-files\nStatus: install ok installed\nArchitecture: amd64\n\
                  Version: 13\nMaintainer: nobody\nDescription: none\n\n";
    for (path, text) in [
        ("etc/passwd", "root:x:0:0:root:/root:/bin/bash\nada:x:1000:1000:Ada:/home/ada:/bin/sh\n"),
        ("etc/group", "root:x:0:\nada:x:1000:\n"),
        ("etc/shadow", "root:*:20000::::::\nada:*:20000::::::\n"),
        ("etc/gshadow", "root:*::\nada:!::\n"),
        ("etc/fstab", ""),
        ("etc/hostname", "golden\n"),
        ("usr/lib/os-release", "PRETTY_NAME=\"Hostile Linux\"\nID=debian\n"),
        ("usr/lib/systemd/systemd", "no program\n"),
        ("var/lib/dpkg/status", status),
        ("var/lib/dpkg/info/base-files.list", "/.\n/etc\n/usr\n"),
        ("home/ada/text", "a text\n"),
        ("home/ada/a/b/c/deep", "deep\n"),
    ] {
        let path = root.join(path);
        fs::create_dir_all(path.parent().ok_or("no parent")?)?;
        fs::write(path, text)?;
    }
    let home = root.join("home/ada");
    fs::hard_link(home.join("text"), home.join("again"))?;
    std::os::unix::fs::symlink("text", home.join("short"))?;
    std::os::unix::fs::symlink("x".repeat(100), home.join("long"))?;
    fs::create_dir(home.join("many"))?;
    for number in 0..400 {
        fs::write(home.join(format!("many/a name of some length {number:04}")), "")?;
    }
    let pieces = fs::File::create(home.join("pieces"))?;
    for piece in 0..12 {
        std::os::unix::fs::FileExt::write_at(&pieces, b"piece", piece * 2 * 4096)?;
        pieces.sync_all()?;
    }
    let text = |path: PathBuf| path.to_str().map(String::from).ok_or("a path that is not text");
    let file = text(home.join("text"))?;
    sh("setfattr", &["-n", "user.small", "-v", "value", &file], None)?;
    sh("setfattr", &["-n", "user.large", "-v", &"v".repeat(900), &file], None)?;
    sh("setfacl", &["-m", "u:1000:rwx", &text(root.join("etc/hostname"))?], None)?;
    sh("mknod", &[&text(home.join("null"))?, "c", "1", "3"], None)?;
    sh("mkfifo", &[&text(home.join("pipe"))?], None)
}

/// A session that is not over.
fn work(root: &Path) -> Result<()> {
    let home = root.join("home/ada");
    for number in 0..40 {
        fs::write(home.join(format!("a/new {number}")), format!("new {number}\n").repeat(300))?;
    }
    fs::rename(home.join("a/b/c/deep"), home.join("a/shallow"))?;
    fs::remove_dir(home.join("a/b/c"))?;
    fs::remove_file(home.join("long"))?;
    fs::write(root.join("etc/hostname"), "other\n")?;
    sh("sync", &["-f", home.to_str().ok_or("a path that is not text")?], None)
}

fn partitioned(dir: &Path, table: &str, volume: &[u8]) -> Result<Disk> {
    let path = dir.join("disk");
    let mut bytes = vec![0; VOLUME + 2 * START];
    bytes[START..START + VOLUME].copy_from_slice(volume);
    fs::write(&path, bytes)?;
    let text = path.to_str().ok_or("a path that is not text")?;
    sh("sfdisk", &["--quiet", "--no-reread", "--no-tell-kernel", text], Some(table))?;
    Ok(Disk::new(fs::read(path)?))
}
