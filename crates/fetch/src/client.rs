//! HTTP/1.1 as it is spoken here, with TLS or without: one agent, its limits, and what is read of an
//! answer.
//!
//! One range is asked for at a time, never several in one request: servers answer that in as many
//! ways as there are servers. Who wants several at once asks from several threads; each gets a
//! connection of its own, which is kept for the next question.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use ureq::http::Response;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{Connector, RustlsConnector, TcpConnector};
use ureq::{Agent, Body, BodyReader, Error, Timeout};

use crate::answer::Part;
use crate::watch::{Slow, Watch};
use crate::{At, FetchError, Options, Patience, Take, roots};

/// Longest headers of an answer, in bytes: servers themselves accept 8 KiB.
const HEADERS_MAX: usize = 16 << 10;
/// Bytes read at once. A connection has a buffer of this size for either direction.
const PIECE: usize = 64 << 10;
/// Longest body that is read only so that its connection can be used again, in bytes.
const DRAIN_MAX: u64 = 16 << 10;
/// Connections that are kept while nobody uses them: as many as there are threads that fetch.
const IDLE_MAX: usize = 16;
/// How long they are kept: less than servers do, most of which wait for a minute or longer.
const IDLE_AGE: Duration = Duration::from_secs(30);

/// Asks servers.
pub(crate) struct Client {
    /// What sends requests. It follows no redirect, and no status is an error to it.
    pub(crate) agent: Agent,
    patience: Patience,
}

impl Client {
    /// As `options` say; or what is wrong with the authority in them.
    pub(crate) fn new(options: &Options) -> Result<Self, String> {
        let tls = roots::tls(options.ca.as_deref())
            .map_err(|why| format!("the certificate authority: {why}"))?;
        let patience = options.patience;
        let config = Agent::config_builder()
            .tls_config(tls)
            .proxy(None)
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent("goldleaf")
            .accept_encoding("identity")
            .max_response_header_size(HEADERS_MAX)
            .input_buffer_size(PIECE)
            .output_buffer_size(HEADERS_MAX)
            .max_idle_connections(IDLE_MAX)
            .max_idle_connections_per_host(IDLE_MAX)
            .max_idle_age(IDLE_AGE)
            .timeout_resolve(Some(patience.connect))
            .timeout_connect(Some(patience.connect))
            .timeout_send_request(Some(patience.first_byte))
            .timeout_send_body(Some(patience.whole))
            .timeout_recv_response(Some(patience.first_byte))
            .timeout_recv_body(Some(patience.whole))
            .build();
        let watch = Watch { patience, clock: Arc::clone(&options.clock) };
        let chain =
            ().chain(TcpConnector::default()).chain(watch).chain(RustlsConnector::default());
        let agent = Agent::with_parts(config, chain, DefaultResolver::default());
        Ok(Self { agent, patience })
    }

    /// Reads a body that nobody wants, so that its connection can be used again; unless a new
    /// connection is cheaper.
    pub(crate) fn drain(&self, answer: Response<Body>) {
        let len = answer.body().content_length();
        if let Some(len) = len.filter(|len| *len <= DRAIN_MAX) {
            // Whatever is wrong with it is noticed by nobody: the connection is closed then.
            let _ = io::copy(&mut answer.into_body().into_reader().take(len + 1), &mut io::sink());
        }
    }

    /// Hands out a part of a body.
    pub(crate) fn hand_out(
        &self,
        at: &At,
        body: Body,
        part: &Part,
        take: &mut Take<'_>,
    ) -> Result<(), FetchError> {
        let mut reader = body.into_reader();
        let mut buf = vec![0; PIECE.min(usize::try_from(part.skip + part.len).unwrap_or(PIECE))];
        let (mut skip, mut left) = (part.skip, part.len);
        while skip > 0 {
            skip -= self.piece(at, &mut reader, &mut buf, skip, part)? as u64;
        }
        while left > 0 {
            let found = self.piece(at, &mut reader, &mut buf, left, part)?;
            left -= found as u64;
            if take(&buf[..found]).is_break() {
                return Ok(());
            }
        }
        if part.is_all {
            // The library gives a connection back when it is asked for more and there is no more.
            let _ = reader.read(&mut buf);
        }
        Ok(())
    }

    /// The next bytes of a body, at most `left`, at least one.
    fn piece(
        &self,
        at: &At,
        reader: &mut BodyReader<'_>,
        buf: &mut [u8],
        left: u64,
        part: &Part,
    ) -> Result<usize, FetchError> {
        let most = buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let cut = || FetchError::Length {
            at: at.clone(),
            expected: part.len,
            found: part.len.saturating_sub(left),
        };
        match reader.read(&mut buf[..most]) {
            Ok(0) => Err(cut()),
            Ok(found) => Ok(found),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(cut()),
            Err(error) => Err(match error.into() {
                Error::Timeout(_) => FetchError::SlowRetrieval {
                    at: at.clone(),
                    found: part.len.saturating_sub(left),
                    within: self.patience.whole,
                },
                error => self.failed(at, error),
            }),
        }
    }

    /// What the library says, in our words.
    pub(crate) fn failed(&self, at: &At, error: Error) -> FetchError {
        let at = at.clone();
        match error {
            Error::Timeout(Timeout::Resolve | Timeout::Connect) => {
                let within = self.patience.connect.as_secs_f32();
                FetchError::Unreachable { at, why: format!("no connection within {within} s") }
            }
            Error::Timeout(_) => {
                FetchError::SlowRetrieval { at, found: 0, within: self.patience.first_byte }
            }
            Error::Other(other) => match other.downcast::<Slow>() {
                Ok(slow) => {
                    FetchError::SlowRetrieval { at, found: slow.found, within: slow.within }
                }
                Err(other) => FetchError::Protocol { at, why: other.to_string() },
            },
            Error::HostNotFound => FetchError::Unreachable { at, why: "no such host".into() },
            Error::ConnectionFailed => FetchError::Unreachable { at, why: "no connection".into() },
            Error::Rustls(error) => FetchError::Tls { at, why: error.to_string() },
            Error::Tls(why) => FetchError::Tls { at, why: why.into() },
            Error::Io(source) => of_io(at, source),
            other => FetchError::Protocol { at, why: other.to_string() },
        }
    }
}

/// An error of a connection.
fn of_io(at: At, source: io::Error) -> FetchError {
    use io::ErrorKind as Kind;
    if let Some(error) = source.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return FetchError::Tls { at, why: error.to_string() };
    }
    match source.kind() {
        Kind::ConnectionRefused
        | Kind::HostUnreachable
        | Kind::NetworkUnreachable
        | Kind::NetworkDown
        | Kind::AddrNotAvailable => FetchError::Unreachable { at, why: source.to_string() },
        _ => FetchError::Io { at, source },
    }
}
