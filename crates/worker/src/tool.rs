//! System programs that must run on a guest's file system, in the tools' jail.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;

use goldleaf_host::File;
use goldleaf_jail::{Limits, spawn};

use crate::launch::lend;
use crate::{Launcher, WorkerError};

/// Where system programs are; the environment of a jailed process is empty.
const PLACES: &[&str] = &["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
/// Bounds on a tool: resizing a file system of a terabyte needs some hundreds of megabytes.
const LIMITS: Limits = Limits { memory_bytes: 2 << 30, cpu_secs: 600, file_bytes: 1 << 50 };

impl Launcher {
    /// Runs a program of the system's on files that it finds as `/proc/self/fd/3` and so on. It can
    /// read the system's own directories, write those files, and nothing else.
    pub fn tool(
        &self,
        name: &str,
        args: &[&str],
        files: &[Arc<dyn File>],
    ) -> Result<(), WorkerError> {
        let lent = lend(files)?;
        let fds: Vec<BorrowedFd<'_>> = lent.iter().map(AsFd::as_fd).collect();
        let mut own: Vec<OsString> = self.args().to_vec();
        own.extend([fds.len().to_string().into(), name.into()]);
        own.extend(args.iter().map(OsString::from));
        let ended = spawn(self.program(), &own, &fds, LIMITS)?.wait()?;
        if ended.status.success() {
            return Ok(());
        }
        let cause = ended.cause();
        Err(WorkerError::Died { cause, how: format!("{name}: {cause}"), stderr: ended.stderr })
    }
}

/// Becomes a tool that was handed `count` files; returns only when that fails.
pub fn exec_tool(count: usize, name: &str, args: &[OsString]) -> WorkerError {
    let files = goldleaf_jail::inherited(count);
    let fds: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
    if let Err(error) = goldleaf_jail::enter_for_tool(&fds) {
        return error.into();
    }
    for place in PLACES {
        let error = Command::new(format!("{place}/{name}")).args(args).exec();
        if error.kind() != std::io::ErrorKind::NotFound {
            return error.into();
        }
    }
    WorkerError::Refused(format!("{name} is missing"))
}
