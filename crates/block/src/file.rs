//! A host file as a block device.

use std::sync::Arc;

use goldleaf_host::File;

use crate::{BlockError, ByteLen, ByteOffset, RangeKind, ReadBlocks};

/// A read-only device over a host file whose length does not change.
pub struct FileBlocks {
    file: Arc<dyn File>,
    len: ByteLen,
}

impl FileBlocks {
    /// Takes the file's length as the device's.
    pub fn new(file: Arc<dyn File>) -> Result<Self, BlockError> {
        let len = file.len().map_err(|error| BlockError::io("reading a length", &error))?;
        Ok(Self { file, len: ByteLen(len) })
    }

    /// The file behind the device.
    pub fn file(&self) -> &Arc<dyn File> {
        &self.file
    }
}

impl ReadBlocks for FileBlocks {
    fn len(&self) -> ByteLen {
        self.len
    }

    fn read_at(&self, at: ByteOffset, buf: &mut [u8]) -> Result<(), BlockError> {
        check_range(at, ByteLen(buf.len() as u64), self.len)?;
        self.file.read_exact_at(buf, at.0).map_err(|error| BlockError::io("reading", &error))
    }

    fn status(&self, at: ByteOffset, limit: ByteLen) -> Result<(ByteLen, RangeKind), BlockError> {
        check_range(at, ByteLen(1), self.len)?;
        let limit = limit.0.clamp(1, self.len.0 - at.0);
        let data =
            self.file.next_data(at.0).map_err(|error| BlockError::io("finding data", &error))?;
        Ok(match data {
            None => (ByteLen(limit), RangeKind::Zero),
            Some((start, _)) if start > at.0 => (ByteLen(limit.min(start - at.0)), RangeKind::Zero),
            Some((_, end)) => (ByteLen(limit.min(end.max(at.0 + 1) - at.0)), RangeKind::Data),
        })
    }
}

/// Refuses a range that does not lie on a device of `size` bytes.
pub(crate) fn check_range(at: ByteOffset, len: ByteLen, size: ByteLen) -> Result<(), BlockError> {
    match at.0.checked_add(len.0) {
        Some(end) if end <= size.0 => Ok(()),
        _ => Err(BlockError::OutOfRange { at, len, size }),
    }
}
