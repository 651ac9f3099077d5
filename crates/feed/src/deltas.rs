//! Making deltas, from what is in a feed's directory.

use std::collections::HashSet;
use std::io;

use goldleaf_block::{BLOCK_SIZE, BlockError, BlockNo, ByteOffset, ReadBlocks};
use goldleaf_cache::Cached;
use goldleaf_host::{Content, Dir, Progress};
use goldleaf_store::Digest;
use goldleaf_wire::{
    DeltaEffort, DeltaRef, PackRef, PackRun, Pairing, Side, Versions, WireError, make_delta,
};

use crate::author::put;
use crate::{FeedError, Publisher};

/// What is written before the delta's head is known.
const UNITS: &str = "units.new";
/// Of how many parts of what the packs have it must save one to be worth its making.
const WORTH: u64 = 10;

/// A disk of a feed, and the content of its packs.
pub struct Disk<'a> {
    /// The disk, with its files.
    pub side: Side<'a>,
    /// A cache of all packs that its map names.
    pub content: Cached,
}

/// Two disks of a feed.
pub struct Pair<'a> {
    old: Packed,
    new: Packed,
    pairing: Pairing<'a>,
}

/// Packs, and the content of each.
struct Packed {
    cached: Cached,
    packs: Vec<(PackRef, BlockNo)>,
}

impl Packed {
    /// What a cache has of packs that are wanted.
    fn of(cached: Cached, is_wanted: impl Fn(&PackRef) -> bool) -> Self {
        let packs = cached.cache().packs().filter(|(pack, _)| is_wanted(pack)).collect();
        Self { cached, packs }
    }

    fn read(&self, run: PackRun, content: &mut [u8]) -> Result<(), BlockError> {
        let (_, first) = self.packs[run.pack.0 as usize];
        self.cached.read_at(ByteOffset((first.0 + run.blocks.start.0) * BLOCK_SIZE), content)
    }
}

impl<'a> Pair<'a> {
    /// Pairs the files of two disks.
    pub fn new(old: Disk<'a>, new: Disk<'a>) -> Self {
        let pairing = Pairing::new(old.side, new.side);
        let names: HashSet<Digest> = pairing.new_packs().iter().map(|pack| pack.name).collect();
        let new = Packed::of(new.content, |pack| names.contains(&pack.name));
        Self { old: Packed::of(old.content, |_| true), new, pairing }
    }

    /// The packs that the new disk has and the old one has not.
    pub fn new_packs(&self) -> &[PackRef] {
        self.pairing.new_packs()
    }
}

impl Versions for Pair<'_> {
    fn read_new(&self, run: PackRun, content: &mut [u8]) -> Result<(), BlockError> {
        self.new.read(run, content)
    }

    fn read_old(&self, run: PackRun, content: &mut [u8]) -> Result<(), BlockError> {
        self.old.read(run, content)
    }

    fn reference(&self, run: PackRun) -> Vec<PackRun> {
        self.pairing.reference(run)
    }
}

impl Publisher {
    /// Publishes a delta from one disk to the other, both of which are published. `None` where it
    /// would not be much smaller than the packs, or the new disk has none of its own. `scratch` has
    /// room for it until it is published.
    pub fn delta(
        &mut self,
        pair: &Pair<'_>,
        scratch: &dyn Dir,
        effort: DeltaEffort,
        progress: &dyn Progress,
    ) -> Result<Option<DeltaRef>, FeedError> {
        let packs = pair.new_packs();
        if packs.is_empty() {
            return Ok(None);
        }
        let packed: u64 = packs.iter().map(|pack| pack.len).sum();
        let limit = packed - packed / WORTH;
        let heads = packs.iter().map(|pack| self.head(pack)).collect::<Result<Vec<_>, _>>()?;
        let what = || FeedError::io("writing a delta");
        match scratch.remove(UNITS) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(what()(error)),
            _ => {}
        }
        let units = scratch.create(UNITS).map_err(what())?;
        let mut len = 0;
        let old: Vec<Digest> = pair.old.packs.iter().map(|(pack, _)| pack.name).collect();
        let made = make_delta(&old, &heads, pair, effort, &mut |unit| {
            units.write_all_at(&unit, len)?;
            len += unit.len() as u64;
            progress.at("making a delta", len, 0);
            if len < limit { Ok(()) } else { Err(io::ErrorKind::FileTooLarge.into()) }
        });
        let made = match made {
            Err(WireError::Sink(error)) if error.kind() == io::ErrorKind::FileTooLarge => None,
            made => Some(made?),
        };
        let made = made.filter(|(_, head)| len + (head.len() as u64) < limit);
        let published = made.map(|(name, head)| {
            let content = Content::with(&head, units.as_ref());
            put(self.deltas.as_ref(), &name, content).map_err(what())?;
            Ok::<_, FeedError>(DeltaRef { name, len: len + head.len() as u64 })
        });
        scratch.remove(UNITS).map_err(what())?;
        let published = published.transpose()?;
        self.written.delta_bytes += published.map_or(0, |delta| delta.len);
        Ok(published)
    }
}
