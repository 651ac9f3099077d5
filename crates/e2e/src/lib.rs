//! End-to-end tests: the harness that drives real guests.
//!
//! A test of the product is a few lines: open a [`Site`] (a home with an image), take a
//! [`Desktop`],
//! tell what happens in a session at its [`Console`], and look at what the next one will find, in
//! another session or right on the composed disk ([`DiskTree`]). After every session and every
//! composition e2fsck looks at the volumes.
//!
//! Beneath that there are parts without the product: take a cached image ([`images`]), boot it
//! ([`Guest`]), run commands at its
//! serial console ([`Console`]), install packages from a repository that the test itself serves
//! ([`repo`]). Every failure carries the end of what the console said.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may fail by panic"))]

mod author;
mod base64;
mod console;
mod disk;
mod error;
mod guest;
pub mod images;
pub mod repo;
mod site;
pub mod storage;
mod watcher;
mod web;

pub use author::Author;
pub use console::{Console, Output};
pub use disk::{DiskTree, check_snapshot, check_volumes, fsck_file, materialise};
pub use error::HarnessError;
pub use guest::Guest;
pub use site::{Desktop, IMAGE, Session, Site, program as site_program};
pub use watcher::{Silent, Watcher};
pub use web::{Link, Nginx};
