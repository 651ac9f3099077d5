//! No more bytes in a second than somebody allows.
//!
//! Bytes are paid for as they come: each puts off the next by its share of a second. Who does not
//! take them fills the connection's buffers, and the server waits; so nothing is thrown away.

use std::ops::{ControlFlow, Range};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use goldleaf_host::Clock;

use crate::{FetchError, Source, Take};

/// What may come at once after a time in which nothing came, and how long a change of the rate may
/// take to be felt: long enough that few sleeps do, short enough that nobody notices.
const BURST: Duration = Duration::from_millis(250);

/// Bytes in a second that all may take who share it; it can be changed while they do.
pub struct Rate {
    clock: Arc<dyn Clock>,
    /// Bytes in a second; 0 is no limit.
    bytes: AtomicU64,
    /// When what was taken so far is paid for, by the clock's monotonic time.
    paid: Mutex<Duration>,
}

impl Rate {
    /// `bytes` in a second; `None` is no limit.
    pub fn new(clock: Arc<dyn Clock>, bytes: Option<u64>) -> Arc<Self> {
        let rate = Self { clock, bytes: AtomicU64::new(0), paid: Mutex::new(Duration::ZERO) };
        rate.set(bytes);
        Arc::new(rate)
    }

    /// From now on `bytes` in a second; `None` is no limit. A range must still come within
    /// [`crate::Patience::whole`].
    pub fn set(&self, bytes: Option<u64>) {
        // Nobody means never; the slowest there is ends one day.
        self.bytes.store(bytes.map_or(0, |bytes| bytes.max(1)), Ordering::Relaxed);
    }

    /// Bytes that may be paid for at once.
    fn portion(&self) -> usize {
        match self.bytes.load(Ordering::Relaxed) {
            0 => usize::MAX,
            bytes => ((bytes as f64 * BURST.as_secs_f64()) as usize).max(1),
        }
    }

    /// Waits until this many bytes are paid for.
    fn pay(&self, len: usize) {
        let bytes = self.bytes.load(Ordering::Relaxed);
        if bytes == 0 {
            return;
        }
        let now = self.clock.monotonic();
        let wait = {
            let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
            let due = Duration::from_secs_f64(len as f64 / bytes as f64);
            *paid = (*paid).max(now.saturating_sub(BURST)) + due;
            paid.saturating_sub(now)
        };
        if !wait.is_zero() {
            self.clock.sleep(wait);
        }
    }

    /// Pays in portions, so that a change of the rate is felt soon.
    fn pay_slowly(&self, mut len: usize) {
        while len > 0 {
            let portion = len.min(self.portion());
            self.pay(portion);
            len -= portion;
        }
    }
}

/// A source that keeps to a rate.
pub struct Limited {
    inner: Arc<dyn Source>,
    rate: Arc<Rate>,
}

impl Limited {
    /// `inner`, no faster than `rate`.
    pub fn new(inner: Arc<dyn Source>, rate: Arc<Rate>) -> Self {
        Self { inner, rate }
    }
}

impl Source for Limited {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, FetchError> {
        let read = self.inner.read(path, limit)?;
        self.rate.pay_slowly(read.as_ref().map_or(0, Vec::len));
        Ok(read)
    }

    fn stream(&self, path: &str, range: Range<u64>, take: &mut Take<'_>) -> Result<(), FetchError> {
        self.inner.stream(path, range, &mut |piece| {
            let mut rest = piece;
            while !rest.is_empty() {
                let (portion, more) = rest.split_at(rest.len().min(self.rate.portion()));
                self.rate.pay(portion.len());
                if take(portion).is_break() {
                    return ControlFlow::Break(());
                }
                rest = more;
            }
            ControlFlow::Continue(())
        })
    }

    fn distrust(&self, path: &str) -> bool {
        self.inner.distrust(path)
    }
}
