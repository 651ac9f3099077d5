//! The destination of one change, seen alone.

use goldleaf_tree::{Change, Node, NodeKind};

use super::facts::{Below, Facts, PackageRef};
use super::{Destination, Options, Reason, owner};
use crate::Kind;
use crate::rules::{PathFacts, Rule, RuleRef, RuleSet, State, Target, Walk};

/// What is known about a change.
struct Known<'a> {
    change: &'a Change,
    facts: &'a dyn Facts,
    below: Option<Below>,
    package: Option<PackageRef>,
    rule: Option<&'a Rule>,
}

type Decision = (Destination, Reason);

/// What rules may ask about a change, for [`RuleSet::explain`].
pub fn facts_of(change: &Change, facts: &dyn Facts) -> PathFacts {
    let below = facts.below(change.path());
    path_facts(change, below.as_ref(), owner::package(change, facts).as_ref())
}

fn path_facts(change: &Change, below: Option<&Below>, package: Option<&PackageRef>) -> PathFacts {
    let (state, kind) = match change {
        Change::Remove { kind, .. } => (State::Removed, *kind),
        Change::Put { node, .. } if below.is_some() => (State::Changed, node.kind),
        Change::Put { node, .. } => (State::New, node.kind),
    };
    let directory = kind == NodeKind::Directory;
    let owned_by = owner::class(package, below.map(|below| &below.source), directory);
    PathFacts { owned_by, state, kind: kind.into() }
}

pub(super) fn decide(
    change: &Change,
    rules: &RuleSet,
    facts: &dyn Facts,
    options: Options,
    walk: &mut Walk,
) -> (Destination, RuleRef, Reason) {
    let below = facts.below(change.path());
    let package = owner::package(change, facts);
    let asked = path_facts(change, below.as_ref(), package.as_ref());
    let rule = rules.evaluate_with(change.path(), &asked, walk);
    let known = Known { change, facts, below, package, rule: rules.rule(rule) };
    let (destination, reason) = match rules.target(rule, &asked) {
        Target::Ignore => (Destination::Ignore, Reason::ByRule),
        Target::Merge(handler) => (Destination::Merge(handler.clone()), Reason::ByRule),
        Target::Keep(Kind::UserApps) if !options.user_apps => {
            (known.lost(Destination::Drop), Reason::UserAppsOff)
        }
        Target::Keep(layer) => known.keep(*layer),
        Target::Os => known.conffile().unwrap_or_else(|| known.drop(Destination::Drop)),
        Target::Drop => known.drop(Destination::Drop),
        Target::Shred => known.drop(Destination::Shred),
    };
    (destination, rule, reason)
}

impl Known<'_> {
    /// The user's package that owns the path, or in whose data directory it lies.
    fn tag(&self, layer: Kind) -> Option<String> {
        let own = self.package.clone().filter(|package| package.user);
        let namesake = || match self.change {
            Change::Put { node, .. } if self.kept_directory(node) => self.namesake(),
            _ => None,
        };
        let tag = match layer {
            Kind::UserApps => own.or_else(namesake),
            Kind::UserData => own.or_else(|| owner::data_of(self.change.path(), self.facts)),
            Kind::Apps | Kind::Local | Kind::Identity => None,
        };
        tag.map(|package| package.name)
    }

    fn keep(&self, layer: Kind) -> Decision {
        let node = match self.change {
            Change::Remove { .. } => return self.remove(layer),
            Change::Put { node, .. } => node,
        };
        if self.same_as_below(node) {
            return (self.forget_or_drop(), Reason::SameAsBelow);
        }
        let edits_only = self.rule.is_some_and(Rule::edits_only) && self.below.is_some();
        if edits_only && !self.is_edit(node) {
            return (self.kept_edit_or_drop(), Reason::EditsOnly);
        }
        let skeleton = self.kept_directory(node);
        let layer = if skeleton { self.skeleton_layer(layer) } else { layer };
        let reason = if skeleton { Reason::KeptDirectory } else { Reason::ByRule };
        (self.entry(layer, edits_only, skeleton), reason)
    }

    fn entry(&self, layer: Kind, etc_edit: bool, skeleton: bool) -> Destination {
        let secret = self.rule.is_some_and(Rule::secret);
        Destination::Keep { layer, package: self.tag(layer), etc_edit, secret, skeleton }
    }

    fn remove(&self, layer: Kind) -> Decision {
        if self.below.is_none() {
            return (Destination::Forget, Reason::OnlyPrivate);
        }
        if self.rule.is_some_and(Rule::edits_only) {
            return (self.forget_or_drop(), Reason::EditsOnly);
        }
        let package = self.tag(layer);
        (Destination::Whiteout { layer, package }, Reason::ByRule)
    }

    fn drop(&self, how: Destination) -> Decision {
        match self.change {
            Change::Put { node, .. } if self.kept_directory(node) && !self.same_as_below(node) => {
                (self.entry(self.skeleton_layer(Kind::Local), false, true), Reason::KeptDirectory)
            }
            Change::Remove { .. } if self.below.is_none() => {
                (Destination::Forget, Reason::OnlyPrivate)
            }
            _ => (self.lost(how), Reason::ByRule),
        }
    }

    /// An edit of the content of configuration outside `/etc` that the image's package declares.
    fn conffile(&self) -> Option<Decision> {
        let Change::Put { node, .. } = self.change else { return None };
        let edited = self.below.is_some()
            && self.facts.is_conffile(self.change.path())
            && !self.same_as_below(node)
            && self.is_edit(node);
        edited.then(|| (self.entry(Kind::UserData, true, false), Reason::Conffile))
    }

    /// What becomes of a change that is not kept: where a private layer says something about the
    /// path, that is no longer true either.
    fn lost(&self, how: Destination) -> Destination {
        match (self.facts.existing(self.change.path()), self.change) {
            (Some(_), _) => Destination::Forget,
            (None, _) => how,
        }
    }

    fn forget_or_drop(&self) -> Destination {
        self.lost(Destination::Drop)
    }

    /// A change of owner or mode after an edit is dropped, and the edit of before stays.
    fn kept_edit_or_drop(&self) -> Destination {
        let meta_only = matches!(self.change, Change::Put { meta_only: true, .. });
        if meta_only { Destination::Drop } else { self.forget_or_drop() }
    }

    fn kept_directory(&self, node: &Node) -> bool {
        node.kind == NodeKind::Directory && self.rule.is_some_and(Rule::keep_directories)
    }

    /// Directories of a user's package go with the package, so that clearing caches spares them.
    fn skeleton_layer(&self, otherwise: Kind) -> Kind {
        let users = self.package.as_ref().is_some_and(|package| package.user);
        if users || self.namesake().is_some() { Kind::UserApps } else { otherwise }
    }

    fn namesake(&self) -> Option<PackageRef> {
        owner::namesake(self.change.path(), self.facts)
    }

    /// Whether a node differs from below in no more than times. Directories change their times
    /// whenever something in them does; an entry for that would only shadow the image's own.
    fn same_as_below(&self, node: &Node) -> bool {
        let (Some(below), Change::Put { xattrs, .. }) = (&self.below, self.change) else {
            return false;
        };
        below.kind == node.kind
            && (below.mode, below.uid, below.gid)
                == (node.attrs.mode, node.attrs.uid, node.attrs.gid)
            && below.flags == node.attrs.flags
            && below.xattrs == *xattrs
            && self.same_content(node)
    }

    fn same_content(&self, node: &Node) -> bool {
        if !matches!(node.kind, NodeKind::File | NodeKind::Symlink) {
            return true;
        }
        let untouched = matches!(self.change, Change::Put { meta_only: true, .. })
            && self.facts.existing(self.change.path()).is_none();
        untouched || self.digests_equal() == Some(true)
    }

    fn digests_equal(&self) -> Option<bool> {
        Some(self.facts.below_digest(self.change.path())? == self.facts.digest(self.change)?)
    }

    /// Whether a path that below has, has another content now.
    fn is_edit(&self, node: &Node) -> bool {
        let content = |kind| matches!(kind, NodeKind::File | NodeKind::Symlink);
        let Change::Put { meta_only, .. } = self.change else { return false };
        let Some(below) = &self.below else { return false };
        content(node.kind)
            && content(below.kind)
            && !meta_only
            && (below.kind != node.kind || self.digests_equal() != Some(true))
    }
}
