//! An entry within a directory object.
//!
//! ```text
//!   entry  := flags:u8 [package:bytes] [origin:hash] [digest:hash] [node]
//!             flags: 1 = node (else whiteout), 2 = package, 4 = origin, 8 = only the content is
//!             meant, 16 = digest
//!   node   := kind:u8 [major:int minor:int] mode:int user:owner group:owner
//!             mtime:time ctime:time crtime:time flags:int xattrs:list(name:bytes value:bytes)
//!             acl-names:list(number:int owner) size:int extents:list(extent) target:bytes
//!             link:opt(int)
//!   kind   := 0 directory | 1 file | 2 link | 3 char device | 4 block device | 5 fifo | 6 socket
//!   owner  := 0 id:int | 1 name:bytes | 2 name:bytes index:int
//!   time   := secs:signed nanos:int                             signed: zigzag, then int
//!   extent := skip:int blocks:int blob:hash blob-block:int      skip: from the end of the last one
//! ```

use goldleaf_tree::{NodeKind, Timestamp, Xattr};

use super::ManifestError;
use super::codec::{Decoder, Encoder};
use super::content::check_content;
use crate::{Content, ContentExtent, Entry, EntryAttrs, EntryNode, Owner};

const HAS_NODE: u8 = 1;
const HAS_PACKAGE: u8 = 2;
const HAS_ORIGIN: u8 = 4;
const IS_EDIT: u8 = 8;
const HAS_DIGEST: u8 = 16;

pub(super) fn encode_entry(out: &mut Encoder, entry: &Entry) {
    let mut flags = 0;
    for (flag, set) in [
        (HAS_NODE, entry.node != EntryNode::Whiteout),
        (HAS_PACKAGE, entry.package.is_some()),
        (HAS_ORIGIN, entry.origin.is_some()),
        (IS_EDIT, entry.edit),
        (HAS_DIGEST, entry.digest.is_some()),
    ] {
        flags |= if set { flag } else { 0 };
    }
    out.byte(flags);
    if let Some(package) = &entry.package {
        out.bytes(package.as_bytes());
    }
    if let Some(origin) = &entry.origin {
        out.hash(origin);
    }
    if let Some(digest) = &entry.digest {
        out.hash(digest);
    }
    if let EntryNode::Node { kind, attrs, xattrs, acl_names, content, target, link } = &entry.node {
        encode_kind(out, *kind);
        encode_attrs(out, attrs);
        out.int(xattrs.len() as u64);
        for xattr in xattrs {
            out.bytes(&xattr.name);
            out.bytes(&xattr.value);
        }
        out.int(acl_names.len() as u64);
        for (number, owner) in acl_names {
            out.int(u64::from(*number));
            encode_owner(out, owner);
        }
        encode_content(out, content);
        out.bytes(target);
        out.option(link.as_ref(), |out, link| out.int(*link));
    }
}

pub(super) fn decode_entry(from: &mut Decoder) -> Result<Entry, ManifestError> {
    let flags = from.byte()?;
    if flags & !(HAS_NODE | HAS_PACKAGE | HAS_ORIGIN | IS_EDIT | HAS_DIGEST) != 0 {
        return Err(from.corrupt("flags of an entry", flags));
    }
    let package = if flags & HAS_PACKAGE != 0 { Some(from.text()?) } else { None };
    let origin = if flags & HAS_ORIGIN != 0 { Some(from.hash()?) } else { None };
    let digest = if flags & HAS_DIGEST != 0 { Some(from.hash()?) } else { None };
    let node = if flags & HAS_NODE != 0 { decode_node(from)? } else { EntryNode::Whiteout };
    Ok(Entry { node, package, origin, digest, edit: flags & IS_EDIT != 0 })
}

fn decode_node(from: &mut Decoder) -> Result<EntryNode, ManifestError> {
    Ok(EntryNode::Node {
        kind: decode_kind(from)?,
        attrs: decode_attrs(from)?,
        xattrs: from.list(|from| {
            Ok(Xattr { name: from.bytes()?.to_vec(), value: from.bytes()?.to_vec() })
        })?,
        acl_names: from.list(|from| Ok((from.int32()?, decode_owner(from)?)))?,
        content: decode_content(from)?,
        target: from.bytes()?.to_vec(),
        link: from.option(Decoder::int)?,
    })
}

fn encode_kind(out: &mut Encoder, kind: NodeKind) {
    let (number, device) = match kind {
        NodeKind::Directory => (0, None),
        NodeKind::File => (1, None),
        NodeKind::Symlink => (2, None),
        NodeKind::CharDevice { major, minor } => (3, Some((major, minor))),
        NodeKind::BlockDevice { major, minor } => (4, Some((major, minor))),
        NodeKind::Fifo => (5, None),
        NodeKind::Socket => (6, None),
    };
    out.byte(number);
    if let Some((major, minor)) = device {
        out.int(u64::from(major));
        out.int(u64::from(minor));
    }
}

fn decode_kind(from: &mut Decoder) -> Result<NodeKind, ManifestError> {
    Ok(match from.byte()? {
        0 => NodeKind::Directory,
        1 => NodeKind::File,
        2 => NodeKind::Symlink,
        3 => NodeKind::CharDevice { major: from.int32()?, minor: from.int32()? },
        4 => NodeKind::BlockDevice { major: from.int32()?, minor: from.int32()? },
        5 => NodeKind::Fifo,
        6 => NodeKind::Socket,
        other => return Err(from.corrupt("the kind of a node", other)),
    })
}

fn encode_attrs(out: &mut Encoder, attrs: &EntryAttrs) {
    out.int(u64::from(attrs.mode));
    encode_owner(out, &attrs.user);
    encode_owner(out, &attrs.group);
    for time in [attrs.mtime, attrs.ctime, attrs.crtime] {
        out.signed(time.secs);
        out.int(u64::from(time.nanos));
    }
    out.int(u64::from(attrs.flags));
}

fn decode_attrs(from: &mut Decoder) -> Result<EntryAttrs, ManifestError> {
    Ok(EntryAttrs {
        mode: from.int_to(u64::from(u16::MAX))? as u16,
        user: decode_owner(from)?,
        group: decode_owner(from)?,
        mtime: decode_time(from)?,
        ctime: decode_time(from)?,
        crtime: decode_time(from)?,
        flags: from.int32()?,
    })
}

fn decode_time(from: &mut Decoder) -> Result<Timestamp, ManifestError> {
    Ok(Timestamp { secs: from.signed()?, nanos: from.int32()? })
}

fn encode_owner(out: &mut Encoder, owner: &Owner) {
    match owner {
        Owner::Id(id) => {
            out.byte(0);
            out.int(u64::from(*id));
        }
        Owner::Name(name) => {
            out.byte(1);
            out.bytes(name.as_bytes());
        }
        Owner::SubId { name, index } => {
            out.byte(2);
            out.bytes(name.as_bytes());
            out.int(u64::from(*index));
        }
    }
}

fn decode_owner(from: &mut Decoder) -> Result<Owner, ManifestError> {
    Ok(match from.byte()? {
        0 => Owner::Id(from.int32()?),
        1 => Owner::Name(from.text()?),
        2 => Owner::SubId { name: from.text()?, index: from.int32()? },
        other => return Err(from.corrupt("the form of an owner", other)),
    })
}

/// The content was checked when it was put into the editor.
fn encode_content(out: &mut Encoder, content: &Content) {
    out.int(content.size);
    out.int(content.extents.len() as u64);
    let mut end = 0;
    for extent in &content.extents {
        out.int(extent.file_block - end);
        out.int(extent.blocks);
        out.hash(&extent.blob);
        out.int(extent.blob_block);
        end = extent.file_block + extent.blocks;
    }
}

fn decode_content(from: &mut Decoder) -> Result<Content, ManifestError> {
    let size = from.int()?;
    let mut end = 0u64;
    let extents = from.list(|from| {
        let file_block = end.saturating_add(from.int()?);
        let blocks = from.int()?;
        end = file_block.saturating_add(blocks);
        Ok(ContentExtent { file_block, blocks, blob: from.hash()?, blob_block: from.int()? })
    })?;
    let content = Content { size, extents };
    match check_content(&content) {
        Ok(()) => Ok(content),
        Err(reason) => Err(from.corrupt("runs within the file", reason)),
    }
}
