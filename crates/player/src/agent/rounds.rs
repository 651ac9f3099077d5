//! Rounds: each subscription is asked for when it is its time, one after the other.

use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

use goldleaf_fetch::Destination;
use goldleaf_host::Silent;
use goldleaf_image::Arrived;

use super::{Agent, Doing, Line, TICK, socket};
use crate::error::sentence;
use crate::feeds::{self, ExportOptions, Subscription, Updated};
use crate::{Home, PlayerError, desktop};

/// What neighbours are served, in the home: a feed's directory.
pub const MIRROR: &str = "mirror";
/// How often it is looked which subscriptions there are, and whether a guest's disk still arrives.
const LOOK: Duration = Duration::from_secs(2);
/// How long nothing may come of a guest's disk before it no longer counts.
const STALLED: Duration = Duration::from_secs(60);
/// How long after its beginning it asks for the first time, at most, in seconds: many machines
/// start when their people come to work.
const FIRST_SECS: u64 = 120;
/// How long it waits after a failure, in seconds; no longer than between two rounds.
const AGAIN_SECS: u64 = 600;

/// How an attempt to bring a version went.
enum Brought {
    /// It came to its end.
    Done(Updated),
    /// Somebody else comes first.
    Later,
}

impl Agent<'_> {
    /// Brings what is new, until it is over.
    pub(super) fn rounds(&self) {
        let mut look_at = Duration::ZERO;
        while !self.is_over() {
            let now = self.home.clock.monotonic();
            if now >= look_at {
                self.end_alone();
                self.look();
                look_at = now + LOOK;
            }
            match self.due() {
                Some(name) => self.one(&name),
                None => self.home.clock.sleep(TICK),
            }
        }
    }

    /// Ends where nobody can reach it any more: its home is gone.
    fn end_alone(&self) {
        if !socket(&self.home).is_some_and(|socket| socket.exists()) {
            self.stop.store(true, Ordering::Relaxed);
        }
    }

    /// Wants subscriptions to be looked at now.
    pub(super) fn want(&self, names: &[String]) -> Result<(), PlayerError> {
        let known: Vec<String> =
            feeds::list(&self.home)?.into_iter().map(|record| record.name).collect();
        if let Some(name) = names.iter().find(|name| !known.contains(name)) {
            return Err(PlayerError::Unknown { kind: "subscription", name: name.clone() });
        }
        let wanted = if names.is_empty() { known } else { names.to_vec() };
        wanted.iter().for_each(|name| self.meet(name));
        self.board().wanted.extend(wanted);
        Ok(())
    }

    /// Looks which subscriptions there are. What cannot be read is seen by a command.
    fn look(&self) {
        let Ok(records) = feeds::list(&self.home) else { return };
        self.board().lines.retain(|name, _| records.iter().any(|record| record.name == *name));
        records.iter().for_each(|record| self.meet(&record.name));
    }

    /// Begins to care for a subscription.
    pub(super) fn meet(&self, name: &str) {
        let mut board = self.board();
        if board.lines.contains_key(name) {
            return;
        }
        let first = FIRST_SECS.min(board.settings.every_secs) as f64 * self.chance();
        let line = Line {
            subscription: name.into(),
            doing: Doing::Waiting,
            version: None,
            here_bytes: 0,
            all_bytes: 0,
            asked_unix_secs: None,
            next_unix_secs: self.home.now_unix_secs() + first as u64,
            error: None,
        };
        board.lines.insert(name.into(), line);
    }

    /// The next subscription whose time has come, or that somebody wants.
    fn due(&self) -> Option<String> {
        let mut board = self.board();
        let (now, monotonic) = (self.home.now_unix_secs(), self.home.clock.monotonic());
        board.left_alone.retain(|_, until| *until > monotonic);
        let longest = 2 * board.settings.every_secs;
        let is_due = |line: &&Line| {
            // A clock that was set back makes nothing wait for years.
            line.next_unix_secs <= now || line.next_unix_secs > now.saturating_add(longest)
        };
        let free = |name: &String| !board.left_alone.contains_key(name);
        let wanted = board.wanted.iter().find(|name| free(name)).cloned();
        let lines = board.lines.values().filter(|line| free(&line.subscription));
        let next =
            wanted.or_else(|| lines.filter(is_due).map(|line| line.subscription.clone()).next());
        if let Some(name) = &next {
            board.wanted.remove(name);
        }
        next
    }

    /// One subscription's turn.
    fn one(&self, name: &str) {
        self.line(name, |line| line.doing = Doing::Bringing);
        let brought = self.bring(name);
        let (now, every) = (self.home.now_unix_secs(), self.board().settings.every_secs);
        self.line(name, |line| {
            line.doing = Doing::Waiting;
            let wait = match brought {
                Ok(Brought::Later) => {
                    line.doing = Doing::GivingWay;
                    LOOK.as_secs()
                }
                Ok(Brought::Done(updated)) => {
                    (line.asked_unix_secs, line.error) = (Some(now), None);
                    line.version = feeds::current(&self.home, name).ok().flatten();
                    // One that is put off is looked at again when it may start.
                    let put_off = updated.deferred_until.map(|until| until.saturating_sub(now));
                    let usual = (every as f64 * (0.9 + 0.2 * self.chance())) as u64;
                    put_off.map_or(usual, |wait| wait.min(usual))
                }
                Err(error) => {
                    (line.asked_unix_secs, line.error) = (Some(now), Some(sentence(&error)));
                    (AGAIN_SECS.min(every) as f64 * (0.5 + self.chance())) as u64
                }
            };
            line.next_unix_secs = now + wait.max(1);
        });
    }

    fn bring(&self, name: &str) -> Result<Brought, PlayerError> {
        if self.must_give_way(name) {
            return Ok(Brought::Later);
        }
        let mut subscription = match Subscription::open_idle(&self.home, name) {
            Err(PlayerError::Busy { .. }) => return Ok(Brought::Later),
            other => other?,
        };
        let mut home = self.home.clone();
        if self.board().settings.serve.is_some() {
            let mirror = self.home.sub(MIRROR)?;
            // What was fetched for neighbours is not fetched again.
            home.nearest = mirror.path().map(|path| path.to_string_lossy().into_owned());
            let to = Destination::directory(mirror, "what neighbours are served");
            let options = ExportOptions { deltas: true, is_read: false, dry_run: false };
            subscription.export(&self.home, &to, &options, &Silent)?;
        }
        let looked = Mutex::new(self.home.clock.monotonic());
        let told = |arrived: Arrived| {
            self.line(name, |line| {
                line.here_bytes = arrived.here.bytes().0;
                line.all_bytes = arrived.all.bytes().0;
            });
            match self.is_asked_to_stop(name) || self.is_time(&looked) && self.streams() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        let updated = subscription.update(&home, &Silent, &told)?;
        Ok(if updated.is_whole { Brought::Done(updated) } else { Brought::Later })
    }

    fn must_give_way(&self, name: &str) -> bool {
        self.is_asked_to_stop(name) || self.streams()
    }

    /// Whether a guest runs whose disk still arrives: it gets the link, unless nothing comes.
    fn streams(&self) -> bool {
        let (here, now) = (streamed(&self.home), self.home.clock.monotonic());
        let mut board = self.board();
        if here != board.streamed.0 {
            board.streamed = (here, now);
        }
        here.is_some() && now.saturating_sub(board.streamed.1) < STALLED
    }

    fn is_asked_to_stop(&self, name: &str) -> bool {
        self.is_over() || self.board().left_alone.contains_key(name)
    }

    /// Whether it is time to look again; not for every frame that arrives.
    fn is_time(&self, looked: &Mutex<Duration>) -> bool {
        let now = self.home.clock.monotonic();
        match looked.try_lock() {
            Ok(mut looked) if now >= *looked + LOOK => {
                *looked = now;
                true
            }
            _ => false,
        }
    }

    fn line(&self, name: &str, change: impl FnOnce(&mut Line)) {
        if let Some(line) = self.board().lines.get_mut(name) {
            change(line);
        }
    }

    /// From 0 to 1.
    pub(super) fn chance(&self) -> f64 {
        let mut byte = [0];
        // Without randomness the wait is what it is for nobody else.
        match self.home.entropy.fill(&mut byte) {
            Ok(()) => f64::from(byte[0]) / 255.0,
            Err(_) => 0.5,
        }
    }
}

/// Bytes that are here of the disks that still arrive while guests run on them; `None` where none
/// do.
fn streamed(home: &Home) -> Option<u64> {
    let desktops = desktop::list(home).ok()?;
    let under_way = desktops.iter().filter(|desktop| desktop.session.is_some());
    let live = under_way.filter_map(|record| desktop::status(home, &record.name).ok()?.live);
    let here = live.filter_map(|live| {
        let bytes = |name: &str| live["image"][name].as_u64();
        bytes("here_bytes").filter(|here| bytes("all_bytes").is_some_and(|all| *here < all))
    });
    here.reduce(|one, other| one + other)
}
