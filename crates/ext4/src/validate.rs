//! Validation: everything on the volume is read and must agree, before a C library may see it.
//!
//! 1. The fixed metadata overlaps nothing.
//! 2. Every inode in use is sound, and its blocks are its own; only blocks of attributes are
//!    shared, as often as they say.
//! 3. From the root, every directory is met once and names only what is in use; every inode has as
//!    many names as it says.
//!    Hash trees of directories are trees.
//! 4. No block in use is free in its bitmap.
//!
//! Memory is one bit a block, four bytes an inode, and one directory at a time.

use std::collections::HashMap;

use goldleaf_block::{BlockCount, BlockNo, BlockRange};

use crate::bits::Bits;
use crate::dir;
use crate::error::{Ext4Error, Result, corrupt};
use crate::extent::read_map;
use crate::fields::Fields;
use crate::htree;
use crate::inode::{Inode, InodeNo};
use crate::table;
use crate::volume::{Volume, bit};
use crate::xattr;

/// Bounds on the work of a validation, counted and not timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most inodes in use.
    pub inodes: u64,
    /// Most names in all directories together.
    pub names: u64,
}

impl Default for Limits {
    /// Twenty million of each: 80 MB of memory, several times the largest desktop.
    fn default() -> Self {
        Self { inodes: 20_000_000, names: 20_000_000 }
    }
}

/// What a sound volume holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Directories.
    pub directories: u64,
    /// Regular files.
    pub files: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Devices, pipes and sockets.
    pub special: u64,
    /// Blocks in use, fixed metadata included.
    pub blocks: u64,
    /// Blocks that a bitmap has in use and nothing owns.
    pub leaked: u64,
    /// Inodes in use without a name, left by open files at a power cut.
    pub orphans: u64,
}

/// Reads the whole volume; an error is the first contradiction.
pub fn validate(volume: &Volume, limits: Limits) -> Result<Summary> {
    if u64::from(volume.superblock().inodes) > limits.inodes.saturating_mul(64) {
        return Err(Ext4Error::Limit(format!("{} inodes", volume.superblock().inodes)));
    }
    let mut check = Check::new(volume, limits);
    check.fixed()?;
    for group in 0..volume.superblock().groups() {
        check.inodes(group)?;
    }
    check.journal()?;
    check.shared()?;
    check.tree()?;
    check.names()?;
    for group in 0..volume.superblock().groups() {
        check.bitmap(group)?;
    }
    Ok(check.summary)
}

struct Check<'a> {
    volume: &'a Volume,
    limits: Limits,
    summary: Summary,
    used: Bits,
    /// What each inode says of itself: 0 free, else its kind's number in directories, from 1.
    kinds: Vec<u8>,
    /// Names left to be found.
    links: Vec<i32>,
    shared: HashMap<BlockNo, (u32, u32)>,
    inodes: u64,
    names: u64,
}

impl<'a> Check<'a> {
    fn new(volume: &'a Volume, limits: Limits) -> Self {
        let sb = volume.superblock();
        let inodes = sb.inodes as usize + 1;
        Self {
            volume,
            limits,
            summary: Summary::default(),
            used: Bits::new(sb.blocks),
            kinds: vec![0; inodes],
            links: vec![0; inodes],
            shared: HashMap::new(),
            inodes: 0,
            names: 0,
        }
    }

    fn claim(&mut self, range: BlockRange, owner: impl Fn() -> String) -> Result<()> {
        for block in range.start.0..range.end().0 {
            if !self.used.set(block) {
                return Err(corrupt(owner(), "blocks of its own", format!("block {block} taken")));
            }
        }
        self.summary.blocks += range.count.0;
        Ok(())
    }

    fn fixed(&mut self) -> Result<()> {
        let volume = self.volume;
        volume.fixed().iter().try_for_each(|range| self.claim(*range, || "fixed metadata".into()))
    }

    /// The journal that the superblock names is a file: the canonical form reads where it lies.
    fn journal(&self) -> Result<()> {
        let Some(ino) = self.volume.superblock().journal() else { return Ok(()) };
        let inode = self.volume.inode(ino)?;
        if !inode.is_file() {
            return Err(corrupt(ino, "the journal's file", "another kind of inode"));
        }
        read_map(self.volume, &inode).map(drop)
    }

    fn inodes(&mut self, group: u32) -> Result<()> {
        table::for_each_in_use(self.volume, group, &mut |ino, raw| self.inode(ino, raw))
    }

    fn inode(&mut self, ino: InodeNo, raw: &[u8]) -> Result<()> {
        let sb = self.volume.superblock();
        if sb.is_void(ino, raw) {
            return Ok(());
        }
        self.inodes += 1;
        if self.inodes > self.limits.inodes {
            return Err(Ext4Error::Limit(format!("more than {} inodes", self.limits.inodes)));
        }
        let inode = Inode::parse(sb, ino, raw, true)?;
        if ino == InodeNo::RESIZE {
            return self.resize_inode(&inode);
        }
        inode.node()?;
        self.claim_map(&inode)?;
        self.claim_xattrs(&inode)?;
        if sb.is_hidden(ino) {
            return Ok(());
        }
        if !inode.is_live() {
            self.summary.orphans += 1;
            return Ok(());
        }
        self.count(&inode);
        Ok(())
    }

    fn count(&mut self, inode: &Inode) {
        let (kind, counter) = match inode.mode >> 12 {
            8 => (1, &mut self.summary.files),
            4 => (2, &mut self.summary.directories),
            2 => (3, &mut self.summary.special),
            6 => (4, &mut self.summary.special),
            1 => (5, &mut self.summary.special),
            12 => (6, &mut self.summary.special),
            _ => (7, &mut self.summary.symlinks),
        };
        *counter += 1;
        let index = inode.ino.0 as usize;
        self.kinds[index] = kind;
        self.links[index] = i32::from(inode.links);
    }

    /// The resize inode maps the reserved descriptors, counted already; the block of pointers to
    /// them is its own.
    fn resize_inode(&mut self, inode: &Inode) -> Result<()> {
        let block = u64::from(Fields(&inode.body).u32(13 * 4));
        if block == 0 {
            return Ok(());
        }
        if block >= self.volume.superblock().blocks {
            return Err(corrupt("resize inode", "a block on the volume", block));
        }
        self.claim(BlockRange::new(BlockNo(block), BlockCount(1)), || "resize inode".into())
    }

    fn claim_map(&mut self, inode: &Inode) -> Result<()> {
        let map = read_map(self.volume, inode)?;
        for run in &map.runs {
            self.claim(run.range, || inode.ino.to_string())?;
        }
        for &node in &map.nodes {
            self.claim(BlockRange::new(node, BlockCount(1)), || inode.ino.to_string())?;
        }
        Ok(())
    }

    fn claim_xattrs(&mut self, inode: &Inode) -> Result<()> {
        xattr::read(self.volume, inode)?;
        if inode.is_symlink() {
            self.volume.target(inode)?;
        }
        let Some(block) = xattr::block_of(inode) else { return Ok(()) };
        if let Some((_, found)) = self.shared.get_mut(&block) {
            *found += 1;
            return Ok(());
        }
        let references = xattr::references(self.volume, inode)?;
        self.shared.insert(block, (references, 1));
        self.claim(BlockRange::new(block, BlockCount(1)), || inode.ino.to_string())
    }

    fn shared(&self) -> Result<()> {
        let wrong = self.shared.iter().filter(|(_, (said, found))| said != found).min();
        match wrong {
            None => Ok(()),
            Some((block, (said, found))) => {
                let place = format!("attribute block {block}");
                Err(corrupt(place, format!("{said} owners"), found))
            }
        }
    }

    /// Walks all directories from the root, each once.
    fn tree(&mut self) -> Result<()> {
        self.links[InodeNo::ROOT.0 as usize] -= 1;
        let mut reached = Bits::new(u64::from(self.volume.superblock().inodes) + 1);
        let mut stack = vec![(InodeNo::ROOT, InodeNo::ROOT)];
        while let Some((ino, parent)) = stack.pop() {
            if !reached.set(u64::from(ino.0)) {
                return Err(corrupt(ino, "one name for a directory", "two"));
            }
            self.directory(ino, parent, &mut stack)?;
        }
        let lost =
            (1..).zip(&self.kinds[1..]).find(|(ino, kind)| **kind == 2 && !reached.get(*ino));
        match lost {
            None => Ok(()),
            Some((ino, _)) => Err(corrupt(format!("inode {ino}"), "a way from the root", "none")),
        }
    }

    fn directory(
        &mut self,
        ino: InodeNo,
        parent: InodeNo,
        stack: &mut Vec<(InodeNo, InodeNo)>,
    ) -> Result<()> {
        let inode = self.volume.inode(ino)?;
        let above = dir::lookup(self.volume, &inode, b"..")?;
        if above != Some(parent) {
            let found = above.map_or("nothing".into(), |ino| ino.to_string());
            return Err(corrupt(format!("{ino}, `..`"), parent, found));
        }
        self.links[ino.0 as usize] -= 1;
        let many = inode.links == 1;
        let list = dir::list(self.volume, &inode)?;
        htree::check(self.volume, &inode)?;
        self.names += list.len() as u64;
        if self.names > self.limits.names {
            return Err(Ext4Error::Limit(format!("more than {} names", self.limits.names)));
        }
        if list.windows(2).any(|pair| pair[0].name == pair[1].name) {
            return Err(corrupt(ino, "every name once", "one twice"));
        }
        for entry in list {
            self.entry(ino, &entry)?;
            if entry.file_type == 2 {
                self.links[ino.0 as usize] -= 1;
                stack.push((entry.ino, ino));
            }
        }
        if many {
            self.links[ino.0 as usize] = 0;
        }
        Ok(())
    }

    fn entry(&mut self, dir: InodeNo, entry: &dir::Listed) -> Result<()> {
        let place = || format!("{dir}, \"{}\"", entry.name.escape_ascii());
        let index = entry.ino.0 as usize;
        let kind = self.kinds.get(index).copied().unwrap_or(0);
        if kind == 0 || kind != entry.file_type {
            let expected = format!("{} in use, of kind {}", entry.ino, entry.file_type);
            return Err(corrupt(place(), expected, format!("kind {kind}")));
        }
        self.links[index] -= 1;
        Ok(())
    }

    /// A directory counts its name, its `.` and each `..` below it; with too many, it says 1.
    fn names(&self) -> Result<()> {
        let wrong = (0..).zip(&self.links).find(|(_, links)| **links != 0);
        match wrong {
            None => Ok(()),
            Some((ino, left)) => Err(corrupt(
                format!("inode {ino}"),
                "as many names as links",
                format!("{left} over"),
            )),
        }
    }

    fn bitmap(&mut self, group: u32) -> Result<()> {
        let sb = self.volume.superblock();
        let start = sb.group_start(group);
        let count = u64::from(sb.blocks_per_group).min(sb.blocks - start.0);
        let bitmap = self.volume.block_bitmap(group)?;
        for index in 0..count {
            let block = start.plus(BlockCount(index));
            let used = self.used.get(block.0);
            let marked = match &bitmap {
                Some(bits) => bit(bits, index as u32),
                None => self.volume.is_fixed(block),
            };
            if used && !marked {
                let place = format!("block bitmap of group {group}");
                return Err(corrupt(place, format!("block {block} in use"), "free"));
            }
            self.summary.leaked += u64::from(marked && !used);
        }
        Ok(())
    }
}
