//! What is here already of a disk that is to arrive: frames of other images, and files.
//!
//! ```text
//!   layout of the disk ──▶ which block of a pack is which block of which file
//!   files of that path ──▶ its content, perhaps ──▶ compared with the frame's digest (crate `cache`)
//! ```
//! Packs are in the order of files, so a frame has 256 KiB of one long file or of many short ones
//! that are neighbours. It is found only if all of it is: where one of many short files differs, the
//! frame comes over the wire. What is no file's content, as metadata, is found in frames of other
//! published images only. Directories are not searched: a file is where the image has it, or not at all.

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};

use goldleaf_block::{
    BLOCK_SIZE, BlockCount, BlockNo, BlockRange, ByteLen, ExtentMap, MapDevice, MapExtent,
    ReadBlocks, SourceIndex, Target,
};
use goldleaf_cache::{Missing, Seed};
use goldleaf_feed::names;
use goldleaf_host::{Dir, File};
use goldleaf_image::{FileExtents, Layout};
use goldleaf_tree::GuestPath;
use goldleaf_wire::PackRef;

/// Files as somebody else has them, each where the image has it.
pub(super) trait Files: Send + Sync {
    /// A file of that length, if there is one.
    fn open(&self, path: &GuestPath, len: ByteLen) -> Option<Box<dyn Content>>;
}

/// The content of a file.
pub(super) trait Content: Send {
    /// Fills `content`, whole blocks, from a block of the file on; `false` where that cannot be.
    fn read(&self, block: BlockNo, content: &mut [u8]) -> bool;
}

/// Blocks of a data file, and which blocks of which file of the disk they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    at: u64,
    count: u64,
    file: usize,
    block: u64,
}

/// A file by its number, and what was found where it may be.
type Opened = Option<(usize, Option<Box<dyn Content>>)>;

/// Where files of a disk lie in one of its data files: sorted, apart.
pub(super) struct Places(Vec<Run>);

impl Places {
    /// What of a data file is which file of a disk.
    pub fn new(layout: &Layout, map: &ExtentMap, source: SourceIndex) -> Self {
        Self(apart(runs(layout, map, source)))
    }

    /// What lies from a block on.
    fn at(&self, block: u64) -> Option<Run> {
        let after = self.0.partition_point(|run| run.at <= block);
        let run = self.0[..after].last()?;
        let within = block - run.at;
        let left = run.count.checked_sub(within).filter(|left| *left > 0)?;
        Some(Run { at: block, count: left, block: run.block + within, ..*run })
    }
}

/// Files of a disk, as somebody has them.
pub(super) struct ByPath<'a> {
    layout: &'a Layout,
    places: &'a Places,
    files: &'a dyn Files,
    last: Mutex<Opened>,
}

impl<'a> ByPath<'a> {
    /// What `files` may have of a data file.
    pub fn new(layout: &'a Layout, places: &'a Places, files: &'a dyn Files) -> Self {
        Self { layout, places, files, last: Mutex::new(None) }
    }

    fn read(&self, run: Run, content: &mut [u8]) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref().is_none_or(|(file, _)| *file != run.file) {
            let FileExtents { path, len, .. } = &self.layout.files[run.file];
            *last = Some((run.file, self.files.open(path, *len)));
        }
        let opened = last.as_ref().and_then(|(_, opened)| opened.as_ref());
        opened.is_some_and(|opened| opened.read(BlockNo(run.block), content))
    }
}

impl Seed for ByPath<'_> {
    fn head(&self, _pack: &PackRef) -> Option<Vec<u8>> {
        None
    }

    fn frame(&self, missing: &Missing<'_>, content: &mut [u8]) -> bool {
        let (mut at, end) = (missing.blocks.start.0, missing.blocks.end().0);
        let mut rest = content;
        while at < end {
            let Some(run) = self.places.at(at) else { return false };
            let count = run.count.min(end - at);
            let (part, behind) = rest.split_at_mut((count * BLOCK_SIZE) as usize);
            if !self.read(run, part) {
                return false;
            }
            (at, rest) = (at + count, behind);
        }
        true
    }
}

/// Where files lie in a data file.
fn runs(layout: &Layout, map: &ExtentMap, source: SourceIndex) -> Vec<Run> {
    let extents = map.extents();
    let mut runs = Vec::new();
    for (file, found) in layout.files.iter().enumerate() {
        for (block, range) in &found.extents {
            let first = extents.partition_point(|extent| extent.range.end() <= range.start);
            let meets = |extent: &&MapExtent| extent.range.start < range.end();
            for extent in extents[first..].iter().take_while(meets) {
                let Target::Source { source: own, at } = extent.target else { continue };
                let start = extent.range.start.max(range.start);
                let count = extent.range.end().min(range.end()).0 - start.0;
                if own == source {
                    let at = at.0 + (start.0 - extent.range.start.0);
                    runs.push(Run { at, count, file, block: block.0 + (start.0 - range.start.0) });
                }
            }
        }
    }
    runs
}

/// The same, where each block is one file's only: files may share what travels once.
fn apart(mut runs: Vec<Run>) -> Vec<Run> {
    runs.sort_unstable_by_key(|run| (run.at, run.file));
    let mut end = 0;
    let cut = |run: Run| {
        let skipped = end.max(run.at) - run.at;
        let count = run.count.checked_sub(skipped).filter(|count| *count > 0)?;
        end = run.at + run.count;
        Some(Run { at: run.at + skipped, count, block: run.block + skipped, ..run })
    };
    runs.into_iter().filter_map(cut).collect()
}

/// A directory that has files as a guest's root has them. Symbolic links are not followed, and
/// nothing but files is read.
pub(super) struct Rooted(pub Arc<dyn Dir>);

struct HostFile {
    file: Arc<dyn File>,
    len: ByteLen,
}

impl Files for Rooted {
    fn open(&self, path: &GuestPath, len: ByteLen) -> Option<Box<dyn Content>> {
        let mut dir = self.0.clone();
        for name in path.parent()?.components() {
            dir = dir.dir(std::str::from_utf8(name).ok()?).ok()?;
        }
        let file = dir.open(std::str::from_utf8(path.name()?).ok()?).ok()?;
        let is_it = file.len().is_ok_and(|found| found == len.0);
        is_it.then(|| Box::new(HostFile { file, len }) as Box<dyn Content>)
    }
}

impl Content for HostFile {
    fn read(&self, block: BlockNo, content: &mut [u8]) -> bool {
        let at = block.offset().0;
        let Some(left) = self.len.0.checked_sub(at) else { return false };
        let part = left.min(content.len() as u64) as usize;
        // Behind the end of a file its last block is zeroes.
        content[part..].fill(0);
        self.file.read_exact_at(&mut content[..part], at).is_ok()
    }
}

/// Files of a disk.
pub(super) struct OnDisk {
    pub layout: Layout,
    pub disk: Arc<MapDevice>,
}

struct DiskFile {
    disk: Arc<MapDevice>,
    extents: Vec<(BlockNo, BlockRange)>,
}

impl Files for OnDisk {
    fn open(&self, path: &GuestPath, len: ByteLen) -> Option<Box<dyn Content>> {
        let files = &self.layout.files;
        let at = files.binary_search_by(|file| file.path.as_bytes().cmp(path.as_bytes())).ok()?;
        let file = Some(&files[at]).filter(|file| file.len == len)?;
        Some(Box::new(DiskFile { disk: self.disk.clone(), extents: file.extents.clone() }))
    }
}

impl Content for DiskFile {
    fn read(&self, block: BlockNo, content: &mut [u8]) -> bool {
        let blocks = (block.0..).zip(content.chunks_mut(BLOCK_SIZE as usize));
        let mut read = blocks.map(|(block, part)| {
            let after = self.extents.partition_point(|(first, _)| first.0 <= block);
            let found = self.extents[..after].last().and_then(|(first, range)| {
                let within = BlockCount(block - first.0);
                (within.0 < range.count.0).then(|| range.start.plus(within))
            });
            // What no extent covers is a hole, and no pack has it.
            found.is_some_and(|at| self.disk.read_at(at.offset(), part).is_ok())
        });
        read.all(|is_read| is_read)
    }
}

/// A directory that carries packs: a copy of a feed.
pub(super) struct Carrier(pub Arc<dyn Dir>);

impl Carrier {
    fn read(&self, pack: &PackRef, at: u64, len: u32) -> Option<Vec<u8>> {
        let file = self.0.dir(names::PACKS).ok()?.open(&pack.name.to_string()).ok()?;
        let mut bytes = vec![0; len as usize];
        file.read_exact_at(&mut bytes, at).ok()?;
        Some(bytes)
    }
}

impl Seed for Carrier {
    fn head(&self, pack: &PackRef) -> Option<Vec<u8>> {
        self.read(pack, 0, pack.head_len)
    }

    fn frame(&self, missing: &Missing<'_>, content: &mut [u8]) -> bool {
        let frame = missing.frame;
        let stored = self.read(missing.pack, frame.at, frame.stored_len);
        match stored.and_then(|stored| frame.decode(&stored).ok()) {
            Some(found) if found.len() == content.len() => {
                content.copy_from_slice(&found);
                true
            }
            _ => false,
        }
    }
}
