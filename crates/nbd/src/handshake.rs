//! The fixed newstyle handshake: from the greeting to an agreed export.
//!
//! Assumes nothing about the client. Every option is read whole (bounded) before it is looked at,
//! options are counted, and the whole handshake has one deadline, so that a client that holds a
//! connection open, or dribbles, is dropped. There is no TLS and therefore nothing that could be
//! injected before it: `STARTTLS` is an unknown option like any other.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use goldleaf_block::ByteLen;
use goldleaf_host::Clock;

use crate::connection::Ended;
use crate::wire::{
    BLOCK_LEN_PREFERRED, EXPORT_NAME_PADDING, Fields, GREETING_MAGIC, OPTION_LEN, OPTION_MAGIC,
    PAYLOAD_LEN_MAX, STRING_LEN_MAX, base_allocation, handshake_flag, info, option, option_reply,
    option_reply_header, transmission_flag,
};

/// Options that one client may send. A client that needs more than a dozen is not one.
const OPTIONS_MAX: usize = 128;
/// The longest option data looked at, in bytes: two strings of the longest kind fit.
const OPTION_DATA_LEN_MAX: usize = 3 * STRING_LEN_MAX;
/// The longest option data read away and answered; a longer one ends the connection.
const OPTION_DATA_LEN_SKIPPED_MAX: usize = 64 << 10;

/// What the server offers.
pub(crate) struct Offer<'a> {
    pub(crate) name: &'a str,
    pub(crate) len: ByteLen,
    pub(crate) read_only: bool,
}

/// What client and server agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Agreed {
    pub(crate) structured: bool,
    pub(crate) base_allocation: bool,
}

/// Leads the handshake. On success the client expects transmission to begin.
pub(crate) fn negotiate(
    stream: &UnixStream,
    offer: &Offer<'_>,
    clock: &dyn Clock,
    limit: Duration,
) -> Result<Agreed, Ended> {
    let line = Line { stream, clock, until: clock.monotonic() + limit };
    let mut handshake = Handshake {
        line,
        offer,
        no_zeroes: false,
        structured: false,
        context_of: None,
        replies: Vec::new(),
    };
    handshake.greet()?;
    for _ in 0..OPTIONS_MAX {
        if let Some(agreed) = handshake.option()? {
            stream.set_read_timeout(None)?;
            stream.set_write_timeout(None)?;
            return Ok(agreed);
        }
    }
    Err(Ended::Protocol)
}

/// A socket with a deadline for all that is read and written.
struct Line<'a> {
    stream: &'a UnixStream,
    clock: &'a dyn Clock,
    until: Duration,
}

impl Line<'_> {
    fn left(&self) -> Result<Duration, Ended> {
        let left = self.until.saturating_sub(self.clock.monotonic());
        // A time-out of zero would mean none.
        if left.is_zero() { Err(Ended::TimedOut) } else { Ok(left.max(Duration::from_millis(1))) }
    }

    fn read(&mut self, mut buf: &mut [u8]) -> Result<(), Ended> {
        while !buf.is_empty() {
            self.stream.set_read_timeout(Some(self.left()?))?;
            match self.stream.read(buf) {
                Ok(0) => return Err(Ended::Disconnected),
                Ok(count) => buf = buf.get_mut(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn skip(&mut self, mut len: usize) -> Result<(), Ended> {
        let mut scrap = [0; 4096];
        while len > 0 {
            let step = len.min(scrap.len());
            self.read(&mut scrap[..step])?;
            len -= step;
        }
        Ok(())
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<(), Ended> {
        while !bytes.is_empty() {
            self.stream.set_write_timeout(Some(self.left()?))?;
            match self.stream.write(bytes) {
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

struct Handshake<'a> {
    line: Line<'a>,
    offer: &'a Offer<'a>,
    no_zeroes: bool,
    structured: bool,
    /// The export name for which `base:allocation` was set.
    context_of: Option<Vec<u8>>,
    /// Replies to the option at hand, sent in one go.
    replies: Vec<u8>,
}

impl Handshake<'_> {
    fn greet(&mut self) -> Result<(), Ended> {
        let flags = handshake_flag::FIXED_NEWSTYLE | handshake_flag::NO_ZEROES;
        let mut greeting = Vec::with_capacity(18);
        greeting.extend_from_slice(&GREETING_MAGIC.to_be_bytes());
        greeting.extend_from_slice(&OPTION_MAGIC.to_be_bytes());
        greeting.extend_from_slice(&flags.to_be_bytes());
        self.line.write(&greeting)?;
        let mut answer = [0; 4];
        self.line.read(&mut answer)?;
        let answer = u32::from_be_bytes(answer);
        if answer & !u32::from(flags) != 0 {
            return Err(Ended::Protocol);
        }
        self.no_zeroes = answer & u32::from(handshake_flag::NO_ZEROES) != 0;
        Ok(())
    }

    /// Reads and answers one option; what was agreed when transmission begins.
    fn option(&mut self) -> Result<Option<Agreed>, Ended> {
        let mut header = [0; OPTION_LEN];
        self.line.read(&mut header)?;
        let mut fields = Fields(&header);
        if fields.u64() != Some(OPTION_MAGIC) {
            return Err(Ended::Protocol);
        }
        let (Some(option), Some(len)) = (fields.u32(), fields.u32()) else {
            return Err(Ended::Protocol);
        };
        let len = usize::try_from(len).map_err(|_| Ended::Protocol)?;
        if len > OPTION_DATA_LEN_MAX {
            return self.refuse_long(option, len);
        }
        let mut data = vec![0; len];
        self.line.read(&mut data)?;
        let agreed = self.answer(option, &data)?;
        let replies = std::mem::take(&mut self.replies);
        self.line.write(&replies)?;
        Ok(agreed)
    }

    fn refuse_long(&mut self, option: u32, len: usize) -> Result<Option<Agreed>, Ended> {
        if len > OPTION_DATA_LEN_SKIPPED_MAX || option == option::EXPORT_NAME {
            return Err(Ended::Protocol);
        }
        self.line.skip(len)?;
        self.line.write(&option_reply_header(option, option_reply::ERR_TOO_BIG, 0))?;
        Ok(None)
    }

    fn answer(&mut self, option: u32, data: &[u8]) -> Result<Option<Agreed>, Ended> {
        match option {
            option::EXPORT_NAME => return self.export_name(data).map(Some),
            option::ABORT => {
                // The client may be gone already, and need not wait for this.
                let _ = self.line.write(&option_reply_header(option, option_reply::ACK, 0));
                return Err(Ended::Disconnected);
            }
            option::INFO | option::GO => return Ok(self.info(option, data)),
            option::LIST => self.list(data),
            option::STRUCTURED_REPLY => {
                self.structured |= data.is_empty();
                self.ack_or_invalid(option, data.is_empty());
            }
            option::LIST_META_CONTEXT | option::SET_META_CONTEXT => self.contexts(option, data),
            _ => self.reply(option, option_reply::ERR_UNSUPPORTED, &[]),
        }
        Ok(None)
    }

    fn reply(&mut self, option: u32, kind: u32, parts: &[&[u8]]) {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        // Bounded by the lengths of an option's data and of the export's name.
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        self.replies.extend_from_slice(&option_reply_header(option, kind, len));
        parts.iter().for_each(|part| self.replies.extend_from_slice(part));
    }

    fn ack_or_invalid(&mut self, option: u32, valid: bool) {
        let kind = if valid { option_reply::ACK } else { option_reply::ERR_INVALID };
        self.reply(option, kind, &[]);
    }

    /// The empty name means the default export, which is the only one.
    fn is_ours(&self, name: &[u8]) -> bool {
        name.is_empty() || name == self.offer.name.as_bytes()
    }

    fn flags(&self) -> u16 {
        let mut flags = transmission_flag::HAS_FLAGS
            | transmission_flag::SEND_FLUSH
            | transmission_flag::CAN_MULTI_CONN;
        flags |= if self.offer.read_only {
            transmission_flag::READ_ONLY
        } else {
            transmission_flag::SEND_FUA
                | transmission_flag::SEND_TRIM
                | transmission_flag::SEND_WRITE_ZEROES
        };
        if self.structured {
            flags |= transmission_flag::SEND_DF;
        }
        flags
    }

    fn export_name(&mut self, name: &[u8]) -> Result<Agreed, Ended> {
        // This option knows no error reply.
        if !self.is_ours(name) {
            return Err(Ended::Protocol);
        }
        self.replies.extend_from_slice(&self.offer.len.0.to_be_bytes());
        self.replies.extend_from_slice(&self.flags().to_be_bytes());
        if !self.no_zeroes {
            self.replies.extend_from_slice(&[0; EXPORT_NAME_PADDING]);
        }
        Ok(self.agreed(name))
    }

    fn agreed(&self, name: &[u8]) -> Agreed {
        // A context set for one export name does not hold for another.
        let set = self.context_of.as_deref() == Some(name);
        Agreed { structured: self.structured, base_allocation: self.structured && set }
    }

    fn info(&mut self, option: u32, data: &[u8]) -> Option<Agreed> {
        let Some((name, asked)) = parse_info(data) else {
            self.reply(option, option_reply::ERR_INVALID, &[]);
            return None;
        };
        if name.len() > STRING_LEN_MAX {
            self.reply(option, option_reply::ERR_TOO_BIG, &[]);
            return None;
        }
        if !self.is_ours(name) {
            self.reply(option, option_reply::ERR_UNKNOWN, &[]);
            return None;
        }
        self.infos(option, &asked);
        self.reply(option, option_reply::ACK, &[]);
        (option == option::GO).then(|| self.agreed(name))
    }

    fn infos(&mut self, option: u32, asked: &[u16]) {
        let len = self.offer.len.0.to_be_bytes();
        let flags = self.flags().to_be_bytes();
        let info = option_reply::INFO;
        self.reply(option, info, &[&info::EXPORT.to_be_bytes(), &len, &flags]);
        if asked.contains(&info::NAME) {
            let name = self.offer.name.as_bytes();
            self.reply(option, info, &[&info::NAME.to_be_bytes(), name]);
        }
        // Told without being asked: there is nothing in it that a client could trip over.
        let sizes = [1, BLOCK_LEN_PREFERRED, PAYLOAD_LEN_MAX].map(u32::to_be_bytes);
        let kind = info::BLOCK_SIZE.to_be_bytes();
        self.reply(option, info, &[&kind, &sizes[0], &sizes[1], &sizes[2]]);
    }

    fn list(&mut self, data: &[u8]) {
        if data.is_empty() {
            let name = self.offer.name.as_bytes();
            // Names are checked when the server starts to be shorter than any limit.
            let len = u32::try_from(name.len()).unwrap_or(0).to_be_bytes();
            self.reply(option::LIST, option_reply::SERVER, &[&len, name]);
        }
        self.ack_or_invalid(option::LIST, data.is_empty());
    }

    fn contexts(&mut self, option: u32, data: &[u8]) {
        let set = option == option::SET_META_CONTEXT;
        if set {
            self.context_of = None;
        }
        let query = parse_contexts(data).filter(|_| self.structured);
        let Some((name, queries)) = query else {
            return self.reply(option, option_reply::ERR_INVALID, &[]);
        };
        if name.len() > STRING_LEN_MAX {
            return self.reply(option, option_reply::ERR_TOO_BIG, &[]);
        }
        if !self.is_ours(name) {
            return self.reply(option, option_reply::ERR_UNKNOWN, &[]);
        }
        let named = queries.contains(&base_allocation::NAME);
        let listed = queries.is_empty() || queries.contains(&base_allocation::NAMESPACE);
        if named || (!set && listed) {
            let id = base_allocation::ID.to_be_bytes();
            self.reply(option, option_reply::META_CONTEXT, &[&id, base_allocation::NAME]);
            if set {
                self.context_of = Some(name.to_vec());
            }
        }
        self.reply(option, option_reply::ACK, &[]);
    }
}

/// Data of `INFO` and `GO`: a name, a count of two bytes, that many types of information.
fn parse_info(data: &[u8]) -> Option<(&[u8], Vec<u16>)> {
    let mut fields = Fields(data);
    let name = fields.string()?;
    let count = fields.u16()?;
    let asked = (0..count).map(|_| fields.u16()).collect::<Option<Vec<u16>>>()?;
    fields.is_empty().then_some((name, asked))
}

/// Data of the options about contexts: a name, a count of four bytes, that many strings.
fn parse_contexts(data: &[u8]) -> Option<(&[u8], Vec<&[u8]>)> {
    let mut fields = Fields(data);
    let name = fields.string()?;
    let count = fields.u32()?;
    // Each query takes four bytes at least, so that the data bounds the loop.
    let queries = (0..count).map(|_| fields.string()).collect::<Option<Vec<_>>>()?;
    fields.is_empty().then_some((name, queries))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_that_lie_are_refused() {
        assert_eq!(parse_info(&[0, 0, 0, 1, b'a', 0, 1, 0, 3]), Some((&b"a"[..], vec![3])));
        assert_eq!(parse_info(&[0, 0, 0, 1, b'a', 0, 2, 0, 3]), None);
        assert_eq!(parse_info(&[0, 0, 0, 1, b'a', 0, 0, 0, 3]), None);
        assert_eq!(parse_info(&[0xff, 0xff, 0xff, 0xff, b'a', 0, 0]), None);
        assert_eq!(parse_contexts(&[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(parse_contexts(&[0, 0, 0, 0, 0, 0, 0, 0]), Some((&b""[..], vec![])));
        let one = [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, b'x'];
        assert_eq!(parse_contexts(&one), Some((&b""[..], vec![&b"x"[..]])));
    }
}
