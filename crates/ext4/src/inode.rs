//! Inodes: what a file is, and where its record lies.
//!
//! ```text
//! 128 bytes, then `extra` more of the record's size
//!   0x00 mode  0x02 uid  0x04 size  0x08/0C/10/14 atime ctime mtime dtime  0x18 gid  0x1A links
//!   0x1C sectors  0x20 flags  0x28 60 bytes: extent tree, target or device  0x64 generation
//!   0x68 xattr block  0x6C size (high)  0x78/7A uid, gid (high)  0x7C crc (low)
//!   0x80 extra  0x82 crc (high)  0x84/88/8C ctime mtime atime extra  0x90 crtime  0x94 its extra
//! ```
//! Kernel documentation, filesystems/ext4, "Index Nodes". The extra word of a time holds two more
//! bits of seconds (low) and thirty of nanoseconds.

use goldleaf_tree::{Attrs, FLAGS_KEPT, Node, NodeId, NodeKind, Timestamp};

use crate::checksum::{Seed, inode_sum, inode_sum_is_wide};
use crate::error::{Ext4Error, Result, check_sum, corrupt};
use crate::fields::Fields;
use crate::superblock::Superblock;

/// Number of an inode, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InodeNo(pub u32);

impl InodeNo {
    /// The root directory.
    pub const ROOT: InodeNo = InodeNo(2);
    /// The inode that owns the descriptors reserved for growth.
    pub(crate) const RESIZE: InodeNo = InodeNo(7);
}

impl std::fmt::Display for InodeNo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "inode {}", self.0)
    }
}

impl From<InodeNo> for NodeId {
    fn from(ino: InodeNo) -> Self {
        NodeId(u64::from(ino.0))
    }
}

/// The part of a record that every revision has.
pub(crate) const GOOD_OLD_SIZE: usize = 128;
/// The extent tree's flag.
pub(crate) const FLAG_EXTENTS: u32 = 0x8_0000;
/// The hashed directory's flag.
pub(crate) const FLAG_INDEX: u32 = 0x1000;
const FLAG_HUGE_FILE: u32 = 0x4_0000;
/// Flags of files that cannot be read here, with the word for each.
const FLAGS_REFUSED: [(u32, &str); 5] = [
    (0x800, "encryption (encrypt)"),
    (0x10_0000, "fs-verity (verity)"),
    (0x20_0000, "an attribute's value in an inode (ea_inode)"),
    (0x1000_0000, "inline data (inline_data)"),
    (0x4000_0000, "case folding (casefold)"),
];
/// Largest file in bytes: 2^32 blocks less one, as the kernel has it.
const SIZE_MAX: u64 = ((1 << 32) - 1) * 4096;
/// Longest target of a link in bytes: a block less its terminator.
const TARGET_MAX: u64 = 4095;

/// An inode's record, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inode {
    /// Its number.
    pub ino: InodeNo,
    /// `st_mode`.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length in bytes.
    pub size: u64,
    /// Number of names.
    pub links: u16,
    /// `i_flags`.
    pub flags: u32,
    /// Distinguishes successive uses of the number.
    pub generation: u32,
    /// Last change of content.
    pub mtime: Timestamp,
    /// Last change of the inode.
    pub ctime: Timestamp,
    /// Birth; zero with records of 128 bytes.
    pub crtime: Timestamp,
    pub(crate) sectors: u64,
    pub(crate) xattr_block: u64,
    pub(crate) body: [u8; 60],
    /// Where attributes within the record begin.
    pub(crate) xattr_at: usize,
}

impl Inode {
    /// Takes a record apart; `verify` checks its checksum too.
    pub(crate) fn parse(sb: &Superblock, ino: InodeNo, raw: &[u8], verify: bool) -> Result<Self> {
        let fields = Fields(raw);
        let extra = extra_size(sb, ino, fields)?;
        if verify && sb.has_metadata_csum() {
            verify_checksum(sb, ino, raw, extra)?;
        }
        let high = |low: usize, high: usize| {
            u32::from(fields.u16(low)) | u32::from(fields.u16(high)) << 16
        };
        let mode = fields.u16(0x0);
        let inode = Self {
            ino,
            mode,
            uid: high(0x2, 0x78),
            gid: high(0x18, 0x7A),
            size: size_of(mode, fields),
            links: fields.u16(0x1A),
            flags: fields.u32(0x20),
            generation: fields.u32(0x64),
            mtime: time(fields, extra, 0x10, 0x88),
            ctime: time(fields, extra, 0xC, 0x84),
            crtime: if extra >= 0x14 {
                time(fields, extra, 0x90, 0x94)
            } else {
                Timestamp::default()
            },
            sectors: sectors_of(fields),
            xattr_block: u64::from(fields.u32(0x68)) | u64::from(fields.u16(0x76)) << 32,
            body: fields.array(0x28),
            xattr_at: if raw.len() > GOOD_OLD_SIZE { GOOD_OLD_SIZE + extra } else { raw.len() },
        };
        Ok(inode)
    }

    /// Whether the record is of something that exists: a mode and at least one name.
    pub(crate) fn is_live(&self) -> bool {
        self.mode != 0 && self.links != 0
    }

    /// Whether it says that it is a directory.
    pub(crate) fn is_dir(&self) -> bool {
        self.mode >> 12 == 4
    }

    /// Whether it says that it is a regular file.
    pub(crate) fn is_file(&self) -> bool {
        self.mode >> 12 == 8
    }

    /// Whether it says that it is a symbolic link.
    pub(crate) fn is_symlink(&self) -> bool {
        self.mode >> 12 == 10
    }

    /// Whether blocks can belong to it through `body`.
    pub(crate) fn is_mapped(&self) -> bool {
        self.is_dir() || self.is_file() || (self.is_symlink() && !self.is_fast_symlink())
    }

    /// Whether the link's target stands in the inode itself.
    pub(crate) fn is_fast_symlink(&self) -> bool {
        let own = if self.xattr_block == 0 { 0 } else { 8 };
        self.is_symlink() && self.flags & FLAG_EXTENTS == 0 && self.sectors <= own
    }

    /// The kind.
    pub(crate) fn kind(&self) -> Result<NodeKind> {
        Ok(match self.mode >> 12 {
            1 => NodeKind::Fifo,
            2 => {
                let (major, minor) = self.device();
                NodeKind::CharDevice { major, minor }
            }
            4 => NodeKind::Directory,
            6 => {
                let (major, minor) = self.device();
                NodeKind::BlockDevice { major, minor }
            }
            8 => NodeKind::File,
            10 => NodeKind::Symlink,
            12 => NodeKind::Socket,
            other => return Err(corrupt(self.ino, "a known kind of file", format!("{other:#x}"))),
        })
    }

    fn device(&self) -> (u32, u32) {
        let fields = Fields(&self.body);
        let (old, new) = (fields.u32(0), fields.u32(4));
        if old != 0 {
            return (old >> 8 & 0xFF, old & 0xFF);
        }
        (new >> 8 & 0xFFF, new & 0xFF | new >> 12 & 0xFFF00)
    }

    /// Refuses what cannot be read here, and sizes that cannot be.
    pub(crate) fn check(&self) -> Result<()> {
        if let Some((_, word)) = FLAGS_REFUSED.iter().find(|(flag, _)| self.flags & flag != 0) {
            return Err(Ext4Error::Unsupported(format!("{} uses {word}", self.ino)));
        }
        let limit = if self.is_symlink() { TARGET_MAX } else { SIZE_MAX };
        if self.size > limit {
            return Err(corrupt(self.ino, format!("at most {limit} bytes"), self.size));
        }
        if self.is_fast_symlink() && self.size >= 60 {
            return Err(corrupt(self.ino, "a target below 60 bytes", self.size));
        }
        Ok(())
    }

    /// As the rest of Goldleaf sees it.
    pub(crate) fn node(&self) -> Result<Node> {
        self.check()?;
        let kind = self.kind()?;
        let sized = matches!(kind, NodeKind::File | NodeKind::Symlink);
        Ok(Node {
            id: self.ino.into(),
            kind,
            attrs: Attrs {
                mode: self.mode & 0o7777,
                uid: self.uid,
                gid: self.gid,
                mtime: self.mtime,
                ctime: self.ctime,
                crtime: self.crtime,
                flags: self.flags & FLAGS_KEPT,
            },
            size: if sized { self.size } else { 0 },
            links: u32::from(self.links),
            generation: self.generation,
        })
    }

    /// The seed of the checksums of this inode's blocks.
    pub(crate) fn seed(&self, sb: &Superblock) -> Seed {
        sb.csum_seed().of_inode(self.ino, self.generation)
    }
}

fn extra_size(sb: &Superblock, ino: InodeNo, fields: Fields<'_>) -> Result<usize> {
    if usize::from(sb.inode_size) <= GOOD_OLD_SIZE {
        return Ok(0);
    }
    let extra = usize::from(fields.u16(0x80));
    let room = usize::from(sb.inode_size) - GOOD_OLD_SIZE;
    if extra > room || extra % 4 != 0 {
        return Err(corrupt(ino, format!("an extra size of at most {room}"), extra));
    }
    Ok(extra)
}

/// The high half counts for files only: elsewhere its place has served other ends.
fn size_of(mode: u16, fields: Fields<'_>) -> u64 {
    if mode >> 12 == 8 { fields.split64(0x4, 0x6C) } else { u64::from(fields.u32(0x4)) }
}

fn sectors_of(fields: Fields<'_>) -> u64 {
    let count = u64::from(fields.u32(0x1C)) | u64::from(fields.u16(0x74)) << 32;
    if fields.u32(0x20) & FLAG_HUGE_FILE != 0 { count.saturating_mul(8) } else { count }
}

fn time(fields: Fields<'_>, extra: usize, at: usize, extra_at: usize) -> Timestamp {
    let secs = i64::from(fields.u32(at) as i32);
    if extra_at + 4 > GOOD_OLD_SIZE + extra {
        return Timestamp { secs, nanos: 0 };
    }
    let word = fields.u32(extra_at);
    let secs = secs + (i64::from(word & 3) << 32);
    Timestamp { secs, nanos: (word >> 2).min(999_999_999) }
}

fn verify_checksum(sb: &Superblock, ino: InodeNo, raw: &[u8], extra: usize) -> Result<()> {
    let fields = Fields(raw);
    let mut stored = u32::from(fields.u16(0x7C));
    if inode_sum_is_wide(extra) {
        stored |= u32::from(fields.u16(0x82)) << 16;
    }
    check_sum(ino, inode_sum(sb.csum_seed(), ino, raw, extra), stored)
}
