//! Content of files by reference: checking it and changing parts of it.

use goldleaf_store::Digest;

use super::ManifestError;
use crate::{Content, ContentExtent};

const BLOCK_LEN: u64 = goldleaf_block::BLOCK_SIZE;
/// More breaks than this in a file's runs cost more in look-ups than a copy saves in space.
const FRAGMENTS_MAX: usize = 1024;

/// New content for a run of a file's blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Splice {
    /// First block within the file.
    pub file_block: u64,
    /// Length in blocks, never 0.
    pub blocks: u64,
    /// The blob and the first block in it; `None` makes a hole.
    pub to: Option<(Digest, u64)>,
}

/// `old` with a new size and some runs changed; `changes` are sorted and do not overlap. What lies
/// behind the new end goes; when the end falls within a block that had bytes behind it, that block
/// must be among the changes. Neighbours are joined.
pub fn splice(old: &Content, size: u64, changes: &[Splice]) -> Result<Content, ManifestError> {
    check_content(old).map_err(ManifestError::Invalid)?;
    let end = size.div_ceil(BLOCK_LEN);
    let mut runs = Runs { extents: Vec::with_capacity(old.extents.len() + 2), end };
    let mut done = 0;
    for change in changes {
        let behind = change.file_block.checked_add(change.blocks).filter(|_| change.blocks > 0);
        let behind = behind.filter(|_| change.file_block >= done).ok_or_else(|| {
            ManifestError::Invalid(format!("a change of {} blocks", change.blocks))
        })?;
        runs.copy(old, done, change.file_block);
        if let Some((blob, blob_block)) = change.to {
            let (file_block, blocks) = (change.file_block, change.blocks);
            runs.push(ContentExtent { file_block, blocks, blob, blob_block });
        }
        done = behind;
    }
    runs.copy(old, done, end);
    let content = Content { size, extents: runs.extents };
    check_content(&content).map_err(ManifestError::Invalid)?;
    Ok(content)
}

/// Runs in ascending order, as long as they can be.
struct Runs {
    extents: Vec<ContentExtent>,
    end: u64,
}

impl Runs {
    /// What `old` has from one file block to another.
    fn copy(&mut self, old: &Content, from: u64, to: u64) {
        if from >= to {
            return;
        }
        let first = old.extents.partition_point(|run| run.file_block + run.blocks <= from);
        for run in old.extents[first..].iter().take_while(|run| run.file_block < to) {
            let start = run.file_block.max(from);
            let blocks = (run.file_block + run.blocks).min(to) - start;
            let blob_block = run.blob_block + (start - run.file_block);
            self.push(ContentExtent { file_block: start, blocks, blob: run.blob, blob_block });
        }
    }

    fn push(&mut self, mut run: ContentExtent) {
        if run.file_block >= self.end {
            return;
        }
        run.blocks = run.blocks.min(self.end - run.file_block);
        match self.extents.last_mut() {
            Some(last)
                if last.file_block + last.blocks == run.file_block
                    && last.blob == run.blob
                    && last.blob_block.checked_add(last.blocks) == Some(run.blob_block) =>
            {
                last.blocks += run.blocks;
            }
            _ => self.extents.push(run),
        }
    }
}

/// Places where a file's runs are neighbours in the file and not in a blob: what one copy of the
/// content would do away with. Holes do not count.
pub fn fragments(content: &Content) -> usize {
    let pairs = content.extents.windows(2);
    pairs.filter(|pair| pair[0].file_block + pair[0].blocks == pair[1].file_block).count()
}

/// Whether the content is better stored anew as one blob.
pub fn wants_compacting(content: &Content) -> bool {
    fragments(content) > FRAGMENTS_MAX
}

/// Says what is wrong with runs that overlap, are empty or lie outside the file.
pub(super) fn check_content(content: &Content) -> Result<(), String> {
    let limit = content.size.div_ceil(BLOCK_LEN);
    let mut end = 0;
    for run in &content.extents {
        let behind = run.file_block.checked_add(run.blocks);
        let in_blob = run.blob_block.checked_add(run.blocks).is_some();
        match behind {
            Some(behind)
                if run.blocks > 0 && run.file_block >= end && behind <= limit && in_blob =>
            {
                end = behind;
            }
            _ => {
                return Err(format!(
                    "{} blocks at {} behind {end} in a file of {limit} blocks",
                    run.blocks, run.file_block
                ));
            }
        }
    }
    Ok(())
}
