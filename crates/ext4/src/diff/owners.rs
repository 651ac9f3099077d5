//! Who owns a written block.

use goldleaf_block::{BLOCK_SIZE, BlockCount, BlockNo, BlockRange};

use super::compare::Compare;
use super::dirty::Dirty;
use crate::canonical::merge;
use crate::error::Result;
use crate::extent::read_map;
use crate::fields::Fields;
use crate::inode::{Inode, InodeNo};
use crate::volume::{Volume, bit};
use crate::xattr;

/// All blocks of an inode: data, extent nodes, attributes.
pub(super) fn blocks_of(volume: &Volume, inode: &Inode, into: &mut Vec<BlockRange>) -> Result<()> {
    let map = read_map(volume, inode)?;
    into.extend(map.runs.iter().map(|run| run.range));
    let single = map.nodes.iter().copied().chain(xattr::block_of(inode));
    into.extend(single.map(|block| BlockRange::new(block, BlockCount(1))));
    Ok(())
}

/// The blocks of the inodes that have no name: the journal, the orphan file, the pointers to
/// reserved descriptors.
pub(super) fn hidden_blocks(volume: &Volume, into: &mut Vec<BlockRange>) -> Result<()> {
    let sb = volume.superblock();
    let reserved = (1..sb.first_inode).map(InodeNo).filter(|&ino| ino != InodeNo::ROOT);
    for ino in reserved.chain(sb.orphan_file()).chain(sb.journal()) {
        if !volume.inode_in_use(ino)? {
            continue;
        }
        let raw = volume.inode_bytes(ino)?;
        if sb.is_void(ino, &raw) {
            continue;
        }
        let inode = Inode::parse(sb, ino, &raw, true)?;
        if ino == InodeNo::RESIZE {
            let block = BlockNo(Fields(&inode.body).u32(13 * 4).into());
            into.push(BlockRange::new(block, BlockCount(1)));
        } else if inode.is_live() {
            blocks_of(volume, &inode, into)?;
        }
    }
    Ok(())
}

/// Whether one of sorted, disjoint ranges has a block.
pub(super) fn covers(ranges: &[BlockRange], block: BlockNo) -> bool {
    let next = ranges.partition_point(|range| range.start <= block);
    next > 0 && ranges[next - 1].contains(block)
}

/// The written blocks in use, outside the fixed metadata, whose bytes differ.
pub(super) fn differing(before: &Volume, after: &Volume, dirty: &Dirty) -> Result<Vec<BlockNo>> {
    let compare = Compare { before, after, dirty: None };
    let mut out = Vec::new();
    for block in dirty.blocks() {
        let data = !after.is_fixed(block) && after.block_in_use(block)?;
        if data && !compare.same_blocks(BlockRange::new(block, BlockCount(1)))? {
            out.push(block);
        }
    }
    Ok(out)
}

/// Those of `blocks` (sorted) that no inode in use owns. Reads all inode tables.
pub(super) fn unowned(volume: &Volume, mut blocks: Vec<BlockNo>) -> Result<Vec<BlockNo>> {
    let mut owned = Vec::new();
    hidden_blocks(volume, &mut owned)?;
    strike(&mut blocks, &mut owned);
    for group in 0..volume.superblock().groups() {
        if blocks.is_empty() {
            break;
        }
        each_inode(volume, group, &mut |inode| {
            blocks_of(volume, inode, &mut owned)?;
            if owned.len() > 4096 {
                strike(&mut blocks, &mut owned);
            }
            Ok(())
        })?;
        strike(&mut blocks, &mut owned);
    }
    Ok(blocks)
}

fn strike(blocks: &mut Vec<BlockNo>, owned: &mut Vec<BlockRange>) {
    let ranges = merge(std::mem::take(owned));
    blocks.retain(|&block| !covers(&ranges, block));
}

/// Calls `each` for the inodes of a group that its bitmap has in use and that have a mode.
pub(super) fn each_inode(
    volume: &Volume,
    group: u32,
    each: &mut dyn FnMut(&Inode) -> Result<()>,
) -> Result<()> {
    let sb = volume.superblock();
    let Some(bitmap) = volume.inode_bitmap(group)? else { return Ok(()) };
    let Some(descriptor) = volume.groups().get(group as usize) else { return Ok(()) };
    let count = descriptor.initialized_inodes(sb);
    let size = usize::from(sb.inode_size);
    let mut table = vec![0; (count as usize * size).next_multiple_of(BLOCK_SIZE as usize)];
    volume.read_blocks(descriptor.inode_table, &mut table)?;
    let first = group * sb.inodes_per_group + 1;
    for (index, raw) in (0..count).zip(table.chunks_exact(size)) {
        let ino = InodeNo(first + index);
        if bit(&bitmap, index) && Fields(raw).u16(0) != 0 && !sb.is_hidden(ino) {
            each(&Inode::parse(sb, ino, raw, true)?)?;
        }
    }
    Ok(())
}
