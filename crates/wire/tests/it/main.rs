//! Tests of the wire form: there and back, tampered with, and frozen.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod deltas;
mod frozen;
mod hostile_deltas;
mod maps;
mod packs;
mod published;
