//! Why metadata is refused.

use std::fmt;

use crate::key::KeyId;
use crate::repository::RootWaits;

/// A role of the metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Says whose keys the others are.
    Root,
    /// Says which snapshot is the newest.
    Timestamp,
    /// Says which targets go together.
    Snapshot,
    /// Says what there is.
    Targets,
}

impl Role {
    /// As it is written in metadata and in file names.
    pub fn name(self) -> &'static str {
        match self {
            Role::Root => "root",
            Role::Timestamp => "timestamp",
            Role::Snapshot => "snapshot",
            Role::Targets => "targets",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why metadata, or what is known of it, is refused. What was believed before still is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// Nobody whom the role knows signed it.
    #[error("{0} metadata is not signed by anybody who may")]
    SigMissing(Role),
    /// Too few of those who may signed it.
    #[error("{role} metadata has {found} good signatures of {threshold}")]
    SigThreshold {
        /// Whose.
        role: Role,
        /// Keys with a good signature, each counted once.
        found: usize,
        /// How many it takes.
        threshold: usize,
    },
    /// A key or signature of a kind that this program does not know.
    #[error("{0} metadata is signed in a way that this release does not know")]
    SigAlgorithm(Role),
    /// A new root that the old one's keys, or its own, do not sign.
    #[error("root {version} is not signed by those of {side}")]
    RootRotation {
        /// Its version.
        version: u64,
        /// Who is missing.
        side: &'static str,
    },
    /// A root under another number than its own.
    #[error("root {found} in the place of root {expected}")]
    RootVersion {
        /// The next one.
        expected: u64,
        /// What it says.
        found: u64,
    },
    /// More new roots than anybody would need.
    #[error("more than {0} new roots")]
    RootCap(u64),
    /// Metadata older than what was seen.
    #[error("{role} {found} is older than {known}, which was seen")]
    Rollback {
        /// Whose.
        role: Role,
        /// What was seen.
        known: u64,
        /// What is offered.
        found: u64,
    },
    /// A role that was there is not named any more.
    #[error("{0} is not named any more")]
    RoleMissing(Role),
    /// Metadata that is too old to be believed: somebody holds back what is new.
    #[error("{role} metadata expired at {expired}")]
    Freeze {
        /// Whose.
        role: Role,
        /// When.
        expired: String,
    },
    /// Metadata that does not go together.
    #[error("{role} {found} where {expected} was named")]
    MixAndMatch {
        /// Whose.
        role: Role,
        /// What was named.
        expected: u64,
        /// What is there.
        found: u64,
    },
    /// Other bytes than were named.
    #[error("{what} has another digest than was named")]
    HashMismatch {
        /// Which file.
        what: String,
    },
    /// Another length than was named.
    #[error("{what}: {found} bytes where {expected} were named")]
    Length {
        /// Which file.
        what: String,
        /// As named.
        expected: u64,
        /// As found.
        found: u64,
    },
    /// More bytes than any such file may have.
    #[error("{what} is longer than {limit} bytes")]
    TooLarge {
        /// Which file.
        what: String,
        /// In bytes.
        limit: u64,
    },
    /// No such metadata at all.
    #[error("{what}: {why}")]
    Malformed {
        /// Which file.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// Signed, but for another role.
    #[error("a {found} in the place of {expected} metadata")]
    WrongType {
        /// What was asked for.
        expected: Role,
        /// What it says that it is.
        found: String,
    },
    /// Signed, but for another organisation or feed.
    #[error("signed for {found}, not for {expected}")]
    WrongTarget {
        /// What this endpoint subscribed to.
        expected: String,
        /// What the metadata is for.
        found: String,
    },
    /// The server does not have what it must.
    #[error("{0} is missing")]
    Missing(String),
    /// What was believed is lost: nothing can be told from an old copy of it any more.
    #[error("what was trusted is lost ({0}); subscribe anew, with the root that you were given")]
    Lost(String),
    /// An author named keys and thresholds that cannot be a root's.
    #[error("{0}")]
    Authority(String),
    /// A key that the role does not know.
    #[error("key {key} may not sign {role} metadata here")]
    NotItsKey {
        /// Whose metadata it is.
        role: Role,
        /// Which key.
        key: KeyId,
    },
    /// There is a draft already: two of one version would be one too many.
    #[error("{0} is under way")]
    DraftExists(String),
    /// A feed that has a root has its first one.
    #[error("the feed has begun already")]
    Begun,
    /// A feed without a root has nothing to build upon.
    #[error("the feed has no root yet that its keys signed")]
    NotBegun,
    /// A root that has its signatures, under which what is published would not be good.
    #[error("root {version} waits for {on}")]
    RootWaits {
        /// Its version.
        version: u64,
        /// What for.
        on: RootWaits,
    },
    /// Nothing that may be published.
    #[error("there are no targets yet that enough keys signed")]
    NothingToPublish,
    /// No file of metadata that could be signed.
    #[error("{0} is no draft of root or targets")]
    NotADraft(String),
    /// The number of a version is the highest that there is.
    #[error("{0} leaves no higher version")]
    LastVersion(String),
    /// Somebody else works on the same directory.
    #[error("another process works on this feed's metadata")]
    Busy,
    /// The source failed.
    #[error("reading {what}: {source}")]
    Source {
        /// Which file.
        what: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The state could not be read or written.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
}

impl TrustError {
    /// Whether it is about what somebody gave, who may be behind, damaged or hostile: another who
    /// carries the same feed may have what is right.
    pub fn is_of_what_came(&self) -> bool {
        matches!(
            self,
            TrustError::SigMissing(_)
                | TrustError::SigThreshold { .. }
                | TrustError::SigAlgorithm(_)
                | TrustError::RootRotation { .. }
                | TrustError::RootVersion { .. }
                | TrustError::Rollback { .. }
                | TrustError::RoleMissing(_)
                | TrustError::Freeze { .. }
                | TrustError::MixAndMatch { .. }
                | TrustError::HashMismatch { .. }
                | TrustError::Length { .. }
                | TrustError::TooLarge { .. }
                | TrustError::Malformed { .. }
                | TrustError::WrongType { .. }
                | TrustError::WrongTarget { .. }
        )
    }

    pub(crate) fn malformed(what: impl Into<String>, why: impl fmt::Display) -> Self {
        TrustError::Malformed { what: what.into(), why: why.to_string() }
    }
}
