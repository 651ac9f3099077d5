//! Counters of a server, without locks, summed over all connections.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a server has done since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Reads answered without error.
    pub reads: u64,
    /// Bytes asked for by those reads, holes included.
    pub read_bytes: u64,
    /// Writes applied without error.
    pub writes: u64,
    /// Bytes of those writes.
    pub written_bytes: u64,
    /// Ranges zeroed or given back.
    pub zeroes: u64,
    /// Flushes of the device; one may answer several commands.
    pub flushes: u64,
    /// Commands answered with an error.
    pub errors: u64,
    /// Connections accepted for a handshake.
    pub connections: u64,
    /// Connections refused: another user's, or more than allowed.
    pub refused: u64,
    /// Connections ended because the client broke the protocol or took too long to begin.
    pub violations: u64,
}

/// One counter.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        // Counters order nothing.
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters behind [`Stats`].
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) reads: Counter,
    pub(crate) read_bytes: Counter,
    pub(crate) writes: Counter,
    pub(crate) written_bytes: Counter,
    pub(crate) zeroes: Counter,
    pub(crate) flushes: Counter,
    pub(crate) errors: Counter,
    pub(crate) connections: Counter,
    pub(crate) refused: Counter,
    pub(crate) violations: Counter,
}

impl Counters {
    pub(crate) fn stats(&self) -> Stats {
        Stats {
            reads: self.reads.get(),
            read_bytes: self.read_bytes.get(),
            writes: self.writes.get(),
            written_bytes: self.written_bytes.get(),
            zeroes: self.zeroes.get(),
            flushes: self.flushes.get(),
            errors: self.errors.get(),
            connections: self.connections.get(),
            refused: self.refused.get(),
            violations: self.violations.get(),
        }
    }
}
