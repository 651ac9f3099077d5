//! QEMU's command line.
//!
//! Everything is spelled out: no default devices, no user configuration, each disk's driver by
//! name. QEMU splits option values at commas, so every value that comes from outside is escaped.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::accel::Accel;
use crate::hardware::{Disk, DiskSource, Display, Firmware, Hardware, Machine, Network, OnIoError};

/// More request queues than this buy a desktop nothing.
const DISK_QUEUES_MAX: u32 = 4;
/// The descriptor on which the child finds its monitor: its standard input is a socket of ours, so
/// that no path can be raced for and the monitor closes when we die.
const MONITOR_FD: u32 = 0;

/// What a guest's reboot does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterReboot {
    /// Ends the session; the paused process waits for its next disk.
    EndsSession,
    /// What it does on a real machine.
    Restarts,
}

/// What the machine starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Boot {
    /// The first disk, by the firmware.
    Disk,
    /// A Linux kernel of the host's.
    Kernel {
        /// The kernel.
        kernel: PathBuf,
        /// Its first file system.
        initrd: Option<PathBuf>,
        /// Its command line.
        command_line: String,
    },
}

/// One start of QEMU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// The program: a path, or a name to be found by the host.
    pub binary: PathBuf,
    /// The machine.
    pub hardware: Hardware,
    /// Its disks, in order.
    pub disks: Vec<Disk>,
    /// What it starts.
    pub boot: Boot,
    /// What runs the guest's instructions.
    pub accel: Accel,
    /// What a guest's reboot does.
    pub after_reboot: AfterReboot,
    /// Unix socket of the first serial port; nobody has to be connected.
    pub serial_socket: Option<PathBuf>,
    /// File that receives all that the first serial port says. Needs the socket.
    pub serial_log: Option<PathBuf>,
    /// Further arguments, for debugging; last on the line.
    pub extra: Vec<OsString>,
}

/// Collects `-option value` pairs.
#[derive(Default)]
struct Line(Vec<OsString>);

impl Line {
    fn flag(&mut self, option: &str) {
        self.0.push(option.into());
    }

    fn pair(&mut self, option: &str, value: impl Into<OsString>) {
        self.0.push(option.into());
        self.0.push(value.into());
    }
}

/// Builds one comma-separated option value.
struct Value(Vec<u8>);

impl Value {
    fn new(head: &str) -> Self {
        Self(head.as_bytes().to_vec())
    }

    /// Appends `,key=value` where the value is ours.
    fn set(mut self, key: &str, value: impl std::fmt::Display) -> Self {
        self.0.extend_from_slice(format!(",{key}={value}").as_bytes());
        self
    }

    /// Appends `,key=value` where the value comes from outside: its commas are doubled.
    fn text(mut self, key: &str, value: &[u8]) -> Self {
        self.0.extend_from_slice(format!(",{key}=").as_bytes());
        for &byte in value {
            self.0.push(byte);
            if byte == b',' {
                self.0.push(byte);
            }
        }
        self
    }

    fn path(self, key: &str, path: &Path) -> Self {
        self.text(key, path.as_os_str().as_bytes())
    }
}

impl From<Value> for OsString {
    fn from(value: Value) -> Self {
        Self::from_vec(value.0)
    }
}

impl Launch {
    /// The arguments, without the program itself.
    pub fn argv(&self) -> Vec<OsString> {
        let mut line = Line::default();
        self.base(&mut line);
        self.machine(&mut line);
        self.processors(&mut line);
        self.boot(&mut line);
        for (index, disk) in self.disks.iter().enumerate() {
            self.disk(&mut line, index, disk);
        }
        network(&mut line, &self.hardware);
        display(&mut line, &self.hardware.display);
        self.serial(&mut line);
        line.pair("-device", "virtio-rng-pci");
        line.0.extend(self.extra.iter().cloned());
        line.0
    }

    /// What holds for every guest.
    fn base(&self, line: &mut Line) {
        line.flag("-nodefaults");
        line.flag("-no-user-config");
        let name = Value::new("debug-threads=on").text("guest", self.hardware.name.as_bytes());
        line.pair("-name", name);
        line.pair("-uuid", &self.hardware.uuid);
        line.pair(
            "-sandbox",
            "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        );
        line.pair("-chardev", format!("socket,id=monitor,fd={MONITOR_FD}"));
        line.pair("-mon", "chardev=monitor,mode=control");
        let base = if self.hardware.clock_is_local { "localtime" } else { "utc" };
        line.pair("-rtc", format!("base={base},clock=host"));
        line.pair("-action", self.action());
    }

    fn action(&self) -> &'static str {
        match self.after_reboot {
            AfterReboot::EndsSession => "reboot=shutdown,shutdown=pause,panic=pause",
            AfterReboot::Restarts => "reboot=reset,shutdown=pause,panic=pause",
        }
    }

    /// Hibernation (S4) is taken from the firmware's tables: a memory image in a disk that is
    /// reset would wake up over foreign files. Suspend to memory (S3) is the hypervisor's affair.
    fn machine(&self, line: &mut Line) {
        let (name, power) = match self.hardware.machine {
            Machine::Q35 => ("q35", "ICH9-LPC"),
            Machine::I440fx => ("pc", "PIIX4_PM"),
        };
        let mut machine = Value::new(name);
        if let Firmware::Uefi { code, variables } = &self.hardware.firmware {
            line.pair("-blockdev", flash("code", code).set("read-only", "on"));
            line.pair("-blockdev", flash("variables", variables));
            machine = machine.set("pflash0", "code").set("pflash1", "variables");
        }
        line.pair("-machine", machine);
        line.pair("-global", format!("{power}.disable_s3=0"));
        line.pair("-global", format!("{power}.disable_s4=1"));
        line.pair("-device", "pvpanic");
    }

    fn processors(&self, line: &mut Line) {
        let (accel, cpu) = match self.accel {
            Accel::Kvm => ("kvm", "host"),
            Accel::Tcg => ("tcg,thread=multi", "max"),
        };
        line.pair("-accel", accel);
        line.pair("-cpu", cpu);
        line.pair("-smp", self.hardware.cpus.to_string());
        line.pair("-m", format!("{}M", self.hardware.memory_mib));
    }

    fn boot(&self, line: &mut Line) {
        match &self.boot {
            Boot::Disk => line.pair("-boot", "strict=on"),
            Boot::Kernel { kernel, initrd, command_line } => {
                line.pair("-kernel", kernel);
                if let Some(initrd) = initrd {
                    line.pair("-initrd", initrd);
                }
                line.pair("-append", command_line);
            }
        }
    }

    /// Two nodes a disk: the bytes' source, and the raw format over it, named so that nothing
    /// looks for another. Each disk has a thread of its own.
    fn disk(&self, line: &mut Line, index: usize, disk: &Disk) {
        let source = match &disk.source {
            DiskSource::Nbd { socket, export, reconnect_s } => Value::new("driver=nbd")
                .set("server.type", "unix")
                .path("server.path", socket)
                .text("export", export.as_bytes())
                .set("reconnect-delay", reconnect_s),
            DiskSource::RawFile(path) => Value::new("driver=file").path("filename", path),
        };
        line.pair("-object", format!("iothread,id=disk{index}-thread"));
        let source = source.set("node-name", format_args!("disk{index}-source"));
        line.pair("-blockdev", source.set("discard", "unmap"));
        let raw = format!("driver=raw,node-name=disk{index},file=disk{index}-source,discard=unmap");
        line.pair("-blockdev", raw);
        line.pair("-device", self.disk_device(index, disk));
    }

    /// Physical blocks of 4 KiB keep the guest's partitions and file systems on the grid that the
    /// session log stores.
    fn disk_device(&self, index: usize, disk: &Disk) -> Value {
        let on_error = match disk.on_error {
            OnIoError::Stop => "stop",
            OnIoError::Report => "report",
        };
        Value::new("virtio-blk-pci")
            .set("drive", format_args!("disk{index}"))
            .set("id", format_args!("disk{index}-device"))
            .set("iothread", format_args!("disk{index}-thread"))
            .set("num-queues", self.hardware.cpus.clamp(1, DISK_QUEUES_MAX))
            .set("bootindex", index)
            .set("write-cache", "on")
            .set("physical_block_size", 4096)
            .set("discard_granularity", 4096)
            .set("werror", on_error)
            .set("rerror", on_error)
            .text("serial", disk.serial.as_bytes())
    }

    fn serial(&self, line: &mut Line) {
        let Some(socket) = &self.serial_socket else { return };
        let mut port = Value::new("socket,id=serial0,server=on,wait=off").path("path", socket);
        if let Some(log) = &self.serial_log {
            port = port.path("logfile", log).set("logappend", "on");
        }
        line.pair("-chardev", port);
        line.pair("-device", "isa-serial,chardev=serial0");
    }
}

fn flash(node: &str, file: &Path) -> Value {
    Value::new("driver=raw")
        .set("node-name", node)
        .set("file.driver", "file")
        .path("file.filename", file)
}

/// The card comes without its boot ROM: nothing is ever started from the network.
fn network(line: &mut Line, hardware: &Hardware) {
    let Network::User { isolated, forwards } = &hardware.network else { return };
    let restrict = if *isolated { "on" } else { "off" };
    let mut user = Value::new("user,id=net0").set("restrict", restrict);
    for forward in forwards {
        let (host, guest) = (forward.host_port, forward.guest_port);
        user = user.set("hostfwd", format_args!("tcp:127.0.0.1:{host}-:{guest}"));
    }
    line.pair("-netdev", user);
    line.pair("-device", format!("virtio-net-pci,netdev=net0,mac={},romfile=", hardware.mac));
}

/// Closing a window would pull the plug, so windows do not close: the guest is shut down instead.
fn display(line: &mut Line, display: &Display) {
    match display {
        Display::Headless => line.pair("-display", "none"),
        Display::Gtk => line.pair("-display", "gtk,window-close=off"),
        Display::Sdl => line.pair("-display", "sdl,window-close=off"),
        Display::Vnc(socket) => {
            let mut server = OsString::from("unix:");
            server.push(OsString::from(Value(Vec::new()).escaped(socket)));
            line.pair("-vnc", server);
        }
    }
    if *display == Display::Headless {
        line.pair("-device", "VGA");
    } else {
        line.pair("-device", "virtio-vga");
        line.pair("-device", "qemu-xhci");
        line.pair("-device", "usb-tablet");
        line.pair("-device", "usb-kbd");
    }
}

impl Value {
    /// A bare path, with its commas doubled.
    fn escaped(mut self, path: &Path) -> Self {
        for &byte in path.as_os_str().as_bytes() {
            self.0.push(byte);
            if byte == b',' {
                self.0.push(byte);
            }
        }
        self
    }
}

#[cfg(test)]
#[path = "argv_tests.rs"]
mod tests;
