//! What passes is tried again, after a while that nobody can foresee: a thousand endpoints that a
//! server threw out together must not come back together.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use goldleaf_host::{Clock, Entropy};

use crate::{FetchError, Source, Take};

/// How often, and how long to wait between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tries {
    /// Tries in all; 0 and 1 are the same.
    pub count: u32,
    /// Longest wait after the first; it doubles from one to the next. The wait is anything between
    /// nothing and this.
    pub first: Duration,
    /// No wait is longer.
    pub wait_max: Duration,
}

impl Default for Tries {
    /// Four tries within about four seconds: what takes longer is for whoever asks, who may have
    /// another source or a person to tell.
    fn default() -> Self {
        Self { count: 4, first: Duration::from_millis(500), wait_max: Duration::from_secs(8) }
    }
}

/// Tries again where [`FetchError::is_passing`].
#[derive(Clone)]
pub(crate) struct Again {
    tries: Tries,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl Again {
    pub(crate) fn new(tries: Tries, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        Self { tries, clock, entropy }
    }

    pub(crate) fn patiently<T>(
        &self,
        mut once: impl FnMut() -> Result<T, FetchError>,
    ) -> Result<T, FetchError> {
        let mut longest = self.tries.first.min(self.tries.wait_max);
        for _ in 1..self.tries.count {
            match once() {
                Err(error) if error.is_passing() => {}
                other => return other,
            }
            self.clock.sleep(longest.mul_f64(self.chance()));
            longest = longest.saturating_mul(2).min(self.tries.wait_max);
        }
        once()
    }

    /// From 0 to 1.
    fn chance(&self) -> f64 {
        let mut bytes = [0; 4];
        // Without randomness the wait is half of the longest, for everybody.
        match self.entropy.fill(&mut bytes) {
            Ok(()) => f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX),
            Err(_) => 0.5,
        }
    }
}

/// A source that tries again where [`FetchError::is_passing`]. A stream goes on where it broke.
pub struct Retrying {
    inner: Arc<dyn Source>,
    again: Again,
}

impl Retrying {
    /// `inner`, tried as often as `tries` says.
    pub fn new(
        inner: Arc<dyn Source>,
        tries: Tries,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        Self { inner, again: Again::new(tries, clock, entropy) }
    }
}

impl Source for Retrying {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, FetchError> {
        self.again.patiently(|| self.inner.read(path, limit))
    }

    fn stream(&self, path: &str, range: Range<u64>, take: &mut Take<'_>) -> Result<(), FetchError> {
        let mut next = range.start;
        self.again.patiently(|| {
            self.inner.stream(path, next..range.end, &mut |piece| {
                next += piece.len() as u64;
                take(piece)
            })
        })
    }

    fn distrust(&self, path: &str) -> bool {
        self.inner.distrust(path)
    }
}
