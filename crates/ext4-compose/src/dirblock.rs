//! The blocks of a directory, built at once, with the hash index where it is of use (kernel
//! documentation, "ext4: directory entries", "hash tree directories").
//!
//! ```text
//! entry      inode u32 | record length u16 | name length u8 | file type u8 | name, padded to 4
//! leaf       entries up to the block's end, or to a tail of 12 bytes for the checksum
//! index root entries `.` and `..` (up to the end) | 0 u32 | hash version u8 | 8 | levels u8 | 0
//!            | limit u16, count u16, block u32 | (hash u32, block u32)… | tail of 8 bytes
//! index node an empty entry over the whole block | limit, count, block | (hash, block)… | tail
//! ```
//! A leaf whose first name has the hash of the last name of the leaf before is marked by bit 0 of
//! its hash in the index: a look-up must go on into it.

use goldleaf_ext4::Seed;

use crate::error::{ComposeError, Result};
use crate::names::{FILE_TYPE_DIR, NameRef, Names};
use crate::overlay::Block;
use crate::volume::{Geometry, Ino};

const BLOCK: usize = 4096;
const HEAD: usize = 8;
const LEAF_TAIL: usize = 12;
const INDEX_TAIL: usize = 8;
const ROOT_ENTRIES_AT: usize = 32;
const NODE_ENTRIES_AT: usize = 8;
const INDEX_ENTRY: usize = 8;
/// File type that marks the tail of a leaf.
const FILE_TYPE_TAIL: u8 = 0xDE;
/// Bytes of an indexed leaf that stay free, so that the guest's first new names do not split it.
const LEAF_RESERVE: usize = 384;
/// Half MD4, TEA and the legacy hash; others need what is refused elsewhere.
const LAST_HASH_VERSION: u8 = 2;

/// The hash of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Hash {
    pub major: u32,
    pub minor: u32,
}

/// The blocks of one directory.
pub(crate) struct Built {
    pub blocks: Vec<Box<Block>>,
    pub indexed: bool,
}

/// What a directory's blocks depend on besides its names.
pub(crate) struct Shape<'a> {
    pub geometry: &'a Geometry,
    /// Of the checksums of this directory's blocks, if the volume has them.
    pub seed: Option<Seed>,
    pub ino: Ino,
    pub parent: Ino,
}

impl Shape<'_> {
    /// Builds the blocks; `hash` hashes a name.
    pub(crate) fn build(
        &self,
        names: &Names,
        hash: impl Fn(&[u8]) -> Result<Hash>,
    ) -> Result<Built> {
        let room = leaf_room(self.seed);
        let dots = record_len(1) + record_len(2);
        let total: usize = names.iter().map(|entry| record_len(entry.name.len())).sum();
        let indexes =
            self.geometry.has_dir_index && self.geometry.hash_version <= LAST_HASH_VERSION;
        if total + dots <= room || !indexes {
            return Ok(Built { blocks: self.linear(names), indexed: false });
        }
        let mut order = (0..names.len())
            .map(|index| Ok((hash(names.get(index).name)?, index as u32)))
            .collect::<Result<Vec<_>>>()?;
        order.sort_unstable();
        Ok(Built { blocks: self.indexed(names, &order)?, indexed: true })
    }

    fn linear(&self, names: &Names) -> Vec<Box<Block>> {
        let mut leaf = Leaf::new(self.seed);
        leaf.push(NameRef { name: b".", ino: self.ino, file_type: FILE_TYPE_DIR });
        leaf.push(NameRef { name: b"..", ino: self.parent, file_type: FILE_TYPE_DIR });
        let mut blocks = Vec::new();
        for entry in names.iter() {
            if !leaf.fits(entry.name.len(), 0) {
                blocks.push(std::mem::replace(&mut leaf, Leaf::new(self.seed)).finish());
            }
            leaf.push(entry);
        }
        blocks.push(leaf.finish());
        blocks
    }

    fn indexed(&self, names: &Names, order: &[(Hash, u32)]) -> Result<Vec<Box<Block>>> {
        let (leaves, hashes) = self.leaves(names, order);
        let tail = if self.seed.is_some() { INDEX_TAIL } else { 0 };
        let root_limit = (BLOCK - ROOT_ENTRIES_AT - tail) / INDEX_ENTRY;
        let node_limit = (BLOCK - NODE_ENTRIES_AT - tail) / INDEX_ENTRY;
        let nodes = if leaves.len() <= root_limit { 0 } else { leaves.len().div_ceil(node_limit) };
        if nodes > root_limit {
            let reason = format!("a directory of {} names is too large", names.len());
            return Err(ComposeError::Refused(reason));
        }
        let first_leaf = 1 + nodes as u32;
        let entries: Vec<(u32, u32)> = hashes.into_iter().zip(first_leaf..).collect();
        let mut root = self.index_root(u8::from(nodes > 0));
        let mut blocks = vec![Box::new([0; BLOCK])];
        if nodes == 0 {
            self.fill_index(&mut root, ROOT_ENTRIES_AT, &entries, root_limit);
        } else {
            let mut tops = Vec::with_capacity(nodes);
            for (number, part) in (1..).zip(entries.chunks(node_limit)) {
                tops.push((part[0].0, number));
                blocks.push(self.index_node(part, node_limit));
            }
            self.fill_index(&mut root, ROOT_ENTRIES_AT, &tops, root_limit);
        }
        blocks[0] = root;
        blocks.extend(leaves);
        Ok(blocks)
    }

    /// Packs the names in the order of their hashes; with each leaf its hash for the index.
    fn leaves(&self, names: &Names, order: &[(Hash, u32)]) -> (Vec<Box<Block>>, Vec<u32>) {
        let (mut blocks, mut hashes) = (Vec::new(), vec![0]);
        let mut leaf = Leaf::new(self.seed);
        let mut previous = 0;
        for &(hash, index) in order {
            let entry = names.get(index as usize);
            if !leaf.fits(entry.name.len(), LEAF_RESERVE) {
                blocks.push(std::mem::replace(&mut leaf, Leaf::new(self.seed)).finish());
                hashes.push(hash.major | u32::from(hash.major == previous));
            }
            leaf.push(entry);
            previous = hash.major;
        }
        blocks.push(leaf.finish());
        (blocks, hashes)
    }

    fn index_root(&self, levels: u8) -> Box<Block> {
        let mut block = Box::new([0; BLOCK]);
        put_entry(&mut block[..], self.ino, b".", FILE_TYPE_DIR, record_len(1));
        let rest = BLOCK - record_len(1);
        put_entry(&mut block[record_len(1)..], self.parent, b"..", FILE_TYPE_DIR, rest);
        block[28] = self.geometry.hash_version;
        block[29] = 8;
        block[30] = levels;
        block
    }

    fn index_node(&self, entries: &[(u32, u32)], limit: usize) -> Box<Block> {
        let mut block = Box::new([0; BLOCK]);
        put_entry(&mut block[..], Ino(0), b"", 0, BLOCK);
        self.fill_index(&mut block, NODE_ENTRIES_AT, entries, limit);
        block
    }

    /// The first entry's hash is not stored: limit and count stand in its place. The tail, four
    /// bytes and the sum, follows behind the last place for an entry; the sum covers what is in
    /// use, the four bytes, and itself as zeroes.
    fn fill_index(&self, block: &mut Block, at: usize, entries: &[(u32, u32)], limit: usize) {
        let place = &mut block[at..];
        for (slot, (hash, block)) in place.chunks_exact_mut(INDEX_ENTRY).zip(entries) {
            slot[0..4].copy_from_slice(&hash.to_le_bytes());
            slot[4..8].copy_from_slice(&block.to_le_bytes());
        }
        place[0..2].copy_from_slice(&(limit as u16).to_le_bytes());
        place[2..4].copy_from_slice(&(entries.len() as u16).to_le_bytes());
        if let Some(seed) = self.seed {
            let used = at + entries.len() * INDEX_ENTRY;
            let sum = seed.with(&block[..used]).with(&[0; INDEX_TAIL]);
            let tail = at + limit * INDEX_ENTRY;
            block[tail + 4..tail + INDEX_TAIL].copy_from_slice(&sum.0.to_le_bytes());
        }
    }
}

/// Bytes of a leaf for entries.
fn leaf_room(seed: Option<Seed>) -> usize {
    if seed.is_some() { BLOCK - LEAF_TAIL } else { BLOCK }
}

/// Bytes of an entry with a name of `len` bytes.
fn record_len(len: usize) -> usize {
    (HEAD + len).next_multiple_of(4)
}

fn put_entry(place: &mut [u8], ino: Ino, name: &[u8], file_type: u8, len: usize) {
    place[0..4].copy_from_slice(&ino.0.to_le_bytes());
    place[4..6].copy_from_slice(&(len as u16).to_le_bytes());
    place[6] = name.len() as u8;
    place[7] = file_type;
    place[HEAD..HEAD + name.len()].copy_from_slice(name);
}

/// A leaf being filled.
struct Leaf {
    block: Box<Block>,
    used: usize,
    last: usize,
    room: usize,
    seed: Option<Seed>,
}

impl Leaf {
    fn new(seed: Option<Seed>) -> Self {
        Self { block: Box::new([0; BLOCK]), used: 0, last: 0, room: leaf_room(seed), seed }
    }

    /// Whether a name fits with `reserve` bytes to spare; the first name always does.
    fn fits(&self, len: usize, reserve: usize) -> bool {
        self.used == 0 || self.used + record_len(len) + reserve <= self.room
    }

    fn push(&mut self, entry: NameRef<'_>) {
        let len = record_len(entry.name.len());
        self.last = self.used;
        let place = &mut self.block[self.used..];
        put_entry(place, entry.ino, entry.name, entry.file_type, len);
        self.used += len;
    }

    /// Stretches the last entry to the end, and writes the checksum's tail.
    fn finish(mut self) -> Box<Block> {
        let len = (self.room - self.last) as u16;
        self.block[self.last + 4..self.last + 6].copy_from_slice(&len.to_le_bytes());
        if let Some(seed) = self.seed {
            let (summed, tail) = self.block.split_at_mut(self.room);
            put_entry(tail, Ino(0), b"", FILE_TYPE_TAIL, LEAF_TAIL);
            tail[HEAD..].copy_from_slice(&seed.with(summed).0.to_le_bytes());
        }
        self.block
    }
}
