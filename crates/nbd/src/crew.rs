//! The threads that do for one connection what would keep its reader waiting: flushes, zeroing,
//! reads from a cold disk.
//!
//! A crew belongs to one connection, so that a client that does not take its replies holds up
//! nobody else; its threads are made when there is work and leave with the connection. Flushes are
//! joined: those that come while one is under way are all answered by the next.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::connection::{Connection, Ended};
use crate::reply::ReplyBuffer;
use crate::wire::{Cookie, Request, command, command_flag};

/// Requests that may wait; the reader stops reading when there are more. Each is small: buffers
/// are the threads', not the requests'.
const JOBS_MAX: usize = 256;

#[derive(Default)]
struct State {
    jobs: VecDeque<Request>,
    /// Who waits for the next flush.
    flushes: Vec<Cookie>,
    flushing: bool,
    /// Jobs taken and not yet answered.
    active: usize,
    idle: usize,
    closed: bool,
    threads: Vec<JoinHandle<()>>,
}

impl State {
    fn is_full(&self) -> bool {
        self.jobs.len() + self.flushes.len() >= JOBS_MAX
    }

    fn next(&mut self) -> Option<Job> {
        if !self.flushing && !self.flushes.is_empty() {
            self.flushing = true;
            self.active += 1;
            return Some(Job::Flush(std::mem::take(&mut self.flushes)));
        }
        let request = self.jobs.pop_front()?;
        self.active += 1;
        Some(Job::Request(request))
    }

    fn is_busy(&self) -> bool {
        self.active > 0 || !self.jobs.is_empty() || !self.flushes.is_empty()
    }
}

enum Job {
    Request(Request),
    Flush(Vec<Cookie>),
}

/// The crew of one connection.
pub(crate) struct Crew {
    connection: Arc<Connection>,
    work: Arc<Work>,
    threads_max: usize,
}

#[derive(Default)]
struct Work {
    state: Mutex<State>,
    /// There is work, or there will be none any more.
    come: Condvar,
    /// There is room for more.
    room: Condvar,
}

impl Work {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Crew {
    pub(crate) fn new(connection: Arc<Connection>, threads_max: usize) -> Self {
        Self { connection, work: Arc::default(), threads_max: threads_max.max(1) }
    }

    /// Whether anything is waiting or under way.
    pub(crate) fn is_busy(&self) -> bool {
        self.work.lock().is_busy()
    }

    /// Requests waiting or under way, flushes apart.
    pub(crate) fn backlog(&self) -> usize {
        let state = self.work.lock();
        state.jobs.len() + state.active - usize::from(state.flushing)
    }

    /// Whether [`Self::request`] and [`Self::flush`] would wait.
    pub(crate) fn is_full(&self) -> bool {
        self.work.lock().is_full()
    }

    /// Hands out a checked request: a read, or a range to zero.
    pub(crate) fn request(&self, request: Request) -> Result<(), Ended> {
        self.hand_out(|state| state.jobs.push_back(request))
    }

    /// Answers `cookie` when all that is written by now is durable.
    pub(crate) fn flush(&self, cookie: Cookie) -> Result<(), Ended> {
        self.hand_out(|state| state.flushes.push(cookie))
    }

    fn hand_out(&self, add: impl FnOnce(&mut State)) -> Result<(), Ended> {
        let mut state = self.work.lock();
        while state.is_full() {
            state = self.work.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        add(&mut state);
        let waiting = state.jobs.len() + usize::from(!state.flushes.is_empty());
        if waiting > state.idle && state.threads.len() < self.threads_max {
            self.hire(&mut state)?;
        }
        self.work.come.notify_one();
        Ok(())
    }

    fn hire(&self, state: &mut State) -> Result<(), Ended> {
        let (connection, work) = (self.connection.clone(), self.work.clone());
        let hired = std::thread::Builder::new()
            .name("nbd-crew".into())
            .spawn(move || toil(&connection, &work));
        match hired {
            Ok(thread) => state.threads.push(thread),
            // Whoever is there does the work later.
            Err(_) if !state.threads.is_empty() => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

impl Drop for Crew {
    /// Waits until all work is done.
    fn drop(&mut self) {
        let mut state = self.work.lock();
        state.closed = true;
        let threads = std::mem::take(&mut state.threads);
        drop(state);
        self.work.come.notify_all();
        for thread in threads {
            // A thread that panicked is as gone as one that returned.
            let _ = thread.join();
        }
    }
}

fn toil(connection: &Connection, work: &Work) {
    let mut out = ReplyBuffer::default();
    while let Some(job) = next_job(work) {
        let was_flush = matches!(job, Job::Flush(_));
        // A device that panics costs this client its connection, and nobody else anything.
        let carried = AssertUnwindSafe(|| carry_out(connection, job, &mut out));
        let then_flush = catch_unwind(carried).unwrap_or_else(|_| {
            connection.die();
            None
        });
        // Nobody is there to be told when this fails, and the reader finds out by itself.
        let _ = connection.send(&mut out);
        let mut state = work.lock();
        state.active -= 1;
        state.flushing &= !was_flush;
        state.flushes.extend(then_flush);
        let more = !state.flushes.is_empty() && !state.flushing;
        drop(state);
        work.room.notify_one();
        if more {
            work.come.notify_one();
        }
    }
}

/// Waits for the next job; `None` when there will be none any more.
fn next_job(work: &Work) -> Option<Job> {
    let mut state = work.lock();
    loop {
        if let Some(job) = state.next() {
            return Some(job);
        }
        if state.closed && !state.is_busy() {
            // The others may be waiting for the same news.
            work.come.notify_all();
            return None;
        }
        state.idle += 1;
        state = work.come.wait(state).unwrap_or_else(PoisonError::into_inner);
        state.idle -= 1;
    }
}

/// Carries a job out; the cookie of a request that is to be answered only after a flush.
fn carry_out(connection: &Connection, job: Job, out: &mut ReplyBuffer) -> Option<Cookie> {
    let request = match job {
        Job::Flush(waiting) => {
            connection.flush(&waiting, out);
            return None;
        }
        Job::Request(request) => request,
    };
    if request.command == command::READ {
        if !connection.is_dead() {
            // As above.
            let _ = connection.read(&request, out);
        }
        return None;
    }
    match connection.zero(&request) {
        Ok(()) if request.has(command_flag::FUA) => return Some(request.cookie),
        Ok(()) => out.simple(request.cookie, None),
        Err(error) => connection.refuse(&request, error, out),
    }
    None
}
