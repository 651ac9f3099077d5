//! The content of a cache as a device: what is there is verified once in each process, what is not
//! is brought.

use std::error::Error;
use std::fmt;
use std::io::ErrorKind;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use goldleaf_block::{
    BLOCK_SIZE, BlockCount, BlockError, BlockRange, ByteLen, ByteOffset, RangeKind, ReadBlocks,
};
use goldleaf_store::Digest;
use goldleaf_wire::{FrameInfo, PackIndex, WireError};

use crate::bitmap::Bitmap;
use crate::coming::{Coming, Demand};
use crate::files::{Slot, blocks_of};
use crate::{Cache, CacheError};

/// Why something could not be brought.
pub type SupplyError = Box<dyn Error + Send + Sync>;

/// Takes the next bytes of what was asked for; [`ControlFlow::Break`] when no more are wanted.
pub type Take<'a> = dyn FnMut(&[u8]) -> ControlFlow<()> + 'a;

/// What is carried to a cache, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Carried {
    /// A pack.
    Pack(Digest),
    /// A delta.
    Delta(Digest),
}

impl fmt::Display for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Carried::Pack(name) => write!(f, "pack {name}"),
            Carried::Delta(name) => write!(f, "delta {name}"),
        }
    }
}

/// Brings what has not arrived. What it brings is believed for nothing.
pub trait Supply: Send + Sync {
    /// Hands out bytes of an object, in order, as they arrive.
    fn stream(
        &self,
        object: Carried,
        range: Range<u64>,
        take: &mut Take<'_>,
    ) -> Result<(), SupplyError>;

    /// What came of it was wrong. Returns whether it can come from somewhere else.
    fn distrust(&self, object: Carried) -> bool;
}

/// How often what was brought may be wrong, and another try is worth it.
const TRIES: usize = 8;

/// A cache as a device. Clones are the same device.
#[derive(Clone)]
pub struct Cached {
    cache: Arc<Cache>,
    /// Where to get what is missing; `None` offline.
    supply: Option<Arc<dyn Supply>>,
    /// Blocks that somebody needs: what nobody does is brought only where it is read.
    pub(crate) wanted: Arc<Bitmap>,
    pub(crate) coming: Arc<Coming>,
    pub(crate) demand: Arc<Demand>,
}

impl Cached {
    /// The device of a cache, all of which is wanted.
    pub fn new(cache: Arc<Cache>, supply: Option<Arc<dyn Supply>>) -> Self {
        let wanted = Arc::new(Bitmap::full(cache.blocks().0));
        Self { cache, supply, wanted, coming: Arc::default(), demand: Arc::default() }
    }

    /// The same, where no more is wanted than some of its blocks: those that a disk is made of.
    pub fn wanting(self, blocks: impl IntoIterator<Item = BlockRange>) -> Self {
        Self { wanted: Arc::new(self.cache.bits(blocks)), ..self }
    }

    /// How much of it is wanted.
    pub fn wanted(&self) -> BlockCount {
        BlockCount(self.wanted.count())
    }

    /// How much of what is wanted has arrived.
    pub fn arrived(&self) -> BlockCount {
        BlockCount(self.wanted.count_with(&self.cache.have))
    }

    /// Whether all that is wanted has arrived.
    pub fn is_whole(&self) -> bool {
        self.has_wanted(0..self.cache.blocks().0)
    }

    /// Whether all that is wanted of a range has arrived.
    pub(crate) fn has_wanted(&self, blocks: Range<u64>) -> bool {
        self.cache.have.covers(&self.wanted, blocks)
    }

    /// The cache behind it.
    pub fn cache(&self) -> &Arc<Cache> {
        &self.cache
    }

    /// Makes the frame of a block readable: verified, brought before that where it must be.
    fn ready(&self, block: u64) -> Result<(), BlockError> {
        let slot = self.cache.slot_at(block);
        let index = self.index_in_time(slot)?;
        let byte = (block - slot.first) * BLOCK_SIZE;
        let frame =
            index.frame_at(byte).ok_or_else(|| failed(slot.object(), "a block in no frame"))?;
        let blocks = blocks_of(slot, frame);
        let _turn = self.coming.turn(blocks.start);
        if self.cache.verified.has(blocks.clone()) {
            return Ok(());
        }
        if self.cache.have.has(blocks.clone()) {
            match (self.verify(slot, frame), &self.supply) {
                (Err(BlockError::Corrupt { .. }), Some(_)) => {}
                (verified, _) => return verified,
            }
        }
        self.coming.wait_for(slot.first, stored(frame));
        if self.cache.verified.has(blocks) {
            return Ok(());
        }
        let _demand = self.demand.begin();
        self.bring(slot, frame)
    }

    /// The index of a pack, which somebody waits for.
    fn index_in_time(&self, slot: &Slot) -> Result<Arc<PackIndex>, BlockError> {
        if let Some(index) = self.cache.index(slot) {
            return Ok(index);
        }
        self.coming.wait_for(slot.first, 0..slot.pack.head_len.into());
        let _demand = self.demand.begin();
        self.index(slot)
    }

    /// Compares what is kept of a frame with what its author signed.
    fn verify(&self, slot: &Slot, frame: &FrameInfo) -> Result<(), BlockError> {
        let blocks = blocks_of(slot, frame);
        let mut content = vec![0; frame.len as usize];
        let corrupt = |found: String| BlockError::Corrupt {
            place: format!("pack {}, content at byte {}", slot.pack.name, frame.from),
            expected: frame.content.to_string(),
            found,
        };
        match self.cache.content.read_exact_at(&mut content, blocks.start * BLOCK_SIZE) {
            // Somebody cut the file.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                return Err(corrupt("the end of the file".into()));
            }
            read => read.map_err(|error| BlockError::io("reading what has arrived", &error))?,
        }
        let found = Digest::of(&content);
        if found == frame.content {
            self.cache.verified.set(blocks);
            return Ok(());
        }
        Err(corrupt(found.to_string()))
    }

    /// Reads all that has arrived and compares it with what its author signed. Writes nothing and
    /// brings nothing.
    pub fn check(&self) -> Result<(), BlockError> {
        for slot in self.cache.slots() {
            let Some(index) = self.cache.index(slot) else { continue };
            for frame in index.frames() {
                if self.cache.have.has(blocks_of(slot, frame)) {
                    self.verify(slot, frame)?;
                }
            }
        }
        Ok(())
    }

    /// The index of a pack, brought where it must be.
    pub(crate) fn index(&self, slot: &Slot) -> Result<Arc<PackIndex>, BlockError> {
        if let Some(index) = self.cache.index(slot) {
            return Ok(index);
        }
        self.until_right(slot.object(), |supply| {
            let head = bytes(supply, slot, 0..slot.pack.head_len.into())?;
            self.cache.put_head(slot, &head).map_err(Failure::Cache)
        })
    }

    fn bring(&self, slot: &Slot, frame: &FrameInfo) -> Result<(), BlockError> {
        self.until_right(slot.object(), |supply| {
            let stored = bytes(supply, slot, stored(frame))?;
            self.cache.put(slot, frame, &stored).map_err(Failure::Cache)
        })
    }

    /// Asks once more where what came was wrong, and then whoever else there is.
    pub(crate) fn until_right<T>(
        &self,
        object: Carried,
        mut attempt: impl FnMut(&dyn Supply) -> Result<T, Failure>,
    ) -> Result<T, BlockError> {
        let Some(supply) = &self.supply else {
            let why = "not all of it is here, and there is nowhere to get it from";
            return Err(failed(object, why));
        };
        for round in 0..TRIES {
            match attempt(supply.as_ref()) {
                Err(Failure::Cache(CacheError::Wire(_)))
                    if round == 0 || supply.distrust(object) => {}
                other => return other.map_err(|failure| failure.of(object)),
            }
        }
        attempt(supply.as_ref()).map_err(|failure| failure.of(object))
    }
}

/// Where the bytes of a frame are in its pack.
pub(crate) fn stored(frame: &FrameInfo) -> Range<u64> {
    frame.at..frame.at + u64::from(frame.stored_len)
}

/// Bytes of a pack, all at once.
fn bytes(supply: &dyn Supply, slot: &Slot, range: Range<u64>) -> Result<Vec<u8>, Failure> {
    let len = (range.end - range.start) as usize;
    let mut bytes = Vec::with_capacity(len);
    let mut take = |piece: &[u8]| {
        let wanted = piece.len().min(len - bytes.len());
        bytes.extend_from_slice(&piece[..wanted]);
        if bytes.len() == len { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    supply.stream(slot.object(), range, &mut take).map_err(Failure::Supply)?;
    Ok(bytes)
}

/// Why an attempt failed.
pub(crate) enum Failure {
    /// Nothing came.
    Supply(SupplyError),
    /// What came was wrong, or could not be kept.
    Cache(CacheError),
}

impl Failure {
    fn of(self, object: Carried) -> BlockError {
        match self {
            Failure::Supply(error) => failed(object, &error.to_string()),
            Failure::Cache(CacheError::Io { what, source }) => BlockError::io(what, &source),
            Failure::Cache(CacheError::Wire(WireError::HashMismatch {
                expected, found, ..
            })) => BlockError::Corrupt {
                place: format!("{object}, as it arrives"),
                expected: expected.to_string(),
                found: found.to_string(),
            },
            Failure::Cache(other) => failed(object, &other.to_string()),
        }
    }
}

fn failed(object: Carried, why: &str) -> BlockError {
    let message = format!("{object}: {why}");
    BlockError::Io { what: "bringing content", message, code: None }
}

impl ReadBlocks for Cached {
    fn len(&self) -> ByteLen {
        ByteLen(self.cache.blocks().0 * BLOCK_SIZE)
    }

    fn read_at(&self, at: ByteOffset, buf: &mut [u8]) -> Result<(), BlockError> {
        let end = at.0.checked_add(buf.len() as u64).filter(|end| *end <= self.len().0);
        let Some(end) = end else {
            let (len, size) = (ByteLen(buf.len() as u64), self.len());
            return Err(BlockError::OutOfRange { at, len, size });
        };
        let (mut block, behind) = (at.0 / BLOCK_SIZE, end.div_ceil(BLOCK_SIZE));
        while block < behind {
            let run = self.cache.verified.run(block, behind);
            if run == block {
                self.ready(block)?;
            }
            block = run;
        }
        let what = "reading what has arrived";
        self.cache.content.read_exact_at(buf, at.0).map_err(|error| BlockError::io(what, &error))
    }

    fn status(&self, at: ByteOffset, limit: ByteLen) -> Result<(ByteLen, RangeKind), BlockError> {
        let size = self.len();
        if at.0 >= size.0 {
            return Err(BlockError::OutOfRange { at, len: ByteLen(1), size });
        }
        Ok((ByteLen(limit.0.clamp(1, size.0 - at.0)), RangeKind::Data))
    }
}
