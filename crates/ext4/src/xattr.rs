//! Extended attributes, within the inode's record and in a block of their own.
//!
//! ```text
//! record   magic 0xEA020000 u32, entries, ..., values     (value offsets count from the entries)
//! block    magic u32 | references u32 | blocks u32 | hash u32 | crc32c u32 | 12 bytes
//!          entries, ..., values                           (value offsets count from the block)
//! entry    name length u8 | namespace u8 | value at u16 | value inode u32 | size u32 | hash u32
//!          name, padded to 4; four zero bytes end the list
//! ACL      version 1 u32, then per entry tag u16 | permissions u16 [| id u32 for user and group]
//! ```
//! Kernel documentation, filesystems/ext4, "Extended Attributes"; the ACL's form is in acl(5) and
//! the kernel's `posix_acl_xattr.h` for the form that programs see.

use goldleaf_block::BlockNo;
use goldleaf_tree::Xattr;

use crate::error::{Ext4Error, Result, check_sum, corrupt};
use crate::fields::Fields;
use crate::inode::{Inode, InodeNo};
use crate::volume::Volume;

const MAGIC: u32 = 0xEA02_0000;
const HEADER: usize = 32;
const ACL_ACCESS: &[u8] = b"system.posix_acl_access";
const ACL_DEFAULT: &[u8] = b"system.posix_acl_default";

/// All attributes of an inode, sorted by name.
pub(crate) fn read(volume: &Volume, inode: &Inode) -> Result<Vec<Xattr>> {
    let mut out = Vec::new();
    let record = volume.inode_bytes(inode.ino)?;
    let area = Fields(&record).slice(inode.xattr_at, record.len());
    if Fields(area).u32(0) == MAGIC {
        let area = &area[4..];
        parse(inode.ino, area, 0, &mut out)?;
    }
    if inode.xattr_block != 0 {
        let block = read_block(volume, inode)?;
        parse(inode.ino, &block, HEADER, &mut out)?;
    }
    out.sort_unstable();
    if out.windows(2).any(|pair| pair[0].name == pair[1].name) {
        return Err(corrupt(inode.ino, "attributes of different names", "one name twice"));
    }
    Ok(out)
}

/// How many inodes the block of attributes says it serves.
pub(crate) fn references(volume: &Volume, inode: &Inode) -> Result<u32> {
    Ok(Fields(&read_block(volume, inode)?).u32(4))
}

fn read_block(volume: &Volume, inode: &Inode) -> Result<std::sync::Arc<[u8]>> {
    let sb = volume.superblock();
    let at = inode.xattr_block;
    if at >= sb.blocks {
        let expected = format!("an attribute block below {}", sb.blocks);
        return Err(corrupt(inode.ino, expected, at));
    }
    let block = volume.block(BlockNo(at))?;
    let fields = Fields(&block);
    if fields.u32(0) != MAGIC || fields.u32(8) != 1 {
        let found = format!("magic {:#x}, {} blocks", fields.u32(0), fields.u32(8));
        return Err(corrupt(format!("attribute block {at}"), "one block of attributes", found));
    }
    if sb.has_metadata_csum() {
        let sum = sb.csum_seed().with(&at.to_le_bytes()).with_hole(&block, 0x10..0x14);
        check_sum(format!("attribute block {at}"), sum.0, fields.u32(0x10))?;
    }
    Ok(block)
}

/// Reads the list at `first`; values are counted from the start of `area`.
fn parse(ino: InodeNo, area: &[u8], first: usize, out: &mut Vec<Xattr>) -> Result<()> {
    let place = || format!("{ino}, attributes");
    let mut at = first;
    loop {
        let fields = Fields(area.get(at..).unwrap_or(&[]));
        if fields.u32(0) == 0 {
            return Ok(());
        }
        let name_len = usize::from(fields.u8(0));
        let length = (16 + name_len).next_multiple_of(4);
        if fields.0.len() < length {
            return Err(corrupt(place(), "an entry within its area", format!("{length} bytes")));
        }
        if fields.u32(4) != 0 {
            let what = format!("{ino} keeps an attribute in an inode (ea_inode)");
            return Err(Ext4Error::Unsupported(what));
        }
        let (start, size) = (usize::from(fields.u16(2)), fields.u32(8) as usize);
        let end = start.checked_add(size).filter(|&end| end <= area.len());
        let Some(end) = end else {
            let expected = format!("a value within {} bytes", area.len());
            return Err(corrupt(place(), expected, format!("{size} at {start}")));
        };
        let value = if size == 0 { &[] } else { &area[start..end] };
        out.push(convert(ino, fields.u8(1), fields.slice(16, 16 + name_len), value)?);
        at += length;
    }
}

fn convert(ino: InodeNo, namespace: u8, rest: &[u8], value: &[u8]) -> Result<Xattr> {
    let prefix: &[u8] = match namespace {
        1 => b"user.",
        2 if rest.is_empty() => ACL_ACCESS,
        3 if rest.is_empty() => ACL_DEFAULT,
        4 => b"trusted.",
        6 => b"security.",
        7 => b"system.",
        other => {
            let what = format!("{ino} has an attribute of namespace {other}");
            return Err(Ext4Error::Unsupported(what));
        }
    };
    if rest.contains(&0) || (rest.is_empty() && !matches!(namespace, 2 | 3)) {
        let found = format!("\"{}\"", rest.escape_ascii());
        return Err(corrupt(ino, "an attribute's name", found));
    }
    let name = [prefix, rest].concat();
    if namespace == 7 && rest == b"data" {
        return Err(Ext4Error::Unsupported(format!("{ino} uses inline data (inline_data)")));
    }
    let acl = name == ACL_ACCESS || name == ACL_DEFAULT;
    let value = if acl { acl_value(ino, value)? } else { value.to_vec() };
    Ok(Xattr { name, value })
}

/// The ACL as getxattr(2) returns it: version 2, every entry with an id.
fn acl_value(ino: InodeNo, stored: &[u8]) -> Result<Vec<u8>> {
    const USER: u16 = 2;
    const GROUP: u16 = 8;
    const WITHOUT_ID: [u16; 4] = [1, 4, 0x10, 0x20];
    let place = || format!("{ino}, access control list");
    if Fields(stored).u32(0) != 1 || stored.len() < 4 {
        return Err(corrupt(place(), "version 1", Fields(stored).u32(0)));
    }
    let mut out = 2u32.to_le_bytes().to_vec();
    let mut rest = &stored[4..];
    while !rest.is_empty() {
        let fields = Fields(rest);
        let tag = fields.u16(0);
        let named = tag == USER || tag == GROUP;
        let length = if named { 8 } else { 4 };
        if rest.len() < length || !(named || WITHOUT_ID.contains(&tag)) {
            let found = format!("tag {tag:#x} with {} bytes left", rest.len());
            return Err(corrupt(place(), "whole entries of known tags", found));
        }
        out.extend_from_slice(&rest[..4]);
        out.extend_from_slice(&if named { fields.u32(4) } else { !0 }.to_le_bytes());
        rest = &rest[length..];
    }
    Ok(out)
}

/// The block that holds an inode's attributes, if there is one.
pub(crate) fn block_of(inode: &Inode) -> Option<BlockNo> {
    (inode.xattr_block != 0).then_some(BlockNo(inode.xattr_block))
}

/// Whether two states of a block of attributes differ in nothing but the count of its owners and
/// the checksum.
pub(crate) fn same_but_references(before: &Volume, after: &Volume, block: BlockNo) -> Result<bool> {
    let (old, new) = (before.block(block)?, after.block(block)?);
    Ok(old[..4] == new[..4] && old[8..0x10] == new[8..0x10] && old[0x14..] == new[0x14..])
}
