//! Which old content is likely to be like which new content: the same file's, a version ago.
//!
//! ```text
//!   new pack  │  block ─▶ file of the new disk, and where in it
//!             │             └─ ancestor: the old disk's file of the same path, or of the same path
//!             │                but for its version, or of the same name in another directory
//!   old packs │  blocks ◀── as much around the same place in it as the budget allows
//! ```
//! A guess, and pure: it reads no content, and a wrong one costs nothing but bytes. What no file
//! explains (metadata, boot loaders) can be given as one more file, whose path is in neither disk.

mod names;
mod share;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use goldleaf_block::{BlockCount, BlockNo, BlockRange, SourceIndex, Target};
use goldleaf_store::Digest;

use crate::delta::{PackRun, REFERENCE_MAX};
use crate::map::{PackRef, WireMap};
use names::Names;
use share::{Wanted, share};

/// A file of a disk, and where its content lies.
#[derive(Debug, Clone, Copy)]
pub struct DiskFile<'a> {
    /// Its path: names between slashes, of any bytes.
    pub path: &'a [u8],
    /// First block within the file, and the run on the disk; sorted, and apart within the file.
    pub extents: &'a [(BlockNo, BlockRange)],
}

impl DiskFile<'_> {
    /// Length as far as it has content.
    fn len(&self) -> u64 {
        self.extents.last().map_or(0, |(block, range)| block.0 + range.count.0)
    }
}

/// A disk that was published, with its files.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// The disk over packs.
    pub map: &'a WireMap,
    /// Its files, in any order.
    pub files: &'a [DiskFile<'a>],
}

/// A part of a file, and where it lies in a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Piece {
    pack: u32,
    /// Block of the pack.
    at: u64,
    blocks: u64,
    /// Number of the file, and block within it.
    file: usize,
    within: u64,
}

/// What of an old disk is like what of a new one.
pub struct Pairing<'a> {
    old: Side<'a>,
    new: Side<'a>,
    new_packs: Vec<PackRef>,
    /// Parts of new packs that are in files, sorted.
    pieces: Vec<Piece>,
    /// The ancestors of files that have such parts.
    ancestors: HashMap<usize, usize>,
    /// Packs of the old map, by name.
    old_packs: HashMap<Digest, u32>,
}

impl<'a> Pairing<'a> {
    /// Pairs the files of two disks. Extents must lie on the disks.
    pub fn new(old: Side<'a>, new: Side<'a>) -> Self {
        let old_packs: HashMap<Digest, u32> =
            old.map.packs.iter().zip(0..).map(|(pack, number)| (pack.name, number)).collect();
        let mut new_packs = Vec::new();
        let mut numbers = HashMap::new();
        for (pack, number) in new.map.packs.iter().zip(0..) {
            if !old_packs.contains_key(&pack.name) {
                numbers.insert(number, new_packs.len() as u32);
                new_packs.push(*pack);
            }
        }
        let mut pieces = Vec::new();
        for (number, file) in new.files.iter().enumerate() {
            pieces.extend(
                file_pieces(new.map, file, number)
                    .filter_map(|piece| Some(Piece { pack: *numbers.get(&piece.pack)?, ..piece })),
            );
        }
        pieces.sort_unstable();
        let names = Names::new(old.files.iter().map(|file| file.path));
        let mut ancestors = HashMap::new();
        for piece in &pieces {
            if let Some(ancestor) = names.find(new.files[piece.file].path) {
                ancestors.insert(piece.file, ancestor);
            }
        }
        Self { old, new, new_packs, pieces, ancestors, old_packs }
    }

    /// The packs of the new disk that the old one does not name: those that a delta is made of.
    pub fn new_packs(&self) -> &[PackRef] {
        &self.new_packs
    }

    /// Old content that is likely to be like a run of a new pack: that pack is counted in
    /// [`new_packs`](Self::new_packs), those of the answer in the old disk's map. It is 24 MiB at
    /// most.
    pub fn reference(&self, run: PackRun) -> Vec<PackRun> {
        let mut wanted: Vec<Wanted> = Vec::new();
        let mut numbers = BTreeMap::new();
        for piece in self.pieces_in(run) {
            let Some(ancestor) = self.ancestors.get(&piece.file) else { continue };
            let number = *numbers.entry((piece.file, *ancestor)).or_insert_with(|| {
                wanted.push(self.wanted(piece.file, *ancestor));
                wanted.len() - 1
            });
            wanted[number].want(piece.within, piece.blocks);
        }
        let runs = share(&wanted, BlockCount(REFERENCE_MAX / goldleaf_block::BLOCK_SIZE));
        apart(runs)
    }

    /// Parts of files in a run of a new pack.
    fn pieces_in(&self, run: PackRun) -> impl Iterator<Item = Piece> + '_ {
        let (pack, blocks) = (run.pack.0, run.blocks);
        let behind = |piece: &Piece| (piece.pack, piece.at + piece.blocks);
        let first = self.pieces.partition_point(|piece| behind(piece) <= (pack, blocks.start.0));
        let here = move |piece: &&Piece| piece.pack == pack && piece.at < blocks.end().0;
        self.pieces[first..].iter().take_while(here).map(move |piece| {
            let at = piece.at.max(blocks.start.0);
            let end = (piece.at + piece.blocks).min(blocks.end().0);
            let within = piece.within + (at - piece.at);
            Piece { at, blocks: end.saturating_sub(at), within, ..*piece }
        })
    }

    /// What there is of an ancestor.
    fn wanted(&self, file: usize, ancestor: usize) -> Wanted {
        let (new, old) = (&self.new.files[file], &self.old.files[ancestor]);
        let here = file_pieces(self.old.map, old, ancestor).map(|piece| (piece.within, run(piece)));
        // What the new version names still is not what became of what is new in it.
        let kept = file_pieces(self.new.map, new, file).filter_map(|piece| {
            let name = self.new.map.packs[piece.pack as usize].name;
            Some(run(Piece { pack: *self.old_packs.get(&name)?, ..piece }))
        });
        Wanted::new(here.collect(), kept.collect(), new.len(), old.len())
    }
}

fn run(piece: Piece) -> PackRun {
    let blocks = BlockRange::new(BlockNo(piece.at), BlockCount(piece.blocks));
    PackRun { pack: SourceIndex(piece.pack), blocks }
}

/// Where the content of a file lies, in its order.
fn file_pieces<'a>(
    map: &'a WireMap,
    file: &'a DiskFile<'a>,
    number: usize,
) -> impl Iterator<Item = Piece> + 'a {
    file.extents.iter().flat_map(move |(block, range)| {
        map.map.slice(*range).into_iter().filter_map(move |extent| {
            let Target::Source { source, at } = extent.target else { return None };
            let within = block.0 + (extent.range.start.0 - range.start.0);
            let (pack, at, blocks) = (source.0, at.0, extent.range.count.0);
            Some(Piece { pack, at, blocks, file: number, within })
        })
    })
}

/// Runs without what is in one before; neighbours become one.
fn apart(runs: Vec<PackRun>) -> Vec<PackRun> {
    let mut kept: Vec<PackRun> = Vec::new();
    let mut seen: BTreeMap<(SourceIndex, BlockNo), BlockNo> = BTreeMap::new();
    for run in runs {
        for blocks in unseen(&mut seen, run) {
            match kept.last_mut() {
                Some(last) if last.pack == run.pack && last.blocks.end() == blocks.start => {
                    last.blocks.count.0 += blocks.count.0;
                }
                _ => kept.push(PackRun { pack: run.pack, blocks }),
            }
        }
    }
    kept
}

/// What of a run was not seen, which it is then. `seen` has runs by where they begin, apart.
fn unseen(seen: &mut BTreeMap<(SourceIndex, BlockNo), BlockNo>, run: PackRun) -> Vec<BlockRange> {
    let mut parts = Vec::new();
    let (mut next, end) = (run.blocks.start, run.blocks.end());
    let before = seen.range(..=(run.pack, next)).next_back();
    if let Some(((pack, _), behind)) = before {
        if *pack == run.pack {
            next = next.max(*behind);
        }
    }
    let within = seen.range((run.pack, run.blocks.start)..(run.pack, end));
    for ((_, start), behind) in within {
        if *start > next {
            parts.push(BlockRange::new(next, BlockCount(start.0 - next.0)));
        }
        next = next.max(*behind);
    }
    if end > next {
        parts.push(BlockRange::new(next, BlockCount(end.0 - next.0)));
    }
    for part in &parts {
        seen.insert((run.pack, part.start), part.end());
    }
    parts
}
