//! Group descriptors, and which blocks a volume's fixed metadata takes.
//!
//! ```text
//! 32 bytes, or 64 and more with `64bit` (the second half holds the high halves)
//!   0x00 block bitmap  0x04 inode bitmap  0x08 inode table  0x0C free blocks u16
//!   0x0E free inodes   0x10 directories   0x12 flags        0x18 block bitmap's crc
//!   0x1A inode bitmap's crc   0x1C unused inodes at the table's end   0x1E crc of this
//! ```
//! Kernel documentation, filesystems/ext4, "Block Group Descriptors", "Meta Block Groups".

use goldleaf_block::{BLOCK_SIZE, BlockCount, BlockNo, BlockRange, ReadBlocks};

use crate::checksum::crc16;
use crate::error::{Result, check_sum, corrupt};
use crate::fields::Fields;
use crate::superblock::{Superblock, feature};

const FLAG_INODE_UNINIT: u16 = 1;
const FLAG_BLOCK_UNINIT: u16 = 2;

/// One group's descriptor, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// Block of the block bitmap.
    pub block_bitmap: BlockNo,
    /// Block of the inode bitmap.
    pub inode_bitmap: BlockNo,
    /// First block of the inode table.
    pub inode_table: BlockNo,
    /// Free blocks, as the descriptor counts them.
    pub free_blocks: u32,
    /// Free inodes, as the descriptor counts them.
    pub free_inodes: u32,
    /// Inodes at the table's end that were never used.
    pub unused_inodes: u32,
    pub(crate) flags: u16,
    pub(crate) block_bitmap_csum: u32,
    pub(crate) inode_bitmap_csum: u32,
}

impl Group {
    fn parse(sb: &Superblock, number: u32, bytes: &[u8]) -> Result<Self> {
        verify(sb, number, bytes)?;
        let fields = Fields(bytes);
        let wide = |low, high| u32::from(fields.u16(low)) | u32::from(fields.u16(high)) << 16;
        let group = Self {
            block_bitmap: BlockNo(fields.split64(0x0, 0x20)),
            inode_bitmap: BlockNo(fields.split64(0x4, 0x24)),
            inode_table: BlockNo(fields.split64(0x8, 0x28)),
            free_blocks: wide(0xC, 0x2C),
            free_inodes: wide(0xE, 0x2E),
            unused_inodes: if sb.has_group_csum() { wide(0x1C, 0x32) } else { 0 },
            flags: if sb.has_group_csum() { fields.u16(0x12) } else { 0 },
            block_bitmap_csum: wide(0x18, 0x38),
            inode_bitmap_csum: wide(0x1A, 0x3A),
        };
        group.check(sb, number)?;
        Ok(group)
    }

    fn check(&self, sb: &Superblock, number: u32) -> Result<()> {
        let place = || format!("descriptor of group {number}");
        let runs = [
            (self.block_bitmap, 1),
            (self.inode_bitmap, 1),
            (self.inode_table, sb.inode_table_blocks()),
        ];
        for (start, count) in runs {
            if start.0 == 0 || start.0.checked_add(count).is_none_or(|end| end > sb.blocks) {
                let expected = format!("{count} blocks within {}", sb.blocks);
                return Err(corrupt(place(), expected, format!("block {start}")));
            }
        }
        if self.unused_inodes > sb.inodes_per_group {
            let expected = format!("at most {} unused inodes", sb.inodes_per_group);
            return Err(corrupt(place(), expected, self.unused_inodes));
        }
        Ok(())
    }

    /// Whether the block bitmap was never written: only fixed metadata is in use.
    pub(crate) fn block_uninit(&self) -> bool {
        self.flags & FLAG_BLOCK_UNINIT != 0
    }

    /// Whether the inode bitmap and table were never written: no inode is in use.
    pub(crate) fn inode_uninit(&self) -> bool {
        self.flags & FLAG_INODE_UNINIT != 0
    }

    /// How many inodes from the table's start can be in use.
    pub(crate) fn initialized_inodes(&self, sb: &Superblock) -> u32 {
        if self.inode_uninit() { 0 } else { sb.inodes_per_group - self.unused_inodes }
    }
}

fn verify(sb: &Superblock, number: u32, bytes: &[u8]) -> Result<()> {
    let fields = Fields(bytes);
    let stored = u32::from(fields.u16(0x1E));
    let place = || format!("descriptor of group {number}");
    if sb.has_metadata_csum() {
        let sum = sb.csum_seed().with_u32(number).with_hole(bytes, 0x1E..0x20);
        return check_sum(place(), sum.0 & 0xFFFF, stored);
    }
    if sb.ro_compat & feature::RO_GDT_CSUM != 0 {
        let sum = crc16(crc16(!0, &sb.uuid), &number.to_le_bytes());
        let sum = crc16(crc16(sum, fields.slice(0, 0x1E)), fields.slice(0x20, bytes.len()));
        return check_sum(place(), u32::from(sum), stored);
    }
    Ok(())
}

/// Reads all descriptors.
pub(crate) fn read_groups(device: &dyn ReadBlocks, sb: &Superblock) -> Result<Vec<Group>> {
    let per_block = per_block(sb);
    let mut groups = Vec::with_capacity(sb.groups() as usize);
    let mut block = vec![0; BLOCK_SIZE as usize];
    for index in 0..descriptor_blocks(sb) {
        let at = descriptor_block(sb, index);
        if at.0 >= sb.blocks {
            return Err(corrupt("descriptors", format!("blocks below {}", sb.blocks), at));
        }
        device.read_at(at.offset(), &mut block)?;
        let first = index * per_block;
        let records = block.chunks_exact(usize::from(sb.desc_size));
        for (number, bytes) in (first..sb.groups()).zip(records) {
            groups.push(Group::parse(sb, number, bytes)?);
        }
    }
    Ok(groups)
}

fn per_block(sb: &Superblock) -> u32 {
    (BLOCK_SIZE / u64::from(sb.desc_size)) as u32
}

fn descriptor_blocks(sb: &Superblock) -> u32 {
    sb.groups().div_ceil(per_block(sb))
}

/// How many descriptor blocks stand behind the superblock; the rest are in their meta groups.
fn classic_blocks(sb: &Superblock) -> u32 {
    if sb.incompat & feature::INCOMPAT_META_BG == 0 {
        return descriptor_blocks(sb);
    }
    sb.first_meta_bg.min(descriptor_blocks(sb))
}

fn descriptor_block(sb: &Superblock, index: u32) -> BlockNo {
    if index < classic_blocks(sb) {
        return BlockNo(1 + u64::from(index));
    }
    let group = index * per_block(sb);
    sb.group_start(group).plus(BlockCount(u64::from(has_superblock(sb, group))))
}

/// Whether a group begins with a copy of the superblock.
fn has_superblock(sb: &Superblock, group: u32) -> bool {
    if group == 0 {
        return true;
    }
    if sb.compat & feature::COMPAT_SPARSE_SUPER2 != 0 {
        return sb.backup_groups.contains(&group);
    }
    let power_of = |base: u32| {
        let mut rest = group;
        while rest % base == 0 {
            rest /= base;
        }
        rest == 1
    };
    sb.ro_compat & feature::RO_SPARSE_SUPER == 0
        || group == 1
        || power_of(3)
        || power_of(5)
        || power_of(7)
}

/// All blocks that hold superblocks, descriptors (those reserved for growth included), bitmaps,
/// inode tables and the multi-mount block; sorted. Overlaps are left in: validation looks for them.
pub(crate) fn fixed_metadata(sb: &Superblock, groups: &[Group]) -> Vec<BlockRange> {
    fixed_with(sb, groups, |_| sb.inode_table_blocks())
}

/// The same less the ends of inode tables that were never used: what is there, is not read.
pub(crate) fn fixed_in_use(sb: &Superblock, groups: &[Group]) -> Vec<BlockRange> {
    let per_block = u64::from(sb.inodes_per_block());
    fixed_with(sb, groups, |group| u64::from(group.initialized_inodes(sb)).div_ceil(per_block))
}

fn fixed_with(
    sb: &Superblock,
    groups: &[Group],
    table_blocks: impl Fn(&Group) -> u64,
) -> Vec<BlockRange> {
    let mut ranges = Vec::with_capacity(groups.len() * 4 + 1);
    for (number, group) in (0..).zip(groups) {
        let base = base_metadata(sb, number);
        if base > 0 {
            let start = sb.group_start(number);
            let count = base.min(sb.blocks - start.0);
            ranges.push(BlockRange::new(start, BlockCount(count)));
        }
        ranges.push(BlockRange::new(group.block_bitmap, BlockCount(1)));
        ranges.push(BlockRange::new(group.inode_bitmap, BlockCount(1)));
        let table = BlockCount(table_blocks(group));
        ranges.push(BlockRange::new(group.inode_table, table));
    }
    if sb.incompat & feature::INCOMPAT_MMP != 0 && sb.mmp_block < sb.blocks {
        ranges.push(BlockRange::new(BlockNo(sb.mmp_block), BlockCount(1)));
    }
    ranges.sort();
    ranges
}

/// Blocks at a group's start: superblock, descriptors, descriptors reserved for growth.
fn base_metadata(sb: &Superblock, group: u32) -> u64 {
    let copy = u64::from(has_superblock(sb, group));
    let meta = sb.incompat & feature::INCOMPAT_META_BG != 0;
    let per_block = per_block(sb);
    if !meta || group / per_block < sb.first_meta_bg {
        return copy * (1 + u64::from(classic_blocks(sb)) + u64::from(sb.reserved_gdt));
    }
    let within = group % per_block;
    copy + u64::from(within <= 1 || within == per_block - 1)
}
