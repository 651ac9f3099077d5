//! Classification: which of a session's changes goes where.
//!
//! ```text
//!   change ─▶ facts ─▶ rules ─▶ target ─▶ what it means for this change ─▶ destination
//!             (owner, state, kind)        (removal? only times? only an edit? policy?)
//! ```
//!
//! The rules say where a *path* belongs; this module says what that means for a *change*: a removal
//! becomes a whiteout or is forgotten, a node that is as below shadows nothing and is not kept, a
//! directory that is not kept itself is kept for what it holds. Nothing here reads a guest: all
//! that must be known comes in through [`Facts`].
//!
//! Assumes that changes are sorted by path, one a path, and say state, not operations.

mod decide;
mod facts;
mod owner;
mod parents;
mod summary;

use goldleaf_tree::Change;
use serde::{Deserialize, Serialize};

use crate::Kind;
use crate::rules::{RuleRef, RuleSet, Walk};

pub use decide::facts_of;
pub use facts::{Below, Facts, PackageRef, Source};
pub use summary::{DirectoryCount, Group, Summary, summarize};

/// What a policy changes about classification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Whether what the user installs lives; if not, it is dropped at the reset.
    pub user_apps: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { user_apps: true }
    }
}

/// Where a change goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Destination {
    /// The node becomes an entry of a layer.
    Keep {
        /// The layer.
        layer: Kind,
        /// The package to tag the entry with.
        package: Option<String>,
        /// Only the content is the user's; owner and mode stay those of the layers below.
        etc_edit: bool,
        /// Private: never shown, never shared.
        secret: bool,
        /// A directory that is kept only for what it holds, or for its owner and mode.
        skeleton: bool,
    },
    /// The removal becomes a whiteout of a layer.
    Whiteout {
        /// The layer.
        layer: Kind,
        /// The package to tag the entry with.
        package: Option<String>,
    },
    /// Entries that private layers had for the path are removed from them, and what is below shows.
    Forget,
    /// Not kept: what is below shows again after the reset. Entries that private layers had before
    /// stay as they were.
    Drop,
    /// As `Drop`, and unreadable afterwards.
    Shred,
    /// The merge handler of that name makes records of it.
    Merge(String),
    /// No matter of layers.
    Ignore,
}

/// Why a change goes where it goes, beyond the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The rule says so.
    ByRule,
    /// The path is as it is below: nothing to keep.
    SameAsBelow,
    /// Only owner, mode or times of a file changed whose edits alone are kept, or it was deleted.
    EditsOnly,
    /// The content of configuration that the image's package declares editable.
    Conffile,
    /// What is gone was never below.
    OnlyPrivate,
    /// What is gone lay in a directory that is something else now.
    ParentReplaced,
    /// Policy lets nothing live that the user installs.
    UserAppsOff,
    /// A directory that is kept although its content is not.
    KeptDirectory,
    /// A directory that is kept because something in it is.
    HoldsKept,
}

/// A change with its destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Classified {
    /// Index into the changes.
    pub change: usize,
    /// Where it goes.
    pub destination: Destination,
    /// The rule that decided.
    pub rule: RuleRef,
    /// Why, beyond the rule.
    pub reason: Reason,
}

/// Gives every change its destination, in order.
pub fn classify(
    changes: &[Change],
    rules: &RuleSet,
    facts: &dyn Facts,
    options: Options,
) -> Vec<Classified> {
    let mut walk = Walk::default();
    let mut all: Vec<Classified> = changes
        .iter()
        .enumerate()
        .map(|(index, change)| {
            let (destination, rule, reason) =
                decide::decide(change, rules, facts, options, &mut walk);
            Classified { change: index, destination, rule, reason }
        })
        .collect();
    parents::settle(changes, facts, &mut all);
    all
}
