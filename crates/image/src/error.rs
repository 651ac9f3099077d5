//! What can go wrong with golden images.

use goldleaf_block::BlockError;

/// An error of the image registry.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// No image, or no version of it, has that name.
    #[error("there is no image `{0}`")]
    Unknown(String),
    /// The name is taken.
    #[error("there is an image `{0}` already")]
    Exists(String),
    /// The name cannot be used.
    #[error("`{0}` is not a name: use letters, digits, `.`, `-` and `_`, at most 64 of them")]
    BadName(String),
    /// The disk cannot be a golden image.
    #[error("{reason}; {cure}")]
    Refused {
        /// Why.
        reason: String,
        /// What to do about it.
        cure: String,
    },
    /// A stored record contradicts itself.
    #[error("{place}: expected {expected}, found {found}")]
    Corrupt {
        /// Where.
        place: String,
        /// What would have been right.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A program that is needed is missing or failed.
    #[error("{0}")]
    Tool(String),
    /// The worker failed.
    #[error(transparent)]
    Worker(#[from] goldleaf_worker::WorkerError),
    /// A disk failed.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// What has arrived of a published image.
    #[error(transparent)]
    Cache(#[from] goldleaf_cache::CacheError),
    /// The storage failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// The system's word for it.
        source: std::io::Error,
    },
}

impl ImageError {
    /// Wraps an error of the storage.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
