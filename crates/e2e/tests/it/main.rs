//! The product on real guests. Each boot takes half a minute without hardware virtualisation.
#![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

mod harness;
mod harvest;
mod packages;
mod partitions;
mod power;
mod reset;
