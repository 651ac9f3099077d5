//! The crate against the kernel, e2fsck and hostile hands. Runs as root, with loop mounts.

mod bench;
mod diff;
mod gate;
mod hostile;
mod journal;
mod metadata;
mod read;
mod support;
