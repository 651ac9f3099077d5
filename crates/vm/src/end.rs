//! How sessions end.

use crate::event::{Event, ShutdownReason};

/// Why a session is over. Two of these mean that the guest came to rest by its own will, so that
/// its writes are filed; after the others it is unfinished and continues at the next start.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionEnd {
    /// The guest powered off.
    GuestShutdown,
    /// The guest asked for a reboot.
    GuestReset,
    /// The guest wrote its memory to its disk and powered off: it means to continue there.
    GuestHibernated,
    /// The guest's kernel panicked.
    GuestPanic,
    /// Goldleaf ended the hypervisor, as one pulls a plug.
    HostQuit,
    /// Somebody sent the hypervisor a signal that it answers by ending.
    HostSignal,
    /// The hypervisor ended for a cause of its own, by its QMP name.
    HostOther(String),
    /// The process vanished without a word: killed, crashed, or the host's memory ran out.
    Died {
        /// How the process ended.
        status: String,
        /// The end of what it wrote.
        stderr: String,
    },
}

impl SessionEnd {
    /// Whether the guest finished what it was doing, so that the session can be filed.
    pub fn is_finished(&self) -> bool {
        matches!(self, Self::GuestShutdown | Self::GuestReset)
    }

    fn from_reason(reason: &ShutdownReason, hibernated: bool) -> Self {
        match reason {
            ShutdownReason::GuestShutdown if hibernated => Self::GuestHibernated,
            ShutdownReason::GuestShutdown => Self::GuestShutdown,
            ShutdownReason::GuestReset => Self::GuestReset,
            ShutdownReason::GuestPanic => Self::GuestPanic,
            ShutdownReason::HostQuit => Self::HostQuit,
            ShutdownReason::HostSignal => Self::HostSignal,
            ShutdownReason::HostReset => Self::HostOther("host-qmp-system-reset".into()),
            ShutdownReason::HostUi => Self::HostOther("host-ui".into()),
            ShutdownReason::HostError => Self::HostOther("host-error".into()),
            ShutdownReason::Other(name) => Self::HostOther(name.clone()),
        }
    }
}

/// Watches events for the one that ends the session. QEMU reports hibernation as its own event
/// and then as an ordinary power-off; the two belong together.
#[derive(Debug, Default)]
pub(crate) struct EndWatch {
    hibernated: bool,
}

impl EndWatch {
    /// The end that this event means, if it means one.
    pub(crate) fn see(&mut self, event: &Event) -> Option<SessionEnd> {
        match event {
            Event::SuspendDisk => self.hibernated = true,
            Event::Reset { .. } | Event::Resume => self.hibernated = false,
            Event::GuestPanicked { action } if action != "run" => {
                return Some(SessionEnd::GuestPanic);
            }
            Event::Shutdown { reason, .. } => {
                return Some(SessionEnd::from_reason(reason, self.hibernated));
            }
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shutdown(reason: ShutdownReason) -> Event {
        Event::Shutdown { guest: true, reason }
    }

    #[test]
    fn hibernation_is_no_shutdown() {
        let mut watch = EndWatch::default();
        assert_eq!(watch.see(&Event::SuspendDisk), None);
        let end = watch.see(&shutdown(ShutdownReason::GuestShutdown)).unwrap();
        assert_eq!(end, SessionEnd::GuestHibernated);
        assert!(!end.is_finished());
    }

    /// With power-offs diverted to a pause, a panic is told by its own event only.
    #[test]
    fn a_panic_ends_the_session_unless_the_guest_goes_on() {
        let panic = |action: &str| Event::GuestPanicked { action: action.into() };
        assert_eq!(EndWatch::default().see(&panic("pause")), Some(SessionEnd::GuestPanic));
        assert_eq!(EndWatch::default().see(&panic("run")), None);
    }

    #[test]
    fn only_the_guests_own_will_finishes_a_session() {
        let finished = |reason| EndWatch::default().see(&shutdown(reason)).unwrap().is_finished();
        assert!(finished(ShutdownReason::GuestShutdown));
        assert!(finished(ShutdownReason::GuestReset));
        for reason in [
            ShutdownReason::GuestPanic,
            ShutdownReason::HostQuit,
            ShutdownReason::HostSignal,
            ShutdownReason::HostUi,
            ShutdownReason::HostError,
            ShutdownReason::HostReset,
            ShutdownReason::Other("snapshot-load".into()),
        ] {
            assert!(!finished(reason));
        }
    }
}
