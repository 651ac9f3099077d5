//! A running QEMU: its process, its monitor, and the session's end.
//!
//! One thread owns a [`Qemu`] and waits on [`Qemu::next`]; others command it through clones of
//! [`Qemu::monitor`]. The process is launched so that every end of the guest leaves it paused,
//! and only Goldleaf ends it: a disk can be exchanged behind a guest that has just rebooted, and
//! no flush is cut short by an exit.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use goldleaf_host::Clock;

use crate::argv::{AfterReboot, Launch};
use crate::commands::RunState;
use crate::end::{EndWatch, SessionEnd};
use crate::error::VmError;
use crate::event::Event;
use crate::process::{OwnedChild, STATUS_NOT_FOUND};
use crate::qmp::{Events, Qmp};

/// How long a command may take that QEMU answers at once. Generous: the host may be swapping.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
/// Between the monitor's end and the process's.
const EXIT_PATIENCE: Duration = Duration::from_secs(5);

/// Version of a QEMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct QemuVersion {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
}

/// Asks the program for its version; the cheapest way to learn that there is one.
pub fn version(binary: &Path) -> Result<QemuVersion, VmError> {
    let output =
        Command::new(binary).arg("--version").output().map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => VmError::MissingQemu { binary: binary.to_owned() },
            _ => VmError::Spawn { binary: binary.to_owned(), source },
        })?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().next().unwrap_or("");
    parse_version(line).ok_or_else(|| VmError::NotQemu {
        binary: binary.to_owned(),
        found: line.chars().take(80).collect(),
    })
}

fn parse_version(line: &str) -> Option<QemuVersion> {
    let mut numbers = line.strip_prefix("QEMU emulator version ")?.split(['.', ' ']);
    let mut number = || numbers.next()?.parse().ok();
    Some(QemuVersion { major: number()?, minor: number()? })
}

/// What [`Qemu::next`] reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Something happened; the session goes on.
    Event(Event),
    /// The session is over. Reported again at each call, until the machine is reset.
    End(SessionEnd),
}

/// How a guest is asked to power off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// How often the button is pressed: a guest that is still booting misses the first press, and
    /// some desktops show a dialog at it.
    pub presses: u32,
    /// How long to wait after each press.
    pub after_each: Duration,
}

/// What came of asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PowerOff {
    /// The session is over.
    Ended(SessionEnd),
    /// The guest does not answer; it is still in this state, and only pulling the plug is left.
    NoAnswer(RunState),
}

/// A running QEMU. Dropping it pulls the plug.
pub struct Qemu {
    child: OwnedChild,
    monitor: Qmp,
    events: Events,
    watch: EndWatch,
    end: Option<SessionEnd>,
    after_reboot: AfterReboot,
    clock: Arc<dyn Clock>,
}

impl Qemu {
    /// Starts the process and waits, at most `timeout`, until its monitor answers.
    pub fn spawn(
        launch: &Launch,
        clock: Arc<dyn Clock>,
        timeout: Duration,
    ) -> Result<Self, VmError> {
        let (near, far) = UnixStream::pair().map_err(VmError::host("making the monitor"))?;
        let mut child = OwnedChild::spawn(&launch.binary, launch.argv(), OwnedFd::from(far))?;
        match greet(near, timeout) {
            Ok((monitor, events)) => Ok(Self {
                child,
                monitor,
                events,
                watch: EndWatch::default(),
                end: None,
                after_reboot: launch.after_reboot,
                clock,
            }),
            Err(VmError::Gone) => Err(did_not_start(&launch.binary, &mut child)),
            Err(error) => Err(error),
        }
    }

    /// The hypervisor's process id.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// A handle for commands; it may be used from other threads.
    pub fn monitor(&self) -> &Qmp {
        &self.monitor
    }

    /// Waits for the next thing that happens; `None` when nothing did in time.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<Notice>, VmError> {
        if let Some(end) = &self.end {
            return Ok(Some(Notice::End(end.clone())));
        }
        let event = match self.events.next(timeout) {
            Ok(None) => return Ok(None),
            Ok(Some(event)) => event,
            Err(VmError::Gone) => {
                let end = self.died();
                return Ok(Some(Notice::End(self.end.insert(end).clone())));
            }
            Err(error) => return Err(error),
        };
        self.end = self.watch.see(&event);
        Ok(Some(match &self.end {
            Some(end) => Notice::End(end.clone()),
            None => Notice::Event(event),
        }))
    }

    /// Waits for the session's end and lets other events pass.
    pub fn wait_end(&mut self, timeout: Duration) -> Result<Option<SessionEnd>, VmError> {
        let deadline = self.clock.monotonic() + timeout;
        loop {
            let left = deadline.saturating_sub(self.clock.monotonic());
            match self.next(left)? {
                Some(Notice::End(end)) => return Ok(Some(end)),
                // Of events there may be no end.
                Some(Notice::Event(_)) if !left.is_zero() => {}
                _ => return Ok(None),
            }
        }
    }

    /// Asks the guest to power off, as often and as long as `patience` says, and hears nothing else
    /// meanwhile.
    pub fn power_off(&mut self, patience: Patience) -> Result<PowerOff, VmError> {
        for _ in 0..patience.presses {
            if let Some(end) = &self.end {
                return Ok(PowerOff::Ended(end.clone()));
            }
            match self.press_power_button() {
                Ok(()) | Err(VmError::Gone) => {}
                Err(error) => return Err(error),
            }
            if let Some(end) = self.wait_end(patience.after_each)? {
                return Ok(PowerOff::Ended(end));
            }
        }
        Ok(PowerOff::NoAnswer(self.monitor.query_status()?))
    }

    /// Presses the power button, once. A guest that is suspended is woken first: asleep it hears no
    /// button.
    pub fn press_power_button(&self) -> Result<(), VmError> {
        if self.monitor.query_status()? == RunState::Suspended {
            self.monitor.system_wakeup()?;
        }
        self.monitor.system_powerdown()
    }

    /// After the guest's reboot (or any other end that left the process paused): starts the same
    /// machine again. Whatever is behind the disks by then is what the guest boots from.
    pub fn reset_and_continue(&mut self, timeout: Duration) -> Result<(), VmError> {
        // With reboots diverted, a reset of ours would be taken for one of the guest's.
        self.monitor.set_reboot_ends_session(false)?;
        self.monitor.system_reset()?;
        self.wait_reset(timeout)?;
        if self.after_reboot == AfterReboot::EndsSession {
            self.monitor.set_reboot_ends_session(true)?;
        }
        self.watch = EndWatch::default();
        self.end = None;
        self.monitor.cont()
    }

    /// Events before the reset belong to the session that is over.
    fn wait_reset(&mut self, timeout: Duration) -> Result<(), VmError> {
        let deadline = self.clock.monotonic() + timeout;
        loop {
            let left = deadline.saturating_sub(self.clock.monotonic());
            match self.events.next(left)? {
                Some(Event::Reset { .. }) => return Ok(()),
                Some(_) if !left.is_zero() => {}
                _ => {
                    let what = "system_reset".to_owned();
                    return Err(VmError::NoAnswer { what, waited: timeout });
                }
            }
        }
    }

    /// Ends the process in good order: the disks' last requests are flushed, the guest is not
    /// asked. Killed when it takes longer than `timeout`.
    pub fn quit(mut self, timeout: Duration) -> Result<(), VmError> {
        match self.monitor.quit() {
            Ok(()) | Err(VmError::Gone) => {}
            Err(error) => return Err(error),
        }
        match self.child.wait(timeout) {
            Some(_) => Ok(()),
            None => Err(VmError::NoAnswer { what: "quit".to_owned(), waited: timeout }),
        }
    }

    /// Kills the process: nothing more reaches its disks.
    pub fn kill(mut self) {
        self.child.kill();
    }

    fn died(&mut self) -> SessionEnd {
        let status = self.child.wait(EXIT_PATIENCE).or_else(|| self.child.kill());
        SessionEnd::Died { status: describe(status), stderr: self.child.stderr() }
    }
}

fn greet(stream: UnixStream, timeout: Duration) -> Result<(Qmp, Events), VmError> {
    let (monitor, events) = Qmp::connect(stream, timeout)?;
    // The greeting may come before the devices are made; an answer to this comes after.
    monitor.query_status()?;
    Ok((monitor.with_timeout(COMMAND_TIMEOUT), events))
}

fn did_not_start(binary: &Path, child: &mut OwnedChild) -> VmError {
    let status = child.wait(EXIT_PATIENCE).or_else(|| child.kill());
    if status.and_then(|status| status.code()) == Some(STATUS_NOT_FOUND) {
        return VmError::MissingQemu { binary: binary.to_owned() };
    }
    VmError::DidNotStart { status: describe(status), stderr: child.stderr() }
}

fn describe(status: Option<ExitStatus>) -> String {
    status.map_or_else(|| "it does not end".to_owned(), |status| status.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        let line = "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)";
        assert_eq!(parse_version(line), Some(QemuVersion { major: 10, minor: 0 }));
        assert_eq!(
            parse_version("QEMU emulator version 7.2"),
            Some(QemuVersion { major: 7, minor: 2 })
        );
        assert_eq!(parse_version("bash 5"), None);
        assert_eq!(parse_version("QEMU emulator version x"), None);
    }
}
