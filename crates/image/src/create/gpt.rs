//! A GUID partition table with two partitions, written from scratch (UEFI 2.10, chapter 5).
//!
//! ```text
//! sector 0          protective MBR; its first 440 bytes are the boot loader's
//!        1          header
//!        2 ..= 33   128 entries of 128 bytes
//!        2048       BIOS boot partition, 1 MiB: the boot loader's core
//!        4096       root file system, to the last whole MiB before the backup
//!        end - 32   backup of the entries
//!        end        backup of the header
//! ```

/// Bytes of a sector. The images are addressed in these units by firmware and partition tables.
pub(super) const SECTOR: u64 = 512;
/// First sector of the BIOS boot partition.
pub(super) const BOOT_START: u64 = 2048;
/// Sectors of the BIOS boot partition: 1 MiB, as installers make it.
pub(super) const BOOT_SECTORS: u64 = 2048;
/// First sector of the root file system.
pub(super) const ROOT_START: u64 = BOOT_START + BOOT_SECTORS;
/// Room for the backup table at the end, rounded to the alignment of partitions.
const TAIL_SECTORS: u64 = 2048;

const ENTRIES: u32 = 128;
const ENTRY_BYTES: u32 = 128;
const ENTRIES_SECTORS: u64 = 32;
const FIRST_USABLE: u64 = 2 + ENTRIES_SECTORS;
const HEADER_BYTES: u32 = 92;

/// 21686148-6449-6E6F-744E-656564454649, in the mixed byte order of the table.
const TYPE_BIOS_BOOT: [u8; 16] = *b"Hah!IdontNeedEFI";
/// 4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709: root file system, x86-64.
const TYPE_ROOT_X86_64: [u8; 16] = [
    0xe3, 0xbc, 0x68, 0x4f, 0xcd, 0xe8, 0xb1, 0x4d, 0x96, 0xe7, 0xfb, 0xca, 0xf9, 0x84, 0xb7, 0x09,
];
/// Attribute bit 2: the firmware of a PC may start from this.
const LEGACY_BOOTABLE: u64 = 1 << 2;

/// The ids of a table.
pub(super) struct Ids {
    pub(super) disk: [u8; 16],
    pub(super) boot: [u8; 16],
    pub(super) root: [u8; 16],
}

/// Sectors of the root file system on a disk of `sectors`, a multiple of 2048.
pub(super) fn root_sectors(sectors: u64) -> u64 {
    sectors.saturating_sub(ROOT_START + TAIL_SECTORS)
}

/// The table's pieces for a disk of `sectors`, as byte offset and bytes. The MBR carries `loader`
/// (the boot loader's first 440 bytes).
pub(super) fn table(sectors: u64, ids: &Ids, loader: &[u8; 440]) -> Vec<(u64, Vec<u8>)> {
    let entries = entries(sectors, ids);
    let entries_crc = crc32(&entries);
    let last = sectors - 1;
    let backup_entries = last - ENTRIES_SECTORS;
    let header = |this, other, at| header(this, other, at, backup_entries - 1, ids, entries_crc);
    vec![
        (0, protective_mbr(sectors, loader)),
        (SECTOR, header(1, last, 2)),
        (2 * SECTOR, entries.clone()),
        (backup_entries * SECTOR, entries),
        (last * SECTOR, header(last, 1, backup_entries)),
    ]
}

fn protective_mbr(sectors: u64, loader: &[u8; 440]) -> Vec<u8> {
    let mut mbr = loader.to_vec();
    mbr.extend([0; 6]);
    // One entry of type 0xee over the whole disk, or over as much of it as 32 bits can say.
    mbr.extend([0x00, 0x00, 0x02, 0x00, 0xee, 0xff, 0xff, 0xff]);
    mbr.extend(1_u32.to_le_bytes());
    mbr.extend(u32::try_from(sectors - 1).unwrap_or(u32::MAX).to_le_bytes());
    mbr.extend([0; 48]);
    mbr.extend([0x55, 0xaa]);
    mbr
}

fn header(this: u64, other: u64, entries: u64, usable: u64, ids: &Ids, crc: u32) -> Vec<u8> {
    let mut header = Vec::with_capacity(SECTOR as usize);
    header.extend(b"EFI PART");
    header.extend(0x0001_0000_u32.to_le_bytes());
    header.extend(HEADER_BYTES.to_le_bytes());
    header.extend([0; 8]);
    for sector in [this, other, FIRST_USABLE, usable] {
        header.extend(sector.to_le_bytes());
    }
    header.extend(ids.disk);
    header.extend(entries.to_le_bytes());
    for number in [ENTRIES, ENTRY_BYTES, crc] {
        header.extend(number.to_le_bytes());
    }
    // The header's own sum, over itself with zeroes in the sum's place.
    let sum = crc32(&header).to_le_bytes();
    header.splice(16..20, sum);
    header.resize(SECTOR as usize, 0);
    header
}

fn entries(sectors: u64, ids: &Ids) -> Vec<u8> {
    let root_end = ROOT_START + root_sectors(sectors) - 1;
    let boot_end = BOOT_START + BOOT_SECTORS - 1;
    let mut entries = Vec::new();
    for (kind, id, first, last, flags, name) in [
        (TYPE_BIOS_BOOT, ids.boot, BOOT_START, boot_end, LEGACY_BOOTABLE, "BIOS boot"),
        (TYPE_ROOT_X86_64, ids.root, ROOT_START, root_end, 0, "root"),
    ] {
        entries.extend(kind);
        entries.extend(id);
        for number in [first, last, flags] {
            entries.extend(number.to_le_bytes());
        }
        let mut name: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
        name.resize(72, 0);
        entries.extend(name);
    }
    entries.resize((ENTRIES * ENTRY_BYTES) as usize, 0);
    entries
}

/// CRC-32 of ISO 3309, which the table uses (reflected polynomial 0xedb88320). Over 16 KiB, once:
/// a table would not pay.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            let carry = if crc & 1 == 1 { 0xedb8_8320 } else { 0 };
            crc = (crc >> 1) ^ carry;
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// The polynomial's published check value.
    #[test]
    fn crc_of_the_nine_digits() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn another_implementation_finds_no_fault() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let sectors = (1 << 30) / SECTOR;
        crate::create::tools::make_sparse(&file.path().with_extension("d"), sectors * SECTOR)
            .unwrap();
        let disk = file.path().with_extension("d");
        let ids = Ids { disk: [1; 16], boot: [2; 16], root: [3; 16] };
        crate::create::tools::write_pieces(&disk, &table(sectors, &ids, &[0x90; 440])).unwrap();
        let sgdisk = Command::new("sgdisk").arg("-v").arg("-p").arg(&disk).output().unwrap();
        let text = String::from_utf8_lossy(&sgdisk.stdout).into_owned();
        assert!(text.contains("No problems found"), "{text}");
        assert!(text.contains("EF02") && text.contains("8304"), "{text}");
        let root: Vec<&str> = text.lines().last_line_of("   2").split_whitespace().collect();
        assert_eq!(root[1..3], ["4096", &(4095 + root_sectors(sectors)).to_string()]);
        std::fs::remove_file(disk).unwrap();
    }

    trait LastLine<'a> {
        fn last_line_of(self, start: &str) -> &'a str;
    }

    impl<'a, I: Iterator<Item = &'a str>> LastLine<'a> for I {
        fn last_line_of(self, start: &str) -> &'a str {
            self.filter(|line| line.starts_with(start)).last().unwrap_or("")
        }
    }
}
