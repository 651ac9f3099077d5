//! Disks in memory: mostly zeroes, cheap to spoil.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use goldleaf_block::{
    BLOCK_SIZE, BlockError, ByteLen, ByteOffset, RangeKind, ReadBlocks, WriteBlocks,
};

/// Bytes of a block.
pub const BLOCK: usize = BLOCK_SIZE as usize;

type Block = Box<[u8; BLOCK]>;

/// Blocks that are not zero, over others that are shared.
#[derive(Clone, Default)]
pub struct Disk {
    below: Arc<BTreeMap<u64, Block>>,
    over: BTreeMap<u64, Block>,
    len: u64,
}

impl Disk {
    /// A disk of zeroes.
    pub fn zero(len: u64) -> Self {
        Self { len, ..Self::default() }
    }

    /// The same bytes, longer or shorter.
    pub fn resized(&self, len: u64) -> Self {
        Self { len, ..self.clone() }
    }

    /// With everything that was written shared by its clones.
    pub fn frozen(mut self) -> Self {
        let mut below = (*self.below).clone();
        below.append(&mut self.over);
        Self { below: Arc::new(below), ..self }
    }

    /// Unpacks a seed: blocks, u32; then for each block that is not zero its number, u32, the
    /// number of its pieces, u16, and of each piece place, u16, length, u16, and bytes.
    pub fn unpack(seed: &[u8]) -> Self {
        let mut input = crate::input::Input(seed);
        let mut disk = Self::zero(u64::from(input.u32()) * BLOCK_SIZE);
        while !input.is_empty() {
            let number = u64::from(input.u32());
            for _ in 0..input.u16() {
                let (at, len) = (input.u16(), input.u16());
                let bytes = input.take(len.into());
                disk.block_mut(number)[usize::from(at)..][..bytes.len()].copy_from_slice(bytes);
            }
        }
        disk.frozen()
    }

    /// A block to look at.
    pub fn block(&self, number: u64) -> &[u8; BLOCK] {
        const ZEROES: &[u8; BLOCK] = &[0; BLOCK];
        self.over.get(&number).or_else(|| self.below.get(&number)).map_or(ZEROES, |block| block)
    }

    /// A block to change.
    pub fn block_mut(&mut self, number: u64) -> &mut [u8; BLOCK] {
        let below = &self.below;
        self.over
            .entry(number)
            .or_insert_with(|| below.get(&number).cloned().unwrap_or(Box::new([0; BLOCK])))
    }

    /// Writes anywhere inside; what would lie behind the end is left out.
    pub fn write(&mut self, at: u64, bytes: &[u8]) {
        let len = (bytes.len() as u64).min(self.len.saturating_sub(at)) as usize;
        let mut done = 0;
        while done < len {
            let place = at + done as u64;
            let within = (place % BLOCK_SIZE) as usize;
            let part = (BLOCK - within).min(len - done);
            let block = self.block_mut(place / BLOCK_SIZE);
            block[within..within + part].copy_from_slice(&bytes[done..done + part]);
            done += part;
        }
    }

    /// Reads anywhere inside.
    pub fn bytes(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.read_at(ByteOffset(at), &mut bytes).expect("a place inside");
        bytes
    }

    /// Numbers of the blocks that were changed since the disk was frozen.
    pub fn changed(&self) -> Vec<u64> {
        self.over.keys().copied().collect()
    }
}

/// Whether a range lies in a device of so many bytes.
fn check(at: ByteOffset, len: u64, size: u64) -> Result<(), BlockError> {
    match at.0.checked_add(len).filter(|&end| end <= size) {
        Some(_) => Ok(()),
        None => Err(BlockError::OutOfRange { at, len: ByteLen(len), size: ByteLen(size) }),
    }
}

impl ReadBlocks for Disk {
    fn len(&self) -> ByteLen {
        ByteLen(self.len)
    }

    fn read_at(&self, at: ByteOffset, buf: &mut [u8]) -> Result<(), BlockError> {
        check(at, buf.len() as u64, self.len)?;
        let mut done = 0;
        while done < buf.len() {
            let place = at.0 + done as u64;
            let within = (place % BLOCK_SIZE) as usize;
            let len = (BLOCK - within).min(buf.len() - done);
            let block = self.block(place / BLOCK_SIZE);
            buf[done..done + len].copy_from_slice(&block[within..within + len]);
            done += len;
        }
        Ok(())
    }

    fn status(&self, at: ByteOffset, limit: ByteLen) -> Result<(ByteLen, RangeKind), BlockError> {
        check(at, 1, self.len)?;
        Ok((ByteLen(limit.0.clamp(1, self.len - at.0)), RangeKind::Data))
    }
}

/// A disk that can be written, of bytes in one piece.
pub struct Memory(Mutex<Vec<u8>>);

impl Memory {
    /// Of these bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Mutex::new(bytes))
    }

    fn with<T>(
        &self,
        at: ByteOffset,
        len: u64,
        work: impl FnOnce(&mut [u8]) -> T,
    ) -> Result<T, BlockError> {
        let mut bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        check(at, len, bytes.len() as u64)?;
        Ok(work(&mut bytes[at.0 as usize..(at.0 + len) as usize]))
    }
}

impl ReadBlocks for Memory {
    fn len(&self) -> ByteLen {
        ByteLen(self.0.lock().unwrap_or_else(PoisonError::into_inner).len() as u64)
    }

    fn read_at(&self, at: ByteOffset, buf: &mut [u8]) -> Result<(), BlockError> {
        self.with(at, buf.len() as u64, |bytes| buf.copy_from_slice(bytes))
    }

    /// Blocks of zeroes are holes.
    fn status(&self, at: ByteOffset, limit: ByteLen) -> Result<(ByteLen, RangeKind), BlockError> {
        let len = BLOCK_SIZE - at.0 % BLOCK_SIZE;
        let len = len.min(self.len().0.saturating_sub(at.0)).clamp(1, limit.0.max(1));
        self.with(at, len, |bytes| {
            let zero = bytes.iter().all(|&byte| byte == 0);
            (ByteLen(len), if zero { RangeKind::Zero } else { RangeKind::Data })
        })
    }
}

impl WriteBlocks for Memory {
    fn write_at(&self, at: ByteOffset, data: &[u8]) -> Result<(), BlockError> {
        self.with(at, data.len() as u64, |bytes| bytes.copy_from_slice(data))
    }

    fn write_zeroes(&self, at: ByteOffset, len: ByteLen) -> Result<(), BlockError> {
        self.with(at, len.0, |bytes| bytes.fill(0))
    }

    fn discard(&self, at: ByteOffset, len: ByteLen) -> Result<(), BlockError> {
        self.write_zeroes(at, len)
    }

    fn flush(&self) -> Result<(), BlockError> {
        Ok(())
    }
}
