//! Where published bytes come from: a directory, a web server or a bucket, believed for nothing; and
//! where they are put.
//!
//! ```text
//!   open ─▶ Directory                    a stick, a share
//!        ├▶ Retrying ─▶ Web              http(s), single ranges, several connections
//!        └▶ Retrying ─▶ Bucket           s3://BUCKET/PREFIX, with signed requests
//!
//!   Limited ─▶ Several ─┬▶ …             who asks sees one source
//!                       └▶ …
//! ```
//! Everything is a [`Source`], and each behaviour is one that stands before another. A source is
//! asked for names that this program made, and for lengths that somebody who is trusted has signed.
//! Whether the bytes are the right ones is for the caller to find out, who then says so
//! ([`Source::distrust`]). What is promised here is that an answer ends: no source can make the
//! caller hold more bytes than were asked for, or wait for ever ([`Patience`]).
//!
//! Nothing here reads the environment: no proxy is taken from it.
#![forbid(unsafe_code)]

mod answer;
mod bucket;
mod client;
mod directory;
mod error;
mod limit;
mod name;
mod open;
mod retry;
mod roots;
mod several;
mod url;
mod watch;
mod web;

use std::ops::{ControlFlow, Range};

pub use bucket::{Account, Bucket};
pub use directory::Directory;
pub use error::{At, FetchError};
pub use limit::{Limited, Rate};
pub use open::{Destination, Options, is_bucket, open};
pub use retry::{Retrying, Tries};
pub use several::Several;
pub use watch::Patience;
pub use web::Web;

/// Takes the next bytes of a range; [`ControlFlow::Break`] when no more are wanted.
pub type Take<'a> = dyn FnMut(&[u8]) -> ControlFlow<()> + 'a;

/// A place that carries a feed: files under short relative names. Names are made by this program,
/// never taken from metadata: components of ASCII letters, digits, `-`, `_` and `.`, with `/`
/// between them; anything else is [`FetchError::BadName`].
pub trait Source: Send + Sync {
    /// What a person knows it as: a URL or a path, without secrets.
    fn name(&self) -> &str;

    /// A small file: at most one byte more than `limit` of it, so that the caller sees that it is
    /// longer; `None` when there is no such file.
    fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, FetchError>;

    /// Hands out exactly the bytes of `range`, in order, in pieces as they arrive; fewer only when
    /// `take` wants no more. An empty range is never asked for. No such file is
    /// [`FetchError::Missing`], one that ends before the range does [`FetchError::Length`]. After
    /// an error, what `take` was given stands: it came first in the range.
    fn stream(&self, path: &str, range: Range<u64>, take: &mut Take<'_>) -> Result<(), FetchError>;

    /// The caller found that what came under this name is wrong: another digest, or too old.
    /// Returns whether somebody else is there to be asked, who was not found out yet.
    fn distrust(&self, path: &str) -> bool;
}

impl dyn Source + '_ {
    /// Fills `buf` with what stands from byte `at` on. Errors are those of [`Source::stream`].
    pub fn read_range(&self, path: &str, at: u64, buf: &mut [u8]) -> Result<(), FetchError> {
        let end = at.saturating_add(buf.len() as u64);
        let mut filled = 0;
        self.stream(path, at..end, &mut |piece| {
            buf[filled..filled + piece.len()].copy_from_slice(piece);
            filled += piece.len();
            ControlFlow::Continue(())
        })
    }
}
