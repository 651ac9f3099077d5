//! The disk server, through its socket: the handshake, and what follows it.
//!
//! ```text
//!   handshake:     everything that a client sends
//!   transmission:  raw bytes or requests, 1 │ requests: command 1 │ flags 1 │ place 4 │ length 3
//! ```
//! One server lives as long as the program; each input is a client of its own.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, LazyLock};

use goldleaf_nbd::{Export, Options, Server};

use crate::disk::Memory;
use crate::input::Input;

/// Length of the disk: a megabyte and a bit.
const LEN: usize = (1 << 20) + 512;
/// Most bytes that a client reads: it hangs up on a server that sends more.
const REPLIES: u64 = 8 << 20;
/// Most bytes that a client sends: they fit into the socket's buffer, so that sending never waits.
const REQUESTS: usize = 64 << 10;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const SIMPLE_MAGIC: u32 = 0x6744_6698;
const CHUNK_MAGIC: u32 = 0x668e_33ef;

struct Serving {
    socket: std::path::PathBuf,
    _scratch: tempfile::TempDir,
    _server: Server,
}

static SERVING: LazyLock<Serving> = LazyLock::new(|| {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let socket = scratch.path().join("disk");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let device = Arc::new(Memory::new((0..LEN).map(|at| (at / 8192 % 2) as u8).collect()));
    let export = Export { name: "disk".into(), device, read_only: false };
    let server = Server::start(listener, export, Options::default()).expect("a server");
    Serving { socket, _scratch: scratch, _server: server }
});

/// What the server says to a client that sends this and no more.
fn converse(bytes: &[u8]) -> Vec<u8> {
    let mut client = UnixStream::connect(&SERVING.socket).expect("connected");
    // A server that hangs up early is no failure.
    let sent = client.write_all(bytes);
    let _ = sent.and_then(|()| client.shutdown(Shutdown::Write));
    let mut replies = Vec::new();
    let _ = client.take(REPLIES).read_to_end(&mut replies);
    replies
}

/// Clients that never come to an agreement, mostly.
pub fn handshake(data: &[u8]) {
    let replies = converse(data);
    // A client that found no seat is hung up on at once.
    if !replies.is_empty() {
        assert!(replies.starts_with(b"NBDMAGICIHAVEOPT"), "a server greets");
    }
}

/// Clients that agreed, with structured replies or without.
pub fn transmission(data: &[u8]) {
    let mut input = Input(data);
    let choice = input.byte();
    let mut bytes = agreement(choice & 2 != 0);
    let mut cookies = BTreeMap::new();
    if choice & 1 == 0 {
        requests(&mut input, &mut bytes, &mut cookies);
    } else {
        bytes.extend_from_slice(input.0);
    }
    let replies = converse(&bytes);
    if choice & 1 == 0 && (replies.len() as u64) < REPLIES {
        check_replies(&replies, &cookies);
    }
}

/// Flags, STRUCTURED_REPLY perhaps, GO for the only export.
fn agreement(structured: bool) -> Vec<u8> {
    let mut bytes = 3u32.to_be_bytes().to_vec();
    let mut option = |number: u32, data: &[u8]| {
        bytes.extend_from_slice(b"IHAVEOPT");
        bytes.extend_from_slice(&number.to_be_bytes());
        bytes.extend_from_slice(&(data.len() as u32).to_be_bytes());
        bytes.extend_from_slice(data);
    };
    if structured {
        option(8, &[]);
        let context = b"\0\0\0\x04disk\0\0\0\x01\0\0\0\x0fbase:allocation";
        option(10, context);
    }
    option(7, b"\0\0\0\x04disk\0\0");
    bytes
}

/// Requests, each with its number as its cookie; of each, how many bytes a simple reply has.
fn requests(input: &mut Input<'_>, bytes: &mut Vec<u8>, cookies: &mut BTreeMap<u64, u64>) {
    while !input.is_empty() && bytes.len() < REQUESTS {
        let (command, flags) = (input.byte(), input.byte());
        let (at, len) = (input.u32(), input.u32() & 0xFF_FFFF);
        let cookie = cookies.len() as u64;
        bytes.extend_from_slice(&REQUEST_MAGIC.to_be_bytes());
        bytes.extend_from_slice(&u16::from(flags).to_be_bytes());
        bytes.extend_from_slice(&u16::from(command % 9).to_be_bytes());
        bytes.extend_from_slice(&cookie.to_be_bytes());
        // Beyond the end now and then, and beyond all ends.
        let at = u64::from(at) % (LEN as u64 + 8192);
        let at = if flags & 64 == 0 { at } else { u64::MAX - at };
        bytes.extend_from_slice(&at.to_be_bytes());
        let is_write = command % 9 == 1;
        let len = if is_write { len % 9000 } else { len };
        bytes.extend_from_slice(&len.to_be_bytes());
        if is_write {
            bytes.resize(bytes.len() + len as usize, command);
        }
        cookies.insert(cookie, u64::from(if command % 9 == 0 { len } else { 0 }));
    }
}

/// Replies are whole and answer what was asked, each request once.
fn check_replies(replies: &[u8], cookies: &BTreeMap<u64, u64>) {
    let mut input = BigEndian(replies);
    skip_handshake(&mut input);
    let mut open = cookies.clone();
    while !input.0.is_empty() {
        let magic = input.number(4) as u32;
        assert!([SIMPLE_MAGIC, CHUNK_MAGIC].contains(&magic), "a reply begins here: {magic:#x}");
        if magic == SIMPLE_MAGIC {
            let (error, cookie) = (input.number(4), input.number(8));
            let len = open.remove(&cookie).expect("asked once, answered once");
            input.skip(if error == 0 { len } else { 0 });
            continue;
        }
        let (flags, _, cookie, len) =
            (input.number(2), input.number(2), input.number(8), input.number(4));
        assert!(open.contains_key(&cookie), "asked once, answered once");
        input.skip(len);
        if flags & 1 == 1 {
            open.remove(&cookie);
        }
    }
}

/// The greeting, and the replies to options up to the last.
fn skip_handshake(input: &mut BigEndian<'_>) {
    input.skip(18);
    while input.0.starts_with(&0x0003_e889_0455_65a9u64.to_be_bytes()) {
        input.skip(16);
        let len = input.number(4);
        input.skip(len);
    }
}

struct BigEndian<'a>(&'a [u8]);

impl BigEndian<'_> {
    fn number(&mut self, len: usize) -> u64 {
        let (head, rest) = self.0.split_at_checked(len).expect("a whole reply");
        self.0 = rest;
        head.iter().fold(0, |value, &byte| value << 8 | u64::from(byte))
    }

    fn skip(&mut self, len: u64) {
        self.0 = self.0.get(len as usize..).expect("a whole reply");
    }
}
