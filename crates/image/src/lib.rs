//! Golden images: where they come from, how their versions are kept, how they are read.
//!
//! ```text
//!   images/NAME/image.json     names the versions, oldest first
//!   images/NAME/vN.map         extent map of version N over data files, with the volumes in it
//!   images/NAME/NNNN.data      blocks; the first is the whole disk as imported, sparse, in the
//!                              order of the disk; each later one holds what one edit changed
//! ```
//! Of an image that is published elsewhere each data file is a cache (crate `cache`) of the packs that
//! came with a version, and may arrive while it is used.
//!
//! Beside each map and data file there may be copies of it, `NAME.1`, `NAME.2`, …, that repairs added
//! because something in those before is damaged; the newest is the one that is read.
//!
//! A data file never changes once a version names it. A version's digest is over the canonical
//! form: free blocks, the journal's body and swap's body read as zeroes (the guest may not rely on
//! what they hold), so that two imports of one disk are one image.
#![forbid(unsafe_code)]

pub mod create;
mod error;
mod forget;
mod grow;
mod import;
mod layout;
mod mend;
mod published;
mod record;
mod registry;

pub use error::ImageError;
pub use forget::{Forgetting, Needs};
pub use grow::grow;
pub use import::{
    ImportOptions, Imported, canonical_digest, import, inspect_disk, seal_disk, volume_records,
};
pub use layout::{FileExtents, Layout, layout, order};
pub use mend::{ImageMend, MendedFile, apply_mend, plan_mend};
pub use published::{Arrived, placed};
pub use record::{ImageRecord, VersionRecord, VolumeRecord};
pub use registry::{ImageVersion, Images, Suppliers, check_name};
