//! An NBD server for one virtual machine's disk, run in the player's process over a unix socket.
//!
//! Specification: `doc/proto.md` of the NetworkBlockDevice project. Implemented are the fixed
//! newstyle handshake (`EXPORT_NAME`, `ABORT`, `LIST`, `INFO`, `GO`, `STRUCTURED_REPLY`,
//! `LIST_META_CONTEXT`, `SET_META_CONTEXT` with `base:allocation`), simple and structured replies,
//! and the commands `READ`, `WRITE`, `DISC`, `FLUSH`, `TRIM`, `WRITE_ZEROES` and `BLOCK_STATUS`.
//! Not implemented, and refused as the protocol asks: TLS (the socket is local, and its peer known
//! by the kernel), extended headers, `CACHE`, `RESIZE`, fast zeroing.
//!
//! ```text
//!   server ── handshake ── transmission (a reader per client) ── connection ── seat ── device
//!                                └── crew (flushes, zeroing, cold reads) ──┘
//! ```
//!
//! The client is a hypervisor that runs a hostile guest, so it is not trusted: lengths and offsets
//! are checked before anything is done, memory is bounded by the number of connections, the
//! handshake by a deadline. Bounds, for each connection: 1 MiB for requests and, for each of its
//! threads (17 at most by default), 512 KiB for replies.
//!
//! A flush on one connection covers what any connection wrote and was told to be done
//! (`CAN_MULTI_CONN`), because all of them write to one device.

#![forbid(unsafe_code)]

mod connection;
mod crew;
mod error;
mod handshake;
mod patience;
mod reply;
mod seat;
mod server;
mod stats;
mod transmission;
mod wire;

pub use error::NbdError;
pub use server::{Export, Options, Server};
pub use stats::Stats;
