//! Which volumes may be composed onto: an allow-list, because a feature that is not known here may
//! give any field another meaning. Field places are those of `struct ext2_super_block`.

use std::ptr::{self, NonNull};

use goldleaf_block::BLOCK_SIZE;
use goldleaf_ext4::Seed;

use super::{Geometry, Volume};
use crate::error::{ComposeError, Result};
use crate::ffi::{self, Filsys};

/// The first library whose insertion into indexed directories is right.
const OLDEST_LIBRARY: i32 = 1470;

const INODES_COUNT: usize = 0x00;
const FREE_INODES_COUNT: usize = 0x10;
const FIRST_DATA_BLOCK: usize = 0x14;
const BLOCKS_PER_GROUP: usize = 0x20;
const INODES_PER_GROUP: usize = 0x28;
const STATE: usize = 0x3A;
const INODE_SIZE: usize = 0x58;
const FEATURE_COMPAT: usize = 0x5C;
const FEATURE_INCOMPAT: usize = 0x60;
pub(super) const FEATURE_RO_COMPAT: usize = 0x64;
const UUID: usize = 0x68;
const LAST_ORPHAN: usize = 0xE8;
const HASH_SEED: usize = 0xEC;
const DEF_HASH_VERSION: usize = 0xFC;
const WANT_EXTRA_ISIZE: usize = 0x15E;
const FLAGS: usize = 0x160;
const CHECKSUM_SEED: usize = 0x270;

const STATE_VALID: u16 = 1;
const STATE_ERROR: u16 = 2;
const FLAGS_UNSIGNED_HASH: u32 = 2;
/// Bytes of the fields that `struct ext2_inode_large` has behind the first 128.
const EXTRA_ISIZE: u16 = 32;

const COMPAT_DIR_INDEX: u32 = 0x20;
/// dir_prealloc, has_journal, ext_attr, resize_inode, dir_index, sparse_super2, stable_inodes,
/// orphan_file.
const COMPAT_ALLOWED: u32 = 0x1 | 0x4 | 0x8 | 0x10 | COMPAT_DIR_INDEX | 0x200 | 0x800 | 0x1000;
const INCOMPAT_FILETYPE: u32 = 0x2;
const INCOMPAT_RECOVER: u32 = 0x4;
const INCOMPAT_EXTENTS: u32 = 0x40;
const INCOMPAT_CSUM_SEED: u32 = 0x2000;
/// What only files use that validation refuses: encrypt, casefold.
const INCOMPAT_UNUSED: u32 = 0x10000 | 0x20000;
/// filetype, meta_bg, extents, 64bit, flex_bg, metadata_csum_seed, large_dir.
const INCOMPAT_ALLOWED: u32 = INCOMPAT_FILETYPE
    | 0x10
    | INCOMPAT_EXTENTS
    | 0x80
    | 0x200
    | INCOMPAT_CSUM_SEED
    | 0x4000
    | INCOMPAT_UNUSED;
pub(super) const RO_LARGE_FILE: u32 = 0x2;
const RO_GDT_CSUM: u32 = 0x10;
const RO_DIR_NLINK: u32 = 0x20;
const RO_METADATA_CSUM: u32 = 0x400;
/// sparse_super, large_file, huge_file, uninit_bg, dir_nlink, extra_isize, metadata_csum, verity.
const RO_ALLOWED: u32 =
    0x1 | RO_LARGE_FILE | 0x8 | RO_GDT_CSUM | RO_DIR_NLINK | 0x40 | RO_METADATA_CSUM | 0x8000;

pub(super) fn check_library() -> Result<()> {
    // SAFETY: both pointers may be null.
    let version = unsafe { ffi::ext2fs_get_library_version(ptr::null_mut(), ptr::null_mut()) };
    // The number has two digits for the minor version: 1.47.0 is 1470 or 147.
    if version < OLDEST_LIBRARY && !(OLDEST_LIBRARY / 10..1000).contains(&version) {
        return Err(ComposeError::Refused(format!(
            "libext2fs {version} is too old, 1.47 is needed"
        )));
    }
    Ok(())
}

/// Reads what does not change.
pub(super) fn geometry(fs: NonNull<Filsys>) -> Geometry {
    let ro = u32_at(fs, FEATURE_RO_COMPAT);
    let inode_size = usize::from(u16_at(fs, INODE_SIZE));
    let room = (inode_size as u16).saturating_sub(128);
    let wanted = u16_at(fs, WANT_EXTRA_ISIZE).max(EXTRA_ISIZE);
    // SAFETY: the handle is live.
    let (groups, blocks) = unsafe {
        let fs = fs.as_ptr();
        ((*fs).group_desc_count, ffi::ext2fs_blocks_count((*fs).superblock))
    };
    // SAFETY: the handle is live and the group is one of its groups.
    let table = |group| unsafe { ffi::ext2fs_inode_table_loc(fs.as_ptr(), group) };
    Geometry {
        blocks,
        first_block: u64::from(u32_at(fs, FIRST_DATA_BLOCK)),
        inode_size,
        extra_isize: wanted.min(room),
        inodes: u32_at(fs, INODES_COUNT),
        inodes_per_group: u32_at(fs, INODES_PER_GROUP),
        blocks_per_group: u64::from(u32_at(fs, BLOCKS_PER_GROUP)).max(1),
        groups,
        inode_tables: (0..groups).map(table).collect(),
        seed: (ro & RO_METADATA_CSUM != 0).then(|| seed(fs)),
        has_group_checksums: ro & (RO_METADATA_CSUM | RO_GDT_CSUM) != 0,
        has_dir_index: u32_at(fs, FEATURE_COMPAT) & COMPAT_DIR_INDEX != 0,
        has_dir_nlink: ro & RO_DIR_NLINK != 0,
        hash_version: u16_at(fs, DEF_HASH_VERSION) as u8,
        hash_seed: std::array::from_fn(|index| u32_at(fs, HASH_SEED + 4 * index)),
        unsigned_hash: u32_at(fs, FLAGS) & FLAGS_UNSIGNED_HASH != 0,
    }
}

fn seed(fs: NonNull<Filsys>) -> Seed {
    if u32_at(fs, FEATURE_INCOMPAT) & INCOMPAT_CSUM_SEED != 0 {
        return Seed(u32_at(fs, CHECKSUM_SEED));
    }
    let mut uuid = [0; 16];
    for (index, word) in uuid.chunks_exact_mut(4).enumerate() {
        word.copy_from_slice(&u32_at(fs, UUID + 4 * index).to_le_bytes());
    }
    Seed::of_volume(&uuid)
}

/// Inodes that are free now.
pub(super) fn free_inodes(fs: NonNull<Filsys>) -> u32 {
    u32_at(fs, FREE_INODES_COUNT)
}

/// Says how many inodes are free now.
pub(super) fn set_free_inodes(fs: NonNull<Filsys>, free: u32) {
    // SAFETY: the superblock is 1024 bytes and lives as long as the handle.
    unsafe {
        let field = (*fs.as_ptr()).superblock.cast::<u8>().add(FREE_INODES_COUNT);
        field.cast::<u32>().write_unaligned(free);
    }
}

/// Refuses a volume that is not clean, or not of a known kind.
pub(super) fn check(volume: &Volume, base_blocks: u64) -> Result<()> {
    let fs = volume.fs;
    let refuse = |reason: String| Err(ComposeError::Refused(reason));
    // SAFETY: the handle is live.
    let block_size = unsafe { u64::from((*fs.as_ptr()).blocksize) };
    let blocks = volume.geometry.blocks;
    if block_size != BLOCK_SIZE {
        return refuse(format!("its blocks are of {block_size} bytes, 4096 are needed"));
    }
    if blocks > base_blocks {
        return refuse(format!("it has {blocks} blocks on a device of {base_blocks}"));
    }
    check_state(fs)?;
    check_features(fs)
}

fn check_state(fs: NonNull<Filsys>) -> Result<()> {
    let state = u16_at(fs, STATE);
    let reason = if u32_at(fs, FEATURE_INCOMPAT) & INCOMPAT_RECOVER != 0 {
        "its journal must be replayed first"
    } else if state & STATE_ERROR != 0 {
        "it is marked as having errors"
    } else if state & STATE_VALID == 0 {
        "it was not unmounted"
    } else if u32_at(fs, LAST_ORPHAN) != 0 {
        "it has orphan inodes"
    } else {
        return Ok(());
    };
    Err(ComposeError::Refused(reason.into()))
}

fn check_features(fs: NonNull<Filsys>) -> Result<()> {
    for (set, place, allowed) in [
        ("compatible", FEATURE_COMPAT, COMPAT_ALLOWED),
        ("incompatible", FEATURE_INCOMPAT, INCOMPAT_ALLOWED),
        ("read-only compatible", FEATURE_RO_COMPAT, RO_ALLOWED),
    ] {
        let unknown = u32_at(fs, place) & !allowed;
        if unknown != 0 {
            let reason = format!("its {set} features {unknown:#x} are not supported");
            return Err(ComposeError::Refused(reason));
        }
    }
    let needed = INCOMPAT_FILETYPE | INCOMPAT_EXTENTS;
    if u32_at(fs, FEATURE_INCOMPAT) & needed != needed {
        return Err(ComposeError::Refused("it has no extents or no file types: not ext4".into()));
    }
    Ok(())
}

fn u32_at(fs: NonNull<Filsys>, place: usize) -> u32 {
    u32::from(u16_at(fs, place)) | u32::from(u16_at(fs, place + 2)) << 16
}

fn u16_at(fs: NonNull<Filsys>, place: usize) -> u16 {
    // SAFETY: the superblock is 1024 bytes, lives as long as the handle, and `place` is one of the
    // constants above, all below 1022.
    unsafe {
        let superblock = (*fs.as_ptr()).superblock.cast::<u8>();
        superblock.add(place).cast::<u16>().read_unaligned()
    }
}
