//! Mends the checksums that an edit broke, as an author who knows the format would.

use goldleaf_ext4::{InodeNo, Seed, inode_sum, inode_sum_is_wide};

use super::survey::{Kind, Place, Survey};
use crate::disk::{BLOCK, Disk};
use crate::input::{le16, le32, put};

/// First bytes of the journal's own blocks, and what kind each is.
const JOURNAL_MAGIC: [u8; 4] = [0xC0, 0x3B, 0x39, 0x98];
const JOURNAL_COMMIT: u8 = 2;
const JOURNAL_SUPER: [u8; 2] = [3, 4];

pub fn mend(disk: &mut Disk, survey: &Survey, place: &Place) {
    if !survey.has_sums {
        return;
    }
    match place.kind {
        Kind::Super => {
            let sb = &mut disk.block_mut(0)[1024..2048];
            let sum = Seed::START.with(&sb[..0x3FC]).0;
            put(sb, 0x3FC, &sum.to_le_bytes());
        }
        Kind::Group => {
            let group = &mut disk.block_mut(1)[..survey.desc_size];
            let sum = survey.seed.with_u32(0).with_hole(group, 0x1E..0x20).0;
            put(group, 0x1E, &sum.to_le_bytes()[..2]);
        }
        Kind::Bitmap => {}
        Kind::Inode { ino, .. } | Kind::Inline { ino } => mend_inode(disk, survey, ino),
        Kind::Leaf(seed) => {
            let block = disk.block_mut(place.block);
            let sum = seed.with(&block[..BLOCK - 12]).0;
            put(block, BLOCK - 4, &sum.to_le_bytes());
        }
        Kind::Index(seed) => mend_index(disk.block_mut(place.block), seed),
        Kind::Extents(seed) => {
            let block = disk.block_mut(place.block);
            let tail = 12 + le16(block, 4) * 12;
            let sum = seed.with(&block[..tail.min(BLOCK)]).0;
            put(block, tail, &sum.to_le_bytes());
        }
        Kind::Attributes => {
            let block = disk.block_mut(place.block);
            let seed = survey.seed.with(&place.block.to_le_bytes());
            let sum = seed.with_hole(&block[..], 0x10..0x14).0;
            put(block, 0x10, &sum.to_le_bytes());
        }
        Kind::Journal => mend_journal(disk, survey, place.block),
    }
}

fn mend_inode(disk: &mut Disk, survey: &Survey, ino: u32) {
    let (block, at) = survey.inode_place(ino);
    let raw = &mut disk.block_mut(block)[at..at + survey.inode_size];
    let extra = le16(raw, 0x80);
    let sum = inode_sum(survey.seed, InodeNo(ino), raw, extra).to_le_bytes();
    put(raw, 0x7C, &sum[..2]);
    if inode_sum_is_wide(extra) {
        put(raw, 0x82, &sum[2..]);
    }
}

/// Of a root the table of places stands behind two records and the root's own fields, of a node
/// behind one record; the tail stands where the table ends at most.
fn mend_index(block: &mut [u8; BLOCK], seed: Seed) {
    let at = if le16(block, 4) == BLOCK { 8 } else { 0x20 };
    let (limit, count) = (le16(block, at), le16(block, at + 2));
    let (end, tail) = ((at + count * 8).min(BLOCK), at + limit * 8);
    let reserved = le32(block, tail);
    let sum = seed.with(&block[..end]).with_u32(reserved).with_u32(0).0;
    put(block, tail + 4, &sum.to_le_bytes());
}

fn mend_journal(disk: &mut Disk, survey: &Survey, number: u64) {
    let first = survey.places.iter().find(|place| place.kind == Kind::Journal);
    let uuid = first.map(|place| disk.block(place.block)[0x30..0x40].to_vec()).unwrap_or_default();
    let seed = Seed::START.with(&uuid);
    let block = disk.block_mut(number);
    if block[..4] != JOURNAL_MAGIC {
        return;
    }
    if JOURNAL_SUPER.contains(&block[7]) {
        let sum = Seed::START.with_hole(&block[..1024], 0xFC..0x100).0;
        put(block, 0xFC, &sum.to_be_bytes());
        return;
    }
    let at = if block[7] == JOURNAL_COMMIT { 0x10 } else { BLOCK - 4 };
    let sum = seed.with_hole(&block[..], at..at + 4).0;
    put(block, at, &sum.to_be_bytes());
}
