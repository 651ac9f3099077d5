//! The harvest task: a finished session's writes become file changes, and each change a fate.
//!
//! ```text
//!   dirty blocks ── diff a volume ──▶ changes ── parent: which layers have these paths? ──┐
//!   shared files below, after ── handlers ──▶ records                                     │
//!                                                 rules, facts ── classify ◀──────────────┘
//!                                                                    └──▶ items
//! ```

use std::mem::ManuallyDrop;

use goldleaf_block::BLOCK_SIZE;
use goldleaf_host::planted;
use goldleaf_layer::classify::{
    Classified, Destination, Facts, Options, Reason, classify, summarize,
};
use goldleaf_layer::merge::accounts::{Names, acl_to_names};
use goldleaf_layer::merge::derived::ld_cache;
use goldleaf_layer::merge::dpkg::not_at_rest;
use goldleaf_layer::merge::{DiffContext, FileSet, Record, handler_of, handlers};
use goldleaf_layer::plan::bare_digest;
use goldleaf_layer::rules::RuleSet;
use goldleaf_layer::{Content, Digest, Entry, EntryAttrs, EntryNode, Kind};
use goldleaf_tree::{Change, FileTree, GuestPath, Node, NodeId, NodeKind};

use crate::channel::BATCH;
use crate::facts::{GuestFacts, Packages};
use crate::merging::{owned, shared_files};
use crate::mounted::MountedTree;
use crate::outside;
use crate::protocol::{
    DiskRun, Fate, HarvestMode, HarvestReply, HarvestTask, Item, PathFacts, Reply,
};
use crate::serve::{Handed, refused};
use crate::site_rules::compile;
use crate::volumes::{Journal, Volumes, on_disk, within};
use crate::{Channel, WorkerError};

/// Items that are sent at once. Few, because the parent files them while the next are made.
const ITEMS: usize = 64;

/// Carries out a harvest.
pub fn harvest(
    handed: &Handed,
    task: HarvestTask,
    channel: &mut Channel,
) -> Result<HarvestReply, WorkerError> {
    // The process ends behind its answer: nobody waits until what was read is taken apart.
    let open = |spec, journal| -> Result<_, WorkerError> {
        Ok(ManuallyDrop::new(Volumes::open(&handed.disk(spec)?, &task.volumes, journal)?))
    };
    let before = open(&task.before, Journal::Clean)?;
    let after = open(&task.after, Journal::Replay)?;
    let outside = outside::look(&handed.disk(&task.after)?, &task.volumes, &task.dirty)?;
    let image = open(&task.image, Journal::Clean)?;
    let found = ManuallyDrop::new(diff(&before, &after, &task)?);
    let known = ask(channel, &found.changes)?;
    let shared = shared_files(&after.tree).map_err(refused)?;
    let below: FileSet = task.below.iter().cloned().collect();
    let packages = Packages::read(&below, &shared, &after.tree).map_err(refused)?;
    let rules = compile(task.site_rules.as_ref(), &shared)?;
    let trees: [&dyn FileTree; 3] = [&before.tree, &after.tree, &image.tree];
    let facts = ManuallyDrop::new(GuestFacts::new(trees, &packages, known));
    let classified =
        ManuallyDrop::new(classify(&found.changes, &rules, &*facts, Options::default()));
    let summary = summarize(&found.changes, &classified);
    let work = Work {
        facts: &facts,
        names: Names::parse(&shared),
        packages: &packages,
        rules: &rules,
        after: &after,
        mode: task.mode,
        below_key: task.below_key,
        session: task.session,
    };
    work.send(channel, &found.changes, &classified)?;
    let mut records = work.records(&below, &shared)?;
    records.retain(|record| !removes_image_package(record));
    Ok(HarvestReply {
        records,
        notes: outside.notes.into_iter().chain(not_at_rest(&shared)).collect(),
        summary,
        explained: found.explained,
        replayed: found.replayed,
        hibernated: outside.hibernated,
    })
}

/// The image's own packages come back at the reset with their files, so their removal is no record.
fn removes_image_package(record: &Record) -> bool {
    let database = ["status:", "extended:"].iter().any(|tag| record.key.starts_with(tag));
    database && record.ancestor.is_some() && record.value.is_none()
}

struct Found {
    changes: Vec<Change>,
    explained: bool,
    replayed: u64,
}

/// The changes of all volumes, with paths and node ids as the guest's whole tree has them.
fn diff(before: &Volumes, after: &Volumes, task: &HarvestTask) -> Result<Found, WorkerError> {
    let mut found = Found { changes: Vec::new(), explained: true, replayed: 0 };
    for (index, spec) in task.volumes.iter().enumerate() {
        let (_, old) = &before.tree.volumes()[index];
        let (_, new) = &after.tree.volumes()[index];
        let dirty = within(&task.dirty, spec);
        let diff = if task.full {
            goldleaf_ext4::diff_full(old, new)
        } else {
            goldleaf_ext4::diff(old, new, &dirty)
        };
        let diff = diff.map_err(refused)?;
        found.explained &= !diff.stats.full;
        found.replayed += new.replayed_blocks().len() as u64;
        for change in diff.changes {
            found.changes.push(whole(change, &spec.mount, index)?);
        }
    }
    found.changes.sort_by(|a, b| a.path().cmp(b.path()));
    Ok(found)
}

fn whole(change: Change, mount: &GuestPath, volume: usize) -> Result<Change, WorkerError> {
    let at = |path: &GuestPath| mount.append(path).map_err(refused);
    Ok(match change {
        Change::Remove { path, kind } => Change::Remove { path: at(&path)?, kind },
        Change::Put { path, node, target, xattrs, extents, existed, meta_only } => {
            let id = MountedTree::<goldleaf_ext4::Volume>::outer(volume, node.id);
            let (path, node) = (at(&path)?, Node { id, ..node });
            Change::Put { path, node, target, xattrs, extents, existed, meta_only }
        }
    })
}

/// Asks the parent what the layers have at the changed paths.
fn ask<'a>(
    channel: &mut Channel,
    changes: &'a [Change],
) -> Result<Vec<(&'a GuestPath, PathFacts)>, WorkerError> {
    let mut known = Vec::with_capacity(changes.len());
    for batch in changes.chunks(BATCH) {
        let paths: Vec<&GuestPath> = batch.iter().map(Change::path).collect();
        channel.send(&Reply::Done(&paths))?;
        let answers: Vec<PathFacts> = channel.receive()?;
        if answers.len() != paths.len() {
            return Err(WorkerError::Protocol {
                expected: "one answer a path",
                found: format!("{} for {}", answers.len(), paths.len()),
            });
        }
        known.extend(paths.into_iter().zip(answers));
    }
    channel.send(&Reply::Done(Vec::<GuestPath>::new()))?;
    Ok(known)
}

/// Turns classified changes into items.
struct Work<'a> {
    facts: &'a GuestFacts<'a>,
    names: Names,
    packages: &'a Packages,
    rules: &'a RuleSet,
    after: &'a Volumes,
    mode: HarvestMode,
    below_key: Digest,
    session: [u8; 16],
}

impl Work<'_> {
    fn send(
        &self,
        channel: &mut Channel,
        changes: &[Change],
        classified: &[Classified],
    ) -> Result<(), WorkerError> {
        for batch in classified.chunks(ITEMS) {
            let items = batch.iter().filter_map(|one| {
                let change = changes.get(one.change)?;
                (one.destination != Destination::Ignore).then(|| self.item(change, one))
            });
            let items: Vec<Item> = items.collect::<Result<_, _>>()?;
            if !items.is_empty() {
                channel.send(&Reply::Done(items))?;
                channel.flush()?;
            }
        }
        channel.send(&Reply::Done(Vec::<Item>::new()))?;
        channel.flush()
    }

    fn item(&self, change: &Change, one: &Classified) -> Result<Item, WorkerError> {
        let (present, existed, size) = match change {
            Change::Put { node, existed, .. } => (true, *existed, node.size),
            Change::Remove { .. } => (false, true, 0),
        };
        let path = change.path().clone();
        let (fate, why) = if handler_of(&path).is_some() {
            (Fate::Merged, "shared by several layers: kept as records".to_string())
        } else {
            (self.fate(change, one)?, self.why(one))
        };
        Ok(Item { path, present, existed, size, fate, why })
    }

    fn fate(&self, change: &Change, one: &Classified) -> Result<Fate, WorkerError> {
        let keep = |layer: Kind, package: &Option<String>, edit: bool| {
            self.keep(change, layer, package.clone(), edit)
        };
        Ok(match (&one.destination, self.mode) {
            (Destination::Keep { layer, package, etc_edit, .. }, HarvestMode::Desktop) => {
                keep(*layer, package, *etc_edit)?
            }
            (Destination::Keep { layer, package, etc_edit, .. }, HarvestMode::Record) => {
                match layer {
                    Kind::Local | Kind::Identity => Fate::Drop,
                    _ if in_home(change.path()) => Fate::Drop,
                    _ => keep(Kind::Apps, package, *etc_edit)?,
                }
            }
            (Destination::Whiteout { .. }, _) if planted("a removal is no change") => Fate::Forget,
            (Destination::Whiteout { layer, package }, mode) => {
                let layer = if mode == HarvestMode::Record { Kind::Apps } else { *layer };
                keep(layer, package, false)?
            }
            (Destination::Merge(_), mode) => self.derived(change, mode)?,
            (Destination::Forget, _) => Fate::Forget,
            (Destination::Drop | Destination::Ignore, _) => Fate::Drop,
            (Destination::Shred, _) => Fate::Shred,
        })
    }

    /// A file computed from others (a cache of libraries, of icons): the session's holds as long as
    /// below is as it was; the composer sees to that by its origin. That of the cache of libraries
    /// is all that is below, for it is computed from all of it.
    fn derived(&self, change: &Change, mode: HarvestMode) -> Result<Fate, WorkerError> {
        let same = self.facts.digest(change) == self.facts.below_digest(change.path());
        let gone = matches!(change, Change::Remove { .. });
        let is_ld_cache = ld_cache::is_cache(change.path());
        // What a user compiles has no package, and its libraries are to be found all the same.
        if same || gone || !(is_ld_cache || self.packages.any()) {
            return Ok(match self.facts.existing(change.path()) {
                Some(_) => Fate::Forget,
                None => Fate::Drop,
            });
        }
        let layer = if mode == HarvestMode::Record { Kind::Apps } else { Kind::UserApps };
        let mut fate = self.keep(change, layer, None, false)?;
        if let Fate::Keep { entry, .. } = &mut fate
            && is_ld_cache
        {
            entry.origin = Some(self.below_key);
        }
        Ok(fate)
    }

    fn keep(
        &self,
        change: &Change,
        layer: Kind,
        package: Option<String>,
        edit: bool,
    ) -> Result<Fate, WorkerError> {
        let origin = self.origin(change).filter(|_| !planted("an entry forgets what it replaced"));
        let edit = edit && !planted("an edit is taken for a whole file");
        let Change::Put { node, target, xattrs, extents, .. } = change else {
            let entry =
                Entry { node: EntryNode::Whiteout, package, origin, digest: None, edit: false };
            return Ok(Fate::Keep { layer, entry, runs: Vec::new() });
        };
        let mut xattrs = xattrs.clone();
        let acl_names = acl_to_names(&mut xattrs, &self.names).map_err(refused)?;
        let content = Content { size: file_size(node), extents: Vec::new() };
        let entry = EntryNode::Node {
            kind: node.kind,
            attrs: self.attrs(node),
            xattrs,
            acl_names,
            content,
            target: target.clone(),
            link: link(node, &self.session),
        };
        let runs = self.runs(node, extents);
        let digest = origin.and_then(|_| self.facts.digest(change));
        Ok(Fate::Keep { layer, entry: Entry { node: entry, package, origin, digest, edit }, runs })
    }

    /// What is below, for the composer to know whether it moved. Directories are compared only with
    /// what is put in their place: two of them do not conflict.
    fn origin(&self, change: &Change) -> Option<Digest> {
        let directory = |kind: NodeKind| kind == NodeKind::Directory;
        let replaces = match change {
            Change::Put { node, .. } => !directory(node.kind),
            Change::Remove { .. } => false,
        };
        let bare = || {
            let kind = self.facts.below(change.path())?.kind;
            if directory(kind) && !replaces { None } else { bare_digest(kind) }
        };
        self.facts.below_digest(change.path()).or_else(bare)
    }

    fn attrs(&self, node: &Node) -> EntryAttrs {
        let attrs = node.attrs;
        EntryAttrs {
            mode: attrs.mode,
            user: self.names.owner_of_uid(attrs.uid),
            group: self.names.owner_of_gid(attrs.gid),
            mtime: attrs.mtime,
            ctime: attrs.ctime,
            crtime: attrs.crtime,
            flags: attrs.flags,
        }
    }

    /// Where the content is on the disk. Blocks behind the end, which a guest may preallocate, are
    /// no content.
    fn runs(&self, node: &Node, extents: &[goldleaf_tree::FileExtent]) -> Vec<DiskRun> {
        let spec = &self.after.specs[MountedTree::<goldleaf_ext4::Volume>::volume_of(node.id)];
        let end = file_size(node).div_ceil(BLOCK_SIZE);
        let within = extents.iter().filter(|extent| extent.file_block < end);
        within
            .map(|extent| DiskRun {
                file_block: extent.file_block,
                blocks: extent.blocks.min(end - extent.file_block),
                disk_block: on_disk(spec, extent.volume_block),
            })
            .collect()
    }

    fn why(&self, one: &Classified) -> String {
        let rule = match self.rules.rule(one.rule) {
            Some(rule) => rule.why().to_string(),
            None => "no rule fits: what nobody knows is the user's".to_string(),
        };
        match one.reason {
            Reason::ByRule => rule,
            reason => format!("{rule} ({})", words(reason)),
        }
    }

    /// What the shared files say differently from below.
    fn records(&self, below: &FileSet, after: &FileSet) -> Result<Vec<Record>, WorkerError> {
        let context = DiffContext {
            package_of_account: &|name| self.packages.maker(name),
            package_of_path: &|path| self.packages.owner(path),
            all_to: (self.mode == HarvestMode::Record).then_some(Kind::Apps),
        };
        let mut records = Vec::new();
        for handler in handlers() {
            let (old, new) = (owned(below, *handler), owned(after, *handler));
            records.extend(handler.diff(&old, &new, &context).map_err(refused)?);
        }
        Ok(records)
    }
}

fn words(reason: Reason) -> &'static str {
    match reason {
        Reason::ByRule => "by rule",
        Reason::SameAsBelow => "as in the image",
        Reason::EditsOnly => "only edits of the content are kept",
        Reason::Conffile => "an edit of configuration",
        Reason::OnlyPrivate => "it never was in the image",
        Reason::ParentReplaced => "its directory is gone",
        Reason::UserAppsOff => "policy keeps no applications of the user's",
        Reason::KeptDirectory => "the directory itself is kept",
        Reason::HoldsKept => "something in it is kept",
    }
}

fn file_size(node: &Node) -> u64 {
    if node.kind == NodeKind::File { node.size } else { 0 }
}

fn in_home(path: &GuestPath) -> bool {
    let first = path.components().next();
    first == Some(b"home".as_slice()) || first == Some(b"root".as_slice())
}

/// A number for the names of one node, which no other node of the layer has, of this session or of
/// another one: inode numbers come again, and with an image's file everything that it was born
/// with, and even the time of its last change where only a directory above it was moved.
fn link(node: &Node, session: &[u8; 16]) -> Option<u64> {
    let apart = planted("names of one node are kept apart");
    if apart || node.links < 2 || node.kind == NodeKind::Directory {
        return None;
    }
    let NodeId(id) = node.id;
    let Digest(bytes) = Digest::of(&[&session[..], &id.to_le_bytes()].concat());
    Some(u64::from_le_bytes(bytes[..8].try_into().unwrap_or_default()))
}
