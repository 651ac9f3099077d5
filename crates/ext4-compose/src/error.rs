//! What can go wrong when a volume is composed.

use goldleaf_block::BlockError;
use goldleaf_tree::GuestPath;

use crate::shortage::Shortage;

/// An error of composing. After any of these from [`apply`](crate::Composer::apply) the composer is
/// of no further use, and what it wrote is to be thrown away.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ComposeError {
    /// The volume is not one that can be composed onto.
    #[error("the volume cannot be composed: {0}")]
    Refused(String),
    /// The volume's blocks or inodes do not suffice. From [`finish`](crate::Composer::finish) this
    /// is what is missing for all operations together.
    #[error("the volume is full: {} blocks and {} inodes are missing", .0.blocks, .0.inodes)]
    Full(Shortage),
    /// The operations are not sorted by path, or two have the same path.
    #[error("operations are out of order: {path} came after {previous}")]
    Order {
        /// The operation before.
        previous: GuestPath,
        /// The operation that should have come earlier.
        path: GuestPath,
    },
    /// The directory that is to hold the path is missing or is no directory.
    #[error("{0} has no parent directory")]
    NoParent(GuestPath),
    /// The operation asks for what ext4 cannot hold.
    #[error("{path}: {reason}")]
    Invalid {
        /// Where.
        path: GuestPath,
        /// Why.
        reason: String,
    },
    /// The library reported an error.
    #[error("{what}: {message} (libext2fs {code})")]
    Library {
        /// What was being done.
        what: &'static str,
        /// The library's number for the error.
        code: i64,
        /// The library's word for it.
        message: String,
    },
    /// The volume below failed to read.
    #[error("the volume: {0}")]
    Base(#[from] BlockError),
    /// The metadata file failed.
    #[error("the metadata file: {0}")]
    Metadata(String),
    /// An earlier operation failed.
    #[error("an earlier operation failed, so this composition is of no use")]
    Poisoned,
}

/// Results of this crate.
pub(crate) type Result<T> = std::result::Result<T, ComposeError>;
