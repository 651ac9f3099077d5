//! Replay of the journal (jbd2), in memory and by reference.
//!
//! ```text
//! log block 0   superblock; `start` names the first block of the oldest transaction (0: empty)
//! transaction   (descriptor, its data blocks)*  revoke*  ...  commit; wraps at the log's end
//! header        magic 0xC03B3998 | type | sequence          (all big endian)
//! descriptor    tags: target (low) | flags | target (high) | crc32c of the data; tail crc32c
//! revoke        bytes in use, targets that this and older transactions must not write
//! commit        crc32c of the block
//! ```
//! Kernel documentation, filesystems/ext4, "Journal (jbd2)". A transaction counts when its commit
//! is there and sound; the first that does not ends the log. Blocks are not copied: the volume is
//! shown with each target read from its last place in the log.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use goldleaf_block::{
    BLOCK_SIZE, BlockCount, BlockError, BlockNo, ByteLen, ByteOffset, RangeKind, ReadBlocks,
};

use crate::checksum::Seed;
use crate::error::{Ext4Error, Result, check_sum, corrupt};
use crate::extent::{FileMap, read_map};
use crate::fields::Fields;
use crate::superblock::{SUPERBLOCK_AT, feature};
use crate::volume::Volume;

const BLOCK: usize = BLOCK_SIZE as usize;
const MAGIC: u32 = 0xC03B_3998;
const TYPE_DESCRIPTOR: u32 = 1;
const TYPE_COMMIT: u32 = 2;
const TYPE_REVOKE: u32 = 5;
const FEATURE_64BIT: u32 = 0x2;
const FEATURE_ASYNC_COMMIT: u32 = 0x4;
const FEATURE_CSUM_V2: u32 = 0x8;
const FEATURE_CSUM_V3: u32 = 0x10;
const FEATURE_FAST_COMMIT: u32 = 0x20;
/// Revoke records, 64-bit targets, asynchronous commits, checksums of versions 2 and 3.
const FEATURES_READ: u32 = 0x1 | 0x2 | 0x4 | 0x8 | 0x10;
const TAG_ESCAPED: u32 = 1;
const TAG_SAME_UUID: u32 = 2;
const TAG_DELETED: u32 = 4;
const TAG_LAST: u32 = 8;

/// What replaces a block.
#[derive(Debug, Clone)]
enum Image {
    /// A block of the log; `escaped` when its first word gave way to the log's magic.
    Log { at: BlockNo, escaped: bool },
    /// Bytes made here: the superblocks that say that the volume is clean.
    Bytes(Arc<[u8]>),
}

/// A device with the journal's blocks laid over it.
#[derive(Clone)]
pub(crate) struct ReplayedDevice {
    below: Arc<dyn ReadBlocks>,
    images: BTreeMap<BlockNo, Image>,
}

impl ReplayedDevice {
    /// The blocks that differ, sorted.
    pub fn blocks(&self) -> Vec<BlockNo> {
        self.images.keys().copied().collect()
    }

    fn read_block(&self, at: BlockNo) -> std::result::Result<Vec<u8>, BlockError> {
        let mut bytes = vec![0; BLOCK];
        self.read_at(at.offset(), &mut bytes)?;
        Ok(bytes)
    }

    fn put(&mut self, at: BlockNo, bytes: Vec<u8>) {
        self.images.insert(at, Image::Bytes(Arc::from(bytes)));
    }

    fn copy(
        &self,
        image: &Image,
        within: usize,
        piece: &mut [u8],
    ) -> std::result::Result<(), BlockError> {
        match image {
            Image::Bytes(bytes) => piece.copy_from_slice(&bytes[within..within + piece.len()]),
            Image::Log { at, escaped } => {
                self.below.read_at(at.offset().plus(ByteLen(within as u64)), piece)?;
                if *escaped {
                    let magic = MAGIC.to_be_bytes();
                    let rest = magic.get(within..).unwrap_or(&[]);
                    piece.iter_mut().zip(rest).for_each(|(byte, magic)| *byte = *magic);
                }
            }
        }
        Ok(())
    }
}

impl ReadBlocks for ReplayedDevice {
    fn len(&self) -> ByteLen {
        self.below.len()
    }

    fn read_at(&self, at: ByteOffset, buf: &mut [u8]) -> std::result::Result<(), BlockError> {
        let end = at.0.saturating_add(buf.len() as u64);
        let last = BlockNo(end.div_ceil(BLOCK_SIZE));
        let mut done = at.0;
        for (&block, image) in self.images.range(at.block()..last) {
            let from = block.offset().0.max(at.0);
            let to = (block.offset().0 + BLOCK_SIZE).min(end);
            self.below.read_at(
                ByteOffset(done),
                &mut buf[(done - at.0) as usize..(from - at.0) as usize],
            )?;
            let piece = &mut buf[(from - at.0) as usize..(to - at.0) as usize];
            self.copy(image, (from - block.offset().0) as usize, piece)?;
            done = to;
        }
        self.below.read_at(ByteOffset(done), &mut buf[(done - at.0) as usize..])
    }

    fn status(
        &self,
        at: ByteOffset,
        limit: ByteLen,
    ) -> std::result::Result<(ByteLen, RangeKind), BlockError> {
        let (len, kind) = self.below.status(at, limit)?;
        match self.images.range(at.block()..).next() {
            Some((block, _)) if *block == at.block() => {
                let rest = BLOCK_SIZE - at.0 % BLOCK_SIZE;
                Ok((ByteLen(rest.min(limit.0.max(1))), RangeKind::Data))
            }
            Some((block, _)) => Ok((ByteLen(len.0.min(block.offset().0 - at.0)), kind)),
            None => Ok((len, kind)),
        }
    }
}

/// The journal's superblock and where the log lies.
struct Log<'a> {
    volume: &'a Volume,
    map: FileMap,
    first: u32,
    end: u32,
    start: u32,
    sequence: u32,
    features: u32,
    seed: Seed,
}

/// A block that a transaction wrote.
struct Tag {
    target: BlockNo,
    log: BlockNo,
    escaped: bool,
    sequence: u32,
    sum: u32,
}

/// What committed transactions say.
#[derive(Default)]
struct Found {
    tags: Vec<Tag>,
    revoked: HashMap<BlockNo, u32>,
}

/// Lays the journal's committed blocks over the volume, and marks it clean.
pub(crate) fn replay(raw: &Volume) -> Result<ReplayedDevice> {
    let log = Log::open(raw)?;
    let (found, sequence) =
        if log.start == 0 { (Found::default(), log.sequence) } else { log.scan()? };
    let blocks = raw.superblock().blocks;
    let mut images = BTreeMap::new();
    for tag in &found.tags {
        if tag.target.0 >= blocks {
            return Err(corrupt("journal", format!("targets below {blocks}"), tag.target));
        }
        let revoked = found.revoked.get(&tag.target);
        if revoked.is_none_or(|&revoked| later(tag.sequence, revoked)) {
            images.insert(tag.target, Image::Log { at: tag.log, escaped: tag.escaped });
        }
    }
    let mut device = ReplayedDevice { below: raw.replayed(), images };
    log.empty(&mut device, sequence)?;
    Ok(device)
}

/// Whether sequence number `a` is later than `b`; they wrap.
fn later(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) > 0
}

impl<'a> Log<'a> {
    fn open(volume: &'a Volume) -> Result<Self> {
        let sb = volume.superblock();
        let Some(ino) = sb.journal() else {
            let device = sb.journal_device;
            return Err(Ext4Error::Unsupported(format!("a journal on device {device:#x}")));
        };
        let map = read_map(volume, &volume.inode(ino)?)?;
        let mut log = Log {
            volume,
            map,
            first: 0,
            end: 1,
            start: 0,
            sequence: 0,
            features: 0,
            seed: Seed::START,
        };
        let block = log.read(0)?;
        log.superblock(&block)?;
        Ok(log)
    }

    fn superblock(&mut self, bytes: &[u8]) -> Result<()> {
        let fields = Fields(bytes);
        let place = "journal's superblock";
        if fields.be32(0) != MAGIC || !matches!(fields.be32(4), 3 | 4) {
            return Err(corrupt(place, "its magic", format!("{:#x}", fields.be32(0))));
        }
        if u64::from(fields.be32(0xC)) != BLOCK_SIZE {
            return Err(corrupt(place, "blocks of 4096", fields.be32(0xC)));
        }
        self.features = if fields.be32(4) == 4 { fields.be32(0x28) } else { 0 };
        self.check_features()?;
        if self.has_sums() {
            check_sum(
                place,
                Seed::START.with_hole(&bytes[..1024], 0xFC..0x100).0,
                fields.be32(0xFC),
            )?;
        }
        self.seed = Seed::START.with(fields.slice(0x30, 0x40));
        (self.first, self.end) = (fields.be32(0x14), fields.be32(0x10));
        (self.sequence, self.start) = (fields.be32(0x18), fields.be32(0x1C));
        let length: u64 = self.map.runs.iter().map(|run| run.range.count.0).sum();
        let sound = self.first >= 1 && self.first < self.end && u64::from(self.end) <= length;
        if !sound || (self.start != 0 && !(self.first..self.end).contains(&self.start)) {
            let expected = format!("a log within {length} blocks");
            let found = format!("{} to {}, start {}", self.first, self.end, self.start);
            return Err(corrupt(place, expected, found));
        }
        Ok(())
    }

    fn check_features(&self) -> Result<()> {
        if self.features & FEATURE_FAST_COMMIT != 0 {
            return Err(Ext4Error::Unsupported("a journal with fast commits (fast_commit)".into()));
        }
        let unknown = self.features & !FEATURES_READ;
        if unknown != 0 {
            return Err(Ext4Error::Unsupported(format!("journal features {unknown:#x}")));
        }
        if self.features & FEATURE_ASYNC_COMMIT != 0 && !self.has_sums() {
            return Err(Ext4Error::Unsupported("asynchronous commits without checksums".into()));
        }
        Ok(())
    }

    fn has_sums(&self) -> bool {
        self.features & (FEATURE_CSUM_V2 | FEATURE_CSUM_V3) != 0
    }

    /// The volume's block behind a block of the log.
    fn place(&self, block: u32) -> Result<BlockNo> {
        let block = u64::from(block);
        let next = self.map.runs.partition_point(|run| run.file_block <= block);
        let run = next.checked_sub(1).and_then(|index| self.map.runs.get(index));
        match run.filter(|run| block - run.file_block < run.range.count.0) {
            Some(run) => Ok(run.range.start.plus(BlockCount(block - run.file_block))),
            None => {
                Err(corrupt("journal", "a block for every place", format!("a hole at {block}")))
            }
        }
    }

    fn read(&self, block: u32) -> Result<Vec<u8>> {
        let mut bytes = vec![0; BLOCK];
        self.volume.read_blocks(self.place(block)?, &mut bytes)?;
        Ok(bytes)
    }

    /// The block of the log `count` behind `block`.
    fn after(&self, block: u32, count: u32) -> u32 {
        let length = self.end - self.first;
        self.first
            + ((block - self.first) as u64 + u64::from(count)).rem_euclid(u64::from(length)) as u32
    }

    /// Collects the committed transactions; returns them and the sequence number of the first that
    /// is not.
    fn scan(&self) -> Result<(Found, u32)> {
        let (mut found, mut pending) = (Found::default(), Found::default());
        let (mut at, mut sequence) = (self.start, self.sequence);
        let mut seen = 0;
        while seen < self.end - self.first {
            let block = self.read(at)?;
            let header = Fields(&block);
            if header.be32(0) != MAGIC || header.be32(8) != sequence {
                break;
            }
            let mut taken = 1;
            match header.be32(4) {
                TYPE_DESCRIPTOR if self.tail_is_sound(&block) => {
                    taken += self.descriptor(&block, at, sequence, &mut pending)?;
                }
                TYPE_REVOKE if self.tail_is_sound(&block) => {
                    self.revoke(&block, sequence, &mut pending)
                }
                TYPE_COMMIT if self.commit_is_sound(&block) => {
                    self.accept(&mut found, std::mem::take(&mut pending))?;
                    sequence = sequence.wrapping_add(1);
                }
                _ => break,
            }
            at = self.after(at, taken);
            seen = seen.saturating_add(taken);
        }
        Ok((found, sequence))
    }

    fn accept(&self, found: &mut Found, pending: Found) -> Result<()> {
        pending.tags.iter().try_for_each(|tag| self.verify(tag))?;
        found.tags.extend(pending.tags);
        for (block, sequence) in pending.revoked {
            let newest = found.revoked.entry(block).or_insert(sequence);
            if later(sequence, *newest) {
                *newest = sequence;
            }
        }
        Ok(())
    }

    fn tail_is_sound(&self, block: &[u8]) -> bool {
        let sum = self.seed.with_hole(block, BLOCK - 4..BLOCK).0;
        !self.has_sums() || sum == Fields(block).be32(BLOCK - 4)
    }

    fn commit_is_sound(&self, block: &[u8]) -> bool {
        let sum = self.seed.with_hole(block, 0x10..0x14).0;
        !self.has_sums() || sum == Fields(block).be32(0x10)
    }

    /// Reads a descriptor's tags; returns how many blocks of data follow it.
    fn descriptor(&self, block: &[u8], at: u32, sequence: u32, into: &mut Found) -> Result<u32> {
        let end = if self.has_sums() { BLOCK - 4 } else { BLOCK };
        let size = self.tag_size();
        let mut place = 12;
        let mut count = 0;
        while place + size <= end {
            let tag = Fields(&block[place..place + size]);
            let v3 = self.features & FEATURE_CSUM_V3 != 0;
            let flags = if v3 { tag.be32(4) } else { u32::from(tag.be16(6)) };
            count += 1;
            if count > self.end - self.first {
                return Err(corrupt("journal", "a descriptor shorter than the log", count));
            }
            let wide = self.features & FEATURE_64BIT != 0;
            let target = BlockNo(
                u64::from(tag.be32(0)) | if wide { u64::from(tag.be32(8)) << 32 } else { 0 },
            );
            if flags & TAG_DELETED == 0 {
                let log = self.after(at, count);
                let stored = if v3 { tag.be32(12) } else { u32::from(tag.be16(4)) };
                let escaped = flags & TAG_ESCAPED != 0;
                into.tags.push(self.tag(target, log, escaped, sequence, stored)?);
            }
            place += size + if flags & TAG_SAME_UUID == 0 { 16 } else { 0 };
            if flags & TAG_LAST != 0 {
                break;
            }
        }
        Ok(count)
    }

    fn tag(
        &self,
        target: BlockNo,
        log: u32,
        escaped: bool,
        sequence: u32,
        sum: u32,
    ) -> Result<Tag> {
        Ok(Tag { target, log: self.place(log)?, escaped, sequence, sum })
    }

    /// The data of a committed transaction must be what was written; the log is not at its end
    /// here, so this is damage.
    fn verify(&self, tag: &Tag) -> Result<()> {
        if !self.has_sums() {
            return Ok(());
        }
        let mut bytes = vec![0; BLOCK];
        self.volume.read_blocks(tag.log, &mut bytes)?;
        let mask = if self.features & FEATURE_CSUM_V3 != 0 { !0 } else { 0xFFFF };
        let sum = self.seed.with(&tag.sequence.to_be_bytes()).with(&bytes).0 & mask;
        check_sum(format!("journal, block {} for {}", tag.log, tag.target), sum, tag.sum)
    }

    fn tag_size(&self) -> usize {
        if self.features & FEATURE_CSUM_V3 != 0 {
            return 16;
        }
        let sum = if self.features & FEATURE_CSUM_V2 != 0 { 2 } else { 0 };
        let wide = if self.features & FEATURE_64BIT != 0 { 4 } else { 0 };
        8 + sum + wide
    }

    fn revoke(&self, block: &[u8], sequence: u32, into: &mut Found) {
        let fields = Fields(block);
        let size = if self.features & FEATURE_64BIT != 0 { 8 } else { 4 };
        let end = (fields.be32(12) as usize).min(if self.has_sums() { BLOCK - 4 } else { BLOCK });
        let mut at = 16;
        while at + size <= end {
            let target = if size == 8 {
                u64::from_be_bytes(fields.array(at))
            } else {
                fields.be32(at).into()
            };
            into.revoked.insert(BlockNo(target), sequence);
            at += size;
        }
    }

    /// Marks the journal empty and the volume recovered.
    fn empty(&self, device: &mut ReplayedDevice, sequence: u32) -> Result<()> {
        let at = self.place(0)?;
        let mut bytes = device.read_block(at)?;
        bytes[0x18..0x1C].copy_from_slice(&sequence.wrapping_add(1).to_be_bytes());
        bytes[0x1C..0x20].fill(0);
        if self.has_sums() {
            let sum = Seed::START.with_hole(&bytes[..1024], 0xFC..0x100).0;
            bytes[0xFC..0x100].copy_from_slice(&sum.to_be_bytes());
        }
        device.put(at, bytes);
        edit_superblock(device, |sb| {
            let incompat = Fields(sb).u32(0x60) & !feature::INCOMPAT_RECOVER;
            sb[0x60..0x64].copy_from_slice(&incompat.to_le_bytes());
        })
    }
}

fn edit_superblock(device: &mut ReplayedDevice, edit: impl FnOnce(&mut [u8])) -> Result<()> {
    let mut block = device.read_block(BlockNo(0))?;
    let sb = &mut block[SUPERBLOCK_AT as usize..][..1024];
    edit(sb);
    if Fields(sb).u32(0x64) & feature::RO_METADATA_CSUM != 0 {
        let sum = Seed::START.with(&sb[..0x3FC]).0;
        sb[0x3FC..].copy_from_slice(&sum.to_le_bytes());
    }
    device.put(BlockNo(0), block);
    Ok(())
}

/// Sets the superblock's counts of free blocks and inodes to what the groups say, as the kernel
/// does when it mounts: while a volume is mounted they are kept in memory only.
pub(crate) fn settle_counts(volume: &Volume, device: &ReplayedDevice) -> Result<ReplayedDevice> {
    let blocks: u64 = volume.groups().iter().map(|group| u64::from(group.free_blocks)).sum();
    let inodes: u64 = volume.groups().iter().map(|group| u64::from(group.free_inodes)).sum();
    let mut device = device.clone();
    let wide = volume.superblock().is_64bit();
    edit_superblock(&mut device, |sb| {
        sb[0xC..0x10].copy_from_slice(&(blocks as u32).to_le_bytes());
        if wide {
            sb[0x158..0x15C].copy_from_slice(&((blocks >> 32) as u32).to_le_bytes());
        }
        sb[0x10..0x14].copy_from_slice(&(inodes as u32).to_le_bytes());
    })?;
    Ok(device)
}
