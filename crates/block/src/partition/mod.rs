//! Partition tables: what is where on a guest's disk.
//!
//! Both tables that guests have are read here, GPT ([`gpt`], UEFI 2.10 chapter 5) and MBR with its
//! chain of logical partitions ([`mbr`]). The bytes are a guest's: everything is bounds-checked,
//! every chain is bounded, and partitions that overlap or leave the disk are refused. Sectors are
//! 512 bytes, as on every disk that Goldleaf serves.
//!
//! Growing a disk is a plan: [`grown_table`] says which bytes to write where, and writes nothing.

mod gpt;
mod grow;
mod mbr;
mod view;

use std::fmt;

pub use grow::{grown_gpt, grown_mbr, grown_table};
pub use view::PartitionView;

use crate::units::{BLOCK_SIZE, ByteLen, ByteOffset};
use crate::{BlockError, ReadBlocks};

/// Length of a sector in bytes: the unit of both tables.
const SECTOR: u64 = 512;

/// What can be wrong with a partition table.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum PartitionError {
    /// The disk cannot be read.
    #[error(transparent)]
    Device(#[from] BlockError),
    /// The table contradicts itself.
    #[error("{place}: expected {expected}, found {found}")]
    Corrupt {
        /// Where: the structure and its place.
        place: String,
        /// What would have been right.
        expected: String,
        /// What is there.
        found: String,
    },
    /// Two partitions share bytes.
    #[error("partitions {0} and {1} overlap")]
    Overlap(PartitionNumber, PartitionNumber),
    /// A partition does not lie on the disk, or lies on the table.
    #[error("partition {number}, bytes {start} to {end}, is outside the {usable} that can be used")]
    OutOfRange {
        /// The partition.
        number: PartitionNumber,
        /// Its first byte.
        start: ByteOffset,
        /// The byte behind it, where that is a number.
        end: ByteOffset,
        /// What can be used.
        usable: String,
    },
    /// The disk cannot be grown this way.
    #[error("partition {number} cannot grow: {reason}")]
    CannotGrow {
        /// The partition.
        number: PartitionNumber,
        /// Why not.
        reason: &'static str,
    },
}

/// Number of a partition, from 1, as the guest counts (`sda1` is 1; logical ones begin at 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionNumber(pub u32);

impl fmt::Display for PartitionNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A GUID as it is stored: the first three fields little-endian.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Guid(pub [u8; 16]);

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let b = &self.0;
        for (i, at) in [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15].iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{:02X}", b[*at])?;
        }
        Ok(())
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Which kind of table a disk has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableKind {
    /// A GUID partition table.
    Gpt {
        /// The disk's GUID.
        disk_guid: Guid,
    },
    /// A master boot record.
    Mbr {
        /// The disk's signature.
        signature: u32,
    },
    /// None: empty, or one file system from the first block on.
    None,
}

/// What a table says a partition is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TypeId {
    /// A GPT type.
    Guid(Guid),
    /// An MBR type.
    Mbr(u8),
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its number.
    pub number: PartitionNumber,
    /// First byte on the disk.
    pub start: ByteOffset,
    /// Length in bytes.
    pub len: ByteLen,
    /// What it is for.
    pub type_id: TypeId,
    /// Its own GUID (GPT only).
    pub guid: Option<Guid>,
    /// Its name (GPT only, else empty). Not valid UTF-16 is replaced.
    pub name: String,
}

impl Partition {
    /// Whether it begins on a block and is whole blocks long. Others cannot be composed.
    pub fn is_aligned(&self) -> bool {
        self.start.0 % BLOCK_SIZE == 0 && self.len.0 % BLOCK_SIZE == 0
    }

    /// The byte behind it.
    fn end(&self) -> u64 {
        self.start.0.saturating_add(self.len.0)
    }
}

/// The partitions of a disk, by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionTable {
    /// Which kind of table it is.
    pub kind: TableKind,
    /// The partitions.
    pub partitions: Vec<Partition>,
    /// Whether the backup of a GPT, at the end of the disk, is as good as the primary. `true`
    /// where there is none to have.
    pub backup_is_good: bool,
}

impl PartitionTable {
    /// The partition with that number.
    pub fn get(&self, number: PartitionNumber) -> Option<&Partition> {
        self.partitions.iter().find(|partition| partition.number == number)
    }
}

/// Reads a disk's partition table.
pub fn read_partitions(device: &dyn ReadBlocks) -> Result<PartitionTable, PartitionError> {
    let Some(sector) = read_sector(device, 0)? else { return Ok(none()) };
    if !mbr::is_signed(&sector) {
        return Ok(none());
    }
    if mbr::is_protective(&sector) {
        return check_overlaps(gpt::read(device)?);
    }
    match mbr::read(device, &sector)? {
        Some(table) => check_overlaps(table),
        None => Ok(none()),
    }
}

fn none() -> PartitionTable {
    PartitionTable { kind: TableKind::None, partitions: Vec::new(), backup_is_good: true }
}

fn check_overlaps(table: PartitionTable) -> Result<PartitionTable, PartitionError> {
    let mut sorted: Vec<&Partition> = table.partitions.iter().collect();
    sorted.sort_by_key(|partition| partition.start);
    match sorted.windows(2).find(|pair| pair[0].end() > pair[1].start.0) {
        Some(pair) => Err(PartitionError::Overlap(pair[0].number, pair[1].number)),
        None => Ok(table),
    }
}

/// A sector of the disk; `None` behind its end.
fn read_sector(
    device: &dyn ReadBlocks,
    lba: u64,
) -> Result<Option<[u8; SECTOR as usize]>, PartitionError> {
    if lba >= device.len().0 / SECTOR {
        return Ok(None);
    }
    let mut sector = [0; SECTOR as usize];
    device.read_at(ByteOffset(lba * SECTOR), &mut sector)?;
    Ok(Some(sector))
}

/// `N` bytes of a structure at a constant place within it.
fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    if let Some(found) = bytes.get(at..at + N) {
        array.copy_from_slice(found);
    }
    array
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(field(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(field(bytes, at))
}

fn corrupt(
    place: impl Into<String>,
    expected: impl Into<String>,
    found: impl Into<String>,
) -> PartitionError {
    PartitionError::Corrupt { place: place.into(), expected: expected.into(), found: found.into() }
}
