//! What can go wrong with the server itself. What goes wrong with one client ends that client's
//! connection and is counted in [`Stats`](crate::Stats); what goes wrong with the device is told
//! to the client as an error of its command.

use std::io;

use goldleaf_block::{BlockError, ByteLen};

/// An error of the server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NbdError {
    /// The system refused something that the server needs.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// The system's word for it.
        source: io::Error,
    },
    /// The export's name is longer than the protocol allows.
    #[error("the export's name has {found} bytes, expected at most {limit}")]
    NameTooLong {
        /// Its length in bytes.
        found: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The device to swap in has another length than the one that clients were told.
    #[error("the new device has {new} bytes, expected {old}, the length of the present one")]
    LengthDiffers {
        /// Length of the present device.
        old: ByteLen,
        /// Length of the device that was to replace it.
        new: ByteLen,
    },
    /// The present device could not be flushed, so it was left in place.
    #[error("flushing the present device: {0}")]
    Flush(#[source] BlockError),
}

impl NbdError {
    pub(crate) fn io(what: &'static str, error: impl Into<io::Error>) -> Self {
        Self::Io { what, source: error.into() }
    }
}
