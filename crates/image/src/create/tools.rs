//! The one place of image creation that starts programs and touches files.
//!
//! Creation works in a directory of its caller's with programs of the host's (mmdebstrap, mke2fs,
//! grub-mkimage), which take paths; the seams of `host` do not reach that far.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the narrow gate described above"
)]

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use super::error::CreateError;

/// How much of a failed program's words an error repeats: the end.
const STDERR_BYTES_MAX: usize = 4 << 10;

/// A program of the host's, and the package that brings it.
#[derive(Clone, Copy)]
pub(super) struct Tool {
    pub(super) program: &'static str,
    pub(super) package: &'static str,
}

impl Tool {
    /// Runs the program with `arguments` and an environment that is extended by `environment`.
    pub(super) fn run(
        self,
        arguments: &[String],
        environment: &[(&str, String)],
    ) -> Result<(), CreateError> {
        let mut command = Command::new(self.program);
        command.args(arguments).envs(environment.iter().map(|(key, value)| (key, value)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|source| self.cannot_start(source))?;
        let mut tail = Vec::new();
        if let Some(stderr) = child.stderr.take() {
            read_tail(stderr, &mut tail);
        }
        let status = child.wait().map_err(|source| self.cannot_start(source))?;
        if status.success() { Ok(()) } else { Err(self.failed(status, &tail)) }
    }

    fn cannot_start(self, source: io::Error) -> CreateError {
        let Self { program, package } = self;
        match source.kind() {
            io::ErrorKind::NotFound => CreateError::MissingTool { program, package },
            _ => CreateError::Io { path: program.into(), source },
        }
    }

    fn failed(self, status: ExitStatus, stderr: &[u8]) -> CreateError {
        let stderr = String::from_utf8_lossy(stderr).trim().to_owned();
        CreateError::ToolFailed { program: self.program, status: status.to_string(), stderr }
    }
}

fn read_tail(mut stream: impl Read, tail: &mut Vec<u8>) {
    let mut chunk = [0; 4096];
    while let Ok(len) = stream.read(&mut chunk) {
        if len == 0 {
            return;
        }
        tail.extend_from_slice(chunk.get(..len).unwrap_or_default());
        let excess = tail.len().saturating_sub(STDERR_BYTES_MAX);
        tail.drain(..excess);
    }
}

fn at(path: &Path) -> impl Fn(io::Error) -> CreateError {
    move |source| CreateError::Io { path: path.to_owned(), source }
}

/// Whether the host's programs run as root already.
pub(super) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Makes a directory and its parents.
pub(super) fn make_dir(path: &Path) -> Result<(), CreateError> {
    fs::create_dir_all(path).map_err(at(path))
}

/// Writes a small file, with its parent directories.
pub(super) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), CreateError> {
    if let Some(parent) = path.parent() {
        make_dir(parent)?;
    }
    fs::write(path, bytes).map_err(at(path))
}

/// Makes a symbolic link, with its parent directories.
pub(super) fn link(path: &Path, target: &str) -> Result<(), CreateError> {
    if let Some(parent) = path.parent() {
        make_dir(parent)?;
    }
    std::os::unix::fs::symlink(target, path).map_err(at(path))
}

/// Reads a file of a program's.
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, CreateError> {
    fs::read(path).map_err(at(path))
}

/// Reads a file that comes with a package.
pub(super) fn read_packaged(
    path: &Path,
    program: &'static str,
    package: &'static str,
) -> Result<Vec<u8>, CreateError> {
    fs::read(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => CreateError::MissingTool { program, package },
        _ => at(path)(source),
    })
}

/// Makes an empty file of this length without occupying it.
pub(super) fn make_sparse(path: &Path, len: u64) -> Result<(), CreateError> {
    let file = fs::File::create_new(path).map_err(at(path))?;
    file.set_len(len).map_err(at(path))
}

/// Writes pieces into an existing file and makes them durable.
pub(super) fn write_pieces(path: &Path, pieces: &[(u64, Vec<u8>)]) -> Result<(), CreateError> {
    let file = fs::OpenOptions::new().write(true).open(path).map_err(at(path))?;
    for (offset, bytes) in pieces {
        file.write_all_at(bytes, *offset).map_err(at(path))?;
    }
    file.sync_all().map_err(at(path))
}

/// A directory for what is made on the way; it goes when creation is over, however it ends.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new(path: PathBuf) -> Result<Self, CreateError> {
        make_dir(&path)?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left behind is only space; the next creation reports it as an existing file.
        let _ = fs::remove_dir_all(&self.0);
    }
}
