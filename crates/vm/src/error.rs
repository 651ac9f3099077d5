//! What can go wrong between Goldleaf and a hypervisor.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a hypervisor could not be started, spoken to or believed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VmError {
    /// Not even the translator ran the trial guest.
    #[error("QEMU does not run a trial guest: {why}")]
    Trial {
        /// Why, one clause.
        why: String,
    },
    /// The program is not installed.
    #[error("QEMU is not installed ({binary} was not found): install the package qemu-system-x86")]
    MissingQemu {
        /// The name or path that was tried.
        binary: PathBuf,
    },
    /// The program exists and can not be run.
    #[error("cannot run {binary}: {source}")]
    Spawn {
        /// The name or path that was tried.
        binary: PathBuf,
        /// What the host said.
        source: io::Error,
    },
    /// QEMU refused its command line, or a resource that the line names.
    #[error("QEMU did not start ({status}): {stderr}")]
    DidNotStart {
        /// How the process ended.
        status: String,
        /// The end of what it wrote.
        stderr: String,
    },
    /// QEMU said nothing for longer than it may.
    #[error("QEMU gave no answer to {what} within {waited:?}")]
    NoAnswer {
        /// The command or the step that waited.
        what: String,
        /// How long.
        waited: Duration,
    },
    /// The process ended while it was spoken to.
    #[error("QEMU is gone")]
    Gone,
    /// A command was refused.
    #[error("QEMU refused {command}: {class}: {message}")]
    Refused {
        /// The QMP command.
        command: String,
        /// QMP's error class.
        class: String,
        /// QMP's words.
        message: String,
    },
    /// Something came over the wire that is no QMP.
    #[error("QEMU's monitor said something unexpected: expected {expected}, found {found}")]
    Protocol {
        /// What the protocol asks for at this place.
        expected: &'static str,
        /// The beginning of what came.
        found: String,
    },
    /// `--version` said something that no QEMU says.
    #[error("{binary} is no QEMU: its version line reads {found:?}")]
    NotQemu {
        /// The program.
        binary: PathBuf,
        /// Its first line.
        found: String,
    },
    /// A socket, pipe or thread of ours failed.
    #[error("{what}: {source}")]
    Host {
        /// What was tried.
        what: &'static str,
        /// What the host said.
        source: io::Error,
    },
}

impl VmError {
    /// For `map_err`: names the step of ours that failed.
    pub(crate) fn host(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Host { what, source }
    }
}
