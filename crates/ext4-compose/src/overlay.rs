//! The copy-on-write overlay that takes all metadata: blocks that were written live in slots of the
//! metadata file, the rest is read from the volume below.
//!
//! Writes collect in a buffer and leave it sorted by block, so that neighbours on the volume are
//! neighbours in the file, one host write serves many blocks, and an inode table block that is
//! written once per inode reaches the file once. A block keeps its slot when it is written again:
//! nothing refers to the file before it is finished. In memory stay only the buffer and 12 bytes or
//! so a written block.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use goldleaf_block::{BLOCK_SIZE, BlockNo, BlockRange, ByteOffset, ReadBlocks};
use goldleaf_host::File;

use crate::error::{ComposeError, Result};

const BLOCK: usize = BLOCK_SIZE as usize;
/// Blocks that the buffer holds: 4 MiB, the inode tables of some 16,000 files.
const BUFFERED_BLOCKS: usize = 1024;

pub(crate) type Block = [u8; BLOCK];

/// The overlay over one volume.
pub(crate) struct Overlay {
    base: Arc<dyn ReadBlocks>,
    file: Arc<dyn File>,
    first_slot: u64,
    next_slot: u32,
    free_slots: Vec<u32>,
    slots: HashMap<u64, u32>,
    /// Where in `blocks` what was written to a block lies.
    buffer: HashMap<u64, usize>,
    blocks: Vec<Block>,
    /// Places in `blocks` that nothing has.
    spare: Vec<usize>,
    /// The block that was written last, and its place: an inode table block is written once per
    /// inode, one inode after the other.
    latest: Option<(u64, usize)>,
    /// Runs that read as zeroes unless written, whatever the base has: first block → block behind.
    zeroes: BTreeMap<u64, u64>,
    drop_unchanged: bool,
}

impl Overlay {
    pub(crate) fn new(base: Arc<dyn ReadBlocks>, file: Arc<dyn File>, first_slot: BlockNo) -> Self {
        Self {
            base,
            file,
            first_slot: first_slot.0,
            next_slot: 0,
            free_slots: Vec::new(),
            slots: HashMap::new(),
            buffer: HashMap::new(),
            blocks: Vec::new(),
            spare: Vec::new(),
            latest: None,
            zeroes: BTreeMap::new(),
            drop_unchanged: false,
        }
    }

    /// Blocks of the volume below.
    pub(crate) fn base_blocks(&self) -> u64 {
        self.base.len().0 / BLOCK_SIZE
    }

    /// Reads any range, in bytes.
    pub(crate) fn read(&self, at: u64, buf: &mut [u8]) -> Result<()> {
        let mut done = 0;
        while done < buf.len() {
            let place = at + done as u64;
            let within = (place % BLOCK_SIZE) as usize;
            let part = (BLOCK - within).min(buf.len() - done);
            self.read_part(place / BLOCK_SIZE, within, &mut buf[done..done + part])?;
            done += part;
        }
        Ok(())
    }

    /// Writes any range, in bytes.
    pub(crate) fn write(&mut self, at: u64, data: &[u8]) -> Result<()> {
        let mut done = 0;
        while done < data.len() {
            let place = at + done as u64;
            let within = (place % BLOCK_SIZE) as usize;
            let part = (BLOCK - within).min(data.len() - done);
            self.write_part(place / BLOCK_SIZE, within, &data[done..done + part])?;
            done += part;
        }
        Ok(())
    }

    /// Lets a run read as zeroes until it is written, whatever the base has there.
    pub(crate) fn assume_zero(&mut self, range: BlockRange) {
        self.zeroes.insert(range.start.0, range.end().0);
    }

    /// Drops what was written to blocks that are free now.
    pub(crate) fn forget(&mut self, start: u64, count: u64) {
        self.latest = None;
        for block in start..start + count {
            self.spare.extend(self.buffer.remove(&block));
            if let Some(slot) = self.slots.remove(&block) {
                self.free_slots.push(slot);
            }
        }
    }

    /// From now on, a block that is written as it stands below takes no slot. For the bitmaps,
    /// which libext2fs writes all, changed or not.
    pub(crate) fn drop_unchanged(&mut self) {
        self.drop_unchanged = true;
    }

    /// Writes the buffer out, in the order of the blocks.
    pub(crate) fn flush(&mut self) -> Result<()> {
        let mut order: Vec<(u64, usize)> = self.buffer.drain().collect();
        order.sort_unstable();
        self.latest = None;
        let mut blocks = std::mem::take(&mut self.blocks);
        let mut run = Run { first: 0, bytes: Vec::with_capacity(RUN_BYTES) };
        for (block, place) in order {
            let data = &blocks[place];
            if let Some(slot) = self.slot_for(block, data)? {
                if !run.continues(slot) {
                    run.write(self.file.as_ref(), self.first_slot)?;
                    run.first = slot;
                }
                run.bytes.extend_from_slice(data);
            }
        }
        blocks.clear();
        self.spare.clear();
        self.blocks = blocks;
        run.write(self.file.as_ref(), self.first_slot)
    }

    /// The blocks that have slots, sorted, with their places in the metadata file.
    pub(crate) fn placed(&self) -> Vec<(u64, u64)> {
        let mut placed: Vec<(u64, u64)> = self
            .slots
            .iter()
            .map(|(&block, &slot)| (block, self.first_slot + u64::from(slot)))
            .collect();
        placed.sort_unstable();
        placed
    }

    /// The runs given to [`assume_zero`](Self::assume_zero).
    pub(crate) fn zeroes(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.zeroes.iter().map(|(&start, &end)| (start, end))
    }

    /// Length of the metadata file's part in use, in blocks.
    pub(crate) fn slots_used(&self) -> u64 {
        u64::from(self.next_slot)
    }

    fn slot_for(&mut self, block: u64, data: &Block) -> Result<Option<u32>> {
        if let Some(&slot) = self.slots.get(&block) {
            return Ok(Some(slot));
        }
        if self.drop_unchanged {
            let mut below = [0; BLOCK];
            self.read_below(block, 0, &mut below)?;
            if below == *data {
                return Ok(None);
            }
        }
        let slot = match self.free_slots.pop() {
            Some(slot) => slot,
            None => self.new_slot()?,
        };
        self.slots.insert(block, slot);
        Ok(Some(slot))
    }

    fn new_slot(&mut self) -> Result<u32> {
        let slot = self.next_slot;
        self.next_slot = slot
            .checked_add(1)
            .ok_or_else(|| ComposeError::Metadata("more than 16 TiB of metadata".into()))?;
        Ok(slot)
    }

    fn read_part(&self, block: u64, within: usize, buf: &mut [u8]) -> Result<()> {
        if let Some(&place) = self.buffer.get(&block) {
            buf.copy_from_slice(&self.blocks[place][within..within + buf.len()]);
            return Ok(());
        }
        match self.slots.get(&block) {
            Some(&slot) => {
                let at = (self.first_slot + u64::from(slot)) * BLOCK_SIZE + within as u64;
                self.file
                    .read_exact_at(buf, at)
                    .map_err(|error| ComposeError::Metadata(error.to_string()))
            }
            None => self.read_below(block, within, buf),
        }
    }

    fn read_below(&self, block: u64, within: usize, buf: &mut [u8]) -> Result<()> {
        if self.zeroes.range(..=block).next_back().is_some_and(|(_, &end)| block < end) {
            buf.fill(0);
            return Ok(());
        }
        Ok(self.base.read_at(ByteOffset(block * BLOCK_SIZE + within as u64), buf)?)
    }

    fn write_part(&mut self, block: u64, within: usize, data: &[u8]) -> Result<()> {
        let place = match self.latest {
            Some((latest, place)) if latest == block => place,
            _ => self.place_of(block, data.len() < BLOCK)?,
        };
        self.latest = Some((block, place));
        self.blocks[place][within..within + data.len()].copy_from_slice(data);
        Ok(())
    }

    /// The place of a block in the buffer, made if need be, with what the block is if it is to be
    /// `kept`.
    fn place_of(&mut self, block: u64, kept: bool) -> Result<usize> {
        if let Some(&place) = self.buffer.get(&block) {
            return Ok(place);
        }
        if block >= self.base_blocks() {
            return Err(ComposeError::Metadata(format!(
                "a write to block {block}, off the volume"
            )));
        }
        if self.buffer.len() >= BUFFERED_BLOCKS {
            self.flush()?;
        }
        let mut fresh = [0; BLOCK];
        if kept {
            self.read_part(block, 0, &mut fresh)?;
        }
        let place = self.spare.pop().unwrap_or(self.blocks.len());
        match self.blocks.get_mut(place) {
            Some(spare) => *spare = fresh,
            None => {
                self.blocks.reserve_exact(BUFFERED_BLOCKS - place);
                self.blocks.push(fresh);
            }
        }
        self.buffer.insert(block, place);
        Ok(place)
    }
}

/// Bytes of a run: more would cost more memory than it spares calls.
const RUN_BYTES: usize = 256 << 10;

/// Blocks on their way to neighbouring slots.
struct Run {
    first: u32,
    bytes: Vec<u8>,
}

impl Run {
    fn continues(&self, slot: u32) -> bool {
        self.bytes.len() < RUN_BYTES
            && u64::from(self.first) + (self.bytes.len() / BLOCK) as u64 == u64::from(slot)
    }

    fn write(&mut self, file: &dyn File, first_slot: u64) -> Result<()> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        let at = (first_slot + u64::from(self.first)) * BLOCK_SIZE;
        file.write_all_at(&self.bytes, at)
            .map_err(|error| ComposeError::Metadata(error.to_string()))?;
        self.bytes.clear();
        Ok(())
    }
}
