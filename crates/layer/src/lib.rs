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

pub mod classify;
mod entry;
mod manifest;
pub mod merge;
pub mod plan;
pub mod rules;

pub use entry::{Content, ContentExtent, Entry, EntryAttrs, EntryNode, Kind, Owner};
pub use goldleaf_store::Digest;
pub use manifest::{
    Counts, ENTRIES_MAX, Layer, LayerEditor, ManifestError, Outline, Splice, StackWalk,
    StoredEntry, Surveyed, Version, VersionInfo, VersionMeta, Walk, fragments, splice, stored,
    thin, walk_outlines, walk_stack, wants_compacting,
};
