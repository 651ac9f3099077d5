//! Tests of the block crate from outside, on the host's own file system and against its tools.

mod partitions;
mod session;
