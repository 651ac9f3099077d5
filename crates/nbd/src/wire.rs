//! The NBD protocol's numbers and layouts, all in one place.
//!
//! Specification: `doc/proto.md` of the NetworkBlockDevice project ("The NBD protocol"). All
//! integers are big-endian.
//!
//! ```text
//!   greeting       │ NBDMAGIC 8 │ IHAVEOPT 8 │ flags 2 │
//!   option         │ IHAVEOPT 8 │ option 4 │ length 4 │ data… │
//!   option reply   │ magic 8 │ option 4 │ type 4 │ length 4 │ data… │
//!   request        │ magic 4 │ flags 2 │ command 2 │ cookie 8 │ offset 8 │ length 4 │ payload… │
//!   simple reply   │ magic 4 │ error 4 │ cookie 8 │ payload… │
//!   reply chunk    │ magic 4 │ flags 2 │ type 2 │ cookie 8 │ length 4 │ payload… │
//! ```

use goldleaf_block::{BlockError, ByteLen, ByteOffset};

/// First word of the greeting, `NBDMAGIC`.
pub(crate) const GREETING_MAGIC: u64 = 0x4e42_444d_4147_4943;
/// Second word of the greeting and first of every option, `IHAVEOPT`.
pub(crate) const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
/// First word of every option reply.
pub(crate) const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
/// First word of every request.
pub(crate) const REQUEST_MAGIC: u32 = 0x2560_9513;
/// First word of every simple reply.
pub(crate) const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
/// First word of every chunk of a structured reply.
pub(crate) const CHUNK_MAGIC: u32 = 0x668e_33ef;

/// Length of a request without its payload, in bytes.
pub(crate) const REQUEST_LEN: usize = 28;
/// Length of a simple reply without its payload, in bytes.
pub(crate) const SIMPLE_REPLY_LEN: usize = 16;
/// Length of a chunk without its payload, in bytes.
pub(crate) const CHUNK_LEN: usize = 20;
/// Length of an option without its data, in bytes.
pub(crate) const OPTION_LEN: usize = 16;

/// The longest string that the protocol allows, in bytes.
pub(crate) const STRING_LEN_MAX: usize = 4096;
/// The longest read or write accepted, in bytes: the figure that the protocol document names for
/// clients that did not ask.
pub(crate) const PAYLOAD_LEN_MAX: u32 = 32 << 20;
/// The block size announced as the best, in bytes: the unit of the session log.
pub(crate) const BLOCK_LEN_PREFERRED: u32 = 4096;
/// The longest read with DF that is answered, in bytes (the protocol asks for at least 64 KiB): the
/// reply is one chunk, built in memory.
pub(crate) const UNFRAGMENTED_LEN_MAX: u32 = 256 << 10;
/// Zeroes behind the reply to `EXPORT_NAME`, for clients that did not ask them away.
pub(crate) const EXPORT_NAME_PADDING: usize = 124;

/// Flags of the greeting, of both sides.
pub(crate) mod handshake_flag {
    pub(crate) const FIXED_NEWSTYLE: u16 = 1;
    pub(crate) const NO_ZEROES: u16 = 2;
}

/// Options that a client may send.
pub(crate) mod option {
    pub(crate) const EXPORT_NAME: u32 = 1;
    pub(crate) const ABORT: u32 = 2;
    pub(crate) const LIST: u32 = 3;
    pub(crate) const INFO: u32 = 6;
    pub(crate) const GO: u32 = 7;
    pub(crate) const STRUCTURED_REPLY: u32 = 8;
    pub(crate) const LIST_META_CONTEXT: u32 = 9;
    pub(crate) const SET_META_CONTEXT: u32 = 10;
}

/// Types of option replies.
pub(crate) mod option_reply {
    pub(crate) const ACK: u32 = 1;
    pub(crate) const SERVER: u32 = 2;
    pub(crate) const INFO: u32 = 3;
    pub(crate) const META_CONTEXT: u32 = 4;
    pub(crate) const ERR_UNSUPPORTED: u32 = (1 << 31) | 1;
    pub(crate) const ERR_INVALID: u32 = (1 << 31) | 3;
    pub(crate) const ERR_UNKNOWN: u32 = (1 << 31) | 6;
    pub(crate) const ERR_TOO_BIG: u32 = (1 << 31) | 9;
}

/// Types of information in an `INFO` reply.
pub(crate) mod info {
    pub(crate) const EXPORT: u16 = 0;
    pub(crate) const NAME: u16 = 1;
    pub(crate) const BLOCK_SIZE: u16 = 3;
}

/// What an export can do, as told at the end of the handshake.
pub(crate) mod transmission_flag {
    pub(crate) const HAS_FLAGS: u16 = 1;
    pub(crate) const READ_ONLY: u16 = 1 << 1;
    pub(crate) const SEND_FLUSH: u16 = 1 << 2;
    pub(crate) const SEND_FUA: u16 = 1 << 3;
    pub(crate) const SEND_TRIM: u16 = 1 << 5;
    pub(crate) const SEND_WRITE_ZEROES: u16 = 1 << 6;
    pub(crate) const SEND_DF: u16 = 1 << 7;
    pub(crate) const CAN_MULTI_CONN: u16 = 1 << 8;
}

/// Commands.
pub(crate) mod command {
    pub(crate) const READ: u16 = 0;
    pub(crate) const WRITE: u16 = 1;
    pub(crate) const DISCONNECT: u16 = 2;
    pub(crate) const FLUSH: u16 = 3;
    pub(crate) const TRIM: u16 = 4;
    pub(crate) const WRITE_ZEROES: u16 = 6;
    pub(crate) const BLOCK_STATUS: u16 = 7;
}

/// Flags of a command.
pub(crate) mod command_flag {
    pub(crate) const FUA: u16 = 1;
    pub(crate) const NO_HOLE: u16 = 1 << 1;
    pub(crate) const DF: u16 = 1 << 2;
    pub(crate) const REQ_ONE: u16 = 1 << 3;
}

/// Types of the chunks of a structured reply.
pub(crate) mod chunk {
    pub(crate) const NONE: u16 = 0;
    pub(crate) const OFFSET_DATA: u16 = 1;
    pub(crate) const OFFSET_HOLE: u16 = 2;
    pub(crate) const BLOCK_STATUS: u16 = 5;
    pub(crate) const ERROR: u16 = (1 << 15) | 1;
    /// Flag of the last chunk of a reply.
    pub(crate) const FLAG_DONE: u16 = 1;
}

/// The metadata context `base:allocation`.
pub(crate) mod base_allocation {
    pub(crate) const NAME: &[u8] = b"base:allocation";
    /// The whole namespace, as a query of `LIST_META_CONTEXT`.
    pub(crate) const NAMESPACE: &[u8] = b"base:";
    /// The id that this server gives it; any would do.
    pub(crate) const ID: u32 = 1;
    /// Stored data.
    pub(crate) const DATA: u32 = 0;
    /// `NBD_STATE_HOLE | NBD_STATE_ZERO`: occupies nothing and reads as zeroes.
    pub(crate) const HOLE_AND_ZERO: u32 = 3;
}

/// Chosen by the client for each request, and repeated in the reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cookie(pub(crate) u64);

/// An error of a command, as the client sees it. The numbers are the protocol's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Errno {
    NotPermitted = 1,
    Io = 5,
    Invalid = 22,
    NoSpace = 28,
    Overflow = 75,
    Shutdown = 108,
}

impl Errno {
    /// What a read tells of a device's error.
    pub(crate) fn of_read(error: &BlockError) -> Self {
        match error {
            BlockError::OutOfRange { .. } => Self::Invalid,
            BlockError::Poisoned => Self::Shutdown,
            BlockError::Io { code: Some(code), .. } if *code == ENOSPC => Self::NoSpace,
            _ => Self::Io,
        }
    }

    /// What a command that changes the device tells of its error.
    pub(crate) fn of_write(error: &BlockError) -> Self {
        match error {
            BlockError::OutOfRange { .. } => Self::NoSpace,
            other => Self::of_read(other),
        }
    }
}

/// The system's number for a full disk, the one code that reaches the guest as itself.
const ENOSPC: i32 = rustix::io::Errno::NOSPC.raw_os_error();

/// A request without its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) flags: u16,
    pub(crate) command: u16,
    pub(crate) cookie: Cookie,
    pub(crate) offset: ByteOffset,
    pub(crate) length: u32,
}

impl Request {
    /// Reads a request; `None` when the bytes are too few or do not begin with the magic.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        if fields.u32()? != REQUEST_MAGIC {
            return None;
        }
        Some(Self {
            flags: fields.u16()?,
            command: fields.u16()?,
            cookie: Cookie(fields.u64()?),
            offset: ByteOffset(fields.u64()?),
            length: fields.u32()?,
        })
    }

    /// Whether all of `flags` are set.
    pub(crate) fn has(&self, flags: u16) -> bool {
        self.flags & flags == flags
    }

    /// The byte behind the last one, if there is such a number.
    pub(crate) fn end(&self) -> Option<ByteOffset> {
        self.offset.0.checked_add(u64::from(self.length)).map(ByteOffset)
    }

    /// The length as the device counts.
    pub(crate) fn len(&self) -> ByteLen {
        ByteLen(u64::from(self.length))
    }
}

/// Takes big-endian integers and strings off the front of untrusted bytes.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (first, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(first)
    }

    /// A string behind its length of four bytes.
    pub(crate) fn string(&mut self) -> Option<&'a [u8]> {
        let len = self.u32()?;
        self.bytes(usize::try_from(len).ok()?)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The header of a simple reply; `None` is success.
pub(crate) fn simple_reply(cookie: Cookie, error: Option<Errno>) -> [u8; SIMPLE_REPLY_LEN] {
    let mut bytes = [0; SIMPLE_REPLY_LEN];
    bytes[..4].copy_from_slice(&SIMPLE_REPLY_MAGIC.to_be_bytes());
    bytes[4..8].copy_from_slice(&error.map_or(0, |error| error as u32).to_be_bytes());
    bytes[8..].copy_from_slice(&cookie.0.to_be_bytes());
    bytes
}

/// The header of a chunk with `length` bytes of payload.
pub(crate) fn chunk_header(flags: u16, kind: u16, cookie: Cookie, length: u32) -> [u8; CHUNK_LEN] {
    let mut bytes = [0; CHUNK_LEN];
    bytes[..4].copy_from_slice(&CHUNK_MAGIC.to_be_bytes());
    bytes[4..6].copy_from_slice(&flags.to_be_bytes());
    bytes[6..8].copy_from_slice(&kind.to_be_bytes());
    bytes[8..16].copy_from_slice(&cookie.0.to_be_bytes());
    bytes[16..].copy_from_slice(&length.to_be_bytes());
    bytes
}

/// The header of an option reply with `length` bytes of data.
pub(crate) fn option_reply_header(option: u32, kind: u32, length: u32) -> [u8; 20] {
    let mut bytes = [0; 20];
    bytes[..8].copy_from_slice(&OPTION_REPLY_MAGIC.to_be_bytes());
    bytes[8..12].copy_from_slice(&option.to_be_bytes());
    bytes[12..16].copy_from_slice(&kind.to_be_bytes());
    bytes[16..].copy_from_slice(&length.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_field_by_field() {
        let mut bytes = vec![0x25, 0x60, 0x95, 0x13, 0, 1, 0, 6];
        bytes.extend_from_slice(&0x0102_0304_0506_0708u64.to_be_bytes());
        bytes.extend_from_slice(&0x1122_3344_5566_7788u64.to_be_bytes());
        bytes.extend_from_slice(&0xaabb_ccddu32.to_be_bytes());
        let request = Request::parse(&bytes).expect("valid");
        assert_eq!(request.command, command::WRITE_ZEROES);
        assert!(request.has(command_flag::FUA) && !request.has(command_flag::NO_HOLE));
        assert_eq!(request.cookie, Cookie(0x0102_0304_0506_0708));
        assert_eq!(request.offset, ByteOffset(0x1122_3344_5566_7788));
        assert_eq!(request.length, 0xaabb_ccdd);
        assert_eq!(Request::parse(&bytes[..REQUEST_LEN - 1]), None);
        bytes[3] = 0x14;
        assert_eq!(Request::parse(&bytes), None);
    }

    #[test]
    fn an_end_beyond_all_numbers_is_none() {
        let request = |offset, length| Request {
            flags: 0,
            command: 0,
            cookie: Cookie(0),
            offset: ByteOffset(offset),
            length,
        };
        assert_eq!(request(u64::MAX, 1).end(), None);
        assert_eq!(request(u64::MAX, 0).end(), Some(ByteOffset(u64::MAX)));
        assert_eq!(request(4096, 8).end(), Some(ByteOffset(4104)));
    }

    #[test]
    fn replies_have_the_documented_layout() {
        let simple = simple_reply(Cookie(7), Some(Errno::NoSpace));
        assert_eq!(simple, [0x67, 0x44, 0x66, 0x98, 0, 0, 0, 28, 0, 0, 0, 0, 0, 0, 0, 7]);
        let chunk = chunk_header(chunk::FLAG_DONE, chunk::ERROR, Cookie(1), 6);
        let expected = [0x66, 0x8e, 0x33, 0xef, 0, 1, 0x80, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 6];
        assert_eq!(chunk, expected);
        let reply = option_reply_header(option::GO, option_reply::ERR_UNSUPPORTED, 0);
        assert_eq!(reply[..8], [0, 3, 0xe8, 0x89, 4, 0x55, 0x65, 0xa9]);
        assert_eq!(reply[8..], [0, 0, 0, 7, 0x80, 0, 0, 1, 0, 0, 0, 0]);
    }

    #[test]
    fn a_string_longer_than_what_is_there_is_none() {
        assert_eq!(Fields(&[0, 0, 0, 2, b'a', b'b', b'c']).string(), Some(&b"ab"[..]));
        assert_eq!(Fields(&[0xff, 0xff, 0xff, 0xff, b'a']).string(), None);
        assert_eq!(Fields(&[0, 0]).string(), None);
    }

    #[test]
    fn device_errors_become_the_protocols_numbers() {
        let io = |code| BlockError::Io { what: "writing", message: String::new(), code };
        let outside =
            BlockError::OutOfRange { at: ByteOffset(1), len: ByteLen(1), size: ByteLen(1) };
        assert_eq!(Errno::of_read(&outside), Errno::Invalid);
        assert_eq!(Errno::of_write(&outside), Errno::NoSpace);
        assert_eq!(Errno::of_write(&io(Some(28))), Errno::NoSpace);
        assert_eq!(Errno::of_write(&io(Some(5))), Errno::Io);
        assert_eq!(Errno::of_read(&io(None)), Errno::Io);
        assert_eq!(Errno::of_write(&BlockError::Poisoned), Errno::Shutdown);
    }
}
