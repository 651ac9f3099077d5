//! Time that passes when somebody waits, chance that is none, and how the tests ask.

use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use goldleaf_fetch::{FetchError, Options, Patience, Source, Web};
use goldleaf_host::{Clock, Entropy, RealClock, RealEntropy};

/// A clock that goes on when somebody sleeps.
#[derive(Default)]
pub struct Ticks {
    now: Mutex<Duration>,
    pub slept: Mutex<Vec<Duration>>,
}

impl Ticks {
    pub fn pass(&self, duration: Duration) {
        *self.now.lock().unwrap() += duration;
    }
}

impl Clock for Ticks {
    fn now_unix(&self) -> Duration {
        self.monotonic()
    }

    fn monotonic(&self) -> Duration {
        *self.now.lock().unwrap()
    }

    fn sleep(&self, duration: Duration) {
        self.slept.lock().unwrap().push(duration);
        self.pass(duration);
    }
}

/// The same byte again and again.
pub struct Same(pub u8);

impl Entropy for Same {
    fn fill(&self, buf: &mut [u8]) -> io::Result<()> {
        buf.fill(self.0);
        Ok(())
    }
}

/// Waits for servers that are only as slow as a busy machine makes them.
pub fn options() -> Options {
    let mut options = Options::new(Arc::new(RealClock::new()), Arc::new(RealEntropy));
    options.tries.first = Duration::from_millis(10);
    options
}

/// Does not wait: for servers that are slow on purpose.
pub fn hasty() -> Options {
    let patience = Patience {
        connect: Duration::from_secs(2),
        first_byte: Duration::from_secs(1),
        window: Duration::from_millis(400),
        floor: 4 << 10,
        whole: Duration::from_secs(60),
    };
    Options { patience, ..options() }
}

pub fn web(url: &str) -> Arc<dyn Source> {
    Arc::new(Web::new(url, &options()).unwrap())
}

/// The whole of a range, as a stream gives it.
pub fn range(source: &dyn Source, path: &str, at: u64, len: usize) -> Result<Vec<u8>, FetchError> {
    let mut bytes = Vec::new();
    source.stream(path, at..at + len as u64, &mut |piece| {
        assert!(!piece.is_empty());
        bytes.extend_from_slice(piece);
        ControlFlow::Continue(())
    })?;
    assert_eq!(bytes.len(), len);
    Ok(bytes)
}

/// What `what` returns, which must not take longer than `secs` seconds.
pub fn within<T>(secs: u64, what: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let result = what();
    let took = began.elapsed();
    assert!(took < Duration::from_secs(secs), "it took {took:?}");
    result
}

/// Bytes that are different everywhere.
pub fn content(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[1]).collect()
}
