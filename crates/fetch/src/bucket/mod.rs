//! A feed in a bucket of a server that keeps objects and speaks S3's language: Amazon's, Ceph, MinIO,
//! Garage and many more.
//!
//! ```text
//!   s3://BUCKET/PREFIX   PREFIX/packs/…  PREFIX/feeds/NAME/CHANNEL/metadata/timestamp.json
//! ```
//! Requests are signed in their URL (`rusty-s3`), and sent by the same client as to any web server.
//! Who the server is and what it knows us by is an [`Account`]: it comes from whoever runs the
//! program and is in no record, no name and no error. Redirects are not followed, because a signature
//! is for one server.

mod account;
mod list;
mod shelf;

use std::io::Read;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use goldleaf_host::{Clock, Content};
use jiff::Timestamp;
use rusty_s3::{Credentials, S3Action};
use ureq::http::{Response, StatusCode, header};
use ureq::{Body, RequestBuilder, SendBody};

use crate::client::Client;
use crate::{At, FetchError, Options, Source, Take, answer, name};

pub use account::Account;
pub(crate) use shelf::BucketShelf;

/// How a location in a bucket begins.
pub(crate) const SCHEME: &str = "s3://";
/// For how long a signed request can be begun: clocks differ, and it may wait for a connection.
const SIGNED_FOR: Duration = Duration::from_secs(900);
/// Longest refusal that is read, in bytes: a few hundred are usual.
const REFUSAL_MAX: u64 = 4 << 10;
/// What is below its own digest or number stays for ever; everything else is asked for anew.
const KEPT: &str = "public, max-age=31536000, immutable";
const ASKED: &str = "no-cache";

/// A bucket, and the part of it that a feed is in.
pub struct Bucket {
    client: Client,
    bucket: rusty_s3::Bucket,
    credentials: Option<Credentials>,
    /// Before each name: empty, or ending in `/`.
    prefix: String,
    name: String,
    clock: Arc<dyn Clock>,
    /// Whether the server was found not to know `If-None-Match` where it writes.
    is_simple: AtomicBool,
}

/// What became of an object that was to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    Done,
    /// There is one of that name, and none was to be replaced.
    IsThere,
}

impl Bucket {
    /// The part of a bucket at `s3://BUCKET/PREFIX`, by the account in `options`.
    /// [`FetchError::Location`] when it is none, or the account's server has no proper address.
    pub fn new(location: &str, options: &Options) -> Result<Self, FetchError> {
        let shown = crate::url::without_secrets(location);
        let refused = |why: String| FetchError::Location { location: shown.clone(), why };
        let (bucket, prefix) = split(location).map_err(|why| refused(why.into()))?;
        let account = &options.account;
        Ok(Self {
            client: Client::new(options).map_err(refused)?,
            bucket: account.bucket(bucket).map_err(refused)?,
            credentials: account.credentials(),
            name: format!("{SCHEME}{bucket}/{prefix}").trim_end_matches('/').into(),
            prefix: if prefix.is_empty() { String::new() } else { format!("{prefix}/") },
            clock: Arc::clone(&options.clock),
            is_simple: AtomicBool::new(false),
        })
    }

    fn at(&self, path: &str) -> Result<At, FetchError> {
        name::at(&self.name, path)
    }

    fn key(&self, at: &At) -> String {
        format!("{}{}", self.prefix, at.path)
    }

    /// The URL of a request, as of now.
    fn signed<'a>(&self, at: &At, action: &impl S3Action<'a>) -> Result<String, FetchError> {
        let now = i64::try_from(self.clock.now_unix().as_secs()).ok();
        let now = now.and_then(|secs| Timestamp::from_second(secs).ok());
        let why = || FetchError::Protocol { at: at.clone(), why: "a clock out of range".into() };
        Ok(action.sign_with_time(SIGNED_FOR, &now.ok_or_else(why)?).into())
    }

    /// An answer that is what was asked for, or that there is no such object.
    fn granted(&self, at: &At, answer: Response<Body>) -> Result<Granted, FetchError> {
        let status = answer.status();
        // Which part a file has not is for `answer` to say.
        if status.is_success() || status == StatusCode::RANGE_NOT_SATISFIABLE {
            return Ok(Some(answer));
        }
        let code = code(answer);
        match (status, code.as_deref()) {
            (StatusCode::NOT_FOUND, None | Some("NoSuchKey")) => Ok(None),
            (status, code) => {
                let code = code.unwrap_or("and no reason").into();
                Err(FetchError::Storage { at: at.clone(), status: status.as_u16(), code })
            }
        }
    }

    fn get(&self, at: &At, range: Option<&Range<u64>>) -> Result<Granted, FetchError> {
        let key = self.key(at);
        let url = self.signed(at, &self.bucket.get_object(self.credentials.as_ref(), &key))?;
        let mut request = self.client.agent.get(url);
        if let Some(range) = range {
            let range = format!("bytes={}-{}", range.start, range.end - 1);
            request = request.header(header::RANGE, range);
        }
        let answer = request.call().map_err(|error| self.client.failed(at, error))?;
        self.granted(at, answer)
    }

    /// Length of an object in bytes; `None` when there is none.
    fn len(&self, at: &At) -> Result<Option<u64>, FetchError> {
        let key = self.key(at);
        let url = self.signed(at, &self.bucket.head_object(self.credentials.as_ref(), &key))?;
        let answer = self.client.agent.head(url).call();
        let answer = self.granted(at, answer.map_err(|error| self.client.failed(at, error))?)?;
        let Some(answer) = answer else { return Ok(None) };
        let len = answer.headers().get(header::CONTENT_LENGTH).and_then(|len| len.to_str().ok());
        let len = len.and_then(|len| len.parse().ok());
        len.map(Some)
            .ok_or_else(|| FetchError::Protocol { at: at.clone(), why: "no length".into() })
    }

    /// Writes an object, whole or not at all. With `is_new` none is replaced.
    fn put(&self, at: &At, content: Content<'_>, is_new: bool) -> Result<Written, FetchError> {
        let is_simple = self.is_simple.load(Ordering::Relaxed);
        if is_new && is_simple && self.len(at)?.is_some() {
            return Ok(Written::IsThere);
        }
        let key = self.key(at);
        let url = self.signed(at, &self.bucket.put_object(self.credentials.as_ref(), &key))?;
        let io = |source| FetchError::Io { at: at.clone(), source };
        let cache = if is_new { KEPT } else { ASKED };
        let mut request: RequestBuilder<_> = (self.client.agent.put(url))
            .header(header::CONTENT_LENGTH, content.len().map_err(io)?)
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header(header::CACHE_CONTROL, cache);
        if is_new && !is_simple {
            request = request.header(header::IF_NONE_MATCH, "*");
        }
        let mut reader = content.reader().map_err(io)?;
        let answer = request.send(SendBody::from_reader(&mut reader));
        let answer = answer.map_err(|error| self.client.failed(at, error))?;
        match answer.status() {
            StatusCode::PRECONDITION_FAILED => Ok(Written::IsThere),
            StatusCode::NOT_IMPLEMENTED if is_new && !is_simple => {
                self.is_simple.store(true, Ordering::Relaxed);
                self.put(at, content, is_new)
            }
            _ => match self.granted(at, answer)? {
                Some(answer) => {
                    self.client.drain(answer);
                    Ok(Written::Done)
                }
                None => Err(FetchError::Missing { at: at.clone() }),
            },
        }
    }

    /// Removes an object; one that is not there is none.
    fn delete(&self, at: &At) -> Result<(), FetchError> {
        let key = self.key(at);
        let url = self.signed(at, &self.bucket.delete_object(self.credentials.as_ref(), &key))?;
        let answer = self.client.agent.delete(url).call();
        let answer = answer.map_err(|error| self.client.failed(at, error))?;
        if let Some(answer) = self.granted(at, answer)? {
            self.client.drain(answer);
        }
        Ok(())
    }

    /// A body of at most `limit` bytes and one more.
    fn body(&self, at: &At, answer: Response<Body>, limit: u64) -> Result<Vec<u8>, FetchError> {
        let part = answer::of_file(at, &answer, limit)?;
        let mut bytes = Vec::new();
        self.client.hand_out(at, answer.into_body(), &part, &mut |piece| {
            bytes.extend_from_slice(piece);
            ControlFlow::Continue(())
        })?;
        Ok(bytes)
    }
}

/// An answer; `None` when there is no such object.
type Granted = Option<Response<Body>>;

/// The bucket and the prefix of a location, or why it is none.
fn split(location: &str) -> Result<(&str, &str), &'static str> {
    let path = location.strip_prefix(SCHEME).ok_or("not in a bucket")?.trim_end_matches('/');
    let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
    let is_plain = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.')
    };
    let is_bucket = (3..=63).contains(&bucket.len()) && bucket.bytes().all(is_plain);
    match is_bucket && (prefix.is_empty() || name::at("", prefix).is_ok()) {
        true => Ok((bucket, prefix)),
        false => Err("not a bucket, and folders in it, of lower-case letters and digits"),
    }
}

/// A refusal's reason, of the XML that it comes as.
fn code(answer: Response<Body>) -> Option<String> {
    let mut text = String::new();
    // A reason that cannot be read is none: the status says enough.
    let _ = answer.into_body().into_reader().take(REFUSAL_MAX).read_to_string(&mut text);
    let (_, rest) = text.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    let is_word = !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_word.then(|| code.into())
}

impl Source for Bucket {
    fn name(&self) -> &str {
        &self.name
    }

    fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, FetchError> {
        let at = self.at(path)?;
        let answer = self.get(&at, None)?;
        answer.map(|answer| self.body(&at, answer, limit)).transpose()
    }

    fn stream(&self, path: &str, range: Range<u64>, take: &mut Take<'_>) -> Result<(), FetchError> {
        let at = self.at(path)?;
        if range.is_empty() {
            return Ok(());
        }
        let answer = self.get(&at, Some(&range))?;
        let answer = answer.ok_or_else(|| FetchError::Missing { at: at.clone() })?;
        let part = answer::of_range(&at, &answer, &range)?;
        self.client.hand_out(&at, answer.into_body(), &part, take)
    }

    fn distrust(&self, _path: &str) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations() {
        assert_eq!(split("s3://pub.example"), Ok(("pub.example", "")));
        assert_eq!(split("s3://pub/"), Ok(("pub", "")));
        assert_eq!(split("s3://pub/a/b_c/"), Ok(("pub", "a/b_c")));
        let bad = [
            "http://pub",
            "s3://",
            "s3://me@pub",
            "s3://Pub",
            "s3://pub/a//b",
            "s3://pub/..",
            "s3://pub/a?b",
            "s3://pu",
        ];
        for bad in bad {
            assert!(split(bad).is_err(), "{bad}");
        }
    }
}
