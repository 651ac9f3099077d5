//! The superblock: the volume's geometry and features.
//!
//! ```text
//! byte 1024 of the volume, 1,024 bytes, little endian
//!   0x00 inodes u32   0x04 blocks (low)   0x14 first data block   0x18 log2(block size) - 10
//!   0x20 blocks/group 0x28 inodes/group   0x38 magic 0xEF53       0x3A state u16
//!   0x54 first inode  0x58 inode size u16 0x5C/60/64 features     0x68 UUID
//!   0xE0 journal inode  0xFE descriptor size u16   0x104 first meta_bg   0x150 blocks (high)
//!   0x270 checksum seed   0x280 orphan file inode   0x3FC crc32c of all before it
//! ```
//! Kernel documentation, filesystems/ext4, "Super Block".
//! Volumes with blocks of another size than 4 KiB are refused: all of Goldleaf counts in those.

use goldleaf_block::{BLOCK_SIZE, BlockNo, ByteLen, ByteOffset, ReadBlocks};

use crate::checksum::Seed;
use crate::error::{Ext4Error, Result, check_sum, corrupt};
use crate::fields::Fields;
use crate::inode::InodeNo;

/// Where the superblock begins, in bytes.
pub(crate) const SUPERBLOCK_AT: u64 = 1024;
/// Its length in bytes.
pub(crate) const SUPERBLOCK_LEN: usize = 1024;
/// Behind the end of every structure, where fields read as zero.
const ABSENT: usize = 1 << 16;
/// Number of groups that are still believable: 128 TiB in groups of the usual size.
const GROUPS_MAX: u64 = 1 << 20;

/// Feature bits, under the names that `tune2fs` gives them.
pub(crate) mod feature {
    pub const COMPAT_HAS_JOURNAL: u32 = 0x4;
    pub const COMPAT_SPARSE_SUPER2: u32 = 0x200;
    pub const COMPAT_ORPHAN_FILE: u32 = 0x1000;
    pub const INCOMPAT_FILETYPE: u32 = 0x2;
    pub const INCOMPAT_RECOVER: u32 = 0x4;
    pub const INCOMPAT_META_BG: u32 = 0x10;
    pub const INCOMPAT_EXTENTS: u32 = 0x40;
    pub const INCOMPAT_64BIT: u32 = 0x80;
    pub const INCOMPAT_MMP: u32 = 0x100;
    pub const INCOMPAT_CSUM_SEED: u32 = 0x2000;
    /// What this reader understands, or meets only in files, which it then refuses: filetype,
    /// recover, meta_bg, extent, 64bit, mmp, flex_bg, ea_inode, csum_seed, largedir, inline_data,
    /// encrypt, casefold.
    pub const INCOMPAT_READ: u32 = 0x2
        | 0x4
        | 0x10
        | 0x40
        | 0x80
        | 0x100
        | 0x200
        | 0x400
        | 0x2000
        | 0x4000
        | 0x8000
        | 0x10000
        | 0x20000;
    pub const RO_SPARSE_SUPER: u32 = 0x1;
    pub const RO_GDT_CSUM: u32 = 0x10;
    pub const RO_BIGALLOC: u32 = 0x200;
    pub const RO_METADATA_CSUM: u32 = 0x400;
    pub const RO_ORPHAN_PRESENT: u32 = 0x10000;
}

/// What the superblock says, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    /// Number of inodes.
    pub inodes: u32,
    /// Number of blocks of 4 KiB.
    pub blocks: u64,
    /// Blocks in a group.
    pub blocks_per_group: u32,
    /// Inodes in a group.
    pub inodes_per_group: u32,
    /// Bytes of an inode's record.
    pub inode_size: u16,
    /// Bytes of a group's descriptor.
    pub desc_size: u16,
    /// Compatible features.
    pub compat: u32,
    /// Incompatible features.
    pub incompat: u32,
    /// Features that only forbid writing.
    pub ro_compat: u32,
    /// `s_state`: 1 clean, 2 errors were seen, 4 orphans are being recovered.
    pub state: u16,
    /// UUID.
    pub uuid: [u8; 16],
    /// Label, without the padding.
    pub label: Vec<u8>,
    /// First inode that is not reserved.
    pub first_inode: u32,
    pub(crate) reserved_gdt: u16,
    pub(crate) first_meta_bg: u32,
    pub(crate) journal_inode: u32,
    pub(crate) journal_device: u32,
    pub(crate) last_orphan: u32,
    pub(crate) mmp_block: u64,
    pub(crate) backup_groups: [u32; 2],
    pub(crate) orphan_file: u32,
    pub(crate) seed: u32,
}

impl Superblock {
    /// Reads and checks the superblock of the volume on `device`.
    pub fn read(device: &dyn ReadBlocks) -> Result<Self> {
        if device.len().0 < SUPERBLOCK_AT + SUPERBLOCK_LEN as u64 {
            return Err(corrupt("device", "room for a superblock", device.len()));
        }
        let mut bytes = vec![0; SUPERBLOCK_LEN];
        device.read_at(ByteOffset(SUPERBLOCK_AT), &mut bytes)?;
        Self::parse(&bytes, device.len())
    }

    /// Takes a superblock apart; `device` is the length of what it lies on.
    pub(crate) fn parse(bytes: &[u8], device: ByteLen) -> Result<Self> {
        let fields = Fields(bytes);
        if fields.u16(0x38) != 0xEF53 {
            return Err(corrupt("superblock", "magic 0xef53", format!("{:#x}", fields.u16(0x38))));
        }
        let sb = Self::fields(fields);
        sb.check_features(fields)?;
        sb.check_geometry(fields, device)?;
        Ok(sb)
    }

    fn fields(fields: Fields<'_>) -> Self {
        let incompat = fields.u32(0x60);
        let uuid = fields.array::<16>(0x68);
        let label = fields.array::<16>(0x78);
        let wide = incompat & feature::INCOMPAT_64BIT != 0;
        let seeded = incompat & feature::INCOMPAT_CSUM_SEED != 0;
        Self {
            inodes: fields.u32(0x0),
            blocks: fields.split64(0x4, if wide { 0x150 } else { ABSENT }),
            blocks_per_group: fields.u32(0x20),
            inodes_per_group: fields.u32(0x28),
            inode_size: if fields.u32(0x4C) == 0 { 128 } else { fields.u16(0x58) },
            desc_size: if wide { fields.u16(0xFE) } else { 32 },
            compat: fields.u32(0x5C),
            incompat,
            ro_compat: fields.u32(0x64),
            state: fields.u16(0x3A),
            uuid,
            label: label.iter().copied().take_while(|&byte| byte != 0).collect(),
            first_inode: if fields.u32(0x4C) == 0 { 11 } else { fields.u32(0x54) },
            reserved_gdt: fields.u16(0xCE),
            first_meta_bg: fields.u32(0x104),
            journal_inode: fields.u32(0xE0),
            journal_device: fields.u32(0xE4),
            last_orphan: fields.u32(0xE8),
            mmp_block: fields.u64(0x168),
            backup_groups: [fields.u32(0x24C), fields.u32(0x250)],
            orphan_file: fields.u32(0x280),
            seed: if seeded { fields.u32(0x270) } else { Seed::of_volume(&uuid).0 },
        }
    }

    fn check_features(&self, fields: Fields<'_>) -> Result<()> {
        if self.has_metadata_csum() {
            if fields.u8(0x175) != 1 {
                return Err(corrupt("superblock", "checksum type 1", fields.u8(0x175)));
            }
            check_sum("superblock", Seed::START.with(fields.slice(0, 0x3FC)).0, fields.u32(0x3FC))?;
        }
        let unknown = self.incompat & !feature::INCOMPAT_READ;
        if unknown != 0 {
            return Err(Ext4Error::Unsupported(format!("incompatible features {unknown:#x}")));
        }
        if self.ro_compat & feature::RO_BIGALLOC != 0 {
            return Err(Ext4Error::Unsupported("bigalloc".into()));
        }
        if self.incompat & feature::INCOMPAT_FILETYPE == 0 {
            return Err(Ext4Error::Unsupported("directories without file types".into()));
        }
        if fields.u32(0x18) != 2 {
            let log = fields.u32(0x18);
            return Err(Ext4Error::Unsupported(format!("blocks of 2^{log} KiB instead of 4 KiB")));
        }
        Ok(())
    }

    fn check_geometry(&self, fields: Fields<'_>, device: ByteLen) -> Result<()> {
        let place = "superblock";
        let blocks_max = device.0 / BLOCK_SIZE;
        if self.blocks == 0 || self.blocks > blocks_max {
            return Err(corrupt(place, format!("1 to {blocks_max} blocks"), self.blocks));
        }
        if fields.u32(0x14) != 0 {
            return Err(corrupt(place, "first data block 0", fields.u32(0x14)));
        }
        let per_group = self.blocks_per_group;
        if !(256..=32768).contains(&per_group) || per_group % 8 != 0 {
            return Err(corrupt(place, "256 to 32768 blocks a group", per_group));
        }
        let size = self.inode_size;
        if !size.is_power_of_two() || !(128..=4096).contains(&size) {
            return Err(corrupt(place, "an inode size of 128 to 4096", size));
        }
        let desc = self.desc_size;
        if !desc.is_power_of_two() || !(32..=1024).contains(&desc) || (self.is_64bit() && desc < 64)
        {
            return Err(corrupt(place, "a descriptor size of 32, or 64 to 1024", desc));
        }
        self.check_inodes()
    }

    fn check_inodes(&self) -> Result<()> {
        let place = "superblock";
        let per_group = self.inodes_per_group;
        let per_block = (BLOCK_SIZE / u64::from(self.inode_size)) as u32;
        if !(per_block..=32768).contains(&per_group) || per_group % per_block != 0 {
            return Err(corrupt(place, "whole blocks of up to 32768 inodes a group", per_group));
        }
        let groups = self.blocks.div_ceil(u64::from(self.blocks_per_group));
        if groups > GROUPS_MAX {
            return Err(Ext4Error::Limit(format!("{groups} groups, at most {GROUPS_MAX}")));
        }
        if u64::from(self.inodes) != groups * u64::from(per_group) {
            let expected = format!("{groups} times {per_group} inodes");
            return Err(corrupt(place, expected, self.inodes));
        }
        if !(11..=self.inodes).contains(&self.first_inode) {
            return Err(corrupt(place, "a first inode of 11 or more", self.first_inode));
        }
        let descriptors = groups.div_ceil(BLOCK_SIZE / u64::from(self.desc_size));
        let meta = self.incompat & feature::INCOMPAT_META_BG != 0;
        if meta && u64::from(self.first_meta_bg) > descriptors {
            let expected = format!("a first meta group of at most {descriptors}");
            return Err(corrupt(place, expected, self.first_meta_bg));
        }
        if self.reserved_gdt > 1024 {
            return Err(corrupt(place, "at most 1024 reserved blocks", self.reserved_gdt));
        }
        Ok(())
    }

    /// Number of groups.
    pub fn groups(&self) -> u32 {
        self.blocks.div_ceil(u64::from(self.blocks_per_group)) as u32
    }

    /// Blocks of one group's inode table.
    pub(crate) fn inode_table_blocks(&self) -> u64 {
        u64::from(self.inodes_per_group) * u64::from(self.inode_size) / BLOCK_SIZE
    }

    /// Inodes in a block of an inode table.
    pub(crate) fn inodes_per_block(&self) -> u32 {
        (BLOCK_SIZE / u64::from(self.inode_size)) as u32
    }

    pub(crate) fn is_64bit(&self) -> bool {
        self.incompat & feature::INCOMPAT_64BIT != 0
    }

    pub(crate) fn has_metadata_csum(&self) -> bool {
        self.ro_compat & feature::RO_METADATA_CSUM != 0
    }

    /// Whether descriptors carry checksums, which makes their "uninitialised" flags meaningful.
    pub(crate) fn has_group_csum(&self) -> bool {
        self.ro_compat & (feature::RO_METADATA_CSUM | feature::RO_GDT_CSUM) != 0
    }

    /// Whether transactions wait in the journal.
    pub fn needs_recovery(&self) -> bool {
        self.incompat & feature::INCOMPAT_RECOVER != 0
    }

    pub(crate) fn csum_seed(&self) -> Seed {
        Seed(self.seed)
    }

    /// The journal's inode, if the journal is on this volume.
    pub(crate) fn journal(&self) -> Option<InodeNo> {
        let has = self.compat & feature::COMPAT_HAS_JOURNAL != 0;
        (has && self.journal_inode != 0).then_some(InodeNo(self.journal_inode))
    }

    /// The inode of the orphan file, if there is one.
    pub(crate) fn orphan_file(&self) -> Option<InodeNo> {
        let has = self.compat & feature::COMPAT_ORPHAN_FILE != 0;
        (has && self.orphan_file != 0).then_some(InodeNo(self.orphan_file))
    }

    /// Whether an inode belongs to the file system itself and has no name anywhere.
    pub(crate) fn is_hidden(&self, ino: InodeNo) -> bool {
        (ino.0 < self.first_inode && ino != InodeNo::ROOT)
            || self.orphan_file() == Some(ino)
            || self.journal() == Some(ino)
    }

    /// Whether a record belongs to the file system itself and says nothing, so that no byte of it
    /// is read. The resize inode always counts.
    pub(crate) fn is_void(&self, ino: InodeNo, raw: &[u8]) -> bool {
        self.is_hidden(ino) && Fields(raw).u16(0) == 0 && ino != InodeNo::RESIZE
    }

    /// First block of a group.
    pub(crate) fn group_start(&self, group: u32) -> BlockNo {
        BlockNo(u64::from(group) * u64::from(self.blocks_per_group))
    }
}
