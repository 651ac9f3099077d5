//! How a session ended, in words, and whether that is a failure of the command that ran it.

use goldleaf_vm::SessionEnd;

use crate::failure::Failure;

/// The word for programs.
pub fn word(end: &SessionEnd) -> &'static str {
    match end {
        SessionEnd::GuestShutdown => "shutdown",
        SessionEnd::GuestReset => "reset",
        SessionEnd::GuestHibernated => "hibernated",
        SessionEnd::GuestPanic => "panic",
        SessionEnd::HostQuit => "plug-pulled",
        SessionEnd::HostSignal => "signal",
        SessionEnd::Died { .. } => "died",
        _ => "other",
    }
}

/// The sentence for people.
pub fn sentence(end: &SessionEnd) -> String {
    match end {
        SessionEnd::GuestShutdown => "the guest shut down".into(),
        SessionEnd::GuestReset => "the guest rebooted".into(),
        SessionEnd::GuestHibernated => "the guest hibernated".into(),
        SessionEnd::GuestPanic => "the guest's kernel panicked".into(),
        SessionEnd::HostQuit => "the guest's plug was pulled".into(),
        SessionEnd::HostSignal => "the hypervisor was ended by a signal".into(),
        SessionEnd::HostOther(name) => format!("the hypervisor ended the session ({name})"),
        SessionEnd::Died { status, stderr } => {
            let said = stderr.lines().last().unwrap_or("it said nothing");
            format!("the hypervisor died ({status}): {said}")
        }
        other => format!("the session ended: {other:?}"),
    }
}

/// Ends that nobody asked for are failures, after everything else was said.
pub fn check(end: &SessionEnd, consequence: &str) -> Result<(), Failure> {
    match end {
        SessionEnd::GuestPanic
        | SessionEnd::HostSignal
        | SessionEnd::HostOther(_)
        | SessionEnd::Died { .. } => Err(Failure::environment(sentence(end)).hint(consequence)),
        _ => Ok(()),
    }
}
