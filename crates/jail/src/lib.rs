//! Sandboxed processes: how the worker that reads guest bytes is started, and how it locks itself
//! in.
//!
//! The parent starts its own executable again with nothing but a socket (descriptor 0), a pipe for
//! complaints (2) and the open files it is to work on (3, 4, …): no paths, no environment. The
//! child then calls [`enter`] before it reads the first byte of its task. From there on Landlock
//! denies every path and TCP port, seccomp every system call that is not on a short list, and
//! resource limits bound memory, time and descriptors. A kernel that cannot enforce this is
//! refused.
//!
//! [`enter_for_tool`] is the weaker jail of a system program (e2fsck, resize2fs) that must run on a
//! guest's file system: it may execute and read the system's own directories, write to the files
//! it was handed, and nothing else.
//!
//! This crate is the fence around `unsafe`: descriptors by number, and what runs between fork and
//! exec.

mod enter;
#[cfg(feature = "probes")]
pub mod probes;
mod spawn;

pub use enter::{enter, enter_for_tool};
pub use spawn::{Cause, Ended, Jailed, Limits, spawn};

use std::os::fd::{FromRawFd, OwnedFd};

/// Number of the first descriptor that [`spawn`] hands over.
const FIRST_HANDED: i32 = 3;

/// Why a sandboxed process could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JailError {
    /// The process could not be started.
    #[error("starting a sandboxed process: {0}")]
    Spawn(#[from] std::io::Error),
    /// The kernel does not enforce a part of the sandbox.
    #[error(
        "this kernel cannot confine the worker ({0}); Linux 5.13 or newer with Landlock and \
         seccomp is needed"
    )]
    Unenforced(String),
}

/// The descriptors that the parent handed over, in the parent's order. To be called once, first
/// thing, by the process that [`spawn`] started.
pub fn inherited(count: usize) -> Vec<OwnedFd> {
    (0..count as i32)
        .map(|index| {
            // SAFETY: spawn placed exactly these numbers, nobody else in this process has taken
            // them, and the caller calls once.
            unsafe { OwnedFd::from_raw_fd(FIRST_HANDED + index) }
        })
        .collect()
}

/// The protocol socket, descriptor 0. To be called once. To be read and written as a file: in the
/// jail only `read(2)` and `write(2)` are allowed, not the calls that sockets have besides.
pub fn inherited_socket() -> OwnedFd {
    // SAFETY: as in `inherited`; nothing in a worker reads standard input.
    unsafe { OwnedFd::from_raw_fd(0) }
}
