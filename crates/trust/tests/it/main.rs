//! Tests of trust: honest updates, and every attack on them by its name.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod attacks;
mod honest;
mod power;
mod world;
