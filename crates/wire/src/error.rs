//! Why something that travelled is refused.

use std::fmt;

use goldleaf_block::BlockError;
use goldleaf_store::Digest;

/// An error of the wire form.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// Not what its name says.
    #[error("{what}: digest {found} instead of {expected}")]
    HashMismatch {
        /// A pack, a frame, a map.
        what: &'static str,
        /// As it was named.
        expected: Digest,
        /// As it is.
        found: Digest,
    },
    /// More or fewer bytes than were named.
    #[error("{what}: {found} bytes instead of {expected}")]
    Length {
        /// A pack, a frame, a map.
        what: &'static str,
        /// In bytes, as it was named.
        expected: u64,
        /// In bytes, as it is.
        found: u64,
    },
    /// No such thing at all.
    #[error("{what}: {why}")]
    Malformed {
        /// A pack, a frame, a map.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// What was stored cannot be decompressed into what it is to be.
    #[error("decompressing a {what}: {why}")]
    Decompress {
        /// A frame, a map.
        what: &'static str,
        /// What the decompressor said.
        why: String,
    },
    /// More than the form allows.
    #[error("{what}: more than {limit}")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// Whoever was to take a pack did not.
    #[error("taking a pack: {0}")]
    Sink(std::io::Error),
    /// The map makes no disk.
    #[error(transparent)]
    Map(#[from] BlockError),
}

impl WireError {
    pub(crate) fn malformed(what: &'static str, why: impl fmt::Display) -> Self {
        WireError::Malformed { what, why: why.to_string() }
    }
}

/// Fails unless the bytes have that digest.
pub(crate) fn verify(what: &'static str, bytes: &[u8], expected: &Digest) -> Result<(), WireError> {
    let found = Digest::of(bytes);
    if found == *expected {
        return Ok(());
    }
    Err(WireError::HashMismatch { what, expected: *expected, found })
}
