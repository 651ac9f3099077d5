//! Reads ext4 volumes that a hostile guest wrote: files, the journal's replay, validation, the
//! canonical form, where metadata lies, and what a session changed.
//!
//! ```text
//!   diff   validate   canonical   metadata
//!        \     |        |        /
//!          Volume (impl FileTree)      gate, identify: may this be a golden image at all?
//!   dir  xattr  extent  inode  group  superblock  journal
//!          ReadBlocks
//! ```
//! Sources: the kernel's Documentation/filesystems/ext4 and its chapter on jbd2. Every number that
//! comes from the volume is checked before it is used; all memory is bounded; nothing here writes.
//! Blocks are 4 KiB and files have extents: other volumes are refused by [`gate()`].
#![forbid(unsafe_code)]

mod bits;
mod canonical;
mod checksum;
mod diff;
mod dir;
mod error;
mod extent;
mod fields;
mod gate;
mod group;
mod htree;
mod inode;
mod journal;
mod metadata;
mod superblock;
mod table;
mod validate;
mod volume;
mod xattr;

pub use canonical::{CanonicalMap, canonical};
pub use checksum::{Seed, inode_sum, inode_sum_is_wide};
pub use diff::{Diff, DiffStats, diff, diff_full};
pub use error::Ext4Error;
pub use gate::{Features, Foreign, Refusal, gate, identify};
pub use group::Group;
pub use inode::{Inode, InodeNo};
pub use metadata::metadata;
pub use superblock::Superblock;
pub use validate::{Limits, Summary, validate};
pub use volume::Volume;
