//! Servers that do what they should.

use std::ops::ControlFlow;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use goldleaf_fetch::{FetchError, Several, Source, Web, open};
use goldleaf_host::RealDir;

use crate::server::{Server, honest};
use crate::world::{content, options, range, web};

fn files(len: usize) -> std::collections::BTreeMap<String, Vec<u8>> {
    let packs = ("packs/00ff".into(), content(len));
    [("timestamp.json".into(), b"{}".to_vec()), ("empty".into(), Vec::new()), packs].into()
}

#[test]
fn files_and_ranges_over_one_connection() {
    let server = Server::with_files(files(300_000));
    let source = web(&server.url());
    let all = content(300_000);
    assert_eq!(source.name(), format!("{}/", server.url()));
    assert_eq!(source.read("timestamp.json", 100).unwrap().as_deref(), Some(&b"{}"[..]));
    assert_eq!(source.read("2.root.json", 100).unwrap(), None);
    for (at, len) in [(0, 1), (0, 300_000), (1, 65_536), (299_999, 1), (65_535, 131_073)] {
        assert_eq!(range(&*source, "packs/00ff", at, len).unwrap(), all[at as usize..][..len]);
    }
    let mut buf = [0; 1000];
    source.read_range("packs/00ff", 5, &mut buf).unwrap();
    assert_eq!(buf, all[5..1005]);
    assert_eq!(source.read("empty", 100).unwrap().unwrap(), b"");
    assert_eq!(source.read("timestamp.json", 100).unwrap().unwrap(), b"{}");
    assert_eq!(server.asked.lock().unwrap().len(), 10);
    assert_eq!(server.connections(), 1);
    assert!(!source.distrust("timestamp.json"));
}

#[test]
fn nothing_is_asked_for_nothing() {
    let server = Server::with_files(files(10));
    assert_eq!(range(&*web(&server.url()), "packs/none", 5, 0).unwrap(), b"");
    assert_eq!(server.connections(), 0);
}

#[test]
fn threads_have_connections_of_their_own_and_they_are_kept() {
    const THREADS: usize = 4;
    let together = Arc::new(Barrier::new(THREADS));
    let at_server = Arc::clone(&together);
    let all = files(10_000);
    let server = Server::new(move |ask, out| {
        // Nobody is answered before all have asked.
        at_server.wait();
        honest(&all, ask, out)
    });
    let source = web(&server.url());
    for _ in 0..3 {
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| range(&*source, "packs/00ff", 10, 5000).unwrap());
            }
        });
    }
    assert_eq!(server.connections(), THREADS);
}

#[test]
fn a_question_has_one_range_and_no_compression() {
    let all = files(10_000);
    let server = Server::new(move |ask, out| {
        let head = ask.head.to_ascii_lowercase();
        assert!(head.contains("\r\naccept-encoding: identity\r\n"), "{head}");
        assert!(head.contains("\r\nrange: bytes=10-29\r\n"), "{head}");
        assert!(head.starts_with("get /feed/packs/00ff http/1.1\r\n"), "{head}");
        let file = ask.path.strip_prefix("feed/").unwrap().to_string();
        honest(&all, &crate::server::Ask { path: file, ..ask.clone() }, out)
    });
    let source = web(&format!("{}/feed", server.url()));
    assert_eq!(range(&*source, "packs/00ff", 10, 20).unwrap(), content(10_000)[10..30]);
}

#[test]
fn a_stream_ends_when_nobody_wants_more() {
    let server = Server::with_files(files(4 << 20));
    let source = web(&server.url());
    let mut seen = 0;
    source
        .stream("packs/00ff", 0..4 << 20, &mut |piece| {
            seen += piece.len();
            if seen > 100_000 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    assert!((100_001..300_000).contains(&seen), "{seen}");
    assert_eq!(range(&*source, "packs/00ff", 7, 9).unwrap(), content(16)[7..]);
}

#[test]
fn a_longer_file_shows_that_it_is() {
    let server = Server::with_files(files(100_000));
    let source = web(&server.url());
    assert_eq!(source.read("packs/00ff", 1000).unwrap().unwrap().len(), 1001);
    assert_eq!(source.read("packs/00ff", 100_000).unwrap().unwrap().len(), 100_000);
    assert_eq!(source.read("packs/00ff", u64::MAX).unwrap().unwrap().len(), 100_000);
}

#[test]
fn a_shorter_file_is_an_error() {
    let server = Server::with_files(files(1000));
    let source = web(&server.url());
    for (at, len) in [(0, 1001), (999, 2), (1000, 1), (5000, 10)] {
        let error = range(&*source, "packs/00ff", at, len).unwrap_err();
        assert!(matches!(error, FetchError::Length { found: 1000, .. }), "{error}");
    }
    let error = range(&*source, "packs/01", 0, 1).unwrap_err();
    assert!(matches!(error, FetchError::Missing { .. }), "{error}");
}

#[test]
fn a_server_without_ranges_is_good_for_beginnings() {
    let all = files(4 << 20);
    let server = Server::new(move |ask, out| {
        honest(&all, &crate::server::Ask { range: None, ..ask.clone() }, out)
    });
    let source = web(&server.url());
    for at in [0, 1, 100_000, 1 << 20] {
        let expected = &content(4 << 20)[at as usize..][..1000];
        assert_eq!(range(&*source, "packs/00ff", at, 1000).unwrap(), expected);
    }
    let error = range(&*source, "packs/00ff", (1 << 20) + 1, 10).unwrap_err();
    assert!(matches!(error, FetchError::NoRanges { .. }), "{error}");
    let error = range(&*source, "packs/00ff", 10, 4 << 20).unwrap_err();
    assert!(matches!(error, FetchError::Length { .. }), "{error}");
}

#[test]
fn redirects_are_followed() {
    let all = files(1000);
    let server = Server::new(move |ask, out| match ask.path.strip_prefix("old/") {
        Some(rest) => {
            write!(out, "HTTP/1.1 302 Found\r\nLocation: /new/{rest}?key=1\r\n")?;
            write!(out, "Content-Length: 2\r\n\r\nno").map(|()| true)
        }
        None => {
            let path = ask.path.strip_prefix("new/").unwrap().to_string();
            honest(&all, &crate::server::Ask { path, ..ask.clone() }, out)
        }
    });
    let source = web(&format!("{}/old/", server.url()));
    assert_eq!(range(&*source, "packs/00ff", 5, 10).unwrap(), content(1000)[5..15]);
    assert_eq!(server.connections(), 1);
}

#[test]
fn a_busy_server_is_asked_again() {
    let all = files(1000);
    let server = Server::new(move |ask, out| match ask.number {
        0 => out.write_all(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n").map(|()| true),
        1 => Ok(false),
        2 => {
            out.write_all(b"HTTP/1.1 206 P\r\nContent-Length: 900\r\n")?;
            out.write_all(b"Content-Range: bytes 10-909/1000\r\n\r\n")?;
            out.write_all(&all["packs/00ff"][10..300]).map(|()| false)
        }
        _ => {
            assert_eq!(ask.range, Some((300, 909)), "it goes on where it broke");
            honest(&all, ask, out)
        }
    });
    let source = open(&server.url(), &options()).unwrap();
    assert_eq!(range(&*source, "packs/00ff", 10, 900).unwrap(), content(1000)[10..910]);
    assert_eq!(server.asked.lock().unwrap().len(), 4);
}

#[test]
fn a_caller_may_take_its_time() {
    let server = Server::with_files(files(4 << 20));
    let mut options = options();
    options.patience.window = Duration::from_secs(1);
    let mut slow = true;
    Web::new(&server.url(), &options)
        .unwrap()
        .stream("packs/00ff", 0..4 << 20, &mut |_| {
            if std::mem::take(&mut slow) {
                std::thread::sleep(options.patience.window * 2);
            }
            ControlFlow::Continue(())
        })
        .unwrap();
}

#[test]
fn locations() {
    let dir = tempfile::tempdir().unwrap();
    let host = RealDir::open(dir.path()).unwrap();
    goldleaf_host::replace_file(&*host, "timestamp.json", b"{}").unwrap();
    let source = open(dir.path().to_str().unwrap(), &options()).unwrap();
    assert_eq!(source.read("timestamp.json", 9).unwrap().unwrap(), b"{}");
    let bad = ["ftp://host/", "file:///tmp", "http://me:secret@host/", "http://h/?secret"];
    for bad in bad {
        let Err(error) = open(bad, &options()) else { panic!("{bad}") };
        assert!(matches!(error, FetchError::Location { .. }), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

/// A stick that is put in while it is asked for, beside one that is not there.
#[test]
fn a_directory_may_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let sources = ["none", "stick"].map(|name| open(&path(name), &options()).unwrap());
    let several = Several::new(sources.to_vec(), options().clock);
    assert!(matches!(several.read("timestamp.json", 9), Err(FetchError::All { .. })));
    let stick = RealDir::create(&dir.path().join("stick")).unwrap();
    goldleaf_host::replace_file(&*stick, "timestamp.json", b"{}").unwrap();
    assert_eq!(several.read("timestamp.json", 9).unwrap().unwrap(), b"{}");
    std::fs::remove_dir_all(dir.path().join("stick")).unwrap();
    let gone = several.read("timestamp.json", 9).unwrap_err().to_string();
    assert!(gone.contains("none") && gone.contains("stick"), "{gone}");
}
