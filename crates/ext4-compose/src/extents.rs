//! Extent trees, built at once (kernel documentation, "ext4: extent tree").
//!
//! ```text
//! header   magic F30A u16 | entries u16 | max u16 | depth u16 | generation u32
//! leaf     file block u32 | length u16 | start high u16 | start low u32
//! index    file block u32 | child low u32 | child high u16 | unused u16
//! ```
//! The root has four entries and lies in the inode; a block has 340 and a checksum behind them.

use goldleaf_ext4::Seed;

use crate::error::Result;
use crate::inode::WORDS;
use crate::overlay::Block;
use crate::volume::{Area, Piece, Volume};

const MAGIC: u16 = 0xF30A;
const ENTRY: usize = 12;
const ROOT_ENTRIES: usize = 4;
const BLOCK_ENTRIES: usize = (4096 - ENTRY) / ENTRY;
/// Where the sum of a block stands: behind its last entry, at its end.
const SUM_AT: usize = ENTRY + BLOCK_ENTRIES * ENTRY;
/// Longest extent of written blocks.
const MAX_LEN: u64 = 32_768;

/// A run of a file's blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub file_block: u32,
    pub blocks: u16,
    pub start: u64,
}

/// Extents in the order of the file, joined where they can be.
#[derive(Debug, Default)]
pub(crate) struct ExtentList {
    extents: Vec<Extent>,
}

impl ExtentList {
    /// Adds a run behind all others.
    pub(crate) fn push(&mut self, file_block: u32, piece: Piece) {
        let mut done = 0;
        if let Some(last) = self.extents.last_mut() {
            let joined = u64::from(last.blocks);
            let adjoins = u64::from(last.file_block) + joined == u64::from(file_block)
                && last.start + joined == piece.start;
            if adjoins {
                done = piece.count.min(MAX_LEN - joined);
                last.blocks += done as u16;
            }
        }
        while done < piece.count {
            let part = (piece.count - done).min(MAX_LEN);
            self.extents.push(Extent {
                file_block: file_block + done as u32,
                blocks: part as u16,
                start: piece.start + done,
            });
            done += part;
        }
    }

    /// Writes the tree's blocks, with sums from the inode's `seed`, and returns its root for the
    /// inode, and how many blocks it took.
    pub(crate) fn build(
        &self,
        volume: &mut Volume,
        seed: impl Fn(&Volume) -> Option<Seed>,
    ) -> Result<([u8; WORDS], u64)> {
        let mut root = [0; WORDS];
        let leaves = self.extents.iter().map(leaf_entry);
        if leaves.len() <= ROOT_ENTRIES {
            fill_node(&mut root, leaves, ROOT_ENTRIES, 0);
            return Ok((root, 0));
        }
        let seed = seed(volume);
        let mut level: Vec<[u8; ENTRY]> = leaves.collect();
        let (mut depth, mut blocks) = (0, 0);
        while level.len() > ROOT_ENTRIES {
            level = write_level(volume, seed, &level, depth)?;
            blocks += level.len() as u64;
            depth += 1;
        }
        fill_node(&mut root, level.into_iter(), ROOT_ENTRIES, depth);
        Ok((root, blocks))
    }
}

/// The root of an empty tree.
pub(crate) fn empty_root() -> [u8; WORDS] {
    let mut root = [0; WORDS];
    fill_node(&mut root, [].into_iter(), ROOT_ENTRIES, 0);
    root
}

fn write_level(
    volume: &mut Volume,
    seed: Option<Seed>,
    level: &[[u8; ENTRY]],
    depth: u16,
) -> Result<Vec<[u8; ENTRY]>> {
    let mut chunks = level.chunks(BLOCK_ENTRIES);
    let mut above = Vec::with_capacity(chunks.len());
    for piece in volume.take_blocks(Area::Metadata, chunks.len() as u64)? {
        for (number, chunk) in (piece.start..).zip(chunks.by_ref().take(piece.count as usize)) {
            let mut block: Block = [0; 4096];
            fill_node(&mut block, chunk.iter().copied(), BLOCK_ENTRIES, depth);
            if let Some(seed) = seed {
                let (summed, sum) = block.split_at_mut(SUM_AT);
                sum.copy_from_slice(&seed.with(summed).0.to_le_bytes());
            }
            volume.write_block(number, &block)?;
            above.push(index_entry(&chunk[0], number));
        }
    }
    Ok(above)
}

fn fill_node(
    node: &mut [u8],
    entries: impl ExactSizeIterator<Item = [u8; ENTRY]>,
    max: usize,
    depth: u16,
) {
    node[0..2].copy_from_slice(&MAGIC.to_le_bytes());
    node[2..4].copy_from_slice(&(entries.len() as u16).to_le_bytes());
    node[4..6].copy_from_slice(&(max as u16).to_le_bytes());
    node[6..8].copy_from_slice(&depth.to_le_bytes());
    for (place, entry) in node[ENTRY..].chunks_exact_mut(ENTRY).zip(entries) {
        place.copy_from_slice(&entry);
    }
}

fn leaf_entry(extent: &Extent) -> [u8; ENTRY] {
    let mut entry = [0; ENTRY];
    entry[0..4].copy_from_slice(&extent.file_block.to_le_bytes());
    entry[4..6].copy_from_slice(&extent.blocks.to_le_bytes());
    entry[6..8].copy_from_slice(&((extent.start >> 32) as u16).to_le_bytes());
    entry[8..12].copy_from_slice(&(extent.start as u32).to_le_bytes());
    entry
}

/// An index entry begins with the first file block below, as its first child does.
fn index_entry(first: &[u8; ENTRY], child: u64) -> [u8; ENTRY] {
    let mut entry = [0; ENTRY];
    entry[0..4].copy_from_slice(&first[0..4]);
    entry[4..8].copy_from_slice(&(child as u32).to_le_bytes());
    entry[8..10].copy_from_slice(&((child >> 32) as u16).to_le_bytes());
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_join_up_to_the_longest_extent() {
        let mut list = ExtentList::default();
        list.push(0, Piece { start: 100, count: 30_000 });
        list.push(30_000, Piece { start: 30_100, count: 40_000 });
        list.push(70_001, Piece { start: 70_100, count: 1 });
        let lens: Vec<u16> = list.extents.iter().map(|extent| extent.blocks).collect();
        assert_eq!(lens, [32_768, 32_768, 4464, 1]);
        assert_eq!(list.extents[2].start, 100 + 65_536);
        assert_eq!(list.extents[3].file_block, 70_001);
    }
}
