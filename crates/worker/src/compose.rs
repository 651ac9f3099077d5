//! The compose task: a stack of layers over an image becomes one disk.
//!
//! ```text
//!   shared files of the image ── records of the layers ──▶ merged files, names and numbers
//!   entries of the stack ── plan (layer crate) ──▶ steps ─┐
//!                                        merged files ────┴─ in path order ─▶ composer a volume
//! ```

use std::collections::BTreeSet;

use goldleaf_block::MapExtent;
use goldleaf_layer::merge::dpkg::{InstallState, PackageName, packages};
use goldleaf_layer::merge::{FileSet, Record};
use goldleaf_layer::plan::{
    ComposeFacts, Conffile, PackageState, Part, PlannedOp, Planner, StackItem,
};
use goldleaf_layer::rules::RuleSet;
use goldleaf_layer::{Digest, Entry, Kind};
use goldleaf_tree::GuestPath;

use crate::derive::{LoaderCache, Use};
use crate::merging::{Merged, merge_stack, shared_files};
use crate::ops::Emitter;
use crate::protocol::{ComposeReply, ComposeTask, StackEntry, StackLayer};
use crate::serve::{Handed, refused};
use crate::site_rules::compile;
use crate::volumes::{Journal, Volumes};
use crate::{Channel, WorkerError};

/// Carries out a compose task.
pub fn compose(
    handed: &Handed,
    task: ComposeTask,
    channel: &mut Channel,
) -> Result<ComposeReply, WorkerError> {
    let disk = handed.disk(&task.disk)?;
    let volumes = Volumes::open(&disk, &task.volumes, Journal::Clean)?;
    let image = shared_files(&volumes.tree).map_err(refused)?;
    let merged = merge_stack(image, &task.apps_records, &task.user_records)?;
    let rules = compile(task.site_rules.as_ref(), &merged.all)?;
    let facts = StackFacts::new(&merged, rules, &task.apps_records, &task.user_records);
    let mut emitter = Emitter::new(handed, &task, &disk, &volumes, &merged)?;
    let mut planner = Planner::new(&volumes.tree, &facts);
    let mut loader = LoaderCache::new(&volumes.tree, &task.below)?;
    let mut steps: Vec<PlannedOp> = Vec::new();
    loop {
        let batch: Vec<StackEntry> = channel.receive()?;
        if batch.is_empty() {
            break;
        }
        for entry in batch {
            let StackEntry { path, layer, entry, runs } = entry;
            let seen = loader.see(&path, layer, &entry);
            let item = StackItem { layer: kind(layer), entry };
            match seen {
                Use::Plan => planner.push(path.clone(), item, &mut steps).map_err(refused)?,
                Use::Put => {
                    let (path, part) = (path.clone(), Part::Whole);
                    steps.push(PlannedOp::Put { path, item, part });
                }
                Use::Pass => {}
            }
            for step in steps.drain(..) {
                emitter.step(step, &path, &runs)?;
            }
        }
    }
    let reports = planner.finish();
    let (extents, metadata_blocks): (Vec<MapExtent>, u64) = emitter.finish()?;
    Ok(ComposeReply {
        extents,
        metadata_blocks,
        below: merged.below.into_iter().collect(),
        dormant: merged.dormant,
        reports,
        notes: merged.notes,
        stale: task.derived.is_empty() && loader.is_stale(),
    })
}

fn kind(layer: StackLayer) -> Kind {
    match layer {
        StackLayer::Apps(_) => Kind::Apps,
        StackLayer::Private(kind) => kind,
    }
}

/// What the planner asks about the stack.
struct StackFacts {
    rules: RuleSet,
    /// Packages that the guest will have installed.
    installed: BTreeSet<PackageName>,
    /// Of the apps layers' and of the user's packages, those that the stack below has now.
    superseded: [BTreeSet<PackageName>; 2],
    conffiles: std::collections::BTreeMap<GuestPath, String>,
}

impl StackFacts {
    fn new(merged: &Merged, rules: RuleSet, apps: &[Vec<Record>], user: &[Record]) -> Self {
        let superseded = |below: &FileSet, records: &[Record]| {
            goldleaf_layer::merge::dpkg::superseded(below, records)
        };
        let apps: Vec<Record> = apps.iter().flatten().cloned().collect();
        let mut conffiles = std::collections::BTreeMap::new();
        let mut installed = BTreeSet::new();
        for (name, state) in packages(&merged.all) {
            conffiles.extend(state.conffiles);
            if state.state == InstallState::Installed {
                installed.insert(name);
            }
        }
        let superseded = [superseded(&merged.image, &apps), superseded(&merged.below, user)];
        Self { rules, installed, superseded, conffiles }
    }
}

/// Whether a tag (`name` or `name:arch`) means a package.
fn tagged(tag: &str, name: &PackageName) -> bool {
    match tag.split_once(':') {
        Some((tag, arch)) => tag == name.name && arch == name.arch,
        None => tag == name.name,
    }
}

impl ComposeFacts for StackFacts {
    fn keeps(&self, path: &GuestPath) -> bool {
        use goldleaf_layer::rules::{KindClass, OwnerClass, PathFacts, State};
        let facts =
            PathFacts { owned_by: OwnerClass::Image, state: State::Changed, kind: KindClass::File };
        let rule = self.rules.evaluate(path, &facts);
        self.rules.rule(rule).is_some_and(|rule| rule.keep())
    }

    fn package(&self, name: &str, layer: Kind) -> PackageState {
        let superseded = &self.superseded[usize::from(layer != Kind::Apps)];
        if superseded.iter().any(|other| tagged(name, other)) {
            PackageState::Superseded
        } else if self.installed.iter().any(|other| tagged(name, other)) {
            PackageState::Higher
        } else {
            PackageState::Absent
        }
    }

    fn conffile(&self, path: &GuestPath, _entry: &Entry) -> Conffile {
        // dpkg's digests are MD5, of which nothing is known here: a copy of a superseded package's
        // configuration counts as edited, so that it is never lost.
        if self.conffiles.contains_key(path) { Conffile::Edited } else { Conffile::No }
    }

    fn content(&self, entry: &Entry) -> Option<Digest> {
        entry.digest
    }
}
