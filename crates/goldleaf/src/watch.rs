//! Copies a guest's serial console, as it is logged, to standard output.

use std::fs::File;
use std::io::{IsTerminal, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use goldleaf_host::{Clock, RealClock};
use goldleaf_tree::is_obeyed;

use crate::output;

/// How often the log is looked at.
const PERIOD: Duration = Duration::from_millis(100);

/// A copying thread; ends, with the rest of the log, when this is dropped.
pub struct Watch {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Begins to copy what comes after the first `from` bytes: the log outlives sessions.
    pub fn start(log: PathBuf, from: u64) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ended);
        let thread = std::thread::spawn(move || copy(&log, from, &seen));
        Self { ended, thread: Some(thread) }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // It only ever fails by a panic, which said its own words.
            let _ = thread.join();
        }
    }
}

fn copy(log: &Path, from: u64, ended: &AtomicBool) {
    let clock = RealClock::new();
    let mut filter = Filter::default();
    let terminal = std::io::stdout().is_terminal();
    let mut file = None;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let last = ended.load(Ordering::Acquire);
        if file.is_none() {
            file = open(log, from);
        }
        while let Some(read) = file.as_mut().and_then(|file| file.read(&mut buffer).ok()) {
            if read == 0 {
                break;
            }
            let bytes = &buffer[..read];
            let bytes = if terminal { filter.pass(bytes) } else { bytes.to_vec() };
            // A standard output that is gone is no reason to stop the guest.
            let _ = output::bytes_out(&bytes);
        }
        if last {
            return;
        }
        clock.sleep(PERIOD);
    }
}

fn open(log: &Path, from: u64) -> Option<File> {
    let mut file = File::open(log).ok()?;
    file.seek(SeekFrom::Start(from)).ok()?;
    Some(file)
}

/// Takes control sequences out: a guest must not be able to drive the terminal of its host.
#[derive(Default)]
struct Filter {
    state: Sequence,
    /// The bytes of a character beyond ASCII that is not complete.
    held: Vec<u8>,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Sequence {
    #[default]
    Outside,
    /// After an escape character.
    Escape,
    /// In a control sequence, up to its final byte.
    Control,
}

impl Filter {
    fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut passed = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            if self.takes(byte) {
                self.put(byte, &mut passed);
            }
        }
        passed
    }

    /// Lets whole characters through: terminals have control characters beyond ASCII too.
    fn put(&mut self, byte: u8, passed: &mut Vec<u8>) {
        if byte.is_ascii() {
            self.held.clear();
            passed.push(byte);
            return;
        }
        if byte >= 0xc0 {
            self.held.clear();
        }
        self.held.push(byte);
        match std::str::from_utf8(&self.held) {
            Ok(text) if text.contains(is_obeyed) => self.held.clear(),
            Ok(_) => passed.append(&mut self.held),
            Err(error) if error.error_len().is_some() => self.held.clear(),
            Err(_) => {}
        }
    }

    fn takes(&mut self, byte: u8) -> bool {
        match (self.state, byte) {
            (_, 0x1b) => self.state = Sequence::Escape,
            (Sequence::Escape, b'[') => self.state = Sequence::Control,
            (Sequence::Escape, _) => self.state = Sequence::Outside,
            (Sequence::Control, 0x40..=0x7e) => self.state = Sequence::Outside,
            (Sequence::Control, _) => {}
            (Sequence::Outside, byte) => {
                return matches!(byte, b'\n' | b'\r' | b'\t' | 0x20..=0x7e | 0x80..);
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_sequences_do_not_reach_the_terminal() {
        let mut filter = Filter::default();
        assert_eq!(filter.pass(b"a\x1b[1;31mred\x1b[0m\r\n\x07"), b"ared\r\n");
        // Cut in two, as reads cut them.
        assert_eq!(filter.pass(b"x\x1b["), b"x");
        assert_eq!(filter.pass(b"2Jy"), b"y");
        assert_eq!(filter.pass(b"\x1b]0;title\x07"), b"0;title");
        // Beyond ASCII: the one-character form of ESC [, as UTF-8 and raw, and a turned line.
        assert_eq!(filter.pass(b"a\xc2\x9b2Jb\x9b2J"), b"a2Jb2J");
        assert_eq!(filter.pass("ä\u{202e}日".as_bytes()), "ä日".as_bytes());
        let cut = [filter.pass(b"\xe6\x97"), filter.pass(b"\xa5")].concat();
        assert_eq!(cut, "日".as_bytes());
    }
}
