//! Extent trees: where a file's blocks lie.
//!
//! ```text
//! node     header, then `entries` records of 12 bytes, then (outside the inode) crc32c
//! header   magic 0xF30A | entries u16 | max u16 | depth u16 | generation u32
//! index    file block u32 | child (low) u32 | child (high) u16 | -
//! leaf     file block u32 | length u16 | start (high) u16 | start (low) u32
//! ```
//! Kernel documentation, filesystems/ext4, "Extent Tree". A length above 32768 is an extent of that
//! much less which was never written and reads as zeroes.
//!
//! Depth falls by one at each step and file blocks only rise, so a walk ends: a node that is named
//! twice cannot satisfy both of its places.

use goldleaf_block::{BLOCK_SIZE, BlockCount, BlockNo, BlockRange};
use goldleaf_tree::FileExtent;

use crate::error::{Ext4Error, Result, check_sum, corrupt};
use crate::fields::Fields;
use crate::inode::{FLAG_EXTENTS, Inode};
use crate::volume::Volume;

/// Deepest tree that the kernel builds.
const DEPTH_MAX: u16 = 5;
/// Longest written extent; longer ones are unwritten.
const WRITTEN_MAX: u16 = 32768;
/// Most extents of one file: 100 MB of them in memory.
const EXTENTS_MAX: usize = 4 << 20;

/// A run of a file's blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub file_block: u64,
    pub range: BlockRange,
    pub written: bool,
}

/// All that an extent tree says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FileMap {
    /// Runs, sorted by file block.
    pub runs: Vec<Run>,
    /// Blocks of the tree itself.
    pub nodes: Vec<BlockNo>,
}

impl FileMap {
    /// The written runs up to `size` bytes, joined where they touch.
    pub fn content(&self, size: u64) -> Vec<FileExtent> {
        let end = size.div_ceil(BLOCK_SIZE);
        let mut out: Vec<FileExtent> = Vec::new();
        for run in self.runs.iter().filter(|run| run.written && run.file_block < end) {
            let next = FileExtent {
                file_block: run.file_block,
                volume_block: run.range.start.0,
                blocks: run.range.count.0.min(end - run.file_block),
            };
            match out.last_mut() {
                Some(last)
                    if last.file_block + last.blocks == next.file_block
                        && last.volume_block + last.blocks == next.volume_block =>
                {
                    last.blocks += next.blocks;
                }
                _ => out.push(next),
            }
        }
        out
    }
}

/// Reads the tree of a file, directory or link.
pub(crate) fn read_map(volume: &Volume, inode: &Inode) -> Result<FileMap> {
    if !inode.is_mapped() {
        return Ok(FileMap::default());
    }
    if inode.flags & FLAG_EXTENTS == 0 {
        if inode.body.iter().all(|&byte| byte == 0) {
            return Ok(FileMap::default());
        }
        let what = format!("{} maps its blocks without extents (ext3)", inode.ino);
        return Err(Ext4Error::Unsupported(what));
    }
    let depth = Fields(&inode.body).u16(6);
    if depth > DEPTH_MAX {
        return Err(corrupt(inode.ino, format!("a depth of at most {DEPTH_MAX}"), depth));
    }
    let mut walk = Walk { volume, inode, map: FileMap::default(), next: 0, blocks: 0 };
    let span = Span { start: 0, end: 1 << 32, depth };
    walk.node(&inode.body, span, true)?;
    Ok(walk.map)
}

/// The file blocks that a node may speak of, and how far it is from the leaves.
#[derive(Clone, Copy)]
struct Span {
    start: u64,
    end: u64,
    depth: u16,
}

struct Walk<'a> {
    volume: &'a Volume,
    inode: &'a Inode,
    map: FileMap,
    /// First file block that the next extent may have.
    next: u64,
    /// Blocks seen so far.
    blocks: u64,
}

impl Walk<'_> {
    /// One node; the recursion is at most [`DEPTH_MAX`] deep.
    fn node(&mut self, bytes: &[u8], span: Span, root: bool) -> Result<()> {
        let entries = self.header(bytes, span, root)?;
        let record =
            |index: u64| Fields(Fields(bytes).slice(12 + index as usize * 12, bytes.len()));
        for index in 0..entries {
            if span.depth == 0 {
                self.leaf(record(index), span)?;
                continue;
            }
            let start = u64::from(record(index).u32(0));
            let next =
                if index + 1 < entries { u64::from(record(index + 1).u32(0)) } else { span.end };
            if start < span.start || start < self.next || next <= start || next > span.end {
                let expected = format!("an index within {} to {}", span.start, span.end);
                return Err(self.wrong(expected, format!("{start} to {next}")));
            }
            let child = u64::from(record(index).u32(4)) | u64::from(record(index).u16(8)) << 32;
            self.child(child, Span { start, end: next, depth: span.depth - 1 })?;
        }
        Ok(())
    }

    fn header(&self, bytes: &[u8], span: Span, root: bool) -> Result<u64> {
        let fields = Fields(bytes);
        let (entries, max) = (fields.u16(2), fields.u16(4));
        let room = (bytes.len() - 12) / 12;
        let sound = fields.u16(0) == 0xF30A
            && entries <= max
            && usize::from(max) <= room
            && fields.u16(6) == span.depth
            && (entries > 0 || (root && span.depth == 0));
        if !sound {
            let expected = format!("an extent node of depth {}", span.depth);
            let depth = fields.u16(6);
            let found = format!("magic {:#x}, {entries} of {max}, depth {depth}", fields.u16(0));
            return Err(self.wrong(expected, found));
        }
        Ok(u64::from(entries))
    }

    fn child(&mut self, block: u64, span: Span) -> Result<()> {
        if block == 0 || block >= self.volume.superblock().blocks {
            return Err(self.wrong("an extent node within the volume", block));
        }
        let bytes = self.volume.block(BlockNo(block))?;
        let sb = self.volume.superblock();
        if sb.has_metadata_csum() {
            let fields = Fields(&bytes);
            let tail = (12 + usize::from(fields.u16(4)) * 12).min(bytes.len() - 4);
            let sum = self.inode.seed(sb).with(fields.slice(0, tail));
            let place = || format!("{}, extent node {block}", self.inode.ino);
            check_sum(place(), sum.0, fields.u32(tail))?;
        }
        self.map.nodes.push(BlockNo(block));
        self.node(&bytes, span, false)
    }

    fn leaf(&mut self, record: Fields<'_>, span: Span) -> Result<()> {
        let file_block = u64::from(record.u32(0));
        let raw = record.u16(4);
        let written = raw <= WRITTEN_MAX;
        let count = u64::from(if written { raw } else { raw - WRITTEN_MAX });
        let start = u64::from(record.u32(8)) | u64::from(record.u16(6)) << 32;
        let end = file_block + count;
        if count == 0 || file_block < span.start.max(self.next) || end > span.end {
            let expected =
                format!("an extent within {} to {}", span.start.max(self.next), span.end);
            return Err(self.wrong(expected, format!("{file_block} to {end}")));
        }
        let blocks = self.volume.superblock().blocks;
        if start == 0 || start + count > blocks {
            return Err(self.wrong(format!("blocks below {blocks}"), format!("{count} at {start}")));
        }
        self.blocks += count;
        if self.blocks > blocks {
            return Err(self.wrong(format!("at most {blocks} blocks"), "more"));
        }
        if self.map.runs.len() >= EXTENTS_MAX {
            let what = format!("{} has more than {EXTENTS_MAX} extents", self.inode.ino);
            return Err(Ext4Error::Limit(what));
        }
        self.next = end;
        let range = BlockRange::new(BlockNo(start), BlockCount(count));
        self.map.runs.push(Run { file_block, range, written });
        Ok(())
    }

    fn wrong(&self, expected: impl ToString, found: impl ToString) -> Ext4Error {
        let place = format!("{}, extent tree", self.inode.ino);
        corrupt(place, expected.to_string(), found.to_string())
    }
}
