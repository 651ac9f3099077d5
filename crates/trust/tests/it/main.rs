//! Tests of trust: honest updates, every attack on them by its name, the cases of a public suite,
//! and the author's side.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod attacks;
mod author;
mod conformance;
mod feed;
mod honest;
mod lives;
mod openssl;
mod power;
mod rotations;
mod world;
