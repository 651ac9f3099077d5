//! Composes an ext4 volume from a golden image's and a list of changes, without copying content.
//!
//! libext2fs, linked dynamically, sees the volume through an overlay of ours and changes inodes,
//! directories and bitmaps there; what it writes lands in 4 KiB slots of a metadata file. For the
//! content of files blocks are only taken on the volume, and the result says where each of them
//! really lies. Directories with many new names, extent trees and the choice of inodes are ours,
//! because the library's ways are not linear; checksums, descriptors, bitmaps and extended
//! attributes are the library's.
//!
//! The base must be clean and validated, and must not be changed meanwhile. This crate runs in the
//! jailed worker: a C library reads the image here. The same base and the same operations give the
//! same bytes. Access times, inode numbers and preallocated blocks are not kept.
//!
//! [`Composer`] is the entry.
#![deny(unsafe_code)]

#[cfg(target_endian = "big")]
compile_error!("the volume's structures are taken to be in the host's byte order");

mod composer;
mod content;
mod dirblock;
mod directory;
mod error;
mod extents;
#[allow(missing_docs, unsafe_code)]
mod ffi;
mod inode;
mod io;
mod names;
mod op;
mod overlay;
mod result;
mod shortage;
mod volume;

pub use composer::Composer;
pub use error::ComposeError;
pub use op::{Composed, Content, ContentRun, Free, Op, Options, PutNode, Stats};
pub use shortage::Shortage;
