//! The few functions and structures of libext2fs (1.47 or later) that are used, by hand.
//!
//! Only fields that are read or written here are named with their own type; the layouts are
//! compared with the C compiler's by `tests/it/layout.rs`. Everything is in the host's byte order,
//! which must be little endian.

use std::ffi::{c_char, c_int, c_long, c_uint, c_ulong, c_ulonglong, c_void};

/// libext2fs' error code; 0 is success.
pub type ErrCode = c_long;

/// A file system handle: `struct struct_ext2_filsys` up to the last field in use.
#[repr(C)]
pub struct Filsys {
    pub magic: ErrCode,
    pub io: *mut IoChannel,
    pub flags: c_int,
    pub device_name: *mut c_char,
    pub superblock: *mut c_void,
    pub blocksize: c_uint,
    pub fragsize: c_int,
    pub group_desc_count: u32,
    pub desc_blocks: c_ulong,
    pub group_desc: *mut c_void,
    pub inode_blocks_per_group: c_uint,
    pub inode_map: *mut c_void,
    pub block_map: *mut c_void,
    pub callbacks: [*mut c_void; 5],
    pub badblocks: *mut c_void,
    pub dblist: *mut c_void,
    pub stride: u32,
    pub orig_super: *mut c_void,
    pub image_header: *mut c_void,
    pub umask: u32,
    pub now: c_long,
}

/// `struct struct_io_channel`.
#[repr(C)]
pub struct IoChannel {
    pub magic: ErrCode,
    pub manager: *const IoManager,
    pub name: *mut c_char,
    pub block_size: c_int,
    pub read_error: *mut c_void,
    pub write_error: *mut c_void,
    pub refcount: c_int,
    pub flags: c_int,
    pub reserved: [c_long; 14],
    pub private_data: *mut c_void,
    pub app_data: *mut c_void,
    pub align: c_int,
}

/// `struct struct_io_manager`.
#[repr(C)]
pub struct IoManager {
    pub magic: ErrCode,
    pub name: *const c_char,
    pub open: Option<unsafe extern "C" fn(*const c_char, c_int, *mut *mut IoChannel) -> ErrCode>,
    pub close: Option<unsafe extern "C" fn(*mut IoChannel) -> ErrCode>,
    pub set_blksize: Option<unsafe extern "C" fn(*mut IoChannel, c_int) -> ErrCode>,
    pub read_blk:
        Option<unsafe extern "C" fn(*mut IoChannel, c_ulong, c_int, *mut c_void) -> ErrCode>,
    pub write_blk:
        Option<unsafe extern "C" fn(*mut IoChannel, c_ulong, c_int, *const c_void) -> ErrCode>,
    pub flush: Option<unsafe extern "C" fn(*mut IoChannel) -> ErrCode>,
    pub write_byte: *const c_void,
    pub set_option: *const c_void,
    pub get_stats: *const c_void,
    pub read_blk64:
        Option<unsafe extern "C" fn(*mut IoChannel, c_ulonglong, c_int, *mut c_void) -> ErrCode>,
    pub write_blk64:
        Option<unsafe extern "C" fn(*mut IoChannel, c_ulonglong, c_int, *const c_void) -> ErrCode>,
    pub discard: *const c_void,
    pub cache_readahead: *const c_void,
    pub zeroout: *const c_void,
    pub reserved: [c_long; 14],
}

// SAFETY: the one value is constant; its pointers are to constants and functions, or null.
unsafe impl Sync for IoManager {}

/// The fixed part of `struct ext2_dir_entry_2`; the name follows.
#[repr(C)]
pub struct DirEntryHead {
    pub inode: u32,
    pub rec_len: u16,
    pub name_len: u8,
    pub file_type: u8,
}

/// `func` of `ext2fs_dir_iterate2`.
pub type DirCallback = unsafe extern "C" fn(
    u32,
    c_int,
    *mut DirEntryHead,
    c_int,
    c_int,
    *mut c_char,
    *mut c_void,
) -> c_int;

/// `func` of `ext2fs_block_iterate3`.
pub type BlockCallback =
    unsafe extern "C" fn(*mut Filsys, *mut u64, i64, u64, c_int, *mut c_void) -> c_int;

pub const ET_BASE: ErrCode = 2_133_571_328;
pub const ET_MAGIC_IO_CHANNEL: ErrCode = ET_BASE + 5;
pub const ET_MAGIC_IO_MANAGER: ErrCode = ET_BASE + 7;
pub const ET_SHORT_READ: ErrCode = ET_BASE + 36;
pub const ET_SHORT_WRITE: ErrCode = ET_BASE + 37;
pub const ET_DIR_NO_SPACE: ErrCode = ET_BASE + 38;
pub const ET_BLOCK_ALLOC_FAIL: ErrCode = ET_BASE + 72;
pub const ET_EA_NO_SPACE: ErrCode = ET_BASE + 163;

pub const FLAG_RW: c_int = 0x01;
pub const FLAG_CHANGED: c_int = 0x02;
pub const FLAG_DIRTY: c_int = 0x04;
pub const FLAG_MASTER_SB_ONLY: c_int = 0x200;
pub const FLAG_64BITS: c_int = 0x2_0000;
pub const FLUSH_NO_SYNC: c_int = 1;

pub const BG_INODE_UNINIT: u16 = 1;
pub const BG_INODE_ZEROED: u16 = 4;
pub const BLOCK_FLAG_READ_ONLY: c_int = 8;
pub const DIRENT_OTHER_FILE: c_int = 3;
pub const DIRENT_CHANGED: c_int = 1;
pub const DIRENT_ABORT: c_int = 2;

#[link(name = "ext2fs")]
unsafe extern "C" {
    pub fn ext2fs_get_library_version(
        version: *mut *const c_char,
        date: *mut *const c_char,
    ) -> c_int;
    pub fn ext2fs_open2(
        name: *const c_char,
        io_options: *const c_char,
        flags: c_int,
        superblock: c_int,
        block_size: c_uint,
        manager: *const IoManager,
        fs: *mut *mut Filsys,
    ) -> ErrCode;
    pub fn ext2fs_read_bitmaps(fs: *mut Filsys) -> ErrCode;
    pub fn ext2fs_flush2(fs: *mut Filsys, flags: c_int) -> ErrCode;
    pub fn ext2fs_free(fs: *mut Filsys);

    pub fn ext2fs_find_first_zero_generic_bmap(
        map: *mut c_void,
        start: u64,
        end: u64,
        out: *mut u64,
    ) -> ErrCode;
    pub fn ext2fs_find_first_set_generic_bmap(
        map: *mut c_void,
        start: u64,
        end: u64,
        out: *mut u64,
    ) -> ErrCode;
    pub fn ext2fs_test_generic_bmap(map: *mut c_void, bit: u64) -> c_int;
    pub fn ext2fs_block_alloc_stats_range(fs: *mut Filsys, start: u64, count: u32, inuse: c_int);
    pub fn ext2fs_mark_block_bitmap_range2(map: *mut c_void, start: u64, count: u32);
    pub fn ext2fs_bg_free_inodes_count(fs: *mut Filsys, group: u32) -> u32;
    pub fn ext2fs_bg_free_inodes_count_set(fs: *mut Filsys, group: u32, count: u32);
    pub fn ext2fs_inode_alloc_stats2(fs: *mut Filsys, ino: u32, inuse: c_int, is_dir: c_int);
    pub fn ext2fs_clear_block_uninit(fs: *mut Filsys, group: u32);
    pub fn ext2fs_free_blocks_count(superblock: *mut c_void) -> u64;
    pub fn ext2fs_blocks_count(superblock: *mut c_void) -> u64;

    pub fn ext2fs_bg_flags_test(fs: *mut Filsys, group: u32, flag: u16) -> c_int;
    pub fn ext2fs_bg_flags_set(fs: *mut Filsys, group: u32, flags: u16);
    pub fn ext2fs_bg_itable_unused(fs: *mut Filsys, group: u32) -> u32;
    pub fn ext2fs_inode_table_loc(fs: *mut Filsys, group: u32) -> u64;
    pub fn ext2fs_group_desc_csum_set(fs: *mut Filsys, group: u32);

    pub fn ext2fs_flush_icache(fs: *mut Filsys) -> ErrCode;
    pub fn ext2fs_block_iterate3(
        fs: *mut Filsys,
        ino: u32,
        flags: c_int,
        buffer: *mut c_char,
        callback: BlockCallback,
        private: *mut c_void,
    ) -> ErrCode;

    pub fn ext2fs_dirhash2(
        version: c_int,
        name: *const c_char,
        len: c_int,
        charset: *const c_void,
        hash_flags: c_int,
        seed: *const u32,
        hash: *mut u32,
        minor: *mut u32,
    ) -> ErrCode;
    pub fn ext2fs_dir_iterate2(
        fs: *mut Filsys,
        dir: u32,
        flags: c_int,
        buffer: *mut c_char,
        callback: DirCallback,
        private: *mut c_void,
    ) -> ErrCode;
    pub fn ext2fs_link(
        fs: *mut Filsys,
        dir: u32,
        name: *const c_char,
        ino: u32,
        flags: c_int,
    ) -> ErrCode;

    pub fn ext2fs_free_ext_attr(fs: *mut Filsys, ino: u32, inode: *mut c_void) -> ErrCode;
    pub fn ext2fs_xattrs_open(fs: *mut Filsys, ino: u32, handle: *mut *mut c_void) -> ErrCode;
    pub fn ext2fs_xattr_set(
        handle: *mut c_void,
        key: *const c_char,
        value: *const c_void,
        len: usize,
    ) -> ErrCode;
    pub fn ext2fs_xattrs_write(handle: *mut c_void) -> ErrCode;
    pub fn ext2fs_xattrs_close(handle: *mut *mut c_void) -> ErrCode;
}

#[link(name = "com_err")]
unsafe extern "C" {
    pub fn initialize_ext2_error_table();
    pub fn error_message(code: ErrCode) -> *const c_char;
}
