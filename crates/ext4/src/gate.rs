//! The gate: whether a volume may be (part of) a golden image, and what a device holds if not ext4.
//!
//! An allow-list: a feature that nobody here has tested is refused, with what to do about it.
//! `encrypt`, `verity` and `casefold` may be switched on; files that use them are refused when the
//! volume is validated. `inline_data` is refused here, because a guest uses it by itself.

use std::fmt;

use goldleaf_block::{ByteOffset, ReadBlocks};

use crate::error::{Ext4Error, Result};
use crate::fields::Fields;
use crate::superblock::{SUPERBLOCK_AT, SUPERBLOCK_LEN, Superblock, feature};

/// What a volume that passed the gate is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Features {
    /// Its superblock.
    pub superblock: Superblock,
    /// Whether metadata carries checksums.
    pub metadata_csum: bool,
    /// Whether times have nanoseconds and reach beyond 2038.
    pub fine_times: bool,
}

/// Why a volume is refused as a golden image.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Something else lies there.
    #[error("the partition holds {0}, not ext4")]
    Foreign(Foreign),
    /// Nothing that is known lies there.
    #[error("the partition holds no ext4 file system")]
    NotExt4,
    /// A feature that is not supported; `cure` says how to be rid of it.
    #[error("the file system uses {name}, which is not supported; {cure}")]
    Feature {
        /// Its name, as `tune2fs` has it.
        name: String,
        /// What to do.
        cure: String,
    },
    /// It lacks a feature that is needed.
    #[error("the file system lacks {name}; {cure}")]
    Missing {
        /// Its name, as `tune2fs` has it.
        name: &'static str,
        /// What to do.
        cure: String,
    },
    /// Blocks of another size.
    #[error("the file system has blocks of {bytes} bytes; make it anew with `mkfs.ext4 -b 4096`")]
    BlockSize {
        /// Their size.
        bytes: u64,
    },
    /// It was not unmounted, or holds errors.
    #[error("the file system is not clean ({what}); {cure}")]
    NotClean {
        /// What is wrong.
        what: &'static str,
        /// What to do.
        cure: &'static str,
    },
    /// It cannot be read at all.
    #[error("the file system cannot be read: {0}")]
    Unreadable(Ext4Error),
}

const OFF: &str = "tune2fs -O ^";
const COMPAT_ALLOWED: u32 = 0x1 | 0x4 | 0x8 | 0x10 | 0x20 | 0x200 | 0x1000;
const INCOMPAT_ALLOWED: u32 = 0x2 | 0x4 | 0x10 | 0x40 | 0x80 | 0x200 | 0x2000 | 0x10000 | 0x20000;
const RO_ALLOWED: u32 = 0x1 | 0x2 | 0x8 | 0x10 | 0x20 | 0x40 | 0x400 | 0x8000 | 0x10000;

/// Which of the three words of features a bit is in, the bit, and its name.
type Known = (usize, u32, &'static str, Cure);

#[derive(Clone, Copy)]
enum Cure {
    /// `tune2fs` takes it off.
    Tune,
    /// The file system must be made anew.
    Anew,
}

const KNOWN: [Known; 20] = [
    (0, 0x2, "imagic_inodes", Cure::Anew),
    (0, 0x40, "lazy_bg", Cure::Anew),
    (0, 0x80, "exclude_inode", Cure::Anew),
    (0, 0x100, "exclude_bitmap", Cure::Anew),
    (0, 0x400, "fast_commit", Cure::Tune),
    (0, 0x800, "stable_inodes", Cure::Tune),
    (1, 0x1, "compression", Cure::Anew),
    (1, 0x8, "journal_dev", Cure::Anew),
    (1, 0x100, "mmp", Cure::Tune),
    (1, 0x400, "ea_inode", Cure::Anew),
    (1, 0x1000, "dirdata", Cure::Anew),
    (1, 0x4000, "large_dir", Cure::Anew),
    (1, 0x8000, "inline_data", Cure::Anew),
    (2, 0x4, "btree_dir", Cure::Anew),
    (2, 0x80, "has_snapshot", Cure::Anew),
    (2, 0x100, "quota", Cure::Tune),
    (2, 0x200, "bigalloc", Cure::Anew),
    (2, 0x1000, "read-only", Cure::Tune),
    (2, 0x2000, "project", Cure::Tune),
    (2, 0x4000, "shared_blocks", Cure::Anew),
];

/// Decides whether the volume on a device may be a golden image's. Reads the superblock only;
/// [`validate`](crate::validate()) reads the rest.
pub fn gate(device: &dyn ReadBlocks) -> std::result::Result<Features, Refusal> {
    let bytes = head(device).map_err(Refusal::Unreadable)?;
    let fields = Fields(&bytes);
    if fields.u16(0x38) != 0xEF53 {
        let foreign = identify(device).map_err(Refusal::Unreadable)?;
        return Err(foreign.map_or(Refusal::NotExt4, Refusal::Foreign));
    }
    check_features([fields.u32(0x5C), fields.u32(0x60), fields.u32(0x64)])?;
    if fields.u32(0x18) != 2 {
        let bytes = 1024_u64.checked_shl(fields.u32(0x18)).unwrap_or(0);
        return Err(Refusal::BlockSize { bytes });
    }
    check_missing(fields)?;
    check_clean(fields)?;
    let superblock = Superblock::parse(&bytes, device.len()).map_err(Refusal::Unreadable)?;
    Ok(Features {
        metadata_csum: superblock.has_metadata_csum(),
        fine_times: superblock.inode_size > 128,
        superblock,
    })
}

fn head(device: &dyn ReadBlocks) -> Result<Vec<u8>> {
    let mut bytes = vec![0; SUPERBLOCK_LEN];
    if device.len().0 >= SUPERBLOCK_AT + SUPERBLOCK_LEN as u64 {
        device.read_at(ByteOffset(SUPERBLOCK_AT), &mut bytes)?;
    }
    Ok(bytes)
}

fn check_features(words: [u32; 3]) -> std::result::Result<(), Refusal> {
    let allowed = [COMPAT_ALLOWED, INCOMPAT_ALLOWED, RO_ALLOWED];
    for (index, (word, allowed)) in words.into_iter().zip(allowed).enumerate() {
        let refused = word & !allowed;
        if refused == 0 {
            continue;
        }
        let lowest = 1 << refused.trailing_zeros();
        let known = KNOWN.iter().find(|known| known.0 == index && known.1 & refused != 0);
        return Err(match known {
            Some((.., name, cure)) => {
                Refusal::Feature { name: (*name).into(), cure: cure.sentence(name) }
            }
            None => {
                let kind = ["compatible", "incompatible", "read-only compatible"][index];
                let name = format!("an unknown {kind} feature {lowest:#x}");
                Refusal::Feature { name, cure: Cure::Anew.sentence("") }
            }
        });
    }
    Ok(())
}

impl Cure {
    fn sentence(self, name: &str) -> String {
        match self {
            Cure::Tune => format!("run `{OFF}{name}` on it while it is not mounted"),
            Cure::Anew => "make it anew with `mkfs.ext4` and its default features".into(),
        }
    }
}

fn check_missing(fields: Fields<'_>) -> std::result::Result<(), Refusal> {
    let missing = |name, cure: &str| Err(Refusal::Missing { name, cure: cure.into() });
    if fields.u32(0x60) & feature::INCOMPAT_EXTENTS == 0 {
        return missing("extents (it is ext2 or ext3)", "copy its files into a new ext4");
    }
    if fields.u32(0x60) & feature::INCOMPAT_FILETYPE == 0 {
        return missing("filetype", "run `tune2fs -O filetype` on it and then `e2fsck -f`");
    }
    Ok(())
}

fn check_clean(fields: Fields<'_>) -> std::result::Result<(), Refusal> {
    const CHECK: &str = "run `e2fsck -f` on it while it is not mounted";
    const UNMOUNT: &str = "shut the guest down, or run `e2fsck` on it while it is not mounted";
    let state = fields.u16(0x3A);
    if state & 2 != 0 {
        return Err(Refusal::NotClean { what: "it recorded errors", cure: CHECK });
    }
    if fields.u32(0x60) & feature::INCOMPAT_RECOVER != 0 {
        return Err(Refusal::NotClean { what: "its journal is not empty", cure: UNMOUNT });
    }
    if state & 1 == 0 || fields.u32(0x64) & feature::RO_ORPHAN_PRESENT != 0 {
        return Err(Refusal::NotClean { what: "it was not unmounted", cure: UNMOUNT });
    }
    if fields.u32(0xE8) != 0 {
        return Err(Refusal::NotClean { what: "it lists orphaned inodes", cure: CHECK });
    }
    Ok(())
}

/// What a device holds that is not ext4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Foreign {
    /// An encrypted volume.
    Luks,
    /// A physical volume of LVM2.
    Lvm2,
    /// XFS.
    Xfs,
    /// btrfs.
    Btrfs,
    /// NTFS.
    Ntfs,
    /// Swap space.
    Swap,
    /// FAT in any width.
    Fat,
    /// exFAT.
    ExFat,
    /// squashfs.
    Squashfs,
    /// An encrypted Windows volume.
    BitLocker,
    /// A qcow2 image inside of the disk.
    Qcow2,
    /// A Linux software RAID member.
    LinuxRaid,
    /// F2FS.
    F2fs,
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Foreign::Luks => "a LUKS encrypted volume",
            Foreign::Lvm2 => "an LVM2 physical volume",
            Foreign::Xfs => "XFS",
            Foreign::Btrfs => "btrfs",
            Foreign::Ntfs => "NTFS",
            Foreign::Swap => "swap space",
            Foreign::Fat => "FAT",
            Foreign::ExFat => "exFAT",
            Foreign::Squashfs => "squashfs",
            Foreign::BitLocker => "a BitLocker encrypted volume",
            Foreign::Qcow2 => "a qcow2 disk image",
            Foreign::LinuxRaid => "a member of a Linux software RAID",
            Foreign::F2fs => "F2FS",
        })
    }
}

/// Where each signature stands, in bytes.
const SIGNATURES: [(u64, &[u8], Foreign); 17] = [
    (0, b"LUKS\xba\xbe", Foreign::Luks),
    (512 + 24, b"LVM2 001", Foreign::Lvm2),
    (24, b"LVM2 001", Foreign::Lvm2),
    (0, b"XFSB", Foreign::Xfs),
    (0x10040, b"_BHRfS_M", Foreign::Btrfs),
    (3, b"NTFS    ", Foreign::Ntfs),
    (3, b"-FVE-FS-", Foreign::BitLocker),
    (3, b"EXFAT   ", Foreign::ExFat),
    (4086, b"SWAPSPACE2", Foreign::Swap),
    (4086, b"SWAP-SPACE", Foreign::Swap),
    (4086, b"S1SUSPEND\0", Foreign::Swap),
    (54, b"FAT", Foreign::Fat),
    (82, b"FAT32", Foreign::Fat),
    (0, b"hsqs", Foreign::Squashfs),
    (0, b"QFI\xfb", Foreign::Qcow2),
    (4096, b"\xfc\x4e\x2b\xa9", Foreign::LinuxRaid),
    (1024, b"\x10\x20\xf5\xf2", Foreign::F2fs),
];

/// Recognises what is not ext4 by its signature.
pub fn identify(device: &dyn ReadBlocks) -> Result<Option<Foreign>> {
    for (at, signature, foreign) in SIGNATURES {
        if at + signature.len() as u64 > device.len().0 {
            continue;
        }
        let mut bytes = vec![0; signature.len()];
        device.read_at(ByteOffset(at), &mut bytes)?;
        if bytes == signature {
            return Ok(Some(foreign));
        }
    }
    Ok(None)
}
