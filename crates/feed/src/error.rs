//! Why a feed cannot be written or read.

use std::io;

use goldleaf_trust::TrustError;
use goldleaf_wire::WireError;

/// An error of a feed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FeedError {
    /// The directory of the feed failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// The system's word for it.
        source: io::Error,
    },
    /// Something that was published is not there.
    #[error("the feed has no {0}")]
    Missing(String),
    /// What is there is not what was published.
    #[error("{what}: {why}")]
    Malformed {
        /// What it is.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// Another length than was named.
    #[error("{what}: {found} bytes where {expected} were named")]
    Length {
        /// What it is.
        what: String,
        /// In bytes, as it was named.
        expected: u64,
        /// In bytes, as far as it was read.
        found: u64,
    },
    /// An apps layer that was made on another image.
    #[error("layer `{layer}` was made on image `{made_on}` and is published over `{image}`")]
    Incompatible {
        /// The layer.
        layer: String,
        /// The image that it was made on.
        made_on: String,
        /// The image that it is to lie over.
        image: String,
    },
    /// A frame, a pack or a map.
    #[error(transparent)]
    Wire(WireError),
    /// Where it is carried failed.
    #[error(transparent)]
    Fetch(#[from] goldleaf_fetch::FetchError),
    /// Signed metadata.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

impl From<WireError> for FeedError {
    fn from(error: WireError) -> Self {
        match error {
            // What it was given to failed, and nothing of the feed's.
            WireError::Sink(source) => FeedError::Io { what: "writing to the feed".into(), source },
            error => FeedError::Wire(error),
        }
    }
}

impl FeedError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| FeedError::Io { what, source }
    }

    /// What somebody published is not what it should be.
    pub fn malformed(what: impl Into<String>, why: impl ToString) -> Self {
        FeedError::Malformed { what: what.into(), why: why.to_string() }
    }
}
