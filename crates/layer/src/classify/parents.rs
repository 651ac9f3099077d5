//! Directories of what is kept: an entry needs its parents, in a layer that lives as long as it.

use std::collections::HashMap;

use goldleaf_tree::{Change, GuestPath, NodeKind};

use super::{Classified, Destination, Facts, Reason};
use crate::Kind;

/// How long layers live: caches are cleared first, then applications, and data last.
fn lifetime(kind: Kind) -> u8 {
    match kind {
        Kind::Local => 0,
        Kind::Apps | Kind::UserApps => 1,
        Kind::Identity => 2,
        Kind::UserData => 3,
    }
}

/// The longest-lived layer that has something in a directory.
type Needs = HashMap<GuestPath, Kind>;

/// Keeps directories that hold something kept, and forgets removals below what is no directory now.
pub(super) fn settle(changes: &[Change], facts: &dyn Facts, all: &mut [Classified]) {
    let mut needs = Needs::new();
    // Backwards, what is in a directory comes before the directory. One that is not among the
    // changes was there before the session, so that nothing is needed of its own parents.
    for classified in all.iter_mut().rev() {
        let Some(change) = changes.get(classified.change) else { continue };
        if let Some(layer) = needs.remove(change.path()) {
            hold(change, facts, classified, layer);
        }
        let (Destination::Keep { layer, .. }, Some(parent)) =
            (&classified.destination, change.path().parent())
        else {
            continue;
        };
        let need = needs.entry(parent).or_insert(*layer);
        *need = longer(*need, *layer);
    }
    below_replaced(changes, facts, all);
}

fn longer(one: Kind, other: Kind) -> Kind {
    if lifetime(other) > lifetime(one) { other } else { one }
}

/// Keeps a directory that something of `needed` lies in, unless the layers below have it anyway.
/// Directories of packages stay with their package.
fn hold(change: &Change, facts: &dyn Facts, classified: &mut Classified, needed: Kind) {
    let Change::Put { path, node, .. } = change else { return };
    let is_below = || facts.below(path).is_some_and(|below| below.kind == NodeKind::Directory);
    if node.kind != NodeKind::Directory || is_below() {
        return;
    }
    match &mut classified.destination {
        Destination::Keep { layer, package: None, .. } => *layer = longer(*layer, needed),
        Destination::Drop | Destination::Shred | Destination::Forget => {
            classified.reason = Reason::HoldsKept;
            classified.destination = Destination::Keep {
                layer: needed,
                package: None,
                etc_edit: false,
                secret: false,
                skeleton: true,
            };
        }
        _ => {}
    }
}

/// A removal below a path that is no directory any more needs no whiteout: the new node hides all
/// that was there, and if that node is not kept, the old directory returns whole.
fn below_replaced(changes: &[Change], facts: &dyn Facts, all: &mut [Classified]) {
    let mut replaced: Option<&GuestPath> = None;
    for classified in all {
        match changes.get(classified.change) {
            Some(Change::Put { path, node, .. }) if node.kind != NodeKind::Directory => {
                replaced = Some(path);
            }
            Some(Change::Remove { path, .. }) if replaced.is_some_and(|r| path.starts_with(r)) => {
                if matches!(classified.destination, Destination::Whiteout { .. }) {
                    let known = facts.existing(path).is_some();
                    classified.destination =
                        if known { Destination::Forget } else { Destination::Drop };
                    classified.reason = Reason::ParentReplaced;
                }
            }
            _ => {}
        }
    }
}
