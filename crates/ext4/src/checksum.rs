//! Checksums of metadata: crc32c (`metadata_csum`) and crc16 (`gdt_csum`).
//!
//! Kernel documentation, filesystems/ext4, "Checksums". ext4 chains crc32c without the inversion at
//! either end; a *seed* is such an intermediate state.

use crate::inode::{GOOD_OLD_SIZE, InodeNo};

/// An intermediate state of ext4's crc32c.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed(pub u32);

impl Seed {
    /// The state that everything starts from.
    pub const START: Seed = Seed(!0);

    /// The seed of a volume whose superblock does not hold one.
    pub fn of_volume(uuid: &[u8; 16]) -> Seed {
        Seed::START.with(uuid)
    }

    /// The state after `bytes`.
    pub fn with(self, bytes: &[u8]) -> Seed {
        Seed(!crc32c::crc32c_append(!self.0, bytes))
    }

    /// The state after a little-endian number.
    pub fn with_u32(self, value: u32) -> Seed {
        self.with(&value.to_le_bytes())
    }

    /// The seed of everything that belongs to one inode.
    pub fn of_inode(self, ino: InodeNo, generation: u32) -> Seed {
        self.with(&(u64::from(ino.0) | u64::from(generation) << 32).to_le_bytes())
    }

    /// The sum of `bytes` in which `hole` reads as zeroes: where the sum itself stands.
    pub fn with_hole(self, bytes: &[u8], hole: std::ops::Range<usize>) -> Seed {
        const ZEROES: [u8; 8] = [0; 8];
        let start = hole.start.min(bytes.len());
        let end = hole.end.clamp(start, bytes.len());
        self.with(&bytes[..start]).with(&ZEROES[..(end - start).min(8)]).with(&bytes[end..])
    }
}

/// The sum of an inode as it lies in its table, without what stands in the places of the sum;
/// `volume` is the volume's seed, `extra` the size of the fields behind the first 128 bytes.
/// 16 bits of it count where the field for the rest is [not there](inode_sum_is_wide).
pub fn inode_sum(volume: Seed, ino: InodeNo, raw: &[u8], extra: usize) -> u32 {
    let generation = raw.get(0x64..0x68).and_then(|bytes| bytes.try_into().ok());
    let seed = volume.of_inode(ino, u32::from_le_bytes(generation.unwrap_or_default()));
    if let (true, Some((first, rest))) = (inode_sum_is_wide(extra), raw.split_at_checked(0x7C)) {
        // Both places of the sum lie within eight bytes: one step instead of five.
        if let Some((&[_, _, one, other, three, four, _, _], rest)) = rest.split_first_chunk() {
            return seed.with(first).with(&[0, 0, one, other, three, four, 0, 0]).with(rest).0;
        }
    }
    let (first, rest) = raw.split_at(GOOD_OLD_SIZE.min(raw.len()));
    let seed = seed.with_hole(first, 0x7C..0x7E);
    if inode_sum_is_wide(extra) { seed.with_hole(rest, 2..4).0 } else { seed.with(rest).0 & 0xFFFF }
}

/// Whether an inode has room for all 32 bits of its sum: the low ones are at 0x7C, the high ones at
/// 0x82.
pub fn inode_sum_is_wide(extra: usize) -> bool {
    extra >= 4
}

/// One step of CRC-16 with the reflected polynomial 0xA001, from an intermediate state.
pub(crate) fn crc16(state: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(state, |state, &byte| {
        (0..8).fold(state ^ u16::from(byte), |state, _| {
            if state & 1 == 1 { state >> 1 ^ 0xA001 } else { state >> 1 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_check_values_hold() {
        assert_eq!(!Seed::START.with(b"123456789").0, 0xE306_9283);
        assert_eq!(crc16(0, b"123456789"), 0xBB3D);
        let holed = Seed::START.with_hole(b"12345678", 2..4);
        assert_eq!(holed, Seed::START.with(b"12\0\x005678"));
    }
}
