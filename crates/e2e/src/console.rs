//! A guest's serial console, driven like a patient person would.
//!
//! A terminal echoes, wraps, and mixes in what the kernel has to say. So after the login the shell
//! is made silent, commands go in as base64 in short lines, and what they write comes back as
//! base64 between marks that no echo can contain, with its length: an answer that was garbled on
//! the way is asked for again. Scratch files live in `/run`, which is no disk.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::base64;
use crate::error::HarnessError;

/// Characters of a line of input: a terminal loses what goes beyond 4,095.
const LINE_CHARS_MAX: usize = 1000;
/// Lines between two checks that the guest keeps up.
const LINES_UNCHECKED: usize = 3;
/// How much of the console an error shows.
const TAIL_BYTES_MAX: usize = 3000;
/// How often a garbled answer is asked for.
const ASKS_MAX: u32 = 3;
/// For a command that names no deadline. Generous: a translated guest on a busy host is slow.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(600);
/// Scratch files in the guest.
const SCRATCH: &str = "/run/console";

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its exit status.
    pub status: i32,
    /// What it wrote, both streams together.
    pub text: String,
}

/// A guest's serial console.
pub struct Console {
    stream: UnixStream,
    said: Vec<u8>,
    /// Up to here everything has been looked at.
    seen: usize,
    marks: u64,
}

impl Console {
    /// Connects to the serial port's socket, which must exist.
    pub fn connect(socket: &Path) -> Result<Self, HarnessError> {
        let stream = UnixStream::connect(socket)?;
        Ok(Self { stream, said: Vec::new(), seen: 0, marks: 0 })
    }

    /// Logs in at the prompt and silences the shell. To be called again after a reboot.
    pub fn login(
        &mut self,
        user: &str,
        password: &str,
        timeout: Duration,
    ) -> Result<(), HarnessError> {
        self.wait_for("login: ", timeout)?;
        self.send(user)?;
        self.wait_for("assword: ", timeout)?;
        self.send(password)?;
        // The shell's first prompt ends so whatever it looks like; a motd has no such line end.
        self.wait_for(":~", timeout)?;
        self.send("exec env PS1= PS2= ENV= TERM=dumb sh")?;
        self.send("stty -echo cols 2000; dmesg -n 1 2>/dev/null")?;
        self.send(&format!("mkdir -p {SCRATCH} && cd /root 2>/dev/null; set +m"))?;
        self.synchronise(timeout)
    }

    /// Waits until the console says `text`, not counting what was waited for before.
    pub fn wait_for(&mut self, text: &str, timeout: Duration) -> Result<(), HarnessError> {
        self.take_until(text, timeout).map(drop)
    }

    /// Runs a shell command and gives back what it did, whatever its status. Each command has a
    /// shell of its own: directories and variables do not last.
    pub fn try_run(&mut self, command: &str, timeout: Duration) -> Result<Output, HarnessError> {
        self.put(&format!("{SCRATCH}/command"), command.as_bytes())?;
        let shell = format!("bash {SCRATCH}/command >{SCRATCH}/text 2>&1 </dev/null");
        self.send(&format!("{shell}; echo $? >{SCRATCH}/status"))?;
        let status = self.fetch(&format!("{SCRATCH}/status"), timeout)?;
        let text = self.fetch(&format!("{SCRATCH}/text"), COMMAND_TIMEOUT)?;
        let status = String::from_utf8_lossy(&status).trim().parse().unwrap_or(-1);
        Ok(Output { status, text: String::from_utf8_lossy(&text).into_owned() })
    }

    /// Runs a shell command that must succeed and returns what it wrote, without the last line end.
    pub fn run(&mut self, command: &str) -> Result<String, HarnessError> {
        let Output { status, mut text } = self.try_run(command, COMMAND_TIMEOUT)?;
        if status != 0 {
            return Err(HarnessError::Command { command: command.to_owned(), status, text });
        }
        if text.ends_with('\n') {
            text.pop();
        }
        Ok(text)
    }

    /// Starts something that ends the console's shell (`reboot`, `poweroff`) and does not wait.
    pub fn send(&mut self, line: &str) -> Result<(), HarnessError> {
        self.stream.write_all(line.as_bytes())?;
        Ok(self.stream.write_all(b"\n")?)
    }

    /// Writes a file into the guest.
    pub fn upload(&mut self, path: &str, bytes: &[u8]) -> Result<(), HarnessError> {
        self.put(&format!("{SCRATCH}/upload"), bytes)?;
        let path = path.replace('\'', r"'\''");
        self.run(&format!("cat {SCRATCH}/upload >'{path}'")).map(drop)
    }

    /// Reads a file of the guest's.
    pub fn download(&mut self, path: &str) -> Result<Vec<u8>, HarnessError> {
        let path = path.replace('\'', r"'\''");
        self.fetch(&format!("'{path}'"), COMMAND_TIMEOUT)
    }

    /// The end of what the console said.
    pub fn tail(&self) -> String {
        let start = self.said.len().saturating_sub(TAIL_BYTES_MAX);
        String::from_utf8_lossy(self.said.get(start..).unwrap_or_default()).into_owned()
    }

    /// Fills a scratch file.
    fn put(&mut self, file: &str, bytes: &[u8]) -> Result<(), HarnessError> {
        self.send(&format!(": >{file}.64"))?;
        let text = base64::encode(bytes);
        let lines = text.as_bytes().chunks(LINE_CHARS_MAX);
        for (index, line) in lines.enumerate() {
            let line = String::from_utf8_lossy(line);
            self.send(&format!("printf %s {line} >>{file}.64"))?;
            if index % LINES_UNCHECKED == LINES_UNCHECKED - 1 {
                self.synchronise(COMMAND_TIMEOUT)?;
            }
        }
        self.send(&format!("base64 -d <{file}.64 >{file}"))
    }

    /// Reads a file, again if it comes garbled.
    fn fetch(&mut self, file: &str, timeout: Duration) -> Result<Vec<u8>, HarnessError> {
        for _ in 0..ASKS_MAX {
            let mark = self.next_mark();
            self.send(&format!(
                "printf '<%s begin>' {mark}; base64 {file}; \
                 printf '<%s end %s>' {mark} \"$(wc -c <{file})\""
            ))?;
            self.take_until(&format!("<{mark} begin>"), timeout)?;
            let text = self.take_until(&format!("<{mark} end "), COMMAND_TIMEOUT)?;
            let len = self.take_until(">", COMMAND_TIMEOUT)?;
            let bytes = base64::decode(&text);
            if let Some(bytes) = bytes.filter(|bytes| len.trim().parse() == Ok(bytes.len())) {
                return Ok(bytes);
            }
        }
        Err(self.silent(&format!("{file}, ungarbled"), timeout))
    }

    /// Waits until the shell has come to what was sent last.
    fn synchronise(&mut self, timeout: Duration) -> Result<(), HarnessError> {
        let mark = self.next_mark();
        self.send(&format!("printf '<%s here>' {mark}"))?;
        self.wait_for(&format!("<{mark} here>"), timeout)
    }

    fn next_mark(&mut self) -> String {
        self.marks += 1;
        format!("mark-{}", self.marks)
    }

    /// What the console says from here up to `end`, which is taken too.
    fn take_until(&mut self, end: &str, timeout: Duration) -> Result<String, HarnessError> {
        let deadline = Instant::now() + timeout;
        loop {
            let fresh = self.said.get(self.seen..).unwrap_or_default();
            let found = fresh.windows(end.len()).position(|window| window == end.as_bytes());
            if let Some(at) = found {
                let text = String::from_utf8_lossy(&fresh[..at]).into_owned();
                self.seen += at + end.len();
                return Ok(text);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.silent(end, timeout));
            }
            self.listen(end, left)?;
        }
    }

    fn listen(&mut self, what: &str, timeout: Duration) -> Result<(), HarnessError> {
        let mut chunk = [0; 4096];
        self.stream.set_read_timeout(Some(timeout))?;
        match self.stream.read(&mut chunk) {
            Ok(0) => Err(HarnessError::Closed { what: what.to_owned(), tail: self.tail() }),
            Ok(len) => {
                self.said.extend_from_slice(&chunk[..len]);
                Ok(())
            }
            Err(error) if is_transient(&error) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn silent(&self, what: &str, timeout: Duration) -> HarnessError {
        let what = format!("{what:?}");
        HarnessError::Silent { what, seconds: timeout.as_secs(), tail: self.tail() }
    }
}

fn is_transient(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock)
}
