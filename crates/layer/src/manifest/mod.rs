//! The stored form of a layer.
//!
//! A layer has versions. Each is content-addressed by directory, so that a session costs the
//! directories that it changed and their ancestors, and versions share all the others.
//!
//! ```text
//!   version object ──▶ directory object of `/` ──▶ directory object of `/etc` ──▶ …
//!        │                  for each name: what the layer says about it (an [`Entry`]), if anything,
//!        │                  and the directory object of what it says below it, if anything
//!        ├──▶ package table: how many entries each package owns
//!        └──▶ merge records (made and read by the merge handlers)
//!
//!   version   := "GLV1" kind:u8 created:int parent:opt(hash) cause:bytes records:list(hash)
//!                packages:opt(hash) counts:(entries:int blocks:int packages:int)
//!                root-entry:opt(entry) root:opt(subtree)
//!   directory := "GLD1" list(child)                                 ascending by name, not empty
//!   child     := name:bytes flags:u8 [entry] [subtree]              1 = entry, 2 = subtree, not 0
//!   subtree   := hash entries:int blocks:int                        totals of all that is below
//!   packages  := "GLP1" list(name:bytes entries:int)                ascending by name
//!   entry     := flags:u8 [package:bytes] [origin:hash] [node]      see `entry_codec`
//!
//!   int   := LEB128, in its shortest form          bytes  := len:int, then so many bytes
//!   hash  := 32 bytes, BLAKE3                      list(x):= count:int, then so many x
//!   opt(x):= 0 | 1 x
//! ```
//!
//! The form is canonical: equal content has equal bytes whatever the way to it, and bytes that no
//! encoder writes are refused. Totals are checked against what they total, so that a walk is
//! bounded by the count in the version object, which is bounded by [`ENTRIES_MAX`].

mod codec;
mod content;
mod directory;
mod editor;
mod entry_codec;
mod error;
mod history;
mod layer;
mod live;
mod outline;
mod stack;
mod version;
mod walk;

#[cfg(test)]
mod tests;

pub use content::{Splice, fragments, splice, wants_compacting};
pub use editor::{LayerEditor, VersionMeta};
pub use error::ManifestError;
pub use history::{VersionInfo, thin};
pub use layer::Layer;
pub use live::Surveyed;
pub use outline::{Outline, StoredEntry, stored};
pub use stack::{StackWalk, walk_outlines, walk_stack};
pub use version::{Counts, ENTRIES_MAX, Version};
pub use walk::Walk;
