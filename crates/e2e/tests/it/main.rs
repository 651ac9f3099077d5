//! The product on real guests. Each boot takes half a minute without hardware virtualisation.
#![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

mod bench;
mod feeds;
mod harness;
mod harvest;
mod offline;
mod packages;
mod partitions;
mod power;
mod reset;
mod storage;
mod trial;
