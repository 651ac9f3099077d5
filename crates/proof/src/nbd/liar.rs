//! A disk that calls everything durable at once: a proof that does not catch it proves nothing.

use std::sync::Arc;

use goldleaf_block::{
    BlockError, ByteLen, ByteOffset, RangeKind, ReadBlocks, SessionDevice, WriteBlocks,
};

type BlockResult<T> = std::result::Result<T, BlockError>;

/// A session that flushes nothing and says that it did.
pub struct Liar(pub Arc<SessionDevice>);

impl ReadBlocks for Liar {
    fn len(&self) -> ByteLen {
        self.0.len()
    }

    fn read_at(&self, at: ByteOffset, buf: &mut [u8]) -> BlockResult<()> {
        self.0.read_at(at, buf)
    }

    fn status(&self, at: ByteOffset, limit: ByteLen) -> BlockResult<(ByteLen, RangeKind)> {
        self.0.status(at, limit)
    }
}

impl WriteBlocks for Liar {
    fn write_at(&self, at: ByteOffset, data: &[u8]) -> BlockResult<()> {
        self.0.write_at(at, data)
    }

    fn write_zeroes(&self, at: ByteOffset, len: ByteLen) -> BlockResult<()> {
        self.0.write_zeroes(at, len)
    }

    fn discard(&self, at: ByteOffset, len: ByteLen) -> BlockResult<()> {
        self.0.discard(at, len)
    }

    fn flush(&self) -> BlockResult<()> {
        Ok(())
    }
}
