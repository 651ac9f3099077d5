//! Wounds of partition tables.

use super::{Accepted, Case, On, Refused, case};
use crate::hostile::layout::Disk;

const SECTOR: usize = 512;
const ENTRIES: usize = 2 * SECTOR;
const MBR_ENTRIES: usize = 446;

pub(super) const CASES: &[Case] = &[
    case("no wound, GPT", On::Gpt, [Accepted; 2], |_| ()),
    case("no wound, MBR", On::Mbr, [Accepted; 2], |_| ()),
    case("GPT of 2^32 entries", On::Gpt, [Refused, Accepted], |d| gpt(d, 80, u32::MAX)),
    case("GPT of entries of no bytes", On::Gpt, [Refused, Accepted], |d| gpt(d, 84, 0)),
    case("GPT of entries of 2^32 bytes", On::Gpt, [Refused, Accepted], |d| gpt(d, 84, u32::MAX)),
    case("GPT of entries of 129 bytes", On::Gpt, [Refused, Accepted], |d| gpt(d, 84, 129)),
    case("GPT of no entries", On::Gpt, [Refused, Accepted], |d| gpt(d, 80, 0)),
    case("GPT with entries behind the disk", On::Gpt, [Refused, Accepted], |d| {
        gpt(d, 76, u32::MAX);
    }),
    case("GPT with a head of 2^32 bytes", On::Gpt, [Refused, Accepted], |d| gpt(d, 12, u32::MAX)),
    case("GPT that may be used from 0", On::Gpt, [Refused, Accepted], |d| gpt(d, 40, 0)),
    case("GPT that may be used behind the disk", On::Gpt, [Refused, Accepted], |d| {
        gpt(d, 52, u32::MAX);
    }),
    case("GPT somewhere else", On::Gpt, [Refused, Accepted], |d| gpt(d, 24, 7)),
    case("partition behind the disk", On::Gpt, [Refused, Accepted], |d| {
        entry(d, 0, 40, &u64::MAX.to_le_bytes());
    }),
    case("partition that ends before it begins", On::Gpt, [Refused, Accepted], |d| {
        entry(d, 0, 40, &100_u64.to_le_bytes());
    }),
    case("partition on the table", On::Gpt, [Refused, Accepted], |d| {
        entry(d, 0, 32, &1_u64.to_le_bytes());
    }),
    case("partitions that overlap", On::Gpt, [Refused, Accepted], |d| {
        let first = d.bytes[ENTRIES..ENTRIES + 128].to_vec();
        entry(d, 1, 0, &first);
    }),
    case("partition that begins between blocks", On::Gpt, [Refused, Accepted], |d| {
        entry(d, 0, 32, &2049_u64.to_le_bytes());
    }),
    case("GPT with its backup alone", On::Gpt, [Accepted; 2], |d| {
        d.bytes[SECTOR..ENTRIES + 32 * SECTOR].fill(0);
    }),
    case("GPT without its backup", On::Gpt, [Accepted; 2], |d| {
        let end = d.bytes.len();
        d.bytes[end - 33 * SECTOR..].fill(0);
    }),
    case("GPT with wrong sums", On::Gpt, [Refused, Accepted], |d| {
        let last = d.bytes.len() - SECTOR;
        d.bytes[SECTOR + 16] ^= 1;
        d.bytes[last + 16] ^= 1;
    }),
    case("protective record without a GPT", On::Gpt, [Refused, Accepted], |d| {
        let end = d.bytes.len();
        d.bytes[SECTOR..ENTRIES + 32 * SECTOR].fill(0);
        d.bytes[end - 33 * SECTOR..].fill(0);
    }),
    case("GPT behind a record that denies it", On::Gpt, [Refused, Accepted], |d| {
        d.bytes[MBR_ENTRIES + 4] = 0x83;
    }),
    case("GPT and more records", On::Gpt, [Accepted; 2], |d| {
        d.put(MBR_ENTRIES + 16, &[0x80, 0, 0, 0, 0x83, 0, 0, 0, 1, 0, 0, 0, 0xFF, 0xFF, 0, 0]);
    }),
    case("chain that is a circle", On::Mbr, [Refused, Accepted], |d| link(d, 0, 64)),
    case("chain that leads back", On::Mbr, [Refused, Accepted], |d| link(d, u32::MAX, 64)),
    case("chain behind the disk", On::Mbr, [Refused, Accepted], |d| link(d, 0x7FFF_FFFF, 64)),
    case("chain without its mark", On::Mbr, [Refused, Accepted], |d| {
        let at = chain(d);
        d.put(at + 510, &[0, 0]);
    }),
    case("logical partition of 2^32 sectors", On::Mbr, [Refused, Accepted], |d| {
        let at = chain(d);
        d.put32(at + MBR_ENTRIES + 12, u32::MAX);
    }),
    case("logical partition behind the chain", On::Mbr, [Refused, Accepted], |d| {
        let at = chain(d);
        d.put32(at + MBR_ENTRIES + 8, u32::MAX);
    }),
    case("record of 2^32 sectors", On::Mbr, [Refused, Accepted], |d| {
        d.put32(MBR_ENTRIES + 12, u32::MAX);
    }),
    case("record that lies on the chain", On::Mbr, [Refused, Accepted], |d| {
        let first = d.bytes[MBR_ENTRIES..MBR_ENTRIES + 16].to_vec();
        d.put(MBR_ENTRIES + 16, &first);
        d.bytes[MBR_ENTRIES + 16 + 4] = 0x83;
    }),
    case("record without a chain", On::Mbr, [Refused, Accepted], |d| {
        d.bytes[MBR_ENTRIES..MBR_ENTRIES + 64].fill(0);
    }),
    case("LUKS in a partition", On::Gpt, [Refused; 2], |d| {
        let at = crate::hostile::ground::START;
        d.bytes[at..at + 8192].fill(0);
        d.put(at, b"LUKS\xba\xbe\0\x02");
    }),
];

/// Changes a field of both heads, with their sums.
fn gpt(disk: &mut Disk, field: usize, value: u32) {
    let last = disk.bytes.len() - SECTOR;
    for head in [SECTOR, last] {
        disk.put32(head + field, value);
        seal(disk, head);
    }
}

/// Changes an entry in both tables, with all sums.
fn entry(disk: &mut Disk, number: usize, field: usize, value: &[u8]) {
    let end = disk.bytes.len();
    for (head, entries) in [(SECTOR, ENTRIES), (end - SECTOR, end - 33 * SECTOR)] {
        disk.put(entries + number * 128 + field, value);
        let sum = crc32(&disk.bytes[entries..entries + 32 * SECTOR]);
        disk.put32(head + 88, sum);
        seal(disk, head);
    }
}

/// Gives a head its sum.
pub(in crate::hostile) fn seal(disk: &mut Disk, head: usize) {
    disk.put32(head + 16, 0);
    let sum = crc32(&disk.bytes[head..head + 92]);
    disk.put32(head + 16, sum);
}

/// CRC-32 as UEFI has it.
pub(in crate::hostile) fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 }
        })
    })
}

/// Where the chain of logical partitions begins, in bytes.
fn chain(disk: &Disk) -> usize {
    disk.u32(MBR_ENTRIES + 8) as usize * SECTOR
}

/// Adds a link to the chain.
fn link(disk: &mut Disk, first: u32, sectors: u32) {
    let at = chain(disk) + MBR_ENTRIES + 16;
    disk.bytes[at + 4] = 5;
    disk.put32(at + 8, first);
    disk.put32(at + 12, sectors);
}
