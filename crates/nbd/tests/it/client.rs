//! A client that says exactly what a test wants said. Its numbers are typed from the protocol
//! document anew, so that a slip in the server's is found.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

pub const READ: u16 = 0;
pub const WRITE: u16 = 1;
pub const DISC: u16 = 2;
pub const FLUSH: u16 = 3;
pub const TRIM: u16 = 4;
pub const WRITE_ZEROES: u16 = 6;
pub const BLOCK_STATUS: u16 = 7;

pub const FUA: u16 = 1;
pub const NO_HOLE: u16 = 2;
pub const DF: u16 = 4;
pub const REQ_ONE: u16 = 8;

pub const OPT_GO: u32 = 7;
pub const REP_ACK: u32 = 1;

/// The server must answer, or hang up, within this.
const PATIENCE: Duration = Duration::from_secs(20);

/// What came back for one request.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reply {
    pub cookie: u64,
    pub error: u32,
    pub data: Vec<u8>,
    pub chunks: usize,
    pub holes: usize,
    pub runs: Vec<(u32, u32)>,
    pub structured: bool,
}

pub struct Client {
    pub stream: UnixStream,
    /// Lengths and offsets of reads under way, by cookie.
    reads: HashMap<u64, (u64, u32)>,
    /// Replies of which the last chunk is still to come, by cookie.
    partial: HashMap<u64, Reply>,
    pub size: u64,
    pub flags: u16,
}

fn take<const N: usize>(stream: &mut UnixStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn take_vec(stream: &mut UnixStream, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

pub fn option_bytes(option: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = b"IHAVEOPT".to_vec();
    bytes.extend(option.to_be_bytes());
    bytes.extend((data.len() as u32).to_be_bytes());
    bytes.extend(data);
    bytes
}

pub fn go_data(name: &[u8]) -> Vec<u8> {
    let mut data = (name.len() as u32).to_be_bytes().to_vec();
    data.extend(name);
    data.extend([0, 0]);
    data
}

pub fn context_data(name: &[u8], query: &[u8]) -> Vec<u8> {
    let mut data = (name.len() as u32).to_be_bytes().to_vec();
    data.extend(name);
    data.extend(1u32.to_be_bytes());
    data.extend((query.len() as u32).to_be_bytes());
    data.extend(query);
    data
}

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
    pub fn greet(path: &Path) -> io::Result<Self> {
        let mut stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        assert_eq!(&take::<16>(&mut stream)?, b"NBDMAGICIHAVEOPT");
        assert_eq!(take::<2>(&mut stream)?, [0, 3]);
        stream.write_all(&3u32.to_be_bytes())?;
        Ok(Self { stream, reads: HashMap::new(), partial: HashMap::new(), size: 0, flags: 0 })
    }

    /// Sends an option and collects its replies up to the last.
    pub fn option(&mut self, option: u32, data: &[u8]) -> io::Result<Vec<(u32, Vec<u8>)>> {
        self.stream.write_all(&option_bytes(option, data))?;
        self.option_replies(option)
    }

    pub fn option_replies(&mut self, option: u32) -> io::Result<Vec<(u32, Vec<u8>)>> {
        let mut replies = Vec::new();
        loop {
            assert_eq!(u64::from_be_bytes(take(&mut self.stream)?), 0x0003_e889_0455_65a9);
            assert_eq!(u32::from_be_bytes(take(&mut self.stream)?), option);
            let kind = u32::from_be_bytes(take(&mut self.stream)?);
            let len = u32::from_be_bytes(take(&mut self.stream)?);
            replies.push((kind, take_vec(&mut self.stream, len as usize)?));
            if kind == REP_ACK || kind >> 31 == 1 {
                return Ok(replies);
            }
        }
    }

    /// A connection in transmission, with structured replies and block status or without.
    pub fn connect(path: &Path, structured: bool) -> io::Result<Self> {
        let mut client = Self::greet(path)?;
        if structured {
            assert_eq!(client.option(8, &[])?, [(REP_ACK, vec![])]);
            let set = client.option(10, &context_data(b"disk", b"base:allocation"))?;
            assert_eq!(set[0], (4, b"\0\0\0\x01base:allocation".to_vec()));
        }
        client.go(b"disk")?;
        Ok(client)
    }

    /// The same, when earlier clients may still be leaving.
    pub fn connect_patiently(path: &Path, structured: bool) -> Self {
        for _ in 0..1000 {
            match Self::connect(path, structured) {
                Ok(client) => return client,
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
        panic!("the server admits nobody");
    }

    pub fn go(&mut self, name: &[u8]) -> io::Result<()> {
        let replies = self.option(OPT_GO, &go_data(name))?;
        assert_eq!(replies.last().unwrap().0, REP_ACK);
        let export = &replies[0].1;
        assert_eq!(export[..2], [0, 0]);
        self.size = u64::from_be_bytes(export[2..10].try_into().unwrap());
        self.flags = u16::from_be_bytes(export[10..12].try_into().unwrap());
        Ok(())
    }

    pub fn send(
        &mut self,
        (flags, command): (u16, u16),
        cookie: u64,
        offset: u64,
        length: u32,
        payload: &[u8],
    ) -> io::Result<()> {
        if command == READ {
            self.reads.insert(cookie, (offset, length));
        }
        let mut bytes = request_bytes(flags, command, cookie, offset, length);
        bytes.extend(payload);
        self.stream.write_all(&bytes)
    }

    /// Receives until a reply is whole.
    pub fn reply(&mut self) -> io::Result<Reply> {
        loop {
            let magic = u32::from_be_bytes(take(&mut self.stream)?);
            if magic == 0x6744_6698 {
                let mut reply = Reply {
                    error: u32::from_be_bytes(take(&mut self.stream)?),
                    cookie: u64::from_be_bytes(take(&mut self.stream)?),
                    ..Reply::default()
                };
                if let Some((_, len)) = self.reads.remove(&reply.cookie)
                    && reply.error == 0
                {
                    reply.data = take_vec(&mut self.stream, len as usize)?;
                }
                return Ok(reply);
            }
            assert_eq!(magic, 0x668e_33ef);
            let (cookie, done) = self.chunk()?;
            if done {
                self.reads.remove(&cookie);
                return Ok(self.partial.remove(&cookie).expect("just added to"));
            }
        }
    }

    /// Receives a chunk behind its magic; its cookie, and whether it was the last.
    fn chunk(&mut self) -> io::Result<(u64, bool)> {
        let flags = u16::from_be_bytes(take(&mut self.stream)?);
        let kind = u16::from_be_bytes(take(&mut self.stream)?);
        let cookie = u64::from_be_bytes(take(&mut self.stream)?);
        let len = u32::from_be_bytes(take(&mut self.stream)?);
        let payload = take_vec(&mut self.stream, len as usize)?;
        let reply = self.partial.entry(cookie).or_default();
        (reply.cookie, reply.structured) = (cookie, true);
        reply.chunks += 1;
        let number = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        match kind {
            0 => assert_eq!(len, 0),
            1 | 2 => {
                let (offset, length) = self.reads[&cookie];
                let at = u64::from_be_bytes(payload[..8].try_into().unwrap());
                assert_eq!(at, offset + reply.data.len() as u64, "chunks come in order here");
                if kind == 1 {
                    reply.data.extend(&payload[8..]);
                } else {
                    reply.holes += 1;
                    reply.data.resize(reply.data.len() + number(8) as usize, 0);
                }
                assert!(reply.data.len() <= length as usize);
            }
            5 => {
                assert_eq!(number(0), 1, "the context's id");
                let runs = (4..payload.len()).step_by(8);
                reply.runs = runs.map(|at| (number(at), number(at + 4))).collect();
            }
            0x8001 => {
                assert!(payload.len() >= 6);
                reply.error = number(0);
                assert_ne!(reply.error, 0);
            }
            other => panic!("chunk of type {other}"),
        }
        Ok((cookie, flags & 1 == 1))
    }

    pub fn call(
        &mut self,
        what: (u16, u16),
        offset: u64,
        length: u32,
        payload: &[u8],
    ) -> io::Result<Reply> {
        let cookie = offset ^ (u64::from(length) << 20) ^ 0x5a;
        self.send(what, cookie, offset, length, payload)?;
        let reply = self.reply()?;
        assert_eq!(reply.cookie, cookie);
        Ok(reply)
    }

    pub fn read(&mut self, offset: u64, length: u32) -> Vec<u8> {
        let reply = self.call((0, READ), offset, length, &[]).unwrap();
        assert_eq!((reply.error, reply.data.len()), (0, length as usize));
        reply.data
    }

    pub fn write(&mut self, offset: u64, data: &[u8]) {
        let reply = self.call((0, WRITE), offset, data.len() as u32, data).unwrap();
        assert_eq!(reply.error, 0);
    }

    /// Whether the server has hung up, having said nothing more.
    pub fn is_hung_up(&mut self) -> bool {
        match self.stream.read(&mut [0]) {
            Ok(count) => count == 0,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}

impl Client {
    /// Remembers a read that was sent by other means.
    pub fn expect_read(&mut self, cookie: u64, offset: u64, length: u32) {
        self.reads.insert(cookie, (offset, length));
    }
}
