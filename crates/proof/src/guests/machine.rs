//! The processes that are killed: QEMU with a guest, and this program as the disk's server.

use std::convert::Infallible;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use goldleaf_block::SessionDevice;
use goldleaf_host::RealDir;
use goldleaf_nbd::{Export, Options, Server};

use super::initramfs::Boot;
use super::{BLOCKS, base};
use crate::Result;
use crate::nbd::served::{DIGEST, NAME, SESSION};

/// Says where to serve a session from; a process that has it does nothing else.
pub const SERVE: &str = "GOLDLEAF_PROOF_SERVE";
/// How long a guest may take to boot where others want the processor too.
pub const BOOT_PATIENCE: Duration = Duration::from_secs(120);

/// What the kernel is told, mostly to leave out: under emulation each of these costs a part of a
/// second, and none has to do with the disk.
const WORDS: [&str; 21] = [
    "console=ttyS0",
    "quiet",
    "panic=-1",
    "mitigations=off",
    "nokaslr",
    "acpi=off",
    "mce=off",
    "tsc=reliable",
    "no_timer_check",
    "lpj=4000000",
    "noreplace-smp",
    "init_on_alloc=0",
    "cryptomgr.notests=1",
    "random.trust_cpu=on",
    "rcupdate.rcu_expedited=1",
    "8250.nr_uarts=1",
    "i8042.nokbd",
    "i8042.noaux",
    "lsm=",
    "audit=0",
    "efi=off",
];

const SOCKET: &str = "disk.sock";

/// Serves the session in a place until killed, or until its standard input ends.
pub fn serve(place: &Path) -> Result<Infallible> {
    let session = place.join("session");
    let device = if session.exists() {
        SessionDevice::open(RealDir::open(&session)?, base()?, &DIGEST)?.0
    } else {
        SessionDevice::create(RealDir::create(&session)?, base()?, SESSION, DIGEST)?
    };
    let socket = place.join(SOCKET);
    // The one before was killed and left it.
    let _ = std::fs::remove_file(&socket);
    let export = Export { name: NAME.into(), device: Arc::new(device), read_only: false };
    let server = Server::start(UnixListener::bind(&socket)?, export, Options::default())?;
    println!("ready");
    std::io::stdout().flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    server.stop();
    std::process::exit(0)
}

/// Ends with this process, or when dropped.
struct Ending(Child);

impl Ending {
    fn start(command: &mut Command) -> Result<Self> {
        let spawned = command.stdout(Stdio::piped()).spawn();
        Ok(Self(spawned.map_err(|error| format!("running setpriv: {error}"))?))
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        // SIGKILL; it may be gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn dying_with_us() -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "SIGKILL"]);
    command
}

/// The serving process.
pub struct Serving(Ending);

impl Serving {
    /// Starts it and waits until it serves.
    pub fn start(place: &Path) -> Result<Self> {
        let mut command = dying_with_us();
        command.arg(std::env::current_exe()?).arg("guests");
        command.env(SERVE, place).stdin(Stdio::piped()).stderr(Stdio::null());
        let mut serving = Self(Ending::start(&mut command)?);
        let out = serving.0.0.stdout.take().ok_or("a child without output")?;
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        if line == "ready\n" { Ok(serving) } else { Err(format!("the server: {line}").into()) }
    }

    /// SIGKILL.
    pub fn kill(self) {
        drop(self);
    }
}

/// What a guest says.
pub enum Said {
    /// All up to this generation is durable.
    Durable(u64),
    /// A sync failed.
    Failed,
}

/// QEMU with a guest.
pub struct Vm {
    process: Option<Ending>,
    lines: Receiver<String>,
}

impl Vm {
    /// Boots a guest that begins with generation `start`.
    pub fn start(place: &Path, boot: &Boot, seed: u64, start: u64) -> Result<Self> {
        let words = WORDS.join(" ");
        let words = format!("{words} seed={seed} start={start} blocks={BLOCKS}");
        let socket = place.join(SOCKET);
        let server = format!("server.type=unix,server.path={}", socket.display());
        let mut command = dying_with_us();
        command.args(["qemu-system-x86_64", "-accel", "tcg", "-M", "pc", "-m", "160"]);
        command.args(["-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot"]);
        command.arg("-blockdev").arg(format!("driver=nbd,node-name=disk,{server},export={NAME}"));
        command.args(["-device", "virtio-blk-pci,drive=disk,write-cache=on"]);
        command.arg("-kernel").arg(&boot.kernel).arg("-initrd").arg(&boot.initrd);
        command.arg("-append").arg(words).stdin(Stdio::null());
        let mut process = Ending::start(&mut command)?;
        let out = process.0.stdout.take().ok_or("a child without output")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            let mut out = BufReader::new(out);
            let mut line = Vec::new();
            // A last line without its end was not said.
            while out.read_until(b'\n', &mut line).is_ok() && line.ends_with(b"\n") {
                let said = String::from_utf8_lossy(&line).trim().to_string();
                if sender.send(said).is_err() {
                    return;
                }
                line.clear();
            }
        });
        Ok(Self { process: Some(process), lines })
    }

    /// What the guest says next, within a time; a killed one's last words need none.
    pub fn next(&mut self, patience: Duration) -> Option<Said> {
        // The reader of a killed one's output ends by itself, and so does the waiting.
        let patience = if self.process.is_none() { BOOT_PATIENCE } else { patience };
        let until = std::time::Instant::now() + patience;
        loop {
            let left = until.saturating_duration_since(std::time::Instant::now());
            let line = self.lines.recv_timeout(left).ok()?;
            if let Some(number) = line.strip_prefix("durable ") {
                if let Ok(number) = number.parse() {
                    return Some(Said::Durable(number));
                }
            } else if line.starts_with("failed at") {
                return Some(Said::Failed);
            }
        }
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process = None;
    }
}
