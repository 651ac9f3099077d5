//! One client in transmission: what its reader and its crew share, and how commands that need no
//! payload are carried out.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use goldleaf_block::{BLOCK_SIZE, BlockError, ByteLen, ByteOffset, RangeKind, WriteBlocks};
use rustix::net::SendFlags;

use crate::handshake::Agreed;
use crate::reply::{Piece, ReplyBuffer};
use crate::server::Shared;
use crate::wire::{
    Cookie, Errno, PAYLOAD_LEN_MAX, Request, UNFRAGMENTED_LEN_MAX, base_allocation, command,
    command_flag,
};

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The client left, or the server stops.
    Disconnected,
    /// The client broke the protocol in a way after which its bytes mean nothing.
    Protocol,
    /// The handshake took too long.
    TimedOut,
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::TimedOut,
            _ => Self::Disconnected,
        }
    }
}

/// Longest piece that is read under one lock and sent as one chunk, in bytes. Pieces end at its
/// multiples, so that no block is torn between two of them.
const PIECE_LEN: u64 = 256 << 10;
/// Shortest read, in bytes, for which the device is asked for zeroes first. Below it the question
/// costs more than sending the zeroes. It also bounds the number of chunks in a reply.
const HOLE_LEN_MIN: u64 = 32 << 10;
/// Replies are sent when so many bytes are waiting, so that the client works on the first while
/// the last are still being read.
pub(crate) const SEND_LEN: usize = 64 << 10;
/// Most runs in one answer about block status; a client asks again for the rest.
const STATUS_RUNS_MAX: usize = 1024;
/// Zeroes for `WRITE_ZEROES` with `NO_HOLE`, written again and again.
static ZEROES: [u8; 256 << 10] = [0; 256 << 10];

/// A read that takes longer than this did not come from memory.
const READ_SLOW: Duration = Duration::from_micros(400);
/// After a slow read, so many fast ones make the connection believe in memory again.
const READS_FAST_TO_TRUST: u32 = 128;

pub(crate) struct Connection {
    pub(crate) stream: Arc<UnixStream>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) agreed: Agreed,
    /// Held while replies are sent, so that they do not mix.
    output: Mutex<()>,
    /// Set when a reply could not be sent: nobody reads the others either.
    dead: AtomicBool,
    /// How many fast reads are owed before reads are done in the reader's thread again.
    distrust: AtomicU32,
}

impl Connection {
    pub(crate) fn new(stream: Arc<UnixStream>, shared: Arc<Shared>, agreed: Agreed) -> Self {
        Self {
            stream,
            shared,
            agreed,
            output: Mutex::new(()),
            dead: AtomicBool::new(false),
            distrust: AtomicU32::new(0),
        }
    }

    /// Sends what is in `buffer` and empties it.
    pub(crate) fn send(&self, buffer: &mut ReplyBuffer) -> Result<(), Ended> {
        if buffer.is_empty() {
            return Ok(());
        }
        let _output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = self.send_bytes(buffer.bytes());
        buffer.clear();
        sent
    }

    /// The caller holds `output`.
    fn send_bytes(&self, mut bytes: &[u8]) -> Result<(), Ended> {
        while !bytes.is_empty() {
            if self.is_dead() {
                return Err(Ended::Disconnected);
            }
            match rustix::net::send(&*self.stream, bytes, SendFlags::NOSIGNAL) {
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return Err(self.die()),
            }
        }
        Ok(())
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }

    pub(crate) fn die(&self) -> Ended {
        self.dead.store(true, Ordering::Release);
        // The reader may be waiting for more; when it is gone already this fails, and may.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
        Ended::Disconnected
    }

    /// Whether reads are to be handed out rather than done one by one.
    pub(crate) fn reads_are_slow(&self) -> bool {
        self.distrust.load(Ordering::Relaxed) > 0
    }

    /// Checks a command against the protocol and the export. What passes lies on the device.
    pub(crate) fn check(&self, request: &Request) -> Result<(), Errno> {
        let (known, outside, changes) = match request.command {
            command::READ if self.agreed.structured => (command_flag::DF, Errno::Invalid, false),
            command::READ => (0, Errno::Invalid, false),
            command::WRITE => (0, Errno::NoSpace, true),
            command::TRIM => (0, Errno::Invalid, true),
            command::WRITE_ZEROES => (command_flag::NO_HOLE, Errno::NoSpace, true),
            command::BLOCK_STATUS if self.agreed.base_allocation && request.length > 0 => {
                (command_flag::REQ_ONE, Errno::Invalid, false)
            }
            command::FLUSH if request.offset == ByteOffset(0) && request.length == 0 => {
                return check_flags(request, 0);
            }
            _ => return Err(Errno::Invalid),
        };
        check_flags(request, known)?;
        if changes && self.shared.read_only {
            return Err(Errno::NotPermitted);
        }
        if request.end().is_none_or(|end| end.0 > self.shared.seat.len().0) {
            return Err(outside);
        }
        let moves = matches!(request.command, command::READ | command::WRITE);
        if moves && request.length > PAYLOAD_LEN_MAX {
            return Err(Errno::Invalid);
        }
        if request.has(command_flag::DF) && request.length > UNFRAGMENTED_LEN_MAX {
            return Err(Errno::Overflow);
        }
        Ok(())
    }

    /// Answers with an error, in the form that the command asks for.
    pub(crate) fn refuse(&self, request: &Request, error: Errno, out: &mut ReplyBuffer) {
        self.shared.counters.errors.add(1);
        let chunked = matches!(request.command, command::READ | command::BLOCK_STATUS);
        if self.agreed.structured && chunked {
            out.error_chunk(request.cookie, error);
        } else {
            out.simple(request.cookie, Some(error));
        }
    }

    /// Carries out a checked read.
    pub(crate) fn read(&self, request: &Request, out: &mut ReplyBuffer) -> Result<(), Ended> {
        if self.agreed.structured {
            self.read_structured(request, out)
        } else {
            self.read_simple(request, out)
        }
    }

    /// Reads from the device and counts how long that took. Sending is not in it: a client that
    /// takes its replies slowly says nothing about the disk.
    fn timed<T>(&self, len: u64, read: impl FnOnce(&dyn WriteBlocks) -> T) -> T {
        let clock = &*self.shared.clock;
        let before = clock.monotonic();
        let done = self.shared.seat.with(read);
        self.judge(clock.monotonic().saturating_sub(before), len);
        done
    }

    fn judge(&self, took: Duration, len: u64) {
        // A long read may take longer; a gigabyte a second is the slowest memory believed in.
        let fast = took < READ_SLOW + Duration::from_nanos(len);
        let owed = self.distrust.load(Ordering::Relaxed);
        // A lost race costs one count.
        if !fast {
            self.distrust.store(READS_FAST_TO_TRUST, Ordering::Relaxed);
        } else if owed > 0 {
            self.distrust.store(owed - 1, Ordering::Relaxed);
        }
    }

    fn count_read(&self, request: &Request) {
        self.shared.counters.reads.add(1);
        self.shared.counters.read_bytes.add(u64::from(request.length));
    }

    fn read_structured(&self, request: &Request, out: &mut ReplyBuffer) -> Result<(), Ended> {
        let mut rest = Rest::of(request);
        if rest.at == rest.end {
            out.empty_chunk(request.cookie);
        }
        while rest.at < rest.end {
            if let Err(error) = self.timed(rest.piece_len(), |device| rest.advance(device, out)) {
                self.refuse(request, Errno::of_read(&error), out);
                return Ok(());
            }
            if out.used() >= SEND_LEN {
                self.send(out)?;
            }
        }
        self.count_read(request);
        Ok(())
    }

    fn read_simple(&self, request: &Request, out: &mut ReplyBuffer) -> Result<(), Ended> {
        if u64::from(request.length) > PIECE_LEN {
            return self.read_simple_long(request, out);
        }
        let read = self.timed(request.len().0, |device| {
            let len = request.length as usize;
            out.simple_data(request.cookie, len, |data| device.read_at(request.offset, data))
        });
        match read {
            Ok(()) => self.count_read(request),
            Err(error) => self.refuse(request, Errno::of_read(&error), out),
        }
        Ok(())
    }

    /// A read whose reply is too long to be built in memory. Once its header is sent an error can
    /// only be told by hanging up, which is what the protocol asks for.
    fn read_simple_long(&self, request: &Request, out: &mut ReplyBuffer) -> Result<(), Ended> {
        let _output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rest = Rest::of(request);
        let mut headed = false;
        while rest.at < rest.end {
            let len = rest.piece_len();
            let read = self.timed(len, |device| {
                if !headed {
                    out.simple(request.cookie, None);
                }
                out.bare_data(len as usize, |data| device.read_at(rest.at, data))
            });
            if let Err(error) = read {
                if headed {
                    return Err(self.die());
                }
                out.clear();
                self.refuse(request, Errno::of_read(&error), out);
                return Ok(());
            }
            headed = true;
            rest.at = rest.at.plus(ByteLen(len));
            let sent = self.send_bytes(out.bytes());
            out.clear();
            sent?;
        }
        self.count_read(request);
        Ok(())
    }

    /// Carries out a checked question for block status.
    pub(crate) fn block_status(&self, request: &Request, out: &mut ReplyBuffer) {
        let most = if request.has(command_flag::REQ_ONE) { 1 } else { STATUS_RUNS_MAX };
        let runs = self.shared.seat.with(|device| status_runs(device, request, most));
        match runs {
            Ok(runs) => out.status_chunk(request.cookie, base_allocation::ID, &runs),
            Err(error) => self.refuse(request, Errno::of_read(&error), out),
        }
    }

    /// Carries out a checked `TRIM` or `WRITE_ZEROES`.
    pub(crate) fn zero(&self, request: &Request) -> Result<(), Errno> {
        let (at, len) = (request.offset, request.len());
        let seat = &self.shared.seat;
        let done = if request.command == command::TRIM {
            seat.with(|device| device.discard(at, len))
        } else if request.has(command_flag::NO_HOLE) {
            self.write_zeroes_as_data(request)
        } else {
            seat.with(|device| device.write_zeroes(at, len))
        };
        self.shared.counters.zeroes.add(u64::from(done.is_ok()));
        done.map_err(|error| Errno::of_write(&error))
    }

    /// Writes real zeroes, so that later writes to the range need no new space.
    fn write_zeroes_as_data(&self, request: &Request) -> Result<(), BlockError> {
        let mut rest = Rest::of(request);
        while rest.at < rest.end {
            let len = rest.piece_len();
            let zeroes = ZEROES.get(..len as usize).unwrap_or(&ZEROES);
            self.shared.seat.with(|device| device.write_at(rest.at, zeroes))?;
            rest.at = rest.at.plus(ByteLen(zeroes.len() as u64));
        }
        Ok(())
    }

    /// Makes durable all that was written, and answers everybody who waits for that.
    pub(crate) fn flush(&self, waiting: &[Cookie], out: &mut ReplyBuffer) {
        self.shared.counters.flushes.add(1);
        let flushed = self.shared.seat.with(|device| device.flush());
        let error = flushed.err().map(|error| Errno::of_write(&error));
        if error.is_some() {
            self.shared.counters.errors.add(waiting.len() as u64);
        }
        waiting.iter().for_each(|cookie| out.simple(*cookie, error));
    }
}

fn check_flags(request: &Request, known: u16) -> Result<(), Errno> {
    // FUA is valid for all commands and means nothing for those that write nothing.
    let unknown = request.flags & !(known | command_flag::FUA);
    if unknown == 0 { Ok(()) } else { Err(Errno::Invalid) }
}

/// What is still to do of a request's range, which lies on the device.
struct Rest {
    cookie: Cookie,
    at: ByteOffset,
    end: ByteOffset,
    whole: bool,
}

impl Rest {
    fn of(request: &Request) -> Self {
        let end = request.offset.plus(request.len());
        let whole = request.has(command_flag::DF);
        Self { cookie: request.cookie, at: request.offset, end, whole }
    }

    fn len(&self) -> u64 {
        self.end.0 - self.at.0
    }

    /// Length of the next piece.
    fn piece_len(&self) -> u64 {
        const { assert!(PIECE_LEN % BLOCK_SIZE == 0) };
        if self.len() <= PIECE_LEN { self.len() } else { PIECE_LEN - self.at.0 % PIECE_LEN }
    }

    fn piece(&self, len: u64) -> Piece {
        let done = len == self.len();
        Piece { cookie: self.cookie, at: self.at, len: ByteLen(len), done }
    }

    /// Adds the next chunk: a hole where the device knows one, data elsewhere.
    fn advance(
        &mut self,
        device: &dyn WriteBlocks,
        out: &mut ReplyBuffer,
    ) -> Result<(), BlockError> {
        let mut len = if self.whole { self.len() } else { self.piece_len() };
        if self.len() >= HOLE_LEN_MIN {
            let (run, kind) = device.status(self.at, ByteLen(self.len()))?;
            let run = run.0.min(self.len());
            let all = run == self.len();
            if kind == RangeKind::Zero && (all || (!self.whole && run >= HOLE_LEN_MIN)) {
                out.hole_chunk(self.piece(run));
                self.at = self.at.plus(ByteLen(run));
                return Ok(());
            }
            if !self.whole {
                len = len.min(run.max(HOLE_LEN_MIN));
            }
        }
        out.data_chunk(self.piece(len), |data| device.read_at(self.at, data))?;
        self.at = self.at.plus(ByteLen(len));
        Ok(())
    }
}

/// The kinds of a request's range, neighbours of one kind joined. The last run may end early.
fn status_runs(
    device: &dyn WriteBlocks,
    request: &Request,
    most: usize,
) -> Result<Vec<(u32, u32)>, BlockError> {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    let mut rest = Rest::of(request);
    while rest.at < rest.end {
        let (run, kind) = device.status(rest.at, ByteLen(rest.len()))?;
        // A run within a request is as short as the request, and a device that says 0 is not asked
        // for ever.
        let run = run.0.clamp(1, rest.len());
        let flags = match kind {
            RangeKind::Data => base_allocation::DATA,
            RangeKind::Zero => base_allocation::HOLE_AND_ZERO,
        };
        let full = runs.len() == most;
        match runs.last_mut() {
            Some(last) if last.1 == flags => last.0 += run as u32,
            _ if full => break,
            _ => runs.push((run as u32, flags)),
        }
        rest.at = rest.at.plus(ByteLen(run));
    }
    Ok(runs)
}
