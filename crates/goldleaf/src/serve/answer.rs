//! What is answered.

use std::fmt::Write;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use goldleaf_feed::names;
use goldleaf_host::{Dir, File};

use super::request::Request;

/// An answer, before it is sent.
pub struct Answer {
    status: u16,
    /// Headers that are its own.
    headers: String,
    len: u64,
    /// The part of a file that is sent.
    pub body: Option<(Arc<dyn File>, Range<u64>)>,
}

impl Answer {
    /// A status, and nothing more.
    pub fn only(status: u16) -> Self {
        Self { status, headers: String::new(), len: 0, body: None }
    }

    /// All that comes before the body.
    pub fn head(&self, stays: bool) -> String {
        let Self { status, headers, len, .. } = self;
        let connection = if stays { "keep-alive" } else { "close" };
        let reason = reason(*status);
        format!(
            "HTTP/1.1 {status} {reason}\r\nServer: goldleaf\r\nContent-Length: {len}\r\n\
             Connection: {connection}\r\nX-Content-Type-Options: nosniff\r\n{headers}\r\n"
        )
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        416 => "Range Not Satisfiable",
        431 => "Request Header Fields Too Large",
        _ => "Internal Server Error",
    }
}

/// Answers a request for a file of the directory.
pub fn answer(dir: &dyn Dir, request: &Request) -> Answer {
    match open(dir, &request.path).and_then(|file| Ok((file.len()?, file))) {
        Ok((len, file)) => of_file(request, file, len),
        // A link, a folder, or something that this process may not read: nobody learns which.
        Err(_) => Answer::only(404),
    }
}

fn open(dir: &dyn Dir, path: &[String]) -> io::Result<Arc<dyn File>> {
    match path {
        [] => Err(io::ErrorKind::NotFound.into()),
        // A folder can be opened as if it were a file.
        [name] if dir.dir(name).is_ok() => Err(io::ErrorKind::NotFound.into()),
        [name] => dir.open(name),
        [folder, rest @ ..] => open(dir.dir(folder)?.as_ref(), rest),
    }
}

fn of_file(request: &Request, file: Arc<dyn File>, len: u64) -> Answer {
    let mut headers = String::from("Accept-Ranges: bytes\r\n");
    let (status, range) = match request.range.map(|part| part.of(len)) {
        None => (200, 0..len),
        Some(Some(range)) => {
            let last = range.end - 1;
            // Writing to a string does not fail.
            let _ = write!(headers, "Content-Range: bytes {}-{last}/{len}\r\n", range.start);
            (206, range)
        }
        Some(None) => {
            let headers = format!("Content-Range: bytes */{len}\r\n");
            return Answer { headers, ..Answer::only(416) };
        }
    };
    let kind = match request.path.last().and_then(|name| name.rsplit_once('.')) {
        Some((_, "json")) => "application/json",
        Some((_, "html")) => "text/html; charset=utf-8",
        _ => "application/octet-stream",
    };
    let keep =
        if is_kept(&request.path) { "public, max-age=31536000, immutable" } else { "no-cache" };
    let _ = write!(headers, "Content-Type: {kind}\r\nCache-Control: {keep}\r\n");
    let len = range.end - range.start;
    let body = (!request.is_head).then_some((file, range));
    Answer { status, headers, len, body }
}

/// Whether what has this name never changes: content under its digest, and metadata under a number
/// that is no draft.
fn is_kept(path: &[String]) -> bool {
    let [folder, .., name] = path else { return false };
    let is_numbered = name.starts_with(|first: char| first.is_ascii_digit());
    names::BY_DIGEST.contains(&folder.as_str()) || is_numbered && !name.ends_with(".draft.json")
}
