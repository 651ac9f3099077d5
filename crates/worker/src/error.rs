//! What can go wrong with the worker.

use goldleaf_tree::one_line;

/// An error of the worker, seen from either side.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// The process could not be started or confined.
    #[error(transparent)]
    Jail(#[from] goldleaf_jail::JailError),
    /// The process ended before it answered.
    #[error("the worker did not finish: {how}{}", complaint(.stderr))]
    Died {
        /// Why it ended.
        cause: goldleaf_jail::Cause,
        /// How it ended, one clause.
        how: String,
        /// What it complained.
        stderr: String,
    },
    /// The worker did its job and says no.
    #[error("{0}")]
    Refused(String),
    /// What came over the socket is not the protocol.
    #[error("the worker's protocol: expected {expected}, found {found}")]
    Protocol {
        /// What would have been right.
        expected: &'static str,
        /// What came.
        found: String,
    },
    /// The socket failed.
    #[error("talking to the worker: {0}")]
    Io(#[from] std::io::Error),
}

/// The last line that says something; behind a panic's message stands advice to developers.
fn complaint(stderr: &str) -> String {
    let says = |line: &&str| !line.trim().is_empty() && !line.starts_with("note: ");
    let line = stderr.lines().rev().find(says).unwrap_or("");
    if line.is_empty() { String::new() } else { format!(" ({})", one_line(line)) }
}
