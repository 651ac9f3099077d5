//! A partition as a device of its own.

use crate::file::check_range;
use crate::units::{ByteLen, ByteOffset};
use crate::{BlockError, RangeKind, ReadBlocks};

/// A window on another device.
pub struct PartitionView<D> {
    device: D,
    start: ByteOffset,
    len: ByteLen,
}

impl<D: ReadBlocks> PartitionView<D> {
    /// The `len` bytes from `start` on, which must lie on the device.
    pub fn new(device: D, start: ByteOffset, len: ByteLen) -> Result<Self, BlockError> {
        check_range(start, len, device.len())?;
        Ok(Self { device, start, len })
    }

    /// Where the window begins on the device.
    pub fn start(&self) -> ByteOffset {
        self.start
    }

    fn place(&self, at: ByteOffset) -> ByteOffset {
        self.start.plus(ByteLen(at.0))
    }
}

impl<D: ReadBlocks> ReadBlocks for PartitionView<D> {
    fn len(&self) -> ByteLen {
        self.len
    }

    fn read_at(&self, at: ByteOffset, buf: &mut [u8]) -> Result<(), BlockError> {
        check_range(at, ByteLen(buf.len() as u64), self.len)?;
        self.device.read_at(self.place(at), buf)
    }

    fn status(&self, at: ByteOffset, limit: ByteLen) -> Result<(ByteLen, RangeKind), BlockError> {
        check_range(at, ByteLen(1), self.len)?;
        self.device.status(self.place(at), ByteLen(limit.0.clamp(1, self.len.0 - at.0)))
    }
}
