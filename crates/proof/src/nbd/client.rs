//! A client that says exactly what it is told to, nonsense included. Its numbers are typed from the
//! protocol document (`doc/proto.md` of the NetworkBlockDevice project), not taken from the server,
//! so that a slip there is found here.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

pub const READ: u16 = 0;
pub const WRITE: u16 = 1;
pub const DISC: u16 = 2;
pub const FLUSH: u16 = 3;
pub const TRIM: u16 = 4;
pub const WRITE_ZEROES: u16 = 6;
pub const BLOCK_STATUS: u16 = 7;

pub const FUA: u16 = 1;
pub const NO_HOLE: u16 = 1 << 1;
pub const DF: u16 = 1 << 2;
pub const REQ_ONE: u16 = 1 << 3;

pub const OPT_EXPORT_NAME: u32 = 1;
pub const OPT_ABORT: u32 = 2;
pub const OPT_LIST: u32 = 3;
pub const OPT_STARTTLS: u32 = 5;
pub const OPT_INFO: u32 = 6;
pub const OPT_GO: u32 = 7;
pub const OPT_STRUCTURED_REPLY: u32 = 8;
pub const OPT_LIST_META_CONTEXT: u32 = 9;
pub const OPT_SET_META_CONTEXT: u32 = 10;

pub const REP_ACK: u32 = 1;
pub const REP_META_CONTEXT: u32 = 4;
pub const REP_ERR_UNSUP: u32 = (1 << 31) | 1;
pub const REP_ERR_INVALID: u32 = (1 << 31) | 3;
pub const REP_ERR_TOO_BIG: u32 = (1 << 31) | 9;

/// The server must answer, or hang up, within this.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What came back for one request.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// Of the request.
    pub cookie: u64,
    /// 0 is success.
    pub error: u32,
    /// Of a read, holes filled in.
    pub data: Vec<u8>,
    /// Of block status: lengths and flags.
    pub runs: Vec<(u32, u32)>,
}

/// A connection.
pub struct Client {
    /// For saying nonsense.
    pub stream: UnixStream,
    /// The export's length, as told.
    pub size: u64,
    structured: bool,
    /// Offsets and lengths of reads under way, by cookie.
    reads: HashMap<u64, (u64, u32)>,
    /// Replies whose last chunk is still to come, by cookie.
    partial: HashMap<u64, Reply>,
}

fn odd<T>(what: impl Into<String>) -> io::Result<T> {
    Err(io::Error::other(what.into()))
}

fn take<const N: usize>(stream: &mut UnixStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn take_u16(stream: &mut UnixStream) -> io::Result<u16> {
    take(stream).map(u16::from_be_bytes)
}

fn take_u32(stream: &mut UnixStream) -> io::Result<u32> {
    take(stream).map(u32::from_be_bytes)
}

fn take_u64(stream: &mut UnixStream) -> io::Result<u64> {
    take(stream).map(u64::from_be_bytes)
}

fn take_vec(stream: &mut UnixStream, len: u32) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len as usize];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// An option as it goes over the wire.
pub fn option_bytes(option: u32, data: &[u8]) -> Vec<u8> {
    let len = (data.len() as u32).to_be_bytes();
    [b"IHAVEOPT", &option.to_be_bytes()[..], &len, data].concat()
}

/// Data of `INFO` and `GO`.
pub fn go_data(name: &[u8]) -> Vec<u8> {
    [&(name.len() as u32).to_be_bytes(), name, &[0, 0]].concat()
}

/// Data of the options about metadata contexts, with one query.
pub fn context_data(name: &[u8], query: &[u8]) -> Vec<u8> {
    let len = |bytes: &[u8]| (bytes.len() as u32).to_be_bytes();
    [&len(name), name, &1u32.to_be_bytes(), &len(query), query].concat()
}

/// A request as it goes over the wire, without payload.
pub fn request_bytes(flags: u16, command: u16, cookie: u64, offset: u64, length: u32) -> Vec<u8> {
    let mut bytes = 0x2560_9513u32.to_be_bytes().to_vec();
    bytes.extend(flags.to_be_bytes());
    bytes.extend(command.to_be_bytes());
    bytes.extend(cookie.to_be_bytes());
    bytes.extend(offset.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes
}

impl Client {
    /// Connects and answers the greeting.
    pub fn greet(socket: &Path) -> io::Result<Self> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        if &take::<16>(&mut stream)? != b"NBDMAGICIHAVEOPT" || take_u16(&mut stream)? & 1 == 0 {
            return odd("the greeting is not that of a fixed newstyle server");
        }
        stream.write_all(&3u32.to_be_bytes())?;
        let (reads, partial) = Default::default();
        Ok(Self { stream, size: 0, structured: false, reads, partial })
    }

    /// Sends an option and collects its replies up to the last.
    pub fn option(&mut self, option: u32, data: &[u8]) -> io::Result<Vec<(u32, Vec<u8>)>> {
        self.stream.write_all(&option_bytes(option, data))?;
        self.option_replies(option)
    }

    /// Collects the replies to an option up to the last.
    pub fn option_replies(&mut self, option: u32) -> io::Result<Vec<(u32, Vec<u8>)>> {
        let mut replies = Vec::new();
        loop {
            let magic = take_u64(&mut self.stream)?;
            let to = take_u32(&mut self.stream)?;
            if magic != 0x0003_e889_0455_65a9 || to != option {
                return odd(format!("an option reply with magic {magic:#x} to option {to}"));
            }
            let kind = take_u32(&mut self.stream)?;
            let len = take_u32(&mut self.stream)?;
            replies.push((kind, take_vec(&mut self.stream, len)?));
            if kind == REP_ACK || kind >> 31 == 1 {
                return Ok(replies);
            }
        }
    }

    /// The type of the last reply to an option.
    pub fn answer(&mut self, option: u32, data: &[u8]) -> io::Result<u32> {
        Ok(self.option(option, data)?.last().map_or(0, |last| last.0))
    }

    /// A connection in transmission: with structured replies and block status, or without.
    pub fn connect(socket: &Path, structured: bool) -> io::Result<Self> {
        let mut client = Self::greet(socket)?;
        if structured {
            let context = context_data(b"disk", b"base:allocation");
            if client.answer(OPT_STRUCTURED_REPLY, &[])? != REP_ACK
                || client.option(OPT_SET_META_CONTEXT, &context)?[0].0 != REP_META_CONTEXT
            {
                return odd("no structured replies or no block status");
            }
            client.structured = true;
        }
        client.go()?;
        Ok(client)
    }

    /// The same, while earlier clients may still be leaving.
    pub fn connect_patiently(socket: &Path, structured: bool) -> io::Result<Self> {
        let begin = Instant::now();
        loop {
            match Self::connect(socket, structured) {
                Err(error) if begin.elapsed() > PATIENCE => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(2)),
                connected => return connected,
            }
        }
    }

    /// Begins transmission.
    pub fn go(&mut self) -> io::Result<()> {
        let replies = self.option(OPT_GO, &go_data(b"disk"))?;
        let export = &replies[0].1;
        if replies.last().is_none_or(|last| last.0 != REP_ACK) || export.len() != 12 {
            return odd(format!("GO was answered with {replies:?}"));
        }
        self.size = export[2..10].iter().fold(0, |size, byte| size << 8 | u64::from(*byte));
        Ok(())
    }

    /// Sends a request.
    pub fn send(
        &mut self,
        (flags, command): (u16, u16),
        cookie: u64,
        (offset, length): (u64, u32),
        payload: &[u8],
    ) -> io::Result<()> {
        if command == READ {
            self.expect_read(cookie, offset, length);
        }
        self.stream.write_all(&request_bytes(flags, command, cookie, offset, length))?;
        self.stream.write_all(payload)
    }

    /// Remembers a read that is sent by other means.
    pub fn expect_read(&mut self, cookie: u64, offset: u64, length: u32) {
        self.reads.insert(cookie, (offset, length));
    }

    /// Sends a request and receives its reply.
    pub fn call(
        &mut self,
        what: (u16, u16),
        place: (u64, u32),
        payload: &[u8],
    ) -> io::Result<Reply> {
        let cookie = place.0 ^ u64::from(place.1).rotate_left(40) ^ 0x5a;
        self.send(what, cookie, place, payload)?;
        let reply = self.reply()?;
        if reply.cookie == cookie { Ok(reply) } else { odd("a reply to nothing that was asked") }
    }

    /// Receives until a reply is whole.
    pub fn reply(&mut self) -> io::Result<Reply> {
        loop {
            match take_u32(&mut self.stream)? {
                0x6744_6698 => return self.simple_reply(),
                0x668e_33ef => {
                    let (cookie, done) = self.chunk()?;
                    if done {
                        return self.whole(cookie);
                    }
                }
                magic => return odd(format!("a reply with magic {magic:#x}")),
            }
        }
    }

    fn simple_reply(&mut self) -> io::Result<Reply> {
        let error = take_u32(&mut self.stream)?;
        let cookie = take_u64(&mut self.stream)?;
        let mut reply = Reply { error, cookie, ..Reply::default() };
        if let Some((_, len)) = self.reads.remove(&cookie) {
            if self.structured {
                return odd("a simple reply to a read although structured ones were agreed");
            }
            if error == 0 {
                reply.data = take_vec(&mut self.stream, len)?;
            }
        }
        Ok(reply)
    }

    fn whole(&mut self, cookie: u64) -> io::Result<Reply> {
        let reply = self.partial.remove(&cookie).unwrap_or_default();
        match self.reads.remove(&cookie) {
            Some((_, len)) if reply.error == 0 && reply.data.len() != len as usize => {
                odd(format!("{} of {len} bytes were read", reply.data.len()))
            }
            _ => Ok(reply),
        }
    }

    /// Receives a chunk behind its magic; its cookie, and whether it was the last.
    fn chunk(&mut self) -> io::Result<(u64, bool)> {
        let flags = take_u16(&mut self.stream)?;
        let kind = take_u16(&mut self.stream)?;
        let cookie = take_u64(&mut self.stream)?;
        let len = take_u32(&mut self.stream)?;
        if !self.structured || len > (1 << 25) + 8 {
            return odd(format!("a chunk of {len} bytes, structured: {}", self.structured));
        }
        let payload = take_vec(&mut self.stream, len)?;
        let place = self.reads.get(&cookie).copied();
        let reply = self.partial.entry(cookie).or_default();
        reply.cookie = cookie;
        if add_chunk(reply, kind, &payload, place).is_none() {
            return odd(format!("a chunk of type {kind} with {len} bytes for {place:?}"));
        }
        Ok((cookie, flags & 1 == 1))
    }

    /// Whether the server hangs up, whatever it says before.
    pub fn is_hung_up(&mut self) -> bool {
        let mut scrap = [0; 4096];
        loop {
            match self.stream.read(&mut scrap) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() == io::ErrorKind::ConnectionReset,
            }
        }
    }
}

/// Adds a chunk to a reply; `None` when it is not a right one. Chunks of a read come in order from
/// this server, which the protocol does not ask for.
fn add_chunk(
    reply: &mut Reply,
    kind: u16,
    payload: &[u8],
    place: Option<(u64, u32)>,
) -> Option<()> {
    let number = |at: usize| payload.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
    match kind {
        0 => payload.is_empty().then_some(()),
        1 | 2 => {
            let at = u64::from(number(0)?) << 32 | u64::from(number(4)?);
            let (offset, length) = place?;
            if at != offset + reply.data.len() as u64 {
                return None;
            }
            match kind {
                1 => reply.data.extend(&payload[8..]),
                _ => reply.data.resize(reply.data.len() + number(8)? as usize, 0),
            }
            (reply.data.len() <= length as usize).then_some(())
        }
        5 => {
            let runs = (4..payload.len()).step_by(8);
            reply.runs =
                runs.map(|at| Some((number(at)?, number(at + 4)?))).collect::<Option<_>>()?;
            (number(0)? == 1).then_some(())
        }
        0x8001 => {
            reply.error = number(0)?;
            (reply.error != 0 && payload.len() >= 6).then_some(())
        }
        _ => None,
    }
}
