//! Threads that run one at a time, in an order that somebody decides.
//!
//! ```text
//!   thread 0 ──step──▶ lock ──step──▶ write ──── …     the turn is one token: only the thread
//!   thread 1 ──step──▶ read ──────────────────── …     that has it runs. At each step its holder
//!                │                                     asks `Choose` who goes on.
//!                └──▶ Choose: who may run, and what each is about to do
//! ```
//! A *step* is the moment before something that another thread can notice: a lock or an atomic of
//! [`crate::sync`], an operation of the simulated storage. All that happens between two steps of a
//! thread happens at once, so the order of the steps is the whole schedule: the same choices give
//! the same run, and a run is told by what was chosen.
//!
//! These are threads of the system and not coroutines, because only so the product's own code runs
//! as it is and nothing here needs `unsafe`. A turn that passes costs two system calls, one that
//! stays some nanoseconds.
//!
//! It assumes that threads with turns share locks with each other only, that nothing waits without
//! a step, and sequential consistency: what weaker memory orders allow is not tried.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::thread::Thread;

use super::lock;

/// Steps after which a run counts as endless.
const STEPS_MAX: usize = 100_000;
const NOBODY: usize = usize::MAX;

/// A step that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Who took it.
    pub thread: usize,
    /// What followed it.
    pub what: &'static str,
}

/// Decides who goes on.
pub trait Choose: Send {
    /// One of the threads that have a step to take, which `next` lists by thread. `last` took the
    /// step before; it is no thread at the beginning.
    fn choose(&mut self, last: Option<usize>, next: &[Option<&'static str>]) -> usize;
}

/// How a run went.
#[derive(Debug, Default)]
pub struct Ran {
    /// All steps, in order.
    pub steps: Vec<Step>,
    /// Whether all who were left waited for one another, or there was no end to it.
    pub stuck: bool,
    /// Who panicked.
    pub panicked: Vec<usize>,
}

/// Runs all of `threads` to their ends, one step at a time.
pub fn run<'a>(choose: Box<dyn Choose>, threads: Vec<Box<dyn FnOnce() + Send + 'a>>) -> Ran {
    let turns = Arc::new(Turns::new(choose, threads.len()));
    std::thread::scope(|scope| {
        let start = |(me, act)| {
            let turns = Arc::clone(&turns);
            scope.spawn(move || turns.live(me, act)).thread().clone()
        };
        let started = (0..).zip(threads).map(start).collect();
        let _ = turns.threads.set(started);
        let first = turns.next(&mut lock(&turns.state), None);
        turns.hand(first);
    });
    std::mem::take(&mut lock(&turns.state).ran)
}

/// The moment before something that other threads can notice.
pub(crate) fn step(what: &'static str) {
    SEAT.with_borrow(|seat| {
        if let Some((turns, me)) = seat {
            turns.step(*me, what);
        }
    });
}

/// Whether somebody decides when this thread runs.
pub(crate) fn is_decided() -> bool {
    SEAT.with_borrow(Option::is_some)
}

/// Waits until the lock may be free; false when nobody decides about this thread.
pub(crate) fn wait_for(lock: usize) -> bool {
    SEAT.with_borrow(|seat| {
        seat.as_ref().is_some_and(|(turns, me)| {
            turns.wait_for(*me, lock);
            true
        })
    })
}

/// A lock is about to be free.
pub(crate) fn freed(lock: usize) {
    SEAT.with_borrow(|seat| {
        if let Some((turns, _)) = seat {
            turns.freed(lock);
        }
    });
}

thread_local! {
    /// Who decides about this thread, and its number.
    static SEAT: RefCell<Option<(Arc<Turns>, usize)>> = const { RefCell::new(None) };
}

struct Turns {
    state: Mutex<State>,
    /// Who has the turn.
    turn: AtomicUsize,
    /// All run freely from now on, because there was no other way to go on.
    stuck: AtomicBool,
    threads: OnceLock<Vec<Thread>>,
}

struct State {
    choose: Box<dyn Choose>,
    /// By thread: the step to take; `None` where it waits or is done.
    next: Vec<Option<&'static str>>,
    /// By thread: the lock that it waits for.
    waits: Vec<Option<usize>>,
    ran: Ran,
}

impl Turns {
    fn new(choose: Box<dyn Choose>, threads: usize) -> Self {
        let (next, waits) = (vec![Some("begin"); threads], vec![None; threads]);
        Self {
            state: Mutex::new(State { choose, next, waits, ran: Ran::default() }),
            turn: AtomicUsize::new(NOBODY),
            stuck: AtomicBool::new(false),
            threads: OnceLock::new(),
        }
    }

    fn live(self: &Arc<Self>, me: usize, act: impl FnOnce()) {
        SEAT.set(Some((Arc::clone(self), me)));
        self.await_turn(me);
        let outcome = catch_unwind(AssertUnwindSafe(act));
        SEAT.set(None);
        let mut state = lock(&self.state);
        if outcome.is_err() {
            state.ran.panicked.push(me);
        }
        state.next[me] = None;
        let next = self.next(&mut state, Some(me));
        drop(state);
        self.hand(next);
    }

    fn step(&self, me: usize, what: &'static str) {
        let mut state = lock(&self.state);
        state.next[me] = Some(what);
        self.pass(state, me);
    }

    fn wait_for(&self, me: usize, place: usize) {
        let mut state = lock(&self.state);
        state.waits[me] = Some(place);
        state.next[me] = None;
        self.pass(state, me);
        // Whoever is stuck lets go of what it holds, so that all come to an end.
        assert!(!self.stuck.load(Ordering::Acquire) || std::thread::panicking(), "stuck");
    }

    fn freed(&self, place: usize) {
        let mut state = lock(&self.state);
        for thread in 0..state.waits.len() {
            if state.waits[thread] == Some(place) {
                state.waits[thread] = None;
                state.next[thread] = Some("go on");
            }
        }
    }

    fn pass(&self, mut state: MutexGuard<'_, State>, me: usize) {
        let next = self.next(&mut state, Some(me));
        drop(state);
        if next != me {
            self.hand(next);
            self.await_turn(me);
        }
    }

    /// Who goes on after a step of `last`.
    fn next(&self, state: &mut State, last: Option<usize>) -> usize {
        if self.stuck.load(Ordering::Acquire) {
            return NOBODY;
        }
        let can_go_on = state.next.iter().any(Option::is_some);
        let waits = state.waits.iter().any(Option::is_some);
        if state.ran.steps.len() >= STEPS_MAX || (waits && !can_go_on) {
            state.ran.stuck = true;
            self.stuck.store(true, Ordering::Release);
        }
        if state.ran.stuck || !can_go_on {
            return NOBODY;
        }
        let thread = state.choose.choose(last, &state.next);
        let what = state.next[thread].expect("only who has a step to take is chosen");
        state.ran.steps.push(Step { thread, what });
        thread
    }

    fn hand(&self, next: usize) {
        self.turn.store(next, Ordering::Release);
        let threads = self.threads.get().map_or(&[][..], Vec::as_slice);
        if self.stuck.load(Ordering::Acquire) {
            threads.iter().for_each(Thread::unpark);
        } else if let Some(thread) = threads.get(next) {
            thread.unpark();
        }
    }

    fn await_turn(&self, me: usize) {
        while self.turn.load(Ordering::Acquire) != me && !self.stuck.load(Ordering::Acquire) {
            std::thread::park();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::sync;

    /// Goes round among those who may run.
    struct Round;

    impl Choose for Round {
        fn choose(&mut self, last: Option<usize>, next: &[Option<&'static str>]) -> usize {
            let first = last.map_or(0, |last| last + 1);
            let mut round = (first..first + next.len()).map(|thread| thread % next.len());
            round.find(|&thread| next[thread].is_some()).expect("somebody can")
        }
    }

    #[test]
    fn a_lost_update_is_found_and_a_lock_prevents_it() {
        let counter = sync::AtomicU64::new(0);
        let add = || {
            let before = counter.load(Ordering::Acquire);
            counter.store(before + 1, Ordering::Release);
        };
        let ran = run(Box::new(Round), vec![Box::new(add), Box::new(add)]);
        assert_eq!((counter.load(Ordering::Acquire), ran.stuck), (1, false));
        let turn: Vec<usize> = ran.steps.iter().map(|step| step.thread).collect();
        assert_eq!(turn, [0, 1, 0, 1, 0, 1]);

        let guarded = sync::Mutex::new(());
        let add = || {
            let _guard = guarded.lock().expect("lock");
            add();
        };
        run(Box::new(Round), vec![Box::new(add), Box::new(add)]);
        assert_eq!(counter.load(Ordering::Acquire), 3);
    }

    #[test]
    fn a_deadlock_is_an_end_too() {
        let (one, two) = (sync::Mutex::new(()), sync::Mutex::new(()));
        let both = |first: &sync::Mutex<()>, second: &sync::Mutex<()>| {
            let _first = first.lock();
            let _second = second.lock();
        };
        let ran = run(
            Box::new(Round),
            vec![Box::new(|| both(&one, &two)), Box::new(|| both(&two, &one))],
        );
        assert!(ran.stuck && !ran.panicked.is_empty(), "{ran:?}");
        let ran = run(
            Box::new(Round),
            vec![Box::new(|| both(&one, &two)), Box::new(|| both(&one, &two))],
        );
        assert!(!ran.stuck, "{ran:?}");
    }
}
