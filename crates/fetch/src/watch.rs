//! Who sends too little is told from who is far away: a connection is watched below everything
//! else, where bytes arrive.
//!
//! ```text
//!   request ─▶ │ no byte yet: Patience::first_byte │ windows of Patience::window … │
//!                                                    each must bring floor × window
//! ```
//! Only the time counts in which somebody waits for bytes. A caller that is busy, or keeps to a
//! rate, does not make its server slow. What is watched is below TLS, so that a record of 16 KiB
//! that trickles in is seen while it does.
//!
//! The seam is `ureq`'s transport, which its authors may still change from one minor release to
//! another; so the workspace names the minor release, and only this file and `web` would notice.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use goldleaf_host::Clock;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, NextTimeout, Transport, time,
};
use ureq::{Error, Timeout};

/// How long to wait for a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For its name, and again for a connection with TLS and all.
    pub connect: Duration,
    /// From a request to the end of the answer's headers.
    pub first_byte: Duration,
    /// The time over which the rate is measured.
    pub window: Duration,
    /// Bytes in a second that must come; who sends fewer is [`crate::FetchError::SlowRetrieval`].
    pub floor: u64,
    /// For the whole of an answer, whatever the caller does with it meanwhile.
    pub whole: Duration,
}

impl Default for Patience {
    /// A modem of 1998 is fast enough; a server that drips is found out within half a minute. At
    /// the floor, 16 MiB take a little more than an hour: a caller may take as long again.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            first_byte: Duration::from_secs(30),
            window: Duration::from_secs(15),
            floor: 4 << 10,
            whole: Duration::from_secs(2 * 3600),
        }
    }
}

/// Too few bytes came.
#[derive(Debug, thiserror::Error)]
#[error("{found} bytes within {} s", within.as_secs_f32())]
pub(crate) struct Slow {
    pub(crate) found: u64,
    pub(crate) within: Duration,
}

/// Counts what comes while somebody waits for it.
#[derive(Debug, Default)]
struct Pace {
    has_begun: bool,
    waited: Duration,
    found: u64,
}

impl Pace {
    /// That `found` bytes came within `waited`.
    fn count(&mut self, patience: &Patience, waited: Duration, found: u64) -> Result<(), Slow> {
        if !self.has_begun {
            self.has_begun = found > 0;
            return Ok(());
        }
        self.waited += waited;
        self.found += found;
        if self.waited < patience.window {
            return Ok(());
        }
        let (within, found) = (self.waited, self.found);
        *self = Pace { has_begun: true, ..Pace::default() };
        let is_slow = (found as f64) < patience.floor as f64 * within.as_secs_f64();
        if is_slow { Err(Slow { found, within }) } else { Ok(()) }
    }
}

/// Watches each connection that is made.
pub(crate) struct Watch {
    pub(crate) patience: Patience,
    pub(crate) clock: Arc<dyn Clock>,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("patience", &self.patience).finish_non_exhaustive()
    }
}

impl<In: Transport> Connector<In> for Watch {
    type Out = Watched<In>;

    fn connect(
        &self,
        _details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        let watch = Watch { patience: self.patience, clock: Arc::clone(&self.clock) };
        Ok(chained.map(|inner| Watched { inner, watch, pace: Pace::default() }))
    }
}

/// A connection that is watched.
#[derive(Debug)]
pub(crate) struct Watched<In> {
    inner: In,
    watch: Watch,
    pace: Pace,
}

impl<In: Transport> Transport for Watched<In> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        // Another request: the server may think again.
        self.pace = Pace::default();
        self.inner.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let began = self.watch.clock.monotonic();
        let spent = |now: Duration| now.saturating_sub(began);
        loop {
            let now = self.watch.clock.monotonic();
            let left = self.watch.patience.window.saturating_sub(self.pace.waited);
            let before = self.inner.buffers().input().len();
            let part = until(timeout, spent(now), self.pace.has_begun.then_some(left));
            let result = self.inner.await_input(part);
            let found = self.inner.buffers().input().len() - before;
            let waited = self.watch.clock.monotonic().saturating_sub(now);
            self.pace
                .count(&self.watch.patience, waited, found as u64)
                .map_err(|slow| Error::Other(Box::new(slow)))?;
            match result {
                // The window is over, and what came in it is enough.
                Err(Error::Timeout(Timeout::PerRead)) => {}
                other => return other,
            }
        }
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

/// What is left of a timeout, and no longer than a window lasts.
fn until(timeout: NextTimeout, spent: Duration, window: Option<Duration>) -> NextTimeout {
    let after = match timeout.after {
        time::Duration::Exact(after) => time::Duration::Exact(after.saturating_sub(spent)),
        never => never,
    };
    // A timeout of nothing is an error of its own, and the clock of the system may be coarser.
    let window = window.map(|left| left.max(Duration::from_millis(1)).into());
    NextTimeout { after, per_read: window, ..timeout }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        connect: Duration::ZERO,
        first_byte: Duration::ZERO,
        window: Duration::from_secs(10),
        floor: 100,
        whole: Duration::ZERO,
    };

    fn count(pace: &mut Pace, secs: u64, found: u64) -> bool {
        pace.count(&PATIENCE, Duration::from_secs(secs), found).is_ok()
    }

    #[test]
    fn the_first_byte_has_its_own_time() {
        let mut pace = Pace::default();
        assert!(count(&mut pace, 60, 0));
        assert!(count(&mut pace, 60, 1));
        assert!(!count(&mut pace, 10, 999));
    }

    #[test]
    fn a_window_is_measured_as_a_whole() {
        let mut pace = Pace { has_begun: true, ..Pace::default() };
        assert!(count(&mut pace, 1, 1000));
        assert!(count(&mut pace, 9, 0));
        assert!(count(&mut pace, 9, 0));
        assert!(!count(&mut pace, 1, 999));
        assert!(count(&mut pace, 0, 1 << 30));
    }
}
