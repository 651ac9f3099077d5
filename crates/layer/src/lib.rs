//! Layers: what they hold, which change goes into which, and how several become one again.
//!
//! ```text
//!   entry      what a layer says about one path            manifest   its form in the store
//!   rules      which layer owns a path                     classify   changes -> destinations
//!   merge      files that several layers share             (one handler a kind of file)
//! ```
//!
//! Everything here works over [`goldleaf_tree::FileTree`] and plain values; nothing does any input
//! or output except through the store.

mod entry;
pub mod merge;

pub use entry::{Content, ContentExtent, Digest, Entry, EntryAttrs, EntryNode, Kind, Owner};
