//! What to write so that a disk's last partition uses a longer disk.

use super::gpt::{self, Gpt};
use super::mbr;
use super::{
    Partition, PartitionError, PartitionNumber, PartitionTable, SECTOR, TableKind, TypeId,
    read_partitions, read_sector, u32_at, u64_at,
};
use crate::ReadBlocks;
use crate::units::{BLOCK_SIZE, ByteLen, ByteOffset};

/// Bytes to write, and where.
type Writes = Vec<(ByteOffset, Vec<u8>)>;

/// What to write after the disk has become `new_len` bytes long, so that partition `grow`, which
/// must be the last, reaches its end. Whichever table it has.
pub fn grown_table(
    device: &dyn ReadBlocks,
    new_len: ByteLen,
    grow: PartitionNumber,
) -> Result<Writes, PartitionError> {
    match read_partitions(device)?.kind {
        TableKind::Gpt { .. } => grown_gpt(device, new_len, grow),
        TableKind::Mbr { .. } => grown_mbr(device, new_len, grow),
        TableKind::None => Err(cannot(grow, "there is no partition table")),
    }
}

/// As [`grown_table`], of a GPT: both headers, both copies of the entries, the protective MBR, and
/// zeroes over the old backup header.
pub fn grown_gpt(
    device: &dyn ReadBlocks,
    new_len: ByteLen,
    grow: PartitionNumber,
) -> Result<Writes, PartitionError> {
    let table = read_partitions(device)?;
    let TableKind::Gpt { .. } = table.kind else {
        return Err(cannot(grow, "there is no GPT"));
    };
    check_last(device, &table, new_len, grow)?;
    let old = gpt::load(device, 1)?;
    let last_lba = new_len.0 / SECTOR - 1;
    let entries_lba = last_lba - (old.entries.len() as u64).div_ceil(SECTOR);
    let last_usable = entries_lba - 1;
    let end = (last_usable + 1) * SECTOR / BLOCK_SIZE * BLOCK_SIZE / SECTOR - 1;
    let entries = extended_entries(&old, grow, end)?;
    let shape = Shape { entries: &entries, last_usable };
    let primary = shape.header(&old, 1, last_lba, u64_at(&old.header, gpt::ENTRIES_LBA_AT));
    let backup = shape.header(&old, last_lba, 1, entries_lba);
    let mut writes = vec![
        (at_lba(entries_lba), entries.clone()),
        (at_lba(last_lba), backup),
        (at_lba(u64_at(&old.header, gpt::ENTRIES_LBA_AT)), entries.clone()),
        (at_lba(1), primary),
    ];
    writes.extend(protective(device, new_len)?);
    let old_backup = u64_at(&old.header, gpt::OTHER_LBA_AT);
    if old_backup < device.len().0 / SECTOR
        && old_backup != last_lba
        && old_backup > old.last_usable
    {
        writes.push((at_lba(old_backup), vec![0; SECTOR as usize]));
    }
    Ok(writes)
}

/// As [`grown_table`], of an MBR. Logical partitions do not grow.
pub fn grown_mbr(
    device: &dyn ReadBlocks,
    new_len: ByteLen,
    grow: PartitionNumber,
) -> Result<Writes, PartitionError> {
    let table = read_partitions(device)?;
    let (TableKind::Mbr { .. }, Some(sector)) = (table.kind, read_sector(device, 0)?) else {
        return Err(cannot(grow, "there is no MBR"));
    };
    let partition = check_last(device, &table, new_len, grow)?;
    if grow.0 > 4 {
        return Err(cannot(grow, "it is a logical partition"));
    }
    if mbr::is_extended_behind(&sector, partition.start.0 / SECTOR) {
        return Err(cannot(grow, "an extended partition lies behind it"));
    }
    // The table counts sectors in 32 bits; what lies behind stays unused.
    let end = (new_len.0 / BLOCK_SIZE * BLOCK_SIZE / SECTOR).min(u64::from(u32::MAX));
    let sectors = (end - partition.start.0 / SECTOR) as u32;
    let mut sector = sector.to_vec();
    let at = mbr::ENTRIES_AT + (grow.0 as usize - 1) * mbr::ENTRY_LEN;
    sector[at + 5..at + 8].copy_from_slice(&CHS_BEYOND);
    sector[at + 12..at + 16].copy_from_slice(&sectors.to_le_bytes());
    Ok(vec![(ByteOffset(0), sector)])
}

/// The cylinder, head and sector that stand for "too far to say".
const CHS_BEYOND: [u8; 3] = [0xfe, 0xff, 0xff];

fn check_last<'a>(
    device: &dyn ReadBlocks,
    table: &'a PartitionTable,
    new_len: ByteLen,
    grow: PartitionNumber,
) -> Result<&'a Partition, PartitionError> {
    let partition = table.get(grow).ok_or_else(|| cannot(grow, "there is no such partition"))?;
    if table.partitions.iter().any(|other| other.start > partition.start) {
        return Err(cannot(grow, "another one lies behind it"));
    }
    if new_len <= device.len() || new_len.0 % SECTOR != 0 || new_len.0 - device.len().0 < BLOCK_SIZE
    {
        return Err(cannot(grow, "the disk does not get longer by a block"));
    }
    match partition.type_id {
        TypeId::Mbr(_) | TypeId::Guid(_) if !partition.is_aligned() => {
            Err(cannot(grow, "it is not aligned to 4 KiB"))
        }
        _ => Ok(partition),
    }
}

fn extended_entries(
    old: &Gpt,
    grow: PartitionNumber,
    last: u64,
) -> Result<Vec<u8>, PartitionError> {
    let mut entries = old.entries.clone();
    let index = grow.0 as usize - 1;
    let entry = entries
        .chunks_exact_mut(old.entry_len)
        .nth(index)
        .ok_or_else(|| cannot(grow, "there is no such partition"))?;
    if u64_at(entry, gpt::ENTRY_LAST_AT) > last {
        return Err(cannot(grow, "there is nothing to gain"));
    }
    entry[gpt::ENTRY_LAST_AT..gpt::ENTRY_LAST_AT + 8].copy_from_slice(&last.to_le_bytes());
    Ok(entries)
}

/// What both new headers say.
struct Shape<'a> {
    entries: &'a [u8],
    last_usable: u64,
}

impl Shape<'_> {
    fn header(&self, old: &Gpt, my_lba: u64, other_lba: u64, entries_lba: u64) -> Vec<u8> {
        let mut header = old.header.clone();
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(gpt::MY_LBA_AT, &my_lba.to_le_bytes());
        put(gpt::OTHER_LBA_AT, &other_lba.to_le_bytes());
        put(gpt::LAST_USABLE_AT, &self.last_usable.to_le_bytes());
        put(gpt::ENTRIES_LBA_AT, &entries_lba.to_le_bytes());
        put(gpt::ENTRIES_CRC_AT, &gpt::crc32(self.entries).to_le_bytes());
        let crc = gpt::header_crc(&header);
        header[gpt::HEADER_CRC_AT..gpt::HEADER_CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        header
    }
}

/// The protective MBR, covering the longer disk. A hybrid one is left as it is.
fn protective(
    device: &dyn ReadBlocks,
    new_len: ByteLen,
) -> Result<Option<(ByteOffset, Vec<u8>)>, PartitionError> {
    let Some(sector) = read_sector(device, 0)? else { return Ok(None) };
    let at = mbr::ENTRIES_AT;
    let others = &sector[at + mbr::ENTRY_LEN..at + 4 * mbr::ENTRY_LEN];
    if u32_at(&sector, at + 8) != 1 || others.iter().any(|&byte| byte != 0) {
        return Ok(None);
    }
    let sectors = u32::try_from(new_len.0 / SECTOR - 1).unwrap_or(u32::MAX);
    let mut sector = sector.to_vec();
    sector[at + 12..at + 16].copy_from_slice(&sectors.to_le_bytes());
    Ok(Some((ByteOffset(0), sector)))
}

fn at_lba(lba: u64) -> ByteOffset {
    ByteOffset(lba * SECTOR)
}

fn cannot(number: PartitionNumber, reason: &'static str) -> PartitionError {
    PartitionError::CannotGrow { number, reason }
}
