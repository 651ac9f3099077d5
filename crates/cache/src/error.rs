//! Why a cache cannot be made, opened or filled.

use std::io;

use goldleaf_wire::WireError;

/// An error of a cache.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// The files of the cache failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// The system's word for it.
        source: io::Error,
    },
    /// The list of packs cannot be read.
    #[error("{place}: {why}")]
    Corrupt {
        /// Name of the file.
        place: String,
        /// What is wrong with it.
        why: String,
    },
    /// What arrived is not what was asked for.
    #[error(transparent)]
    Wire(#[from] WireError),
}

pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> CacheError {
    move |source| CacheError::Io { what, source }
}
