//! Interrupting a running guest: the first signal asks it to power off, the second pulls its plug,
//! and a third ends this process, and with it the hypervisor. Nothing that the guest has flushed is
//! lost in any of these; only after an orderly power-off is the session filed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use goldleaf_player::control::{Answer, Request, ask};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use crate::failure::Failure;
use crate::progress::Console;

/// Handles signals while it lives.
pub struct PowerButton {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl PowerButton {
    /// Signals go to the session that listens at `socket`.
    pub fn wire(socket: PathBuf, console: Arc<Console>) -> Result<Self, Failure> {
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])
            .map_err(|error| Failure::io("preparing for signals", &error))?;
        let handle = signals.handle();
        let thread = std::thread::spawn(move || {
            for (pressed, signal) in (1..).zip(signals.forever()) {
                press(pressed, signal, &socket, &console);
            }
        });
        Ok(Self { handle, thread: Some(thread) })
    }
}

impl Drop for PowerButton {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn press(pressed: u32, signal: i32, socket: &Path, console: &Arc<Console>) {
    // Before the guest runs there is nothing to end in order: all up to there can be cut off.
    if !console.guest_runs() || pressed > 2 {
        leave(signal);
    }
    let request = if pressed == 1 { Request::Stop } else { Request::Kill };
    if pressed == 2 {
        console.say("pulling the guest's plug; its session goes on at the next start");
    }
    let (socket, console) = (socket.to_owned(), Arc::clone(console));
    // The answer takes as long as the guest does, and the next signal must not wait for it.
    std::thread::spawn(move || match ask(&socket, &request) {
        Ok(Some(Answer::Failed(why))) => console.say(&why),
        Ok(_) => {}
        Err(error) => console.say(&error.to_string()),
    });
}

/// Ends this process as the signal would have done.
fn leave(signal: i32) {
    let _ = signal_hook::low_level::emulate_default_handler(signal);
}
