//! Kill points: every step of the client's state machines, and what happens when the process is
//! killed, stopped, failed or left without disk space right before or right after it.
//!
//! ```text
//!   chapter: what a person asks for, in a process of its own
//!     ├─ once in peace: which points it passes, and what the home looks like in the end
//!     └─ point × how manieth time × deed: the process dies there, or does not;
//!        then the same is asked for again: it must need no other help, and end the same
//! ```
//! The processes run the player's own code, workers and jail included. Only the hypervisor is a
//! stand-in, whose guest writes what debugfs made of its disk.

mod chapters;
mod deed;
mod driver;
mod ground;
mod guest;
mod look;

pub use driver::{child, run};

/// Every step that the code names.
const STEPS: &[&str] = &[
    "collect.bench",
    "collect.half-made",
    "collect.session",
    "composed.make",
    "composed.prune",
    "desktop.create",
    "desktop.forget",
    "desktop.identity",
    "desktop.remove",
    "guest.first",
    "guest.second",
    "image.abandon",
    "image.begin",
    "image.data",
    "image.forget",
    "image.map",
    "image.remove",
    "image.version",
    "layer.forget",
    "layer.pack",
    "layer.record",
    "layer.remove",
    "layer.version",
    "layers.edit",
    "layers.pack",
    "layers.roll-back",
    "livepc.create",
    "livepc.forget",
    "livepc.remove",
    "session.begin",
    "session.discard",
    "session.end",
    "session.file",
    "session.log",
    "session.pack",
    "session.panic",
    "session.remove",
    "session.sleep",
    "store.remove",
    "store.rewrite",
    "workshop.begin",
    "workshop.clear",
    "workshop.made",
];
