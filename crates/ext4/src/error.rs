//! What can go wrong with a volume.

use std::fmt::Display;

use goldleaf_block::BlockError;
use goldleaf_tree::{PathError, TreeError};

/// An error of this crate. A hostile volume ends in one of these and never in a panic.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Ext4Error {
    /// The volume contradicts itself.
    #[error("{place}: expected {expected}, found {found}")]
    Corrupt {
        /// Where: the structure and its number.
        place: String,
        /// What would have been right.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The volume, or a file on it, uses something that is not supported.
    #[error("unsupported: {0}")]
    Unsupported(String),
    /// The journal holds transactions that have not reached their places.
    #[error("the volume needs its journal replayed")]
    NeedsRecovery,
    /// The device underneath failed.
    #[error("input/output: {0}")]
    Io(#[from] BlockError),
    /// A bound on memory, work or depth was met.
    #[error("limit: {0}")]
    Limit(String),
}

/// The result of nearly everything here.
pub(crate) type Result<T> = std::result::Result<T, Ext4Error>;

/// A contradiction at `place`.
pub(crate) fn corrupt(
    place: impl Display,
    expected: impl Display,
    found: impl Display,
) -> Ext4Error {
    Ext4Error::Corrupt {
        place: place.to_string(),
        expected: expected.to_string(),
        found: found.to_string(),
    }
}

/// Compares a stored checksum with the computed one.
pub(crate) fn check_sum(place: impl Display, computed: u32, stored: u32) -> Result<()> {
    if computed == stored {
        return Ok(());
    }
    Err(corrupt(place, format!("checksum {computed:#x}"), format!("{stored:#x}")))
}

impl From<Ext4Error> for TreeError {
    fn from(error: Ext4Error) -> Self {
        match error {
            Ext4Error::Corrupt { place, expected, found } => {
                TreeError::Corrupt { place, expected, found }
            }
            Ext4Error::Unsupported(what) => TreeError::Unsupported(what),
            Ext4Error::NeedsRecovery => {
                TreeError::Unsupported("a journal that needs to be replayed".into())
            }
            Ext4Error::Io(error) => TreeError::Io(error.to_string()),
            Ext4Error::Limit(what) => TreeError::Limit(what),
        }
    }
}

impl From<PathError> for Ext4Error {
    fn from(error: PathError) -> Self {
        Ext4Error::Limit(format!("a path that cannot be kept ({error})"))
    }
}
