//! The structures declared by hand against the C compiler's view of the library's headers.

use std::fmt::Write as _;
use std::mem::{offset_of, size_of};
use std::process::Command;

#[allow(dead_code, unsafe_code, missing_docs)]
#[path = "../../src/ffi.rs"]
mod ffi;

macro_rules! rows {
    ($c:literal, $rust:ty, $($field:ident => $name:literal),+ $(,)?) => {
        vec![$(($c, $name, offset_of!($rust, $field))),+]
    };
}

fn rows() -> Vec<(&'static str, &'static str, usize)> {
    let mut rows = rows!(
        "struct struct_ext2_filsys", ffi::Filsys,
        magic => "magic", io => "io", flags => "flags", superblock => "super",
        blocksize => "blocksize", group_desc_count => "group_desc_count",
        inode_map => "inode_map", block_map => "block_map", callbacks => "get_blocks",
        badblocks => "badblocks", orig_super => "orig_super", now => "now",
    );
    rows.extend(rows!(
        "struct struct_io_channel", ffi::IoChannel,
        magic => "magic", manager => "manager", name => "name", block_size => "block_size",
        read_error => "read_error", refcount => "refcount", flags => "flags",
        private_data => "private_data", app_data => "app_data", align => "align",
    ));
    rows.extend(rows!(
        "struct struct_io_manager", ffi::IoManager,
        magic => "magic", name => "name", open => "open", close => "close",
        set_blksize => "set_blksize", read_blk => "read_blk", write_blk => "write_blk",
        flush => "flush", write_byte => "write_byte", set_option => "set_option",
        get_stats => "get_stats", read_blk64 => "read_blk64", write_blk64 => "write_blk64",
        discard => "discard", cache_readahead => "cache_readahead", zeroout => "zeroout",
        reserved => "reserved",
    ));
    rows.extend(rows!(
        "struct ext2_dir_entry_2", ffi::DirEntryHead,
        inode => "inode", rec_len => "rec_len", name_len => "name_len",
        file_type => "file_type",
    ));
    rows
}

#[test]
fn structures_are_laid_out_as_in_c() {
    let mut source = String::from("#include <stddef.h>\n#include <ext2fs/ext2fs.h>\n");
    for (structure, field, offset) in rows() {
        writeln!(
            source,
            "_Static_assert(offsetof({structure}, {field}) == {offset}, \"{field}\");"
        )
        .expect("a string");
    }
    for (structure, size) in [
        ("struct struct_io_channel", size_of::<ffi::IoChannel>()),
        ("struct struct_io_manager", size_of::<ffi::IoManager>()),
        ("errcode_t", size_of::<ffi::ErrCode>()),
    ] {
        writeln!(source, "_Static_assert(sizeof({structure}) == {size}, \"{structure}\");")
            .expect("a string");
    }
    for (name, value) in [
        ("EXT2_ET_SHORT_READ", ffi::ET_SHORT_READ),
        ("EXT2_ET_SHORT_WRITE", ffi::ET_SHORT_WRITE),
        ("EXT2_ET_DIR_NO_SPACE", ffi::ET_DIR_NO_SPACE),
        ("EXT2_ET_EA_NO_SPACE", ffi::ET_EA_NO_SPACE),
        ("EXT2_ET_MAGIC_IO_CHANNEL", ffi::ET_MAGIC_IO_CHANNEL),
        ("EXT2_ET_MAGIC_IO_MANAGER", ffi::ET_MAGIC_IO_MANAGER),
        ("EXT2_FLAG_RW", i64::from(ffi::FLAG_RW)),
        ("EXT2_FLAG_CHANGED", i64::from(ffi::FLAG_CHANGED)),
        ("EXT2_FLAG_DIRTY", i64::from(ffi::FLAG_DIRTY)),
        ("EXT2_FLAG_MASTER_SB_ONLY", i64::from(ffi::FLAG_MASTER_SB_ONLY)),
        ("EXT2_FLAG_64BITS", i64::from(ffi::FLAG_64BITS)),
    ] {
        writeln!(source, "_Static_assert({name} == {value}, \"{name}\");").expect("a string");
    }
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("layout.c");
    std::fs::write(&file, source).expect("written");
    let status = Command::new("cc").arg("-fsyntax-only").arg(&file).status().expect("a C compiler");
    assert!(status.success(), "the layouts differ");
}
