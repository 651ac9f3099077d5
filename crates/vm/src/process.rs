//! A child process that can not be lost.
//!
//! One thread starts it, waits for it and lives exactly as long as it does. That is more than
//! tidiness: the kernel's "signal at the parent's death" follows the *thread* that started the
//! child, so the child must not be started by a thread that ends before it. With it, a hypervisor
//! does not outlive a Goldleaf that was killed.

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::error::VmError;

/// How much of a child's complaint is kept: its end.
const STDERR_BYTES_MAX: usize = 8 << 10;
/// The program that arranges the signal at our death; part of util-linux.
const PDEATHSIG_WRAPPER: &str = "setpriv";
/// What the wrapper exits with when the program is not there, as shells do.
pub(crate) const STATUS_NOT_FOUND: i32 = 127;
/// A child that got SIGKILL and is still there is stuck in the host's kernel.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// A running or ended child.
pub(crate) struct OwnedChild {
    pid: u32,
    pidfd: OwnedFd,
    exit: Receiver<io::Result<ExitStatus>>,
    status: Option<ExitStatus>,
    stderr: Arc<Mutex<Vec<u8>>>,
}

type Started = (u32, OwnedFd);

impl OwnedChild {
    /// Starts `binary` with `arguments`; `stdin` becomes its standard input. Its output goes
    /// nowhere, its complaints are kept.
    pub(crate) fn spawn(
        binary: &Path,
        arguments: Vec<std::ffi::OsString>,
        stdin: OwnedFd,
    ) -> Result<Self, VmError> {
        let (to_started, started) = mpsc::channel();
        let (to_exit, exit) = mpsc::channel();
        let stderr = Arc::new(Mutex::new(Vec::new()));
        let complaints = Arc::clone(&stderr);
        let program = binary.to_owned();
        std::thread::Builder::new()
            .name("hypervisor".into())
            .spawn(move || {
                let child = start(&program, arguments, stdin);
                keep(child, &to_started, &to_exit, &complaints);
            })
            .map_err(VmError::host("starting a thread"))?;
        let started = started.recv().unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()));
        let (pid, pidfd) = started.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => VmError::MissingQemu { binary: binary.to_owned() },
            _ => VmError::Spawn { binary: binary.to_owned(), source },
        })?;
        Ok(Self { pid, pidfd, exit, status: None, stderr })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// The end of what the child complained about, trimmed.
    pub(crate) fn stderr(&self) -> String {
        let bytes = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).trim().to_owned()
    }

    /// Waits for the child's end; `None` when it has not come in time.
    pub(crate) fn wait(&mut self, timeout: Duration) -> Option<ExitStatus> {
        if self.status.is_none() {
            // A lost thread is treated like a child that does not end: the kill follows.
            self.status = self.exit.recv_timeout(timeout).ok().and_then(Result::ok);
        }
        self.status
    }

    /// Kills the child and waits until it is gone.
    pub(crate) fn kill(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            // The one error is that it is gone already.
            let _ = pidfd_send_signal(self.pidfd.as_fd(), Signal::KILL);
        }
        self.wait(KILL_PATIENCE)
    }
}

impl Drop for OwnedChild {
    fn drop(&mut self) {
        self.kill();
    }
}

fn start(binary: &Path, arguments: Vec<std::ffi::OsString>, stdin: OwnedFd) -> io::Result<Child> {
    let second = stdin.try_clone()?;
    let mut wrapped = Command::new(PDEATHSIG_WRAPPER);
    wrapped.args(["--pdeathsig", "KILL", "--"]).arg(binary).args(&arguments);
    match pipes(&mut wrapped, stdin).spawn() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            pipes(Command::new(binary).args(&arguments), second).spawn()
        }
        other => other,
    }
}

fn pipes(command: &mut Command, stdin: OwnedFd) -> &mut Command {
    // A process group of its own: an interrupt at the terminal is for Goldleaf, which asks the
    // guest to power off; the hypervisor itself would quit at once.
    command.stdin(stdin).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0)
}

/// The rest of the thread's life.
fn keep(
    child: io::Result<Child>,
    started: &Sender<io::Result<Started>>,
    exit: &Sender<io::Result<ExitStatus>>,
    stderr: &Mutex<Vec<u8>>,
) {
    let opened = child.and_then(|mut child| match pidfd(&child) {
        Ok(pidfd) => Ok((child, pidfd)),
        Err(error) => {
            // Without a handle it can not be owned; it must not stay.
            child.kill()?;
            child.wait()?;
            Err(error)
        }
    });
    let (mut child, pidfd) = match opened {
        Ok(opened) => opened,
        Err(error) => return drop(started.send(Err(error))),
    };
    // A caller that is gone has dropped its end; the child is waited for all the same.
    let _ = started.send(Ok((child.id(), pidfd)));
    if let Some(pipe) = child.stderr.take() {
        collect(pipe, stderr);
    }
    let _ = exit.send(child.wait());
}

fn pidfd(child: &Child) -> io::Result<OwnedFd> {
    Ok(pidfd_open(Pid::from_child(child), PidfdFlags::empty())?)
}

/// Keeps the end of a stream until it closes.
fn collect(mut pipe: impl Read, tail: &Mutex<Vec<u8>>) {
    let mut chunk = [0; 1024];
    while let Ok(len) = pipe.read(&mut chunk) {
        if len == 0 {
            return;
        }
        let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.extend_from_slice(chunk.get(..len).unwrap_or_default());
        let excess = tail.len().saturating_sub(STDERR_BYTES_MAX);
        tail.drain(..excess);
    }
}
