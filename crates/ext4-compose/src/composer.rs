//! The composer: applies operations to a volume, one pass, in the order of their paths.

use std::collections::HashMap;
use std::sync::Arc;

use goldleaf_block::{BlockNo, MapExtent, ReadBlocks, SourceIndex};
use goldleaf_host::File;
use goldleaf_tree::{GuestPath, NodeKind};

use crate::content;
use crate::directory::{Found, LINKS_MAX, OpenDir, xattr_blocks};
use crate::error::{ComposeError, Result};
use crate::extents::{ExtentList, empty_root};
use crate::inode::{FLAG_EXTENTS, FLAG_INDEX, RawInode, WORDS, file_type, type_bits};
use crate::op::{Composed, Content, Free, Op, Options, PutNode, Stats};
use crate::overlay::Overlay;
use crate::result::assemble;
use crate::shortage::Wanted;
use crate::volume::{Ino, ROOT, Volume};

/// Longest target of a symbolic link that lies in the inode.
const FAST_TARGET_MAX: usize = WORDS - 1;
/// Longest target of all: one block with a NUL.
const TARGET_MAX: usize = 4095;
/// From this size on a volume must say that it has large files.
const LARGE_FILE: u64 = 1 << 31;

/// Composes one volume. Stays on the thread that made it.
pub struct Composer {
    volume: Volume,
    options: Options,
    metadata_source: SourceIndex,
    /// The way from the root to the last path; never empty.
    stack: Vec<OpenDir>,
    previous: Option<GuestPath>,
    /// Length of the stack up to the directory of `previous`, if that is there.
    directory_len: Option<usize>,
    links: HashMap<u64, Ino>,
    content: Vec<MapExtent>,
    stats: Stats,
    /// What does not fit any more.
    wanted: Option<Wanted>,
    poisoned: bool,
}

impl Composer {
    /// Opens the volume `base`: one ext4 file system, clean and validated, with blocks of 4 KiB.
    /// Metadata goes to `metadata` from block `first_slot` on, which the result's extents name as
    /// `metadata_source`.
    pub fn open(
        base: Arc<dyn ReadBlocks>,
        metadata: Arc<dyn File>,
        first_slot: BlockNo,
        metadata_source: SourceIndex,
        options: Options,
    ) -> Result<Self> {
        let mut volume = Volume::open(Overlay::new(base, metadata, first_slot), options.now)?;
        if options.zero_unused_inode_tables {
            volume.zero_unused_inode_tables()?;
        }
        let root = OpenDir::existing(&volume, ROOT, ROOT, b"")?;
        Ok(Self {
            volume,
            options,
            metadata_source,
            stack: vec![root],
            previous: None,
            directory_len: None,
            links: HashMap::new(),
            content: Vec::new(),
            stats: Stats::default(),
            wanted: None,
            poisoned: false,
        })
    }

    /// What is left on the volume.
    pub fn free(&self) -> Free {
        Free { blocks: self.volume.free_blocks(), inodes: self.volume.free_inodes() }
    }

    /// Applies one operation. Paths must ascend. That the volume is full is said at the
    /// [end](Self::finish), when it is known how much is missing.
    pub fn apply(&mut self, op: Op) -> Result<()> {
        if self.poisoned {
            return Err(ComposeError::Poisoned);
        }
        self.poisoned = true;
        self.check_order(op.path())?;
        match &op {
            Op::Put { path, node } if self.wanted.is_some() => self.count(path, node)?,
            Op::Put { path, node } => match self.put(path, node) {
                Err(ComposeError::Full(_)) => self.want(|wanted| wanted.add(path, node)),
                done => done?,
            },
            Op::Remove { path } => self.remove(path)?,
        }
        let (Op::Put { path, .. } | Op::Remove { path }) = op;
        self.previous = Some(path);
        self.poisoned = false;
        Ok(())
    }

    /// Writes everything and says what the volume is now.
    pub fn finish(mut self) -> Result<Composed> {
        if self.poisoned {
            return Err(ComposeError::Poisoned);
        }
        self.close_to(0)?;
        if let Some(wanted) = self.wanted {
            return Err(ComposeError::Full(wanted.shortage(&self.volume.geometry)));
        }
        self.volume.flush()?;
        let released = self.volume.released();
        let source = self.metadata_source;
        let extents =
            self.volume.with_overlay(|overlay| assemble(overlay, source, self.content, &released));
        let slots_used = self.volume.with_overlay(Overlay::slots_used);
        Ok(Composed { extents, slots_used, stats: self.stats })
    }

    fn check_order(&self, path: &GuestPath) -> Result<()> {
        match &self.previous {
            Some(previous) if previous >= path => {
                Err(ComposeError::Order { previous: previous.clone(), path: path.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Closes directories until `len` are left.
    fn close_to(&mut self, len: usize) -> Result<()> {
        while self.stack.len() > len {
            let Some(top) = self.stack.pop() else { break };
            match top.close(&mut self.volume) {
                Ok(built) => self.stats.directories_built += u64::from(built),
                Err(ComposeError::Full(short)) => {
                    let blocks = short.blocks + self.volume.free_blocks();
                    self.want(|wanted| wanted.add_blocks(blocks));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Notes what the volume has no room for.
    fn want(&mut self, note: impl FnOnce(&mut Wanted)) {
        let free = self.free();
        let wanted = self.wanted.get_or_insert_default();
        note(wanted);
        wanted.measure(free);
    }

    /// Counts a node that is to be put on a volume that is full. What it replaces goes.
    fn count(&mut self, path: &GuestPath, node: &PutNode) -> Result<()> {
        let Some(name) = path.name() else { return Ok(()) };
        if self.descend(path)?
            && let Some(found) = self.top().find(name)
        {
            let there = self.volume.read_inode(found.ino)?;
            if node.kind == NodeKind::Directory && there.is_dir() {
                return Ok(());
            }
            self.drop_entry(found.ino)?;
            self.top().remove(found);
        }
        if node.link.is_some_and(|link| self.links.contains_key(&link)) {
            self.want(|wanted| wanted.add_name(name));
        } else {
            self.want(|wanted| wanted.add(path, node));
        }
        Ok(())
    }

    /// Makes the directory that holds `path` the top of the stack; `false` when there is none.
    fn descend(&mut self, path: &GuestPath) -> Result<bool> {
        let beside = self.previous.as_ref().is_some_and(|previous| previous.is_beside(path));
        if let Some(len) = self.directory_len.take().filter(|_| beside) {
            self.close_to(len)?;
            self.directory_len = Some(len);
            return Ok(true);
        }
        let names: Vec<&[u8]> = path.components().collect();
        let parents = &names[..names.len().saturating_sub(1)];
        let open = self.stack[1..].iter().map(|dir| dir.name.as_slice());
        let common = open.zip(parents).take_while(|(open, name)| open == *name).count();
        self.close_to(1 + common)?;
        for name in &parents[common..] {
            let Some(top) = self.stack.last() else { return Ok(false) };
            let (Some(found), parent) = (top.find(name), top.ino) else { return Ok(false) };
            if !self.volume.read_inode(found.ino)?.is_dir() {
                return Ok(false);
            }
            let dir = OpenDir::existing(&self.volume, found.ino, parent, name)?;
            self.stack.push(dir);
        }
        self.directory_len = Some(self.stack.len());
        Ok(true)
    }

    fn top(&mut self) -> &mut OpenDir {
        let last = self.stack.len() - 1;
        &mut self.stack[last]
    }

    fn remove(&mut self, path: &GuestPath) -> Result<()> {
        let Some(name) = path.name() else {
            return Err(invalid(path, "the root cannot be removed"));
        };
        if !self.descend(path)? {
            return Ok(());
        }
        if let Some(found) = self.top().find(name) {
            self.drop_entry(found.ino)?;
            self.top().remove(found);
        }
        Ok(())
    }

    fn put(&mut self, path: &GuestPath, node: &PutNode) -> Result<()> {
        let Some(name) = path.name() else { return self.put_root(path, node) };
        if !self.descend(path)? {
            return Err(ComposeError::NoParent(path.clone()));
        }
        let found = self.top().find(name);
        if let Some(&ino) = node.link.and_then(|link| self.links.get(&link)) {
            return self.put_link(path, name, found, ino, node.kind);
        }
        self.stats.nodes_put += 1;
        if node.kind == NodeKind::Directory {
            return self.put_directory(path, name, found, node);
        }
        let ino = self.place(name, found, node.kind)?;
        self.fill(path, ino, node)?;
        if let Some(link) = node.link {
            self.links.insert(link, ino);
        }
        Ok(())
    }

    fn put_root(&mut self, path: &GuestPath, node: &PutNode) -> Result<()> {
        if node.kind != NodeKind::Directory {
            return Err(invalid(path, "the root must be a directory"));
        }
        self.stats.nodes_put += 1;
        self.dress_directory(path, ROOT, node)
    }

    fn put_link(
        &mut self,
        path: &GuestPath,
        name: &[u8],
        found: Option<Found>,
        ino: Ino,
        kind: NodeKind,
    ) -> Result<()> {
        if kind == NodeKind::Directory {
            return Err(invalid(path, "a directory cannot have hard links"));
        }
        if found.is_some_and(|found| found.ino == ino) {
            return Ok(());
        }
        if let Some(found) = found {
            self.drop_entry(found.ino)?;
        }
        let mut inode = self.volume.read_inode(ino)?;
        if u64::from(inode.links()) >= LINKS_MAX {
            return Err(invalid(path, "a file cannot have more than 65,000 hard links"));
        }
        inode.set_links(inode.links() + 1);
        self.volume.write_inode(ino, &mut inode)?;
        self.stats.links_put += 1;
        self.top().set(found, name, ino, file_type(kind));
        Ok(())
    }

    fn put_directory(
        &mut self,
        path: &GuestPath,
        name: &[u8],
        found: Option<Found>,
        node: &PutNode,
    ) -> Result<()> {
        let parent = self.top().ino;
        if let Some(found) = found
            && self.volume.read_inode(found.ino)?.is_dir()
        {
            self.dress_directory(path, found.ino, node)?;
            self.stack.push(OpenDir::existing(&self.volume, found.ino, parent, name)?);
            return Ok(());
        }
        if let Some(found) = found {
            self.drop_entry(found.ino)?;
        }
        let ino = self.take_inode(true)?;
        self.top().set(found, name, ino, file_type(node.kind));
        let mut inode = self.new_inode(path, node);
        inode.set_links(2);
        inode.set_flags(inode.flags() | FLAG_EXTENTS);
        inode.set_words(&empty_root());
        self.volume.write_inode(ino, &mut inode)?;
        self.volume.set_xattrs(path, ino, &node.xattrs)?;
        self.stack.push(OpenDir::fresh(&self.volume, ino, parent, name));
        Ok(())
    }

    /// Gives a directory that is there new attributes.
    fn dress_directory(&mut self, path: &GuestPath, ino: Ino, node: &PutNode) -> Result<()> {
        let mut inode = self.volume.read_inode(ino)?;
        self.volume.drop_xattr_block(ino, &mut inode)?;
        let size = self.volume.geometry.extra_isize.max(inode.extra_isize());
        inode.clear_xattrs(size);
        inode.set_extra_isize(size);
        inode.set_attrs(node.kind, &node.attrs, self.options.now);
        self.volume.write_inode(ino, &mut inode)?;
        self.volume.set_xattrs(path, ino, &node.xattrs)
    }

    /// The inode for a node that is no directory. One of the same kind with no other name is used
    /// again, so that the directory need not change.
    fn place(&mut self, name: &[u8], found: Option<Found>, kind: NodeKind) -> Result<Ino> {
        if let Some(found) = found {
            let inode = self.volume.read_inode(found.ino)?;
            if inode.type_bits() == type_bits(kind) && inode.links() == 1 {
                self.volume.empty_inode(found.ino, inode)?;
                return Ok(found.ino);
            }
            self.drop_entry(found.ino)?;
        }
        let ino = self.take_inode(false)?;
        self.top().set(found, name, ino, file_type(kind));
        Ok(ino)
    }

    fn take_inode(&mut self, is_dir: bool) -> Result<Ino> {
        let group = self.top().inode_group;
        let ino = self.volume.take_inode(group, is_dir)?;
        let group = self.volume.group_of(ino);
        self.top().inode_group = group;
        Ok(ino)
    }

    /// An inode with a node's attributes and no content.
    fn new_inode(&self, path: &GuestPath, node: &PutNode) -> RawInode {
        let geometry = &self.volume.geometry;
        let mut inode = RawInode::new(geometry.inode_size);
        inode.set_extra_isize(geometry.extra_isize);
        inode.set_attrs(node.kind, &node.attrs, self.options.now);
        inode.set_generation(generation(path));
        inode.set_links(1);
        inode
    }

    fn fill(&mut self, path: &GuestPath, ino: Ino, node: &PutNode) -> Result<()> {
        let mut inode = self.new_inode(path, node);
        match node.kind {
            NodeKind::File => self.fill_file(path, ino, &mut inode, &node.content)?,
            NodeKind::Symlink => self.fill_symlink(path, ino, &mut inode, &node.target)?,
            NodeKind::CharDevice { major, minor } | NodeKind::BlockDevice { major, minor } => {
                inode.set_device(major, minor);
            }
            NodeKind::Fifo | NodeKind::Socket | NodeKind::Directory => {}
        }
        self.volume.write_inode(ino, &mut inode)?;
        self.volume.set_xattrs(path, ino, &node.xattrs)
    }

    fn fill_file(
        &mut self,
        path: &GuestPath,
        ino: Ino,
        inode: &mut RawInode,
        content: &Content,
    ) -> Result<()> {
        let (size, (list, blocks)) = match content {
            Content::Bytes(bytes) => {
                (bytes.len() as u64, content::write_bytes(&mut self.volume, bytes)?)
            }
            Content::Runs { size, runs } => {
                content::check_runs(*size, runs).map_err(|reason| invalid(path, reason))?;
                let mapped = content::map_runs(&mut self.volume, runs, &mut self.content)?;
                self.stats.content_blocks += mapped.1;
                (*size, mapped)
            }
        };
        if size >= LARGE_FILE {
            self.volume.allow_large_files();
        }
        self.attach(ino, inode, size, &list, blocks)
    }

    fn fill_symlink(
        &mut self,
        path: &GuestPath,
        ino: Ino,
        inode: &mut RawInode,
        target: &[u8],
    ) -> Result<()> {
        if target.is_empty() || target.len() > TARGET_MAX || target.contains(&0) {
            return Err(invalid(path, "a link's target has 1 to 4095 bytes, none of them NUL"));
        }
        if target.len() <= FAST_TARGET_MAX {
            let mut words = [0; WORDS];
            words[..target.len()].copy_from_slice(target);
            inode.set_words(&words);
            inode.set_size(target.len() as u64);
            return Ok(());
        }
        let (list, blocks) = content::write_bytes(&mut self.volume, target)?;
        self.attach(ino, inode, target.len() as u64, &list, blocks)
    }

    /// Hangs blocks on an inode.
    fn attach(
        &mut self,
        ino: Ino,
        inode: &mut RawInode,
        size: u64,
        list: &ExtentList,
        blocks: u64,
    ) -> Result<()> {
        inode.set_flags(inode.flags() & !FLAG_INDEX | FLAG_EXTENTS);
        inode.set_size(size);
        let seed = |volume: &Volume| volume.seed_of(ino, inode);
        let (root, tree_blocks) = list.build(&mut self.volume, seed)?;
        inode.set_words(&root);
        inode.set_blocks(blocks + tree_blocks + xattr_blocks(inode));
        Ok(())
    }

    /// Takes one name from an inode; with the last, or if it is a directory, the inode goes, and
    /// everything below it.
    fn drop_entry(&mut self, ino: Ino) -> Result<()> {
        let mut directories = self.drop_name(ino)?.into_iter().collect::<Vec<_>>();
        while let Some(dir) = directories.pop() {
            let names = self.volume.list(dir)?;
            let inode = self.volume.read_inode(dir)?;
            self.volume.give_inode(dir, inode)?;
            self.stats.nodes_removed += 1;
            for entry in names.iter() {
                directories.extend(self.drop_name(entry.ino)?);
            }
        }
        Ok(())
    }

    /// Takes one name from an inode; a directory is returned instead.
    fn drop_name(&mut self, ino: Ino) -> Result<Option<Ino>> {
        if !self.volume.in_use(ino) || ino == ROOT {
            let reason = format!("a directory entry names inode {}", ino.0);
            return Err(ComposeError::Refused(reason));
        }
        let mut inode = self.volume.read_inode(ino)?;
        if inode.is_dir() {
            return Ok(Some(ino));
        }
        if inode.links() > 1 {
            inode.set_links(inode.links() - 1);
            self.volume.write_inode(ino, &mut inode)?;
        } else {
            self.volume.give_inode(ino, inode)?;
            self.stats.nodes_removed += 1;
        }
        Ok(None)
    }
}

fn invalid(path: &GuestPath, reason: impl Into<String>) -> ComposeError {
    ComposeError::Invalid { path: path.clone(), reason: reason.into() }
}

/// A generation for a new inode: a hash of its path (FNV-1a), so that equal operations give equal
/// volumes, and an inode number that is used again is seen to be another file.
fn generation(path: &GuestPath) -> u32 {
    path.as_bytes()
        .iter()
        .fold(0x811C_9DC5, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}
