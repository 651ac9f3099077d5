//! An endpoint and a web server that does what it should not, over HTTP as it is: each way of it ends
//! in its error within a bound of time and of bytes, nothing of it sticks, and the next honest server
//! is as good as ever. The ways by themselves, and more of them, are in `fetch`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use goldleaf_block::{BLOCK_SIZE, ByteOffset, ReadBlocks};
use goldleaf_fetch::FetchError;
use goldleaf_player::{PlayerError, feeds};
use goldleaf_trust::TrustError;
use goldleaf_wire::WireMap;

use crate::server::{Ask, Out, Server, honest};
use crate::world::{FEED, World, blocks, content};

/// What a server writes before it is cut off: what sockets hold, for each of a few tries.
const BYTES_MAX: u64 = 64 << 20;
/// What the worst of them may cost, in seconds, on a machine that is busy.
const SECONDS_MAX: u64 = 30;

/// A way to answer.
struct Way {
    name: &'static str,
    answer: fn(&Ask, &mut dyn Out) -> io::Result<bool>,
    /// What it is called where a file is asked for as a whole.
    is_it: fn(&TrustError) -> bool,
    /// A part of what is said where a range is asked for.
    says: &'static str,
}

fn of_source(error: &TrustError) -> Option<&FetchError> {
    match error {
        TrustError::Source { source, .. } => source.downcast_ref(),
        _ => None,
    }
}

/// The head of a proper answer: to a range, or to a question for a file, which has `len` bytes.
fn head(ask: &Ask, out: &mut dyn Out, len: usize) -> io::Result<()> {
    let Some((first, last)) = ask.range else {
        return write!(out, "HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n");
    };
    write!(out, "HTTP/1.1 206 P\r\nContent-Length: {}\r\n", last - first + 1)?;
    write!(out, "Content-Range: bytes {first}-{last}/*\r\n\r\n")
}

fn endless(out: &mut dyn Out, bytes: &[u8]) -> io::Result<bool> {
    loop {
        out.write_all(bytes)?;
    }
}

fn redirect(out: &mut dyn Out, target: &str) -> io::Result<bool> {
    write!(out, "HTTP/1.1 302 F\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n")?;
    Ok(true)
}

const WAYS: &[Way] = &[
    Way {
        name: "A26, A27: endless",
        answer: |_, out| {
            out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999999\r\n\r\n")?;
            endless(out, &[7; 4096])
        },
        is_it: |error| matches!(error, TrustError::TooLarge { .. }),
        says: "magic number",
    },
    Way {
        name: "A28: a byte now and then, or none",
        answer: |ask, out| {
            head(ask, out, 60_000)?;
            // What came of a range is looked at as soon as it is enough for that: nothing comes.
            if ask.range.is_some() {
                std::thread::sleep(Duration::from_secs(10));
                return Ok(false);
            }
            out.drip();
            endless(out, b"x")
        },
        is_it: |error| matches!(of_source(error), Some(FetchError::SlowRetrieval { .. })),
        says: "bytes within",
    },
    Way {
        name: "A29: cut short",
        answer: |ask, out| {
            // What came of a range stands, and the rest is asked for: nothing comes of it.
            let sent = if ask.range.is_some() { 0 } else { 500 };
            head(ask, out, 1000)?;
            out.write_all(&vec![7; sent]).map(|()| false)
        },
        is_it: |error| matches!(of_source(error), Some(FetchError::Length { .. })),
        says: "bytes where there must be",
    },
    Way {
        name: "A30: endless chunks",
        answer: |_, out| {
            out.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            endless(out, b"4\r\nevil\r\n")
        },
        is_it: |error| matches!(of_source(error), Some(FetchError::Protocol { .. })),
        says: "no proper answer",
    },
    Way {
        name: "A30: endless headers",
        answer: |_, out| {
            out.write_all(b"HTTP/1.1 200 OK\r\n")?;
            endless(out, b"X-More: and more\r\n")
        },
        is_it: |error| matches!(of_source(error), Some(FetchError::Protocol { .. })),
        says: "no proper answer",
    },
    Way {
        name: "A30: a captive portal",
        answer: |_, out| {
            let page = "<!doctype html><h1>Welcome to our hotel!</h1>";
            write!(out, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n")?;
            write!(out, "Content-Length: {}\r\n\r\n{page}", page.len())?;
            Ok(true)
        },
        is_it: |error| matches!(of_source(error), Some(FetchError::Portal { .. })),
        says: "does this network want a login?",
    },
    Way {
        name: "A30: a captive portal that says nothing of its kind",
        answer: |_, out| {
            let page = "<!doctype html><h1>Welcome to our hotel!</h1>".repeat(1000);
            write!(out, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{page}", page.len())?;
            Ok(true)
        },
        is_it: |error| matches!(error, TrustError::Malformed { .. }),
        says: "magic number",
    },
    Way {
        name: "A30: redirects without end",
        answer: |_, out| redirect(out, "again"),
        is_it: |error| matches!(of_source(error), Some(FetchError::Redirect { .. })),
        says: "redirected",
    },
    Way {
        name: "A30: a redirect to elsewhere",
        answer: |_, out| redirect(out, "file:///etc/passwd"),
        is_it: |error| matches!(of_source(error), Some(FetchError::Redirect { .. })),
        says: "redirected",
    },
    Way {
        name: "another range",
        answer: |_, out| {
            out.write_all(b"HTTP/1.1 206 P\r\nContent-Length: 1000\r\n")?;
            out.write_all(b"Content-Range: bytes 7-1006/2000\r\n\r\n")?;
            out.write_all(&[7; 1000])?;
            Ok(true)
        },
        is_it: |error| matches!(of_source(error), Some(FetchError::Status { status: 206, .. })),
        says: "were asked for",
    },
    Way {
        name: "nothing is there",
        answer: |_, out| {
            out.write_all(b"HTTP/1.1 404 N\r\nContent-Length: 0\r\n\r\n")?;
            Ok(true)
        },
        is_it: |error| matches!(error, TrustError::Missing(_)),
        says: "missing",
    },
    Way {
        name: "it says no",
        answer: |_, out| {
            out.write_all(b"HTTP/1.1 503 S\r\nContent-Length: 0\r\n\r\n")?;
            Ok(true)
        },
        is_it: |error| matches!(of_source(error), Some(FetchError::Status { status: 503, .. })),
        says: "answers 503",
    },
    Way {
        name: "it hangs up",
        answer: |_, _| Ok(false),
        is_it: |error| matches!(of_source(error), Some(FetchError::Io { .. })),
        says: "packs/",
    },
];

/// Ways after which the same server may be better in a while.
const PASSING: [&str; 3] = ["A29: cut short", "it says no", "it hangs up"];

/// Counts what a server gets rid of.
struct Counted<'a> {
    out: &'a mut dyn Out,
    bytes: &'a AtomicU64,
}

impl io::Write for Counted<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let count = self.out.write(buf)?;
        self.bytes.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Out for Counted<'_> {
    fn drip(&mut self) {
        self.out.drip();
    }

    fn take_body(&mut self, ask: &Ask) -> io::Result<Vec<u8>> {
        self.out.take_body(ask)
    }
}

/// The files below a directory, by their paths.
fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let (mut files, mut open) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(path) = open.pop() {
        match path.is_dir() {
            true => open.extend(fs::read_dir(path).unwrap().map(|item| item.unwrap().path())),
            false => {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                files.insert(name, fs::read(path).unwrap());
            }
        }
    }
    files
}

/// A server of a directory as it is now, which answers what begins with a prefix in its way.
fn server(world: &World, way: Option<(&'static Way, &str)>) -> (Server, Arc<AtomicU64>) {
    let way = way.map(|(way, prefix)| (way, prefix.to_owned()));
    let (files, bytes) = (files(&world.carried), Arc::<AtomicU64>::default());
    let counted = bytes.clone();
    let server = Server::new(move |ask, out| match &way {
        Some((way, prefix)) if ask.path.starts_with(prefix) => {
            (way.answer)(ask, &mut Counted { out, bytes: &counted })
        }
        _ => honest(&files, ask, out),
    });
    (server, bytes)
}

/// What comes of doing something while a server answers in its way.
fn bounded(
    world: &World,
    way: &'static Way,
    prefix: &str,
    attempt: impl FnOnce(&str) -> Result<(), PlayerError>,
) -> PlayerError {
    let (server, bytes) = server(world, Some((way, prefix)));
    let began = Instant::now();
    let error = attempt(&server.url()).expect_err(way.name);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(SECONDS_MAX), "{}: {took:?}", way.name);
    let written = bytes.load(Ordering::Relaxed);
    assert!(written < BYTES_MAX, "{}: {written} bytes", way.name);
    error
}

fn follow_and_update(world: &World, url: &str) -> Result<(), PlayerError> {
    world.follow(&[url]);
    world.update()
}

/// An endpoint that follows a feed, and all that it asks for.
#[test]
fn a26_a27_a28_a29_a30_a_hostile_server() {
    for way in WAYS {
        let mut world = World::new();
        world.author.publish(2);
        world.carry();
        let before = world.seen();
        let error = bounded(&world, way, "", |url| follow_and_update(&world, url));
        let PlayerError::Trust(error) = error else { panic!("{}: {error:?}", way.name) };
        assert!((way.is_it)(&error), "{}: {error:?}", way.name);
        assert!(world.seen() == before, "{}", way.name);
        follow_and_update(&world, &server(&world, None).0.url()).unwrap();
        assert_eq!(world.runs().version, 2, "{}", way.name);
        world.follow(&[&world.root()]);
        world.still_updates();
    }
}

/// The same, with all that is signed as it should be: no content arrives.
#[test]
fn a26_a27_a28_a29_a30_a_server_with_hostile_packs() {
    for way in WAYS {
        let mut world = World::new();
        world.author.publish(2);
        world.carry();
        let before = world.runs();
        let error = bounded(&world, way, "packs/", |url| follow_and_update(&world, url));
        let PlayerError::Block(error) = error else { panic!("{}: {error:?}", way.name) };
        assert!(error.to_string().contains(way.says), "{}: {error}", way.name);
        assert!(world.runs() == before, "{}", way.name);
        follow_and_update(&world, &server(&world, None).0.url()).unwrap();
        assert_eq!(world.runs().version, 2, "{}", way.name);
        world.follow(&[&world.root()]);
        world.still_updates();
    }
}

/// With an honest mirror behind it a hostile server is a delay and no more.
#[test]
fn a28_a29_a30_another_source_is_asked() {
    for way in WAYS {
        for prefix in ["", "packs/"] {
            let mut world = World::new();
            world.author.publish(2);
            world.carry();
            let (hostile, bytes) = server(&world, Some((way, prefix)));
            let (mirror, _) = server(&world, None);
            world.follow(&[&hostile.url(), &mirror.url()]);
            world.update().unwrap_or_else(|error| panic!("{}: {error:?}", way.name));
            assert!(bytes.load(Ordering::Relaxed) < BYTES_MAX, "{}", way.name);
            assert_eq!(world.runs().version, 2, "{}", way.name);
            world.follow(&[&world.root()]);
            world.still_updates();
        }
    }
}

/// Who subscribes at a hostile server has no subscription, and nothing is in the way of the next.
#[test]
fn a26_a27_a28_a29_a30_a_subscription_at_a_hostile_server() {
    let world = World::unfollowed();
    for way in WAYS {
        bounded(&world, way, "", |url| world.subscribe(&[url]));
        assert!(feeds::list(&world.home).unwrap().is_empty(), "{}", way.name);
    }
    world.subscribe(&[&server(&world, None).0.url()]).unwrap();
    assert_eq!(feeds::current(&world.home, FEED).unwrap(), Some(1));
}

/// With a mirror, who subscribes does not notice.
#[test]
fn a28_a29_a30_a_subscription_with_a_mirror() {
    for way in WAYS {
        let world = World::unfollowed();
        let (hostile, _) = server(&world, Some((way, "")));
        let (mirror, _) = server(&world, None);
        let subscribed = world.subscribe(&[&hostile.url(), &mirror.url()]);
        subscribed.unwrap_or_else(|error| panic!("{}: {error:?}", way.name));
        assert_eq!(feeds::current(&world.home, FEED).unwrap(), Some(1), "{}", way.name);
    }
}

/// A disk that is read before it has arrived, from a server that turns hostile: an error each time,
/// and what an honest one gives is what was published. What passes is waited for much longer, and is
/// not tried here.
#[test]
fn a26_a27_a28_a30_a_disk_while_it_arrives() {
    let pack = |world: &World| {
        let map = world.author.newest().image.map.name().unwrap().to_string();
        let map = fs::read(world.carried.join("maps").join(map)).unwrap();
        format!("packs/{}", WireMap::from_bytes(&map).unwrap().packs[0].name)
    };
    let read = |world: &World| {
        let device = world.home.images().unwrap().open(FEED, None).unwrap().device().unwrap();
        let mut block = vec![0; BLOCK_SIZE as usize];
        device.read_at(ByteOffset(0), &mut block).map(|()| block)
    };
    for way in WAYS.iter().filter(|way| !PASSING.contains(&way.name)) {
        let world = World::unfollowed();
        let error = bounded(&world, way, &pack(&world), |url| {
            world.subscribe(&[url])?;
            read(&world).map(drop).map_err(PlayerError::from)
        });
        assert!(matches!(error, PlayerError::Block(_)), "{}: {error:?}", way.name);
        world.follow(&[&server(&world, None).0.url()]);
        assert!(read(&world).unwrap() == content(0, blocks(1)[&0]), "{}", way.name);
    }
}
