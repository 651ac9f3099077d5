//! The server over real sockets: against a small client of our own that may misbehave, and against
//! clients that are not ours.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod client;
mod conformance;
mod device;
mod hostile;
mod life;
mod ordering;
mod swap;
mod tools;
