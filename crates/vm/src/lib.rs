//! Hypervisor drivers. So far one: QEMU, as a child process that is driven over QMP.
//!
//! [`Hardware`] and [`Disk`] are plain data about the machine that the guest sees; [`Launch`] turns
//! them into a command line; [`Qemu`] is the running process; [`SessionEnd`] says how a session
//! came to its end, which decides whether it is filed. [`probe`] finds out by trial whether the
//! host's KVM can run a guest.
//!
//! **Architecture Invariant:** no disk format is ever probed. Each block node names its driver, and
//! what a guest writes to its first sector can not change the type of its disk.
//!
//! **Architecture Invariant:** nothing here reads the environment, a clock of its own, or a disk's
//! content. Paths and patience come from the caller.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may fail by panic"))]

mod accel;
mod argv;
mod commands;
mod end;
mod error;
mod event;
mod hardware;
mod process;
mod qemu;
mod qmp;

pub use accel::{Accel, Probe, probe};
pub use argv::{AfterReboot, Boot, Launch};
pub use commands::RunState;
pub use end::SessionEnd;
pub use error::VmError;
pub use event::{Event, ShutdownReason};
pub use hardware::{
    Disk, DiskSource, Display, Firmware, Forward, Hardware, Mac, Machine, Network, OnIoError,
};
pub use qemu::{Notice, Patience, PowerOff, Qemu, QemuVersion, version};
pub use qmp::{Events, Qmp};

/// The name under which the host's program path finds QEMU for x86-64 guests.
pub const QEMU_BINARY: &str = "qemu-system-x86_64";
