//! Inodes, read and written where they lie: the library would write a whole block for each, and sum
//! it slowly. Its small cache of inodes is emptied at every write, so that what it reads by itself
//! is what stands on the volume.

use goldleaf_block::BLOCK_SIZE;
use goldleaf_ext4::{InodeNo, Seed, inode_sum};

use super::{Ino, Volume};
use crate::error::{ComposeError, Result};
use crate::ffi;
use crate::inode::RawInode;

impl Volume {
    /// Reads an inode.
    pub(crate) fn read_inode(&self, ino: Ino) -> Result<RawInode> {
        let mut inode = RawInode::new(self.geometry.inode_size);
        let at = self.inode_place(ino)?;
        self.channel.overlay.borrow().read(at, inode.bytes_mut())?;
        Ok(inode)
    }

    /// Writes an inode.
    pub(crate) fn write_inode(&mut self, ino: Ino, inode: &mut RawInode) -> Result<()> {
        if let Some(seed) = self.geometry.seed {
            inode.set_sum(0);
            let extra = usize::from(inode.extra_isize());
            let sum = inode_sum(seed, InodeNo(ino.0), inode.bytes_mut(), extra);
            inode.set_sum(sum);
        }
        let at = self.inode_place(ino)?;
        self.channel.overlay.borrow_mut().write(at, inode.bytes_mut())?;
        // SAFETY: the handle is live.
        let code = unsafe { ffi::ext2fs_flush_icache(self.fs.as_ptr()) };
        self.check(code, "forgetting an inode")
    }

    /// The seed of the checksums of an inode's blocks, if the volume has them.
    pub(crate) fn seed_of(&self, ino: Ino, inode: &RawInode) -> Option<Seed> {
        Some(self.geometry.seed?.of_inode(InodeNo(ino.0), inode.generation()))
    }

    /// Where an inode lies, in bytes.
    fn inode_place(&self, ino: Ino) -> Result<u64> {
        if ino.0 == 0 || ino.0 > self.geometry.inodes {
            return Err(ComposeError::Refused(format!("an entry names inode {}", ino.0)));
        }
        let group = self.group_of(ino);
        let index = u64::from((ino.0 - 1) % self.geometry.inodes_per_group);
        let table = self.geometry.inode_tables[group as usize];
        Ok(table * BLOCK_SIZE + index * self.geometry.inode_size as u64)
    }
}
