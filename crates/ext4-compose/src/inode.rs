//! The bytes of an inode (`struct ext2_inode_large`; kernel documentation, "ext4: inodes").
//!
//! ```text
//!   0 mode   2 uid   4 size   8 atime  12 ctime  16 mtime  20 dtime  24 gid  26 links
//!  28 blocks (512 bytes)     32 flags  36 version
//!  40 15 words: extent tree, link target or device number
//! 100 generation  104 xattr block  108 size high  116 blocks high  118 xattr block high
//! 120 uid high    122 gid high     124 checksum
//! 128 extra size  130 checksum high  132 ctime, 136 mtime, 140 atime extra (nanoseconds, epoch)
//! 144 birth time  148 birth time extra  152 version high  156 project
//! ```

use goldleaf_ext4::inode_sum_is_wide;
use goldleaf_tree::{Attrs, FLAG_NOATIME, FLAG_NODUMP, FLAGS_KEPT, NodeKind, Timestamp};

/// `EXT4_EXTENTS_FL`.
pub(crate) const FLAG_EXTENTS: u32 = 0x8_0000;
/// `EXT4_INDEX_FL`.
pub(crate) const FLAG_INDEX: u32 = 0x1000;

/// Length of the 15 words.
pub(crate) const WORDS: usize = 60;
const WORDS_AT: usize = 40;
const BASIC_SIZE: usize = 128;
/// Where the four extra times end.
const TIMES_END: usize = 152;

const TYPE_MASK: u16 = 0xF000;
const TYPE_DIR: u16 = 0x4000;
const TYPE_FILE: u16 = 0x8000;
const TYPE_SYMLINK: u16 = 0xA000;

/// An inode as it lies in its table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawInode {
    bytes: Vec<u8>,
}

impl RawInode {
    /// An inode of zeroes.
    pub(crate) fn new(size: usize) -> Self {
        Self { bytes: vec![0; size.max(BASIC_SIZE)] }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    pub(crate) fn type_bits(&self) -> u16 {
        self.u16_at(0) & TYPE_MASK
    }

    pub(crate) fn is_dir(&self) -> bool {
        self.type_bits() == TYPE_DIR
    }

    /// Whether the 15 words lead to blocks. Those of a short link are its target, those of a device
    /// its number.
    pub(crate) fn has_blocks(&self) -> bool {
        match self.type_bits() {
            TYPE_DIR | TYPE_FILE => true,
            TYPE_SYMLINK => self.flags() & FLAG_EXTENTS != 0 || self.u32_at(4) >= WORDS as u32,
            _ => false,
        }
    }

    pub(crate) fn links(&self) -> u16 {
        self.u16_at(26)
    }

    pub(crate) fn set_links(&mut self, links: u16) {
        self.put_u16(26, links);
    }

    pub(crate) fn flags(&self) -> u32 {
        self.u32_at(32)
    }

    pub(crate) fn set_flags(&mut self, flags: u32) {
        self.put_u32(32, flags);
    }

    pub(crate) fn generation(&self) -> u32 {
        self.u32_at(100)
    }

    /// Sets the checksum, as far as there is room for it.
    pub(crate) fn set_sum(&mut self, sum: u32) {
        self.put_u16(124, sum as u16);
        if inode_sum_is_wide(usize::from(self.extra_isize())) {
            self.put_u16(130, (sum >> 16) as u16);
        }
    }

    pub(crate) fn set_generation(&mut self, generation: u32) {
        self.put_u32(100, generation);
    }

    /// The block of extended attributes, 0 for none.
    pub(crate) fn xattr_block(&self) -> u64 {
        u64::from(self.u32_at(104)) | u64::from(self.u16_at(118)) << 32
    }

    pub(crate) fn set_size(&mut self, size: u64) {
        self.put_u32(4, size as u32);
        self.put_u32(108, (size >> 32) as u32);
    }

    /// Sets the count of blocks held, in blocks of 4 KiB.
    pub(crate) fn set_blocks(&mut self, blocks: u64) {
        let sectors = blocks * 8;
        self.put_u32(28, sectors as u32);
        self.put_u16(116, (sectors >> 32) as u16);
    }

    pub(crate) fn set_words(&mut self, words: &[u8; WORDS]) {
        self.bytes[WORDS_AT..WORDS_AT + WORDS].copy_from_slice(words);
    }

    /// Drops the attributes within the inode; a block of them must have been let go before.
    pub(crate) fn clear_xattrs(&mut self, extra_isize: u16) {
        self.put_u32(104, 0);
        self.put_u16(118, 0);
        if self.bytes.len() > BASIC_SIZE {
            let start = (BASIC_SIZE + usize::from(extra_isize)).min(self.bytes.len());
            self.bytes[start..].fill(0);
        }
    }

    /// Bytes of the fields behind the first 128, as this inode has it.
    pub(crate) fn extra_isize(&self) -> u16 {
        if self.bytes.len() > BASIC_SIZE { self.u16_at(BASIC_SIZE) } else { 0 }
    }

    pub(crate) fn set_extra_isize(&mut self, size: u16) {
        if self.bytes.len() > BASIC_SIZE {
            self.put_u16(BASIC_SIZE, size);
        }
    }

    /// Sets type, permissions, owners, times and the flags that are kept, leaving other flags.
    /// There is no access time to keep: it is `now`, which under `relatime` spares the guest the
    /// write that an older one would provoke at the first read.
    pub(crate) fn set_attrs(&mut self, kind: NodeKind, attrs: &Attrs, now: Timestamp) {
        self.put_u16(0, type_bits(kind) | (attrs.mode & 0o7777));
        self.put_u16(2, attrs.uid as u16);
        self.put_u16(120, (attrs.uid >> 16) as u16);
        self.put_u16(24, attrs.gid as u16);
        self.put_u16(122, (attrs.gid >> 16) as u16);
        self.put_time(8, 140, now);
        self.put_time(12, 132, attrs.ctime);
        self.put_time(16, 136, attrs.mtime);
        if self.bytes.len() >= TIMES_END {
            self.put_time(144, 148, attrs.crtime);
        }
        let kept = attrs.flags & kept_flags(kind);
        self.set_flags(self.flags() & !FLAGS_KEPT | kept);
    }

    /// Sets the numbers of a device: the old 16-bit form where it holds them, else the new one.
    pub(crate) fn set_device(&mut self, major: u32, minor: u32) {
        if major < 256 && minor < 256 {
            self.put_u32(WORDS_AT, major << 8 | minor);
        } else {
            let new = (minor & 0xFF) | (major & 0xFFF) << 8 | (minor & 0xF_FF00) << 12;
            self.put_u32(WORDS_AT + 4, new);
        }
    }

    /// Seconds are 34 bits wide: 32 signed ones and two of epoch in the extra word, with the
    /// nanoseconds above them. Times outside (1901 to 2446, or 2038 in a short inode) are clamped.
    fn put_time(&mut self, at: usize, extra_at: usize, time: Timestamp) {
        let has_extra = self.bytes.len() >= TIMES_END;
        let last =
            if has_extra { i64::from(i32::MIN) + (1 << 34) - 1 } else { i64::from(i32::MAX) };
        let secs = time.secs.clamp(i64::from(i32::MIN), last);
        self.put_u32(at, secs as u32);
        if has_extra {
            let epoch = ((secs - i64::from(secs as i32)) >> 32) as u32 & 3;
            self.put_u32(extra_at, time.nanos.min(999_999_999) << 2 | epoch);
        }
    }

    fn u16_at(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]])
    }

    fn u32_at(&self, at: usize) -> u32 {
        u32::from(self.u16_at(at)) | u32::from(self.u16_at(at + 2)) << 16
    }

    fn put_u16(&mut self, at: usize, value: u16) {
        self.bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }

    fn put_u32(&mut self, at: usize, value: u32) {
        self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
}

/// The bits of `st_mode` that say the kind.
pub(crate) fn type_bits(kind: NodeKind) -> u16 {
    match kind {
        NodeKind::Fifo => 0x1000,
        NodeKind::CharDevice { .. } => 0x2000,
        NodeKind::Directory => TYPE_DIR,
        NodeKind::BlockDevice { .. } => 0x6000,
        NodeKind::File => TYPE_FILE,
        NodeKind::Symlink => TYPE_SYMLINK,
        NodeKind::Socket => 0xC000,
    }
}

/// The kind's number in a directory entry.
pub(crate) fn file_type(kind: NodeKind) -> u8 {
    match kind {
        NodeKind::File => 1,
        NodeKind::Directory => crate::names::FILE_TYPE_DIR,
        NodeKind::CharDevice { .. } => 3,
        NodeKind::BlockDevice { .. } => 4,
        NodeKind::Fifo => 5,
        NodeKind::Socket => 6,
        NodeKind::Symlink => 7,
    }
}

/// Only files and directories may be immutable or append-only; e2fsck and the kernel agree.
fn kept_flags(kind: NodeKind) -> u32 {
    match kind {
        NodeKind::File | NodeKind::Directory => FLAGS_KEPT,
        _ => FLAG_NODUMP | FLAG_NOATIME,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(secs: i64, nanos: u32) -> (u32, u32) {
        let mut inode = RawInode::new(256);
        inode.put_time(16, 136, Timestamp { secs, nanos });
        (inode.u32_at(16), inode.u32_at(136))
    }

    #[test]
    fn times_are_as_the_kernel_documents_them() {
        // The table of "Inode Timestamps" in the kernel's ext4 documentation.
        for (secs, low, epoch) in [
            (-1, 0xFFFF_FFFF, 0),
            (-0x8000_0000, 0x8000_0000, 0),
            (0, 0, 0),
            (0x7FFF_FFFF, 0x7FFF_FFFF, 0),
            (0x8000_0000, 0x8000_0000, 1),
            (0xFFFF_FFFF, 0xFFFF_FFFF, 1),
            (0x1_0000_0000, 0, 1),
            (0x3_7FFF_FFFF, 0x7FFF_FFFF, 3),
            (i64::MAX, 0x7FFF_FFFF, 3),
        ] {
            assert_eq!(stored(secs, 5), (low, 5 << 2 | epoch), "{secs:#x}");
        }
    }

    #[test]
    fn devices_take_the_form_that_holds_them() {
        let mut inode = RawInode::new(256);
        inode.set_device(8, 1);
        assert_eq!((inode.u32_at(40), inode.u32_at(44)), (0x801, 0));
        let mut inode = RawInode::new(256);
        inode.set_device(0xABC, 0x12345);
        assert_eq!((inode.u32_at(40), inode.u32_at(44)), (0, 0x123A_BC45));
    }
}
