//! Telling how far long work has come.

/// Receives what long work says of itself. Libraries report; who listens decides what to show.
pub trait Progress: Send + Sync {
    /// `done` of `total` units of `what` are done; a `total` of 0 is not known yet.
    fn at(&self, what: &str, done: u64, total: u64);
}

/// Listens to nothing.
pub struct Silent;

impl Progress for Silent {
    fn at(&self, _what: &str, _done: u64, _total: u64) {}
}
