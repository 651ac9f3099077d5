//! Where the structures of a volume lie, for the knife: a small reader of volumes that were made
//! here and are trusted, and the sums that make an edit look as if it were meant.
//!
//! It shares nothing with the product's reader but the sum of an inode, so that a misunderstanding
//! there is not repeated here.

use std::collections::BTreeSet;

use goldleaf_block::{BlockCount, BlockNo, BlockRange};
use goldleaf_ext4::{InodeNo, Seed, inode_sum, inode_sum_is_wide};

/// Bytes of a block.
pub const BLOCK: usize = 4096;
/// Where the superblock is, in bytes.
pub const SUPER: usize = 1024;

/// A disk in memory.
#[derive(Clone)]
pub struct Disk {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Whether edits get the sums that belong to them.
    pub sealing: bool,
    /// What was where before it was overwritten, oldest first.
    wounds: Vec<(usize, Vec<u8>)>,
}

/// A structure of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spot {
    /// The superblock.
    Super,
    /// A group's descriptor.
    Group(u32),
    /// An inode.
    Inode(u32),
    /// A block of names: of which directory, and where.
    Names(u32, u64),
    /// A node of an extent tree: of which inode, and where.
    Extents(u32, u64),
    /// A block of attributes.
    Attributes(u64),
    /// A group's bitmap of blocks.
    Blocks(u32),
    /// A group's bitmap of inodes.
    Inodes(u32),
    /// A block of the journal.
    Log(u64),
}

impl Disk {
    /// Over a volume that was made here.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, sealing: true, wounds: Vec::new() }
    }

    /// Two bytes.
    pub fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]])
    }

    /// Four bytes.
    pub fn u32(&self, at: usize) -> u32 {
        u32::from(self.u16(at)) | u32::from(self.u16(at + 2)) << 16
    }

    /// Four bytes, the other way round.
    pub fn be32(&self, at: usize) -> u32 {
        self.u32(at).swap_bytes()
    }

    /// Writes bytes.
    pub fn put(&mut self, at: usize, bytes: &[u8]) {
        let place = &mut self.bytes[at..at + bytes.len()];
        self.wounds.push((at, place.to_vec()));
        place.copy_from_slice(bytes);
    }

    /// Undoes all that was [put](Self::put).
    pub fn heal(&mut self) {
        while let Some((at, bytes)) = self.wounds.pop() {
            self.bytes[at..at + bytes.len()].copy_from_slice(&bytes);
        }
    }

    /// The blocks in which something was put, sorted.
    pub fn touched(&self) -> Vec<BlockRange> {
        let blocks = self
            .wounds
            .iter()
            .flat_map(|(at, bytes)| at / BLOCK..=(at + bytes.len().saturating_sub(1)) / BLOCK);
        let sorted: BTreeSet<usize> = blocks.collect();
        let range = |block| BlockRange::new(BlockNo(block as u64), BlockCount(1));
        sorted.into_iter().map(range).collect()
    }

    /// Writes a number of four bytes.
    pub fn put32(&mut self, at: usize, value: u32) {
        self.put(at, &value.to_le_bytes());
    }

    /// Writes a number of two bytes.
    pub fn put16(&mut self, at: usize, value: u16) {
        self.put(at, &value.to_le_bytes());
    }

    /// Whether metadata has sums.
    pub fn has_sums(&self) -> bool {
        self.u32(SUPER + 0x64) & 0x400 != 0
    }

    fn seed(&self) -> Seed {
        if self.u32(SUPER + 0x60) & 0x2000 != 0 {
            return Seed(self.u32(SUPER + 0x270));
        }
        Seed::START.with(&self.bytes[SUPER + 0x68..SUPER + 0x78])
    }

    fn inode_seed(&self, ino: u32) -> Seed {
        let generation = self.u32(self.inode(ino) + 0x64);
        self.seed().with(&ino.to_le_bytes()).with(&generation.to_le_bytes())
    }

    fn descriptor_len(&self) -> usize {
        if self.u32(SUPER + 0x60) & 0x80 != 0 { usize::from(self.u16(SUPER + 0xFE)) } else { 32 }
    }

    /// How many groups there are.
    pub fn groups(&self) -> u32 {
        self.u32(SUPER + 4).div_ceil(self.u32(SUPER + 0x20))
    }

    /// Where a group's descriptor is.
    pub fn group(&self, group: u32) -> usize {
        BLOCK + group as usize * self.descriptor_len()
    }

    /// Bytes of an inode.
    pub fn inode_len(&self) -> usize {
        usize::from(self.u16(SUPER + 0x58))
    }

    /// Where an inode is.
    pub fn inode(&self, ino: u32) -> usize {
        let per_group = self.u32(SUPER + 0x28);
        let (group, index) = ((ino - 1) / per_group, (ino - 1) % per_group);
        let table = self.u32(self.group(group) + 8) as usize;
        table * BLOCK + index as usize * self.inode_len()
    }

    /// Where the bitmaps of a group are, in blocks: of blocks, of inodes.
    pub fn bitmaps(&self, group: u32) -> [u64; 2] {
        let at = self.group(group);
        [u64::from(self.u32(at)), u64::from(self.u32(at + 4))]
    }

    /// The blocks of an inode that has extents, and the nodes of its tree.
    pub fn blocks_of(&self, ino: u32) -> (Vec<u64>, Vec<u64>) {
        let (mut blocks, mut nodes) = (Vec::new(), Vec::new());
        if self.u32(self.inode(ino) + 0x20) & 0x8_0000 != 0 {
            self.node(self.inode(ino) + 0x28, &mut blocks, &mut nodes);
        }
        (blocks, nodes)
    }

    fn node(&self, at: usize, blocks: &mut Vec<u64>, nodes: &mut Vec<u64>) {
        for index in 1..=usize::from(self.u16(at + 2)) {
            let record = at + 12 * index;
            if self.u16(at + 6) == 0 {
                let start = u64::from(self.u32(record + 8));
                blocks.extend(start..start + u64::from(self.u16(record + 4) & 0x7FFF));
            } else {
                let child = u64::from(self.u32(record + 4));
                nodes.push(child);
                self.node(child as usize * BLOCK, blocks, nodes);
            }
        }
    }

    /// Where the records of a block of names are, without the one that holds the sum.
    pub fn records(&self, block: u64) -> Vec<usize> {
        let start = block as usize * BLOCK;
        let end = start + BLOCK - if self.has_sums() { 12 } else { 0 };
        let mut at = start;
        let mut records = Vec::new();
        while at < end {
            records.push(at);
            at += usize::from(self.u16(at + 4)).max(8);
        }
        records
    }

    /// The record of a name, and the inode that it names.
    pub fn record(&self, directory: u32, name: &[u8]) -> (usize, u32) {
        let blocks = self.blocks_of(directory).0;
        let all = blocks.into_iter().flat_map(|block| self.records(block));
        let is = |at: &usize| {
            let len = usize::from(self.bytes[at + 6]);
            self.u32(*at) != 0 && &self.bytes[at + 8..at + 8 + len] == name
        };
        let at = all.into_iter().find(is).expect("a name that was made here");
        (at, self.u32(at))
    }

    /// The inode of a path.
    pub fn find(&self, path: &str) -> u32 {
        path.split('/')
            .filter(|name| !name.is_empty())
            .fold(2, |directory, name| self.record(directory, name.as_bytes()).1)
    }

    /// All structures of the volume.
    pub fn spots(&self) -> Vec<Spot> {
        let mut spots = vec![Spot::Super];
        for group in 0..self.groups() {
            spots.extend([Spot::Group(group), Spot::Blocks(group), Spot::Inodes(group)]);
        }
        for ino in (1..=self.u32(SUPER)).filter(|&ino| self.u16(self.inode(ino)) != 0) {
            spots.push(Spot::Inode(ino));
            let (blocks, nodes) = self.blocks_of(ino);
            spots.extend(nodes.into_iter().map(|node| Spot::Extents(ino, node)));
            if self.u16(self.inode(ino)) >> 12 == 4 {
                spots.extend(blocks.iter().map(|&block| Spot::Names(ino, block)));
            }
            if ino == self.u32(SUPER + 0xE0) {
                spots.extend(self.log(&blocks));
            }
            let attributes = self.u32(self.inode(ino) + 0x68);
            if attributes != 0 {
                spots.push(Spot::Attributes(attributes.into()));
            }
        }
        spots
    }

    /// The journal's superblock and what is in the log.
    fn log(&self, blocks: &[u64]) -> Vec<Spot> {
        let is_meant = |block: &&u64| self.be32(**block as usize * BLOCK) == 0xC03B_3998;
        blocks.iter().filter(is_meant).map(|&block| Spot::Log(block)).collect()
    }

    /// The bytes of a structure.
    pub fn range(&self, spot: Spot) -> std::ops::Range<usize> {
        let block = |block: u64| block as usize * BLOCK..(block as usize + 1) * BLOCK;
        match spot {
            Spot::Super => SUPER..2 * SUPER,
            Spot::Group(group) => {
                let at = self.group(group);
                at..at + self.descriptor_len()
            }
            Spot::Inode(ino) => self.inode(ino)..self.inode(ino) + self.inode_len(),
            Spot::Names(_, at) | Spot::Extents(_, at) | Spot::Attributes(at) | Spot::Log(at) => {
                block(at)
            }
            Spot::Blocks(group) => block(self.bitmaps(group)[0]),
            Spot::Inodes(group) => block(self.bitmaps(group)[1]),
        }
    }

    /// Gives a structure the sum that belongs to what it says now. The geometry must be as it was.
    pub fn seal(&mut self, spot: Spot) {
        if !self.sealing || (!self.has_sums() && !matches!(spot, Spot::Log(_))) {
            return;
        }
        let range = self.range(spot);
        let at = range.start;
        match spot {
            Spot::Super => {
                let sum = Seed::START.with(&self.bytes[at..at + 0x3FC]).0;
                self.put32(at + 0x3FC, sum);
            }
            Spot::Group(group) => {
                let seed = self.seed().with(&group.to_le_bytes());
                let sum = seed.with_hole(&self.bytes[range], 0x1E..0x20).0;
                self.put16(at + 0x1E, sum as u16);
            }
            Spot::Inode(ino) => self.seal_inode(ino, range),
            Spot::Names(ino, _) => self.seal_names(ino, at),
            Spot::Extents(ino, _) => {
                let tail = (12 + 12 * usize::from(self.u16(at + 4))).min(BLOCK - 4);
                let sum = self.inode_seed(ino).with(&self.bytes[at..at + tail]).0;
                self.put32(at + tail, sum);
            }
            Spot::Attributes(block) => {
                let seed = self.seed().with(&block.to_le_bytes());
                let sum = seed.with_hole(&self.bytes[range], 0x10..0x14).0;
                self.put32(at + 0x10, sum);
            }
            Spot::Blocks(group) => self.seal_bitmap(group, 0, SUPER + 0x20, [0x18, 0x38]),
            Spot::Inodes(group) => self.seal_bitmap(group, 1, SUPER + 0x28, [0x1A, 0x3A]),
            Spot::Log(_) => self.seal_log(at),
        }
    }

    fn seal_inode(&mut self, ino: u32, range: std::ops::Range<usize>) {
        let at = range.start;
        let extra = usize::from(self.u16(at + 0x80)).min(self.inode_len() - 128);
        let sum = inode_sum(self.seed(), InodeNo(ino), &self.bytes[range], extra);
        self.put16(at + 0x7C, sum as u16);
        if inode_sum_is_wide(extra) {
            self.put16(at + 0x82, (sum >> 16) as u16);
        }
    }

    fn seal_names(&mut self, ino: u32, at: usize) {
        let is_root = self.u16(at + 4) == 12 && usize::from(self.u16(at + 16)) == BLOCK - 12;
        let is_node = usize::from(self.u16(at + 4)) == BLOCK && self.u32(at) == 0;
        let hashed = self.u32(self.inode(ino) + 0x20) & 0x1000 != 0;
        let seed = self.inode_seed(ino);
        if !hashed || !(is_root || is_node) {
            let sum = seed.with(&self.bytes[at..at + BLOCK - 12]).0;
            return self.put32(at + BLOCK - 4, sum);
        }
        let first = at + if is_root { 32 } else { 8 };
        let (limit, count) = (usize::from(self.u16(first)), usize::from(self.u16(first + 2)));
        let tail = first + limit * 8;
        if tail + 8 > at + BLOCK || count > limit {
            return;
        }
        let seed = seed.with(&self.bytes[at..first + count * 8]);
        let sum = seed.with(&self.bytes[tail..tail + 4]).with(&[0; 4]).0;
        self.put32(tail + 4, sum);
    }

    fn seal_bitmap(&mut self, group: u32, which: usize, count: usize, places: [usize; 2]) {
        let at = self.bitmaps(group)[which] as usize * BLOCK;
        let len = (self.u32(count) as usize / 8).min(BLOCK);
        let sum = self.seed().with(&self.bytes[at..at + len]).0;
        let descriptor = self.group(group);
        self.put16(descriptor + places[0], sum as u16);
        if self.descriptor_len() >= 64 {
            self.put16(descriptor + places[1], (sum >> 16) as u16);
        }
        self.seal(Spot::Group(group));
    }

    fn seal_log(&mut self, at: usize) {
        let journal = self.blocks_of(self.u32(SUPER + 0xE0)).0;
        let Some(first) = journal.first().map(|block| *block as usize * BLOCK) else { return };
        let seed = Seed::START.with(&self.bytes[first + 0x30..first + 0x40]);
        let whole = at..at + BLOCK;
        let (start, len, seed) = match self.be32(at + 4) {
            3 | 4 => (0xFC, SUPER, Seed::START),
            2 => (0x10, BLOCK, seed),
            _ => (BLOCK - 4, BLOCK, seed),
        };
        let sum = seed.with_hole(&self.bytes[whole.start..at + len], start..start + 4).0;
        self.put(at + start, &sum.to_be_bytes());
    }
}
