//! Wounds of the journal.

use super::{Accepted, Case, On, Refused, case, inode_of, superblock};
use crate::hostile::layout::{BLOCK, Disk, SUPER, Spot};

const DESCRIPTOR: u32 = 1;
const COMMIT: u32 = 2;
const REVOKE: u32 = 5;

pub(super) const CASES: &[Case] = &[
    case("no wound, journal in use", On::Dirty, [Refused, Accepted], |_| ()),
    case("journal that is a directory", On::Clean, [Refused, Accepted], |d| {
        let ino = d.find("etc");
        superblock(d, |d| d.put32(SUPER + 0xE0, ino));
    }),
    case("journal in use that is a directory", On::Dirty, [Refused; 2], |d| {
        let ino = d.find("etc");
        superblock(d, |d| d.put32(SUPER + 0xE0, ino));
    }),
    case("journal in a file of the user's", On::Clean, [Refused, Accepted], |d| {
        let ino = d.find("home/ada/pieces");
        superblock(d, |d| d.put32(SUPER + 0xE0, ino));
    }),
    case("journal behind all inodes", On::Dirty, [Refused; 2], |d| {
        superblock(d, |d| d.put32(SUPER + 0xE0, u32::MAX));
    }),
    case("journal on another device", On::Dirty, [Refused; 2], |d| {
        superblock(d, |d| {
            d.put32(SUPER + 0xE0, 0);
            d.put32(SUPER + 0xE4, 0x801);
        });
    }),
    case("journal of another sequence", On::Dirty, [Refused, Accepted], |d| {
        head(d, 0x18, 0x7FFF_FFFF);
    }),
    case("journal of 2^32 blocks", On::Dirty, [Refused; 2], |d| head(d, 0x10, u32::MAX)),
    case("journal of no blocks", On::Dirty, [Refused; 2], |d| head(d, 0x10, 0)),
    case("journal that begins at 0", On::Dirty, [Refused; 2], |d| head(d, 0x14, 0)),
    case("journal that begins behind its end", On::Dirty, [Refused; 2], |d| {
        head(d, 0x1C, u32::MAX);
    }),
    case("journal of blocks of 1 KiB", On::Dirty, [Refused; 2], |d| head(d, 0xC, 1024)),
    case("journal with a feature of the future", On::Dirty, [Refused; 2], |d| {
        head(d, 0x28, 0x8000_0000);
    }),
    case("journal with fast commits", On::Dirty, [Refused; 2], |d| head(d, 0x28, 0x32)),
    case("journal without its mark", On::Dirty, [Refused; 2], |d| head(d, 0, 0)),
    case("journal with a wrong sum", On::Dirty, [Refused; 2], |d| {
        let at = log(d)[0] as usize * BLOCK;
        d.bytes[at + 0xFC] ^= 1;
    }),
    case("journal with a hole", On::Dirty, [Refused; 2], |d| {
        let ino = d.u32(SUPER + 0xE0);
        inode_of(d, ino, |d, at| d.put16(at + 0x28 + 16, 3));
    }),
    case("tag behind the volume", On::Dirty, [Refused; 2], |d| tag(d, 0, u32::MAX)),
    case("tag of the journal itself", On::Dirty, [Refused, Accepted], |d| {
        let first = log(d)[0] as u32;
        tag(d, 0, first);
    }),
    case("tags without a last one", On::Dirty, [Refused, Accepted], |d| {
        block(d, DESCRIPTOR, |d, at| {
            let tags = [0, 0, 1, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0].repeat(255);
            d.put(at + 12, &tags);
        });
    }),
    case("tag with a wrong sum", On::Dirty, [Refused; 2], |d| tag(d, 12, 0xDEAD_BEEF)),
    case("revoke of 2^32 bytes", On::Dirty, [Refused, Accepted], |d| {
        block(d, DESCRIPTOR, |d, at| {
            d.put(at + 4, &REVOKE.to_be_bytes());
            d.put(at + 12, &u32::MAX.to_be_bytes());
        });
    }),
    case("commit with a wrong sum", On::Dirty, [Refused, Accepted], |d| {
        let at = first(d, COMMIT);
        d.bytes[at + 0x10] ^= 1;
    }),
    case("block of no known kind", On::Dirty, [Refused, Accepted], |d| {
        block(d, DESCRIPTOR, |d, at| d.put(at + 4, &77_u32.to_be_bytes()));
    }),
];

fn log(disk: &Disk) -> Vec<u64> {
    disk.blocks_of(disk.u32(SUPER + 0xE0)).0
}

/// Changes a field of the journal's superblock.
fn head(disk: &mut Disk, field: usize, value: u32) {
    let block = log(disk)[0];
    disk.put(block as usize * BLOCK + field, &value.to_be_bytes());
    disk.seal(Spot::Log(block));
}

/// The first block of that kind from where the log begins.
fn first(disk: &Disk, kind: u32) -> usize {
    let log = log(disk);
    let start = disk.be32(log[0] as usize * BLOCK + 0x1C) as usize;
    let places = log[start..].iter().map(|block| *block as usize * BLOCK);
    let mut meant = places.filter(|at| disk.be32(*at) == 0xC03B_3998);
    meant.find(|at| disk.be32(at + 4) == kind).expect("a journal in use")
}

fn block(disk: &mut Disk, kind: u32, change: impl FnOnce(&mut Disk, usize)) {
    let at = first(disk, kind);
    change(disk, at);
    disk.seal(Spot::Log((at / BLOCK) as u64));
}

/// Changes a field of the first tag.
fn tag(disk: &mut Disk, field: usize, value: u32) {
    block(disk, DESCRIPTOR, |disk, at| disk.put(at + 12 + field, &value.to_be_bytes()));
}
