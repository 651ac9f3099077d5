//! The real machine behind the seams.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, FallocateFlags, FileType, FlockOperation, Mode, OFlags, SeekFrom};

use crate::{Clock, Dir, DirItem, Entropy, File, Lock};

/// A directory of the host, held by descriptor: renaming or replacing the path from outside does
/// not lead the product elsewhere.
pub struct RealDir {
    fd: OwnedFd,
    path: PathBuf,
    readers: Readers,
}

/// Who may read what is made in a directory, beside its owner.
#[derive(Clone, Copy)]
enum Readers {
    Nobody,
    /// As far as the process's umask allows.
    Anybody,
}

impl Readers {
    fn of_files(self) -> Mode {
        match self {
            Readers::Nobody => Mode::from_raw_mode(0o600),
            Readers::Anybody => Mode::from_raw_mode(0o644),
        }
    }

    fn of_dirs(self) -> Mode {
        match self {
            Readers::Nobody => Mode::from_raw_mode(0o700),
            Readers::Anybody => Mode::from_raw_mode(0o755),
        }
    }
}

impl RealDir {
    /// Opens a directory by path, making it and its parents (mode 0700) when missing.
    pub fn create(path: &Path) -> io::Result<Arc<dyn Dir>> {
        Self::make(path, Readers::Nobody)
    }

    /// The same for what others are to read, a web server for one: mode 0755, and files 0644.
    pub fn create_public(path: &Path) -> io::Result<Arc<dyn Dir>> {
        Self::make(path, Readers::Anybody)
    }

    /// Opens an existing directory by path.
    pub fn open(path: &Path) -> io::Result<Arc<dyn Dir>> {
        Self::open_for(path, Readers::Nobody)
    }

    /// The same, where others are to read what is made in it.
    pub fn open_public(path: &Path) -> io::Result<Arc<dyn Dir>> {
        Self::open_for(path, Readers::Anybody)
    }

    fn make(path: &Path, readers: Readers) -> io::Result<Arc<dyn Dir>> {
        use std::os::unix::fs::DirBuilderExt;
        let mode = readers.of_dirs().as_raw_mode();
        fs::DirBuilder::new().recursive(true).mode(mode).create(path)?;
        Self::open_for(path, readers)
    }

    fn open_for(path: &Path, readers: Readers) -> io::Result<Arc<dyn Dir>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Arc::new(Self { fd, path: fs::canonicalize(path)?, readers }))
    }

    fn open_file(&self, name: &str, flags: OFlags) -> io::Result<Arc<dyn File>> {
        check_name(name)?;
        // Somebody may have put a pipe there, which would be waited for; of a file it says nothing.
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let fd = rustix::fs::openat(&self.fd, name, flags, self.readers.of_files())?;
        match FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) {
            FileType::RegularFile => Ok(Arc::new(RealFile(fs::File::from(fd)))),
            FileType::Directory => Err(io::ErrorKind::IsADirectory.into()),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name}: no file"))),
        }
    }
}

/// Refuses what is not one plain path component.
pub(crate) fn check_name(name: &str) -> io::Result<()> {
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("not a name: {name:?}")));
    }
    Ok(())
}

impl Dir for RealDir {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.open_file(name, OFlags::RDONLY)
    }

    fn open_rw(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.open_file(name, OFlags::RDWR)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.open_file(name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)
    }

    fn dir(&self, name: &str) -> io::Result<Arc<dyn Dir>> {
        check_name(name)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = rustix::fs::openat(&self.fd, name, flags, Mode::empty())?;
        Ok(Arc::new(Self { fd, path: self.path.join(name), readers: self.readers }))
    }

    fn create_dir(&self, name: &str) -> io::Result<Arc<dyn Dir>> {
        check_name(name)?;
        match rustix::fs::mkdirat(&self.fd, name, self.readers.of_dirs()) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => self.dir(name),
            Err(error) => Err(error.into()),
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        check_name(from)?;
        check_name(to)?;
        Ok(rustix::fs::renameat(&self.fd, from, &self.fd, to)?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        check_name(name)?;
        Ok(rustix::fs::unlinkat(&self.fd, name, AtFlags::empty())?)
    }

    fn remove_dir_all(&self, name: &str) -> io::Result<()> {
        let inner = self.dir(name)?;
        for item in inner.list()? {
            if item.is_dir {
                inner.remove_dir_all(&item.name)?;
            } else {
                inner.remove(&item.name)?;
            }
        }
        Ok(rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR)?)
    }

    fn list(&self) -> io::Result<Vec<DirItem>> {
        let mut items = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let name = String::from_utf8(name.to_vec()).map_err(io::Error::other)?;
            let stat = rustix::fs::statat(&self.fd, &*name, AtFlags::SYMLINK_NOFOLLOW)?;
            let kind = FileType::from_raw_mode(stat.st_mode);
            items.push(DirItem { name, is_dir: kind == FileType::Directory });
        }
        items.sort();
        Ok(items)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.fd)?)
    }

    fn try_lock(&self, name: &str) -> io::Result<Option<Box<dyn Lock>>> {
        check_name(name)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = rustix::fs::openat(&self.fd, name, flags, Mode::RUSR | Mode::WUSR)?;
        match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Box::new(RealLock { _fd: fd }))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn free_space(&self) -> io::Result<u64> {
        let stat = rustix::fs::fstatvfs(&self.fd)?;
        Ok(stat.f_bavail * stat.f_frsize)
    }

    fn path(&self) -> Option<&Path> {
        Some(&self.path)
    }
}

struct RealLock {
    _fd: OwnedFd,
}

impl Lock for RealLock {}

struct RealFile(fs::File);

/// A descriptor that this process was handed, as a file.
pub fn file_from_fd(fd: OwnedFd) -> Arc<dyn File> {
    Arc::new(RealFile(fs::File::from(fd)))
}

impl File for RealFile {
    fn len(&self) -> io::Result<u64> {
        // Not stat: a jailed worker may not call it. All other access is positioned, so the file's
        // own position is free to move.
        Ok(rustix::fs::seek(&self.0, SeekFrom::End(0))?)
    }

    fn read_exact_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        self.0.read_exact_at(buf, at)
    }

    fn write_all_at(&self, buf: &[u8], at: u64) -> io::Result<()> {
        self.0.write_all_at(buf, at)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn drop_cache(&self) -> io::Result<()> {
        Ok(rustix::fs::fadvise(&self.0, 0, None, rustix::fs::Advice::DontNeed)?)
    }

    fn punch_hole(&self, at: u64, len: u64) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(&self.0, flags, at, len) {
            Err(rustix::io::Errno::OPNOTSUPP) => write_zeroes(&self.0, at, len),
            other => Ok(other?),
        }
    }

    fn allocated(&self) -> io::Result<u64> {
        use std::os::unix::fs::MetadataExt;
        // st_blocks counts units of 512 bytes whatever the file system's block is (stat(2)).
        Ok(self.0.metadata()?.blocks() * 512)
    }

    fn next_data(&self, from: u64) -> io::Result<Option<(u64, u64)>> {
        let start = match rustix::fs::seek(&self.0, SeekFrom::Data(from)) {
            Ok(start) => start,
            Err(rustix::io::Errno::NXIO) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        Ok(Some((start, rustix::fs::seek(&self.0, SeekFrom::Hole(start))?)))
    }

    fn lend(&self) -> io::Result<Option<OwnedFd>> {
        Ok(Some(self.0.try_clone()?.into()))
    }
}

/// For storages that cannot punch: zeroes within the file's present length.
fn write_zeroes(file: &fs::File, at: u64, len: u64) -> io::Result<()> {
    static CHUNK: [u8; 65536] = [0; 65536];
    let end = at.saturating_add(len).min(file.metadata()?.len());
    let mut at = at;
    while at < end {
        let part = (end - at).min(CHUNK.len() as u64);
        file.write_all_at(&CHUNK[..part as usize], at)?;
        at += part;
    }
    Ok(())
}

/// The machine's clocks.
pub struct RealClock {
    start: Instant,
}

impl RealClock {
    /// A clock whose monotonic time begins now.
    #[allow(clippy::new_without_default, reason = "reading a clock is an act, not a default")]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for RealClock {
    fn now_unix(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn sleep(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}

/// The kernel's random numbers.
pub struct RealEntropy;

impl Entropy for RealEntropy {
    fn fill(&self, buf: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while done < buf.len() {
            done +=
                rustix::rand::getrandom(&mut buf[done..], rustix::rand::GetRandomFlags::empty())?;
        }
        Ok(())
    }
}
