//! The worker: the only process that parses what a guest wrote, and the protocol to it.
//!
//! ```text
//!   parent (player, image)                      worker (jailed)
//!     Launcher::run ── spawn, open files ──────▶  serve
//!        Task  ─────────────────────────────────▶  inspect · seal · compose · derive · harvest ·
//!                                                layout
//!        answers, streamed both ways ◀───────────  (everything it says is checked as hostile)
//! ```
//!
//! The parent never reads a guest's file system itself; it gets plain values back, checks their
//! bounds, and copies content from the blocks that the worker named.

mod channel;
mod compose;
mod derive;
mod error;
mod facts;
mod fstab;
mod harvest;
mod identity;
mod inspect;
mod launch;
mod layout;
mod lent;
mod merging;
mod mounted;
mod ops;
mod outside;
pub mod protocol;
mod seal;
mod serve;
mod site_rules;
mod tool;
mod volumes;

pub use channel::{BATCH, Channel};
pub use error::WorkerError;
pub use launch::{Launcher, Scale, Session, WorkerUsage};
pub use lent::lent;
pub use mounted::MountedTree;
pub use serve::serve;
pub use tool::exec_tool;
#[cfg(feature = "proof")]
pub use {
    fstab::{DeviceName, Mount, parse as parse_fstab},
    inspect::pretty_name,
    serve::look,
};
