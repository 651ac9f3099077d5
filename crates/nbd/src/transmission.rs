//! The transmission phase: one thread per connection takes requests off the socket and answers
//! them.
//!
//! Everything that one receive brought is handled before the next, and the replies leave together:
//! a lone request costs one receive, one call of the device and one send, and a deep queue costs
//! less than that each. What may wait for a disk goes to the crew when others are waiting behind
//! it, and flushes always do, so that reads go on meanwhile. Before a reader sleeps it looks for a
//! moment whether the next request comes at once (`patience`).
//!
//! Ordering: a write is applied before its reply is sent, so a flush, which begins after the client
//! sent it, covers every write that the client knew to be done, on whichever connection.

use std::sync::Arc;

use goldleaf_block::{BLOCK_SIZE, ByteLen, ByteOffset};
use rustix::net::RecvFlags;

use crate::connection::{Connection, Ended, SEND_LEN};
use crate::crew::Crew;
use crate::patience::Patience;
use crate::reply::ReplyBuffer;
use crate::wire::{Errno, PAYLOAD_LEN_MAX, REQUEST_LEN, Request, command, command_flag};

/// Room for what one receive brings, in bytes: 32 writes of 4 KiB and more.
const INBOX_LEN: usize = 256 << 10;
/// The longest part of a write that is received before it is applied, in bytes. A longer write is
/// applied in several parts, which end at multiples of this.
const WRITE_PART_LEN: usize = 1 << 20;
/// Payload of a refused write that is read away, in bytes. A client that announces more is dropped.
const PAYLOAD_LEN_SKIPPED_MAX: u32 = 2 * PAYLOAD_LEN_MAX;
/// The longest read done in the reader's thread while others wait, in bytes.
const READ_LEN_INLINE_MAX: u32 = 256 << 10;

/// Of reads this long, in bytes, the crew does some while the reader does others: copying them
/// costs more than waking a thread does.
const READ_LEN_SHARED: u32 = 32 << 10;
/// Shared reads given to the crew at one time: one to be done and one to follow without a wake-up.
const BACKLOG_SHARED: usize = 2;

/// Serves one client until it leaves. All that was begun is answered when this returns.
pub(crate) fn serve(connection: &Arc<Connection>, threads_max: usize) -> Ended {
    let mut reader = Reader {
        connection,
        crew: Crew::new(connection.clone(), threads_max),
        inbox: Inbox { bytes: vec![0; INBOX_LEN], start: 0, end: 0 },
        patience: Patience::default(),
        out: ReplyBuffer::default(),
    };
    loop {
        if let Err(ended) = reader.step() {
            // What was done is told as far as anybody listens.
            let _ = connection.send(&mut reader.out);
            return ended;
        }
    }
}

/// Received bytes that are not handled yet: `bytes[start..end]`.
struct Inbox {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Inbox {
    fn held(&self) -> usize {
        self.end - self.start
    }

    fn peek(&self, len: usize) -> &[u8] {
        self.bytes.get(self.start..self.start + len).unwrap_or_default()
    }

    fn consume(&mut self, len: usize) {
        self.start += len;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Makes room for `len` bytes from `start` on.
    fn make_room(&mut self, len: usize) {
        if self.bytes.len() - self.start < len {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.held());
        }
        if self.bytes.len() < len {
            self.bytes.resize(len.next_power_of_two(), 0);
        }
    }
}

struct Reader<'a> {
    connection: &'a Arc<Connection>,
    crew: Crew,
    inbox: Inbox,
    patience: Patience,
    out: ReplyBuffer,
}

impl Reader<'_> {
    /// Handles one request.
    fn step(&mut self) -> Result<(), Ended> {
        self.fill(REQUEST_LEN)?;
        let request = Request::parse(self.inbox.peek(REQUEST_LEN)).ok_or(Ended::Protocol)?;
        self.inbox.consume(REQUEST_LEN);
        self.handle(&request)?;
        if self.out.used() >= SEND_LEN {
            self.connection.send(&mut self.out)?;
        }
        Ok(())
    }

    /// Receives until `len` bytes are held. Replies are sent before there is anything to wait for.
    fn fill(&mut self, len: usize) -> Result<(), Ended> {
        if self.inbox.held() >= len {
            return Ok(());
        }
        self.connection.send(&mut self.out)?;
        self.inbox.make_room(len);
        while self.inbox.held() < len {
            if !self.look()? {
                self.wait()?;
            }
        }
        Ok(())
    }

    /// Receives what comes within a moment, if the client is known for that.
    fn look(&mut self) -> Result<bool, Ended> {
        for _ in 0..self.patience.looks() {
            if self.receive(RecvFlags::DONTWAIT)? {
                self.patience.found();
                return Ok(true);
            }
            // Whoever is to send it may need this processor.
            std::thread::yield_now();
        }
        Ok(false)
    }

    fn wait(&mut self) -> Result<(), Ended> {
        let clock = &*self.connection.shared.clock;
        let before = clock.monotonic();
        self.receive(RecvFlags::empty())?;
        self.patience.slept(clock.monotonic().saturating_sub(before));
        Ok(())
    }

    /// One receive; whether it brought anything.
    fn receive(&mut self, flags: RecvFlags) -> Result<bool, Ended> {
        let room = self.inbox.bytes.get_mut(self.inbox.end..).unwrap_or_default();
        match rustix::net::recv(&*self.connection.stream, room, flags) {
            Ok((0, _)) => Err(Ended::Disconnected),
            Ok((count, _)) => {
                self.inbox.end += count;
                Ok(true)
            }
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => Ok(false),
            Err(_) => Err(Ended::Disconnected),
        }
    }

    fn handle(&mut self, request: &Request) -> Result<(), Ended> {
        match request.command {
            command::DISCONNECT => return Err(Ended::Disconnected),
            command::WRITE => return self.write(request),
            _ => {}
        }
        if let Err(error) = self.connection.check(request) {
            self.connection.refuse(request, error, &mut self.out);
            return Ok(());
        }
        match request.command {
            command::READ => self.read(request),
            command::FLUSH => self.flush(request),
            command::BLOCK_STATUS => {
                self.connection.block_status(request, &mut self.out);
                Ok(())
            }
            _ => self.hand_out(request),
        }
    }

    fn read(&mut self, request: &Request) -> Result<(), Ended> {
        if self.is_for_crew(request) {
            return self.hand_out(request);
        }
        if u64::from(request.length) > SEND_LEN as u64 {
            // The reply may be sent in parts, and must not take others along half-way.
            self.connection.send(&mut self.out)?;
        }
        self.connection.read(request, &mut self.out)
    }

    /// A lone read is done here, where it costs no wake-up.
    fn is_for_crew(&self, request: &Request) -> bool {
        let more = self.inbox.held() >= REQUEST_LEN;
        if request.length > READ_LEN_INLINE_MAX || self.connection.reads_are_slow() {
            return more || self.crew.is_busy();
        }
        more && request.length >= READ_LEN_SHARED && self.crew.backlog() < BACKLOG_SHARED
    }

    fn hand_out(&mut self, request: &Request) -> Result<(), Ended> {
        self.send_if_crew_is_full()?;
        self.crew.request(*request)
    }

    fn flush(&mut self, request: &Request) -> Result<(), Ended> {
        self.send_if_crew_is_full()?;
        self.crew.flush(request.cookie)
    }

    /// Replies must not wait for the crew.
    fn send_if_crew_is_full(&mut self) -> Result<(), Ended> {
        if self.crew.is_full() { self.connection.send(&mut self.out) } else { Ok(()) }
    }

    fn write(&mut self, request: &Request) -> Result<(), Ended> {
        if request.length > PAYLOAD_LEN_SKIPPED_MAX {
            return Err(Ended::Protocol);
        }
        let mut done = self.connection.check(request);
        let mut at = request.offset;
        let mut left = request.length as usize;
        while left > 0 {
            let len = left.min(part_len(at));
            self.fill(len)?;
            if done.is_ok() {
                done = self.apply(at, len);
            }
            self.inbox.consume(len);
            // A refused write may lie anywhere.
            at = ByteOffset(at.0.wrapping_add(len as u64));
            left -= len;
        }
        self.answer_write(request, done)
    }

    /// Writes the first `len` bytes held.
    fn apply(&self, at: ByteOffset, len: usize) -> Result<(), Errno> {
        let data = self.inbox.peek(len);
        let seat = &self.connection.shared.seat;
        seat.with(|device| device.write_at(at, data)).map_err(|error| Errno::of_write(&error))
    }

    fn answer_write(&mut self, request: &Request, done: Result<(), Errno>) -> Result<(), Ended> {
        if let Err(error) = done {
            self.connection.refuse(request, error, &mut self.out);
            return Ok(());
        }
        let counters = &self.connection.shared.counters;
        counters.writes.add(1);
        counters.written_bytes.add(request.len().0);
        if request.has(command_flag::FUA) {
            return self.flush(request);
        }
        self.out.simple(request.cookie, None);
        Ok(())
    }
}

/// How much of a write at `at` is applied at once.
fn part_len(at: ByteOffset) -> usize {
    const { assert!(WRITE_PART_LEN as u64 % BLOCK_SIZE == 0) };
    WRITE_PART_LEN - (at.0 % ByteLen(WRITE_PART_LEN as u64).0) as usize
}
