//! The QMP commands that Goldleaf uses, one method each. Names and meaning are QEMU's
//! (`docs/interop/qemu-qmp-ref`); what a method returns is only what a caller needs.

use std::path::Path;

use serde_json::{Value, json};

use crate::error::VmError;
use crate::qmp::{Qmp, protocol};

/// What the virtual machine is doing: the part of QMP's `RunState` that a session tells apart.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunState {
    /// The guest runs.
    Running,
    /// Stopped by `stop`.
    Paused,
    /// Not started yet, or reset and not continued.
    Prelaunch,
    /// The guest has powered off (or rebooted, or panicked) and the process waits.
    Shutdown,
    /// Suspended to memory.
    Suspended,
    /// Stopped by a disk request that failed.
    IoError,
    /// The guest's kernel panicked.
    GuestPanicked,
    /// The hypervisor gave up.
    InternalError,
    /// Any other state, by its QMP name.
    Other(String),
}

impl RunState {
    fn parse(name: &str) -> Self {
        match name {
            "running" => Self::Running,
            "paused" => Self::Paused,
            "prelaunch" => Self::Prelaunch,
            "shutdown" => Self::Shutdown,
            "suspended" => Self::Suspended,
            "io-error" => Self::IoError,
            "guest-panicked" => Self::GuestPanicked,
            "internal-error" => Self::InternalError,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl Qmp {
    /// What the machine is doing.
    pub fn query_status(&self) -> Result<RunState, VmError> {
        let status = self.execute("query-status", Value::Null)?;
        match status.get("status").and_then(Value::as_str) {
            Some(name) => Ok(RunState::parse(name)),
            None => Err(protocol("a run state", &status.to_string())),
        }
    }

    /// Whether KVM runs this guest.
    pub fn query_kvm(&self) -> Result<bool, VmError> {
        let reply = self.execute("query-kvm", Value::Null)?;
        reply
            .get("enabled")
            .and_then(Value::as_bool)
            .ok_or_else(|| protocol("whether KVM is enabled", &reply.to_string()))
    }

    /// The guest's name, as launched.
    pub fn query_name(&self) -> Result<String, VmError> {
        let reply = self.execute("query-name", Value::Null)?;
        Ok(reply.get("name").and_then(Value::as_str).unwrap_or("").to_owned())
    }

    /// Number of virtual processors that are plugged in.
    pub fn query_cpus(&self) -> Result<usize, VmError> {
        let reply = self.execute("query-cpus-fast", Value::Null)?;
        Ok(reply.as_array().map_or(0, Vec::len))
    }

    /// The block nodes and their properties, as QMP describes them.
    pub fn query_block_nodes(&self) -> Result<Value, VmError> {
        self.execute("query-named-block-nodes", json!({ "flat": true }))
    }

    /// Presses the power button.
    pub fn system_powerdown(&self) -> Result<(), VmError> {
        self.execute("system_powerdown", Value::Null).map(drop)
    }

    /// Presses the reset button. Asynchronous: an [`crate::Event::Reset`] tells when it is done.
    pub fn system_reset(&self) -> Result<(), VmError> {
        self.execute("system_reset", Value::Null).map(drop)
    }

    /// Wakes a guest from suspend to memory.
    pub fn system_wakeup(&self) -> Result<(), VmError> {
        self.execute("system_wakeup", Value::Null).map(drop)
    }

    /// Lets the processors run.
    pub fn cont(&self) -> Result<(), VmError> {
        self.execute("cont", Value::Null).map(drop)
    }

    /// Halts the processors.
    pub fn stop(&self) -> Result<(), VmError> {
        self.execute("stop", Value::Null).map(drop)
    }

    /// Ends the process as one pulls a plug. Block nodes are flushed on the way.
    pub fn quit(&self) -> Result<(), VmError> {
        self.execute("quit", Value::Null).map(drop)
    }

    /// Sends a non-maskable interrupt, which makes most guests write a crash dump.
    pub fn inject_nmi(&self) -> Result<(), VmError> {
        self.execute("inject-nmi", Value::Null).map(drop)
    }

    /// Says what a guest's reboot does from now on: end the session (`true`) or reset the machine.
    pub fn set_reboot_ends_session(&self, ends: bool) -> Result<(), VmError> {
        let reboot = if ends { "shutdown" } else { "reset" };
        self.execute("set-action", json!({ "reboot": reboot })).map(drop)
    }

    /// Writes a picture of the screen, as PNG, to a file of the host.
    pub fn screendump(&self, file: &Path) -> Result<(), VmError> {
        let arguments = json!({ "filename": file, "format": "png" });
        self.execute("screendump", arguments).map(drop)
    }

    /// Presses keys together and lets go, by QMP's names (`ctrl`, `alt`, `delete`, `ret`, `a`).
    pub fn send_key(&self, keys: &[&str]) -> Result<(), VmError> {
        let keys: Vec<Value> =
            keys.iter().map(|key| json!({ "type": "qcode", "data": key })).collect();
        self.execute("send-key", json!({ "keys": keys })).map(drop)
    }

    /// Tells the guest that a disk has another size now, in bytes.
    pub fn block_resize(&self, node: &str, size_bytes: u64) -> Result<(), VmError> {
        let arguments = json!({ "node-name": node, "size": size_bytes });
        self.execute("block_resize", arguments).map(drop)
    }

    /// Plugs the network cable in or out.
    pub fn set_link(&self, name: &str, up: bool) -> Result<(), VmError> {
        self.execute("set_link", json!({ "name": name, "up": up })).map(drop)
    }
}
