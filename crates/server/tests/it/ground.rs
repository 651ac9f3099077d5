//! A server that runs in this process, whom its tests ask as anybody else would.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use goldleaf_api::v1::{
    Begin, Beginning, CheckIn, CheckedIn, CheckingIn, CodeWanted, CreateCode, CreateGroup, Enrol,
    Enrolled, Enrolling, GroupNamed, Step,
};
use goldleaf_api::{Call, Code};
use goldleaf_client::{ClientError, Key, Server, Whom, meet};
use goldleaf_host::{Clock, RealClock, RealDir, RealEntropy};
use goldleaf_server::{Log, Options, Stop, run};
use serde_json::Value;
use tempfile::TempDir;

use crate::postgres;

/// Which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Sqlite,
    Postgres,
}

/// Runs a test on both.
pub fn on_both(test: impl Fn(Ground)) {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        eprintln!("on {kind:?}");
        test(Ground::new(kind));
    }
}

/// A clock that is put forward.
pub struct Turned {
    clock: RealClock,
    ahead: AtomicU64,
}

impl Turned {
    pub fn put_on(&self, secs: u64) {
        self.ahead.fetch_add(secs, Ordering::Relaxed);
    }
}

impl Clock for Turned {
    fn now_unix(&self) -> Duration {
        self.clock.now_unix() + Duration::from_secs(self.ahead.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    fn sleep(&self, duration: Duration) {
        self.clock.sleep(duration);
    }
}

struct Aloud;

impl Log for Aloud {
    fn tell(&self, line: &Value) {
        eprintln!("{line}");
    }
}

/// A server, and its first administrator.
pub struct Ground {
    pub dir: TempDir,
    pub database: String,
    pub clock: Arc<Turned>,
    pub running: Running,
    pub admin: Server,
    /// The administrator's token, which has the server's fingerprint as well.
    pub token: Code,
}

/// A server that runs.
pub struct Running {
    pub base: String,
    pub begin: Option<Code>,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.stop();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking());
        }
    }
}

/// Starts a server.
pub fn start(dir: &Path, database: &str, clock: Arc<Turned>) -> Running {
    let options = Options {
        organisation: "acme".into(),
        database: database.into(),
        dir: RealDir::create(dir).expect("a directory"),
        names: vec!["localhost".into(), "127.0.0.1".into()],
        clock,
        entropy: Arc::new(RealEntropy),
        log: Arc::new(Aloud),
    };
    let (stop, (told, hear)) = (Stop::default(), mpsc::channel());
    let stopped = stop.clone();
    let thread = std::thread::spawn(move || {
        let ready = |answering: &goldleaf_server::Answering| {
            told.send((answering.address, answering.begin.clone())).expect("told");
        };
        run(options, ([127, 0, 0, 1], 0).into(), &stopped, ready).expect("a server");
    });
    let (address, begin) = hear.recv().expect("a server that answers");
    Running {
        base: format!("https://localhost:{}", address.port()),
        begin,
        stop,
        thread: Some(thread),
    }
}

impl Ground {
    pub fn new(kind: Kind) -> Self {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let database = match kind {
            Kind::Sqlite => format!("sqlite:{}?mode=rwc", dir.path().join("db").display()),
            Kind::Postgres => postgres::database(),
        };
        let clock = Arc::new(Turned { clock: RealClock::new(), ahead: AtomicU64::new(0) });
        let running = start(dir.path(), &database, clock.clone());
        let code = running.begin.clone().expect("nobody governs it yet");
        let authorities = meet(&running.base, &code).expect("the server").certificates;
        let beginning = Beginning { code: code.to_string(), name: "ada".into() };
        let anybody = Server::new(&running.base, &authorities, Whom::Anybody).expect("a client");
        let token = anybody.call::<Begin>(&beginning).expect("the first administrator").token;
        let admin = Server::new(&running.base, &authorities, Whom::Token(&token)).expect("admin");
        let token = token.parse().expect("a token");
        Self { dir, database, clock, running, admin, token }
    }

    pub fn authorities(&self) -> Vec<String> {
        meet(&self.running.base, &self.token).expect("the server").certificates
    }

    pub fn anybody(&self) -> Server {
        Server::new(&self.running.base, &self.authorities(), Whom::Anybody).expect("a client")
    }

    pub fn as_token(&self, token: &str) -> Server {
        Server::new(&self.running.base, &self.authorities(), Whom::Token(token)).expect("a client")
    }

    pub fn group(&self, name: &str) {
        self.admin.call::<CreateGroup>(&GroupNamed { group: name.into() }).expect("a group");
    }

    pub fn code(&self, group: &str, approval: bool) -> String {
        let wanted = CodeWanted { group: group.into(), hours: None, approval };
        self.admin.call::<CreateCode>(&wanted).expect("a code").code
    }

    /// An endpoint of a group.
    pub fn endpoint(&self, group: &str) -> Machine {
        let mut machine = Machine::new(&self.code(group, false));
        machine.enrol(self).expect("enrolled");
        machine
    }
}

/// A machine that is an endpoint, or is to be one.
#[derive(Clone)]
pub struct Machine {
    pub code: String,
    pub key: String,
    pub enrolled: Option<Enrolled>,
    pub step: Step,
    pub tag: Option<String>,
}

impl Machine {
    pub fn new(code: &str) -> Self {
        let key = Key::new().expect("a key").pem();
        let step = Step { before: None, now: "0".into() };
        Self { code: code.into(), key, enrolled: None, step, tag: None }
    }

    pub fn csr(&self) -> String {
        Key::from_pem(&self.key).expect("a key").csr().expect("a request")
    }

    pub fn enrol(&mut self, ground: &Ground) -> Result<Enrolled, ClientError> {
        let (code, csr) = (self.code.clone(), self.csr());
        let enrolling = Enrolling { code, csr, name: "a machine".into() };
        let enrolled = ground.anybody().call::<Enrol>(&enrolling)?;
        self.enrolled = Some(enrolled.clone());
        Ok(enrolled)
    }

    pub fn id(&self) -> String {
        self.enrolled.as_ref().expect("enrolled").endpoint.clone()
    }

    pub fn call<C: Call>(
        &self,
        ground: &Ground,
        request: &C::Request,
    ) -> Result<C::Answer, ClientError> {
        let enrolled = self.enrolled.as_ref().expect("enrolled");
        let certificate = enrolled.certificate.as_ref().expect("let in");
        let whom = Whom::Endpoint { certificate, key: &self.key };
        Server::new(&ground.running.base, &ground.authorities(), whom)?.call::<C>(request)
    }

    pub fn check_in(&mut self, ground: &Ground) -> Result<CheckedIn, ClientError> {
        let (step, known) = (self.step.clone(), self.tag.clone());
        let request = CheckingIn { step, known, report: None, done: Vec::new() };
        let checked_in = self.call::<CheckIn>(ground, &request)?;
        self.tag = Some(checked_in.tag.clone());
        Ok(checked_in)
    }

    pub fn step_on(&mut self) {
        let before = self.step.now.clone();
        let drawn = Key::new().expect("randomness").pem().len() as u64 + before.len() as u64;
        self.step = Step { now: format!("{before}{drawn:x}.")[..].into(), before: Some(before) };
        self.step.now.truncate(60);
    }
}
