//! What has arrived of published packs, as a disk that can be read before all of it has.
//!
//! ```text
//!   NAME          content of the packs, decompressed, one behind the other; holes where nothing
//!                 arrived yet
//!   NAME.packs    which packs these are, in that order: JSON
//!   NAME.heads    their indexes as they arrived, one behind the other
//!   NAME.have     one bit a block of the content: it has arrived
//! ```
//! The content is kept in the order of the packs, not of the disk, so that a frame lies as it
//! travelled: it is verified by the digest that its author signed, however often it is read again, and
//! what is damaged is known by the frame that has to be brought anew. Authors put packs into the
//! order of files, so what is read together lies together all the same.
//!
//! The bits are a hint and no promise: a power cut may lose them or the content, so what they say is
//! there is verified at its first use in each process. They are written when the content is durable,
//! so that a disk that was whole once is whole offline.
//!
//! Before anything is brought it can be taken from seeds, from whatever may have it.
//!
//! What nobody needs any more can be given up again, frame by frame: first the bits go, then the content.
//!
//! New packs may come as a delta, another encoding of their frames for whoever has older packs. What
//! it does not bring, and what of it is wrong, comes from the packs.
#![forbid(unsafe_code)]

mod bitmap;
mod cached;
mod coming;
mod delta;
mod error;
mod files;
mod fill;
mod give_up;
mod seed;

pub use cached::{Cached, Carried, Supply, SupplyError, Take};
pub use error::CacheError;
pub use files::{Cache, sidecars};
pub use fill::Told;
pub use seed::{Frames, Missing, Seed};
