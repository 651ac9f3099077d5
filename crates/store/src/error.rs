//! What can go wrong with a store.

use goldleaf_block::BlockError;

use crate::Digest;

/// An error of a store.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The storage underneath failed.
    #[error("{what}: {message}")]
    Io {
        /// What was being done, and with what.
        what: String,
        /// The system's word for it.
        message: String,
        /// The system's number for it, where there is one (`ENOSPC`, …).
        code: Option<i32>,
    },
    /// The device that content was to be read from failed.
    #[error("content: {0}")]
    Content(#[from] BlockError),
    /// Stored bytes contradict themselves.
    #[error("{place}: expected {expected}, found {found}")]
    Corrupt {
        /// Where: the pack and the structure in it.
        place: String,
        /// What would have been right.
        expected: String,
        /// What is there.
        found: String,
    },
    /// No pack has this.
    #[error("the store has no {what} {digest}")]
    Missing {
        /// Blob, object or pack.
        what: &'static str,
        /// Its name.
        digest: Digest,
    },
    /// More than a format or this program allows.
    #[error("limit: {0}")]
    Limit(String),
    /// Somebody else is filing into the store, or collecting it.
    #[error("the store is in use: {0}")]
    Busy(&'static str),
    /// The store, or what lives in it, is not what it was when the plan was made.
    #[error("the plan no longer holds: {0}")]
    PlanStale(String),
    /// Packs cannot be read, so that nothing may be collected.
    #[error("{0} damaged packs: nothing is collected before they are dealt with")]
    Damaged(usize),
}

impl StoreError {
    pub(crate) fn io(what: impl Into<String>, error: &std::io::Error) -> Self {
        let (message, code) = (error.to_string(), error.raw_os_error());
        Self::Io { what: what.into(), message, code }
    }

    pub(crate) fn corrupt(
        place: impl Into<String>,
        expected: impl ToString,
        found: impl ToString,
    ) -> Self {
        let (expected, found) = (expected.to_string(), found.to_string());
        Self::Corrupt { place: place.into(), expected, found }
    }
}
