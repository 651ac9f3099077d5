//! Where a disk keeps what, and the order in which its blocks travel.
//!
//! ```text
//!   worker ── ranges of metadata, files with their extents ──▶ Answers (believes nothing) ─▶ Layout
//!   order:   metadata │ what no file explains │ files, by path
//!            composing  partition tables,       what is read together
//!            reads it   boot loaders, ESP, …    lies together
//! ```
//! A client composes as soon as it has the metadata; to boot it needs what lies outside of all
//! volumes, too. Files of one directory are alike and are read together, so they are neighbours:
//! that is good for compression, and for whoever fetches ahead.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use goldleaf_block::{BlockCount, BlockNo, BlockRange, ByteLen, ExtentMap};
use goldleaf_host::{File, Progress};
use goldleaf_tree::GuestPath;
use goldleaf_worker::protocol::{DiskRun, FilePiece, LayoutTask, Task, VolumeSpec};
use goldleaf_worker::{Launcher, Session};

use crate::ImageError;
use crate::import::{disk_spec, scale};

/// Most files in a layout: as many as the validation of a single volume lets pass.
const FILES_MAX: usize = 20_000_000;
/// Most bytes of all paths together. Those of a desktop's 300,000 files come to some 30 MB.
const PATH_BYTES_MAX: usize = 1 << 30;

/// Where a disk keeps what, in blocks of the disk. No block is in it twice.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Layout {
    /// Metadata of all ext4 volumes: sorted, apart, as long as they can be.
    pub metadata: Vec<BlockRange>,
    /// Regular files, in the order of their paths' bytes.
    pub files: Vec<FileExtents>,
}

impl Layout {
    /// What of a disk is no file's content: metadata, and what nothing explains.
    pub fn unexplained_by_files(&self, disk_blocks: BlockCount) -> Vec<BlockRange> {
        let mut files: Vec<_> = content(self).collect();
        files.sort_unstable();
        gaps(&files, disk_blocks)
    }
}

/// A regular file and where its content lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileExtents {
    /// The first of its names, in the tree that the guest sees.
    pub path: GuestPath,
    /// Its length.
    pub len: ByteLen,
    /// First block within the file, and the run on the disk; sorted and apart within the file. What
    /// none covers reads as zeroes.
    pub extents: Vec<(BlockNo, BlockRange)>,
}

/// Lets the worker find where a disk keeps what. The volumes must be clean, as after a seal.
///
/// An answer that cannot be true is [`ImageError::Corrupt`]; a volume that cannot be read is
/// [`ImageError::Worker`].
pub fn layout(
    launcher: &Launcher,
    map: &ExtentMap,
    files: &[Arc<dyn File>],
    volumes: &[VolumeSpec],
    progress: &dyn Progress,
) -> Result<Layout, ImageError> {
    let disk = disk_spec(map, files);
    let task = Task::Layout(LayoutTask { disk, volumes: volumes.to_vec() });
    let mut worker = launcher.start(files, scale(map), &task)?;
    match listen(&mut worker, map.blocks(), progress) {
        Ok(answers) => {
            worker.finish::<()>()?;
            answers.finish()
        }
        Err(ImageError::Worker(error)) => Err(worker.explain(error).into()),
        Err(error) => Err(error),
    }
}

fn listen(
    worker: &mut Session,
    disk_blocks: BlockCount,
    progress: &dyn Progress,
) -> Result<Answers, ImageError> {
    let mut answers = Answers::new(disk_blocks);
    progress.at("finding metadata", 0, 0);
    loop {
        let batch: Vec<BlockRange> = worker.receive_batch()?;
        if batch.is_empty() {
            break;
        }
        batch.into_iter().try_for_each(|range| answers.metadata(range))?;
    }
    loop {
        let batch: Vec<FilePiece> = worker.receive_batch()?;
        if batch.is_empty() {
            return Ok(answers);
        }
        batch.into_iter().try_for_each(|piece| answers.piece(piece))?;
        progress.at("finding files", answers.layout.files.len() as u64, 0);
    }
}

/// The order in which the blocks of a disk travel: metadata first, then what no file explains, then
/// the files by path, each from its beginning. Every block of the disk is in it once; the free ones
/// are among what no file explains, and read as zeroes in an image. The layout must be of a disk of
/// that length, as [`layout()`] makes it.
pub fn order(layout: &Layout, disk_blocks: BlockCount) -> Vec<BlockRange> {
    let mut order = layout.metadata.clone();
    order.extend(gaps(&explained(layout), disk_blocks));
    let files = order.len();
    for range in content(layout) {
        match order[files..].last_mut() {
            Some(last) if last.end() == range.start => last.count.0 += range.count.0,
            _ => order.push(range),
        }
    }
    order
}

/// The content of all files.
fn content(layout: &Layout) -> impl Iterator<Item = BlockRange> {
    layout.files.iter().flat_map(|file| file.extents.iter().map(|(_, range)| *range))
}

/// Metadata and content, sorted.
fn explained(layout: &Layout) -> Vec<BlockRange> {
    let mut ranges: Vec<_> = layout.metadata.iter().copied().chain(content(layout)).collect();
    ranges.sort_unstable();
    ranges
}

/// What sorted ranges leave out of a disk.
fn gaps(ranges: &[BlockRange], disk_blocks: BlockCount) -> Vec<BlockRange> {
    let mut gaps = Vec::new();
    let mut next = BlockNo(0);
    let end = BlockRange::new(BlockNo(disk_blocks.0), BlockCount(0));
    for range in ranges.iter().chain([&end]) {
        if range.start > next {
            gaps.push(BlockRange::new(next, BlockCount(range.start.0 - next.0)));
        }
        next = next.max(range.end());
    }
    gaps
}

/// What the worker has said so far, none of which leads outside.
struct Answers {
    disk_blocks: BlockCount,
    layout: Layout,
    /// Blocks that were named. More than the disk has cannot be apart: so there are not more ranges
    /// than blocks either.
    named: u64,
    /// Bytes of all paths.
    path_bytes: usize,
}

impl Answers {
    fn new(disk_blocks: BlockCount) -> Self {
        Self { disk_blocks, layout: Layout::default(), named: 0, path_bytes: 0 }
    }

    fn metadata(&mut self, range: BlockRange) -> Result<(), ImageError> {
        self.name(range)?;
        match self.layout.metadata.last() {
            Some(last) if last.end() >= range.start => {
                Err(wrong(format!("metadata behind block {}", last.end()), shown(range)))
            }
            _ => {
                self.layout.metadata.push(range);
                Ok(())
            }
        }
    }

    fn piece(&mut self, piece: FilePiece) -> Result<(), ImageError> {
        let FilePiece { path, len, runs } = piece;
        match self.layout.files.last() {
            Some(last) if last.path == path => {
                if last.len != len || runs.is_empty() {
                    return Err(wrong(format!("more of {path}"), "another file of that name"));
                }
            }
            last => {
                let before = last.map_or(&b""[..], |last| last.path.as_bytes());
                if path.as_bytes() <= before {
                    return Err(wrong("paths that ascend", &path));
                }
                self.file(path, len)?;
            }
        }
        runs.into_iter().try_for_each(|run| self.run(run))
    }

    /// A file that was not named before.
    fn file(&mut self, path: GuestPath, len: ByteLen) -> Result<(), ImageError> {
        self.path_bytes += path.as_bytes().len();
        if self.layout.files.len() >= FILES_MAX || self.path_bytes > PATH_BYTES_MAX {
            let expected = format!("{FILES_MAX} files and {PATH_BYTES_MAX} bytes of paths at most");
            return Err(wrong(expected, "more"));
        }
        self.layout.files.push(FileExtents { path, len, extents: Vec::new() });
        Ok(())
    }

    /// A run of the last file.
    fn run(&mut self, run: DiskRun) -> Result<(), ImageError> {
        let range = BlockRange::new(run.disk_block, BlockCount(run.blocks));
        self.name(range)?;
        let Some(file) = self.layout.files.last_mut() else {
            return Err(wrong("a file", "a run of none"));
        };
        let next = file.extents.last().map_or(0, |(block, range)| block.0 + range.count.0);
        let limit = file.len.blocks().0;
        let end = run.file_block.checked_add(run.blocks);
        if run.file_block < next || end.is_none_or(|end| end > limit) {
            let expected = format!("blocks {next} to {limit} of {}", file.path);
            return Err(wrong(expected, format!("{} from {}", run.blocks, run.file_block)));
        }
        file.extents.push((BlockNo(run.file_block), range));
        Ok(())
    }

    /// Takes note of a range, which must be on the disk.
    fn name(&mut self, range: BlockRange) -> Result<(), ImageError> {
        let end = range.start.0.checked_add(range.count.0);
        if range.count.0 == 0 || end.is_none_or(|end| end > self.disk_blocks.0) {
            return Err(wrong(format!("blocks below {}", self.disk_blocks), shown(range)));
        }
        self.named += range.count.0;
        if self.named > self.disk_blocks.0 {
            return Err(wrong(format!("{} blocks, each once", self.disk_blocks), self.named));
        }
        Ok(())
    }

    /// All of it, once it is known that no block is there twice.
    fn finish(self) -> Result<Layout, ImageError> {
        let explained = explained(&self.layout);
        match explained.windows(2).find(|pair| pair[0].end() > pair[1].start) {
            None => Ok(self.layout),
            Some(pair) => Err(wrong(format!("nothing else in {}", shown(pair[0])), shown(pair[1]))),
        }
    }
}

fn shown(range: BlockRange) -> String {
    format!("{} blocks at {}", range.count, range.start)
}

fn wrong(expected: impl ToString, found: impl ToString) -> ImageError {
    ImageError::Corrupt {
        place: "the worker's layout".into(),
        expected: expected.to_string(),
        found: found.to_string(),
    }
}
