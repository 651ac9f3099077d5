//! Partition tables: a valid one, spoiled; then read, grown, and read again. And what a partition
//! holds that is none of ours.
//!
//! ```text
//!   input:    mending, 1 │ blocks to grow by, 1 │ partition to grow, 1 │ edits
//!   foreign:  length 4 │ edits, each to one of the places where marks stand
//! ```

use std::sync::{Arc, LazyLock};

use goldleaf_block::{
    BLOCK_SIZE, ByteLen, PartitionNumber, PartitionTable, PartitionView, ReadBlocks, grown_gpt,
    grown_mbr, grown_table, read_partitions,
};

use goldleaf_ext4::{Refusal, gate, identify};

use crate::disk::Disk;
use crate::input::{Input, apply, le32, put};

const SECTOR: usize = 512;
/// Length of the disks, in sectors.
const SECTORS: u64 = 2048;
/// Entries of the GPT: fewer than the usual 128, because their sum is most of the work.
const ENTRIES: u32 = 4;
/// Where the backup's entries are.
const BACKUP: u64 = SECTORS - 2;

static GPT: LazyLock<Disk> = LazyLock::new(|| {
    let mut disk = Disk::zero(SECTORS * SECTOR as u64);
    disk.write(446 + 4, &[0xEE]);
    disk.write(446 + 8, &1u32.to_le_bytes());
    disk.write(446 + 12, &(SECTORS as u32 - 1).to_le_bytes());
    disk.write(510, &[0x55, 0xAA]);
    for (number, (first, last)) in [(64u64, 127u64), (128, 1983)].into_iter().enumerate() {
        for table in [2, BACKUP] {
            let at = table * SECTOR as u64 + number as u64 * 128;
            disk.write(at, &[1 + number as u8; 32]);
            disk.write(at + 32, &first.to_le_bytes());
            disk.write(at + 40, &last.to_le_bytes());
            disk.write(at + 56, b"r\0o\0o\0t\0");
        }
    }
    for (place, other, entries) in [(1, SECTORS - 1, 2), (SECTORS - 1, 1, BACKUP)] {
        let at = place * SECTOR as u64;
        disk.write(at, b"EFI PART\0\0\x01\0\x5c\0\0\0");
        for (field, value) in [(24, place), (32, other), (40, 34), (48, SECTORS - 34)] {
            disk.write(at + field, &value.to_le_bytes());
        }
        disk.write(at + 56, &[7; 16]);
        disk.write(at + 72, &entries.to_le_bytes());
        disk.write(at + 80, &ENTRIES.to_le_bytes());
        disk.write(at + 84, &128u32.to_le_bytes());
    }
    mend_gpt(&mut disk);
    let disk = disk.frozen();
    assert_eq!(read_partitions(&disk).expect("a valid table").partitions.len(), 2);
    disk
});

static MBR: LazyLock<Disk> = LazyLock::new(|| {
    let mut disk = Disk::zero(SECTORS * SECTOR as u64);
    let mut entry = |sector: u64, number: u64, kind: u8, first: u32, count: u32| {
        let at = sector * SECTOR as u64 + 446 + number * 16;
        disk.write(at + 4, &[kind]);
        disk.write(at + 8, &first.to_le_bytes());
        disk.write(at + 12, &count.to_le_bytes());
        disk.write(sector * SECTOR as u64 + 510, &[0x55, 0xAA]);
    };
    entry(0, 0, 0x83, 64, 64);
    entry(0, 1, 0x05, 128, 512);
    entry(0, 2, 0x83, 1024, 512);
    entry(128, 0, 0x83, 8, 56);
    entry(128, 1, 0x05, 64, 64);
    entry(192, 0, 0x82, 8, 56);
    let disk = disk.frozen();
    assert_eq!(read_partitions(&disk).expect("a valid table").partitions.len(), 4);
    disk
});

/// GUID partition tables.
pub fn gpt(data: &[u8]) {
    let last = SECTORS - 1;
    run(&GPT, &[0, 1, 2, last, last - 1], mend_gpt, data);
}

/// MBR tables with logical partitions.
pub fn mbr(data: &[u8]) {
    run(&MBR, &[0, 128, 192, 160], |_| {}, data);
}

fn run(seed: &Disk, sectors: &[u64], mend: fn(&mut Disk), data: &[u8]) {
    let mut input = Input(data);
    let (choice, blocks, grow) = (input.byte(), u64::from(input.byte()), u32::from(input.byte()));
    let mut disk = seed.clone();
    for edit in input.edits() {
        let at = sectors[edit.place % sectors.len()] * SECTOR as u64;
        let mut sector = disk.bytes(at, SECTOR);
        apply(&mut sector, &edit);
        disk.write(at, &sector);
    }
    if choice & 1 == 0 {
        mend(&mut disk);
    }
    // A shorter disk than the table was made for, now and then.
    let len = if choice & 2 == 0 { disk.len().0 } else { disk.len().0 / 2 };
    check(&disk.resized(len), ByteLen(len + blocks * BLOCK_SIZE), PartitionNumber(grow));
}

/// What is read lies on the disk and apart; what is written to grow it reads as it was meant.
fn check(disk: &Disk, len: ByteLen, grow: PartitionNumber) {
    let _ = (grown_gpt(disk, len, grow), grown_mbr(disk, len, grow));
    let Ok(table) = read_partitions(disk) else { return };
    is_sound(disk, &table);
    let Ok(writes) = grown_table(disk, len, grow) else { return };
    let mut grown = disk.resized(len.0);
    for (at, bytes) in writes {
        assert!(at.0 + bytes.len() as u64 <= len.0, "writes stay on the disk");
        grown.write(at.0, &bytes);
    }
    let after = read_partitions(&grown).expect("a grown table is one");
    is_sound(&grown, &after);
    assert_eq!(table.partitions.len(), after.partitions.len());
    for (old, new) in table.partitions.iter().zip(&after.partitions) {
        assert_eq!((old.number, old.start, old.type_id), (new.number, new.start, new.type_id));
        assert!(new.len >= old.len && (new.number == grow || new.len == old.len));
    }
}

fn is_sound(disk: &Disk, table: &PartitionTable) {
    let mut ranges = Vec::new();
    for partition in &table.partitions {
        let view = PartitionView::new(Arc::new(disk.clone()), partition.start, partition.len)
            .expect("on the disk");
        assert_eq!(view.len(), partition.len);
        ranges.push((partition.start.0, partition.start.0 + partition.len.0));
    }
    ranges.sort_unstable();
    assert!(ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0), "partitions are apart");
}

/// Mends the sums of both tables, where the usual entries are used.
fn mend_gpt(disk: &mut Disk) {
    for (place, entries) in [(1, 2), (SECTORS - 1, BACKUP)] {
        let at = place * SECTOR as u64;
        let mut header = disk.bytes(at, SECTOR);
        let count = le32(&header, 80).saturating_mul(le32(&header, 84)).min(512);
        let entries = disk.bytes(entries * SECTOR as u64, count as usize);
        put(&mut header, 88, &crc32(&entries).to_le_bytes());
        put(&mut header, 16, &[0; 4]);
        let len = (le32(&header, 12) as usize).clamp(92, SECTOR);
        let sum = crc32(&header[..len]);
        put(&mut header, 16, &sum.to_le_bytes());
        disk.write(at, &header);
    }
}

/// CRC-32 of ISO 3309.
fn crc32(bytes: &[u8]) -> u32 {
    static TABLE: LazyLock<[u32; 256]> = LazyLock::new(|| {
        std::array::from_fn(|byte| {
            (0..8).fold(byte as u32, |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0xEDB8_8320 } else { 0 })
        })
    });
    !bytes.iter().fold(!0u32, |crc, &byte| crc >> 8 ^ TABLE[usize::from(crc as u8 ^ byte)])
}

/// Where swap space, FAT, LUKS and the others have their marks, and ext4 its own.
const MARKS: [u64; 12] = [0, 3, 24, 54, 82, 536, 1024, 1024 + 56, 4086, 4096, 0x10040, 1 << 17];

/// What is named stands there, and a disk too short for a mark does not bear it.
pub fn foreign(data: &[u8]) {
    let mut input = Input(data);
    let len = u64::from(input.u32()) % (1 << 18);
    let mut disk = Disk::zero(len);
    for edit in input.edits() {
        disk.write(MARKS[edit.place % MARKS.len()] + edit.at as u64 % 512, &edit.bytes);
    }
    let found = identify(&disk).expect("a disk that can be read");
    let is_ext4 = len >= 2048 && disk.bytes(1024 + 56, 2) == [0x53, 0xEF];
    match (gate(&disk), found) {
        (Err(Refusal::Foreign(named)), _) => assert!(Some(named) == found && !is_ext4),
        (Err(Refusal::NotExt4), _) => assert!(found.is_none() && !is_ext4),
        (Err(refusal), _) => assert!(is_ext4 && !refusal.to_string().is_empty()),
        (Ok(features), _) => assert!(is_ext4 && features.superblock.blocks > 0),
    }
    assert!(identify(&disk.resized(0)).expect("an empty disk").is_none());
}
