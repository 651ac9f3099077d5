//! A guest that runs straight from a raw disk, without a session: for images in the making and for
//! tests of the harness.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use goldleaf_host::RealClock;
use goldleaf_vm::{
    Accel, AfterReboot, Boot, Disk, DiskSource, Display, Firmware, Hardware, Launch, Mac, Machine,
    Network, OnIoError, Patience, PowerOff, QEMU_BINARY, Qemu, SessionEnd,
};
use tempfile::TempDir;

use crate::console::Console;
use crate::error::HarnessError;
use crate::images::ROOT_PASSWORD;

/// A boot of a translated guest on a busy host.
pub const BOOT_TIMEOUT: Duration = Duration::from_secs(400);
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A booted guest with somebody logged in at its console.
pub struct Guest {
    /// The console, logged in as root.
    pub console: Console,
    /// The hypervisor.
    pub qemu: Qemu,
    /// From the start of the hypervisor to the login prompt's answer.
    pub boot_time: Duration,
    _dir: TempDir,
}

impl Guest {
    /// Boots a raw disk, which the guest writes to, and logs in.
    pub fn boot(disk: &Path) -> Result<Self, HarnessError> {
        let dir = tempfile::tempdir()?;
        let socket = dir.path().join("serial.sock");
        let launch = launch(disk, &socket);
        let start = Instant::now();
        let qemu = Qemu::spawn(&launch, Arc::new(RealClock::new()), START_TIMEOUT)?;
        let mut console = Console::connect(&socket)?;
        console.login("root", ROOT_PASSWORD, BOOT_TIMEOUT)?;
        Ok(Self { console, qemu, boot_time: start.elapsed(), _dir: dir })
    }

    /// Runs a command that must succeed.
    pub fn run(&mut self, command: &str) -> Result<String, HarnessError> {
        self.console.run(command)
    }

    /// Powers the guest off from inside and ends the hypervisor.
    pub fn power_off(mut self) -> Result<SessionEnd, HarnessError> {
        self.console.send("systemctl poweroff")?;
        let patience = Patience { presses: 1, after_each: BOOT_TIMEOUT };
        let end = match self.qemu.wait_end(BOOT_TIMEOUT)? {
            Some(end) => end,
            None => match self.qemu.power_off(patience)? {
                PowerOff::Ended(end) => end,
                PowerOff::NoAnswer(state) => {
                    return Err(HarnessError::Silent {
                        what: format!("the guest's end; it is {state:?}"),
                        seconds: BOOT_TIMEOUT.as_secs(),
                        tail: self.console.tail(),
                    });
                }
            },
        };
        self.qemu.quit(START_TIMEOUT)?;
        Ok(end)
    }
}

fn launch(disk: &Path, serial: &Path) -> Launch {
    Launch {
        binary: QEMU_BINARY.into(),
        hardware: hardware(),
        disks: vec![Disk {
            source: DiskSource::RawFile(disk.to_owned()),
            serial: "E2E".into(),
            on_error: OnIoError::Report,
        }],
        boot: Boot::Disk,
        accel: Accel::Tcg,
        after_reboot: AfterReboot::Restarts,
        serial_socket: Some(serial.to_owned()),
        serial_log: None,
        extra: Vec::new(),
    }
}

/// A small machine with a network that reaches the host.
pub fn hardware() -> Hardware {
    Hardware {
        name: "e2e".into(),
        uuid: "b3a1f0c2-5d0e-4f49-8c55-1d1f0e2e0001".into(),
        mac: Mac::from_random([0xe2, 0xe0, 0x01]),
        memory_mib: 512,
        cpus: 2,
        machine: Machine::Q35,
        firmware: Firmware::Bios,
        display: Display::Headless,
        network: Network::User { isolated: false, forwards: Vec::new() },
        clock_is_local: false,
    }
}
