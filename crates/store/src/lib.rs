//! Content: blobs and objects named by their BLAKE3 hash, in packs.
//!
//! A *blob* is file content in whole blocks of 4 KiB, to be mapped by reference into a disk; an
//! *object* is a small piece of anything else (directories of layers, records). A *pack* is the
//! immutable file that one filing leaves behind. A store is a directory of packs; public content
//! and each desktop's private content are separate stores.
//!
//! ```text
//!   store    which packs there are, where content lies    tables   the look-up over all packs
//!   writer   filing: new content into one new pack        format   the pack's layout
//!   pack     one pack, verified where it is read          hold     who may do what at once
//!   check    reads everything, writes nothing             collect  plan, then apply
//!   mend     whole copies of what is damaged, from other stores; adds only
//! ```
//!
//! What always holds: a pack is there whole or not at all; nothing that is read was not compared
//! with its name at least once in this process; nothing is removed that the roots named when no
//! filing was going on.
#![forbid(unsafe_code)]

mod check;
mod collect;
mod digest;
mod error;
mod format;
mod frames;
mod hold;
mod mend;
mod pack;
mod store;
mod tables;
mod writer;

pub use check::{CheckProgress, CheckReport, Damage, Damaged};
pub use collect::{CollectPlan, Collected, LiveSet, Rewrite, RewriteReason};
pub use digest::Digest;
pub use error::StoreError;
pub use hold::{Exclusive, Hold};
pub use mend::PackMend;
pub use pack::{PackedBlob, pack_file_name, packed_blobs};
pub use store::{BlobPart, Location, PackId, PackInfo, PackNo, Store};
pub use writer::{Filed, PackWriter};
