//! The form in which disks travel: by any web server, or on a stick.
//!
//! ```text
//!   disk   ░░▓▓▓▓░░░▓▓▓▓▓▓░▓▓     blocks of 4 KiB; zeroes do not travel
//!            │ │    │ └──────┐
//!   map    extents: run of the disk → pack, block of the pack's content
//!            │ │    │        │
//!   pack   ┌─┴─┴────┴─┐ ┌────┴────┐   immutable, named by its digest
//!          │index│f│f│f│ │index│f│f│   f: a frame, compressed and verified by itself
//!          └──────────┘ └─────────┘
//! ```
//! A *frame* is what is compressed, hashed, fetched and verified at once. A *pack* is one object on
//! a server: an index of its frames, and the frames. Its name is the digest of the index, which has
//! the digests of the frames; a map names packs, and whoever is trusted names the map. So every
//! byte that is used hangs on one signature.
//!
//! A *delta* is another encoding of the frames of new packs, for whoever has an older version: some
//! frames at once, compressed after the content that they were probably made from. What it gives is
//! compared with the packs' digests.
//!
//! A *boot profile* says what a guest reads when it starts, and in which order: so that it travels
//! first.
//!
//! Everything here is read from people who may be hostile. A frame's stored bytes are verified
//! before they are decompressed, so that the decompressor sees nothing that its author did not
//! make, and it writes into as much memory as the index says that the content has, and no more.
#![forbid(unsafe_code)]

mod delta;
mod error;
mod frame;
mod map;
mod pack;
mod pairing;
mod profile;
mod publish;
mod sealed;
mod varint;

pub use delta::{
    DeltaEffort, DeltaIndex, DeltaRef, DeltaSink, DeltaUnit, NewPack, PackRun, REFERENCE_MAX,
    UNIT_MAX, UnitContent, Versions, make_delta,
};
pub use error::WireError;
pub use frame::{Encoded, FRAME_MAX, FrameInfo, Method};
pub use map::{PackRef, WireMap};
pub use pack::{PACK_FRAMES_MAX, PackIndex, assemble};
pub use pairing::{DiskFile, Pairing, Side};
pub use profile::BootProfile;
pub use publish::{Effort, Known, Sink, publish};
