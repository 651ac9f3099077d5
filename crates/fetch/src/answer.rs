//! What an answer's headers say, and whether it is the answer to what was asked (RFC 9110).

use std::ops::Range;

use ureq::http::{HeaderMap, Response, StatusCode, header};
use ureq::{Body, http::HeaderName};

use crate::{At, FetchError};

/// How much of a whole file is thrown away to get at a range of it, in bytes: about what another
/// connection would cost.
const SKIP_MAX: u64 = 1 << 20;

/// Where in an answer's body the bytes are that were asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Bytes before them.
    pub(crate) skip: u64,
    /// How many they are.
    pub(crate) len: u64,
    /// Whether the body ends with them.
    pub(crate) is_all: bool,
}

/// Whether there is no such file.
pub(crate) fn is_missing(status: StatusCode) -> bool {
    matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE)
}

/// An answer to a question for up to `limit` bytes of a file.
pub(crate) fn of_file(at: &At, answer: &Response<Body>, limit: u64) -> Result<Part, FetchError> {
    if answer.status() != StatusCode::OK {
        return Err(refused(at, answer.status()));
    }
    let found = content(at, answer)?;
    let len = found.min(limit.saturating_add(1));
    Ok(Part { skip: 0, len, is_all: len == found })
}

/// An answer to a question for a range that is not empty.
pub(crate) fn of_range(
    at: &At,
    answer: &Response<Body>,
    range: &Range<u64>,
) -> Result<Part, FetchError> {
    let shorter = |found| FetchError::Length { at: at.clone(), expected: range.end, found };
    match answer.status() {
        StatusCode::PARTIAL_CONTENT => partial(at, answer, range),
        StatusCode::OK => {
            let found = content(at, answer)?;
            if found < range.end {
                return Err(shorter(found));
            }
            if range.start > SKIP_MAX {
                return Err(FetchError::NoRanges { at: at.clone() });
            }
            let (skip, len) = (range.start, range.end - range.start);
            Ok(Part { skip, len, is_all: found == range.end })
        }
        StatusCode::RANGE_NOT_SATISFIABLE => match content_range(answer.headers()) {
            Some((None, Some(found))) if found < range.end => Err(shorter(found)),
            _ => Err(refused(at, answer.status())),
        },
        status => Err(refused(at, status)),
    }
}

fn refused(at: &At, status: StatusCode) -> FetchError {
    let at = at.clone();
    match status {
        StatusCode::NETWORK_AUTHENTICATION_REQUIRED => FetchError::Portal { at },
        status => FetchError::Status { at, status: status.as_u16() },
    }
}

fn partial(at: &At, answer: &Response<Body>, range: &Range<u64>) -> Result<Part, FetchError> {
    let found = content(at, answer)?;
    match content_range(answer.headers()) {
        Some((Some(part), total)) if part == *range && total.is_none_or(|all| range.end <= all) => {
            let len = range.end - range.start;
            if found == len {
                return Ok(Part { skip: 0, len, is_all: true });
            }
            Err(FetchError::Length { at: at.clone(), expected: len, found })
        }
        // All that there is of it, because the file ends before the range does.
        Some((Some(part), Some(all))) if part == (range.start..all) && all < range.end => {
            Err(FetchError::Length { at: at.clone(), expected: range.end, found: all })
        }
        _ => {
            let found = text(answer.headers(), header::CONTENT_RANGE).unwrap_or("nothing").into();
            Err(FetchError::WrongRange { at: at.clone(), expected: range.clone(), found })
        }
    }
}

/// The length of a body that is a file's bytes. It must be declared: of a body that ends where it
/// ends nobody can say whether it was cut, and chunks may go on for ever.
fn content(at: &At, answer: &Response<Body>) -> Result<u64, FetchError> {
    let headers = answer.headers();
    let is = |name, wanted: &str| {
        let found = text(headers, name).unwrap_or("").get(..wanted.len());
        found.is_some_and(|found| found.eq_ignore_ascii_case(wanted))
    };
    if is(header::CONTENT_TYPE, "text/html") {
        return Err(FetchError::Portal { at: at.clone() });
    }
    let broken = |why: &str| FetchError::Protocol { at: at.clone(), why: why.into() };
    if headers.contains_key(header::CONTENT_ENCODING) && !is(header::CONTENT_ENCODING, "identity") {
        return Err(broken("an encoding that was not asked for"));
    }
    if headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(broken("chunks, and no length"));
    }
    // Where there are several, the library has seen to it that they agree.
    text(headers, header::CONTENT_LENGTH).and_then(number).ok_or_else(|| broken("no length"))
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// `Content-Range` (section 14.4): the part and the length of the whole, as far as it says them.
fn content_range(headers: &HeaderMap) -> Option<(Option<Range<u64>>, Option<u64>)> {
    let mut values = headers.get_all(header::CONTENT_RANGE).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    let (part, total) = value.to_str().ok()?.strip_prefix("bytes ")?.split_once('/')?;
    let total = if total == "*" { None } else { Some(number(total)?) };
    if part == "*" {
        return Some((None, total));
    }
    let (first, last) = part.split_once('-')?;
    let (start, end) = (number(first)?, number(last)?.checked_add(1)?);
    (start < end).then_some((Some(start..end), total))
}

/// Digits only: what Rust parses may have a sign.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges() {
        let parse = |value: &str| {
            content_range(&[(header::CONTENT_RANGE, value.parse().unwrap())].into_iter().collect())
        };
        assert_eq!(parse("bytes 0-9/100"), Some((Some(0..10), Some(100))));
        assert_eq!(parse("bytes 5-5/*"), Some((Some(5..6), None)));
        assert_eq!(parse("bytes */100"), Some((None, Some(100))));
        let bad = [
            "",
            "bytes",
            "0-9/100",
            "bytes 9-0/100",
            "bytes 0-9",
            "bytes +0-9/100",
            "bytes -9/100",
            "bytes 0-18446744073709551615/*",
            "bytes 0-9/",
            "bytes a-b/c",
            "lines 0-9/100",
        ];
        for bad in bad {
            assert!(!matches!(parse(bad), Some((Some(_), _))), "{bad}");
        }
    }
}
