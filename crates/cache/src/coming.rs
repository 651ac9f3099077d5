//! What is on its way to a cache, and who waits: so that nothing is asked for twice, and what is not
//! waited for lets pass what is.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long what is not waited for stands back at most, and how long a stream that does not move is
/// believed in.
const PATIENCE: Duration = Duration::from_millis(500);

/// How far behind what a stream has brought something may be and still be waited for, in bytes. At
/// 50 Mbit/s this takes 42 ms; to ask for it apart takes a round trip and its own time, and keeps
/// the stream back meanwhile.
const NEAR: u64 = 256 << 10;

/// Frames that somebody is bringing, and streams of packs under way.
#[derive(Default)]
pub(crate) struct Coming {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// By their first block.
    frames: BTreeSet<u64>,
    streams: Vec<Stream>,
    next_stream: u64,
}

/// A pack that is streamed.
struct Stream {
    number: u64,
    /// First block of the pack.
    pack: u64,
    /// Bytes of the pack that are still to come.
    rest: Range<u64>,
}

impl Coming {
    /// Waits until nobody else brings a frame.
    pub fn turn(&self, frame: u64) -> Turn<'_> {
        let mut state = self.lock();
        while !state.frames.insert(frame) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Turn { coming: self, frame }
    }

    /// Bytes of a pack begin to come.
    pub fn stream(&self, pack: u64, rest: Range<u64>) -> Streaming<'_> {
        let mut state = self.lock();
        let number = state.next_stream;
        state.next_stream += 1;
        state.streams.push(Stream { number, pack, rest });
        Streaming { coming: self, number }
    }

    /// Waits for bytes of a pack that a stream is about to bring. They may not have come when this
    /// returns: there may be no such stream, or it may have ended, or not move.
    pub fn wait_for(&self, pack: u64, bytes: Range<u64>) {
        let mut state = self.lock();
        let mut begun = None;
        loop {
            let near = state.streams.iter().find(|stream| {
                let rest = &stream.rest;
                stream.pack == pack
                    && (rest.start..=rest.start + NEAR).contains(&bytes.end)
                    && rest.start < bytes.end
                    && bytes.end <= rest.end
            });
            let at = near.map(|stream| (stream.number, stream.rest.start));
            if at.is_none() || at == begun {
                return;
            }
            begun = at;
            let moves = |state: &mut State| {
                let still = |stream: &Stream| Some((stream.number, stream.rest.start)) == at;
                state.streams.iter().any(still)
            };
            let waited = self.changed.wait_timeout_while(state, PATIENCE, moves);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A frame that one brings.
pub(crate) struct Turn<'a> {
    coming: &'a Coming,
    frame: u64,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.coming.lock().frames.remove(&self.frame);
        self.coming.changed.notify_all();
    }
}

/// A stream under way.
pub(crate) struct Streaming<'a> {
    coming: &'a Coming,
    number: u64,
}

impl Streaming<'_> {
    /// What comes before a byte of the pack is here.
    pub fn reached(&self, at: u64) {
        let mut state = self.coming.lock();
        let own = state.streams.iter_mut().find(|stream| stream.number == self.number);
        if let Some(stream) = own {
            stream.rest.start = at;
        }
        drop(state);
        self.coming.changed.notify_all();
    }
}

impl Drop for Streaming<'_> {
    fn drop(&mut self) {
        self.coming.lock().streams.retain(|stream| stream.number != self.number);
        self.coming.changed.notify_all();
    }
}

/// Reads that wait for the link: what is not waited for lets them pass.
#[derive(Default)]
pub(crate) struct Demand {
    waiting: Mutex<usize>,
    changed: Condvar,
}

impl Demand {
    /// Somebody waits, as long as the answer lives.
    pub fn begin(&self) -> Waiting<'_> {
        *self.lock() += 1;
        Waiting(self)
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when no read waits, or after a while: a link that is slow for one may be good enough
    /// for another.
    pub fn let_pass(&self) {
        let busy = |waiting: &mut usize| *waiting > 0;
        drop(self.changed.wait_timeout_while(self.lock(), PATIENCE, busy));
    }
}

pub(crate) struct Waiting<'a>(&'a Demand);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        *self.0.lock() -= 1;
        self.0.changed.notify_all();
    }
}
