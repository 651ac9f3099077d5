//! The safe face of one libext2fs handle over an [`Overlay`].
//!
//! The library promises nothing to several threads, so a process has handles on one only: a handle
//! holds raw pointers and stays on its thread. All structures are in the host's byte order, which
//! the crate requires to be little endian, that of the disk.
#![allow(unsafe_code)]

mod alloc;
mod directory;
mod gate;
mod inode;
mod xattr;

use std::ffi::CStr;
use std::ptr::{self, NonNull};
use std::rc::Rc;

use goldleaf_block::{BLOCK_SIZE, BlockCount, BlockNo, BlockRange};
use goldleaf_ext4::Seed;
use goldleaf_tree::Timestamp;

pub(crate) use alloc::{Area, Piece};

use crate::error::{ComposeError, Result};
use crate::ffi::{self, ErrCode, Filsys};
use crate::io::{Channel, MANAGER};
use crate::overlay::{Block, Overlay};
use crate::shortage::Shortage;

/// Number of an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ino(pub u32);

/// The root directory.
pub(crate) const ROOT: Ino = Ino(2);

/// What of the superblock never changes while a volume is composed.
#[derive(Debug, Clone)]
pub(crate) struct Geometry {
    pub blocks: u64,
    pub first_block: u64,
    pub inode_size: usize,
    pub extra_isize: u16,
    pub inodes: u32,
    pub inodes_per_group: u32,
    pub blocks_per_group: u64,
    pub groups: u32,
    /// Where the inode table of each group begins.
    pub inode_tables: Vec<u64>,
    /// Of the checksums of metadata, if the volume has them.
    pub seed: Option<Seed>,
    pub has_group_checksums: bool,
    pub has_dir_index: bool,
    pub has_dir_nlink: bool,
    pub hash_version: u8,
    pub hash_seed: [u32; 4],
    pub unsigned_hash: bool,
}

/// An open volume.
pub(crate) struct Volume {
    fs: NonNull<Filsys>,
    channel: Rc<Channel>,
    pub(crate) geometry: Geometry,
    cursors: alloc::Cursors,
    released: Vec<(u64, u64)>,
}

impl Drop for Volume {
    fn drop(&mut self) {
        // SAFETY: the handle is live and nothing uses it afterwards; the channel outlives this.
        unsafe { ffi::ext2fs_free(self.fs.as_ptr()) };
    }
}

impl Volume {
    /// Opens the volume below `overlay`, refusing one that may not be written.
    pub(crate) fn open(overlay: Overlay, now: Timestamp) -> Result<Self> {
        gate::check_library()?;
        let base_blocks = overlay.base_blocks();
        let channel = Rc::new(Channel::new(overlay));
        let mut raw = ptr::null_mut();
        let flags = ffi::FLAG_RW | ffi::FLAG_64BITS;
        // SAFETY: all pointers are valid; the library opens the channel by `MANAGER`.
        let code = channel.while_opening(|| unsafe {
            let name = c"overlay".as_ptr();
            ffi::ext2fs_open2(name, ptr::null(), flags, 0, 0, &MANAGER, &mut raw)
        });
        check(&channel, code, "opening the volume")?;
        let fs = NonNull::new(raw)
            .ok_or_else(|| ComposeError::Refused("the library gave no handle".into()))?;
        let geometry = gate::geometry(fs);
        let cursors = alloc::Cursors::new(&geometry);
        let mut volume = Self { fs, channel, geometry, cursors, released: Vec::new() };
        gate::check(&volume, base_blocks)?;
        volume.prepare(now)?;
        Ok(volume)
    }

    fn prepare(&mut self, now: Timestamp) -> Result<()> {
        // SAFETY: the handle is live. A `now` of 0 would mean the system's clock.
        unsafe {
            let fs = self.fs.as_ptr();
            (*fs).now = now.secs.max(1);
            (*fs).flags |= ffi::FLAG_MASTER_SB_ONLY;
        }
        // SAFETY: the handle is live.
        let code = unsafe { ffi::ext2fs_read_bitmaps(self.fs.as_ptr()) };
        self.check(code, "reading the bitmaps")
    }

    /// Marks every inode table as zeroed, and lets the unused parts of those that are not read as
    /// zeroes, so that the guest does not zero them at its first start.
    pub(crate) fn zero_unused_inode_tables(&mut self) -> Result<()> {
        if !self.geometry.has_group_checksums {
            return Ok(());
        }
        for group in 0..self.geometry.groups {
            // SAFETY: the handle is live and the group is one of its groups.
            let (zeroed, uninit, unused) = unsafe {
                let fs = self.fs.as_ptr();
                (
                    ffi::ext2fs_bg_flags_test(fs, group, ffi::BG_INODE_ZEROED) != 0,
                    ffi::ext2fs_bg_flags_test(fs, group, ffi::BG_INODE_UNINIT) != 0,
                    ffi::ext2fs_bg_itable_unused(fs, group),
                )
            };
            if zeroed {
                continue;
            }
            let per_group = self.geometry.inodes_per_group;
            let unused = if uninit { per_group } else { unused.min(per_group) };
            self.zero_table_tail(self.geometry.inode_tables[group as usize], unused)?;
            // SAFETY: as above.
            unsafe {
                let fs = self.fs.as_ptr();
                ffi::ext2fs_bg_flags_set(fs, group, ffi::BG_INODE_ZEROED);
                ffi::ext2fs_group_desc_csum_set(fs, group);
            }
        }
        Ok(())
    }

    fn zero_table_tail(&mut self, table: u64, unused: u32) -> Result<()> {
        let size = self.geometry.inode_size as u64;
        let end = (u64::from(self.geometry.inodes_per_group) * size).div_ceil(BLOCK_SIZE);
        let used = u64::from(self.geometry.inodes_per_group - unused) * size;
        let whole = used.div_ceil(BLOCK_SIZE);
        if whole < end {
            let range = BlockRange::new(BlockNo(table + whole), BlockCount(end - whole));
            self.channel.overlay.borrow_mut().assume_zero(range);
        }
        let (within, at) = (used % BLOCK_SIZE, table * BLOCK_SIZE + used);
        if within == 0 {
            return Ok(());
        }
        let mut tail = vec![0; (BLOCK_SIZE - within) as usize];
        self.channel.overlay.borrow().read(at, &mut tail)?;
        if tail.iter().any(|&byte| byte != 0) {
            tail.fill(0);
            self.channel.overlay.borrow_mut().write(at, &tail)?;
        }
        Ok(())
    }

    /// Writes one block of metadata, or of content that has no other home.
    pub(crate) fn write_block(&mut self, block: u64, data: &Block) -> Result<()> {
        self.channel.overlay.borrow_mut().write(block * BLOCK_SIZE, data)
    }

    /// Declares that the volume has files of 2 GiB or more.
    pub(crate) fn allow_large_files(&mut self) {
        // SAFETY: the superblock is 1024 bytes and lives as long as the handle.
        unsafe {
            let superblock = (*self.fs.as_ptr()).superblock.cast::<u8>();
            let field = superblock.add(gate::FEATURE_RO_COMPAT).cast::<u32>();
            *field |= gate::RO_LARGE_FILE;
        }
    }

    /// Writes superblock, descriptors, bitmaps and all that is buffered.
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.settle();
        self.channel.overlay.borrow_mut().flush()?;
        self.channel.overlay.borrow_mut().drop_unchanged();
        // SAFETY: the handle is live.
        let code = unsafe {
            let fs = self.fs.as_ptr();
            (*fs).flags |= ffi::FLAG_DIRTY | ffi::FLAG_CHANGED;
            ffi::ext2fs_flush2(fs, ffi::FLUSH_NO_SYNC)
        };
        self.check(code, "writing the superblock")?;
        self.channel.overlay.borrow_mut().flush()
    }

    /// Looks at the overlay.
    pub(crate) fn with_overlay<T>(&self, look: impl FnOnce(&Overlay) -> T) -> T {
        look(&self.channel.overlay.borrow())
    }

    fn check(&self, code: ErrCode, what: &'static str) -> Result<()> {
        check(&self.channel, code, what)
    }
}

fn check(channel: &Channel, code: ErrCode, what: &'static str) -> Result<()> {
    if code == 0 {
        return Ok(());
    }
    if code == ffi::ET_BLOCK_ALLOC_FAIL {
        return Err(ComposeError::Full(Shortage { blocks: 1, ..Shortage::default() }));
    }
    Err(channel.take_error().unwrap_or_else(|| library_error(code, what)))
}

fn library_error(code: ErrCode, what: &'static str) -> ComposeError {
    // SAFETY: the table is static; `error_message` returns a string for every number, which is
    // copied before the next call.
    let message = unsafe {
        ffi::initialize_ext2_error_table();
        CStr::from_ptr(ffi::error_message(code)).to_string_lossy().into_owned()
    };
    ComposeError::Library { what, code, message }
}
