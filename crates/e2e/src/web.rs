//! A web server that knows nothing of Goldleaf (nginx), and a link to it that is slow and far.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::error::HarnessError;

/// How long nginx may take to listen.
const START: Duration = Duration::from_secs(20);
/// How late a thread may wake up.
const LATE: Duration = Duration::from_millis(20);
/// Bytes that go over a link at once.
const PIECE: usize = 16 << 10;

/// nginx over a directory, on a free port of the loopback.
pub struct Nginx {
    process: Child,
    port: u16,
    _dir: TempDir,
}

impl Nginx {
    /// Serves the files of a directory.
    pub fn serve(root: &Path) -> Result<Self, HarnessError> {
        let dir = tempfile::tempdir()?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let own = dir.path().display();
        let root = root.display();
        let config = format!(
            "daemon off; master_process off; pid {own}/pid; error_log stderr; user root;
             events {{ }}
             http {{
               access_log off; client_body_temp_path {own}; proxy_temp_path {own};
               fastcgi_temp_path {own}; uwsgi_temp_path {own}; scgi_temp_path {own};
               server {{ listen 127.0.0.1:{port}; root {root}; }}
             }}"
        );
        let file = dir.path().join("nginx.conf");
        fs::write(&file, config)?;
        let mut command = Command::new("/usr/sbin/nginx");
        command.arg("-c").arg(&file).arg("-p").arg(dir.path());
        let process =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let nginx = Self { process, port, _dir: dir };
        let begun = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if begun.elapsed() > START {
                let said = "it does not listen".into();
                return Err(HarnessError::Tool { program: "nginx", said });
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(nginx)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A link to a port of the loopback, as long as it lives: what goes up takes a round trip's time,
/// what comes down shares one rate.
pub struct Link {
    port: u16,
    state: Arc<LinkState>,
}

struct LinkState {
    target: u16,
    delay: Duration,
    /// Bytes in a second.
    rate: u64,
    /// When the line is free again.
    free: Mutex<Instant>,
    carried: AtomicU64,
    cut: AtomicBool,
}

impl Link {
    /// A link of so many bytes in a second.
    pub fn to(target: u16, delay: Duration, rate: u64) -> Result<Self, HarnessError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let state = LinkState {
            target,
            delay,
            rate,
            free: Mutex::new(Instant::now()),
            carried: AtomicU64::new(0),
            cut: AtomicBool::new(false),
        };
        let state = Arc::new(state);
        let link = Self { port, state: state.clone() };
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let state = state.clone();
                thread::spawn(move || state.carry(stream));
            }
        });
        Ok(link)
    }

    /// The port of the near end.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Bytes that came down so far.
    pub fn carried(&self) -> u64 {
        self.state.carried.load(Ordering::Relaxed)
    }

    /// Takes the link away, or gives it back.
    pub fn cut(&self, cut: bool) {
        self.state.cut.store(cut, Ordering::Relaxed);
    }
}

impl LinkState {
    /// Carries a connection to its end; what breaks is the network's, and its ends notice.
    fn carry(&self, near: TcpStream) {
        if self.cut.load(Ordering::Relaxed) {
            return;
        }
        let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, self.target)) else { return };
        let (Ok(near_too), Ok(far_too)) = (near.try_clone(), far.try_clone()) else { return };
        thread::scope(|scope| {
            scope.spawn(|| self.pump(near_too, far_too, false));
            self.pump(far, near, true);
        });
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream, is_down: bool) {
        let mut buf = vec![0; PIECE];
        loop {
            let count = match from.read(&mut buf) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) | Ok(0) => break,
                Ok(count) => count,
            };
            match is_down {
                true => self.wait_for_the_line(count as u64),
                false => thread::sleep(self.delay),
            }
            if self.cut.load(Ordering::Relaxed) || to.write_all(&buf[..count]).is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }

    fn wait_for_the_line(&self, bytes: u64) {
        let until = {
            let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
            let takes = Duration::from_secs_f64(bytes as f64 / self.rate as f64);
            // Who woke up late makes up for it: the line did not wait.
            let now = Instant::now();
            *free = (*free).max(now.checked_sub(LATE).unwrap_or(now)) + takes;
            *free
        };
        thread::sleep(until.saturating_duration_since(Instant::now()));
        self.carried.fetch_add(bytes, Ordering::Relaxed);
    }
}
