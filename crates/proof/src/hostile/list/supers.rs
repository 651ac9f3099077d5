//! Wounds of the superblock and the groups, and marks of other file systems.

use super::{Accepted, Case, On, Refused, case, superblock};
use crate::hostile::layout::{BLOCK, Disk, SUPER, Spot};

pub(super) const CASES: &[Case] = &[
    case("blocks of 2^63 bytes", On::Clean, [Refused; 2], |d| field32(d, 0x18, 53)),
    case("blocks of 2^4294967295 bytes", On::Clean, [Refused; 2], |d| field32(d, 0x18, u32::MAX)),
    case("blocks of 1 KiB", On::Clean, [Refused; 2], |d| field32(d, 0x18, 0)),
    case("inodes of no bytes", On::Clean, [Refused; 2], |d| field16(d, 0x58, 0)),
    case("inodes of 32 KiB", On::Clean, [Refused; 2], |d| field16(d, 0x58, 32768)),
    case("no inodes in a group", On::Clean, [Refused; 2], |d| field32(d, 0x28, 0)),
    case("2^32 inodes in a group", On::Clean, [Refused; 2], |d| field32(d, 0x28, u32::MAX)),
    case("no blocks in a group", On::Clean, [Refused; 2], |d| field32(d, 0x20, 0)),
    case("2^32 blocks in a group", On::Clean, [Refused; 2], |d| field32(d, 0x20, u32::MAX)),
    case("one block in a group", On::Clean, [Refused; 2], |d| field32(d, 0x20, 1)),
    case("descriptors of 33 bytes", On::Clean, [Refused; 2], |d| field16(d, 0xFE, 33)),
    case("descriptors of no bytes", On::Clean, [Refused; 2], |d| field16(d, 0xFE, 0)),
    case("descriptors of 32 KiB", On::Clean, [Refused; 2], |d| field16(d, 0xFE, 32768)),
    case("first data block 1", On::Clean, [Refused; 2], |d| field32(d, 0x14, 1)),
    case("2^63 blocks", On::Clean, [Refused; 2], |d| field32(d, 0x150, 1 << 31)),
    case("no blocks", On::Clean, [Refused; 2], |d| field32(d, 0x4, 0)),
    case("2^32 inodes", On::Clean, [Refused; 2], |d| field32(d, 0x0, u32::MAX)),
    case("no inodes", On::Clean, [Refused; 2], |d| field32(d, 0x0, 0)),
    case("first inode 0", On::Clean, [Refused; 2], |d| field32(d, 0x54, 0)),
    case("all inodes reserved", On::Clean, [Refused, Accepted], |d| field32(d, 0x54, 1024)),
    case("65,535 blocks reserved to grow", On::Clean, [Refused; 2], |d| field16(d, 0xCE, 0xFFFF)),
    case("revision 0", On::Clean, [Refused; 2], |d| field32(d, 0x4C, 0)),
    case("sums of another type", On::Clean, [Refused; 2], |d| {
        superblock(d, |d| d.bytes[SUPER + 0x175] = 2);
    }),
    case("superblock with a wrong sum", On::Clean, [Refused; 2], |d| d.bytes[SUPER + 0x3FC] ^= 1),
    case("superblock alone", On::Clean, [Refused; 2], |d| d.bytes[2 * SUPER..].fill(0)),
    case("superblock on a disk of its size", On::Clean, [Refused; 2], |d| d.bytes.truncate(BLOCK)),
    case("half of a volume", On::Clean, [Refused; 2], |d| {
        let half = d.bytes.len() / 2;
        d.bytes.truncate(half);
    }),
    case("empty disk", On::Clean, [Refused; 2], |d| d.bytes.fill(0)),
    case("disk of no length", On::Clean, [Refused; 2], |d| d.bytes.clear()),
    case("errors were seen", On::Clean, [Refused, Accepted], |d| field16(d, 0x3A, 3)),
    case("not unmounted", On::Clean, [Refused, Accepted], |d| field16(d, 0x3A, 0)),
    case("orphans in a circle", On::Clean, [Refused, Accepted], |d| {
        let ino = d.find("home/ada/text");
        let at = d.inode(ino);
        d.put32(at + 0x14, ino);
        d.seal(Spot::Inode(ino));
        field32(d, 0xE8, ino);
    }),
    case("bigalloc", On::Clean, [Refused; 2], |d| feature(d, 0x64, 0x200)),
    case("inline data allowed", On::Clean, [Refused, Accepted], |d| feature(d, 0x60, 0x8000)),
    case("encryption allowed", On::Clean, [Accepted; 2], |d| feature(d, 0x60, 0x10000)),
    case("compression", On::Clean, [Refused; 2], |d| feature(d, 0x60, 0x1)),
    case("a device of journals", On::Clean, [Refused; 2], |d| feature(d, 0x60, 0x8)),
    case("a feature of the future", On::Clean, [Refused; 2], |d| feature(d, 0x60, 0x8000_0000)),
    case("meta groups of 2^32", On::Clean, [Refused; 2], |d| {
        feature(d, 0x60, 0x10);
        field32(d, 0x104, u32::MAX);
    }),
    case("bitmap behind the volume", On::Clean, [Refused; 2], |d| group(d, 0, 0x0, u32::MAX)),
    case("inodes behind the volume", On::Clean, [Refused; 2], |d| group(d, 0, 0x8, 4095)),
    case("inodes on block 0", On::Clean, [Refused; 2], |d| group(d, 0, 0x8, 0)),
    case("two groups with one table", On::Clean, [Refused; 2], |d| {
        let first = d.u32(d.group(0) + 8);
        group(d, 1, 0x8, first);
    }),
    case("bitmap that is a table", On::Clean, [Refused, Accepted], |d| {
        let table = d.u32(d.group(0) + 8);
        group(d, 1, 0x0, table);
    }),
    case("group that was never used", On::Clean, [Refused, Accepted], |d| {
        let at = d.group(0);
        let flags = d.u16(at + 0x12) | 3;
        d.put16(at + 0x12, flags);
        d.seal(Spot::Group(0));
    }),
    case("65,535 inodes never used", On::Clean, [Refused; 2], |d| {
        let at = d.group(0);
        d.put16(at + 0x1C, 0xFFFF);
        d.seal(Spot::Group(0));
    }),
    case("group with a wrong sum", On::Clean, [Refused; 2], |d| {
        let at = d.group(1);
        d.bytes[at + 0x1E] ^= 1;
    }),
    case("LUKS and ext4", On::Clean, [Refused, Accepted], |d| d.put(0, b"LUKS\xba\xbe\0\x02")),
    case("LVM2 and ext4", On::Clean, [Refused, Accepted], |d| {
        d.put(512, b"LABELONE");
        d.put(512 + 24, b"LVM2 001");
    }),
    case("XFS and ext4", On::Clean, [Refused, Accepted], |d| d.put(0, b"XFSB")),
    case("squashfs and ext4", On::Clean, [Refused, Accepted], |d| d.put(0, b"hsqs")),
    case("qcow2 and ext4", On::Clean, [Refused, Accepted], |d| d.put(0, b"QFI\xfb\0\0\0\x03")),
    case("swap and ext4", On::Clean, [Refused, Accepted], |d| d.put(4086, b"SWAPSPACE2")),
    // A disk is never probed, so that the mark of another format of disks means nothing.
    case("VMDK and ext4", On::Clean, [Accepted; 2], |d| d.put(0, b"KDMV\x01\0\0\0")),
    case("LUKS alone", On::Clean, [Refused; 2], |d| {
        d.bytes.fill(0);
        d.put(0, b"LUKS\xba\xbe\0\x02");
    }),
    case("btrfs alone", On::Clean, [Refused; 2], |d| {
        d.bytes.fill(0);
        d.put(0x10040, b"_BHRfS_M");
    }),
    case("NTFS alone", On::Clean, [Refused; 2], |d| {
        d.bytes.fill(0);
        d.put(0, b"\xeb\x52\x90NTFS    \0\x02\x08");
        d.put(510, &[0x55, 0xaa]);
    }),
];

fn field32(disk: &mut Disk, at: usize, value: u32) {
    superblock(disk, |disk| disk.put32(SUPER + at, value));
}

fn field16(disk: &mut Disk, at: usize, value: u16) {
    superblock(disk, |disk| disk.put16(SUPER + at, value));
}

fn feature(disk: &mut Disk, at: usize, bit: u32) {
    let value = disk.u32(SUPER + at) | bit;
    field32(disk, at, value);
}

fn group(disk: &mut Disk, group: u32, at: usize, value: u32) {
    let place = disk.group(group);
    disk.put32(place + at, value);
    disk.seal(Spot::Group(group));
}
