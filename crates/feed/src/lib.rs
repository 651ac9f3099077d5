//! Feeds: LivePCs in a directory that any web server, bucket or stick can carry.
//!
//! ```text
//!   feeds/NAME/CHANNEL/metadata/   signed: who may say what, and which versions there are
//!   versions/DIGEST                a version of a LivePC: its image, layers, rules, hardware
//!   maps/DIGEST                    a disk over packs
//!   profiles/DIGEST                what of a disk a guest reads when it starts, in that order
//!   packs/DIGEST                   content
//!   deltas/DIGEST                  the same content, for whoever has an older version
//! ```
//! Metadata name versions and deltas, versions name maps and profiles, maps name packs, by digest: all of it
//! hangs on signatures, wherever it is carried. Feeds of one directory share content. All but the newest
//! timestamp is written once and never changed.
#![forbid(unsafe_code)]

mod author;
mod carry;
mod deltas;
mod error;
pub mod names;
mod offer;
mod reader;
mod version;

pub use author::{Publisher, Written};
pub use carry::Item;
pub use deltas::{Disk, Pair};
pub use error::FeedError;
pub use names::Location;
pub use offer::{Offer, OfferedDelta, offers, target_name};
pub use reader::Channel;
pub use version::{
    FORMAT, LivePcVersion, Object, PublishedImage, PublishedLayer, PublishedVolume, VERSION_MAX,
};
