//! End-to-end tests: the harness that drives real guests.
//!
//! A test is a few lines: take a cached image ([`images`]), boot it ([`Guest`]), run commands at its
//! serial console ([`Console`]), install packages from a repository that the test itself serves
//! ([`repo`]). Every failure carries the end of what the console said.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may fail by panic"))]

mod base64;
mod console;
mod error;
mod guest;
pub mod images;
pub mod repo;

pub use console::{Console, Output};
pub use error::HarnessError;
pub use guest::Guest;
