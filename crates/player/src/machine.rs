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
use goldleaf_image::Arrived;
use goldleaf_nbd::{Export, Options, Server};
use goldleaf_vm::{
    Accel, AfterReboot, Boot, Disk, DiskSource, Display, Event, Hardware, Launch, Notice,
    OnIoError, QEMU_BINARY, Qemu, SessionEnd, VmError,
};

use crate::PlayerError;
use crate::control::{Answer, Pending, Request};
use crate::home::step;

/// Name of the export; there is one.
const EXPORT: &str = "disk";
/// How long QEMU may take to open its monitor, and to reset.
const MONITOR_TIMEOUT: Duration = Duration::from_secs(30);
/// How often the loop looks at requests while the guest is quiet.
const TICK: Duration = Duration::from_millis(100);
/// How often the power button is pressed: a desktop may show a dialog at the first press.
const PRESSES: u32 = 3;
/// How long a guest has after each.
const AFTER_PRESS: Duration = Duration::from_secs(40);
/// What somebody hears whose guest does not power off.
const NO_ANSWER: &str = "the guest does not answer the power button; shut it down inside, or pull \
                         the plug with `goldleaf stop --force` (the session continues at the next \
                         start)";
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
    /// Is called again and again while the machine runs.
    fn tick(&mut self);
    /// How much of what the guest runs on is here; `None` where all of it was made here.
    fn arrived(&self) -> Option<Arrived> {
        None
    }
    /// The guest rebooted and is paused: files the session and gives the disk of the next one.
    fn next_disk(&mut self) -> Result<Arc<dyn WriteBlocks>, PlayerError>;
    /// What the session changed so far.
    fn changes(&mut self) -> Result<serde_json::Value, PlayerError>;
}

/// Runs guests.
pub trait Hypervisor: Send + Sync {
    /// Runs a machine over a disk until its session ends, serving who asks meanwhile.
    fn run(
        &self,
        disk: Arc<dyn WriteBlocks>,
        spec: &MachineSpec,
        clock: Arc<dyn Clock>,
        requests: &Receiver<Pending>,
        owner: &mut dyn Owner,
    ) -> Result<SessionEnd, PlayerError>;
}

/// QEMU, with the disk served to it over NBD.
pub struct QemuOverNbd;

impl Hypervisor for QemuOverNbd {
    fn run(
        &self,
        disk: Arc<dyn WriteBlocks>,
        spec: &MachineSpec,
        clock: Arc<dyn Clock>,
        requests: &Receiver<Pending>,
        owner: &mut dyn Owner,
    ) -> Result<SessionEnd, PlayerError> {
        run(disk, spec, clock, requests, owner)
    }
}

fn run(
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
    let mut qemu = step("machine.launch", || {
        Ok(Qemu::spawn(&launch(spec, &socket), clock.clone(), MONITOR_TIMEOUT)?)
    })?;
    owner.news(&MachineNews::Started { pid: qemu.pid() });
    let mut session = Running { qemu: &mut qemu, server: &server, owner, clock, stopping: None };
    let end = session.watch(requests);
    if let (Some(stopping), Ok(end)) = (session.stopping.take(), &end) {
        stopping.answer(end);
    }
    // The process goes before its disk does, so that it never waits for a server that is gone.
    step("machine.quit", || match &end {
        Ok(SessionEnd::HostQuit | SessionEnd::Died { .. }) | Err(_) => {
            qemu.kill();
            Ok(())
        }
        Ok(_) => Ok(qemu.quit(MONITOR_TIMEOUT)?),
    })?;
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
    clock: Arc<dyn Clock>,
    stopping: Option<Stopping>,
}

/// A guest that was asked to power off.
struct Stopping {
    askers: Vec<Pending>,
    presses_left: u32,
    next_press: Duration,
}

impl Stopping {
    /// Tells those who asked how it ended.
    fn answer(self, end: &SessionEnd) {
        for asker in self.askers {
            asker.answer(match end {
                SessionEnd::HostQuit => Answer::Failed("the plug was pulled instead".into()),
                _ => Answer::Done(serde_json::Value::Null),
            });
        }
    }
}

impl Running<'_> {
    fn watch(&mut self, requests: &Receiver<Pending>) -> Result<SessionEnd, PlayerError> {
        loop {
            match self.qemu.next(TICK)? {
                Some(Notice::End(SessionEnd::GuestReset)) if self.stopping.is_none() => {
                    self.reset()?;
                }
                Some(Notice::End(end)) => return Ok(end),
                Some(Notice::Event(event)) => self.tell(&event),
                None => {}
            }
            while let Ok(pending) = requests.try_recv() {
                if let Some(end) = self.serve(pending) {
                    return Ok(end);
                }
            }
            self.press_on()?;
            self.owner.tick();
        }
    }

    /// A reboot inside the guest is a reset: the guest keeps its window and gets a clean disk.
    fn reset(&mut self) -> Result<(), PlayerError> {
        self.owner.news(&MachineNews::Rebooted);
        let disk = self.owner.next_disk()?;
        step("machine.reset", || {
            self.server.swap(disk).map_err(|error| PlayerError::Nbd(error.to_string()))?;
            Ok(self.qemu.reset_and_continue(MONITOR_TIMEOUT)?)
        })
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
    fn serve(&mut self, pending: Pending) -> Option<SessionEnd> {
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
                return Some(SessionEnd::HostQuit);
            }
            Request::Stop => self.stop(pending),
        }
        None
    }

    /// Begins to ask the guest to power off.
    fn stop(&mut self, pending: Pending) {
        let next_press = self.clock.monotonic();
        let stopping = self.stopping.get_or_insert_with(|| {
            self.owner.news(&MachineNews::PoweringOff);
            Stopping { askers: Vec::new(), presses_left: PRESSES, next_press }
        });
        stopping.askers.push(pending);
    }

    /// Presses the button of a guest that is to power off, when it is time to, and gives up on one
    /// that never answers.
    fn press_on(&mut self) -> Result<(), PlayerError> {
        let now = self.clock.monotonic();
        let Some(stopping) = self.stopping.as_mut().filter(|stopping| now >= stopping.next_press)
        else {
            return Ok(());
        };
        if stopping.presses_left > 0 {
            stopping.presses_left -= 1;
            stopping.next_press = now + AFTER_PRESS;
            return match self.qemu.press_power_button() {
                // How it ended is the next thing to be heard.
                Ok(()) | Err(VmError::Gone) => Ok(()),
                Err(error) => Err(error.into()),
            };
        }
        self.owner.news(&MachineNews::NoAnswer);
        for asker in self.stopping.take().into_iter().flat_map(|stopping| stopping.askers) {
            asker.answer(Answer::Failed(NO_ANSWER.into()));
        }
        Ok(())
    }

    fn status(&self) -> serde_json::Value {
        let stats = self.server.stats();
        let image = self.owner.arrived().map(|arrived| {
            let (here, all) = (arrived.here.bytes().0, arrived.all.bytes().0);
            serde_json::json!({ "here_bytes": here, "all_bytes": all })
        });
        serde_json::json!({
            "hypervisor_pid": self.qemu.pid(),
            "image": image,
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
