//! Content of files: blocks are taken on the volume, and a map says what they are.

use goldleaf_block::{BLOCK_SIZE, BlockCount, BlockNo, BlockRange, MapExtent, Target};

use crate::error::Result;
use crate::extents::ExtentList;
use crate::op::ContentRun;
use crate::overlay::Block;
use crate::volume::{Area, Piece, Volume};

/// The last block of a file that ext4 can name, and one more.
const FILE_BLOCKS_MAX: u64 = u32::MAX as u64;

/// Says what is wrong with runs, if anything is.
pub(crate) fn check_runs(size: u64, runs: &[ContentRun]) -> std::result::Result<(), String> {
    let file_blocks = size.div_ceil(BLOCK_SIZE);
    if file_blocks > FILE_BLOCKS_MAX {
        return Err(format!("{size} bytes are more than a file can have"));
    }
    let mut next = 0;
    for run in runs {
        let end = run.file_block.checked_add(run.blocks).filter(|&end| end <= file_blocks);
        match end {
            Some(end) if run.blocks > 0 && run.file_block >= next => next = end,
            _ => {
                return Err(format!(
                    "a run of {} blocks at {} does not fit into {file_blocks} blocks behind {next}",
                    run.blocks, run.file_block
                ));
            }
        }
    }
    Ok(())
}

/// Takes blocks for checked runs and appends to `map` where their content is.
pub(crate) fn map_runs(
    volume: &mut Volume,
    runs: &[ContentRun],
    map: &mut Vec<MapExtent>,
) -> Result<(ExtentList, u64)> {
    let total = runs.iter().map(|run| run.blocks).sum();
    let mut pieces = volume.take_blocks(Area::Content, total)?.into_iter();
    let mut piece = Piece { start: 0, count: 0 };
    let mut list = ExtentList::default();
    for run in runs {
        let mut done = 0;
        while done < run.blocks {
            if piece.count == 0 {
                // The pieces have as many blocks as the runs.
                let Some(next) = pieces.next() else { break };
                piece = next;
            }
            let part = Piece { start: piece.start, count: piece.count.min(run.blocks - done) };
            list.push((run.file_block + done) as u32, part);
            push_extent(map, part, run.at.plus(BlockCount(done)), run);
            piece = Piece { start: piece.start + part.count, count: piece.count - part.count };
            done += part.count;
        }
    }
    Ok((list, total))
}

fn push_extent(map: &mut Vec<MapExtent>, part: Piece, at: BlockNo, run: &ContentRun) {
    let range = BlockRange::new(BlockNo(part.start), BlockCount(part.count));
    map.push(MapExtent { range, target: Target::Source { source: run.source, at } });
}

/// Takes blocks for bytes and writes them.
pub(crate) fn write_bytes(volume: &mut Volume, bytes: &[u8]) -> Result<(ExtentList, u64)> {
    let mut chunks = bytes.chunks(BLOCK_SIZE as usize);
    let total = chunks.len() as u64;
    let (mut list, mut at) = (ExtentList::default(), 0);
    for piece in volume.take_blocks(Area::Metadata, total)? {
        list.push(at, piece);
        at += piece.count as u32;
        for (number, chunk) in (piece.start..).zip(chunks.by_ref().take(piece.count as usize)) {
            let mut block: Block = [0; BLOCK_SIZE as usize];
            block[..chunk.len()].copy_from_slice(chunk);
            volume.write_block(number, &block)?;
        }
    }
    Ok((list, total))
}
