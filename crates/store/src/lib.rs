//! Content: blobs and objects named by their BLAKE3 hash, in packs.
#![forbid(unsafe_code)]

mod digest;

pub use digest::Digest;
