//! The server: listens, admits clients, and stops in good order.
//!
//! ```text
//!   listener thread ── per client: a reader thread ── when needed: a crew of a few threads
//! ```
//!
//! Threads block; none polls. The listener is woken for the stop by an event descriptor, readers by
//! shutting their sockets down.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use goldleaf_block::WriteBlocks;
use goldleaf_host::{Clock, RealClock};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::net::sockopt;

use crate::NbdError;
use crate::connection::{Connection, Ended};
use crate::handshake::{self, Offer};
use crate::seat::Seat;
use crate::stats::{Counters, Stats};
use crate::transmission;
use crate::wire::STRING_LEN_MAX;

/// What is served.
pub struct Export {
    /// The name that clients ask for; the empty name is understood as well. At most 4,096 bytes.
    pub name: String,
    /// The disk.
    pub device: Arc<dyn WriteBlocks>,
    /// Whether commands that change the disk are refused.
    pub read_only: bool,
}

/// How a server behaves. [`Options::default`] is right for a virtual machine's disk.
#[derive(Clone)]
pub struct Options {
    /// Clients at one time; further ones are hung up on.
    pub connections_max: usize,
    /// Threads that a connection may have beside its reader, for flushes and a cold disk.
    pub crew_max: usize,
    /// How long a client may take to come to an agreement.
    pub handshake_limit: Duration,
    /// How long a stopping server waits for a client that does not take its replies.
    pub drain_limit: Duration,
    /// The user whose processes may connect; `None` is this process's own.
    pub peer_uid: Option<u32>,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connections_max: 16,
            crew_max: 16,
            handshake_limit: Duration::from_secs(10),
            drain_limit: Duration::from_secs(5),
            peer_uid: None,
            clock: Arc::new(RealClock::new()),
        }
    }
}

/// What all connections of a server share.
pub(crate) struct Shared {
    pub(crate) seat: Seat,
    pub(crate) read_only: bool,
    pub(crate) counters: Counters,
    pub(crate) clock: Arc<dyn Clock>,
    name: String,
    options: Options,
    peer_uid: u32,
    clients: Mutex<Clients>,
    /// A client has left.
    left: Condvar,
}

#[derive(Default)]
struct Clients {
    streams: HashMap<u64, Arc<UnixStream>>,
    threads: Vec<JoinHandle<()>>,
    next: u64,
    stopping: bool,
}

impl Shared {
    fn clients(&self) -> MutexGuard<'_, Clients> {
        // Each change under this lock is whole before anything can panic.
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running server. Dropping it stops it.
pub struct Server {
    shared: Arc<Shared>,
    wake: Arc<OwnedFd>,
    listener: Option<JoinHandle<()>>,
}

/// Socket buffers, in bytes. The system gives as much of it as it allows.
const SOCKET_BUFFER_LEN: usize = 4 << 20;
/// Pause after a client could not be accepted, for want of descriptors most likely.
const ACCEPT_PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

impl Server {
    /// Begins to serve on a socket that is bound already. Making the path private (mode 0600 in a
    /// directory of mode 0700), and removing it later, is the caller's.
    pub fn start(
        listener: UnixListener,
        export: Export,
        options: Options,
    ) -> Result<Server, NbdError> {
        if export.name.len() > STRING_LEN_MAX {
            let found = export.name.len();
            return Err(NbdError::NameTooLong { found, limit: STRING_LEN_MAX });
        }
        let wake = eventfd(0, EventfdFlags::CLOEXEC)
            .map_err(|error| NbdError::io("making an event descriptor", error))?;
        let wake = Arc::new(wake);
        listener
            .set_nonblocking(true)
            .map_err(|error| NbdError::io("preparing the listening socket", error))?;
        let own_uid = rustix::process::geteuid().as_raw();
        let shared = Arc::new(Shared {
            seat: Seat::new(export.device),
            read_only: export.read_only,
            counters: Counters::default(),
            clock: options.clock.clone(),
            name: export.name,
            peer_uid: options.peer_uid.unwrap_or(own_uid),
            options,
            clients: Mutex::default(),
            left: Condvar::new(),
        });
        let (theirs, woken) = (shared.clone(), wake.clone());
        let thread = std::thread::Builder::new()
            .name("nbd-listen".into())
            .spawn(move || listen(&theirs, &listener, &woken))
            .map_err(|error| NbdError::io("starting the listener's thread", error))?;
        Ok(Server { shared, wake, listener: Some(thread) })
    }

    /// Puts another device of the same length in the place of the present one, on all connections.
    /// Waits for calls of the present device in progress and flushes it; every request handled
    /// after the return meets the new one. When this fails the present device stays.
    pub fn swap(&self, device: Arc<dyn WriteBlocks>) -> Result<(), NbdError> {
        self.shared.seat.swap(device)
    }

    /// Ends: no client is admitted any more, what was received is answered, connections are closed.
    /// The device is not flushed beyond what clients asked for. Returns when all threads are gone.
    pub fn stop(self) {
        drop(self);
    }

    /// What the server has done so far.
    pub fn stats(&self) -> Stats {
        self.shared.counters.stats()
    }

    /// Clients connected now, those in the handshake included.
    pub fn connected(&self) -> usize {
        self.shared.clients().streams.len()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(listener) = self.listener.take() else { return };
        // Fails only on a full counter, which wakes as well.
        let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
        let _ = listener.join();
        drain(&self.shared);
    }
}

/// Lets readers finish what they have, then hangs up on clients that do not take their replies.
fn drain(shared: &Shared) {
    let mut clients = shared.clients();
    clients.stopping = true;
    hang_up(&clients, std::net::Shutdown::Read);
    let waited = shared.left.wait_timeout_while(clients, shared.options.drain_limit, |clients| {
        !clients.streams.is_empty()
    });
    let (mut clients, _) = waited.unwrap_or_else(PoisonError::into_inner);
    hang_up(&clients, std::net::Shutdown::Both);
    let threads = std::mem::take(&mut clients.threads);
    drop(clients);
    for thread in threads {
        // A thread that panicked is as gone as one that returned.
        let _ = thread.join();
    }
}

fn hang_up(clients: &Clients, how: std::net::Shutdown) {
    for stream in clients.streams.values() {
        // Fails when the client was quicker.
        let _ = stream.shutdown(how);
    }
}

/// Admits clients until woken for the stop.
fn listen(shared: &Arc<Shared>, listener: &UnixListener, wake: &OwnedFd) {
    loop {
        let ready = wait(&[listener_fd(listener), PollFd::new(wake, PollFlags::IN)], None);
        if ready.is_none_or(|ready| ready[1]) {
            return;
        }
        match listener.accept() {
            Ok((stream, _)) => admit(shared, stream),
            Err(error) if is_passing(&error) => {}
            Err(_) => {
                // Without a pause this would spin: the client is still waiting.
                let stop = wait(&[PollFd::new(wake, PollFlags::IN)], Some(&ACCEPT_PAUSE));
                if stop.is_none_or(|ready| ready[0]) {
                    return;
                }
            }
        }
    }
}

fn listener_fd(listener: &UnixListener) -> PollFd<'_> {
    PollFd::new(listener, PollFlags::IN)
}

/// Which descriptors are ready; `None` when waiting is impossible.
fn wait<const N: usize>(fds: &[PollFd<'_>; N], limit: Option<&Timespec>) -> Option<[bool; N]> {
    let mut fds = fds.clone();
    loop {
        match poll(&mut fds, limit) {
            Ok(_) => return Some(fds.map(|fd| !fd.revents().is_empty())),
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return None,
        }
    }
}

/// Errors of accept that say something about one client, who is gone.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, Interrupted, WouldBlock};
    matches!(error.kind(), ConnectionAborted | Interrupted | WouldBlock)
}

/// Starts a connection's thread, or hangs up.
fn admit(shared: &Arc<Shared>, stream: UnixStream) {
    let mut clients = shared.clients();
    let (gone, running) =
        std::mem::take(&mut clients.threads).into_iter().partition(JoinHandle::is_finished);
    clients.threads = running;
    let full = clients.streams.len() >= shared.options.connections_max;
    if full || clients.stopping || !is_welcome(shared, &stream) {
        shared.counters.refused.add(1);
        return;
    }
    let id = clients.next;
    clients.next += 1;
    let stream = Arc::new(stream);
    let guest = Guest { shared: shared.clone(), id };
    let theirs = stream.clone();
    clients.streams.insert(id, stream);
    // The new thread's guest waits for this lock when it leaves at once.
    let spawned =
        std::thread::Builder::new().name("nbd-client".into()).spawn(move || attend(&guest, theirs));
    match spawned {
        Ok(thread) => {
            shared.counters.connections.add(1);
            clients.threads.push(thread);
        }
        Err(_) => {
            clients.streams.remove(&id);
        }
    }
    drop(clients);
    for thread in gone {
        let _: Result<(), _> = JoinHandle::join(thread);
    }
}

fn is_welcome(shared: &Shared, stream: &UnixStream) -> bool {
    let known = sockopt::socket_peercred(stream);
    known.is_ok_and(|peer| peer.uid.as_raw() == shared.peer_uid)
        && stream.set_nonblocking(false).is_ok()
}

/// A client's place in the list, given up when its thread ends in whatever way.
struct Guest {
    shared: Arc<Shared>,
    id: u64,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.shared.clients().streams.remove(&self.id);
        self.shared.left.notify_all();
    }
}

fn attend(guest: &Guest, stream: Arc<UnixStream>) {
    let shared = &guest.shared;
    // A smaller buffer is slower, and no reason to refuse.
    let _ = sockopt::set_socket_send_buffer_size(&*stream, SOCKET_BUFFER_LEN);
    let _ = sockopt::set_socket_recv_buffer_size(&*stream, SOCKET_BUFFER_LEN);
    let offer = Offer { name: &shared.name, len: shared.seat.len(), read_only: shared.read_only };
    let limit = shared.options.handshake_limit;
    let ended = match handshake::negotiate(&stream, &offer, &*shared.clock, limit) {
        Ok(agreed) => {
            let connection = Arc::new(Connection::new(stream, shared.clone(), agreed));
            transmission::serve(&connection, shared.options.crew_max)
        }
        Err(ended) => ended,
    };
    shared.counters.violations.add(u64::from(ended != Ended::Disconnected));
}
