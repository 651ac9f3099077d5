//! What can go wrong with a stored layer.

use goldleaf_store::{Digest, StoreError};
use goldleaf_tree::PathError;

/// An error of a stored layer.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An object contradicts itself or what names it.
    #[error("object {object}, {place}: expected {expected}, found {found}")]
    Corrupt {
        /// The object.
        object: Digest,
        /// Where in it.
        place: String,
        /// What would have been right.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A path is longer than a guest's may be.
    #[error(transparent)]
    Path(#[from] PathError),
    /// What was to be stored is no entry or no content.
    #[error("invalid: {0}")]
    Invalid(String),
}
