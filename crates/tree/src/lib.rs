//! The vocabulary of files: paths, nodes, attributes, and the [`FileTree`] seam.
//!
//! A `FileTree` is an ext4 volume, later an NTFS volume or a host directory. The crates above it
//! (layers, rules, plans) never know which. Nothing here does any input or output.

mod path;
mod shown;

use serde::{Deserialize, Serialize};

pub use path::{GuestPath, PathError};
pub use shown::{is_obeyed, one_line};

/// Identifies a node within one tree: the inode number on ext4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u64);

/// A point in time as file systems keep it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Timestamp {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub secs: i64,
    /// Nanoseconds, below 1,000,000,000.
    pub nanos: u32,
}

/// What kind of thing a node is, with what is particular to that kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum NodeKind {
    /// Directory.
    Directory,
    /// Regular file.
    File,
    /// Symbolic link.
    Symlink,
    /// Character device with its numbers.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// Block device with its numbers.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// Named pipe.
    Fifo,
    /// Unix-domain socket.
    Socket,
}

/// What `stat` shows and a layer keeps. Access time is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Attrs {
    /// Permission, set-id and sticky bits: the lower 12 bits of `st_mode`.
    pub mode: u16,
    /// Numeric owner as the tree stores it.
    pub uid: u32,
    /// Numeric group as the tree stores it.
    pub gid: u32,
    /// Time of the last change of content.
    pub mtime: Timestamp,
    /// Time of the last change of the node itself.
    pub ctime: Timestamp,
    /// Time of birth; zero where the file system keeps none.
    pub crtime: Timestamp,
    /// The flags that `chattr` sets and that make sense in another file system:
    /// [`FLAG_SYNC`], [`FLAG_IMMUTABLE`], [`FLAG_APPEND`], [`FLAG_NODUMP`], [`FLAG_NOATIME`].
    pub flags: u32,
}

/// Synchronous updates (`chattr +S`), as in ext4's `i_flags`.
pub const FLAG_SYNC: u32 = 0x0000_0008;
/// Immutable (`chattr +i`).
pub const FLAG_IMMUTABLE: u32 = 0x0000_0010;
/// Append only (`chattr +a`).
pub const FLAG_APPEND: u32 = 0x0000_0020;
/// Not to be dumped (`chattr +d`).
pub const FLAG_NODUMP: u32 = 0x0000_0040;
/// No access times (`chattr +A`).
pub const FLAG_NOATIME: u32 = 0x0000_0080;
/// All flags that layers keep.
pub const FLAGS_KEPT: u32 = FLAG_SYNC | FLAG_IMMUTABLE | FLAG_APPEND | FLAG_NODUMP | FLAG_NOATIME;

/// One node of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Node {
    /// Its id in this tree.
    pub id: NodeId,
    /// Its kind.
    pub kind: NodeKind,
    /// Its attributes.
    pub attrs: Attrs,
    /// Length in bytes: of the content of a file, of the target of a link, else 0.
    pub size: u64,
    /// Number of names it has.
    pub links: u32,
    /// Distinguishes successive uses of one id, where the file system does.
    pub generation: u32,
}

/// One name in a directory; `.` and `..` are never listed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DirEntry {
    /// The name: bytes without `/` and NUL, 1 to 255 of them.
    pub name: Vec<u8>,
    /// The node that it names.
    pub id: NodeId,
}

/// One extended attribute, with its full name (`user.x`, `security.capability`, …). POSIX ACLs are
/// in the form that `getxattr(2)` returns (`system.posix_acl_access`: version 2, 8 bytes an entry,
/// little endian), not in the file system's own form.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Xattr {
    /// Full name with its namespace.
    pub name: Vec<u8>,
    /// Value.
    pub value: Vec<u8>,
}

/// A run of a file's content on its volume, in the volume's blocks of 4 KiB. Blocks of the file
/// that no extent covers are holes, and so are preallocated blocks that were never written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FileExtent {
    /// First block of the run within the file.
    pub file_block: u64,
    /// First block of the run on the volume.
    pub volume_block: u64,
    /// Length of the run in blocks, never 0.
    pub blocks: u64,
}

/// Why a tree could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// The tree's bytes contradict themselves.
    #[error("{place}: expected {expected}, found {found}")]
    Corrupt {
        /// Where: the structure and its number.
        place: String,
        /// What would have been right.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The tree uses something that is not supported.
    #[error("unsupported: {0}")]
    Unsupported(String),
    /// The device underneath failed.
    #[error("input/output: {0}")]
    Io(String),
    /// A bound on memory, time or depth was met.
    #[error("limit: {0}")]
    Limit(String),
}

/// A tree of files that can be read. Implementations check bounds everywhere: the bytes behind it
/// were written by a guest.
pub trait FileTree {
    /// The root directory.
    fn root(&self) -> NodeId;
    /// The node behind an id.
    fn node(&self, id: NodeId) -> Result<Node, TreeError>;
    /// All names in a directory, in no particular order, without `.` and `..`.
    fn entries(&self, directory: NodeId) -> Result<Vec<DirEntry>, TreeError>;
    /// One name in a directory.
    fn lookup(&self, directory: NodeId, name: &[u8]) -> Result<Option<NodeId>, TreeError>;
    /// Reads a file's content at a byte offset; returns how many bytes there were before its end.
    fn read(&self, file: NodeId, at: u64, buf: &mut [u8]) -> Result<usize, TreeError>;
    /// The target of a symbolic link.
    fn read_link(&self, link: NodeId) -> Result<Vec<u8>, TreeError>;
    /// The extended attributes, sorted by name.
    fn xattrs(&self, id: NodeId) -> Result<Vec<Xattr>, TreeError>;
    /// Where a file's content lies, sorted by `file_block`; `None` when the tree is not on a
    /// volume.
    fn extents(&self, file: NodeId) -> Result<Option<Vec<FileExtent>>, TreeError>;
}

/// The walk from the root to `path`, without following symbolic links.
pub fn resolve(tree: &dyn FileTree, path: &GuestPath) -> Result<Option<NodeId>, TreeError> {
    let mut id = tree.root();
    for name in path.components() {
        if tree.node(id)?.kind != NodeKind::Directory {
            return Ok(None);
        }
        match tree.lookup(id, name)? {
            Some(next) => id = next,
            None => return Ok(None),
        }
    }
    Ok(Some(id))
}

/// Resolves paths one after the other, and remembers the way to the last: of paths that are in
/// order, each costs the names that it does not share with the one before.
pub struct Resolver<'a> {
    tree: &'a dyn FileTree,
    /// Nodes from the root on, each with the name that led to it.
    way: Vec<(Vec<u8>, NodeId)>,
}

impl<'a> Resolver<'a> {
    /// For paths of a tree.
    pub fn new(tree: &'a dyn FileTree) -> Self {
        Self { tree, way: Vec::new() }
    }

    /// As [`resolve`].
    pub fn resolve(&mut self, path: &GuestPath) -> Result<Option<NodeId>, TreeError> {
        let known = self.way.iter().zip(path.components());
        let common = known.take_while(|((known, _), name)| known == name).count();
        self.way.truncate(common);
        let mut id = self.way.last().map_or_else(|| self.tree.root(), |(_, id)| *id);
        for name in path.components().skip(common) {
            if self.tree.node(id)?.kind != NodeKind::Directory {
                return Ok(None);
            }
            let Some(next) = self.tree.lookup(id, name)? else { return Ok(None) };
            self.way.push((name.to_vec(), next));
            id = next;
        }
        Ok(Some(id))
    }
}

/// Reads a whole file of at most `limit` bytes; a longer one is [`TreeError::Limit`].
pub fn read_whole(tree: &dyn FileTree, file: NodeId, limit: u64) -> Result<Vec<u8>, TreeError> {
    let size = tree.node(file)?.size;
    if size > limit {
        return Err(TreeError::Limit(format!("a file of {size} bytes, at most {limit} are read")));
    }
    let mut bytes = vec![0; size as usize];
    let got = tree.read(file, 0, &mut bytes)?;
    bytes.truncate(got);
    Ok(bytes)
}

/// A difference between two states of one tree, at one path. Differences are states, not
/// operations: a rename is a `Remove` and a `Put` whose extents are unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// The path is new, or its node differs in kind, attributes or content. A node with several
    /// names has one `Put` a name, all with the same `node.id`.
    Put {
        /// Where.
        path: GuestPath,
        /// The node as it is now.
        node: Node,
        /// Target of a symbolic link, else empty.
        target: Vec<u8>,
        /// Extended attributes as they are now.
        xattrs: Vec<Xattr>,
        /// Where the content of a file lies now, else empty.
        extents: Vec<FileExtent>,
        /// Whether the path was there before (with whatever node).
        existed: bool,
        /// Whether only attributes, extended attributes or times differ from before.
        meta_only: bool,
    },
    /// The path is gone. The paths below a directory that is gone are listed too.
    Remove {
        /// Where.
        path: GuestPath,
        /// Kind of what was there.
        kind: NodeKind,
    },
}

impl Change {
    /// Where the change is.
    pub fn path(&self) -> &GuestPath {
        match self {
            Change::Put { path, .. } | Change::Remove { path, .. } => path,
        }
    }
}
