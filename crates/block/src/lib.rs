//! Block devices: the seam that everything about disks goes through, the extent map that describes
//! a disk by reference, and the session log that a guest's writes go to.
//!
//! ```text
//!   ReadBlocks   MapDevice = ExtentMap over sources (image data, packs, composed metadata)
//!       ▲
//!   WriteBlocks  SessionDevice = SessionLog over any ReadBlocks
//! ```
//!
//! All stacking is resolved when a map is made: a read goes through one look-up in the session log
//! and at most one in the map below, however many layers a LivePC has.

mod error;
mod file;
mod map;
mod map_format;
mod partition;
mod session;
mod trace;
mod units;

use std::sync::Arc;

pub use error::BlockError;
pub use file::FileBlocks;
pub use map::{ExtentMap, MapBuilder, MapDevice, MapExtent, SourceIndex, Target};
pub use partition::{
    Guid, Partition, PartitionError, PartitionNumber, PartitionTable, PartitionView, TableKind,
    TypeId, grown_gpt, grown_mbr, grown_table, read_partitions,
};
#[cfg(feature = "proof")]
pub use session::use_little_limits;
pub use session::{Recovery, SessionDevice, SessionId, Snapshot, Usage};
pub use trace::Trace;
pub use units::{BLOCK_SIZE, BlockCount, BlockNo, BlockRange, ByteLen, ByteOffset};

/// What a range of a device holds, for block status and for copying.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeKind {
    /// Stored data.
    Data,
    /// Reads as zeroes and occupies nothing.
    Zero,
}

/// A device that can be read, from any thread.
#[allow(clippy::len_without_is_empty, reason = "a length, not a collection")]
pub trait ReadBlocks: Send + Sync {
    /// Length in bytes, a multiple of 512.
    fn len(&self) -> ByteLen;

    /// Fills `buf` from `at`. Any alignment. Reading past the end is [`BlockError::OutOfRange`].
    fn read_at(&self, at: ByteOffset, buf: &mut [u8]) -> Result<(), BlockError>;

    /// What the longest run of one kind is that begins at `at`: its length in bytes, at most
    /// `limit`, at least 1, and its kind. Never touches the data itself.
    fn status(&self, at: ByteOffset, limit: ByteLen) -> Result<(ByteLen, RangeKind), BlockError>;
}

/// A device that can be written as well. Several threads may call at once; overlapping calls are
/// applied in some order, each as a whole 4 KiB block at a time.
pub trait WriteBlocks: ReadBlocks {
    /// Writes `data` at `at`. Any alignment. Visible to reads at return, durable after
    /// [`flush`](Self::flush).
    fn write_at(&self, at: ByteOffset, data: &[u8]) -> Result<(), BlockError>;

    /// Makes a range read as zeroes, giving its space back where whole blocks allow.
    fn write_zeroes(&self, at: ByteOffset, len: ByteLen) -> Result<(), BlockError>;

    /// Gives space back. The range reads as zeroes afterwards where whole blocks allow; the rest
    /// keeps its content.
    fn discard(&self, at: ByteOffset, len: ByteLen) -> Result<(), BlockError>;

    /// Returns when all that was written before the call is durable. After an error the device is
    /// poisoned: every later write or flush fails with [`BlockError::Poisoned`].
    fn flush(&self) -> Result<(), BlockError>;
}

impl<T: ReadBlocks + ?Sized> ReadBlocks for Arc<T> {
    fn len(&self) -> ByteLen {
        (**self).len()
    }
    fn read_at(&self, at: ByteOffset, buf: &mut [u8]) -> Result<(), BlockError> {
        (**self).read_at(at, buf)
    }
    fn status(&self, at: ByteOffset, limit: ByteLen) -> Result<(ByteLen, RangeKind), BlockError> {
        (**self).status(at, limit)
    }
}
