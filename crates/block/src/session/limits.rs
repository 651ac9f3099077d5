//! Where the log changes its behaviour with size. Little limits let small workloads meet them all;
//! the unit tests always have them, the proof of reliability on demand.

use super::format::ENTRIES_MAX;
use super::space;

/// The sizes that matter.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// Entries of a record at which it is closed: bounds the memory of a guest that never flushes.
    pub entries: usize,
    /// How far ahead of its end the index is filled with zeroes, in bytes: a record then lands on
    /// blocks that the host's file system already has, and syncing it needs no journal commit
    /// there.
    pub prepare: u64,
    /// An index smaller than this is never worth a compaction, in bytes.
    pub compaction_floor: u64,
    /// Dead slots of one flush that are worth another sync to be given back at once.
    pub many_dead: usize,
    /// Dead slots that make a flush of their own.
    pub flush_dead: usize,
    /// When space goes back.
    pub space: space::Limits,
}

/// 256 KiB of index ahead, compaction from 4 MiB on, 16 MiB of dead slots for either.
const USUAL: Limits = Limits {
    entries: ENTRIES_MAX,
    prepare: 256 << 10,
    compaction_floor: 4 << 20,
    many_dead: 4096,
    flush_dead: 4096,
    space: space::Limits::USUAL,
};

#[cfg(any(test, feature = "proof"))]
const LITTLE: Limits = Limits {
    entries: 16,
    prepare: 8 << 10,
    compaction_floor: 32 << 10,
    many_dead: 8,
    flush_dead: 16,
    space: space::Limits { look_at: 2, long: 3, slack: 2, spare: 4, few_runs: 3 },
};

/// The limits that hold.
#[cfg(not(any(test, feature = "proof")))]
pub(super) fn limits() -> &'static Limits {
    &USUAL
}

/// The limits that hold on this thread.
#[cfg(any(test, feature = "proof"))]
pub(super) fn limits() -> &'static Limits {
    if IS_LITTLE.get() { &LITTLE } else { &USUAL }
}

#[cfg(any(test, feature = "proof"))]
thread_local! {
    static IS_LITTLE: std::cell::Cell<bool> = const { std::cell::Cell::new(cfg!(test)) };
}

/// Lets all logs of this thread have little limits, or the usual ones.
#[cfg(feature = "proof")]
pub fn use_little_limits(little: bool) {
    IS_LITTLE.set(little);
}
