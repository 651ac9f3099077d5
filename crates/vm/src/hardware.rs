//! The machine that a guest sees, as plain data.
//!
//! A desktop keeps its [`Hardware`] for life: a guest that finds another UUID, MAC address or disk
//! serial believes that it was moved, and licences and leases go with it.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A MAC address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// An address in the block that QEMU's project uses for guests (52:54:00), from three random
    /// bytes.
    pub fn from_random(bytes: [u8; 3]) -> Self {
        Self([0x52, 0x54, 0x00, bytes[0], bytes[1], bytes[2]])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// Chipset of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Machine {
    /// Intel Q35 and ICH9 of 2009: PCI Express.
    #[default]
    Q35,
    /// Intel 440FX and PIIX of 1996, for guests that know no better.
    I440fx,
}

/// What the guest starts from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Firmware {
    /// SeaBIOS, which comes with QEMU.
    #[default]
    Bios,
    /// EDK2. The code is shared and read-only, the variables belong to the desktop.
    Uefi {
        /// Raw flash image of the code.
        code: PathBuf,
        /// Raw flash image of the variables.
        variables: PathBuf,
    },
}

/// Where the guest's screen goes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Display {
    /// Nowhere; pictures can still be taken of it.
    #[default]
    Headless,
    /// A window drawn with GTK.
    Gtk,
    /// A window drawn with SDL.
    Sdl,
    /// A VNC server on this unix socket.
    Vnc(PathBuf),
}

/// A door from the host's loopback to the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// TCP port on 127.0.0.1.
    pub host_port: u16,
    /// TCP port of the guest.
    pub guest_port: u16,
}

/// What the guest's network card is plugged into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// No card.
    None,
    /// QEMU's own network of the user: the guest gets 10.0.2.15 and finds the host at 10.0.2.2.
    User {
        /// Keeps the guest from the host and from the world; forwards stay open.
        isolated: bool,
        /// Doors inward.
        forwards: Vec<Forward>,
    },
}

/// The machine that a guest sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hardware {
    /// A name for the host's process list and for window titles.
    pub name: String,
    /// SMBIOS UUID, in the usual text form.
    pub uuid: String,
    /// The network card's address.
    pub mac: Mac,
    /// Memory, in MiB.
    pub memory_mib: u32,
    /// Virtual processors.
    pub cpus: u32,
    /// Chipset.
    pub machine: Machine,
    /// Firmware.
    pub firmware: Firmware,
    /// Screen.
    pub display: Display,
    /// Network.
    pub network: Network,
    /// Whether the hardware clock keeps the host's local time, as Windows expects it to.
    pub clock_is_local: bool,
}

/// What stands behind a disk. The guest's bytes are raw in both: nothing is ever probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskSource {
    /// An NBD export on a unix socket.
    Nbd {
        /// The socket.
        socket: PathBuf,
        /// The export's name.
        export: String,
        /// For how many seconds requests wait for a lost server before they fail.
        reconnect_s: u32,
    },
    /// A raw file that the guest writes to directly.
    RawFile(PathBuf),
}

/// What happens when the host can not do what the guest's disk asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnIoError {
    /// The guest is stopped before it learns of it, and can go on once the cause is mended.
    #[default]
    Stop,
    /// The guest is told, as by a broken disk.
    Report,
}

/// A disk of the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Where the bytes are.
    pub source: DiskSource,
    /// The serial number that the guest reads, at most 20 characters.
    pub serial: String,
    /// The policy for failed requests.
    pub on_error: OnIoError,
}
