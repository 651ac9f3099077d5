//! Servers that do what they should not, each with its answer, and all within a bound of time.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use goldleaf_fetch::{FetchError, Options, Source, Web, open};

use crate::server::{Ask, Out, Server};
use crate::world::{hasty, options, range, web, within};

/// What comes of asking for a range, and for a file; the same for both.
fn refused(server: &Server) -> FetchError {
    refused_by(&options(), server)
}

fn refused_by(options: &Options, server: &Server) -> FetchError {
    // Each by itself: a connection that is kept would be another story.
    let web = || -> Arc<dyn Source> { Arc::new(Web::new(&server.url(), options).unwrap()) };
    let of_range = within(5, || range(&*web(), "packs/00ff", 0, 1000).unwrap_err());
    let of_file = within(5, || web().read("timestamp.json", 1000).unwrap_err());
    let same = std::mem::discriminant(&of_range) == std::mem::discriminant(&of_file);
    assert!(same, "{of_range}; {of_file}");
    of_range
}

/// The head of an honest answer to a request for bytes 0 to 999, or a whole file.
fn head(ask: &Ask, out: &mut dyn Out) -> io::Result<()> {
    match ask.range {
        Some(_) => out.write_all(
            b"HTTP/1.1 206 P\r\nContent-Length: 1000\r\nContent-Range: bytes 0-999/2000\r\n\r\n",
        ),
        None => out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
    }
}

/// Writes without end.
fn endless(out: &mut dyn Out, bytes: &[u8]) -> io::Result<bool> {
    loop {
        out.write_all(bytes)?;
    }
}

#[test]
fn a26_a27_an_endless_file() {
    let server = Server::new(|ask, out| {
        match ask.range {
            Some(_) => {
                out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999999\r\n\r\n")?
            }
            None => out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999999\r\n\r\n")?,
        }
        endless(out, &[7; 4096])
    });
    let source = web(&server.url());
    assert_eq!(within(5, || source.read("timestamp.json", 65_536)).unwrap().unwrap().len(), 65_537);
    within(5, || range(&*source, "packs/00ff", 0, 1000).unwrap());
}

#[test]
fn a27_a29_longer_than_it_said() {
    let more: [&[u8]; 2] = [b"evil", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"];
    for (more, is_endless) in [(more[0], false), (more[0], true), (more[1], false)] {
        let server = Server::new(move |ask, out| {
            head(ask, out)?;
            out.write_all(&[7; 1000])?;
            if is_endless { endless(out, more) } else { out.write_all(more).map(|()| true) }
        });
        let of_range = within(5, || range(&*web(&server.url()), "packs/00ff", 0, 1000));
        assert_eq!(of_range.unwrap(), [7; 1000]);
        let of_file = within(5, || web(&server.url()).read("timestamp.json", 1000));
        assert_eq!(of_file.unwrap().unwrap(), [7; 1000]);
    }
}

#[test]
fn a28_a_byte_now_and_then() {
    let server = Server::new(|ask, out| {
        head(ask, out)?;
        out.drip();
        endless(out, b"x")
    });
    let error = refused_by(&hasty(), &server);
    let FetchError::SlowRetrieval { found, .. } = error else { panic!("{error}") };
    assert!((1..200).contains(&found), "{found}");
}

#[test]
fn a28_headers_now_and_then() {
    let server = Server::new(|_, out| {
        out.drip();
        endless(out, b"HTTP/1.1 200 OK\r\n")
    });
    let error = refused_by(&hasty(), &server);
    assert!(matches!(error, FetchError::SlowRetrieval { .. }), "{error}");
}

#[test]
fn a28_fast_and_then_nothing() {
    let server = Server::new(|ask, out| {
        head(ask, out)?;
        out.write_all(&[7; 900])?;
        std::thread::sleep(Duration::from_secs(8));
        Ok(false)
    });
    let error = refused_by(&hasty(), &server);
    assert!(matches!(error, FetchError::SlowRetrieval { .. }), "{error}");
}

#[test]
fn a28_fast_enough_and_never_done() {
    let server = Server::new(|_, out| {
        out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999999\r\n\r\n")?;
        loop {
            out.write_all(&[7; 1000])?;
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let mut options = hasty();
    options.patience.whole = Duration::from_secs(1);
    let source = Web::new(&server.url(), &options).unwrap();
    let error = within(5, || range(&source, "packs/00ff", 0, 1 << 40).unwrap_err());
    let FetchError::SlowRetrieval { found, .. } = error else { panic!("{error}") };
    assert!((10_000..100_000).contains(&found), "{found}");
}

#[test]
fn a28_nothing_at_all() {
    let server = Server::new(|_, _| {
        std::thread::sleep(Duration::from_secs(8));
        Ok(false)
    });
    let error = refused_by(&hasty(), &server);
    assert!(matches!(error, FetchError::SlowRetrieval { found: 0, .. }), "{error}");
}

#[test]
fn a29_shorter_than_it_said() {
    let server = Server::new(|ask, out| {
        head(ask, out)?;
        out.write_all(&[7; 400]).map(|()| false)
    });
    let error = refused(&server);
    assert!(matches!(error, FetchError::Length { expected: 1000, .. }), "{error}");
}

#[test]
fn a29_a_range_of_another_length() {
    for len in [0, 999, 1001] {
        let server = Server::saying(format!(
            "HTTP/1.1 206 P\r\nContent-Length: {len}\r\nContent-Range: bytes 0-999/2000\r\n\r\n{}",
            "x".repeat(len)
        ));
        let error = range(&*web(&server.url()), "packs/00ff", 0, 1000).unwrap_err();
        assert!(matches!(error, FetchError::Length { expected: 1000, .. }), "{error}");
    }
}

#[test]
fn a29_two_lengths() {
    let body = "x".repeat(1001);
    let lengths = "Content-Length: 1000\r\nContent-Length: 1001\r\n";
    let error = refused(&Server::saying(format!("HTTP/1.1 200 OK\r\n{lengths}\r\n{body}")));
    assert!(matches!(error, FetchError::Protocol { .. }), "{error}");
}

#[test]
fn another_range() {
    let ranges = [
        "Content-Range: bytes 1-1000/2000\r\n",
        "Content-Range: bytes 0-1000/2000\r\n",
        "Content-Range: bytes 0-999/500\r\n",
        "Content-Range: bytes 0-999/2000\r\nContent-Range: bytes 1-1000/2000\r\n",
        "Content-Range: items 0-999/2000\r\n",
        "Content-Type: multipart/byteranges; boundary=a\r\n",
        "",
    ];
    for wrong in ranges {
        let body = "x".repeat(1000);
        let answer = format!("HTTP/1.1 206 P\r\nContent-Length: 1000\r\n{wrong}\r\n{body}");
        let server = Server::saying(answer);
        let error = range(&*web(&server.url()), "packs/00ff", 0, 1000).unwrap_err();
        assert!(matches!(error, FetchError::WrongRange { .. }), "{wrong}: {error}");
    }
}

#[test]
fn a30_endless_chunks() {
    for length in ["", "Content-Length: 1000\r\n"] {
        let server = Server::new(move |ask, out| {
            out.write_all(match ask.range {
                Some(_) => b"HTTP/1.1 206 P\r\nContent-Range: bytes 0-999/2000\r\n".as_slice(),
                None => b"HTTP/1.1 200 OK\r\n",
            })?;
            out.write_all(length.as_bytes())?;
            out.write_all(b"Transfer-Encoding: chunked\r\n\r\n")?;
            endless(out, b"4\r\nevil\r\n")
        });
        let error = refused(&server);
        assert!(matches!(error, FetchError::Protocol { .. }), "{error}");
    }
}

#[test]
fn a30_no_length() {
    let error = refused(&Server::saying(format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(1000))));
    assert!(matches!(error, FetchError::Protocol { .. }), "{error}");
}

#[test]
fn a30_endless_headers() {
    let long = format!("X-Long: {}\r\n", "x".repeat(1000));
    for line in ["X: y\r\n", long.as_str(), "x", "HTTP/1.1 100 Continue\r\n\r\n"] {
        let line = line.to_string();
        let server = Server::new(move |_, out| {
            out.write_all(b"HTTP/1.1 200 OK\r\n")?;
            endless(out, line.as_bytes())
        });
        let error = refused(&server);
        assert!(matches!(error, FetchError::Protocol { .. }), "{error}");
    }
}

#[test]
fn a30_the_server_never_stops_to_say_wait() {
    let server = Server::new(|_, out| endless(out, b"HTTP/1.1 100 Continue\r\n\r\n"));
    let error = refused_by(&hasty(), &server);
    let is_typed = matches!(error, FetchError::Protocol { .. } | FetchError::SlowRetrieval { .. });
    assert!(is_typed, "{error}");
}

#[test]
fn a30_redirects_without_end() {
    let server = Server::new(|_, out| {
        out.write_all(b"HTTP/1.1 307 T\r\nLocation: again\r\nContent-Length: 0\r\n\r\n")?;
        Ok(true)
    });
    let error = refused(&server);
    assert!(matches!(error, FetchError::Redirect { .. }), "{error}");
    assert_eq!(server.asked.lock().unwrap().len(), 12, "one question and five redirects, twice");
}

#[test]
fn a30_a_redirect_with_an_endless_body() {
    let server = Server::new(|_, out| {
        out.write_all(b"HTTP/1.1 302 F\r\nLocation: again\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        endless(out, b"4\r\nevil\r\n")
    });
    let error = refused(&server);
    assert!(matches!(error, FetchError::Redirect { .. }), "{error}");
}

#[test]
fn a59_redirects_to_elsewhere() {
    for elsewhere in ["file:///etc/passwd", "ftp://127.0.0.1/", "http://me@127.0.0.1/", "http:", ""]
    {
        let location = format!("Location: {elsewhere}\r\n");
        let location = if elsewhere.is_empty() { "" } else { &location };
        let answer = format!("HTTP/1.1 301 M\r\n{location}Content-Length: 0\r\n\r\n");
        let error = refused(&Server::saying(answer));
        assert!(matches!(error, FetchError::Redirect { .. }), "{elsewhere}: {error}");
    }
}

#[test]
fn a30_a_login_page() {
    let page = "<!doctype html><h1>Welcome to our hotel!</h1>";
    let headers =
        format!("Content-Type: Text/HTML; charset=utf-8\r\nContent-Length: {}", page.len());
    for status in ["200 OK", "511 Log in"] {
        let server = Server::saying(format!("HTTP/1.1 {status}\r\n{headers}\r\n\r\n{page}"));
        let error = refused(&server);
        assert!(matches!(error, FetchError::Portal { .. }), "{error}");
    }
    let hotel = Server::saying(format!("HTTP/1.1 200 OK\r\n{headers}\r\n\r\n{page}"));
    let server = Server::saying(format!(
        "HTTP/1.1 302 F\r\nLocation: {}/login\r\nContent-Length: 0\r\n\r\n",
        hotel.url()
    ));
    let error = refused(&server);
    assert!(matches!(error, FetchError::Portal { .. }), "{error}");
}

#[test]
fn what_was_compressed_is_refused() {
    let headers = "Content-Encoding: gzip\r\nContent-Length: 1000";
    let body = "x".repeat(1000);
    let error = refused(&Server::saying(format!("HTTP/1.1 200 OK\r\n{headers}\r\n\r\n{body}")));
    assert!(matches!(error, FetchError::Protocol { .. }), "{error}");
}

#[test]
fn other_answers() {
    for status in [204, 304, 400, 401, 403, 416, 500, 503] {
        let server = Server::saying(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"));
        let error = refused(&server);
        assert!(
            matches!(error, FetchError::Status { status: found, .. } if found == status),
            "{error}"
        );
        assert_eq!(error.is_passing(), status >= 500, "{error}");
    }
}

#[test]
fn no_http_at_all() {
    for nonsense in ["SSH-2.0-OpenSSH_9.2\r\n\r\n", "\0\0\0\0\r\n\r\n", "HTTP/1.1 20 OK\r\n\r\n"] {
        let error = refused(&Server::saying(nonsense));
        assert!(matches!(error, FetchError::Protocol { .. }), "{error}");
    }
}

#[test]
fn a_connection_that_breaks() {
    let error = refused(&Server::new(|_, _| Ok(false)));
    assert!(matches!(error, FetchError::Io { .. }) && error.is_passing(), "{error}");
}

#[test]
fn nobody_there() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let source = web(&format!("http://127.0.0.1:{port}"));
    let error = within(5, || source.read("timestamp.json", 10).unwrap_err());
    assert!(matches!(error, FetchError::Unreachable { .. }) && error.is_passing(), "{error}");
}

#[test]
fn names_that_lead_elsewhere_are_not_asked_for() {
    let server = Server::saying("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let source = open(&server.url(), &options()).unwrap();
    for bad in ["../a", "/a", "a?b", "http://host/a", "a\r\nX: y", ""] {
        let error = source.read(bad, 10).unwrap_err();
        assert!(matches!(error, FetchError::BadName { .. }), "{error}");
    }
    assert_eq!(server.connections(), 0);
}
