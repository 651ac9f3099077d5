//! Giving back the space of content that nobody needs any more.
//!
//! A frame goes whole, and only if none of its blocks is needed: what is left of one could not be
//! verified. Its bits are durably cleared before its content goes, so that no note says of a hole that
//! it has arrived. A power cut between leaves content that no bit speaks of; the next plan finds it.
//! Nobody else may bring anything meanwhile.

use goldleaf_block::{BLOCK_SIZE, BlockCount, BlockNo, BlockRange};

use crate::error::io as io_error;
use crate::files::{blocks_of, noted_bits};
use crate::{Cache, CacheError};

impl Cache {
    /// Content that is here and in whose frames nothing of `needed` lies.
    pub fn spare(
        &self,
        needed: impl IntoIterator<Item = BlockRange>,
    ) -> Result<Vec<BlockRange>, CacheError> {
        let needed = self.bits(needed);
        let mut spare: Vec<BlockRange> = Vec::new();
        for slot in self.slots() {
            let blocks = slot.blocks();
            if !needed.has_any(blocks.clone()) {
                self.data(blocks.start, blocks.end, &mut spare)?;
                continue;
            }
            // Without an index nothing of it has arrived.
            let Some(index) = self.index(slot) else { continue };
            for blocks in index.frames().iter().map(|frame| blocks_of(slot, frame)) {
                if !needed.has_any(blocks.clone()) {
                    self.data(blocks.start, blocks.end, &mut spare)?;
                }
            }
        }
        Ok(spare)
    }

    /// Adds those blocks of a range that are not holes.
    fn data(&self, start: u64, end: u64, found: &mut Vec<BlockRange>) -> Result<(), CacheError> {
        let mut at = start;
        while at < end {
            let data = self.content.next_data(at * BLOCK_SIZE);
            let data = data.map_err(io_error("looking for what has arrived"))?;
            let Some((from, to)) = data else { break };
            let from = (from / BLOCK_SIZE).max(at);
            at = to.div_ceil(BLOCK_SIZE).min(end);
            if from >= at {
                break;
            }
            match found.last_mut() {
                Some(last) if last.end().0 == from => last.count.0 += at - from,
                _ => found.push(BlockRange::new(BlockNo(from), BlockCount(at - from))),
            }
        }
        Ok(())
    }

    /// Gives up content, as [`Cache::spare`] found it. What is wanted again is brought again.
    pub fn give_up(&self, spare: &[BlockRange]) -> Result<(), CacheError> {
        let what = || io_error("giving content up");
        let gone = || spare.iter().map(|range| range.start.0..range.end().0);
        let noted = noted_bits(self.noted.as_ref(), self.blocks().0)?;
        let noted = crate::bitmap::Bitmap::from_bytes(&noted, self.blocks().0);
        for blocks in gone() {
            noted.clear(blocks.clone());
            self.have.clear(blocks.clone());
            self.verified.clear(blocks);
        }
        self.noted.write_all_at(&noted.to_bytes(), 0).map_err(what())?;
        self.noted.sync_data().map_err(what())?;
        for blocks in gone() {
            let len = (blocks.end - blocks.start) * BLOCK_SIZE;
            self.content.punch_hole(blocks.start * BLOCK_SIZE, len).map_err(what())?;
        }
        Ok(())
    }
}
