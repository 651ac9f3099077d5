//! The parent's side: starting a process with descriptors and limits, and seeing how it ended.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;

use crate::{FIRST_HANDED, JailError};

/// Bounds on a sandboxed process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Address space, in bytes (`RLIMIT_AS`).
    pub memory_bytes: u64,
    /// Processor time, in seconds (`RLIMIT_CPU`).
    pub cpu_secs: u64,
    /// Largest file it may write, in bytes (`RLIMIT_FSIZE`).
    pub file_bytes: u64,
}

/// Bytes of complaints that are kept; a hostile worker may write for ever.
const STDERR_KEPT: u64 = 16 * 1024;

/// A running sandboxed process. Dropping it kills it.
pub struct Jailed {
    child: Child,
    socket: Option<UnixStream>,
    stderr: Option<JoinHandle<String>>,
    ended: bool,
}

/// How a sandboxed process ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Its status.
    pub status: ExitStatus,
    /// The first 16 KiB of what it complained.
    pub stderr: String,
    /// Most memory that it held at once, in bytes.
    pub peak_rss_bytes: u64,
}

/// Why a sandboxed process ended, as far as its status tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// It came to its limit of processor time.
    #[error("it came to its limit of processor time")]
    Processor,
    /// It came to its limit of memory.
    #[error("it came to its limit of memory")]
    Memory,
    /// It wrote more than it may.
    #[error("it wrote more than it may")]
    Output,
    /// Somebody killed it: the system, for want of memory, or a person.
    #[error("it was killed, perhaps because the system ran out of memory")]
    Killed,
    /// Another signal, which its own doing called for.
    #[error("it died of signal {0}")]
    Signal(i32),
    /// It met a mistake of its own and gave up: a panic.
    #[error("it met a mistake of its own and gave up")]
    Panic,
    /// It ended by itself with this status.
    #[error("it ended with status {0}")]
    Status(i32),
}

/// What a program ends with that panicked.
const PANICKED: i32 = 101;
/// What the standard library says, before it aborts, of memory that it does not get.
const NO_MEMORY: &str = "memory allocation of ";

impl Ended {
    /// Why it ended.
    pub fn cause(&self) -> Cause {
        match self.status.signal() {
            Some(libc::SIGXCPU) => Cause::Processor,
            Some(libc::SIGXFSZ) => Cause::Output,
            Some(libc::SIGKILL) => Cause::Killed,
            Some(libc::SIGABRT) if self.stderr.contains(NO_MEMORY) => Cause::Memory,
            Some(signal) => Cause::Signal(signal),
            None if self.status.code() == Some(PANICKED) => Cause::Panic,
            None => Cause::Status(self.status.code().unwrap_or(-1)),
        }
    }
}

/// Starts `program` with `args`, an empty environment, a socket as descriptor 0 and copies of `fds`
/// as 3, 4, …; every other descriptor is closed. The new process is killed when this one dies.
pub fn spawn(
    program: &Path,
    args: &[OsString],
    fds: &[BorrowedFd<'_>],
    limits: Limits,
) -> Result<Jailed, JailError> {
    let (ours, theirs) = UnixStream::pair()?;
    // Copies above the target range, so that placing one never overwrites another.
    let floor = FIRST_HANDED + fds.len() as i32;
    let copies: Vec<OwnedFd> = fds
        .iter()
        .map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, floor))
        .collect::<Result<_, _>>()
        .map_err(io::Error::from)?;
    let numbers: Vec<RawFd> = copies.iter().map(AsRawFd::as_raw_fd).collect();
    let mut command = Command::new(program);
    command
        .args(args)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let parent = std::process::id();
    // SAFETY: the closure calls only async-signal-safe system calls and allocates nothing.
    unsafe { command.pre_exec(move || prepare_child(&numbers, limits, parent)) };
    let mut child = command.spawn()?;
    drop(copies);
    let stderr = child.stderr.take().map(collect_stderr);
    Ok(Jailed { child, socket: Some(ours), stderr, ended: false })
}

fn collect_stderr(mut pipe: std::process::ChildStderr) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        // A failing pipe ends the collection like its end does; there is nobody to tell.
        let _ = pipe.by_ref().take(STDERR_KEPT).read_to_end(&mut kept);
        let _ = io::copy(&mut pipe, &mut io::sink());
        String::from_utf8_lossy(&kept).into_owned()
    })
}

fn prepare_child(numbers: &[RawFd], limits: Limits, parent: u32) -> io::Result<()> {
    for (index, &number) in numbers.iter().enumerate() {
        check(unsafe { libc::dup2(number, FIRST_HANDED + index as i32) })?;
    }
    let first_closed = FIRST_HANDED as u32 + numbers.len() as u32;
    // Descriptors above are closed at exec, not now: one of them tells the parent of a failed exec.
    let closed = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first_closed,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC as libc::c_uint,
        )
    };
    check(closed as i32)?;
    limit(libc::RLIMIT_AS, limits.memory_bytes, limits.memory_bytes)?;
    // The soft limit sends a signal of its own; who blocks that one is killed a second later.
    limit(libc::RLIMIT_CPU, limits.cpu_secs, limits.cpu_secs.saturating_add(1))?;
    limit(libc::RLIMIT_FSIZE, limits.file_bytes, limits.file_bytes)?;
    limit(libc::RLIMIT_CORE, 0, 0)?;
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) })?;
    // The parent may have died before the line above.
    if unsafe { libc::getppid() } as u32 != parent {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    Ok(())
}

fn limit(resource: libc::__rlimit_resource_t, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    check(unsafe { libc::setrlimit(resource, &limit) })
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

impl Jailed {
    /// The socket to the process.
    pub fn socket(&mut self) -> Option<UnixStream> {
        self.socket.take()
    }

    /// The number of the process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the end.
    pub fn wait(mut self) -> io::Result<Ended> {
        self.ended = true;
        drop(self.socket.take());
        let mut status = 0;
        // SAFETY: rusage is plain data that wait4 fills; the child is ours and not yet reaped.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        loop {
            let pid = unsafe { libc::wait4(self.child.id() as i32, &mut status, 0, &mut usage) };
            if pid >= 0 {
                break;
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        let stderr = self.stderr.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        Ok(Ended {
            status: ExitStatus::from_raw(status),
            stderr,
            peak_rss_bytes: usage.ru_maxrss as u64 * 1024,
        })
    }
}

impl Drop for Jailed {
    fn drop(&mut self) {
        if !self.ended {
            // It may have ended by itself; then there is nothing to kill.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
