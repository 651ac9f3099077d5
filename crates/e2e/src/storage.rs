//! A server of buckets, for as long as it lives. Its program is built once and kept with the test
//! images.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

use crate::error::HarnessError;
use crate::images::cache_dir;

const PROGRAM: &str = "s3s-fs";
const VERSION: &str = "0.14.1";
/// How long it may take to listen.
const START: Duration = Duration::from_secs(20);
/// The key that it knows.
pub const KEY: &str = "goldleaf";
/// The key's secret.
pub const SECRET: &str = "a secret that tests know";

/// A server of buckets, on a port of the loopback.
pub struct Storage {
    process: Option<Child>,
    program: PathBuf,
    port: u16,
    dir: TempDir,
}

impl Storage {
    /// A server with one bucket, which is empty.
    pub fn with_bucket(name: &str) -> Result<Self, HarnessError> {
        let dir = tempfile::tempdir()?;
        fs::create_dir(dir.path().join(name))?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let mut storage = Self { process: None, program: program()?, port, dir };
        storage.start()?;
        Ok(storage)
    }

    /// Starts it, again or for the first time.
    pub fn start(&mut self) -> Result<(), HarnessError> {
        let port = self.port.to_string();
        let process = Command::new(&self.program)
            .args(["--access-key", KEY, "--secret-key", SECRET])
            .args(["--host", "127.0.0.1", "--port", &port])
            .arg(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        self.process = Some(process);
        let begun = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            if begun.elapsed() > START {
                return Err(failed("it does not listen"));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Ends it. What is in its buckets stays.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where its buckets are, each a directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The server's program; it is built if there is none. Tests that ask at the same time wait for one
/// another.
fn program() -> Result<PathBuf, HarnessError> {
    let root = cache_dir()?.join(format!("{PROGRAM}-{VERSION}"));
    fs::create_dir_all(&root)?;
    let lock = File::create(root.join("lock"))?;
    flock(&lock, FlockOperation::LockExclusive).map_err(io::Error::from)?;
    let program = root.join("bin").join(PROGRAM);
    if program.exists() {
        return Ok(program);
    }
    eprintln!("building {PROGRAM} {VERSION}, once");
    let output = Command::new("cargo")
        .args(["install", PROGRAM, "--version", VERSION, "--features", "binary"])
        .args(["--locked", "--debug", "--quiet", "--root"])
        .arg(&root)
        // What is set for the tests is not for it.
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("RUSTFLAGS")
        .output()?;
    match output.status.success() {
        true => Ok(program),
        false => Err(failed(&String::from_utf8_lossy(&output.stderr))),
    }
}

fn failed(said: &str) -> HarnessError {
    HarnessError::Tool { program: PROGRAM, said: said.into() }
}
