//! Bringing the rest of an image while a guest runs on it: first what guests read when they start.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use goldleaf_block::BlockError;
use goldleaf_cache::Cached;
use goldleaf_host::Clock;
use goldleaf_image::ImageVersion;

use crate::{Home, PlayerError};

/// Packs that arrive at once. The order is that in which they are needed, so few are better.
const STREAMS: usize = 2;
/// How long nothing is asked for after a failure, at first and at most.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// How soon it ends when it is to.
const TICK: Duration = Duration::from_millis(100);

/// Brings what is missing until it is dropped.
pub(super) struct Filling {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Filling {
    /// Begins; `None` for an image that is all here.
    pub fn begin(home: &Home, image: &ImageVersion) -> Result<Option<Self>, PlayerError> {
        if image.is_whole() {
            return Ok(None);
        }
        // A limit is no reason not to start; the next collection says what is over it.
        let _ = crate::cache::make_room(home, image.arrived().missing().bytes().0);
        let stop = Arc::new(AtomicBool::new(false));
        let profile = home.images_here()?.boot_profile(&image.image, &image.record)?;
        let first = image.wanted(&profile.unwrap_or_default());
        let work = Work {
            first: first.into_iter().map(|(data, blocks)| (data.clone(), blocks)).collect(),
            data: image.published().to_vec(),
            clock: home.clock.clone(),
            stop: stop.clone(),
        };
        let thread = std::thread::Builder::new().name("filling".into()).spawn(move || work.run());
        let thread = thread.map_err(PlayerError::io("starting to bring an image"))?;
        Ok(Some(Self { stop, thread: Some(thread) }))
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // One that panicked has brought what it has brought.
            let _ = thread.join();
        }
    }
}

struct Work {
    first: Vec<(Cached, Vec<Range<u64>>)>,
    data: Vec<Cached>,
    clock: Arc<dyn Clock>,
    stop: Arc<AtomicBool>,
}

impl Work {
    fn run(self) {
        let go_on = |_| match self.is_over() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        for (data, blocks) in &self.first {
            self.until_done(|| data.fill_first(blocks, &go_on));
        }
        for data in &self.data {
            self.until_done(|| data.fill(STREAMS, &go_on));
        }
    }

    /// A guest that reads what cannot be brought is told so by its disk; here it is tried again,
    /// for as long as the guest runs.
    fn until_done(&self, bring: impl Fn() -> Result<bool, BlockError>) {
        let mut pause = PAUSE;
        while bring().is_err() && !self.is_over() {
            self.rest(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn rest(&self, pause: Duration) {
        let until = self.clock.monotonic() + pause;
        while self.clock.monotonic() < until && !self.is_over() {
            self.clock.sleep(TICK);
        }
    }
}
