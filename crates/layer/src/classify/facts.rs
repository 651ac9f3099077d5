//! What classification must be told about a guest.

use goldleaf_tree::{Change, GuestPath, NodeKind, Xattr};

use crate::{Digest, Kind};

/// Which of the layers below the private ones has a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The golden image.
    Image,
    /// The apps layer of this name.
    Apps(String),
}

/// What the layers below the private ones have at a path. Numbers of owners are those of the volume
/// as it was composed for the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Below {
    /// Who has it there.
    pub source: Source,
    /// Its kind.
    pub kind: NodeKind,
    /// The lower 12 bits of `st_mode`.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// As [`goldleaf_tree::Attrs::flags`].
    pub flags: u32,
    /// Extended attributes, sorted by name.
    pub xattrs: Vec<Xattr>,
}

/// A package of the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageRef {
    /// `name`, or `name:arch` where the package database says so.
    pub name: String,
    /// The user installed it, or changed its version: the layers below have it not, or another one.
    pub user: bool,
}

/// What classification must be told about a guest. Paths are those of the volume, so that links of
/// the merged `/usr` are resolved: what a package lists as `/lib/x` is asked for as `/usr/lib/x`.
pub trait Facts {
    /// What the layers below the private ones have at this path.
    fn below(&self, path: &GuestPath) -> Option<Below>;
    /// Digest of what they have there: the content of a file, the target of a link.
    fn below_digest(&self, path: &GuestPath) -> Option<Digest>;
    /// Digest of what a `Put` has there now; `None` if it cannot be told.
    fn digest(&self, change: &Change) -> Option<Digest>;
    /// The package that owns a path at the session's end. Packages share directories: one of the
    /// image's that lists a directory goes before one of the user's that does. For a path that is
    /// gone: the one that owned it in the layers below, if that is still installed.
    fn package(&self, path: &GuestPath) -> Option<PackageRef>;
    /// The installed package of that name, which may be `name:arch`.
    fn package_named(&self, name: &str) -> Option<PackageRef>;
    /// The private layer that had an entry for the path before the session.
    fn existing(&self, path: &GuestPath) -> Option<Kind>;
    /// Whether a package declares the path as configuration that a person may edit.
    fn is_conffile(&self, path: &GuestPath) -> bool;
}
