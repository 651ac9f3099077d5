//! What can go wrong with the worker.

use goldleaf_tree::one_line;

use crate::protocol::TooSmall;

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
    /// The layers do not fit the image's volumes.
    #[error("the layers do not fit: {}", lacks(.0))]
    TooSmall(Vec<TooSmall>),
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

/// What each volume lacks, in MiB rounded up.
fn lacks(volumes: &[TooSmall]) -> String {
    let lack = |volume: &TooSmall| {
        let space =
            (volume.missing.0 > 0).then(|| format!("{} MiB", volume.missing.0.div_ceil(1 << 20)));
        let inodes =
            (volume.missing_inodes > 0).then(|| format!("{} inodes", volume.missing_inodes));
        let parts: Vec<String> = space.into_iter().chain(inodes).collect();
        format!("the file system of {} lacks {}", volume.mount, parts.join(" and "))
    };
    volumes.iter().map(lack).collect::<Vec<_>>().join(", ")
}
