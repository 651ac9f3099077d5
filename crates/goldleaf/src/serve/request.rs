//! What is asked for. Everything here is a stranger's.

use std::ops::Range;

use crate::page::INDEX;

/// Most headers: browsers send twenty.
const HEADERS_MAX: usize = 64;

/// A request for a file.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// Names of folders, and of the file.
    pub path: Vec<String>,
    /// Whether only the headers are wanted.
    pub is_head: bool,
    /// The part that is wanted.
    pub range: Option<Part>,
    /// Whether the connection stays for another one.
    pub stays: bool,
}

/// A part of a file, before its length is known (RFC 9110, section 14.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// From a byte on, up to another.
    From(u64, Option<u64>),
    /// So many of the last bytes.
    Last(u64),
}

impl Part {
    /// The bytes of a file of that length; `None` when it has none of them.
    pub fn of(self, len: u64) -> Option<Range<u64>> {
        let range = match self {
            Part::From(first, last) => {
                first..last.map_or(len, |last| last.saturating_add(1).min(len))
            }
            Part::Last(count) => len.saturating_sub(count)..len,
        };
        (!range.is_empty()).then_some(range)
    }

    /// `None` for what is no single range, which is ignored then.
    fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.trim().strip_prefix("bytes=")?.split_once('-')?;
        match (number(first), number(last)) {
            (Some(first), None) if last.is_empty() => Some(Part::From(first, None)),
            (Some(first), Some(last)) if first <= last => Some(Part::From(first, Some(last))),
            (None, Some(count)) if first.is_empty() => Some(Part::Last(count)),
            _ => None,
        }
    }
}

/// Digits only: what Rust parses may have a sign.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

impl Request {
    /// Reads a request's head, or says with which status it is refused.
    pub fn parse(head: &[u8]) -> Result<Self, u16> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut parsed = httparse::Request::new(&mut headers);
        match parsed.parse(head) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
                return Err(431);
            }
            Err(_) => return Err(400),
        }
        let header = |name: &str| {
            let mut all = parsed.headers.iter();
            let found = all.find(|header| header.name.eq_ignore_ascii_case(name))?;
            std::str::from_utf8(found.value).ok()
        };
        let is_head = match parsed.method {
            Some("GET") => false,
            Some("HEAD") => true,
            _ => return Err(405),
        };
        // A body would be taken for the next request.
        let has_body = header("transfer-encoding").is_some()
            || header("content-length").is_some_and(|len| len.trim() != "0");
        if has_body {
            return Err(400);
        }
        let path = parsed.path.and_then(|path| path.split('?').next()?.strip_prefix('/'));
        let path = path.and_then(names).ok_or(404_u16)?;
        // Whether it is still the same file need not be asked: it is, or it is wanted anew.
        let range = header("if-range").is_none().then(|| header("range")).flatten();
        let closes =
            header("connection").is_some_and(|value| value.trim().eq_ignore_ascii_case("close"));
        let stays = parsed.version == Some(1) && !closes;
        Ok(Self { path, is_head, range: range.and_then(Part::parse), stays })
    }
}

/// Names as this program makes them; `None` for any other path. A folder is meant by its page.
fn names(path: &str) -> Option<Vec<String>> {
    if path.is_empty() || path.ends_with('/') {
        return names(&format!("{path}{INDEX}"));
    }
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_name = |name: &str| {
        (1..=255).contains(&name.len())
            && name.bytes().all(is_plain)
            && !name.starts_with('.')
            // What is being written is not there yet.
            && !name.ends_with(".new")
    };
    let names: Vec<String> = path.split('/').map(str::to_owned).collect();
    names.iter().all(|name| is_name(name)).then_some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str, headers: &str) -> Result<Request, u16> {
        Request::parse(format!("{line} HTTP/1.1\r\nHost: x\r\n{headers}\r\n").as_bytes())
    }

    #[test]
    fn files_are_asked_for_by_names_of_ours() {
        let request = parse("GET /packs/00ff?x", "").unwrap();
        assert_eq!(request.path, ["packs", "00ff"]);
        assert!(request.stays && !request.is_head);
        assert_eq!(parse("GET /", "").unwrap().path, ["index.html"]);
        assert_eq!(parse("GET /a/", "").unwrap().path, ["a", "index.html"]);
        for path in ["//", "//a", "/../a", "/a/../b", "/.a", "/a%2fb", "/a.new", "/a\\b", "a"] {
            assert_eq!(parse(&format!("GET {path}"), ""), Err(404), "{path}");
        }
        assert_eq!(parse("POST /a", ""), Err(405));
        assert_eq!(parse("GET /a", "Content-Length: 5\r\n"), Err(400));
        assert_eq!(parse("GET /a", "Transfer-Encoding: chunked\r\n"), Err(400));
        assert_eq!(Request::parse(b"\0\r\n\r\n"), Err(400));
        assert_eq!(Request::parse(b"GET /a HTTP/1.1\r\nHost"), Err(431));
        assert!(!parse("GET /a", "Connection: Close\r\n").unwrap().stays);
        assert!(!Request::parse(b"GET /a HTTP/1.0\r\n\r\n").unwrap().stays);
    }

    #[test]
    fn ranges() {
        let part = |text: &str| {
            parse("GET /a", &format!("Range: {text}\r\n")).unwrap().range.map(|part| part.of(100))
        };
        assert_eq!(part("bytes=0-9"), Some(Some(0..10)));
        assert_eq!(part("bytes=90-"), Some(Some(90..100)));
        assert_eq!(part("bytes=90-18446744073709551615"), Some(Some(90..100)));
        assert_eq!(part("bytes=-5"), Some(Some(95..100)));
        assert_eq!(part("bytes=-500"), Some(Some(0..100)));
        assert_eq!(part("bytes=100-"), Some(None));
        assert_eq!(part("bytes=-0"), Some(None));
        for text in ["bytes=0-1,5-6", "bytes=9-0", "bytes=-", "bytes=+1-2", "lines=0-9", "0-9"] {
            assert_eq!(part(text), None, "{text}");
        }
        assert_eq!(parse("GET /a", "Range: bytes=0-9\r\nIf-Range: x\r\n").unwrap().range, None);
    }
}
