//! An extent map as a file.
//!
//! ```text
//!   0   8  magic "GLDFMAP1"
//!   8   8  length of the disk in blocks
//!  16   8  number of extents
//!  24  32  BLAKE3 of all other bytes of the file
//!  56      extents, sorted, 28 bytes each:
//!            0  8  first block on the disk
//!            8  8  length in blocks
//!           16  8  first block in the source
//!           24  4  index of the source
//! ```
//! Integers are little endian. Zero extents are not stored.

use crate::{
    BlockCount, BlockError, BlockNo, BlockRange, ExtentMap, MapExtent, SourceIndex, Target,
};

const MAGIC: &[u8; 8] = b"GLDFMAP1";
const SUM: std::ops::Range<usize> = 24..56;
const EXTENT: usize = 28;

impl ExtentMap {
    /// The map in its stored form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SUM.end + self.extents().len() * EXTENT);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.blocks().0.to_le_bytes());
        bytes.extend_from_slice(&(self.extents().len() as u64).to_le_bytes());
        bytes.extend_from_slice(&[0; 32]);
        for extent in self.extents() {
            let Target::Source { source, at } = extent.target else { continue };
            bytes.extend_from_slice(&extent.range.start.0.to_le_bytes());
            bytes.extend_from_slice(&extent.range.count.0.to_le_bytes());
            bytes.extend_from_slice(&at.0.to_le_bytes());
            bytes.extend_from_slice(&source.0.to_le_bytes());
        }
        let sum = checksum(&bytes);
        bytes[SUM].copy_from_slice(&sum);
        bytes
    }

    /// The map behind its stored form. Every extent is checked against the lengths of the sources.
    pub fn from_bytes(bytes: &[u8], source_blocks: &[BlockCount]) -> Result<Self, BlockError> {
        let (head, body) =
            bytes.split_at_checked(SUM.end).ok_or_else(|| corrupt("a short file"))?;
        if &head[..8] != MAGIC {
            return Err(corrupt("another magic number"));
        }
        if head[SUM] != checksum(bytes) {
            return Err(corrupt("another checksum"));
        }
        if body.len() as u64 != number(&head[16..24]).saturating_mul(EXTENT as u64) {
            return Err(corrupt("another number of extents"));
        }
        let extents = body.chunks_exact(EXTENT).map(|bytes| MapExtent {
            range: BlockRange::new(BlockNo(number(&bytes[..8])), BlockCount(number(&bytes[8..16]))),
            target: Target::Source {
                source: SourceIndex(number(&bytes[24..28]) as u32),
                at: BlockNo(number(&bytes[16..24])),
            },
        });
        let blocks = BlockCount(number(&head[8..16]));
        ExtentMap::checked(blocks, extents.collect(), source_blocks)
    }
}

/// A little-endian number of up to eight bytes.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
}

/// Of a whole file, its own place left out.
fn checksum(bytes: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&bytes[..SUM.start]).update(&bytes[SUM.end..]);
    *hasher.finalize().as_bytes()
}

fn corrupt(found: &str) -> BlockError {
    BlockError::Corrupt {
        place: "a stored extent map".into(),
        expected: "the map that was written".into(),
        found: found.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_survives_storage_and_damage_is_seen() {
        let extent = MapExtent {
            range: BlockRange::new(BlockNo(3), BlockCount(2)),
            target: Target::Source { source: SourceIndex(0), at: BlockNo(7) },
        };
        let lens = [BlockCount(9)];
        let map = ExtentMap::checked(BlockCount(8), vec![extent], &lens).expect("a map");
        let bytes = map.to_bytes();
        assert_eq!(ExtentMap::from_bytes(&bytes, &lens).expect("the map"), map);
        for place in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[place] ^= 1;
            assert!(ExtentMap::from_bytes(&damaged, &lens).is_err(), "byte {place}");
        }
        assert!(ExtentMap::from_bytes(&bytes, &[BlockCount(8)]).is_err());
    }
}
