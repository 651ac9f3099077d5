//! What a caller asks for, and what it gets.

use goldleaf_block::{BlockNo, MapExtent, SourceIndex};
use goldleaf_tree::{Attrs, GuestPath, NodeKind, Timestamp, Xattr};

/// How to compose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// The time that stands for "now" on the volume (superblock, access times), so that the same
    /// operations give the same bytes. Must not be before 1970-01-01T00:00:01Z.
    pub now: Timestamp,
    /// Whether to mark every inode table as zeroed and map what is unused of it to zeroes, so that
    /// the guest does not write it at its first start.
    pub zero_unused_inode_tables: bool,
}

/// One change of the volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Makes the path be this node, replacing what is there. A directory over a directory keeps
    /// what is in it and takes the attributes; anything else over a directory removes the subtree.
    Put {
        /// Where; the directory that holds it must exist, and links are not followed.
        path: GuestPath,
        /// What.
        node: PutNode,
    },
    /// Removes the path and everything below it. A path that is missing is fine.
    Remove {
        /// Where.
        path: GuestPath,
    },
}

impl Op {
    /// The path.
    pub fn path(&self) -> &GuestPath {
        match self {
            Op::Put { path, .. } | Op::Remove { path } => path,
        }
    }
}

/// A node to be put at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutNode {
    /// Its kind.
    pub kind: NodeKind,
    /// Its attributes; `crtime` too, where the volume's inodes have one.
    pub attrs: Attrs,
    /// Its extended attributes, all of them, in the form of `getxattr(2)`.
    pub xattrs: Vec<Xattr>,
    /// Content, if it is a file; else ignored.
    pub content: Content,
    /// Target, if it is a symbolic link, of 1 to 4095 bytes; else ignored.
    pub target: Vec<u8>,
    /// Paths with the same number are names of one node (hard links). The first in order makes the
    /// node, of the others nothing but path and number counts. Not for directories.
    pub link: Option<u64>,
}

/// Content of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Runs of blocks that lie elsewhere.
    Runs {
        /// Length in bytes.
        size: u64,
        /// The runs, sorted by `file_block`, apart, within the size; what none covers is a hole.
        /// The last block's bytes behind the size must be zero in its source.
        runs: Vec<ContentRun>,
    },
    /// The bytes themselves, for small generated files; they go to the metadata file.
    Bytes(Vec<u8>),
}

impl Content {
    /// No content.
    pub const EMPTY: Content = Content::Runs { size: 0, runs: Vec::new() };
}

/// A run of a file's content and where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentRun {
    /// First block of the run within the file.
    pub file_block: u64,
    /// Length in blocks, never 0.
    pub blocks: u64,
    /// The source that holds it.
    pub source: SourceIndex,
    /// Its first block there.
    pub at: BlockNo,
}

/// A volume after all operations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Composed {
    /// What differs from the volume below: sorted, apart, with zero extents, in the volume's own
    /// blocks. To be laid over the volume's own map by `ExtentMap::overlaid` (shifted to where the
    /// partition begins).
    pub extents: Vec<MapExtent>,
    /// Blocks of the metadata file in use, from the first slot on.
    pub slots_used: u64,
    /// Counts.
    pub stats: Stats,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Nodes that were made or replaced, each counted once whatever its names.
    pub nodes_put: u64,
    /// Names that were added to existing nodes.
    pub links_put: u64,
    /// Nodes that were removed, those below directories and those replaced by another kind
    /// included.
    pub nodes_removed: u64,
    /// Blocks of content that are mapped by reference.
    pub content_blocks: u64,
    /// Directories whose blocks were built anew.
    pub directories_built: u64,
}

/// What a volume has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Free {
    /// Blocks of 4 KiB.
    pub blocks: u64,
    /// Inodes.
    pub inodes: u64,
}
