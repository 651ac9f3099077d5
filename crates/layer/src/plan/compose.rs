//! What becomes of one entry when it meets the image as it is now. Pure: a table in code.
//!
//! | entry | below now | holds |
//! |---|---|---|
//! | any | as when the entry was made | the entry |
//! | node, file or link | changed | `user-data`, `identity`: the entry. `local`, `apps`, `user-apps`: below, unless a `keep` rule or a package of a higher version speaks for the entry |
//! | an edit | changed | the edit; below's is put beside it |
//! | as it was when made | changed | below |
//! | node | gone | the entry |
//! | node | a directory against none | `user-data`: the entry. Others: below |
//! | whiteout | changed | as for a node; of a directory outside `user-data`: only if nothing is left in it |
//!
//! "Below holds" never deletes an entry: it stays in its layer and is reported.

use goldleaf_tree::NodeKind;

use super::report::{Outcome, Reason};
use crate::{Digest, Entry, EntryNode, Kind};

/// What the image's newer copy of a file is called beside an edited one: dpkg's own name for it.
pub const UPSTREAM_SUFFIX: &str = ".dpkg-dist";

/// What is below at the entry's path now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lower {
    /// Its kind.
    pub kind: NodeKind,
    /// Digest of a file's content or a link's target; may be `None` where [`needs_digest`] says
    /// that nothing depends on it.
    pub digest: Option<Digest>,
}

impl Lower {
    fn is_directory(&self) -> bool {
        self.kind == NodeKind::Directory
    }
}

/// How the package of an entry stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PackageState {
    /// The entry belongs to no package.
    None,
    /// The layers below have the package not at all, or in a lower version.
    Higher,
    /// The layers below have the package in the same or a higher version.
    Superseded,
    /// The package is not installed.
    Absent,
}

/// Whether a path is configuration of a package, and whose content it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Conffile {
    /// It is not.
    No,
    /// It is, as the package brought it.
    Pristine,
    /// It is, and a person edited it.
    Edited,
}

/// What stands at the entry's parent directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Parent {
    /// A directory.
    Directory,
    /// Nothing.
    Gone,
    /// A link of the merged `/usr`.
    MergedUsr,
    /// Another link.
    Link,
    /// A file or the like.
    Other,
    /// A directory entry of the stack that was kept aside.
    KeptAside,
    /// Something else than a directory that the stack itself has there.
    Covered,
}

/// All that a decision depends on.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// The layer of the entry.
    pub layer: Kind,
    /// The entry.
    pub entry: &'a Entry,
    /// A `keep` rule names the path.
    pub keep: bool,
    /// Digest of the entry's own content or target; `None` if it cannot be told.
    pub content: Option<Digest>,
    /// What is below now.
    pub lower: Option<Lower>,
    /// How the entry's package stands.
    pub package: PackageState,
    /// Whether the path is a package's configuration.
    pub conffile: Conffile,
    /// What stands at its parent.
    pub parent: Parent,
}

/// What becomes of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Decision {
    /// It holds. With a report if a person should know.
    Apply(Option<(Outcome, Reason)>),
    /// It holds, after the parent directory is made again.
    ApplyInNewParent(Option<(Outcome, Reason)>),
    /// Its content holds; owner and mode are those below.
    ApplyContent,
    /// Its owner, mode and extended attributes hold; the content is what is below.
    ApplyAttributes,
    /// It holds, and what is below is put beside it with this suffix.
    ApplyAndKeepUpstream {
        /// Appended to the name.
        suffix: &'static str,
        /// Whether owner and mode are those below.
        content_only: bool,
    },
    /// It holds as a removal of a directory, if nothing is left in that.
    RemoveIfEmpty,
    /// The question is to be asked again where the parent's link leads.
    FollowSymlinkParent,
    /// Below holds, and the entry waits in its layer.
    KeepAside {
        /// Why.
        reason: Reason,
    },
    /// Below holds, and nothing is lost by it.
    Skip {
        /// Why.
        reason: Reason,
    },
}

impl Decision {
    /// What to report, if a person should know.
    pub fn report(&self) -> Option<(Outcome, Reason)> {
        match *self {
            Decision::Apply(report) | Decision::ApplyInNewParent(report) => report,
            Decision::ApplyAndKeepUpstream { .. } => {
                Some((Outcome::Shadows, Reason::ChangedUpstream))
            }
            Decision::KeepAside { reason } => Some((Outcome::KeptAside, reason)),
            Decision::Skip { reason: Reason::PackageAbsent } => {
                Some((Outcome::KeptAside, Reason::PackageAbsent))
            }
            Decision::Skip { reason: reason @ Reason::PackageSuperseded } => {
                Some((Outcome::Superseded, reason))
            }
            Decision::Skip { .. }
            | Decision::ApplyContent
            | Decision::ApplyAttributes
            | Decision::RemoveIfEmpty
            | Decision::FollowSymlinkParent => None,
        }
    }
}

/// Whether a decision about `entry` depends on the digest of what is below.
pub fn needs_digest(layer: Kind, entry: &Entry, lower: NodeKind) -> bool {
    let content = matches!(lower, NodeKind::File | NodeKind::Symlink);
    let settled = entry.origin.is_none() && matches!(layer, Kind::Identity | Kind::Local);
    content && !settled
}

/// Decides what becomes of an entry.
pub fn decide(case: &Case<'_>) -> Decision {
    if let Some(decision) = by_package(case) {
        return decision;
    }
    match case.parent {
        Parent::Directory => at_path(case),
        Parent::MergedUsr => Decision::FollowSymlinkParent,
        _ if matches!(case.entry.node, EntryNode::Whiteout) => {
            Decision::Skip { reason: Reason::AlreadyGone }
        }
        Parent::Gone => Decision::ApplyInNewParent(gone_report(case)),
        Parent::Other if case.layer == Kind::UserData => {
            Decision::ApplyInNewParent(Some((Outcome::Shadows, Reason::ParentIsNoDirectory)))
        }
        Parent::Other | Parent::Covered => {
            Decision::KeepAside { reason: Reason::ParentIsNoDirectory }
        }
        Parent::Link => Decision::KeepAside { reason: Reason::ParentIsLink },
        Parent::KeptAside => Decision::KeepAside { reason: Reason::ParentKeptAside },
    }
}

/// What the package alone decides: the higher version wins, and data waits for its package.
fn by_package(case: &Case<'_>) -> Option<Decision> {
    let apps = matches!(case.layer, Kind::Apps | Kind::UserApps);
    match case.package {
        PackageState::Absent if apps || case.layer == Kind::UserData => {
            Some(Decision::Skip { reason: Reason::PackageAbsent })
        }
        PackageState::Superseded if apps => match (case.conffile, case.lower) {
            (Conffile::Edited, Some(lower)) if content(lower.kind) && !same_content(case) => {
                Some(Decision::ApplyAndKeepUpstream { suffix: UPSTREAM_SUFFIX, content_only: true })
            }
            _ => Some(Decision::Skip { reason: Reason::PackageSuperseded }),
        },
        _ => None,
    }
}

fn at_path(case: &Case<'_>) -> Decision {
    let node = match &case.entry.node {
        EntryNode::Whiteout => return whiteout(case),
        EntryNode::Node { kind, .. } => *kind,
    };
    let Some(lower) = case.lower else {
        return Decision::Apply(gone_report(case));
    };
    match (node == NodeKind::Directory, lower.is_directory()) {
        (true, true) => directory(case),
        (false, false) => content_node(case, node, lower),
        _ => kind_conflict(case),
    }
}

fn whiteout(case: &Case<'_>) -> Decision {
    let Some(lower) = case.lower else {
        return Decision::Skip { reason: Reason::AlreadyGone };
    };
    let insists = insists(case);
    match (lower.is_directory(), case.entry.origin) {
        // What stood there was a directory, and is one: lower layers may have filled it since.
        (true, None) if !insists => Decision::RemoveIfEmpty,
        _ if unchanged_below(case) => Decision::Apply(None),
        (true, None) => Decision::Apply(None),
        _ if insists => Decision::Apply(Some((Outcome::Shadows, Reason::ChangedUpstream))),
        (true, Some(_)) | (false, None) => Decision::KeepAside { reason: Reason::KindConflict },
        (false, Some(_)) => Decision::KeepAside { reason: Reason::ChangedUpstream },
    }
}

/// Two directories: only owner, mode and the like can differ.
fn directory(case: &Case<'_>) -> Decision {
    if insists(case) || case.layer == Kind::Local {
        Decision::Apply(None)
    } else {
        Decision::Skip { reason: Reason::SameBelow }
    }
}

/// A directory against none. Where upstream has not moved since, the user meant it.
fn kind_conflict(case: &Case<'_>) -> Decision {
    if unchanged_below(case) {
        return Decision::Apply(None);
    }
    let users = case.layer == Kind::UserData || case.keep || case.package == PackageState::Higher;
    if users {
        Decision::Apply(Some((Outcome::Shadows, Reason::KindConflict)))
    } else {
        Decision::KeepAside { reason: Reason::KindConflict }
    }
}

/// Neither side is a directory.
fn content_node(case: &Case<'_>, node: NodeKind, lower: Lower) -> Decision {
    if unchanged_below(case) {
        return if case.entry.edit { Decision::ApplyContent } else { Decision::Apply(None) };
    }
    let same = same_content(case) || (!content(node) && node == lower.kind);
    if same {
        return same_on_both(case);
    }
    let by_user = case.entry.origin.is_none() || case.content != case.entry.origin;
    let reason =
        if case.entry.origin.is_some() { Reason::ChangedUpstream } else { Reason::BothNew };
    match case.layer {
        _ if case.entry.edit && content(lower.kind) && by_user && !case.keep => {
            Decision::ApplyAndKeepUpstream { suffix: UPSTREAM_SUFFIX, content_only: true }
        }
        _ if !by_user => unchanged_by_user(case, node, lower),
        Kind::Identity => Decision::Apply(None),
        Kind::Local if !case.keep => Decision::Skip { reason },
        _ if insists(case) => Decision::Apply(Some((Outcome::Shadows, reason))),
        _ => Decision::KeepAside { reason },
    }
}

/// Both sides came to the same content. Attributes of the user's own kinds still count.
fn same_on_both(case: &Case<'_>) -> Decision {
    let own = matches!(case.layer, Kind::UserData | Kind::Identity);
    if own && !case.entry.edit {
        Decision::Apply(None)
    } else {
        Decision::Skip { reason: Reason::SameBelow }
    }
}

/// The entry's content is what was below when it was made: only attributes can be the user's.
fn unchanged_by_user(case: &Case<'_>, node: NodeKind, lower: Lower) -> Decision {
    let own = matches!(case.layer, Kind::UserData | Kind::Identity) && !case.entry.edit;
    if own && node == lower.kind && node == NodeKind::File {
        Decision::ApplyAttributes
    } else {
        Decision::Skip { reason: Reason::UnchangedByUser }
    }
}

/// Whether the entry holds against a newer state below.
fn insists(case: &Case<'_>) -> bool {
    match case.layer {
        Kind::UserData | Kind::Identity => true,
        Kind::Apps | Kind::UserApps => case.keep || case.package == PackageState::Higher,
        Kind::Local => case.keep,
    }
}

fn gone_report(case: &Case<'_>) -> Option<(Outcome, Reason)> {
    let changed = case.entry.origin.is_some() && case.content != case.entry.origin;
    (changed && case.layer != Kind::Local).then_some((Outcome::Kept, Reason::GoneUpstream))
}

fn content(kind: NodeKind) -> bool {
    matches!(kind, NodeKind::File | NodeKind::Symlink)
}

/// What stands for a content in [`Entry::origin`] where there is none to compare, only a kind.
pub fn bare_digest(kind: NodeKind) -> Option<Digest> {
    (!content(kind)).then(|| Digest::of(format!("no content: {kind:?}").as_bytes()))
}

/// Whether below is as it was when the entry was made.
fn unchanged_below(case: &Case<'_>) -> bool {
    match (case.entry.origin, case.lower) {
        (Some(origin), Some(lower)) => {
            lower.digest.or_else(|| bare_digest(lower.kind)) == Some(origin)
        }
        (None, None) => true,
        _ => false,
    }
}

fn same_content(case: &Case<'_>) -> bool {
    let kinds = match (&case.entry.node, case.lower) {
        (EntryNode::Node { kind, .. }, Some(lower)) => *kind == lower.kind,
        _ => false,
    };
    kinds && case.content.is_some() && case.content == case.lower.and_then(|lower| lower.digest)
}

#[cfg(test)]
mod tests;
