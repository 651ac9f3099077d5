//! Boot-sector guests and their launch.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use goldleaf_host::RealClock;
use goldleaf_vm::{
    Accel, AfterReboot, Boot, Disk, DiskSource, Display, Firmware, Hardware, Launch, Mac, Machine,
    Network, Notice, OnIoError, QEMU_BINARY, Qemu, SessionEnd,
};

pub const SOON: Duration = Duration::from_secs(30);

/// hlt, for ever, with interrupts off.
pub const HANG: &[u8] = &[0xfa, 0xf4, 0xeb, 0xfd];
/// mov dx, 0x604; mov ax, 0x2000; out dx, ax: the ICH9's soft off, as SeaBIOS places it.
pub const POWER_OFF: &[u8] = &[0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef, 0xf4, 0xeb, 0xfd];
/// The same port, sleep type 1: suspend to memory.
pub const SUSPEND: &[u8] = &[0xba, 0x04, 0x06, 0xb8, 0x00, 0x24, 0xef, 0xf4, 0xeb, 0xfd];
/// The same port, sleep type 2: suspend to disk.
pub const HIBERNATE: &[u8] = &[0xba, 0x04, 0x06, 0xb8, 0x00, 0x28, 0xef, 0xf4, 0xeb, 0xfd];
/// mov dx, 0xcf9; mov al, 2; out dx, al; mov al, 6; out dx, al: the chipset's reset.
pub const REBOOT: &[u8] = &[0xba, 0xf9, 0x0c, 0xb0, 0x02, 0xee, 0xb0, 0x06, 0xee, 0xf4, 0xeb, 0xfd];
/// mov dx, 0x505; mov al, 1; out dx, al: pvpanic.
pub const PANIC: &[u8] = &[0xba, 0x05, 0x05, 0xb0, 0x01, 0xee, 0xf4, 0xeb, 0xfd];
/// Enables the power button's event, waits for it in the status register, and powers off.
pub const OBEY_BUTTON: &[u8] = &[
    0xba, 0x02, 0x06, 0xb8, 0x00, 0x01, 0xef, // mov dx, 0x602; mov ax, 0x100; out dx, ax
    0xba, 0x00, 0x06, // mov dx, 0x600
    0xed, 0xf6, 0xc4, 0x01, 0x74, 0xfa, // in ax, dx; test ah, 1; jz back
    0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef, 0xf4, 0xeb, 0xfd, // POWER_OFF
];
/// Writes 'K' to the first serial port and hangs.
pub const SAY_K: &[u8] = &[0xba, 0xf8, 0x03, 0xb0, 0x4b, 0xee, 0xfa, 0xf4, 0xeb, 0xfd];

pub struct Guest {
    pub dir: tempfile::TempDir,
}

impl Guest {
    pub fn new(code: &[u8]) -> Self {
        let guest = Self { dir: tempfile::tempdir().unwrap() };
        guest.put(code);
        guest
    }

    pub fn disk(&self) -> PathBuf {
        self.dir.path().join("disk,1.raw")
    }

    /// Replaces the disk's content in place.
    pub fn put(&self, code: &[u8]) {
        let mut disk = vec![0; 1 << 20];
        disk[..code.len()].copy_from_slice(code);
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
        std::fs::write(self.disk(), disk).unwrap();
    }

    pub fn launch(&self) -> Launch {
        launch(&self.disk())
    }

    pub fn start(&self) -> Qemu {
        start(&self.launch())
    }
}

pub fn start(launch: &Launch) -> Qemu {
    Qemu::spawn(launch, Arc::new(RealClock::new()), SOON).unwrap()
}

pub fn launch(disk: &Path) -> Launch {
    Launch {
        binary: QEMU_BINARY.into(),
        hardware: hardware(),
        disks: vec![Disk {
            source: DiskSource::RawFile(disk.to_owned()),
            serial: "TEST,1".into(),
            on_error: OnIoError::Stop,
        }],
        boot: Boot::Disk,
        accel: Accel::Tcg,
        after_reboot: AfterReboot::EndsSession,
        serial_socket: None,
        serial_log: None,
        extra: Vec::<OsString>::new(),
    }
}

fn hardware() -> Hardware {
    Hardware {
        name: "boot sector, small".into(),
        uuid: "6d0f1f4e-0d1c-4f3a-9b57-0a5a5f1c2b11".into(),
        mac: Mac::from_random([1, 2, 3]),
        memory_mib: 64,
        cpus: 1,
        machine: Machine::Q35,
        firmware: Firmware::Bios,
        display: Display::Headless,
        network: Network::User { isolated: true, forwards: Vec::new() },
        clock_is_local: false,
    }
}

/// Waits for an event that `wanted` likes; other events pass.
pub fn wait_notice(qemu: &mut Qemu, wanted: impl Fn(&Notice) -> bool) -> Notice {
    loop {
        let notice = qemu.next(SOON).unwrap().expect("nothing happens");
        if wanted(&notice) {
            return notice;
        }
        assert!(!matches!(notice, Notice::End(_)), "unexpected {notice:?}");
    }
}

pub fn end_of(code: &[u8]) -> SessionEnd {
    Guest::new(code).start().wait_end(SOON).unwrap().expect("the session does not end")
}
