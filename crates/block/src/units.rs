//! Newtypes for places and lengths on a device, so that a byte is never taken for a block.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The unit of overlay, reference and deduplication, in bytes: the block of ext4 and the cluster of
/// NTFS alike.
pub const BLOCK_SIZE: u64 = 4096;

macro_rules! unit {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Debug,
            Clone,
            Copy,
            PartialEq,
            Eq,
            PartialOrd,
            Ord,
            Hash,
            Default,
            Serialize,
            Deserialize,
        )]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

unit! {
    /// A place on a device, in bytes from its start.
    ByteOffset
}
unit! {
    /// A length in bytes.
    ByteLen
}
unit! {
    /// A place on a device, in blocks of [`BLOCK_SIZE`].
    BlockNo
}
unit! {
    /// A length in blocks of [`BLOCK_SIZE`].
    BlockCount
}

impl BlockNo {
    /// The block's first byte.
    pub fn offset(self) -> ByteOffset {
        ByteOffset(self.0 * BLOCK_SIZE)
    }

    /// The block `count` further on.
    pub fn plus(self, count: BlockCount) -> Self {
        Self(self.0 + count.0)
    }
}

impl BlockCount {
    /// The length in bytes.
    pub fn bytes(self) -> ByteLen {
        ByteLen(self.0 * BLOCK_SIZE)
    }
}

impl ByteOffset {
    /// The block that holds this byte.
    pub fn block(self) -> BlockNo {
        BlockNo(self.0 / BLOCK_SIZE)
    }

    /// The place `len` further on.
    pub fn plus(self, len: ByteLen) -> Self {
        Self(self.0 + len.0)
    }
}

impl ByteLen {
    /// The number of blocks that hold this many bytes.
    pub fn blocks(self) -> BlockCount {
        BlockCount(self.0.div_ceil(BLOCK_SIZE))
    }
}

/// A run of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BlockRange {
    /// First block.
    pub start: BlockNo,
    /// Number of blocks.
    pub count: BlockCount,
}

impl BlockRange {
    /// The run of `count` blocks from `start`.
    pub fn new(start: BlockNo, count: BlockCount) -> Self {
        Self { start, count }
    }

    /// The block behind the last one.
    pub fn end(self) -> BlockNo {
        self.start.plus(self.count)
    }

    /// Whether `block` lies in the run.
    pub fn contains(self, block: BlockNo) -> bool {
        self.start <= block && block < self.end()
    }
}
