//! Where the structures of a valid volume lie. Only ever used on the seeds, so it checks nothing.

use goldleaf_ext4::Seed;

use crate::disk::{BLOCK, Disk};
use crate::input::{le16, le32};

/// What lies at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The superblock.
    Super,
    /// The descriptor of the only group.
    Group,
    /// A bitmap; its sum is in the descriptor and not verified by readers.
    Bitmap,
    /// An inode, and whether its extents need a block of their own.
    Inode {
        /// Its number.
        ino: u32,
        /// Whether the root of an extent tree is in it.
        is_tree: bool,
    },
    /// The space for attributes behind an inode's fields.
    Inline {
        /// The inode's number.
        ino: u32,
    },
    /// A block of a directory, with the seed of its sum.
    Leaf(Seed),
    /// A block of a directory's index.
    Index(Seed),
    /// A block of extents.
    Extents(Seed),
    /// A block of attributes.
    Attributes,
    /// A block of the journal.
    Journal,
}

impl Kind {
    pub fn is_super(&self) -> bool {
        matches!(self, Self::Super | Self::Group | Self::Bitmap)
    }

    pub fn is_inode(&self) -> bool {
        matches!(self, Self::Inode { .. })
    }

    pub fn is_leaf(&self) -> bool {
        matches!(self, Self::Leaf(_))
    }

    pub fn is_index(&self) -> bool {
        matches!(self, Self::Index(_))
    }

    pub fn is_extents(&self) -> bool {
        matches!(self, Self::Extents(_) | Self::Inode { is_tree: true, .. })
    }

    pub fn is_attributes(&self) -> bool {
        matches!(self, Self::Attributes | Self::Inline { .. })
    }

    pub fn is_journal(&self) -> bool {
        matches!(self, Self::Journal)
    }
}

/// One structure: `len` bytes from `at` of a block.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    pub kind: Kind,
    pub block: u64,
    pub at: usize,
    pub len: usize,
}

/// All structures, and what their sums need.
pub struct Survey {
    pub places: Vec<Place>,
    pub seed: Seed,
    pub has_sums: bool,
    pub desc_size: usize,
    pub inode_size: usize,
    table: u64,
}

/// The journal's inode.
const JOURNAL: u32 = 8;
const MODE_DIRECTORY: usize = 0x4000;
const FLAG_INDEX: u32 = 0x1000;
const FLAG_EXTENTS: u32 = 0x80000;

impl Survey {
    pub fn of(disk: &Disk) -> Self {
        let sb = disk.bytes(1024, 1024);
        let seeded = le32(&sb, 0x60) & 0x2000 != 0;
        let uuid: [u8; 16] = sb[0x68..0x78].try_into().expect("16 bytes");
        let group = disk.block(1);
        let mut survey = Self {
            places: Vec::new(),
            seed: if seeded { Seed(le32(&sb, 0x270)) } else { Seed::of_volume(&uuid) },
            has_sums: le32(&sb, 0x64) & 0x400 != 0,
            desc_size: le16(&sb, 0xFE),
            inode_size: le16(&sb, 0x58),
            table: le32(group, 0x8).into(),
        };
        survey.add(Kind::Super, 0, 1024, 1024);
        survey.add(Kind::Group, 1, 0, survey.desc_size);
        survey.add(Kind::Bitmap, le32(group, 0x0).into(), 0, 256);
        survey.add(Kind::Bitmap, le32(group, 0x4).into(), 0, 16);
        for ino in 1..=le32(&sb, 0x28) {
            survey.inode(disk, ino);
        }
        survey
    }

    /// Block and offset of an inode's record.
    pub fn inode_place(&self, ino: u32) -> (u64, usize) {
        let at = (ino as usize - 1) * self.inode_size;
        (self.table + (at / BLOCK) as u64, at % BLOCK)
    }

    fn add(&mut self, kind: Kind, block: u64, at: usize, len: usize) {
        self.places.push(Place { kind, block, at, len });
    }

    fn inode(&mut self, disk: &Disk, ino: u32) {
        let (block, at) = self.inode_place(ino);
        let raw = &disk.block(block)[at..at + self.inode_size];
        if le16(raw, 0x1A) == 0 {
            return;
        }
        let flags = le32(raw, 0x20);
        let has_extents = flags & FLAG_EXTENTS != 0;
        let is_tree = has_extents && le16(raw, 0x28 + 6) > 0;
        self.add(Kind::Inode { ino, is_tree }, block, at, self.inode_size);
        let fields = 128 + le16(raw, 0x80);
        self.add(Kind::Inline { ino }, block, at + fields, self.inode_size - fields);
        let attributes = le32(raw, 0x68);
        let known = self.places.iter().any(|place| place.block == u64::from(attributes));
        if attributes != 0 && !known {
            self.add(Kind::Attributes, attributes.into(), 0, BLOCK);
        }
        if !has_extents {
            return;
        }
        let seed = self.seed.of_inode(goldleaf_ext4::InodeNo(ino), le32(raw, 0x64));
        let is_directory = le16(raw, 0) & 0xF000 == MODE_DIRECTORY;
        let blocks = self.extents(disk, seed, &raw[0x28..0x64]);
        for (logical, block) in blocks {
            let is_index = flags & FLAG_INDEX != 0 && (logical == 0 || is_node(disk.block(block)));
            match () {
                () if is_directory && is_index => self.add(Kind::Index(seed), block, 0, BLOCK),
                () if is_directory => self.add(Kind::Leaf(seed), block, 0, BLOCK),
                () if ino == JOURNAL && disk.block(block).iter().any(|&byte| byte != 0) => {
                    self.add(Kind::Journal, block, 0, BLOCK);
                }
                () => {}
            }
        }
    }

    /// The blocks of a tree with their places in the file.
    fn extents(&mut self, disk: &Disk, seed: Seed, node: &[u8]) -> Vec<(u64, u64)> {
        let (count, depth) = (le16(node, 2), le16(node, 6));
        let mut blocks = Vec::new();
        for entry in node[12..].chunks_exact(12).take(count) {
            if depth > 0 {
                let block = u64::from(le32(entry, 4));
                self.add(Kind::Extents(seed), block, 0, BLOCK);
                let below = disk.block(block).to_vec();
                blocks.extend(self.extents(disk, seed, &below));
                continue;
            }
            let (first, start) = (u64::from(le32(entry, 0)), u64::from(le32(entry, 8)));
            blocks.extend((0..le16(entry, 4) as u64).map(|n| (first + n, start + n)));
        }
        blocks
    }
}

/// Whether a block of a directory is an inner node of its index: one free record fills it.
fn is_node(block: &[u8]) -> bool {
    le32(block, 0) == 0 && le16(block, 4) == BLOCK
}
