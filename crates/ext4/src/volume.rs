//! A volume: superblock, groups, a bounded cache of metadata, and the way from inode to bytes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use goldleaf_block::{BLOCK_SIZE, BlockCount, BlockNo, BlockRange, ByteLen, ReadBlocks};
use goldleaf_tree::{DirEntry, FileExtent, FileTree, Node, NodeId, TreeError, Xattr};

use crate::dir::{self, Names, Step};
use crate::error::{Ext4Error, Result, check_sum, corrupt};
use crate::extent::{FileMap, read_map};
use crate::group::{Group, fixed_metadata, read_groups};
use crate::inode::{Inode, InodeNo};
use crate::journal::{self, ReplayedDevice};
use crate::superblock::Superblock;
use crate::xattr;

const BLOCK: usize = BLOCK_SIZE as usize;
/// Blocks of metadata that are kept: 8 MiB.
const CACHE_BLOCKS: usize = 2048;
/// 2^64 by the golden ratio: neighbours come far apart and fill all places (Knuth, The Art of
/// Computer Programming, volume 3, section 6.4).
const MIXING: u64 = 0x9E37_79B9_7F4A_7C15;

/// Bytes of directories whose names are indexed at one time.
const INDEXED_BYTES: u64 = 2 << 20;

/// A block and what is in it.
type Block = (BlockNo, Arc<[u8]>);

/// An ext4 volume that can be read. Everything on it is taken for hostile.
pub struct Volume {
    device: Arc<dyn ReadBlocks>,
    sb: Superblock,
    groups: Vec<Group>,
    fixed: Vec<BlockRange>,
    cache: Mutex<Cache>,
    names: Mutex<Indexed>,
    last_names: Mutex<Option<Block>>,
    last_bitmap: Mutex<Option<Block>>,
    last_map: Mutex<Option<(InodeNo, Arc<FileMap>)>>,
    replayed: Option<Arc<ReplayedDevice>>,
}

impl Volume {
    /// Opens the volume on a device (a partition's window). A volume whose journal holds
    /// transactions is [`Ext4Error::NeedsRecovery`].
    pub fn open(device: Arc<dyn ReadBlocks>) -> Result<Volume> {
        let sb = Superblock::read(&device)?;
        if sb.needs_recovery() {
            return Err(Ext4Error::NeedsRecovery);
        }
        Self::assemble(device, sb, None)
    }

    /// Opens the volume as it will be once its journal is replayed, without writing anything: the
    /// blocks that the journal brings lie over the device in memory. A clean volume opens as with
    /// [`open`](Self::open).
    pub fn open_replayed(device: Arc<dyn ReadBlocks>) -> Result<Volume> {
        let sb = Superblock::read(&device)?;
        if !sb.needs_recovery() {
            return Self::assemble(device, sb, None);
        }
        let raw = Self::assemble(device.clone(), sb, None)?;
        let replayed = Arc::new(journal::replay(&raw)?);
        let sb = Superblock::read(&replayed)?;
        let mut volume = Self::assemble(replayed.clone(), sb, Some(replayed.clone()))?;
        let clean = Arc::new(journal::settle_counts(&volume, &replayed)?);
        volume.device = clean.clone();
        volume.replayed = Some(clean);
        volume.forget();
        Ok(volume)
    }

    fn assemble(
        device: Arc<dyn ReadBlocks>,
        sb: Superblock,
        replayed: Option<Arc<ReplayedDevice>>,
    ) -> Result<Volume> {
        let groups = read_groups(&device, &sb)?;
        let fixed = fixed_metadata(&sb, &groups);
        Ok(Volume {
            device,
            sb,
            groups,
            fixed,
            cache: Mutex::default(),
            names: Mutex::default(),
            last_names: Mutex::default(),
            last_bitmap: Mutex::default(),
            last_map: Mutex::default(),
            replayed,
        })
    }

    fn forget(&self) {
        *self.cache.lock().unwrap_or_else(PoisonError::into_inner) = Cache::default();
        *self.names.lock().unwrap_or_else(PoisonError::into_inner) = Indexed::default();
        *self.last_names.lock().unwrap_or_else(PoisonError::into_inner) = None;
        *self.last_bitmap.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The superblock.
    pub fn superblock(&self) -> &Superblock {
        &self.sb
    }

    /// The groups' descriptors.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The device with the replayed blocks over it: what the guest's kernel would see after its
    /// own recovery. Without a replay, the device itself.
    pub fn replayed(&self) -> Arc<dyn ReadBlocks> {
        self.device.clone()
    }

    /// The blocks that the replay changed, sorted. They count as written in the session.
    pub fn replayed_blocks(&self) -> Vec<BlockNo> {
        self.replayed.as_ref().map(|device| device.blocks()).unwrap_or_default()
    }

    /// Blocks of fixed metadata, sorted.
    pub(crate) fn fixed(&self) -> &[BlockRange] {
        &self.fixed
    }

    /// Reads whole blocks past the cache.
    pub(crate) fn read_blocks(&self, at: BlockNo, buf: &mut [u8]) -> Result<()> {
        Ok(self.device.read_at(at.offset(), buf)?)
    }

    /// One block of metadata, through the cache.
    pub(crate) fn block(&self, at: BlockNo) -> Result<Arc<[u8]>> {
        let lock = || self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = lock().get(at) {
            return Ok(found);
        }
        let block = self.fresh_block(at)?;
        lock().put(at, block.clone());
        Ok(block)
    }

    /// One block of a directory; the last one read is kept: who asks for one name mostly asks for
    /// others beside it.
    pub(crate) fn names_block(&self, at: BlockNo) -> Result<Arc<[u8]>> {
        keep_last(&self.last_names, at, || self.fresh_block(at))
    }

    /// One block past the caches.
    fn fresh_block(&self, at: BlockNo) -> Result<Arc<[u8]>> {
        // Collected in place, where an array would be made elsewhere and copied.
        let mut block: Arc<[u8]> = std::iter::repeat_n(0, BLOCK).collect();
        if let Some(bytes) = Arc::get_mut(&mut block) {
            self.read_blocks(at, bytes)?;
        }
        Ok(block)
    }

    /// Where an inode's record lies: its block and the offset within.
    pub(crate) fn inode_place(&self, ino: InodeNo) -> Result<(BlockNo, usize)> {
        if ino.0 == 0 || ino.0 > self.sb.inodes {
            return Err(corrupt("inode number", format!("1 to {}", self.sb.inodes), ino.0));
        }
        let index = (ino.0 - 1) % self.sb.inodes_per_group;
        let group = self.group_of(ino);
        let table = self.groups.get(group as usize).map_or(BlockNo(0), |group| group.inode_table);
        let per_block = self.sb.inodes_per_block();
        let block = table.plus(BlockCount(u64::from(index / per_block)));
        Ok((block, (index % per_block) as usize * usize::from(self.sb.inode_size)))
    }

    /// The group of an inode.
    pub(crate) fn group_of(&self, ino: InodeNo) -> u32 {
        ino.0.saturating_sub(1) / self.sb.inodes_per_group
    }

    /// An inode's record as it stands on the volume.
    pub(crate) fn inode_bytes(&self, ino: InodeNo) -> Result<Vec<u8>> {
        let (block, at) = self.inode_place(ino)?;
        let bytes = self.block(block)?;
        Ok(bytes[at..at + usize::from(self.sb.inode_size)].to_vec())
    }

    /// An inode that a directory names, so it must be in use.
    pub fn inode(&self, ino: InodeNo) -> Result<Inode> {
        let (block, at) = self.inode_place(ino)?;
        let bytes = self.block(block)?;
        let raw = &bytes[at..at + usize::from(self.sb.inode_size)];
        let inode = Inode::parse(&self.sb, ino, raw, true)?;
        if !inode.is_live() {
            return Err(corrupt(ino, "an inode in use", "a free one"));
        }
        Ok(inode)
    }

    /// A group's bitmap of inodes, verified; `None` when no inode of it was ever used.
    pub(crate) fn inode_bitmap(&self, group: u32) -> Result<Option<Arc<[u8]>>> {
        let Some(descriptor) = self.groups.get(group as usize) else { return Ok(None) };
        if descriptor.inode_uninit() {
            return Ok(None);
        }
        let used = self.sb.inodes_per_group as usize / 8;
        let stored = descriptor.inode_bitmap_csum;
        let check = |bits: &[u8]| self.check_bitmap("inode", group, &bits[..used], stored);
        self.bitmap(descriptor.inode_bitmap, check).map(Some)
    }

    /// A group's bitmap of blocks, verified; `None` when only fixed metadata is in use.
    pub(crate) fn block_bitmap(&self, group: u32) -> Result<Option<Arc<[u8]>>> {
        let Some(descriptor) = self.groups.get(group as usize) else { return Ok(None) };
        if descriptor.block_uninit() {
            return Ok(None);
        }
        let used = self.sb.blocks_per_group as usize / 8;
        let stored = descriptor.block_bitmap_csum;
        let check = |bits: &[u8]| self.check_bitmap("block", group, &bits[..used], stored);
        self.bitmap(descriptor.block_bitmap, check).map(Some)
    }

    /// A bitmap; the last one read and verified is kept: who asks for one bit mostly asks for
    /// others beside it.
    fn bitmap(&self, at: BlockNo, check: impl FnOnce(&[u8]) -> Result<()>) -> Result<Arc<[u8]>> {
        keep_last(&self.last_bitmap, at, || {
            let bits = self.block(at)?;
            check(&bits)?;
            Ok(bits)
        })
    }

    fn check_bitmap(&self, what: &str, group: u32, bits: &[u8], stored: u32) -> Result<()> {
        if !self.sb.has_metadata_csum() {
            return Ok(());
        }
        let mask = if self.sb.desc_size >= 64 { !0 } else { 0xFFFF };
        let sum = self.sb.csum_seed().with(bits).0 & mask;
        check_sum(format!("{what} bitmap of group {group}"), sum, stored & mask)
    }

    /// Whether the bitmap has an inode in use.
    pub(crate) fn inode_in_use(&self, ino: InodeNo) -> Result<bool> {
        if ino.0 == 0 || ino.0 > self.sb.inodes {
            return Ok(false);
        }
        let index = (ino.0 - 1) % self.sb.inodes_per_group;
        let bitmap = self.inode_bitmap(self.group_of(ino))?;
        Ok(bitmap.is_some_and(|bits| bit(&bits, index)))
    }

    /// Whether a block is in use, by the bitmaps.
    pub(crate) fn block_in_use(&self, block: BlockNo) -> Result<bool> {
        if block.0 >= self.sb.blocks {
            return Ok(false);
        }
        let per_group = u64::from(self.sb.blocks_per_group);
        match self.block_bitmap((block.0 / per_group) as u32)? {
            Some(bits) => Ok(bit(&bits, (block.0 % per_group) as u32)),
            None => Ok(self.is_fixed(block)),
        }
    }

    /// Whether a block belongs to the fixed metadata.
    pub(crate) fn is_fixed(&self, block: BlockNo) -> bool {
        let next = self.fixed.partition_point(|range| range.start <= block);
        next > 0 && self.fixed[next - 1].contains(block)
    }

    /// The extent tree of an inode; the last one read is kept.
    pub(crate) fn map(&self, inode: &Inode) -> Result<Arc<FileMap>> {
        let lock = || self.last_map.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((ino, map)) = &*lock()
            && *ino == inode.ino
        {
            return Ok(map.clone());
        }
        let map = Arc::new(read_map(self, inode)?);
        *lock() = Some((inode.ino, map.clone()));
        Ok(map)
    }

    /// The names of a directory that is too long to be searched again and again.
    pub(crate) fn names(&self, dir: &Inode) -> Result<Arc<Names>> {
        let lock = || self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(names) = lock().directories.get(&dir.ino) {
            return Ok(names.clone());
        }
        let names = Arc::new(dir::index(self, dir)?);
        lock().put(dir, names.clone());
        Ok(names)
    }

    /// The runs of content of an inode.
    pub(crate) fn content(&self, inode: &Inode) -> Result<Vec<FileExtent>> {
        if !inode.is_file() {
            return Ok(Vec::new());
        }
        inode.check()?;
        Ok(self.map(inode)?.content(inode.size))
    }

    /// The target of a link.
    pub(crate) fn target(&self, inode: &Inode) -> Result<Vec<u8>> {
        inode.check()?;
        if !inode.is_symlink() {
            return Err(corrupt(inode.ino, "a symbolic link", format!("mode {:#o}", inode.mode)));
        }
        let size = inode.size as usize;
        let target = if inode.is_fast_symlink() {
            inode.body[..size].to_vec()
        } else {
            let mut bytes = vec![0; size];
            self.read_range(inode, 0, &mut bytes)?;
            bytes
        };
        if target.is_empty() || target.contains(&0) {
            return Err(corrupt(inode.ino, "a target without NUL", "another"));
        }
        Ok(target)
    }

    fn read_range(&self, inode: &Inode, at: u64, buf: &mut [u8]) -> Result<()> {
        buf.fill(0);
        let map = self.map(inode)?;
        let end = at + buf.len() as u64;
        let first = map.runs.partition_point(|run| run_end(run) <= at);
        let runs = map.runs[first..].iter().take_while(|run| run.file_block * BLOCK_SIZE < end);
        for run in runs.filter(|run| run.written) {
            let start = run.file_block * BLOCK_SIZE;
            let from = at.max(start);
            let to = end.min(run_end(run));
            let piece = &mut buf[(from - at) as usize..(to - at) as usize];
            let place = run.range.start.offset().plus(ByteLen(from - start));
            self.device.read_at(place, piece)?;
        }
        Ok(())
    }
}

/// The last block asked for, or another one, which is the last one then.
fn keep_last(
    last: &Mutex<Option<Block>>,
    at: BlockNo,
    read: impl FnOnce() -> Result<Arc<[u8]>>,
) -> Result<Arc<[u8]>> {
    let lock = || last.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((known, block)) = &*lock()
        && *known == at
    {
        return Ok(block.clone());
    }
    let block = read()?;
    *lock() = Some((at, block.clone()));
    Ok(block)
}

fn run_end(run: &crate::extent::Run) -> u64 {
    (run.file_block + run.range.count.0) * BLOCK_SIZE
}

/// Bit `index` of a bitmap; a bit behind its end is clear.
pub(crate) fn bit(bits: &[u8], index: u32) -> bool {
    bits.get(index as usize / 8).is_some_and(|byte| byte >> (index % 8) & 1 == 1)
}

fn ino_of(id: NodeId) -> Result<InodeNo> {
    u32::try_from(id.0).map(InodeNo).map_err(|_| corrupt("inode number", "32 bits", id.0))
}

impl FileTree for Volume {
    fn root(&self) -> NodeId {
        InodeNo::ROOT.into()
    }

    fn node(&self, id: NodeId) -> std::result::Result<Node, TreeError> {
        Ok(self.inode(ino_of(id)?)?.node()?)
    }

    fn entries(&self, directory: NodeId) -> std::result::Result<Vec<DirEntry>, TreeError> {
        let dir = self.inode(ino_of(directory)?)?;
        let mut out = Vec::new();
        dir::for_each(self, &dir, &mut |entry| {
            if !entry.is_dot() {
                out.push(DirEntry { name: entry.name.to_vec(), id: entry.ino.into() });
            }
            Ok(Step::Next)
        })?;
        Ok(out)
    }

    fn lookup(
        &self,
        directory: NodeId,
        name: &[u8],
    ) -> std::result::Result<Option<NodeId>, TreeError> {
        if name == b"." || name == b".." {
            return Ok(None);
        }
        let dir = self.inode(ino_of(directory)?)?;
        Ok(dir::lookup(self, &dir, name)?.map(NodeId::from))
    }

    fn read(&self, file: NodeId, at: u64, buf: &mut [u8]) -> std::result::Result<usize, TreeError> {
        let inode = self.inode(ino_of(file)?)?;
        inode.check()?;
        if !inode.is_file() {
            let found = format!("mode {:#o}", inode.mode);
            return Err(corrupt(inode.ino, "a regular file", found).into());
        }
        let there = inode.size.saturating_sub(at).min(buf.len() as u64) as usize;
        self.read_range(&inode, at, &mut buf[..there])?;
        Ok(there)
    }

    fn read_link(&self, link: NodeId) -> std::result::Result<Vec<u8>, TreeError> {
        let inode = self.inode(ino_of(link)?)?;
        Ok(self.target(&inode)?)
    }

    fn xattrs(&self, id: NodeId) -> std::result::Result<Vec<Xattr>, TreeError> {
        let inode = self.inode(ino_of(id)?)?;
        Ok(xattr::read(self, &inode)?)
    }

    fn extents(&self, file: NodeId) -> std::result::Result<Option<Vec<FileExtent>>, TreeError> {
        let inode = self.inode(ino_of(file)?)?;
        Ok(Some(self.content(&inode)?))
    }
}

/// Directories whose names are at hand; when there are too many, all begin anew.
#[derive(Default)]
struct Indexed {
    directories: HashMap<InodeNo, Arc<Names>>,
    bytes: u64,
}

impl Indexed {
    fn put(&mut self, dir: &Inode, names: Arc<Names>) {
        if self.bytes + dir.size > INDEXED_BYTES {
            *self = Self::default();
        }
        self.bytes += dir.size;
        self.directories.insert(dir.ino, names);
    }
}

/// Blocks of metadata, each in the one place that its number gives it.
#[derive(Default)]
struct Cache(Vec<Option<Block>>);

impl Cache {
    fn get(&self, at: BlockNo) -> Option<Arc<[u8]>> {
        let (known, block) = self.0.get(Self::place(at))?.as_ref()?;
        (*known == at).then(|| block.clone())
    }

    fn put(&mut self, at: BlockNo, block: Arc<[u8]>) {
        if self.0.is_empty() {
            self.0.resize(CACHE_BLOCKS, None);
        }
        self.0[Self::place(at)] = Some((at, block));
    }

    /// Tables and bitmaps lie at like distances, so the last bits of their numbers would meet.
    fn place(at: BlockNo) -> usize {
        (at.0.wrapping_mul(MIXING) >> (u64::BITS - CACHE_BLOCKS.ilog2())) as usize
    }
}
