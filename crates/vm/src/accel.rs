//! What runs the guest's instructions, and the trial that finds out.
//!
//! That `/dev/kvm` exists and opens says little: inside another virtual machine KVM can accept a
//! guest and never run its first instruction. So the trial is a guest: a boot sector that goes
//! through the stations of every real one (the firmware's real mode, paging, long mode) and then
//! writes a byte to a port that ends QEMU with an exit status of its own.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use goldleaf_host::Clock;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use serde::{Deserialize, Serialize};

use crate::error::VmError;
use crate::process::OwnedChild;

/// What runs the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Accel {
    /// The host's processor, through the kernel.
    Kvm,
    /// QEMU's translator: everywhere, and many times slower.
    Tcg,
}

/// What the trial found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// KVM ran a guest.
    Kvm,
    /// KVM did not run a guest, and this is why, in one clause.
    Tcg {
        /// The reason, to be shown.
        why: String,
    },
}

impl Probe {
    /// The accelerator to use.
    pub fn accel(&self) -> Accel {
        match self {
            Self::Kvm => Accel::Kvm,
            Self::Tcg { .. } => Accel::Tcg,
        }
    }
}

/// The trial guest, loaded by the firmware at 0x7c00. In order: a stack and zero segments; 12 KiB
/// of zeroes at 0x1000 and in them three page tables that map the first 2 MiB onto themselves;
/// CR3, CR4.PAE, EFER.LME, the descriptor table, CR0.PG with CR0.PE; a far jump into 64-bit code,
/// which writes 0x31 to port 0xf4 and halts.
#[rustfmt::skip]
const TRIAL_CODE: [u8; 99] = [
    0xfa,                               // cli
    0x31, 0xc0,                         // xor ax, ax
    0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0, // mov ds, ax; mov es, ax; mov ss, ax
    0xbc, 0x00, 0x7c,                   // mov sp, 0x7c00
    0xbf, 0x00, 0x10,                   // mov di, 0x1000
    0xb9, 0x00, 0x18,                   // mov cx, 0x1800
    0xfc, 0xf3, 0xab,                   // cld; rep stosw
    0xc7, 0x06, 0x00, 0x10, 0x03, 0x20, // mov word [0x1000], 0x2003
    0xc7, 0x06, 0x00, 0x20, 0x03, 0x30, // mov word [0x2000], 0x3003
    0xc7, 0x06, 0x00, 0x30, 0x83, 0x00, // mov word [0x3000], 0x0083
    0x66, 0xb8, 0x00, 0x10, 0x00, 0x00, // mov eax, 0x1000
    0x0f, 0x22, 0xd8,                   // mov cr3, eax
    0x0f, 0x20, 0xe0,                   // mov eax, cr4
    0x0c, 0x20,                         // or al, 0x20
    0x0f, 0x22, 0xe0,                   // mov cr4, eax
    0x66, 0xb9, 0x80, 0x00, 0x00, 0xc0, // mov ecx, 0xc0000080
    0x0f, 0x32,                         // rdmsr
    0x0d, 0x00, 0x01,                   // or ax, 0x100
    0x0f, 0x30,                         // wrmsr
    0x66, 0x0f, 0x01, 0x16, 0x78, 0x7c, // lgdt [0x7c78]
    0x0f, 0x20, 0xc0,                   // mov eax, cr0
    0x66, 0x0d, 0x01, 0x00, 0x00, 0x80, // or eax, 0x80000001
    0x0f, 0x22, 0xc0,                   // mov cr0, eax
    0xea, 0x5c, 0x7c, 0x08, 0x00,       // jmp 8:0x7c5c, which is the next instruction
    0xb0, 0x31,                         // mov al, 0x31
    0xe6, 0xf4,                         // out 0xf4, al
    0xf4, 0xeb, 0xfd,                   // hlt, for ever
];
/// Second descriptor of the table at 0x7c68 (the first is null): 64-bit code.
const TRIAL_DESCRIPTOR: [u8; 8] = [0, 0, 0, 0, 0, 0x9a, 0x20, 0];
/// Length and address of that table.
const TRIAL_TABLE: [u8; 6] = [15, 0, 0x68, 0x7c, 0, 0];
/// The debug port ends QEMU with twice the byte plus one.
const TRIAL_STATUS: i32 = (0x31 << 1) | 1;
/// A disk of one sector is too small for some firmware.
const TRIAL_DISK_BYTES: u64 = 1 << 20;

const NEVER_RAN: &str = "KVM is present, but a trial guest did not run on it";

/// How long the translator may take for the trial: it needs some tenths of a second on a quiet
/// host, and seconds on a busy one.
const TRANSLATOR_TIMEOUT: Duration = Duration::from_secs(30);
/// What KVM may take longer than the translator: both start QEMU, which is most of it.
const GRACE: Duration = Duration::from_secs(1);

/// Runs the trial guest on the translator and then on KVM. A KVM that is slower is none: where the
/// host is a virtual machine itself it may run a guest, but instruction by instruction.
pub fn probe(binary: &Path, clock: &dyn Clock) -> Result<Probe, VmError> {
    let before = clock.monotonic();
    if let Probe::Tcg { why } = run_trial(binary, Accel::Tcg, TRANSLATOR_TIMEOUT)? {
        return Err(VmError::Trial { why });
    }
    let took = clock.monotonic().saturating_sub(before);
    run_trial(binary, Accel::Kvm, took + GRACE)
}

fn run_trial(binary: &Path, accel: Accel, timeout: Duration) -> Result<Probe, VmError> {
    let disk = trial_disk().map_err(VmError::host("making the trial guest's disk"))?;
    let mut child = OwnedChild::spawn(binary, trial_argv(accel), disk)?;
    let why = match child.wait(timeout) {
        Some(status) if status.code() == Some(TRIAL_STATUS) => return Ok(Probe::Kvm),
        Some(status) if status.code() == Some(crate::process::STATUS_NOT_FOUND) => {
            return Err(VmError::MissingQemu { binary: binary.to_owned() });
        }
        Some(status) => refusal(&child.stderr(), &status.to_string()),
        None => {
            child.kill();
            format!(
                "KVM is present, but runs a trial guest slower than emulation does (it was not \
                 done after {:.1} s)",
                timeout.as_secs_f32()
            )
        }
    };
    Ok(Probe::Tcg { why })
}

/// QEMU's own words, and what can be done about the two usual ones.
fn refusal(stderr: &str, status: &str) -> String {
    let said = stderr.lines().last().unwrap_or(status);
    let said = said.strip_prefix("qemu-system-x86_64: ").unwrap_or(said);
    if stderr.contains("Permission denied") {
        format!("{said}; members of the group kvm may use it")
    } else if stderr.contains("No such file") {
        format!("{said}; the host's processor or firmware settings offer no virtualization")
    } else {
        format!("{NEVER_RAN}: {said}")
    }
}

fn trial_argv(accel: Accel) -> Vec<OsString> {
    let (accel, cpu) = match accel {
        Accel::Kvm => ("kvm", "host"),
        Accel::Tcg => ("tcg", "max"),
    };
    let line = [
        ["-machine", "q35"],
        ["-accel", accel],
        ["-cpu", cpu],
        ["-m", "64"],
        ["-display", "none"],
        ["-blockdev", "driver=file,node-name=file,filename=/proc/self/fd/0"],
        ["-blockdev", "driver=raw,node-name=disk,file=file"],
        ["-device", "virtio-blk-pci,drive=disk,bootindex=0"],
        ["-device", "isa-debug-exit,iobase=0xf4,iosize=1"],
    ];
    let flags = ["-nodefaults", "-no-user-config"];
    flags.iter().chain(line.iter().flatten()).map(OsString::from).collect()
}

/// The disk is a file in memory that the child finds as its standard input.
fn trial_disk() -> io::Result<OwnedFd> {
    let disk = memfd_create("goldleaf-trial", MemfdFlags::CLOEXEC)?;
    ftruncate(&disk, TRIAL_DISK_BYTES)?;
    for (at, bytes) in [
        (0, &TRIAL_CODE[..]),
        (0x70, &TRIAL_DESCRIPTOR),
        (0x78, &TRIAL_TABLE),
        (510, &[0x55, 0xaa]),
    ] {
        if rustix::io::pwrite(&disk, bytes, at)? != bytes.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
    }
    Ok(disk)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The translator runs the trial to its end: when KVM does not, it is not the trial's fault.
    #[test]
    fn the_trial_guest_runs() {
        let binary = Path::new(crate::QEMU_BINARY);
        let found = run_trial(binary, Accel::Tcg, Duration::from_secs(20)).unwrap();
        assert_eq!(found, Probe::Kvm);
    }

    #[test]
    fn a_missing_qemu_is_no_reason_for_the_translator() {
        let clock = goldleaf_host::RealClock::new();
        let error = probe(Path::new("/nonexistent/qemu"), &clock).unwrap_err();
        assert!(error.to_string().contains("install the package qemu-system-x86"), "{error}");
    }

    #[test]
    fn refusals_say_what_to_do() {
        let why = refusal("Could not access KVM kernel module: Permission denied", "exit 1");
        assert!(why.ends_with("members of the group kvm may use it"));
        let why = refusal("warning: x\nqemu-system-x86_64: failed to initialize kvm", "exit 1");
        assert_eq!(why, format!("{NEVER_RAN}: failed to initialize kvm"));
        assert_eq!(refusal("", "signal: 11"), format!("{NEVER_RAN}: signal: 11"));
    }
}
