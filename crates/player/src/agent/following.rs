//! Following the control server: checking in when it is time, and subscribing to what is assigned.

use std::thread::JoinHandle;
use std::time::Duration;

use goldleaf_api::v1::EndpointState;
use goldleaf_host::Silent;
use serde::{Deserialize, Serialize};

use super::{Agent, TICK};
use crate::enrolment::{Followed, Follower, Tie, record};
use crate::error::sentence;
use crate::{Home, PlayerError};

/// How often it is looked whether this machine was enrolled, and whether it was let in, in seconds.
const LOOK_SECS: u64 = 10;
/// After failures it waits longer each time, at most so long, in seconds; so it does if a server
/// wants it to.
const WAIT_MAX_SECS: u64 = 3600;

/// How it goes with the control server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerLine {
    /// Its address.
    pub server: String,
    /// Whose it is.
    pub organisation: String,
    /// Whether this machine is let in.
    pub state: EndpointState,
    /// Unix time of the last check-in, in seconds.
    pub checked_in_unix_secs: Option<u64>,
    /// Unix time of the next one, in seconds.
    pub next_unix_secs: u64,
    /// LivePCs that are assigned and could not be had, and why.
    pub failed: Vec<(String, String)>,
    /// What went wrong the last time.
    pub error: Option<String>,
}

/// Listens whether the server has something to do, in a thread that nobody waits for: it may be in
/// the middle of a question when the agent ends.
#[derive(Default)]
struct Listener {
    /// As whom to ask; `None` while there is no use in it.
    tie: Option<Tie>,
    thread: Option<JoinHandle<bool>>,
}

impl Listener {
    /// Whether there was news since it was asked last.
    fn has_heard(&mut self, home: &Home) -> bool {
        match self.thread.take() {
            Some(thread) if !thread.is_finished() => {
                self.thread = Some(thread);
                false
            }
            // Whoever panicked has heard nothing.
            Some(thread) => thread.join().unwrap_or(false),
            None => {
                self.thread = self.tie.clone().map(|tie| {
                    let (director, clock) = (home.director.clone(), home.clock.clone());
                    std::thread::spawn(move || match director.news(&tie) {
                        Ok(news) => news.is_there,
                        Err(_) => {
                            clock.sleep(Duration::from_secs(LOOK_SECS));
                            false
                        }
                    })
                });
                false
            }
        }
    }
}

impl Agent<'_> {
    /// Follows the server, until it is over.
    pub(super) fn following(&self) {
        let (mut has_stepped, mut failures, mut next) = (false, 0u32, Duration::ZERO);
        let mut listener = Listener::default();
        while !self.is_over() {
            let is_wanted = std::mem::take(&mut self.board().is_server_wanted);
            if !is_wanted && !listener.has_heard(&self.home) && self.home.clock.monotonic() < next {
                self.home.clock.sleep(TICK);
                continue;
            }
            let followed = self.follow(&mut has_stepped, &mut listener);
            failures = if followed.is_err() { failures + 1 } else { 0 };
            let wait = match &followed {
                Ok((_, again_secs)) => (*again_secs).clamp(LOOK_SECS, WAIT_MAX_SECS),
                // One that was in the way is soon out of it.
                Err(PlayerError::Busy { .. }) => LOOK_SECS,
                Err(_) => (LOOK_SECS << failures.min(10)).min(WAIT_MAX_SECS),
            };
            // Not all machines at once, least of all after the server was away.
            let spread = if failures > 0 { 0.5 + self.chance() } else { 0.9 + 0.2 * self.chance() };
            let wait = Duration::from_secs(wait).mul_f64(spread);
            next = self.home.clock.monotonic() + wait;
            self.show(followed.map(|(followed, _)| followed), wait);
        }
    }

    /// One check-in: what came of it, and in how many seconds to do it again.
    fn follow(
        &self,
        has_stepped: &mut bool,
        listener: &mut Listener,
    ) -> Result<(Followed, u64), PlayerError> {
        listener.tie = None;
        let Some(mut follower) = Follower::open(&self.home)? else {
            return Ok((Followed::default(), LOOK_SECS));
        };
        if !*has_stepped {
            follower.step_on(&self.home)?;
            *has_stepped = true;
        }
        let Some(mut again_secs) = follower.check_in(&self.home)? else {
            return Ok((Followed::default(), LOOK_SECS));
        };
        if follower.carry_out(&self.home, &|| self.want(&[]))? {
            again_secs = follower.check_in(&self.home)?.unwrap_or(LOOK_SECS);
        }
        // While an order waits for a desktop to come to rest, there would be news all the time.
        let is_free = follower.record.orders.is_empty();
        listener.tie = is_free.then(|| follower.record.tie.clone());
        let followed = follower.follow(&self.home, &Silent);
        for name in &followed.subscribed {
            self.meet(name);
            self.board().wanted.insert(name.clone());
        }
        Ok((followed, again_secs))
    }

    fn show(&self, followed: Result<Followed, PlayerError>, wait: Duration) {
        let found = record(&self.home);
        let mut board = self.board();
        let Ok(Some(record)) = found else {
            board.server = None;
            return;
        };
        let (failed, error) = match followed {
            Ok(followed) => (followed.failed, None),
            Err(error) => (Vec::new(), Some(sentence(&error))),
        };
        board.server = Some(ServerLine {
            server: record.tie.server,
            organisation: record.organisation,
            state: record.state,
            checked_in_unix_secs: record.checked_in_unix_secs,
            next_unix_secs: self.home.now_unix_secs() + wait.as_secs(),
            failed,
            error,
        });
    }
}
