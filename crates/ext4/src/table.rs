//! The inodes in use of a group, from its table in one piece.

use goldleaf_block::BLOCK_SIZE;

use crate::error::{Result, corrupt};
use crate::inode::InodeNo;
use crate::volume::{Volume, bit};

/// Takes an inode's number and its record.
pub(crate) type TakeInode<'a> = dyn FnMut(InodeNo, &[u8]) -> Result<()> + 'a;

/// Calls `each` for every inode of a group that the bitmap has in use. Records are passed as they
/// stand, unchecked. Memory is one group's table: 2 MiB as volumes are usually made.
pub(crate) fn for_each_in_use(volume: &Volume, group: u32, each: &mut TakeInode<'_>) -> Result<()> {
    let sb = volume.superblock();
    let Some(bitmap) = volume.inode_bitmap(group)? else { return Ok(()) };
    let Some(descriptor) = volume.groups().get(group as usize) else { return Ok(()) };
    let count = descriptor.initialized_inodes(sb);
    let behind = (count..sb.inodes_per_group).find(|&index| bit(&bitmap, index));
    if let Some(index) = behind {
        let place = format!("inode bitmap of group {group}");
        return Err(corrupt(place, format!("no inode behind {count}"), index));
    }
    let size = usize::from(sb.inode_size);
    let bytes = (count as usize * size).next_multiple_of(BLOCK_SIZE as usize);
    let mut table = vec![0; bytes];
    volume.read_blocks(descriptor.inode_table, &mut table)?;
    let first = group * sb.inodes_per_group + 1;
    for (index, raw) in (0..count).zip(table.chunks_exact(size)) {
        if bit(&bitmap, index) {
            each(InodeNo(first + index), raw)?;
        }
    }
    Ok(())
}
