//! Taking content from what is here already, before anything is brought.
//!
//! A seed says what a frame may be; it is that if its digest is the frame's. So a seed is believed
//! for nothing, and may be out of date, cut short, or somebody else's.

use std::collections::HashMap;
use std::sync::Arc;

use goldleaf_block::{BLOCK_SIZE, BlockCount, BlockError, BlockNo, BlockRange};
use goldleaf_store::Digest;
use goldleaf_wire::{FrameInfo, PackIndex, PackRef};

use crate::files::{Slot, blocks_of};
use crate::fill::not_kept;
use crate::{Cached, Told};

/// A frame that is missing.
pub struct Missing<'a> {
    /// Its pack.
    pub pack: &'a PackRef,
    /// What the index of the pack says of it.
    pub frame: &'a FrameInfo,
    /// Where it belongs in the cache.
    pub blocks: BlockRange,
}

/// What may have content.
pub trait Seed: Sync {
    /// What is before the frames of a pack, if the pack is known here.
    fn head(&self, pack: &PackRef) -> Option<Vec<u8>>;

    /// Fills `content`, which is as long as the frame's, with what may be its content; `false`
    /// where nothing may be.
    fn frame(&self, missing: &Missing<'_>, content: &mut [u8]) -> bool;
}

impl Cached {
    /// Takes what seeds have of what is wanted and missing, asking them in turn, and keeps it.
    /// Indexes of packs that no seed knows are brought. Returns whether it came to its end: it did
    /// not when `told` ended it.
    pub fn take_from(&self, seeds: &[&dyn Seed], told: &Told<'_>) -> Result<bool, BlockError> {
        for slot in self.cache().slots() {
            if self.has_wanted(slot.blocks()) {
                continue;
            }
            let index = self.index_from(seeds, slot)?;
            for frame in index.frames() {
                if self.take_frame(seeds, slot, frame)? && told(self.arrived()).is_break() {
                    self.cache().keep().map_err(|error| not_kept(&error))?;
                    return Ok(false);
                }
            }
        }
        self.cache().keep().map_err(|error| not_kept(&error))?;
        Ok(true)
    }

    fn index_from(&self, seeds: &[&dyn Seed], slot: &Slot) -> Result<Arc<PackIndex>, BlockError> {
        let known = self.cache().index(slot);
        let mut found = seeds.iter().filter_map(|seed| {
            // What is wrong with it does not matter: it is brought.
            self.cache().put_head(slot, &seed.head(&slot.pack)?).ok()
        });
        match known.or_else(|| found.next()) {
            Some(index) => Ok(index),
            None => self.index(slot),
        }
    }

    /// Takes a frame, if it is missing and a seed has it.
    fn take_frame(
        &self,
        seeds: &[&dyn Seed],
        slot: &Slot,
        frame: &FrameInfo,
    ) -> Result<bool, BlockError> {
        let blocks = blocks_of(slot, frame);
        if self.has_wanted(blocks.clone()) {
            return Ok(false);
        }
        let range = BlockRange::new(BlockNo(blocks.start), BlockCount(blocks.end - blocks.start));
        let missing = Missing { pack: &slot.pack, frame, blocks: range };
        let mut content = vec![0; frame.len as usize];
        let has = seeds.iter().any(|seed| {
            seed.frame(&missing, &mut content) && Digest::of(&content) == frame.content
        });
        if !has {
            return Ok(false);
        }
        let put = self.cache().put_content(slot, frame, &content);
        put.map(|()| true).map_err(|error| not_kept(&error))
    }
}

/// The frames of other caches, by what is in them.
pub struct Frames<'a> {
    caches: &'a [Cached],
    /// The cache, and the first block of the content there.
    by_content: HashMap<Digest, (usize, u64)>,
    packs: HashMap<Digest, (usize, usize)>,
}

impl<'a> Frames<'a> {
    /// What has arrived of some caches.
    pub fn of(caches: &'a [Cached]) -> Self {
        let (mut by_content, mut packs) = (HashMap::new(), HashMap::new());
        for (number, cached) in caches.iter().enumerate() {
            for (at, slot) in cached.cache().slots().iter().enumerate() {
                let Some(index) = cached.cache().index(slot) else { continue };
                packs.insert(slot.pack.name, (number, at));
                for frame in index.frames() {
                    let blocks = blocks_of(slot, frame);
                    if cached.cache().have.has(blocks.clone()) {
                        by_content.insert(frame.content, (number, blocks.start));
                    }
                }
            }
        }
        Self { caches, by_content, packs }
    }
}

impl Seed for Frames<'_> {
    fn head(&self, pack: &PackRef) -> Option<Vec<u8>> {
        let (number, at) = self.packs.get(&pack.name)?;
        let cache = self.caches[*number].cache();
        cache.head(&cache.slots()[*at])
    }

    fn frame(&self, missing: &Missing<'_>, content: &mut [u8]) -> bool {
        let Some((number, first)) = self.by_content.get(&missing.frame.content) else {
            return false;
        };
        // Not as a device, which would bring what is damaged there.
        let file = self.caches[*number].cache().content();
        file.read_exact_at(content, first * BLOCK_SIZE).is_ok()
    }
}
