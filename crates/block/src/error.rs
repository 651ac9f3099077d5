//! What can go wrong with a block device.

use crate::units::{ByteLen, ByteOffset};

/// An error of a block device.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum BlockError {
    /// The range does not lie on the device.
    #[error("{len} bytes at {at} are outside the device of {size} bytes")]
    OutOfRange {
        /// First byte asked for.
        at: ByteOffset,
        /// Bytes asked for.
        len: ByteLen,
        /// Length of the device.
        size: ByteLen,
    },
    /// The storage underneath failed.
    #[error("{what}: {message}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// The system's word for it.
        message: String,
        /// The system's number for it, where there is one (`ENOSPC`, …).
        code: Option<i32>,
    },
    /// An earlier flush failed, so nothing can be promised any more.
    #[error("the device is stopped, because an earlier write or flush failed")]
    Poisoned,
    /// A session log stands on another base than the one it was opened with.
    #[error("the session stands on {expected}, not on {found}")]
    WrongBase {
        /// Digest and length of the base that the log names.
        expected: String,
        /// Digest and length of the base that is there.
        found: String,
    },
    /// Stored bytes contradict themselves.
    #[error("{place}: expected {expected}, found {found}")]
    Corrupt {
        /// Where: the structure and its place.
        place: String,
        /// What would have been right.
        expected: String,
        /// What is there.
        found: String,
    },
}

impl BlockError {
    /// Wraps an error of the storage underneath.
    pub fn io(what: &'static str, error: &std::io::Error) -> Self {
        Self::Io { what, message: error.to_string(), code: error.raw_os_error() }
    }
}
