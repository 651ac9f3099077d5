//! The host machine as Goldleaf sees it: directories, files, time and randomness.
//!
//! Everything durable goes through [`Dir`] and [`File`], everything about time through [`Clock`]
//! and everything random through [`Entropy`], so that a simulator can drive the product's own code
//! through power cuts that never happened. No other library crate opens a path, reads a clock or
//! draws a random number by itself; the tidy test enforces that. Who runs when is decided through
//! [`sync`], where threads meet.
//!
//! The contracts are those of POSIX with the comfort taken out: a write is durable only after
//! [`File::sync_data`], a new, removed or renamed name only after [`Dir::sync`].

mod bugs;
mod progress;
mod real;
mod shelf;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
mod steps;
pub mod sync;

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "bugs")]
pub use bugs::plant;
pub use bugs::planted;
pub use progress::{Progress, Silent};
pub use real::{RealClock, RealDir, RealEntropy, file_from_fd};
pub use shelf::{Content, ContentReader, DirShelf, Shelf};
pub use steps::{Side, step};
#[cfg(feature = "steps")]
pub use steps::{StepHook, watch_steps};

/// A file with positioned input and output. Offsets and lengths are in bytes.
#[allow(clippy::len_without_is_empty, reason = "a length, not a collection")]
pub trait File: Send + Sync {
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Fills `buf` from `at`; [`io::ErrorKind::UnexpectedEof`] when the file ends first.
    fn read_exact_at(&self, buf: &mut [u8], at: u64) -> io::Result<()>;
    /// Writes the whole of `buf` at `at`, growing the file where needed. Not durable by itself.
    fn write_all_at(&self, buf: &[u8], at: u64) -> io::Result<()>;
    /// Sets the length; growth reads as zeroes.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes all that was written, and the length, durable. After an error nothing that was
    /// written since the last success may be believed durable, ever (fsync reports a failure once).
    fn sync_data(&self) -> io::Result<()>;
    /// Lets what is read from now on come from the medium, as far as it was synced: after a failed
    /// sync the system's cache may hold, and read back, what the medium never got.
    fn drop_cache(&self) -> io::Result<()>;
    /// Gives the space of a range back; it reads as zeroes afterwards and the length stays.
    /// A storage that cannot do this writes zeroes.
    fn punch_hole(&self, at: u64, len: u64) -> io::Result<()>;
    /// Bytes that the file really occupies.
    fn allocated(&self) -> io::Result<u64>;
    /// The next range of data at or after `from`, as `(start, end)`; `None` when only a hole
    /// follows. A storage that knows no holes returns the whole rest.
    fn next_data(&self, from: u64) -> io::Result<Option<(u64, u64)>>;
    /// A descriptor to hand to a worker process, and to nobody else; `None` for a simulated file.
    fn lend(&self) -> io::Result<Option<OwnedFd>>;
}

/// What a directory lists.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirItem {
    /// Name of the item, one path component.
    pub name: String,
    /// Whether the item is a directory.
    pub is_dir: bool,
}

/// Held while it lives; the kernel (or the simulator) lets go when the holder dies.
pub trait Lock: Send + Sync {}

/// A directory. Names are single components: a name with `/`, `.` or `..` is refused with
/// [`io::ErrorKind::InvalidInput`]; symbolic links are never followed.
pub trait Dir: Send + Sync {
    /// Opens an existing file for reading.
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>>;
    /// Opens an existing file for reading and writing.
    fn open_rw(&self, name: &str) -> io::Result<Arc<dyn File>>;
    /// Makes a new file, mode 0600; [`io::ErrorKind::AlreadyExists`] when there is one.
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>>;
    /// Opens an existing subdirectory.
    fn dir(&self, name: &str) -> io::Result<Arc<dyn Dir>>;
    /// Opens a subdirectory, making it (mode 0700) when it is missing.
    fn create_dir(&self, name: &str) -> io::Result<Arc<dyn Dir>>;
    /// Renames within this directory, replacing the target: the one atomic move there is.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Removes a subdirectory with everything in it. Not atomic.
    fn remove_dir_all(&self, name: &str) -> io::Result<()>;
    /// All items, sorted by name. An error is an error, never an empty list.
    fn list(&self) -> io::Result<Vec<DirItem>>;
    /// Makes creations, removals and renames in this directory durable.
    fn sync(&self) -> io::Result<()>;
    /// Takes the exclusive lock `name` without waiting; `None` when somebody else holds it.
    fn try_lock(&self, name: &str) -> io::Result<Option<Box<dyn Lock>>>;
    /// Bytes free for this user on the storage.
    fn free_space(&self) -> io::Result<u64>;
    /// The host path, for programs that can only be given a path (QEMU's sockets); `None` when
    /// simulated.
    fn path(&self) -> Option<&Path>;
}

/// Writes `bytes` under `name` so that a crash leaves the old content or the new, never a mixture:
/// temporary file, sync, rename, sync of the directory.
pub fn replace_file(dir: &dyn Dir, name: &str, bytes: &[u8]) -> io::Result<()> {
    replace_with(dir, name, Content::of(bytes))
}

/// [`replace_file`], with what need not be in memory.
pub fn replace_with(dir: &dyn Dir, name: &str, content: Content<'_>) -> io::Result<()> {
    let temporary = format!("{name}.new");
    match dir.remove(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = dir.create(&temporary)?;
    let mut at = 0;
    content.pieces(&mut |piece| {
        file.write_all_at(piece, at)?;
        at += piece.len() as u64;
        Ok(())
    })?;
    if !planted("a record is replaced by one that is not synced") {
        file.sync_data()?;
    }
    dir.rename(&temporary, name)?;
    if planted("a replaced record's name is not synced") {
        return Ok(());
    }
    dir.sync()
}

/// Reads a whole file, refusing one longer than `limit` bytes with [`io::ErrorKind::InvalidData`].
pub fn read_file(dir: &dyn Dir, name: &str, limit: u64) -> io::Result<Vec<u8>> {
    let file = dir.open(name)?;
    let len = file.len()?;
    if len > limit {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{name} has {len} bytes, expected at most {limit}"),
        ));
    }
    let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Time, as far as the product needs it.
pub trait Clock: Send + Sync {
    /// Wall-clock time since 1970-01-01T00:00:00Z. May jump in both directions.
    fn now_unix(&self) -> Duration;
    /// Time since an arbitrary start, never going backwards.
    fn monotonic(&self) -> Duration;
    /// Waits.
    fn sleep(&self, duration: Duration);
}

/// Randomness fit for keys and identities.
pub trait Entropy: Send + Sync {
    /// Fills `buf` with random bytes.
    fn fill(&self, buf: &mut [u8]) -> io::Result<()>;
}
