//! Mutations by dice: fields of structures, with values that parsers do not like. One number says
//! all of a mutation.

use std::cmp::Reverse;
use std::ops::Range;

use super::ground::VOLUME;
use super::layout::{BLOCK, Disk, Spot};
use super::list::tables;
use crate::dice::Dice;

/// Which of the sound disks a mutation begins with.
pub const BASES: [&str; 6] = ["clean", "dirty", "plain", "plain-dirty", "gpt", "mbr"];
const GPT: usize = 4;
const SECTOR: usize = 512;

/// Which base a mutation has: a third with sums that fit, a third of volumes without sums, a third
/// with sums that do not fit any more.
pub fn base_of(seed: u64) -> usize {
    let mut dice = Dice::new(seed ^ 0xBA5E, 0);
    match seed % 3 {
        1 => dice.one(&[2, 2, 3]),
        _ => dice.one(&[0, 0, 0, 1, 1, 4, 5]),
    }
}

/// A structure and where it is on the sound disk, in bytes.
pub type Placed = (Spot, Range<usize>);

/// The structures of a disk that is sound: of one without a table.
pub fn places(disk: &Disk) -> Vec<Placed> {
    if disk.bytes.len() != VOLUME {
        return Vec::new();
    }
    disk.spots().into_iter().map(|spot| (spot, disk.range(spot))).collect()
}

/// Mutates a disk that is sound; `spots` are its structures.
pub fn mutate(disk: &mut Disk, spots: &[Placed], seed: u64) {
    let mut dice = Dice::new(seed, 0);
    disk.sealing = seed % 3 != 2;
    if base_of(seed) >= GPT {
        return mutate_table(disk, &mut dice, base_of(seed) == GPT);
    }
    let count = 1 + dice.index(4) * dice.index(2);
    let mut chosen: Vec<Placed> = (0..count).map(|_| choose(spots, &mut dice)).collect();
    // What tells where other structures are is changed last.
    chosen.sort_by_key(|(spot, _)| Reverse(rank(*spot)));
    for (spot, range) in chosen {
        if dice.index(12) == 0 {
            replace(disk, spots, (spot, range), &mut dice);
        } else {
            let (at, width) = field(disk, spot, &range, &mut dice);
            let value = value(disk, spots, range.start + at, width, &mut dice);
            let mut bytes = value.to_le_bytes()[..width].to_vec();
            if matches!(spot, Spot::Log(_)) {
                bytes.reverse();
            }
            disk.put(range.start + at, &bytes);
        }
        disk.seal(spot);
    }
}

/// Kinds of structures are met equally often, however many there are.
fn choose(spots: &[Placed], dice: &mut Dice) -> Placed {
    loop {
        let kind = dice.index(9);
        let of_kind: Vec<&Placed> = spots.iter().filter(|spot| kind_of(spot.0) == kind).collect();
        if !of_kind.is_empty() {
            return dice.one(&of_kind).clone();
        }
    }
}

fn kind_of(spot: Spot) -> usize {
    match spot {
        Spot::Super => 0,
        Spot::Group(_) => 1,
        Spot::Inode(_) => 2,
        Spot::Names(..) => 3,
        Spot::Extents(..) => 4,
        Spot::Attributes(_) => 5,
        Spot::Blocks(_) => 6,
        Spot::Inodes(_) => 7,
        Spot::Log(_) => 8,
    }
}

fn rank(spot: Spot) -> u8 {
    match spot {
        Spot::Super => 0,
        Spot::Group(_) => 1,
        Spot::Inode(_) => 2,
        Spot::Blocks(_) | Spot::Inodes(_) => 3,
        Spot::Names(..) | Spot::Extents(..) | Spot::Attributes(_) => 4,
        Spot::Log(_) => 5,
    }
}

const SUPER_FIELDS: &[(usize, usize)] = &[
    (0x0, 4),
    (0x4, 4),
    (0x14, 4),
    (0x18, 4),
    (0x20, 4),
    (0x24, 4),
    (0x28, 4),
    (0x38, 2),
    (0x3A, 2),
    (0x4C, 4),
    (0x54, 4),
    (0x58, 2),
    (0x5C, 4),
    (0x60, 4),
    (0x64, 4),
    (0x68, 8),
    (0xCE, 2),
    (0xE0, 4),
    (0xE8, 4),
    (0xFC, 1),
    (0xFE, 2),
    (0x104, 4),
    (0x150, 4),
    (0x15E, 2),
    (0x160, 4),
    (0x168, 8),
    (0x175, 1),
    (0x24C, 4),
    (0x250, 4),
    (0x270, 4),
    (0x280, 4),
];
const INODE_FIELDS: &[(usize, usize)] = &[
    (0x0, 2),
    (0x4, 4),
    (0x14, 4),
    (0x1A, 2),
    (0x1C, 4),
    (0x20, 4),
    (0x28, 2),
    (0x2A, 2),
    (0x2C, 2),
    (0x2E, 2),
    (0x34, 4),
    (0x38, 2),
    (0x3A, 2),
    (0x3C, 4),
    (0x40, 4),
    (0x64, 4),
    (0x68, 4),
    (0x6C, 4),
    (0x74, 2),
    (0x76, 2),
    (0x80, 2),
    (0xA0, 4),
    (0xA4, 1),
    (0xA5, 1),
    (0xA6, 2),
    (0xA8, 4),
    (0xAC, 4),
];

/// A field of a structure: where in it, and how many bytes.
fn field(disk: &Disk, spot: Spot, range: &Range<usize>, dice: &mut Dice) -> (usize, usize) {
    let width = dice.one(&[1, 2, 4]);
    let aligned = |at: usize| at / width * width;
    match spot {
        Spot::Super => dice.one(SUPER_FIELDS),
        Spot::Inode(_) if range.len() > 0xB0 => dice.one(INODE_FIELDS),
        Spot::Inode(_) => dice.one(&INODE_FIELDS[..20]),
        Spot::Group(_) => (aligned(dice.index(range.len() - 4)), width),
        Spot::Names(_, block) => {
            if dice.index(3) == 0 {
                return (aligned(dice.index(64)), width);
            }
            let record = dice.one(&disk.records(block)) - range.start;
            let (at, width) = dice.one(&[(0, 4), (4, 2), (6, 1), (7, 1), (8, 1), (9, 1)]);
            ((record + at).min(BLOCK - width), width)
        }
        Spot::Extents(..) => (aligned(dice.index(12 * 16)), width),
        Spot::Attributes(_) => (aligned(dice.index(96)), width),
        Spot::Blocks(_) | Spot::Inodes(_) => (dice.index(256), 1),
        Spot::Log(_) => (dice.index(64) * 4, 4),
    }
}

fn value(disk: &Disk, spots: &[Placed], at: usize, width: usize, dice: &mut Dice) -> u64 {
    let mut old = [0; 8];
    old[..width].copy_from_slice(&disk.bytes[at..at + width]);
    let old = u64::from_le_bytes(old);
    match dice.index(10) {
        0 => 0,
        1 => dice.one(&[1, 2, 8, 11, 12, 255, 256, 4095, 4096, 4097, 0x7FFF, 0x8000, 0x8001]),
        2 => u64::MAX >> dice.one(&[0, 1, 32, 33, 48]),
        3 => 1 << dice.index(width * 8),
        4 => old.wrapping_add(1),
        5 => old.wrapping_sub(1),
        6 => old ^ 1 << dice.index(width * 8),
        7 => (spots[dice.index(spots.len())].1.start / BLOCK) as u64,
        8 => match spots[dice.index(spots.len())].0 {
            Spot::Inode(ino) | Spot::Names(ino, _) | Spot::Extents(ino, _) => ino.into(),
            _ => dice.next(),
        },
        _ => dice.next(),
    }
}

/// A whole structure becomes another of its kind, nothing, or anything.
fn replace(disk: &mut Disk, spots: &[Placed], (spot, range): Placed, dice: &mut Dice) {
    let same: Vec<&Placed> =
        spots.iter().filter(|other| kind_of(other.0) == kind_of(spot)).collect();
    let other = dice.one(&same).1.clone();
    let bytes = match dice.index(3) {
        0 if other.len() == range.len() => disk.bytes[other].to_vec(),
        1 => vec![0; range.len()],
        _ => (0..range.len()).map(|_| dice.next() as u8).collect(),
    };
    disk.put(range.start, &bytes);
}

/// The two tables are small: any field of theirs, and any value.
fn mutate_table(disk: &mut Disk, dice: &mut Dice, gpt: bool) {
    let end = disk.bytes.len();
    let chain = disk.u32(446 + 8) as usize * SECTOR;
    for _ in 0..1 + dice.index(3) {
        let at = match dice.index(4) {
            0 => 446 + dice.index(64),
            1 if gpt => SECTOR + dice.index(92),
            2 if gpt => end - SECTOR + dice.index(92),
            _ if gpt => 2 * SECTOR + dice.index(256),
            1 => 510,
            _ => chain + 446 + dice.index(32),
        };
        let width = dice.one(&[1, 2, 4, 8]);
        let at = (at / width * width).min(end - 8);
        let value = value(disk, &[(Spot::Super, 0..SECTOR)], at, width, dice);
        disk.put(at, &value.to_le_bytes()[..width]);
    }
    if gpt && disk.sealing {
        for (head, entries) in [(SECTOR, 2 * SECTOR), (end - SECTOR, end - 33 * SECTOR)] {
            let sum = tables::crc32(&disk.bytes[entries..entries + 32 * SECTOR]);
            disk.put32(head + 88, sum);
            tables::seal(disk, head);
        }
    }
}
