//! What composing left out or put over something newer, for a person to see.

use std::fmt;

use goldleaf_tree::GuestPath;
use serde::{Deserialize, Serialize};

use crate::Kind;

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is in the volume, over something that upstream changed.
    Shadows,
    /// It is not in the volume, and waits in its layer.
    KeptAside,
    /// It is not in the volume, because upstream has what it was for.
    Superseded,
    /// It is in the volume, alone.
    Kept,
}

/// Why an entry was not simply applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The layers below have the same there.
    SameBelow,
    /// What was to be removed is gone already.
    AlreadyGone,
    /// The entry says what was there when it was made, and upstream changed it since.
    UnchangedByUser,
    /// User and upstream changed the path.
    ChangedUpstream,
    /// User and upstream made the path, each something else.
    BothNew,
    /// The user changed the path, and upstream removed it.
    GoneUpstream,
    /// One side has a directory, the other has not.
    KindConflict,
    /// The parent directory is a link that leads elsewhere.
    ParentIsLink,
    /// The parent directory is no directory now.
    ParentIsNoDirectory,
    /// The parent directory of the entry is kept aside itself.
    ParentKeptAside,
    /// The package has the same or a higher version below.
    PackageSuperseded,
    /// The package that the entry belongs to is not installed.
    PackageAbsent,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::SameBelow => "the image has the same there",
            Reason::AlreadyGone => "it is gone from the image already",
            Reason::UnchangedByUser => "only the image changed it",
            Reason::ChangedUpstream => "the image changed it too",
            Reason::BothNew => "the image has its own there now",
            Reason::GoneUpstream => "the image has it no more",
            Reason::KindConflict => "a directory stands against something else",
            Reason::ParentIsLink => "its directory is a link in the image now",
            Reason::ParentIsNoDirectory => "its directory is no directory in the image now",
            Reason::ParentKeptAside => "its directory is kept aside",
            Reason::PackageSuperseded => "the image has its package in the same or a newer version",
            Reason::PackageAbsent => "its package is not installed",
        })
    }
}

/// Something that a person should know about a composed volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The path of the entry.
    pub path: GuestPath,
    /// The layer that it is in.
    pub layer: Kind,
    /// What became of it.
    pub outcome: Outcome,
    /// Why.
    pub reason: Reason,
}

impl Report {
    /// What a person can do about it.
    pub fn advice(&self) -> &'static str {
        match (self.outcome, self.reason) {
            (Outcome::Superseded, _) => "nothing to do",
            (Outcome::Kept, _) => "remove it if nothing needs it any more",
            (Outcome::Shadows, Reason::KindConflict) => {
                "move it away to see what the image has there"
            }
            (Outcome::Shadows, _) => {
                "compare it with the image's, and discard it if the image's will do"
            }
            (Outcome::KeptAside, Reason::PackageAbsent) => {
                "install the package again to have it back"
            }
            (Outcome::KeptAside, Reason::ChangedUpstream | Reason::BothNew) => {
                "the image's holds; a `keep` rule for the path gives the layer's back"
            }
            (Outcome::KeptAside, _) => "restore it under another path if it is needed",
        }
    }
}
