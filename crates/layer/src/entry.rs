//! What a layer says about one path.

use std::fmt;

use goldleaf_store::Digest;
use goldleaf_tree::{NodeKind, Timestamp, Xattr};
use serde::{Deserialize, Serialize};

/// The kinds of layer above the golden image. At most one of a desktop's private layers (all but
/// `Apps`) has an entry for any one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// What IT delivers to a group; a desktop has any number of these, in order.
    Apps,
    /// What the user installed.
    UserApps,
    /// Documents and settings: kept and backed up.
    UserData,
    /// Caches and indexes: kept on this machine, never backed up.
    Local,
    /// Machine id, host keys, secrets: kept, never rolled back, never shared.
    Identity,
}

impl Kind {
    /// The private layers of a desktop, lowest first.
    pub const PRIVATE: [Kind; 4] = [Kind::UserApps, Kind::UserData, Kind::Local, Kind::Identity];

    /// The name that rules, commands and reports use.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Apps => "apps",
            Kind::UserApps => "user-apps",
            Kind::UserData => "user-data",
            Kind::Local => "local",
            Kind::Identity => "identity",
        }
    }

    /// The kind of that name.
    pub fn parse(name: &str) -> Option<Kind> {
        [Kind::Apps, Kind::UserApps, Kind::UserData, Kind::Local, Kind::Identity]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An owner or group as a layer keeps it: by name, because numbers collide between images.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Owner {
    /// A number that no account has.
    Id(u32),
    /// An account or group by name.
    Name(String),
    /// The `index`-th id of the subordinate range (subuid(5), subgid(5)) of an account.
    SubId {
        /// The account.
        name: String,
        /// Distance from the range's start.
        index: u32,
    },
}

/// Attributes of an entry: those of [`goldleaf_tree::Attrs`] with owners by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EntryAttrs {
    /// Lower 12 bits of `st_mode`.
    pub mode: u16,
    /// Owner.
    pub user: Owner,
    /// Group.
    pub group: Owner,
    /// Time of the last change of content.
    pub mtime: Timestamp,
    /// Time of the last change of the node.
    pub ctime: Timestamp,
    /// Time of birth.
    pub crtime: Timestamp,
    /// As [`goldleaf_tree::Attrs::flags`].
    pub flags: u32,
}

/// A run of a file's content, in blocks of 4 KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ContentExtent {
    /// First block within the file.
    pub file_block: u64,
    /// Length in blocks, never 0.
    pub blocks: u64,
    /// The stored blob that holds the run: the BLAKE3 hash of its bytes.
    pub blob: Digest,
    /// First block of the run within the blob.
    pub blob_block: u64,
}

/// The content of a file: size and runs, sorted by `file_block`; what no run covers is a hole. The
/// bytes behind the end in the last block are zero.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Content {
    /// Length in bytes.
    pub size: u64,
    /// The runs.
    pub extents: Vec<ContentExtent>,
}

/// What an entry makes of its path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(
    clippy::large_enum_variant,
    reason = "whiteouts are few, and a box would cost every other entry an allocation"
)]
pub enum EntryNode {
    /// The path is gone, with everything that lower layers have below it.
    Whiteout,
    /// The path is this.
    Node {
        /// Its kind.
        kind: NodeKind,
        /// Its attributes.
        attrs: EntryAttrs,
        /// Its extended attributes; numeric ids within POSIX ACLs stand in `acl_names`.
        xattrs: Vec<Xattr>,
        /// Owners of the named entries of POSIX ACLs: (number as stored in the value, owner).
        acl_names: Vec<(u32, Owner)>,
        /// Content of a file, else empty.
        content: Content,
        /// Target of a symbolic link, else empty.
        target: Vec<u8>,
        /// Paths of one layer with the same number are one node (hard links).
        link: Option<u64>,
    },
}

/// What a layer says about one path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Entry {
    /// What the path is to be.
    pub node: EntryNode,
    /// The package that owns the path (`name` or `name:arch`), if any.
    pub package: Option<String>,
    /// Digest of what the layers below had at this path when the entry was made: the content of a
    /// file, the target of a link; `None` when there was nothing. Says whether the entry shadows
    /// something that has been fixed since. Of what has no content but a kind (a directory in whose
    /// place the entry is, a pipe): [`crate::plan::bare_digest`].
    pub origin: Option<Digest>,
    /// Digest of the entry's own content or target, where there is an origin to compare it with.
    pub digest: Option<Digest>,
    /// Only the content is meant: an edit of a file that the layers below own, whose owner and mode
    /// stay theirs.
    pub edit: bool,
}

impl Entry {
    /// Whether it makes its path a directory.
    pub fn is_directory(&self) -> bool {
        matches!(&self.node, EntryNode::Node { kind: NodeKind::Directory, .. })
    }
}
