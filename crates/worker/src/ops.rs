//! Steps of a plan, put in the order of paths and carried out on the volumes they belong to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use goldleaf_block::{BlockCount, BlockNo, BlockRange, MapDevice, MapExtent, SourceIndex, Target};
use goldleaf_ext4_compose::{
    ComposeError, Composer, Content, ContentRun, Op, Options, PutNode, Shortage,
};
use goldleaf_host::{File, planted};
use goldleaf_layer::merge::accounts::{Names, acl_to_ids};
use goldleaf_layer::merge::{FileSet, FileState};
use goldleaf_layer::plan::{Part, PlannedOp};
use goldleaf_layer::{Digest, Entry, EntryAttrs, EntryNode, Kind, Owner};
use goldleaf_tree::{Attrs, FileTree, GuestPath, Node, NodeId, NodeKind, Timestamp, resolve};

use crate::WorkerError;
use crate::merging::Merged;
use crate::protocol::{ComposeTask, SourceRun, TooSmall, VolumeSpec};
use crate::serve::{Handed, refused};
use crate::volumes::{Volumes, first_block, on_disk, view};

/// `nobody` and `nogroup`: who gets what belongs to an account that the stack does not have.
const NOBODY: u32 = 65534;

/// A step that is held back.
enum Held {
    Op(Op),
    /// A directory is to go if nothing is left in it.
    IfEmpty(GuestPath),
}

impl Held {
    fn path(&self) -> &GuestPath {
        match self {
            Held::Op(op) => op.path(),
            Held::IfEmpty(path) => path,
        }
    }
}

/// Carries steps out.
pub struct Emitter<'a> {
    disk: Arc<MapDevice>,
    volumes: &'a Volumes,
    names: &'a Names,
    now: Timestamp,
    composers: Vec<Option<Composer>>,
    open: Box<dyn FnMut(usize, BlockNo) -> Result<Composer, WorkerError> + 'a>,
    /// Steps that belong further on, by path.
    later: BTreeMap<GuestPath, Op>,
    /// Derived files that were built anew.
    derived: Vec<GuestPath>,
    /// A removal that waits to see whether something is put at its path.
    removal: Option<GuestPath>,
    /// Steps below a directory that is to go if nothing is left in it.
    held: Vec<Held>,
    /// What is to go from directories that were made anew.
    cleared: BTreeSet<GuestPath>,
    extents: Vec<MapExtent>,
    slots: u64,
}

impl<'a> Emitter<'a> {
    /// For a compose task. The merged files that differ from the image's are steps of their own.
    pub fn new(
        handed: &'a Handed,
        task: &ComposeTask,
        disk: &Arc<MapDevice>,
        volumes: &'a Volumes,
        merged: &'a Merged,
    ) -> Result<Self, WorkerError> {
        let metadata: Arc<dyn File> = handed.file(task.metadata)?;
        let (now, source) = (task.now, task.metadata_source);
        let base = disk.clone();
        let open = Box::new(move |index: usize, slot: BlockNo| {
            let device = view(&base, &volumes.specs[index])?;
            let options = Options { now, zero_unused_inode_tables: true };
            Composer::open(device, metadata.clone(), slot, source, options).map_err(refused)
        });
        let later = given_files(volumes, merged, &task.derived, now)?;
        let derived = task.derived.iter().map(|(path, _)| path.clone()).collect();
        Ok(Self {
            disk: disk.clone(),
            volumes,
            names: &merged.names,
            now,
            composers: volumes.specs.iter().map(|_| None).collect(),
            open,
            later,
            derived,
            removal: None,
            held: Vec::new(),
            cleared: BTreeSet::new(),
            extents: Vec::new(),
            slots: 0,
        })
    }

    /// Takes the next step of the plan, which came of the entry at `entry`; `runs` is where the
    /// content of that is.
    pub fn step(
        &mut self,
        step: PlannedOp,
        entry: &GuestPath,
        runs: &[SourceRun],
    ) -> Result<(), WorkerError> {
        let op = match step {
            PlannedOp::Remove { path, only_if_empty: true } => {
                self.emit_until(&path)?;
                return self.hold(Held::IfEmpty(path));
            }
            PlannedOp::Remove { path, only_if_empty: false } => Op::Remove { path },
            PlannedOp::MakeDirectory { path } => {
                let node = plain(NodeKind::Directory, directory_attrs(self.now));
                Op::Put { path, node }
            }
            PlannedOp::CopyLower { from, to } => match self.lower(&from)? {
                Some(id) => Op::Put { path: to, node: self.lower_node(id)? },
                None => return Ok(()),
            },
            PlannedOp::Put { path, item, part } => {
                let mut node = self.node(&path, &item.entry, part, runs)?;
                // What is taken from below may differ from name to name.
                let whole = node.link.filter(|_| part == Part::Whole);
                node.link = whole.map(|link| link_within(item.layer, link));
                Op::Put { path, node }
            }
        };
        // A merged or derived file stands where a plain entry would: who made it knows better.
        let given = |path: &GuestPath| handler_owns(path) || self.derived.contains(path);
        if self.later.contains_key(op.path()) && given(op.path()) {
            return Ok(());
        }
        // What was put beside an edited file may be edited itself.
        if op.path() == entry {
            self.later.remove(entry);
        }
        // Entries come in order; what a step names beside its entry's path or the directories above
        // that is further on, never back.
        if op.path() > entry {
            self.later.insert(op.path().clone(), op);
            return Ok(());
        }
        self.emit_until(op.path())?;
        self.emit(op)
    }

    fn emit_until(&mut self, path: &GuestPath) -> Result<(), WorkerError> {
        while let Some(entry) = self.later.first_entry() {
            if entry.key() >= path {
                break;
            }
            let op = entry.remove();
            self.emit(op)?;
        }
        Ok(())
    }

    fn emit(&mut self, op: Op) -> Result<(), WorkerError> {
        if self.held.is_empty() { self.carry_out(op) } else { self.hold(Held::Op(op)) }
    }

    /// Keeps a step back until it is known what is left in the directory that the first one kept
    /// back is about: whether that goes must be said before what is done in it.
    fn hold(&mut self, step: Held) -> Result<(), WorkerError> {
        if let Some(Held::IfEmpty(first)) = self.held.first()
            && !step.path().starts_with(first)
        {
            self.release()?;
        }
        match step {
            Held::Op(op) if self.held.is_empty() => self.carry_out(op),
            step => {
                self.held.push(step);
                Ok(())
            }
        }
    }

    /// Carries out what was held back, and of directories with nothing left in them only that they
    /// go.
    fn release(&mut self) -> Result<(), WorkerError> {
        let held = std::mem::take(&mut self.held);
        let empty = self.empty(&held)?;
        let within = |path: &GuestPath| empty.iter().any(|e| e != path && path.starts_with(e));
        for step in held {
            match step {
                step if within(step.path()) => {}
                Held::Op(op) => self.carry_out(op)?,
                Held::IfEmpty(path) if empty.contains(&path) => {
                    self.carry_out(Op::Remove { path })?;
                }
                Held::IfEmpty(_) => {}
            }
        }
        Ok(())
    }

    /// The directories among held steps in which nothing is left.
    fn empty(&self, held: &[Held]) -> Result<BTreeSet<GuestPath>, WorkerError> {
        let (mut gone, mut full) = (BTreeSet::new(), BTreeSet::new());
        let mut empty = BTreeSet::new();
        if planted("a directory stays though nothing is left in it") {
            return Ok(empty);
        }
        // What is in a directory comes behind it.
        for step in held.iter().rev() {
            match step {
                Held::Op(Op::Put { path, .. }) => full.extend(path.parent()),
                Held::Op(Op::Remove { path }) => drop(gone.insert(path.clone())),
                Held::IfEmpty(path) if !full.contains(path) && self.all_gone(path, &gone)? => {
                    gone.insert(path.clone());
                    empty.insert(path.clone());
                }
                Held::IfEmpty(path) => full.extend(path.parent()),
            }
        }
        Ok(empty)
    }

    /// Whether all that the image has in a directory is among what goes.
    fn all_gone(&self, path: &GuestPath, gone: &BTreeSet<GuestPath>) -> Result<bool, WorkerError> {
        let Some(id) = self.lower(path)? else { return Ok(true) };
        let entries = self.volumes.tree.entries(id).map_err(refused)?;
        let is_gone = |name: &[u8]| path.join(name).is_ok_and(|path| gone.contains(&path));
        Ok(entries.iter().all(|entry| is_gone(&entry.name)))
    }

    fn carry_out(&mut self, op: Op) -> Result<(), WorkerError> {
        while let Some(path) = self.cleared.first().filter(|path| *path <= op.path()).cloned() {
            self.cleared.remove(&path);
            self.after_removal(Op::Remove { path })?;
        }
        self.after_removal(op)
    }

    fn after_removal(&mut self, op: Op) -> Result<(), WorkerError> {
        match self.removal.take() {
            Some(path) if path != *op.path() => self.apply(Op::Remove { path })?,
            // Put over a directory, a directory would leave what is in it.
            Some(path) if makes_directory(&op) => self.clear(&path)?,
            _ => {}
        }
        match op {
            Op::Remove { path } => {
                self.removal = Some(path);
                Ok(())
            }
            op => self.apply(op),
        }
    }

    /// What the image has in a directory that is made anew goes.
    fn clear(&mut self, path: &GuestPath) -> Result<(), WorkerError> {
        let tree = &self.volumes.tree;
        let Some(id) = self.lower(path)? else { return Ok(()) };
        if tree.node(id).map_err(refused)?.kind == NodeKind::Directory {
            for entry in tree.entries(id).map_err(refused)? {
                self.cleared.insert(path.join(&entry.name).map_err(refused)?);
            }
        }
        Ok(())
    }

    /// Gives a step to the composer of its volume, by the path within the volume.
    fn apply(&mut self, op: Op) -> Result<(), WorkerError> {
        let index = self.volumes.holding(op.path());
        let mount = &self.volumes.specs[index].mount;
        if mount.is_root() {
            return match op {
                Op::Remove { path } if path.is_root() => Ok(()),
                op => self.composer(index)?.apply(op).map_err(refused),
            };
        }
        let inner = op.path().strip_prefix(mount).unwrap_or_default();
        let op = match op {
            // The root of a volume is neither removed nor anything but a directory.
            Op::Remove { .. } if inner.is_root() => return Ok(()),
            Op::Remove { .. } => Op::Remove { path: inner },
            Op::Put { node, .. } => Op::Put { path: inner, node },
        };
        self.composer(index)?.apply(op).map_err(refused)
    }

    /// One composer at a time writes to the metadata file; paths of one volume come together,
    /// except that the root's come before and after those of a volume mounted within.
    fn composer(&mut self, index: usize) -> Result<&mut Composer, WorkerError> {
        if self.composers[index].is_none() {
            let slot = self.reserve(index);
            self.composers[index] = Some((self.open)(index, slot)?);
        }
        self.composers[index].as_mut().ok_or_else(|| refused("a composer that is not open"))
    }

    /// Each volume has a region of the metadata file of its own, as long as the volume.
    fn reserve(&self, index: usize) -> BlockNo {
        let before = &self.volumes.specs[..index];
        BlockNo(before.iter().map(|spec| spec.len.blocks().0).sum())
    }

    /// Writes everything; what differs from the image over the whole disk, and how many blocks of
    /// metadata there are.
    pub fn finish(mut self) -> Result<(Vec<MapExtent>, u64), WorkerError> {
        while let Some((_, op)) = self.later.pop_first() {
            self.emit(op)?;
        }
        self.release()?;
        while let Some(path) = self.cleared.pop_first() {
            self.after_removal(Op::Remove { path })?;
        }
        if let Some(path) = self.removal.take() {
            self.apply(Op::Remove { path })?;
        }
        // Every volume is opened, so that its unused inode tables are marked.
        for index in 0..self.volumes.specs.len() {
            self.composer(index)?;
        }
        let composers = std::mem::take(&mut self.composers);
        let mut too_small = Vec::new();
        for (composer, spec) in composers.into_iter().zip(&self.volumes.specs) {
            let Some(composer) = composer else { continue };
            let composed = match composer.finish() {
                Err(ComposeError::Full(shortage)) => {
                    too_small.push(of_volume(spec, shortage));
                    continue;
                }
                composed => composed.map_err(refused)?,
            };
            let start = first_block(spec);
            self.extents.extend(composed.extents.into_iter().map(|extent| MapExtent {
                range: BlockRange::new(BlockNo(extent.range.start.0 + start.0), extent.range.count),
                ..extent
            }));
            self.slots += composed.slots_used;
        }
        if !too_small.is_empty() {
            return Err(WorkerError::TooSmall(too_small));
        }
        self.extents.sort_unstable_by_key(|extent| extent.range.start);
        Ok((self.extents, self.slots))
    }

    fn lower(&self, path: &GuestPath) -> Result<Option<NodeId>, WorkerError> {
        resolve(&self.volumes.tree, path).map_err(refused)
    }

    /// A node of the image, with its content by reference.
    fn lower_node(&self, id: NodeId) -> Result<PutNode, WorkerError> {
        let tree = &self.volumes.tree;
        let node = tree.node(id).map_err(refused)?;
        let mut put = plain(node.kind, node.attrs);
        put.xattrs = tree.xattrs(id).map_err(refused)?;
        match node.kind {
            NodeKind::File => put.content = self.lower_content(id, &node)?,
            NodeKind::Symlink => put.target = tree.read_link(id).map_err(refused)?,
            _ => {}
        }
        Ok(put)
    }

    fn lower_content(&self, id: NodeId, node: &Node) -> Result<Content, WorkerError> {
        let tree = &self.volumes.tree;
        let spec = &self.volumes.specs[goldleaf_tree_volume(id)];
        let mut runs = Vec::new();
        for extent in tree.extents(id).map_err(refused)?.unwrap_or_default() {
            let mut done = 0;
            while done < extent.blocks {
                let block = on_disk(spec, extent.volume_block + done);
                let (target, there) = self.disk.map().look_up(block);
                let blocks = there.0.min(extent.blocks - done);
                if let Target::Source { source, at } = target {
                    let file_block = extent.file_block + done;
                    runs.push(ContentRun { file_block, blocks, source, at });
                }
                done += blocks;
            }
        }
        Ok(Content::Runs { size: node.size, runs })
    }

    fn node(
        &self,
        path: &GuestPath,
        entry: &Entry,
        part: Part,
        runs: &[SourceRun],
    ) -> Result<PutNode, WorkerError> {
        let EntryNode::Node { kind, attrs, xattrs, acl_names, content, target, link } = &entry.node
        else {
            return Err(refused(format!("{path}: a whiteout cannot be put")));
        };
        let mut put = plain(*kind, numeric(attrs, self.names));
        put.xattrs = xattrs.clone();
        acl_to_ids(&mut put.xattrs, acl_names, self.names).map_err(refused)?;
        put.target = target.clone();
        put.link = *link;
        if *kind == NodeKind::File {
            let runs = runs.iter().map(|run| ContentRun {
                file_block: run.file_block,
                blocks: run.blocks,
                source: SourceIndex(run.source.0),
                at: run.at,
            });
            put.content = Content::Runs { size: content.size, runs: runs.collect() };
        }
        let whole = part == Part::Whole || planted("an edit takes the mode along");
        let below = if whole { None } else { self.lower(path)? };
        let Some(below) = below else { return Ok(put) };
        let below = self.lower_node(below)?;
        match part {
            Part::Attributes => {
                put.content = below.content;
                put.target = below.target;
            }
            _ => {
                // A link's mode means nothing, and all is allowed by it.
                let alike = put.kind == below.kind;
                let mode = if alike { below.attrs.mode } else { put.attrs.mode & 0o777 };
                let mtime = put.attrs.mtime;
                put.attrs = Attrs { mtime, mode, ..below.attrs };
                put.xattrs = if alike { below.xattrs } else { Vec::new() };
            }
        }
        Ok(put)
    }
}

fn of_volume(spec: &VolumeSpec, shortage: Shortage) -> TooSmall {
    TooSmall {
        mount: spec.mount.clone(),
        missing: BlockCount(shortage.blocks).bytes(),
        missing_inodes: shortage.inodes,
        growth: BlockCount(shortage.grow_blocks).bytes(),
    }
}

fn makes_directory(op: &Op) -> bool {
    matches!(op, Op::Put { node, .. } if node.kind == NodeKind::Directory)
}

/// The number of a node's names, apart from those of other layers: versions of two layers that were
/// made at different times may use one number for two nodes.
fn link_within(layer: Kind, link: u64) -> u64 {
    let Digest(bytes) = Digest::of(format!("{layer} {link}").as_bytes());
    u64::from_le_bytes(bytes[..8].try_into().unwrap_or_default())
}

fn goldleaf_tree_volume(id: NodeId) -> usize {
    crate::mounted::MountedTree::<goldleaf_ext4::Volume>::volume_of(id)
}

fn handler_owns(path: &GuestPath) -> bool {
    goldleaf_layer::merge::handler_of(path).is_some()
}

fn plain(kind: NodeKind, attrs: Attrs) -> PutNode {
    PutNode {
        kind,
        attrs,
        xattrs: Vec::new(),
        content: Content::EMPTY,
        target: Vec::new(),
        link: None,
    }
}

fn directory_attrs(now: Timestamp) -> Attrs {
    Attrs { mode: 0o755, uid: 0, gid: 0, mtime: now, ctime: now, crtime: now, flags: 0 }
}

fn numeric(attrs: &EntryAttrs, names: &Names) -> Attrs {
    let unknown = |owner: &Owner| if *owner == Owner::Name("root".into()) { 0 } else { NOBODY };
    Attrs {
        mode: attrs.mode,
        uid: names.uid_of(&attrs.user).unwrap_or_else(|| unknown(&attrs.user)),
        gid: names.gid_of(&attrs.group).unwrap_or_else(|| unknown(&attrs.group)),
        mtime: attrs.mtime,
        ctime: attrs.ctime,
        crtime: attrs.crtime,
        flags: attrs.flags,
    }
}

/// The steps for derived files, and for merged ones that differ from the image's or that the image
/// lacks.
fn given_files(
    volumes: &Volumes,
    merged: &Merged,
    derived: &[(GuestPath, Vec<u8>)],
    now: Timestamp,
) -> Result<BTreeMap<GuestPath, Op>, WorkerError> {
    let mut ops = BTreeMap::new();
    let mut put = |path: &GuestPath, state: &FileState| -> Result<(), WorkerError> {
        let lower = resolve(&volumes.tree, path).map_err(refused)?;
        let lower = lower.map(|id| volumes.tree.node(id)).transpose().map_err(refused)?;
        ops.insert(path.clone(), put_file(path, state, lower, now));
        Ok(())
    };
    for (path, state) in &merged.all {
        if merged.image.get(path) != Some(state) {
            put(path, state)?;
        }
    }
    for (path, bytes) in derived {
        put(path, &FileState { bytes: bytes.clone(), mode: 0o644, uid: 0, gid: 0 })?;
    }
    for path in removed(&merged.image, &merged.all) {
        ops.insert(path.clone(), Op::Remove { path });
    }
    make_parents(volumes, &mut ops, now)?;
    Ok(ops)
}

fn removed<'a>(before: &'a FileSet, after: &'a FileSet) -> impl Iterator<Item = GuestPath> + 'a {
    before.keys().filter(|path| !after.contains_key(path)).cloned()
}

fn put_file(path: &GuestPath, state: &FileState, lower: Option<Node>, now: Timestamp) -> Op {
    let times = lower.map(|node| node.attrs);
    let attrs = Attrs {
        mode: state.mode & 0o7777,
        uid: state.uid,
        gid: state.gid,
        mtime: now,
        ctime: now,
        crtime: times.map_or(now, |attrs| attrs.crtime),
        flags: times.map_or(0, |attrs| attrs.flags),
    };
    let mut node = plain(if state.is_link() { NodeKind::Symlink } else { NodeKind::File }, attrs);
    if state.is_link() {
        node.target = state.bytes.clone();
    } else {
        node.content = Content::Bytes(state.bytes.clone());
    }
    Op::Put { path: path.clone(), node }
}

/// Directories that merged files need and the image lacks.
fn make_parents(
    volumes: &Volumes,
    ops: &mut BTreeMap<GuestPath, Op>,
    now: Timestamp,
) -> Result<(), WorkerError> {
    let paths: Vec<GuestPath> = ops.keys().cloned().collect();
    for path in paths {
        let mut at = path.parent();
        while let Some(parent) = at {
            if resolve(&volumes.tree, &parent).map_err(refused)?.is_some() {
                break;
            }
            let node = plain(NodeKind::Directory, directory_attrs(now));
            ops.entry(parent.clone()).or_insert(Op::Put { path: parent.clone(), node });
            at = parent.parent();
        }
    }
    Ok(())
}
