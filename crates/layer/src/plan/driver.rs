//! Walks the entries of a stack and the tree below together, once, in path order.
//!
//! What is known of the directories above the current path is kept as a stack of frames, so that a
//! directory is resolved once however many entries it holds, and memory is bounded by depth. A
//! directory that is asked for many names is listed once instead.

use std::collections::{HashMap, VecDeque};

use goldleaf_tree::{FileExtent, FileTree, GuestPath, NodeId, NodeKind, TreeError, read_whole};

use super::compose::{Case, Conffile, Decision, Lower, PackageState, Parent, decide, needs_digest};
use super::report::Report;
use crate::{Digest, Entry, EntryNode, Kind};

/// After so many look-ups in one directory it is listed: most directories get one or two entries,
/// and listing a large one for these would cost more than it saves.
const LOOKUPS_BEFORE_LISTING: u32 = 4;
/// Content is hashed in pieces of this many bytes.
const HASH_PIECE_BYTES: u64 = 1 << 20;
/// Bytes of a block of content.
const BLOCK_BYTES: u64 = 4096;
const BLOCK_LEN: usize = BLOCK_BYTES as usize;

/// The topmost entry of a stack at one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StackItem {
    /// The layer that has it.
    pub layer: Kind,
    /// The entry.
    pub entry: Entry,
}

/// What planning must be told about a guest and its layers.
pub trait ComposeFacts {
    /// Whether a `keep` rule names the path.
    fn keeps(&self, path: &GuestPath) -> bool;
    /// How the package of that name stands, for entries of `layer`.
    fn package(&self, name: &str, layer: Kind) -> PackageState;
    /// Whether the path is a package's configuration, and whose content the entry has.
    fn conffile(&self, path: &GuestPath, entry: &Entry) -> Conffile;
    /// Digest of the whole content of a file's entry; `None` if it cannot be told.
    fn content(&self, entry: &Entry) -> Option<Digest>;
}

/// How much of an entry is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// All of it.
    Whole,
    /// Content or target; owner, mode and extended attributes are those below.
    Content,
    /// Owner, mode, flags and extended attributes; the content is what is below.
    Attributes,
}

/// One step of composing.
#[derive(Debug, Clone, PartialEq, Eq)]
// Nearly all steps are the large `Put`, and pass one by one: boxing it would only allocate.
#[allow(clippy::large_enum_variant)]
pub enum PlannedOp {
    /// A parent directory that no entry and nothing below provides: to be made with the attributes
    /// that any layer recorded for it, else as root's with mode 0755.
    MakeDirectory {
        /// Where.
        path: GuestPath,
    },
    /// The path goes, with everything that is below it.
    Remove {
        /// Where.
        path: GuestPath,
        /// Only if it is a directory with nothing left in it when all steps are done.
        only_if_empty: bool,
    },
    /// A second name for what is below at `from`, before `from` is written.
    CopyLower {
        /// Where it is.
        from: GuestPath,
        /// Where it is to be as well.
        to: GuestPath,
    },
    /// The path becomes what the entry says.
    Put {
        /// Where; differs from the entry's own path where a link of the merged `/usr` was followed.
        path: GuestPath,
        /// The entry.
        item: StackItem,
        /// How much of it.
        part: Part,
    },
}

/// Why a plan could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The tree below could not be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// Entries must be sorted by path, one a path.
    #[error("entry {found}: expected one after {after}")]
    Order {
        /// The entry's path.
        found: GuestPath,
        /// The path of the entry before.
        after: GuestPath,
    },
}

/// Digest of a node's content or target, as [`Entry::origin`] has it; `None` for other kinds.
///
/// A file of more than [`HASH_PIECE_BYTES`] is its length and its blocks that are not zero, each
/// with its number: holes cost nothing, and a guest can make one of 16 TiB in no time.
pub fn content_digest(tree: &dyn FileTree, id: NodeId) -> Result<Option<Digest>, TreeError> {
    let node = tree.node(id)?;
    match node.kind {
        NodeKind::Symlink => Ok(Some(Digest::of(&tree.read_link(id)?))),
        NodeKind::File if node.size <= HASH_PIECE_BYTES => {
            let bytes = read_whole(tree, id, HASH_PIECE_BYTES)?;
            Ok(Some(Digest::of(&bytes)))
        }
        NodeKind::File => long_digest(tree, id, node.size).map(Some),
        _ => Ok(None),
    }
}

fn long_digest(tree: &dyn FileTree, id: NodeId, size: u64) -> Result<Digest, TreeError> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&size.to_le_bytes());
    let mut buffer = vec![0; HASH_PIECE_BYTES as usize];
    let whole = FileExtent { file_block: 0, volume_block: 0, blocks: size.div_ceil(BLOCK_BYTES) };
    for extent in tree.extents(id)?.unwrap_or_else(|| vec![whole]) {
        let mut at = extent.file_block.saturating_mul(BLOCK_BYTES);
        let end = at.saturating_add(extent.blocks.saturating_mul(BLOCK_BYTES)).min(size);
        while at < end {
            let want = (end - at).min(HASH_PIECE_BYTES) as usize;
            let got = tree.read(id, at, &mut buffer[..want])?;
            if got == 0 {
                break;
            }
            for (number, block) in (at / BLOCK_BYTES..).zip(buffer[..got].chunks(BLOCK_LEN)) {
                if block.iter().any(|&byte| byte != 0) {
                    hasher.update(&number.to_le_bytes()).update(block);
                }
            }
            at = at.saturating_add(got as u64);
        }
    }
    Ok(Digest(*hasher.finalize().as_bytes()))
}

/// One directory above the current path.
struct Frame {
    name: Vec<u8>,
    /// What entries in it find.
    state: Parent,
    /// The directory below that it shows, if any.
    lower: Option<NodeId>,
    /// The root's link of the merged `/usr` was followed to get here.
    followed: bool,
    lookups: u32,
    listing: Option<HashMap<Vec<u8>, NodeId>>,
}

impl Frame {
    fn new(name: &[u8], state: Parent, lower: Option<NodeId>, followed: bool) -> Self {
        Self { name: name.to_vec(), state, lower, followed, lookups: 0, listing: None }
    }

    fn child(&mut self, tree: &dyn FileTree, name: &[u8]) -> Result<Option<NodeId>, TreeError> {
        let Some(directory) = self.lower else { return Ok(None) };
        if let Some(listing) = &self.listing {
            return Ok(listing.get(name).copied());
        }
        if self.lookups < LOOKUPS_BEFORE_LISTING {
            self.lookups += 1;
            return tree.lookup(directory, name);
        }
        let entries = tree.entries(directory)?;
        let listing = entries.into_iter().map(|entry| (entry.name, entry.id)).collect();
        Ok(self.listing.insert(listing).get(name).copied())
    }
}

/// Plans one entry after the other.
pub struct Planner<'a> {
    tree: &'a dyn FileTree,
    facts: &'a dyn ComposeFacts,
    /// The root, then a frame for each component of the last path.
    frames: Vec<Frame>,
    last: Option<GuestPath>,
    reports: Vec<Report>,
}

impl<'a> Planner<'a> {
    /// A planner over the tree below.
    pub fn new(tree: &'a dyn FileTree, facts: &'a dyn ComposeFacts) -> Self {
        let root = Frame::new(b"", Parent::Directory, Some(tree.root()), false);
        Self { tree, facts, frames: vec![root], last: None, reports: Vec::new() }
    }

    /// Plans the next entry; its steps are appended to `ops`.
    pub fn push(
        &mut self,
        path: GuestPath,
        item: StackItem,
        ops: &mut impl Extend<PlannedOp>,
    ) -> Result<(), PlanError> {
        if let Some(after) = self.last.as_ref().filter(|last| **last >= path) {
            return Err(PlanError::Order { found: path, after: after.clone() });
        }
        let Some(name) = path.name() else {
            self.push_root(item, ops);
            return Ok(());
        };
        self.climb(&path)?;
        let Some(top) = self.frames.last_mut() else { return Ok(()) };
        let (parent, followed) = (top.state, top.followed);
        let found = top.child(self.tree, name)?;
        let kind = found.map(|id| self.tree.node(id)).transpose()?.map(|node| node.kind);
        if self.is_merged_directory(&item, kind) {
            let frame = self.implicit(name)?;
            if frame.followed {
                self.frames.push(frame);
                self.last = Some(path);
                return Ok(());
            }
        }
        let lower = self.lower(&item, found, kind)?;
        let decision = self.decide(&path, &item, lower, parent, followed);
        if let Some((outcome, reason)) = decision.report() {
            let layer = item.layer;
            self.reports.push(Report { path: path.clone(), layer, outcome, reason });
        }
        let frame = self.frame_after(name, &item, decision, (found, kind), (parent, followed))?;
        self.emit(&path, item, decision, kind, ops)?;
        self.frames.push(frame);
        self.last = Some(path);
        Ok(())
    }

    /// A directory in the root, recorded before the image merged it into `/usr`, says nothing.
    fn is_merged_directory(&self, item: &StackItem, lower: Option<NodeKind>) -> bool {
        self.frames.len() == 1
            && lower == Some(NodeKind::Symlink)
            && matches!(item.entry.node, EntryNode::Node { kind: NodeKind::Directory, .. })
    }

    /// What a person should know about the plan.
    pub fn finish(self) -> Vec<Report> {
        self.reports
    }

    /// The root can only have other attributes; it is neither removed nor replaced.
    fn push_root(&mut self, item: StackItem, ops: &mut impl Extend<PlannedOp>) {
        self.last = Some(GuestPath::root());
        let directory =
            matches!(item.entry.node, EntryNode::Node { kind: NodeKind::Directory, .. });
        if directory && !matches!(item.layer, Kind::Apps | Kind::UserApps) {
            ops.extend([PlannedOp::Put { path: GuestPath::root(), item, part: Part::Whole }]);
        }
    }

    /// Makes the frames those of the parent of `path`.
    fn climb(&mut self, path: &GuestPath) -> Result<(), TreeError> {
        if self.last.take().is_some_and(|last| last.is_beside(path)) {
            self.frames.pop();
            return Ok(());
        }
        let parents = path.components().count().saturating_sub(1);
        let common = self
            .frames
            .iter()
            .skip(1)
            .zip(path.components().take(parents))
            .take_while(|(frame, name)| frame.name == *name)
            .count();
        self.frames.truncate(common + 1);
        for name in path.components().take(parents).skip(common) {
            let frame = self.implicit(name)?;
            self.frames.push(frame);
        }
        Ok(())
    }

    /// The frame of a directory that has no entry.
    fn implicit(&mut self, name: &[u8]) -> Result<Frame, TreeError> {
        let depth = self.frames.len();
        let Some(top) = self.frames.last_mut() else {
            return Ok(Frame::new(name, Parent::Gone, None, false));
        };
        if top.state != Parent::Directory {
            return Ok(Frame::new(name, top.state, None, top.followed));
        }
        let followed = top.followed;
        let found = top.child(self.tree, name)?;
        let kind = found.map(|id| self.tree.node(id)).transpose()?.map(|node| node.kind);
        match (found, kind) {
            (Some(id), Some(NodeKind::Symlink)) if depth == 1 => self.top_level_link(name, id),
            (id, kind) => Ok(frame_of_lower(name, id, kind, followed)),
        }
    }

    /// A link in the root: that of the merged `/usr` is followed, as the image's own layout.
    fn top_level_link(&mut self, name: &[u8], id: NodeId) -> Result<Frame, TreeError> {
        let merged = name == b"bin" || name == b"sbin" || name.starts_with(b"lib");
        let target = self.tree.read_link(id)?;
        let leads = target.strip_prefix(b"/").unwrap_or(&target).strip_prefix(b"usr/");
        if !merged || leads != Some(name) {
            return Ok(Frame::new(name, Parent::Link, None, false));
        }
        let mut at = Some(self.tree.root());
        for part in [b"usr".as_slice(), name] {
            at = match at {
                Some(id) if self.tree.node(id)?.kind == NodeKind::Directory => {
                    self.tree.lookup(id, part)?
                }
                _ => None,
            };
        }
        let kind = at.map(|id| self.tree.node(id)).transpose()?.map(|node| node.kind);
        Ok(frame_of_lower(name, at, kind, true))
    }

    fn lower(
        &self,
        item: &StackItem,
        found: Option<NodeId>,
        kind: Option<NodeKind>,
    ) -> Result<Option<Lower>, TreeError> {
        let (Some(id), Some(kind)) = (found, kind) else { return Ok(None) };
        let digest = if needs_digest(item.layer, &item.entry, kind) {
            content_digest(self.tree, id)?
        } else {
            None
        };
        Ok(Some(Lower { kind, digest }))
    }

    fn decide(
        &self,
        path: &GuestPath,
        item: &StackItem,
        lower: Option<Lower>,
        parent: Parent,
        followed: bool,
    ) -> Decision {
        let entry = &item.entry;
        let package = entry.package.as_ref();
        let package = package.map_or(PackageState::None, |p| self.facts.package(p, item.layer));
        let superseded = package == PackageState::Superseded;
        let case = Case {
            layer: item.layer,
            entry,
            // Rules are asked only where a newer state below could win.
            keep: lower.is_some() && self.facts.keeps(path),
            content: if lower.is_some() || entry.origin.is_some() {
                self.own_digest(entry)
            } else {
                None
            },
            lower,
            package,
            conffile: if superseded { self.facts.conffile(path, entry) } else { Conffile::No },
            parent: if followed { Parent::MergedUsr } else { parent },
        };
        match decide(&case) {
            Decision::FollowSymlinkParent => decide(&Case { parent, ..case }),
            decision => decision,
        }
    }

    fn own_digest(&self, entry: &Entry) -> Option<Digest> {
        match &entry.node {
            EntryNode::Node { kind: NodeKind::Symlink, target, .. } => Some(Digest::of(target)),
            EntryNode::Node { kind: NodeKind::File, content, .. } if content.size == 0 => {
                Some(Digest::of(b""))
            }
            EntryNode::Node { kind: NodeKind::File, .. } => self.facts.content(entry),
            _ => None,
        }
    }

    /// What entries below this path find.
    fn frame_after(
        &mut self,
        name: &[u8],
        item: &StackItem,
        decision: Decision,
        (found, kind): (Option<NodeId>, Option<NodeKind>),
        (parent, followed): (Parent, bool),
    ) -> Result<Frame, TreeError> {
        let directory = kind == Some(NodeKind::Directory);
        let applied = !matches!(decision, Decision::KeepAside { .. } | Decision::Skip { .. });
        let state = match &item.entry.node {
            EntryNode::Whiteout if decision == Decision::RemoveIfEmpty => Parent::Directory,
            EntryNode::Whiteout if applied => Parent::Gone,
            EntryNode::Node { kind: NodeKind::Directory, .. } if applied => Parent::Directory,
            EntryNode::Node { kind: NodeKind::Directory, .. }
                if matches!(decision, Decision::KeepAside { .. }) =>
            {
                Parent::KeptAside
            }
            EntryNode::Node { .. } if applied => Parent::Covered,
            _ if parent != Parent::Directory => parent,
            _ => return self.implicit(name),
        };
        let shows = if state == Parent::Directory && directory { found } else { None };
        Ok(Frame::new(name, state, shows, followed))
    }

    fn emit(
        &mut self,
        path: &GuestPath,
        item: StackItem,
        decision: Decision,
        lower: Option<NodeKind>,
        ops: &mut impl Extend<PlannedOp>,
    ) -> Result<(), TreeError> {
        let at = self.place(path);
        let part = match decision {
            Decision::KeepAside { .. } | Decision::Skip { .. } | Decision::FollowSymlinkParent => {
                return Ok(());
            }
            Decision::RemoveIfEmpty => {
                ops.extend([PlannedOp::Remove { path: at, only_if_empty: true }]);
                return Ok(());
            }
            Decision::ApplyInNewParent(_) => {
                self.make_parents(path, ops);
                Part::Whole
            }
            Decision::ApplyAndKeepUpstream { suffix, content_only } => {
                self.keep_upstream(&at, suffix, ops)?;
                if content_only { Part::Content } else { Part::Whole }
            }
            Decision::Apply(_) => Part::Whole,
            Decision::ApplyContent => Part::Content,
            Decision::ApplyAttributes => Part::Attributes,
        };
        let EntryNode::Node { kind, .. } = &item.entry.node else {
            ops.extend([PlannedOp::Remove { path: at, only_if_empty: false }]);
            return Ok(());
        };
        let is_directory = |kind: NodeKind| kind == NodeKind::Directory;
        if lower.is_some_and(|lower| is_directory(lower) != is_directory(*kind)) {
            ops.extend([PlannedOp::Remove { path: at.clone(), only_if_empty: false }]);
        }
        ops.extend([PlannedOp::Put { path: at, item, part }]);
        Ok(())
    }

    /// Puts what is below beside the entry, unless that name is taken below or too long.
    fn keep_upstream(
        &mut self,
        at: &GuestPath,
        suffix: &str,
        ops: &mut impl Extend<PlannedOp>,
    ) -> Result<(), TreeError> {
        let (Some(name), Some(parent)) = (at.name(), at.parent()) else { return Ok(()) };
        let name = [name, suffix.as_bytes()].concat();
        let Some(top) = self.frames.last_mut() else { return Ok(()) };
        if let (None, Ok(to)) = (top.child(self.tree, &name)?, parent.join(&name)) {
            ops.extend([PlannedOp::CopyLower { from: at.clone(), to }]);
        }
        Ok(())
    }

    /// Makes the directories above `path` that are not there, and what stands in their way go.
    fn make_parents(&mut self, path: &GuestPath, ops: &mut impl Extend<PlannedOp>) {
        let mut at = GuestPath::root();
        let mut blocked = false;
        let followed = self.frames.last().is_some_and(|frame| frame.followed);
        for (frame, name) in self.frames.iter_mut().skip(1).zip(path.components()) {
            at = at.join(name).unwrap_or(at);
            let path = if followed { merged(&at) } else { at.clone() };
            match frame.state {
                Parent::Directory => continue,
                Parent::Other if !blocked => {
                    ops.extend([PlannedOp::Remove { path: path.clone(), only_if_empty: false }]);
                    blocked = true;
                }
                _ => {}
            }
            *frame = Frame::new(name, Parent::Directory, None, frame.followed);
            ops.extend([PlannedOp::MakeDirectory { path }]);
        }
    }

    /// Where a path is once links of the merged `/usr` are followed.
    fn place(&self, path: &GuestPath) -> GuestPath {
        let followed = self.frames.last().is_some_and(|frame| frame.followed);
        if followed { merged(path) } else { path.clone() }
    }
}

fn frame_of_lower(
    name: &[u8],
    id: Option<NodeId>,
    kind: Option<NodeKind>,
    followed: bool,
) -> Frame {
    match kind {
        Some(NodeKind::Directory) => Frame::new(name, Parent::Directory, id, followed),
        Some(NodeKind::Symlink) => Frame::new(name, Parent::Link, None, followed),
        Some(_) => Frame::new(name, Parent::Other, None, followed),
        None => Frame::new(name, Parent::Gone, None, followed),
    }
}

/// `/lib/x` as `/usr/lib/x`. A path that gets too long by it stays as it is, and fails later as
/// one that leads through a link.
fn merged(path: &GuestPath) -> GuestPath {
    let usr = GuestPath::root().join(b"usr").and_then(|usr| usr.append(path));
    usr.unwrap_or_else(|_| path.clone())
}

/// The steps of a plan as they come, and its reports at the end.
pub struct Plan<'a, I> {
    planner: Planner<'a>,
    entries: I,
    ready: VecDeque<PlannedOp>,
}

/// Plans what the entries of a stack come to over a tree. `entries` has the topmost entry of each
/// path, sorted by path. Steps come in the order of the entries; one that follows a link of the
/// merged `/usr` names the path behind the link, out of order.
pub fn plan<'a, I>(
    lower: &'a dyn FileTree,
    entries: I,
    facts: &'a dyn ComposeFacts,
) -> Plan<'a, I::IntoIter>
where
    I: IntoIterator<Item = (GuestPath, StackItem)>,
{
    Plan {
        planner: Planner::new(lower, facts),
        entries: entries.into_iter(),
        ready: VecDeque::new(),
    }
}

impl<I> Plan<'_, I> {
    /// What a person should know about the steps that came so far.
    pub fn into_reports(self) -> Vec<Report> {
        self.planner.finish()
    }
}

impl<I: Iterator<Item = (GuestPath, StackItem)>> Iterator for Plan<'_, I> {
    type Item = Result<PlannedOp, PlanError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(op) = self.ready.pop_front() {
                return Some(Ok(op));
            }
            let (path, item) = self.entries.next()?;
            if let Err(error) = self.planner.push(path, item, &mut self.ready) {
                return Some(Err(error));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use goldleaf_tree::{Attrs, DirEntry, Node, Timestamp, Xattr};

    use super::*;

    /// One file: a byte in some of its blocks, and holes where `mapped` says so.
    struct OneFile {
        size: u64,
        bytes: Vec<(u64, u8)>,
        mapped: Option<Vec<FileExtent>>,
    }

    impl FileTree for OneFile {
        fn root(&self) -> NodeId {
            NodeId(2)
        }

        fn node(&self, id: NodeId) -> Result<Node, TreeError> {
            let none = Timestamp::default();
            let (mtime, ctime, crtime) = (none, none, none);
            let attrs = Attrs { mode: 0, uid: 0, gid: 0, mtime, ctime, crtime, flags: 0 };
            let (kind, size) = (NodeKind::File, self.size);
            Ok(Node { id, kind, attrs, size, links: 1, generation: 0 })
        }

        fn entries(&self, _: NodeId) -> Result<Vec<DirEntry>, TreeError> {
            Ok(Vec::new())
        }

        fn lookup(&self, _: NodeId, _: &[u8]) -> Result<Option<NodeId>, TreeError> {
            Ok(None)
        }

        fn read(&self, _: NodeId, at: u64, buf: &mut [u8]) -> Result<usize, TreeError> {
            let got = self.size.saturating_sub(at).min(buf.len() as u64);
            buf.fill(0);
            for (place, byte) in &self.bytes {
                if (at..at + got).contains(place) {
                    buf[(place - at) as usize] = *byte;
                }
            }
            Ok(got as usize)
        }

        fn read_link(&self, _: NodeId) -> Result<Vec<u8>, TreeError> {
            Ok(Vec::new())
        }

        fn xattrs(&self, _: NodeId) -> Result<Vec<Xattr>, TreeError> {
            Ok(Vec::new())
        }

        fn extents(&self, _: NodeId) -> Result<Option<Vec<FileExtent>>, TreeError> {
            Ok(self.mapped.clone())
        }
    }

    fn digest(size: u64, bytes: &[(u64, u8)], mapped: Option<&[u64]>) -> Digest {
        let extent = |block: &u64| FileExtent { file_block: *block, volume_block: 9, blocks: 1 };
        let mapped = mapped.map(|blocks| blocks.iter().map(extent).collect());
        let file = OneFile { size, bytes: bytes.to_vec(), mapped };
        content_digest(&file, NodeId(12)).expect("a file").expect("a digest")
    }

    #[test]
    fn holes_are_zeroes_and_cost_nothing() {
        const LEN: u64 = 3 << 20;
        let byte = [(5 * 4096 + 1, 7)];
        let whole = digest(LEN, &byte, None);
        assert_eq!(whole, digest(LEN, &byte, Some(&[5])));
        assert_eq!(whole, digest(LEN, &byte, Some(&[1, 5, 6])));
        assert_ne!(whole, digest(LEN + 1, &byte, None));
        assert_ne!(whole, digest(LEN, &[(6 * 4096 + 1, 7)], None));
        assert_ne!(whole, digest(LEN, &[], None));
        // 16 TiB: at a GB a second this would take hours.
        let huge = digest((1 << 44) - 4096, &byte, Some(&[5]));
        assert_ne!(huge, whole);
    }

    #[test]
    fn short_files_are_their_bytes() {
        assert_eq!(digest(3, &[(1, 7)], None), Digest::of(&[0, 7, 0]));
    }
}
