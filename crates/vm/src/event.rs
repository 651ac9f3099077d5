//! QMP's events as types (QEMU's `qapi/run-state.json` and `qapi/block-core.json`).
//!
//! Only what a session has to act upon is taken apart; everything else keeps its name.

use serde_json::Value;

/// How much of a text is kept: many may wait, and QEMU's own are a sentence.
const TEXT_CHARS_MAX: usize = 500;

/// The beginning of what QEMU says.
pub(crate) fn short(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}

/// Why the virtual machine stopped or was reset: QMP's `ShutdownCause`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShutdownReason {
    /// The guest powered off.
    GuestShutdown,
    /// The guest rebooted.
    GuestReset,
    /// The guest's kernel panicked.
    GuestPanic,
    /// `quit` was sent.
    HostQuit,
    /// `system_reset` was sent.
    HostReset,
    /// A signal to the process.
    HostSignal,
    /// The window was closed.
    HostUi,
    /// An error of the hypervisor's own.
    HostError,
    /// Any other cause, by its QMP name.
    Other(String),
}

impl ShutdownReason {
    fn parse(name: &str) -> Self {
        match name {
            "guest-shutdown" => Self::GuestShutdown,
            "guest-reset" => Self::GuestReset,
            "guest-panic" => Self::GuestPanic,
            "host-qmp-quit" => Self::HostQuit,
            "host-qmp-system-reset" => Self::HostReset,
            "host-signal" => Self::HostSignal,
            "host-ui" => Self::HostUi,
            "host-error" => Self::HostError,
            other => Self::Other(other.to_owned()),
        }
    }
}

/// Something that happened to the virtual machine.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The machine has powered off, or would have: it is paused where the launch says so.
    Shutdown {
        /// Whether the guest itself asked.
        guest: bool,
        /// Why.
        reason: ShutdownReason,
    },
    /// The machine was reset and goes on.
    Reset {
        /// Whether the guest itself asked.
        guest: bool,
        /// Why.
        reason: ShutdownReason,
    },
    /// The processors stand still.
    Stop,
    /// The processors run again.
    Resume,
    /// The power button was pressed, by us.
    PowerDown,
    /// Suspended to memory; the session lives.
    Suspend,
    /// Suspended to disk; a power-off follows, and what is on the disk is an unfinished session.
    SuspendDisk,
    /// Awake again.
    Wakeup,
    /// The guest's kernel said that it panicked.
    GuestPanicked {
        /// What the hypervisor did about it.
        action: String,
    },
    /// A disk request failed on the host's side.
    BlockIoError {
        /// The block node.
        node: String,
        /// `read` or `write`.
        operation: String,
        /// `stop`, `report` or `ignore`.
        action: String,
        /// Whether the host's storage is full.
        no_space: bool,
        /// The host's words.
        reason: String,
    },
    /// Any other event, by its QMP name.
    Other(String),
}

impl Event {
    /// Reads an event object; `None` when it is none.
    pub(crate) fn parse(message: &Value) -> Option<Self> {
        let name = message.get("event")?.as_str()?;
        let data = message.get("data").unwrap_or(&Value::Null);
        let text = |key: &str| short(data.get(key).and_then(Value::as_str).unwrap_or(""));
        let flag = |key: &str| data.get(key).and_then(Value::as_bool).unwrap_or(false);
        let reason = || ShutdownReason::parse(&text("reason"));
        Some(match name {
            "SHUTDOWN" => Self::Shutdown { guest: flag("guest"), reason: reason() },
            "RESET" => Self::Reset { guest: flag("guest"), reason: reason() },
            "STOP" => Self::Stop,
            "RESUME" => Self::Resume,
            "POWERDOWN" => Self::PowerDown,
            "SUSPEND" => Self::Suspend,
            "SUSPEND_DISK" => Self::SuspendDisk,
            "WAKEUP" => Self::Wakeup,
            "GUEST_PANICKED" => Self::GuestPanicked { action: text("action") },
            "BLOCK_IO_ERROR" => Self::BlockIoError {
                node: text("node-name"),
                operation: text("operation"),
                action: text("action"),
                no_space: flag("nospace"),
                reason: text("reason"),
            },
            other => Self::Other(short(other)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, expected: Option<Event>) {
        assert_eq!(Event::parse(&serde_json::from_str(json).unwrap()), expected);
    }

    #[test]
    fn events_are_typed() {
        check(
            r#"{"event":"SHUTDOWN","data":{"guest":true,"reason":"guest-reset"}}"#,
            Some(Event::Shutdown { guest: true, reason: ShutdownReason::GuestReset }),
        );
        check(
            r#"{"event":"RESET","data":{"guest":false,"reason":"subsystem-reset"}}"#,
            Some(Event::Reset {
                guest: false,
                reason: ShutdownReason::Other("subsystem-reset".into()),
            }),
        );
        check(r#"{"event":"WAKEUP"}"#, Some(Event::Wakeup));
        check(r#"{"event":"RTC_CHANGE","data":{}}"#, Some(Event::Other("RTC_CHANGE".into())));
        check(r#"{"return":{}}"#, None);
        check(r#"{"event":7}"#, None);
    }

    #[test]
    fn io_errors_say_where_and_why() {
        check(
            r#"{"event":"BLOCK_IO_ERROR","data":{"device":"","node-name":"disk0","operation":
               "write","action":"stop","nospace":true,"reason":"No space left on device"}}"#,
            Some(Event::BlockIoError {
                node: "disk0".into(),
                operation: "write".into(),
                action: "stop".into(),
                no_space: true,
                reason: "No space left on device".into(),
            }),
        );
    }
}
