//! The GUID partition table (UEFI 2.10, chapter 5).
//!
//! ```text
//!  LBA 0 protective MBR │ 1 header │ 2… entries │ partitions │ entries │ last: backup header
//!  header  0 "EFI PART"   8 revision u32    12 length u32     16 crc32 u32     20 zero u32
//!         24 my LBA u64   32 other LBA u64  40 first usable LBA u64   48 last usable LBA u64
//!         56 disk GUID    72 entries' LBA u64   80 entries u32   84 entry length u32   88 crc32 u32
//!  entry   0 type GUID    16 own GUID       32 first LBA u64  40 last LBA u64
//!         48 attributes u64                 56 name: 36 units of UTF-16
//! ```

use super::{
    Guid, Partition, PartitionError, PartitionNumber, PartitionTable, SECTOR, TableKind, TypeId,
    corrupt, field, read_sector, u32_at, u64_at,
};
use crate::ReadBlocks;
use crate::units::{ByteLen, ByteOffset};

const MAGIC: [u8; 8] = *b"EFI PART";
pub(super) const HEADER_CRC_AT: usize = 16;
pub(super) const MY_LBA_AT: usize = 24;
pub(super) const OTHER_LBA_AT: usize = 32;
pub(super) const LAST_USABLE_AT: usize = 48;
pub(super) const ENTRIES_LBA_AT: usize = 72;
pub(super) const ENTRIES_CRC_AT: usize = 88;
pub(super) const ENTRY_LAST_AT: usize = 40;
/// The defined part of a header, in bytes.
const HEADER_LEN: u32 = 92;
/// The shortest entry, in bytes.
const ENTRY_LEN_MIN: u32 = 128;
/// Most bytes of entries that are read: 64 times what everybody makes (128 entries of 128 bytes).
const ENTRIES_LEN_MAX: u64 = 1 << 20;

/// A header and its entries, with right checksums.
#[derive(Clone)]
pub(super) struct Gpt {
    /// The sector with the header.
    pub header: Vec<u8>,
    pub entries: Vec<u8>,
    pub entry_len: usize,
    pub first_usable: u64,
    pub last_usable: u64,
}

/// Reads the table; the backup where the primary is damaged.
pub(super) fn read(device: &dyn ReadBlocks) -> Result<PartitionTable, PartitionError> {
    let last = (device.len().0 / SECTOR).saturating_sub(1);
    let backup = load(device, last);
    let (gpt, backup_is_good) = match load(device, 1) {
        Ok(gpt) => {
            let is_good = backup.is_ok_and(|backup| backup.entries == gpt.entries);
            (gpt, is_good)
        }
        Err(primary) => (backup.map_err(|_| primary)?, true),
    };
    let partitions = (1..)
        .zip(gpt.entries.chunks_exact(gpt.entry_len))
        .filter(|(_, entry)| field::<16>(entry, 0) != [0; 16])
        .map(|(number, entry)| gpt.partition(PartitionNumber(number), entry))
        .collect::<Result<_, _>>()?;
    let kind = TableKind::Gpt { disk_guid: Guid(field(&gpt.header, 56)) };
    Ok(PartitionTable { kind, partitions, backup_is_good })
}

/// Reads and checks the header at `lba` and its entries.
pub(super) fn load(device: &dyn ReadBlocks, lba: u64) -> Result<Gpt, PartitionError> {
    let place = format!("GPT header in sector {lba}");
    let header = read_sector(device, lba)?
        .filter(|sector| field::<8>(sector, 0) == MAGIC)
        .ok_or_else(|| corrupt(&place, "\"EFI PART\"", "none"))?;
    let len = u32_at(&header, 12);
    if !(HEADER_LEN..=SECTOR as u32).contains(&len) {
        return Err(corrupt(&place, "a length of 92 to 512", len.to_string()));
    }
    let (found, expected) = (u32_at(&header, HEADER_CRC_AT), header_crc(&header));
    if found != expected {
        return Err(corrupt(&place, format!("crc {expected:08x}"), format!("{found:08x}")));
    }
    if u64_at(&header, MY_LBA_AT) != lba {
        return Err(corrupt(&place, format!("its place {lba}"), u64_at(&header, 24).to_string()));
    }
    let sectors = device.len().0 / SECTOR;
    let (first_usable, last_usable) = (u64_at(&header, 40), u64_at(&header, LAST_USABLE_AT));
    if last_usable >= sectors || first_usable < 2 {
        let found = format!("{first_usable} to {last_usable}");
        return Err(corrupt(&place, format!("usable sectors 2 to {sectors}"), found));
    }
    let entry_len = u32_at(&header, 84) as usize;
    let entries = load_entries(device, &header, &place)?;
    Ok(Gpt { header: header.to_vec(), entries, entry_len, first_usable, last_usable })
}

fn load_entries(
    device: &dyn ReadBlocks,
    header: &[u8],
    place: &str,
) -> Result<Vec<u8>, PartitionError> {
    let (count, entry_len) = (u32_at(header, 80), u32_at(header, 84));
    let len = u64::from(count) * u64::from(entry_len);
    let fits = entry_len >= ENTRY_LEN_MIN && entry_len % 8 == 0 && len <= ENTRIES_LEN_MAX;
    if !fits {
        let expected = format!("at most {ENTRIES_LEN_MAX} bytes of entries");
        return Err(corrupt(place, expected, format!("{count} entries of {entry_len} bytes")));
    }
    let at = u64_at(header, ENTRIES_LBA_AT).saturating_mul(SECTOR);
    let mut entries = vec![0; len as usize];
    device.read_at(ByteOffset(at), &mut entries)?;
    let (found, expected) = (u32_at(header, ENTRIES_CRC_AT), crc32(&entries));
    if found != expected {
        return Err(corrupt(place, format!("entries' crc {expected:08x}"), format!("{found:08x}")));
    }
    Ok(entries)
}

impl Gpt {
    fn partition(
        &self,
        number: PartitionNumber,
        entry: &[u8],
    ) -> Result<Partition, PartitionError> {
        let (first, last) = (u64_at(entry, 32), u64_at(entry, ENTRY_LAST_AT));
        if first < self.first_usable || last > self.last_usable || first > last {
            return Err(PartitionError::OutOfRange {
                number,
                start: ByteOffset(first.saturating_mul(SECTOR)),
                end: ByteOffset(last.saturating_add(1).saturating_mul(SECTOR)),
                usable: format!("sectors {} to {}", self.first_usable, self.last_usable),
            });
        }
        let units: Vec<u16> =
            entry[56..128].chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect();
        let name = units.split(|&unit| unit == 0).next().unwrap_or_default();
        Ok(Partition {
            number,
            start: ByteOffset(first * SECTOR),
            len: ByteLen((last - first + 1) * SECTOR),
            type_id: TypeId::Guid(Guid(field(entry, 0))),
            guid: Some(Guid(field(entry, 16))),
            name: String::from_utf16_lossy(name),
        })
    }
}

/// The checksum of a header sector: over its length, with the field itself as zeroes.
pub(super) fn header_crc(sector: &[u8]) -> u32 {
    let len = (u32_at(sector, 12) as usize).clamp(HEADER_LEN as usize, sector.len());
    let mut header = sector[..len].to_vec();
    header[HEADER_CRC_AT..HEADER_CRC_AT + 4].fill(0);
    crc32(&header)
}

/// CRC-32 of ISO 3309, which UEFI asks for: polynomial 04c11db7, reflected.
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_checksum_is_iso_3309s() {
        assert_eq!(super::crc32(b"123456789"), 0xcbf4_3926);
    }
}
