//! Directories: lists of names, read linearly whether they are hashed or not.
//!
//! ```text
//! block    records back to back, filling it; with checksums the last is the 12-byte tail
//! record   inode u32 | length u16 | name length u8 | type u8 | name, padded
//! tail     0 u32 | 12 u16 | 0 u8 | 0xDE u8 | crc32c u32
//! htree    block 0 is `.`, `..` and a root; inner nodes are one empty record over the whole block.
//!          their crc32c covers the used part and stands behind the last place for a record
//! ```
//! Kernel documentation, filesystems/ext4, "Directory Entries". The kernel lays a hash tree so
//! that linear readers see a plain directory; its hashes are not needed and are not trusted.

use std::collections::HashMap;

use goldleaf_block::{BLOCK_SIZE, BlockNo};

use crate::error::{Ext4Error, Result, check_sum, corrupt};
use crate::extent::read_map;
use crate::fields::Fields;
use crate::inode::{FLAG_INDEX, Inode, InodeNo};
use crate::volume::Volume;

const BLOCK: usize = BLOCK_SIZE as usize;
/// Blocks that are read at once.
const CHUNK: u64 = 16;
/// Largest directory in blocks: 1 GiB, more than a hash tree of two levels can hold.
const BLOCKS_MAX: u64 = 1 << 18;

/// Longest directory of which an index is kept in memory, in bytes; some 30,000 names.
const INDEXED_MAX: u64 = 1 << 20;

/// The names of a directory, `.` and `..` excepted.
pub(crate) type Names = HashMap<Box<[u8]>, InodeNo>;

/// A record as it stands in its block; `.` and `..` are among them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawEntry<'a> {
    pub ino: InodeNo,
    pub name: &'a [u8],
    /// 1 file, 2 directory, 3 character device, 4 block device, 5 pipe, 6 socket, 7 link.
    pub file_type: u8,
}

impl RawEntry<'_> {
    /// Whether this is `.` or `..`.
    #[inline]
    pub fn is_dot(&self) -> bool {
        matches!(self.name, b"." | b"..")
    }
}

/// Whether to go on with a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Next,
    Stop,
}

/// Calls `each` for every record in use, `.` and `..` included.
pub(crate) fn for_each(
    volume: &Volume,
    dir: &Inode,
    each: &mut dyn FnMut(RawEntry<'_>) -> Result<Step>,
) -> Result<()> {
    if !dir.is_dir() {
        return Err(corrupt(dir.ino, "a directory", format!("mode {:#o}", dir.mode)));
    }
    dir.check()?;
    let blocks = dir.size / BLOCK_SIZE;
    if dir.size % BLOCK_SIZE != 0 || blocks == 0 || blocks > BLOCKS_MAX {
        let expected = format!("1 to {BLOCKS_MAX} whole blocks of directory");
        return Err(corrupt(dir.ino, expected, format!("{} bytes", dir.size)));
    }
    let mut next = 0;
    let mut buf = Vec::new();
    for extent in read_map(volume, dir)?.content(dir.size) {
        if extent.file_block != next {
            break;
        }
        let mut done = 0;
        while done < extent.blocks {
            let count = (extent.blocks - done).min(CHUNK);
            let at = BlockNo(extent.volume_block + done);
            let last;
            let bytes = if blocks == 1 {
                last = volume.names_block(at)?;
                &last[..]
            } else {
                buf.resize(count as usize * BLOCK, 0);
                volume.read_blocks(at, &mut buf)?;
                &buf[..]
            };
            for (index, block) in (next + done..).zip(bytes.chunks_exact(BLOCK)) {
                let reader = Reader { volume, dir, index, block };
                if reader.run(each)? == Step::Stop {
                    return Ok(());
                }
            }
            done += count;
        }
        next += extent.blocks;
    }
    if next != blocks {
        return Err(corrupt(
            dir.ino,
            format!("{blocks} blocks of directory"),
            format!("a hole at {next}"),
        ));
    }
    Ok(())
}

struct Reader<'a> {
    volume: &'a Volume,
    dir: &'a Inode,
    index: u64,
    block: &'a [u8],
}

impl Reader<'_> {
    fn run(&self, each: &mut dyn FnMut(RawEntry<'_>) -> Result<Step>) -> Result<Step> {
        if self.volume.superblock().has_metadata_csum() {
            self.verify()?;
        }
        let mut at = 0;
        let mut position = 0;
        while at < BLOCK {
            let (entry, length) = self.record(at, position)?;
            if entry.ino.0 != 0 && each(entry)? == Step::Stop {
                return Ok(Step::Stop);
            }
            at += length;
            position += 1;
        }
        Ok(Step::Next)
    }

    fn record(&self, at: usize, position: u32) -> Result<(RawEntry<'_>, usize)> {
        let bytes = Fields(self.block).slice(at, BLOCK);
        let fields = Fields(bytes);
        let (ino, length) = (fields.u32(0), usize::from(fields.u16(4)));
        let name_len = usize::from(fields.u8(6));
        let needed = if ino == 0 { 8 } else { (8 + name_len).next_multiple_of(4) };
        if length % 4 != 0 || length < needed || length > bytes.len() {
            let expected = format!("a record of {needed} to {} bytes at {at}", BLOCK - at);
            return Err(self.wrong(expected, length));
        }
        let (name, file_type) = (fields.slice(8, 8 + name_len), fields.u8(7));
        let entry = RawEntry { ino: InodeNo(ino), name, file_type };
        if ino != 0 {
            self.check_entry(&entry, position)?;
        }
        Ok((entry, length))
    }

    fn check_entry(&self, entry: &RawEntry<'_>, position: u32) -> Result<()> {
        let inodes = self.volume.superblock().inodes;
        if entry.ino.0 > inodes {
            return Err(self.wrong(format!("an inode of at most {inodes}"), entry.ino));
        }
        let wanted: Option<&[u8]> = match (self.index, position) {
            (0, 0) => Some(b"."),
            (0, 1) => Some(b".."),
            _ => None,
        };
        let sound = match wanted {
            Some(name) => entry.name == name,
            None => is_name(entry.name),
        };
        if !sound {
            let expected = wanted.map_or("a name".into(), String::from_utf8_lossy);
            return Err(self.wrong(expected, format!("\"{}\"", entry.name.escape_ascii())));
        }
        if wanted == Some(b".") && entry.ino != self.dir.ino {
            return Err(self.wrong(format!("`.` to be {}", self.dir.ino), entry.ino));
        }
        Ok(())
    }

    fn verify(&self) -> Result<()> {
        let fields = Fields(self.block);
        let place = || format!("{}, directory block {}", self.dir.ino, self.index);
        let seed = self.dir.seed(self.volume.superblock());
        if let Some(at) = self.index_node() {
            let (limit, count) = (usize::from(fields.u16(at)), usize::from(fields.u16(at + 2)));
            let tail = at + limit * 8;
            if count > limit || tail + 8 > BLOCK {
                return Err(self.wrong("a hash tree node", format!("{count} of {limit}")));
            }
            let sum = seed.with(fields.slice(0, at + count * 8));
            let sum = sum.with(fields.slice(tail, tail + 4)).with_u32(0);
            return check_sum(place(), sum.0, fields.u32(tail + 4));
        }
        let tail = Fields(fields.slice(BLOCK - 12, BLOCK));
        if tail.u32(0) != 0 || tail.u16(4) != 12 || tail.u8(6) != 0 || tail.u8(7) != 0xDE {
            return Err(self.wrong("a checksum's tail", format!("{:x?}", tail.0)));
        }
        check_sum(place(), seed.with(fields.slice(0, BLOCK - 12)).0, tail.u32(8))
    }

    /// Where the hash tree's records begin, if this block is of the tree and not of names.
    fn index_node(&self) -> Option<usize> {
        let fields = Fields(self.block);
        if self.dir.flags & FLAG_INDEX == 0 {
            return None;
        }
        let first = usize::from(fields.u16(4));
        if first == BLOCK && fields.u32(0) == 0 {
            return Some(8);
        }
        let root = first == 12 && usize::from(fields.u16(16)) == BLOCK - 12;
        (self.index == 0 && root).then_some(32)
    }

    fn wrong(&self, expected: impl ToString, found: impl ToString) -> Ext4Error {
        let place = format!("{}, directory block {}", self.dir.ino, self.index);
        corrupt(place, expected.to_string(), found.to_string())
    }
}

/// Whether bytes can name something in a directory.
fn is_name(name: &[u8]) -> bool {
    // No early end: so it is done in wide steps.
    let barred = name.iter().fold(false, |found, &byte| found | (byte == b'/') | (byte == 0));
    !barred && !matches!(name, b"" | b"." | b"..")
}

/// Finds one name; `..` is allowed.
pub(crate) fn lookup(volume: &Volume, dir: &Inode, name: &[u8]) -> Result<Option<InodeNo>> {
    if dir.size > BLOCK_SIZE && dir.size <= INDEXED_MAX && name != b".." {
        return Ok(volume.names(dir)?.get(name).copied());
    }
    let mut found = None;
    for_each(volume, dir, &mut |entry| {
        if entry.name != name {
            return Ok(Step::Next);
        }
        found = Some(entry.ino);
        Ok(Step::Stop)
    })?;
    Ok(found)
}

/// An index of a directory's names. Of two records with one name the first counts, as in a search.
pub(crate) fn index(volume: &Volume, dir: &Inode) -> Result<Names> {
    let mut names = Names::new();
    for_each(volume, dir, &mut |entry| {
        if !entry.is_dot() {
            names.entry(entry.name.into()).or_insert(entry.ino);
        }
        Ok(Step::Next)
    })?;
    Ok(names)
}

/// All names but `.` and `..`, sorted.
pub(crate) fn list(volume: &Volume, dir: &Inode) -> Result<Vec<Listed>> {
    let mut out = as_stored(volume, dir)?;
    out.sort_unstable();
    Ok(out)
}

/// All names but `.` and `..`, as they stand.
pub(crate) fn as_stored(volume: &Volume, dir: &Inode) -> Result<Vec<Listed>> {
    let mut out = Vec::new();
    for_each(volume, dir, &mut |entry| {
        if !entry.is_dot() {
            let name = entry.name.to_vec();
            out.push(Listed { name, ino: entry.ino, file_type: entry.file_type });
        }
        Ok(Step::Next)
    })?;
    Ok(out)
}

/// An owned record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Listed {
    pub name: Vec<u8>,
    pub ino: InodeNo,
    pub file_type: u8,
}
