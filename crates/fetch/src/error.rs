//! Why there are no bytes.

use std::fmt;
use std::io;
use std::ops::Range;
use std::time::Duration;

/// Which file of which source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At {
    /// The source, as a person knows it.
    pub name: String,
    /// The file.
    pub path: String,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name.trim_end_matches('/'), self.path)
    }
}

/// Why there are no bytes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// No place that a feed could be in.
    #[error("{location}: {why}")]
    Location {
        /// As it was given, without secrets.
        location: String,
        /// What is wrong with it.
        why: String,
    },
    /// A name that this program does not make.
    #[error("{at}: not a name in a feed")]
    BadName {
        /// Where.
        at: At,
    },
    /// There is no such file.
    #[error("{at} is missing")]
    Missing {
        /// Where.
        at: At,
    },
    /// Nobody there, or no way to them.
    #[error("{at}: {why}")]
    Unreachable {
        /// Where.
        at: At,
        /// What was tried.
        why: String,
    },
    /// Nobody who can show who they are.
    #[error("{at}: {why}")]
    Tls {
        /// Where.
        at: At,
        /// What is wrong with them.
        why: String,
    },
    /// Sent on to where nobody should go, or for ever.
    #[error("{at}: redirected {why}")]
    Redirect {
        /// Where.
        at: At,
        /// Whither.
        why: String,
    },
    /// The server says no.
    #[error("{at}: the server answers {status}")]
    Status {
        /// Where.
        at: At,
        /// HTTP's code.
        status: u16,
    },
    /// A server that keeps objects says no, and why.
    #[error("{at}: the storage answers {status}, {code}")]
    Storage {
        /// Where.
        at: At,
        /// HTTP's code.
        status: u16,
        /// The storage's word for it.
        code: String,
    },
    /// A page for people: somebody between here and the server wants them to log in.
    #[error("{at}: a web page came instead; does this network want a login?")]
    Portal {
        /// Where.
        at: At,
    },
    /// A server that sends files from their beginning only.
    #[error("{at}: the server does not send parts of files")]
    NoRanges {
        /// Where.
        at: At,
    },
    /// Another part of the file than was asked for.
    #[error("{at}: {found:?} came where bytes {}-{} were asked for", expected.start, expected.end)]
    WrongRange {
        /// Where.
        at: At,
        /// In bytes.
        expected: Range<u64>,
        /// As the server says it.
        found: String,
    },
    /// Another length than there must be.
    #[error("{at}: {found} bytes where there must be {expected}")]
    Length {
        /// Where.
        at: At,
        /// In bytes.
        expected: u64,
        /// In bytes.
        found: u64,
    },
    /// Too slow to be told from somebody who holds back what is new.
    #[error("{at}: only {found} bytes within {} s", within.as_secs_f32())]
    SlowRetrieval {
        /// Where.
        at: At,
        /// Bytes.
        found: u64,
        /// In which time.
        within: Duration,
    },
    /// An answer that is none by the protocol, or longer than any has to be.
    #[error("{at}: no proper answer: {why}")]
    Protocol {
        /// Where.
        at: At,
        /// What is wrong with it.
        why: String,
    },
    /// Reading failed.
    #[error("{at}: {source}")]
    Io {
        /// Where.
        at: At,
        /// Why.
        source: io::Error,
    },
    /// Each source failed in its own way.
    #[error("{}", list(errors))]
    All {
        /// One for each source, in the order in which they were asked.
        errors: Vec<FetchError>,
    },
}

fn list(errors: &[FetchError]) -> String {
    if errors.is_empty() {
        return "there is no source".into();
    }
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl FetchError {
    /// Whether the same source may well give a better answer to the same question within seconds.
    /// What is slow is not among them: another source comes first.
    pub fn is_passing(&self) -> bool {
        match self {
            FetchError::Unreachable { .. } | FetchError::Length { .. } => true,
            // RFC 9110, section 15; RFC 6585, section 4: all that name a state of the server.
            FetchError::Status { status, .. } => matches!(status, 408 | 429 | 500 | 502..=504),
            // Somebody else writes the same object at this moment.
            FetchError::Storage { status, .. } => {
                matches!(status, 408 | 409 | 429 | 500 | 502..=504)
            }
            FetchError::Io { source, .. } => is_broken(source),
            FetchError::All { errors } => errors.iter().any(FetchError::is_passing),
            FetchError::Location { .. }
            | FetchError::BadName { .. }
            | FetchError::Missing { .. }
            | FetchError::Tls { .. }
            | FetchError::Redirect { .. }
            | FetchError::Portal { .. }
            | FetchError::NoRanges { .. }
            | FetchError::WrongRange { .. }
            | FetchError::SlowRetrieval { .. }
            | FetchError::Protocol { .. } => false,
        }
    }
}

/// Whether a connection broke, as opposed to a medium or a permission.
fn is_broken(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionReset
            | Kind::ConnectionAborted
            | Kind::NotConnected
            | Kind::BrokenPipe
            | Kind::UnexpectedEof
            | Kind::Interrupted
            | Kind::TimedOut
    )
}
