//! Buckets whose servers say no, or something else. (That all is well with one that says yes is tried
//! with a real server, in `e2e`.)

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use goldleaf_fetch::{Account, Destination, FetchError, Options};
use goldleaf_host::Content;

use crate::server::{Ask, Out, Server};
use crate::world::options;

/// The part of a bucket below `feed`, with a key.
fn bucket(server: &Server) -> Destination {
    let account = Account::new(Some(server.url()), None);
    let account = account.with_key("my-id".into(), "my-secret".into(), None);
    let options = Options { account, ..options() };
    Destination::bucket("s3://pub/feed", &options).unwrap()
}

fn say(out: &mut dyn Out, status: &str, body: &str) -> io::Result<bool> {
    write!(out, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
    Ok(true)
}

fn refuse(out: &mut dyn Out, status: &str, code: &str) -> io::Result<bool> {
    say(out, status, &format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>"))
}

/// A server that refuses everything.
fn refusing(status: &'static str, code: &'static str) -> Server {
    Server::new(move |ask, out| {
        if ask.head.starts_with("PUT") {
            out.take_body(ask)?;
        }
        refuse(out, status, code)
    })
}

#[test]
fn what_is_refused_says_why_and_tells_no_secret() {
    let server = refusing("403 Forbidden", "SignatureDoesNotMatch");
    let place = bucket(&server);
    let error = place.source.read("packs/x", 9).unwrap_err();
    assert!(
        matches!(&error, FetchError::Storage { status: 403, code, .. } if code == "SignatureDoesNotMatch")
    );
    let text = error.to_string();
    assert!(text.starts_with("s3://pub/feed/packs/x: ") && !text.contains("my-"), "{text}");
    let error = place.shelf.folder("packs").add("x", Content::of(b"pack")).unwrap_err();
    assert!(error.to_string().contains("SignatureDoesNotMatch"), "{error}");
    assert_eq!(server.asked.lock().unwrap().len(), 2, "a refusal does not pass");
}

#[test]
fn a_bucket_that_is_missing_is_no_object_that_is_missing() {
    let nothing = bucket(&refusing("404 Not Found", "NoSuchKey"));
    assert_eq!(nothing.source.read("a", 9).unwrap(), None);
    assert_eq!(nothing.shelf.len_of("a").unwrap(), None);
    assert_eq!(nothing.shelf.read("a", 9).unwrap_err().kind(), ErrorKind::NotFound);
    let nowhere = bucket(&refusing("404 Not Found", "NoSuchBucket"));
    assert!(matches!(nowhere.source.read("a", 9), Err(FetchError::Storage { status: 404, .. })));
    assert_eq!(nowhere.shelf.read("a", 9).unwrap_err().kind(), ErrorKind::Other);
}

#[test]
fn a_list_that_fails_is_an_error_and_never_empty() {
    let lists = |status: &'static str, body: &'static str| {
        bucket(&Server::new(move |_, out| say(out, status, body))).shelf.folder("a").list()
    };
    for (status, body) in [
        ("500 Oh", ""),
        ("404 Not Found", ""),
        ("200 OK", ""),
        ("200 OK", "<html></html>"),
        ("200 OK", "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"),
    ] {
        assert!(lists(status, body).is_err(), "{status} {body}");
    }
    const PAGE: &str = "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
        <IsTruncated>MORE</IsTruncated><NextContinuationToken>t</NextContinuationToken>\
        <Contents><Key>feed/a/NAME</Key></Contents></ListBucketResult>";
    let server = Server::new(|ask, out| {
        let (more, name) = match ask.head.contains("continuation-token=t") {
            false => ("true", "one"),
            true => ("false", "two"),
        };
        say(out, "200 OK", &PAGE.replace("MORE", more).replace("NAME", name))
    });
    assert_eq!(bucket(&server).shelf.folder("a").list().unwrap(), ["one", "two"]);
    // One that always has more is not followed for ever.
    let endless = Server::new(|_, out| say(out, "200 OK", &PAGE.replace("MORE", "true")));
    assert!(bucket(&endless).shelf.folder("a").list().is_err());
}

/// A server that has one object, once it was written.
fn keeping(knows_conditions: bool) -> Server {
    let is_there = Arc::new(AtomicBool::new(false));
    Server::new(move |ask: &Ask, out: &mut dyn Out| {
        let is_new = ask.head.to_ascii_lowercase().contains("if-none-match: *");
        match ask.head.split(' ').next().unwrap() {
            "PUT" => {
                assert_eq!(out.take_body(ask)?.len(), 4);
                if is_new && !knows_conditions {
                    return refuse(out, "501 No", "NotImplemented");
                }
                if is_new && is_there.load(Ordering::SeqCst) {
                    return refuse(out, "412 No", "PreconditionFailed");
                }
                // What comes first is lost on its way back.
                is_there.store(true, Ordering::SeqCst);
                if ask.number == 0 { Ok(false) } else { say(out, "200 OK", "") }
            }
            "HEAD" if is_there.load(Ordering::SeqCst) => {
                write!(out, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n").map(|()| true)
            }
            _ => write!(out, "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n").map(|()| true),
        }
    })
}

#[test]
fn an_object_is_never_overwritten() {
    for knows_conditions in [true, false] {
        let server = keeping(knows_conditions);
        let shelf = bucket(&server).shelf;
        let first = shelf.add("x", Content::of(b"once"));
        match knows_conditions {
            // It was there when it was asked for again: whoever adds finds out that it is his.
            true => {
                let error = first.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
            }
            false => first.unwrap(),
        }
        assert_eq!(shelf.len_of("x").unwrap(), Some(4));
        let again = shelf.add("x", Content::of(b"more")).unwrap_err();
        assert_eq!(again.kind(), ErrorKind::AlreadyExists);
        shelf.replace("x", Content::of(b"else")).unwrap();
    }
}
