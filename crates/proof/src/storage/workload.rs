//! What is done to a disk: steps, the disk below, and chance.

use std::sync::Arc;

use goldleaf_block::{
    BlockError, ByteLen, ByteOffset, RangeKind, ReadBlocks, Recovery, SessionDevice, SessionId,
    WriteBlocks,
};
use goldleaf_host::sim::SimDir;

use super::oracle::BLOCK;

/// The digest that names [`Base`].
pub const DIGEST: [u8; 32] = [3; 32];
/// Blocks of a stretch of the base that is all data or all zeroes.
const STRETCH: usize = 3;

/// One thing that a guest does. Places and lengths are in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Fills a range.
    Write {
        /// From here.
        at: usize,
        /// So many.
        len: usize,
        /// With this.
        fill: u8,
    },
    /// Makes a range read as zeroes.
    Zero {
        /// From here.
        at: usize,
        /// So many.
        len: usize,
    },
    /// Trims a range.
    Discard {
        /// From here.
        at: usize,
        /// So many.
        len: usize,
    },
    /// Flushes.
    Flush,
}

impl Step {
    /// Does it to a device.
    pub fn apply(&self, device: &SessionDevice) -> Result<(), BlockError> {
        let place = |at: usize| ByteOffset(at as u64);
        match *self {
            Step::Write { at, len, fill } => device.write_at(place(at), &vec![fill; len]),
            Step::Zero { at, len } => device.write_zeroes(place(at), ByteLen(len as u64)),
            Step::Discard { at, len } => device.discard(place(at), ByteLen(len as u64)),
            Step::Flush => device.flush(),
        }
    }
}

/// What a session stands on: stretches of data and of zeroes in turn.
pub struct Base(pub usize);

impl Base {
    fn byte(at: usize) -> u8 {
        let block = at / BLOCK;
        if block / STRETCH % 2 == 1 { 0x80 | block as u8 } else { 0 }
    }

    /// All of it.
    pub fn content(&self) -> Vec<u8> {
        (0..self.0).map(Self::byte).collect()
    }
}

impl ReadBlocks for Base {
    fn len(&self) -> ByteLen {
        ByteLen(self.0 as u64)
    }

    fn read_at(&self, at: ByteOffset, buf: &mut [u8]) -> Result<(), BlockError> {
        for (block, part) in blocks(at.0 as usize, buf) {
            part.fill(Self::byte(block * BLOCK));
        }
        Ok(())
    }

    fn status(&self, at: ByteOffset, limit: ByteLen) -> Result<(ByteLen, RangeKind), BlockError> {
        let stretch = (STRETCH * BLOCK) as u64;
        let rest = (stretch - at.0 % stretch).min(limit.0).min(self.0 as u64 - at.0);
        let is_zero = Self::byte(at.0 as usize) == 0;
        Ok((ByteLen(rest), if is_zero { RangeKind::Zero } else { RangeKind::Data }))
    }
}

/// The parts of a buffer that begins at byte `at`, with the numbers of their blocks.
fn blocks(at: usize, buf: &mut [u8]) -> impl Iterator<Item = (usize, &mut [u8])> {
    let mut block = at / BLOCK;
    let mut rest = buf;
    let mut first = BLOCK - at % BLOCK;
    std::iter::from_fn(move || {
        let len = first.min(rest.len());
        let (part, behind) = std::mem::take(&mut rest).split_at_mut_checked(len)?;
        (rest, first, block) = (behind, BLOCK, block + 1);
        (!part.is_empty()).then_some((block - 1, part))
    })
}

/// A new session over a base of `len` bytes.
pub fn create(dir: &SimDir, len: usize) -> Result<SessionDevice, BlockError> {
    SessionDevice::create(Arc::new(dir.clone()), Arc::new(Base(len)), SessionId([9; 16]), DIGEST)
}

/// A session that is there.
pub fn open(dir: &SimDir, len: usize) -> Result<(SessionDevice, Recovery), BlockError> {
    SessionDevice::open(Arc::new(dir.clone()), Arc::new(Base(len)), &DIGEST)
}

/// All that a device holds.
pub fn content(device: &SessionDevice) -> Result<Vec<u8>, BlockError> {
    let mut bytes = vec![0xEE; device.len().0 as usize];
    device.read_at(ByteOffset(0), &mut bytes)?;
    Ok(bytes)
}

/// Random numbers for workloads: the constants are Knuth's MMIX generator's.
pub struct Random(pub u64);

impl Random {
    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % end as u64) as usize
    }

    /// A step on a disk of `len` bytes: whole blocks mostly, sectors and odd bytes too.
    pub fn step(&mut self, len: usize) -> Step {
        let unit = [1, 512, BLOCK, BLOCK, BLOCK][self.below(5)];
        let at = self.below(len / unit) * unit;
        let most = 1 + self.below(5);
        let count = (most * unit + self.below(2) * self.below(unit)).min(len - at);
        let fill = self.below(255) as u8 + 1;
        match self.below(16) {
            0..=8 => Step::Write { at, len: count, fill },
            9 => Step::Zero { at, len: count },
            10 | 11 => Step::Discard { at, len: count },
            12 => {
                let at = at / BLOCK * BLOCK;
                Step::Discard { at, len: (12 * BLOCK).min(len - at) }
            }
            _ => Step::Flush,
        }
    }
}
