//! One virtual machine over one disk of ours: the NBD server, the hypervisor, and the loop that
//! stands between them and whoever asks.

use std::io;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use goldleaf_block::WriteBlocks;
use goldleaf_host::Clock;
use goldleaf_nbd::{Export, Options, Server};
use goldleaf_vm::{
    Accel, AfterReboot, Boot, Disk, DiskSource, Display, Event, Hardware, Launch, Notice,
    OnIoError, Patience, PowerOff, QEMU_BINARY, Qemu, SessionEnd,
};

use crate::PlayerError;
use crate::control::{Answer, Pending, Request};

/// Name of the export; there is one.
const EXPORT: &str = "disk";
/// How long QEMU may take to open its monitor, and to reset.
const MONITOR_TIMEOUT: Duration = Duration::from_secs(30);
/// How often the loop looks at requests while the guest is quiet.
const TICK: Duration = Duration::from_millis(100);
/// How a guest is asked to power off: a desktop may show a dialog at the first press.
const PATIENCE: Patience = Patience { presses: 3, after_each: Duration::from_secs(40) };
/// For how long QEMU waits for a lost disk server before the guest is stopped.
const RECONNECT_S: u32 = 10;

/// What a machine is made of, beside its disk.
#[derive(Debug, Clone)]
pub struct MachineSpec {
    /// What the guest sees.
    pub hardware: Hardware,
    /// Serial number of the disk.
    pub disk_serial: String,
    /// What runs its instructions.
    pub accel: Accel,
    /// What a reboot in the guest does.
    pub after_reboot: AfterReboot,
    /// Directory of its sockets: the disk's, the serial console's, the control door.
    pub run: PathBuf,
}

/// What the loop tells of a session under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MachineNews {
    /// The guest runs.
    Started {
        /// The hypervisor's process id.
        pid: u32,
    },
    /// The guest was asked to power off.
    PoweringOff,
    /// The guest does not answer the power button.
    NoAnswer,
    /// The guest sleeps (suspend to memory).
    Suspended,
    /// The guest is awake again.
    Awake,
    /// The guest rebooted: its disk is being reset.
    Rebooted,
    /// The guest is stopped because its disk could not be written.
    DiskTrouble,
}

/// What the owner of a session does for its machine.
pub trait Owner {
    /// Hears what happens.
    fn news(&mut self, news: &MachineNews);
    /// The guest rebooted and is paused: files the session and gives the disk of the next one.
    fn next_disk(&mut self) -> Result<Arc<dyn WriteBlocks>, PlayerError>;
    /// What the session changed so far.
    fn changes(&mut self) -> Result<serde_json::Value, PlayerError>;
}

/// Runs a machine until its session ends.
pub fn run(
    disk: Arc<dyn WriteBlocks>,
    spec: &MachineSpec,
    clock: Arc<dyn Clock>,
    requests: &Receiver<Pending>,
    owner: &mut dyn Owner,
) -> Result<SessionEnd, PlayerError> {
    let socket = spec.run.join("disk.sock");
    let listener = bind(&socket)?;
    let export = Export { name: EXPORT.into(), device: disk, read_only: false };
    let server = Server::start(listener, export, Options::default())
        .map_err(|error| PlayerError::Nbd(error.to_string()))?;
    let mut qemu = Qemu::spawn(&launch(spec, &socket), clock, MONITOR_TIMEOUT)?;
    owner.news(&MachineNews::Started { pid: qemu.pid() });
    let mut session = Running { qemu: &mut qemu, server: &server, owner };
    let end = session.watch(requests);
    // The process goes before its disk does, so that it never waits for a server that is gone.
    match &end {
        Ok(SessionEnd::HostQuit | SessionEnd::Died { .. }) | Err(_) => qemu.kill(),
        Ok(_) => qemu.quit(MONITOR_TIMEOUT)?,
    }
    server.stop();
    end
}

/// A socket that only this user can reach; what an earlier process left there goes.
fn bind(socket: &Path) -> Result<UnixListener, PlayerError> {
    let what = || PlayerError::io(format!("listening at {}", socket.display()));
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(what()(error)),
        _ => {}
    }
    UnixListener::bind(socket).map_err(what())
}

fn launch(spec: &MachineSpec, socket: &Path) -> Launch {
    Launch {
        binary: QEMU_BINARY.into(),
        hardware: spec.hardware.clone(),
        disks: vec![Disk {
            source: DiskSource::Nbd {
                socket: socket.into(),
                export: EXPORT.into(),
                reconnect_s: RECONNECT_S,
            },
            serial: spec.disk_serial.clone(),
            on_error: OnIoError::Stop,
        }],
        boot: Boot::Disk,
        accel: spec.accel,
        after_reboot: spec.after_reboot,
        serial_socket: Some(spec.run.join("serial.sock")),
        serial_log: Some(spec.run.join("serial.log")),
        extra: Vec::new(),
    }
}

/// A machine under way.
struct Running<'a> {
    qemu: &'a mut Qemu,
    server: &'a Server,
    owner: &'a mut dyn Owner,
}

impl Running<'_> {
    fn watch(&mut self, requests: &Receiver<Pending>) -> Result<SessionEnd, PlayerError> {
        loop {
            match self.qemu.next(TICK)? {
                Some(Notice::End(SessionEnd::GuestReset)) => self.reset()?,
                Some(Notice::End(end)) => return Ok(end),
                Some(Notice::Event(event)) => self.tell(&event),
                None => {}
            }
            while let Ok(pending) = requests.try_recv() {
                if let Some(end) = self.serve(pending)? {
                    return Ok(end);
                }
            }
        }
    }

    /// A reboot inside the guest is a reset: the guest keeps its window and gets a clean disk.
    fn reset(&mut self) -> Result<(), PlayerError> {
        self.owner.news(&MachineNews::Rebooted);
        let disk = self.owner.next_disk()?;
        self.server.swap(disk).map_err(|error| PlayerError::Nbd(error.to_string()))?;
        Ok(self.qemu.reset_and_continue(MONITOR_TIMEOUT)?)
    }

    fn tell(&mut self, event: &Event) {
        let news = match event {
            Event::Suspend => MachineNews::Suspended,
            Event::Wakeup => MachineNews::Awake,
            Event::BlockIoError { .. } => MachineNews::DiskTrouble,
            _ => return,
        };
        self.owner.news(&news);
    }

    /// Does what somebody asks; the session's end, when that was it.
    fn serve(&mut self, pending: Pending) -> Result<Option<SessionEnd>, PlayerError> {
        match pending.request {
            Request::Status => pending.answer(Answer::Done(self.status())),
            Request::Changes => {
                let answer = match self.owner.changes() {
                    Ok(changes) => Answer::Done(changes),
                    Err(error) => Answer::Failed(error.to_string()),
                };
                pending.answer(answer);
            }
            Request::Kill => {
                pending.answer(Answer::Done(serde_json::Value::Null));
                return Ok(Some(SessionEnd::HostQuit));
            }
            Request::Stop => return self.stop(pending),
        }
        Ok(None)
    }

    fn stop(&mut self, pending: Pending) -> Result<Option<SessionEnd>, PlayerError> {
        self.owner.news(&MachineNews::PoweringOff);
        match self.qemu.power_off(PATIENCE)? {
            PowerOff::Ended(end) => {
                pending.answer(Answer::Done(serde_json::Value::Null));
                Ok(Some(end))
            }
            PowerOff::NoAnswer(_) => {
                self.owner.news(&MachineNews::NoAnswer);
                pending.answer(Answer::Failed(
                    "the guest does not answer the power button; shut it down inside, or pull the \
                     plug with `goldleaf stop --force` (the session continues at the next start)"
                        .into(),
                ));
                Ok(None)
            }
        }
    }

    fn status(&self) -> serde_json::Value {
        let stats = self.server.stats();
        serde_json::json!({
            "hypervisor_pid": self.qemu.pid(),
            "disk": {
                "reads": stats.reads,
                "writes": stats.writes,
                "flushes": stats.flushes,
                "read_bytes": stats.read_bytes,
                "written_bytes": stats.written_bytes,
            },
        })
    }
}

/// What shows the guest's screen.
pub fn display(headless: bool) -> Display {
    if headless { Display::Headless } else { Display::Gtk }
}
