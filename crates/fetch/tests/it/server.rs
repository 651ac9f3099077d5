//! A web server that answers whatever a test says.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A connection's way out.
pub trait Out: Write {
    /// From now on one byte at a time, fifty in a second.
    fn drip(&mut self);
    /// Reads the body of a request.
    fn take_body(&mut self, ask: &Ask) -> io::Result<Vec<u8>>;
}

pub fn take_body(stream: &mut impl Read, ask: &Ask) -> io::Result<Vec<u8>> {
    let head = ask.head.to_ascii_lowercase();
    let len = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; len.parse().unwrap()];
    stream.read_exact(&mut body).map(|()| body)
}

/// A request.
#[derive(Clone)]
pub struct Ask {
    /// Which one it is, of all that the server got.
    pub number: usize,
    pub path: String,
    /// First and last byte.
    pub range: Option<(usize, usize)>,
    pub head: String,
}

/// Answers a request; whether the connection stays open.
type Handler = dyn Fn(&Ask, &mut dyn Out) -> io::Result<bool> + Send + Sync;

pub struct Server {
    pub port: u16,
    pub connections: Arc<AtomicUsize>,
    pub asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub fn new(
        handler: impl Fn(&Ask, &mut dyn Out) -> io::Result<bool> + Send + Sync + 'static,
    ) -> Self {
        Self::over(|wire| Box::new(wire), handler)
    }

    /// With something between the handler and each connection.
    pub fn over(
        wrap: impl Fn(Wire) -> Box<dyn Stream> + Send + Sync + 'static,
        handler: impl Fn(&Ask, &mut dyn Out) -> io::Result<bool> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (connections, asked) = (Arc::<AtomicUsize>::default(), Arc::default());
        let server =
            Self { port, connections: Arc::clone(&connections), asked: Arc::clone(&asked) };
        let (handler, wrap): (Arc<Handler>, _) = (Arc::new(handler), Arc::new(wrap));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                connections.fetch_add(1, Ordering::SeqCst);
                let (wrap, handler, asked) = (wrap.clone(), Arc::clone(&handler), asked.clone());
                // A client that goes away is an error here, and what the tests are about.
                thread::spawn(move || {
                    let wire = Wire { stream, drips: false };
                    let _ = serve(wrap(wire), &*handler, &asked);
                });
            }
        });
        server
    }

    /// With the same bytes to every request, after which the connection is closed.
    pub fn saying(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self::new(move |_, out| out.write_all(&bytes).map(|()| false))
    }

    /// With files, and an understanding of ranges.
    pub fn with_files(files: BTreeMap<String, Vec<u8>>) -> Self {
        Self::new(move |ask, out| honest(&files, ask, out))
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

pub fn honest(files: &BTreeMap<String, Vec<u8>>, ask: &Ask, out: &mut dyn Out) -> io::Result<bool> {
    let Some(file) = files.get(&ask.path) else {
        out.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone")?;
        return Ok(true);
    };
    let all = file.len();
    match ask.range {
        None => {
            write!(out, "HTTP/1.1 200 OK\r\nContent-Length: {all}\r\n\r\n")?;
            out.write_all(file)?;
        }
        Some((first, _)) if first >= all => {
            write!(out, "HTTP/1.1 416 No\r\nContent-Range: bytes */{all}\r\n")?;
            write!(out, "Content-Length: 0\r\n\r\n")?;
        }
        Some((first, last)) => {
            let last = last.min(all - 1);
            write!(
                out,
                "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\n",
                last - first + 1
            )?;
            write!(out, "Content-Range: bytes {first}-{last}/{all}\r\n\r\n")?;
            out.write_all(&file[first..=last])?;
        }
    }
    Ok(true)
}

/// A connection as a server has it.
pub trait Stream: Read + Out {
    /// Its way out.
    fn out(&mut self) -> &mut dyn Out;
}

impl<T: Read + Out> Stream for T {
    fn out(&mut self) -> &mut dyn Out {
        self
    }
}

/// A connection, below all else.
pub struct Wire {
    stream: TcpStream,
    pub drips: bool,
}

impl Read for Wire {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buf)
    }
}

impl Write for Wire {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if !self.drips {
            return self.stream.write(buf);
        }
        thread::sleep(Duration::from_millis(20));
        self.stream.write(&buf[..buf.len().min(1)])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

impl Out for Wire {
    fn drip(&mut self) {
        self.drips = true;
    }

    fn take_body(&mut self, ask: &Ask) -> io::Result<Vec<u8>> {
        take_body(self, ask)
    }
}

fn serve(
    mut stream: Box<dyn Stream>,
    handler: &Handler,
    asked: &Mutex<Vec<String>>,
) -> io::Result<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let path = head.split([' ', '?']).nth(1).unwrap().trim_start_matches('/').to_string();
        let number = {
            let mut asked = asked.lock().unwrap();
            asked.push(path.clone());
            asked.len() - 1
        };
        let range = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            let range = value.strip_prefix("bytes=")?.split_once('-')?;
            name.eq_ignore_ascii_case("range")
                .then(|| (range.0.parse().unwrap(), range.1.parse().unwrap()))
        });
        let stays = handler(&Ask { number, path, range, head }, stream.out())?;
        stream.flush()?;
        if !stays {
            return Ok(());
        }
    }
}
