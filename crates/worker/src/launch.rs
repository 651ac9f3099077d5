//! The parent's side: starting a worker, talking to it, and saying how it ended.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use goldleaf_host::File;
use goldleaf_jail::{Jailed, Limits, spawn};
use goldleaf_tree::one_line;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::protocol::{Reply, Task};
use crate::{Channel, WorkerError};

/// Memory that any worker may have, and what each file of a volume adds, in bytes.
const MEMORY_BASE: u64 = 512 << 20;
const MEMORY_PER_FILE: u64 = 200;
/// Processor time likewise, in seconds.
const CPU_BASE_SECS: u64 = 30;
const FILES_PER_CPU_SEC: u64 = 10_000;

/// Knows how to start a worker: the program and the arguments that make it one.
#[derive(Debug, Clone)]
pub struct Launcher {
    program: PathBuf,
    args: Vec<OsString>,
}

/// What a finished worker used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WorkerUsage {
    /// Most memory that it held at once, in bytes.
    pub peak_rss_bytes: u64,
}

/// One worker at its one task.
pub struct Session {
    jailed: Jailed,
    channel: Channel,
}

/// How large the task is, for the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    /// Number of files that the worker may have to look at.
    pub files: u64,
    /// Bytes that it may write to one of its files.
    pub output_bytes: u64,
}

impl Launcher {
    /// `program ARGS… COUNT` becomes a worker that was handed COUNT files.
    pub fn new(program: PathBuf, args: Vec<OsString>) -> Self {
        Self { program, args }
    }

    pub(crate) fn program(&self) -> &std::path::Path {
        &self.program
    }

    pub(crate) fn args(&self) -> &[OsString] {
        &self.args
    }

    /// Starts a worker on a task, handing it `files`.
    pub fn start(
        &self,
        files: &[Arc<dyn File>],
        scale: Scale,
        task: &Task,
    ) -> Result<Session, WorkerError> {
        let lent = lend(files)?;
        let fds: Vec<BorrowedFd<'_>> = lent.iter().map(AsFd::as_fd).collect();
        let limits = Limits {
            memory_bytes: MEMORY_BASE + scale.files * MEMORY_PER_FILE,
            cpu_secs: CPU_BASE_SECS + scale.files / FILES_PER_CPU_SEC,
            file_bytes: scale.output_bytes,
        };
        let mut args = self.args.clone();
        args.push(fds.len().to_string().into());
        let mut jailed = spawn(&self.program, &args, &fds, limits)?;
        let socket = jailed.socket().ok_or_else(|| {
            WorkerError::Io(std::io::Error::other("a worker was started without a socket"))
        })?;
        let channel = Channel::new(OwnedFd::from(socket))?;
        let mut session = Session { jailed, channel };
        match session.channel.send(task).and_then(|()| session.channel.flush()) {
            Ok(()) => Ok(session),
            Err(error) => Err(session.explain(error)),
        }
    }
}

/// Descriptors of files, to be handed over.
pub(crate) fn lend(files: &[Arc<dyn File>]) -> Result<Vec<OwnedFd>, WorkerError> {
    let lend = |file: &Arc<dyn File>| {
        file.lend()?.ok_or_else(|| io::Error::other("a worker can only work on real files"))
    };
    Ok(files.iter().map(lend).collect::<io::Result<_>>()?)
}

impl<T> Reply<T> {
    fn into_result(self) -> Result<T, WorkerError> {
        match self {
            Reply::Done(value) => Ok(value),
            Reply::Refused(why) => Err(WorkerError::Refused(one_line(&why))),
            Reply::TooSmall(volumes) => Err(WorkerError::TooSmall(volumes)),
        }
    }
}

impl Session {
    /// Sends one message.
    pub fn send<T: Serialize>(&mut self, message: &T) -> Result<(), WorkerError> {
        self.channel.send(message)
    }

    /// Receives a batch of what the worker lists; a refusal may stand in its place.
    pub fn receive_batch<T: DeserializeOwned>(&mut self) -> Result<Vec<T>, WorkerError> {
        self.channel.receive::<Reply<Vec<T>>>()?.into_result()
    }

    /// Receives the last answer and sees the worker out.
    pub fn finish<T: DeserializeOwned>(mut self) -> Result<(T, WorkerUsage), WorkerError> {
        let reply = match self.channel.receive::<Reply<T>>() {
            Ok(reply) => reply,
            Err(error) => return Err(self.explain(error)),
        };
        drop(self.channel);
        let ended = self.jailed.wait()?;
        let usage = WorkerUsage { peak_rss_bytes: ended.peak_rss_bytes };
        Ok((reply.into_result()?, usage))
    }

    /// Turns a broken conversation into how the worker ended.
    pub fn explain(self, error: WorkerError) -> WorkerError {
        drop(self.channel);
        match (error, self.jailed.wait()) {
            (WorkerError::Io(_), Ok(ended)) => {
                let cause = ended.cause();
                WorkerError::Died { cause, how: cause.to_string(), stderr: ended.stderr }
            }
            (error, _) => error,
        }
    }
}
