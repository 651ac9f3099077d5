//! Owners inside POSIX ACLs, by name.
//!
//! ```text
//!   value (getxattr(2), version 2):   u32 version = 2 · entries { u16 tag · u16 perm · u32 id }
//! ```
//! All little endian (Linux' `include/uapi/linux/posix_acl_xattr.h`). Only the tags `ACL_USER` and
//! `ACL_GROUP` carry an id. A layer keeps such a value with the ids replaced by indices into a list
//! of owners: user 101 and group 101 may be two different names, and one index is one of them.

use goldleaf_tree::Xattr;

use super::super::MergeError;
use super::Names;
use crate::Owner;

const HEADER: usize = 4;
const ENTRY: usize = 8;
const VERSION: u32 = 2;
const TAG_USER: u16 = 0x02;
const TAG_GROUP: u16 = 0x08;
/// `nobody` and `nogroup`: who gets an entry whose owner the stack does not have.
const NOBODY: u32 = 65534;

fn is_acl(xattr: &Xattr) -> bool {
    xattr.name == b"system.posix_acl_access" || xattr.name == b"system.posix_acl_default"
}

fn check(xattr: &Xattr) -> Result<(), MergeError> {
    let value = &xattr.value;
    let version = value.first_chunk::<4>().map(|bytes| u32::from_le_bytes(*bytes));
    if version == Some(VERSION) && (value.len() - HEADER) % ENTRY == 0 {
        return Ok(());
    }
    Err(MergeError::Malformed {
        place: String::from_utf8_lossy(&xattr.name).into_owned(),
        expected: "version 2 and entries of 8 bytes".to_owned(),
        found: format!("version {version:?}, {} bytes", value.len()),
    })
}

/// Calls `change(tag, id)` on each entry with an id, and puts runs of such entries in order of id.
fn map_ids(value: &mut [u8], mut change: impl FnMut(u16, u32) -> u32) {
    let mut entries: Vec<(u16, u32, [u8; ENTRY])> = Vec::new();
    for bytes in value[HEADER..].chunks_exact(ENTRY) {
        let tag = u16::from_le_bytes([bytes[0], bytes[1]]);
        let mut id = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        if tag == TAG_USER || tag == TAG_GROUP {
            id = change(tag, id);
        }
        entries.push((tag, id, [bytes[0], bytes[1], bytes[2], bytes[3], 0, 0, 0, 0]));
    }
    entries.sort_by_key(|(tag, id, _)| (*tag, *id));
    for (bytes, (_, id, head)) in value[HEADER..].chunks_exact_mut(ENTRY).zip(entries) {
        bytes.copy_from_slice(&head);
        bytes[4..].copy_from_slice(&id.to_le_bytes());
    }
}

/// Replaces the ids in all ACLs among `xattrs` by indices, and returns what each index stands for:
/// the `acl_names` of an entry. One list serves the access and the default ACL of a node.
pub fn acl_to_names(xattrs: &mut [Xattr], names: &Names) -> Result<Vec<(u32, Owner)>, MergeError> {
    let mut owners: Vec<(u16, Owner)> = Vec::new();
    let mut index = std::collections::BTreeMap::new();
    for xattr in xattrs.iter_mut().filter(|xattr| is_acl(xattr)) {
        check(xattr)?;
        map_ids(&mut xattr.value, |tag, id| {
            let owner =
                if tag == TAG_USER { names.owner_of_uid(id) } else { names.owner_of_gid(id) };
            *index.entry((tag, owner.clone())).or_insert_with(|| {
                owners.push((tag, owner));
                owners.len() as u32 - 1
            })
        });
    }
    Ok((0..).zip(owners.into_iter().map(|(_, owner)| owner)).collect())
}

/// Undoes [`acl_to_names`] for another stack. Returns the owners that this stack does not have;
/// their entries go to nobody.
pub fn acl_to_ids(
    xattrs: &mut [Xattr],
    acl_names: &[(u32, Owner)],
    names: &Names,
) -> Result<Vec<Owner>, MergeError> {
    let owners: std::collections::BTreeMap<u32, &Owner> =
        acl_names.iter().map(|(index, owner)| (*index, owner)).collect();
    let mut unknown = Vec::new();
    for xattr in xattrs.iter_mut().filter(|xattr| is_acl(xattr)) {
        check(xattr)?;
        map_ids(&mut xattr.value, |tag, index| {
            let Some(&owner) = owners.get(&index) else { return NOBODY };
            let id = if tag == TAG_USER { names.uid_of(owner) } else { names.gid_of(owner) };
            id.unwrap_or_else(|| {
                unknown.push(owner.clone());
                NOBODY
            })
        });
    }
    unknown.sort();
    unknown.dedup();
    Ok(unknown)
}
