//! The master boot record and its chain of logical partitions.
//!
//! ```text
//!  sector 0   0 boot code   440 signature u32   446 four entries of 16 bytes   510 55 aa
//!  entry      0 active: 80 or 00   1 CHS   4 type   5 CHS   8 first sector u32   12 sectors u32
//!  extended   a partition of type 05, 0f or 85 holds a chain of such sectors: entry 1 is a logical
//!             partition, counted from this sector; entry 2 the next link, counted from the
//!             extended partition's start
//! ```

use super::{
    Partition, PartitionError, PartitionNumber, PartitionTable, SECTOR, TableKind, TypeId, corrupt,
    field, read_sector, u32_at,
};
use crate::ReadBlocks;
use crate::units::{ByteLen, ByteOffset};

const SIGNATURE_AT: usize = 440;
pub(super) const ENTRIES_AT: usize = 446;
pub(super) const ENTRY_LEN: usize = 16;
const MARK_AT: usize = 510;
const MARK: [u8; 2] = [0x55, 0xaa];
/// The type that says that the real table is a GPT.
const PROTECTIVE: u8 = 0xee;
const EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];
/// The number of the first logical partition.
const FIRST_LOGICAL: u32 = 5;
/// Most logical partitions: Linux reads 256 partitions of a disk.
const LOGICAL_MAX: u32 = 256;

type Sector = [u8; SECTOR as usize];

#[derive(Clone, Copy)]
struct Entry {
    active: u8,
    kind: u8,
    first: u32,
    sectors: u32,
}

fn entry(sector: &Sector, index: usize) -> Entry {
    let bytes: [u8; ENTRY_LEN] = field(sector, ENTRIES_AT + index * ENTRY_LEN);
    Entry {
        active: bytes[0],
        kind: bytes[4],
        first: u32_at(&bytes, 8),
        sectors: u32_at(&bytes, 12),
    }
}

impl Entry {
    fn is_empty(self) -> bool {
        self.kind == 0 || self.sectors == 0
    }

    fn is_extended(self) -> bool {
        EXTENDED.contains(&self.kind)
    }

    /// The partition, counted from sector `base`, which must lie within `limit` sectors.
    fn partition(self, number: u32, base: u64, limit: u64) -> Result<Partition, PartitionError> {
        let start = base + u64::from(self.first);
        let end = start + u64::from(self.sectors);
        if self.first == 0 || end > limit {
            return Err(PartitionError::OutOfRange {
                number: PartitionNumber(number),
                start: ByteOffset(start * SECTOR),
                end: ByteOffset(end * SECTOR),
                usable: format!("sectors {} to {limit}", base + 1),
            });
        }
        Ok(Partition {
            number: PartitionNumber(number),
            start: ByteOffset(start * SECTOR),
            len: ByteLen(u64::from(self.sectors) * SECTOR),
            type_id: TypeId::Mbr(self.kind),
            guid: None,
            name: String::new(),
        })
    }
}

/// Whether a sector ends as boot records do.
pub(super) fn is_signed(sector: &Sector) -> bool {
    field::<2>(sector, MARK_AT) == MARK
}

/// Whether a GPT follows.
pub(super) fn is_protective(sector: &Sector) -> bool {
    (0..4).any(|i| entry(sector, i).kind == PROTECTIVE)
}

/// Whether an extended partition begins behind that sector. It may be empty, so that none of the
/// table's partitions says so.
pub(super) fn is_extended_behind(sector: &Sector, lba: u64) -> bool {
    let entries = (0..4).map(|index| entry(sector, index));
    let mut extended = entries.filter(|entry| entry.is_extended() && !entry.is_empty());
    extended.any(|entry| u64::from(entry.first) > lba)
}

/// Reads the table in sector 0 and its logical partitions; `None` when these are not entries but a
/// boot sector's code (a file system without a table).
pub(super) fn read(
    device: &dyn ReadBlocks,
    sector: &Sector,
) -> Result<Option<PartitionTable>, PartitionError> {
    let entries: [Entry; 4] = std::array::from_fn(|i| entry(sector, i));
    let is_code = entries.iter().any(|entry| entry.active & 0x7f != 0);
    if is_code || (is_boot_sector(sector) && entries.iter().all(|entry| entry.is_empty())) {
        return Ok(None);
    }
    let limit = device.len().0 / SECTOR;
    let mut partitions = Vec::new();
    let mut logical = Vec::new();
    for (number, entry) in (1..).zip(entries).filter(|(_, entry)| !entry.is_empty()) {
        let partition = entry.partition(number, 0, limit)?;
        if entry.is_extended() {
            read_chain(device, &partition, &mut logical)?;
            check_inside(&partition, &logical)?;
        } else {
            partitions.push(partition);
        }
    }
    check_outside_extended(&entries, &partitions)?;
    partitions.append(&mut logical);
    let kind = TableKind::Mbr { signature: u32_at(sector, SIGNATURE_AT) };
    Ok(Some(PartitionTable { kind, partitions, backup_is_good: true }))
}

/// Whether this is the first sector of a FAT or NTFS file system: their BIOS parameter block says
/// how long a sector is where a boot loader has code (Microsoft, FAT specification 3.1).
fn is_boot_sector(sector: &Sector) -> bool {
    let jumps = sector[0] == 0xeb && sector[2] == 0x90 || sector[0] == 0xe9;
    let bytes_per_sector = u16::from_le_bytes(field(sector, 11));
    let per_cluster = sector[13];
    jumps && matches!(bytes_per_sector, 512 | 1024 | 2048 | 4096) && per_cluster.is_power_of_two()
}

/// Follows the chain of an extended partition. Links must go forward, so it ends.
fn read_chain(
    device: &dyn ReadBlocks,
    extended: &Partition,
    logical: &mut Vec<Partition>,
) -> Result<(), PartitionError> {
    let base = extended.start.0 / SECTOR;
    let limit = extended.end() / SECTOR;
    let mut at = base;
    loop {
        let place = || format!("extended partition, sector {at}");
        let sector = read_sector(device, at)?.filter(is_signed);
        let sector = sector.ok_or_else(|| corrupt(place(), "55 aa at its end", "none"))?;
        let (data, link) = (entry(&sector, 0), entry(&sector, 1));
        if !data.is_empty() {
            let number = FIRST_LOGICAL + logical.len() as u32;
            if logical.len() as u32 >= LOGICAL_MAX {
                return Err(corrupt(place(), format!("at most {LOGICAL_MAX}"), "more"));
            }
            logical.push(data.partition(number, at, limit)?);
        }
        if link.is_empty() || !link.is_extended() {
            return Ok(());
        }
        let next = base + u64::from(link.first);
        if next <= at || next >= limit {
            let expected = format!("a link to behind {at} and before {limit}");
            return Err(corrupt(place(), expected, format!("{next}")));
        }
        at = next;
    }
}

fn check_inside(extended: &Partition, logical: &[Partition]) -> Result<(), PartitionError> {
    let outside = |part: &&Partition| part.start < extended.start || part.end() > extended.end();
    match logical.iter().find(outside) {
        Some(part) => Err(PartitionError::Overlap(extended.number, part.number)),
        None => Ok(()),
    }
}

/// An extended partition is no partition of its own, but nothing primary may lie in it.
fn check_outside_extended(
    entries: &[Entry; 4],
    primary: &[Partition],
) -> Result<(), PartitionError> {
    for (number, entry) in (1..).zip(entries).filter(|(_, e)| e.is_extended() && !e.is_empty()) {
        let start = u64::from(entry.first) * SECTOR;
        let end = start + u64::from(entry.sectors) * SECTOR;
        if let Some(part) = primary.iter().find(|part| part.start.0 < end && start < part.end()) {
            return Err(PartitionError::Overlap(PartitionNumber(number), part.number));
        }
    }
    Ok(())
}
