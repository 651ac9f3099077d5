//! The agent: what goes on while nobody waits for it. It brings new versions.
//!
//! ```text
//!   commands ── api: control.rs ──▶ Agent ◀── rounds ── one subscription after the other
//!                                  (board)  ▲     └──▶ feeds: export for neighbours, update
//!                                           └── following ──▶ enrolment: check in, subscribe
//! ```
//! There is one for a home, and nothing needs it: each command does by itself what it can. So it
//! gives way: a command that wants a subscription gets it, and a guest whose disk still arrives gets
//! the link; what was brought so far stays, and it goes on where it was. A running desktop is never
//! disturbed: a new version is what starts next.

mod following;
mod rounds;
mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use goldleaf_fetch::Rate;
use serde::{Deserialize, Serialize};

use crate::control::{Answer, Pending, ask, listen};
use crate::{Home, PlayerError};

pub use following::ServerLine;
pub use rounds::MIRROR;
pub use settings::Settings;

const SOCKET: &str = "agent.sock";
const LOCK: &str = "agent.lock";
/// How soon it answers, and ends when it is to.
const TICK: Duration = Duration::from_millis(50);
/// How long it leaves a subscription alone that somebody asked for.
const GIVEN_WAY: Duration = Duration::from_secs(10);

/// What the agent can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum Request {
    /// How it is: [`AgentStatus`].
    Status,
    /// Look now what is new of these subscriptions, or of all and at the control server.
    Update {
        /// Names; none for all.
        names: Vec<String>,
    },
    /// Let go of a subscription for a while.
    GiveWay {
        /// Its name.
        name: String,
    },
    /// Read the settings again.
    Reload,
    /// End.
    Stop,
}

/// What the agent does about a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Doing {
    /// Nothing, until it is time again.
    Waiting,
    /// It asks, and brings what is new.
    Bringing,
    /// It waits until a guest's disk has arrived, or until a command is done.
    GivingWay,
}

/// How a subscription is with the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The subscription.
    pub subscription: String,
    /// What is done about it.
    pub doing: Doing,
    /// The version that starts next, as far as the agent has seen.
    pub version: Option<u64>,
    /// Bytes of the image that is being brought, or was brought last: those that are here.
    pub here_bytes: u64,
    /// All of them.
    pub all_bytes: u64,
    /// Unix time at which it was last asked what is new, in seconds.
    pub asked_unix_secs: Option<u64>,
    /// Unix time at which it is asked next, in seconds.
    pub next_unix_secs: u64,
    /// What went wrong the last time.
    pub error: Option<String>,
}

/// How the agent is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// Its process.
    pub pid: u32,
    /// Unix time of its beginning, in seconds.
    pub since_unix_secs: u64,
    /// What it keeps to.
    pub settings: Settings,
    /// By name.
    pub subscriptions: Vec<Line>,
    /// How it goes with the control server; `None` where this machine is not enrolled.
    pub server: Option<ServerLine>,
}

/// What threads tell each other.
struct Board {
    settings: Settings,
    lines: BTreeMap<String, Line>,
    /// Subscriptions that somebody wants to be looked at now.
    wanted: BTreeSet<String>,
    /// Subscriptions that are left alone, and until when, by the clock's monotonic time.
    left_alone: BTreeMap<String, Duration>,
    /// How it goes with the control server.
    server: Option<ServerLine>,
    /// Somebody wants it to be asked now.
    is_server_wanted: bool,
    /// Bytes that were here of disks that guests wait for, and since when it is that many.
    streamed: (Option<u64>, Duration),
}

/// An agent that runs.
struct Agent<'a> {
    home: Home,
    since_unix_secs: u64,
    rate: Arc<Rate>,
    stop: &'a AtomicBool,
    board: Mutex<Board>,
}

/// Runs the agent of a home until it is told to stop, by a request or by `stop`. `ready` is called
/// once it answers.
pub fn run(home: &Home, stop: &AtomicBool, ready: impl FnOnce()) -> Result<(), PlayerError> {
    let lock = home.dir.try_lock(LOCK).map_err(PlayerError::io("locking the agent"))?;
    let _lock = lock.ok_or_else(|| PlayerError::Refused("an agent runs already".into()))?;
    let socket = socket(home).ok_or_else(|| {
        PlayerError::Refused("an agent needs a home on a real file system".into())
    })?;
    forget(&socket)?;
    let settings = Settings::read(home)?;
    let rate = Rate::new(home.clock.clone(), settings.rate);
    let board = Board {
        settings,
        lines: BTreeMap::new(),
        wanted: BTreeSet::new(),
        left_alone: BTreeMap::new(),
        server: None,
        is_server_wanted: false,
        streamed: (None, Duration::ZERO),
    };
    let agent = Agent {
        home: Home { rate: Some(rate.clone()), ..home.clone() },
        since_unix_secs: home.now_unix_secs(),
        rate,
        stop,
        board: Mutex::new(board),
    };
    let requests = listen(&socket)?;
    ready();
    std::thread::scope(|scope| {
        scope.spawn(|| agent.rounds());
        scope.spawn(|| agent.following());
        agent.answer(&requests);
    });
    forget(&socket)
}

/// Asks the agent of a home; `None` when none runs.
pub fn request(home: &Home, request: &Request) -> Result<Option<Answer>, PlayerError> {
    match socket(home) {
        Some(socket) => ask(&socket, request),
        None => Ok(None),
    }
}

/// How the agent of a home is; `None` when none runs.
pub fn status(home: &Home) -> Result<Option<AgentStatus>, PlayerError> {
    match request(home, &Request::Status)? {
        None => Ok(None),
        Some(Answer::Failed(why)) => Err(PlayerError::Refused(why)),
        Some(Answer::Done(value)) => serde_json::from_value(value)
            .map(Some)
            .map_err(|error| PlayerError::corrupt("the agent's answer", error.to_string())),
    }
}

/// Asks an agent to let go of a subscription; whether one runs that does.
pub(crate) fn give_way(home: &Home, name: &str) -> Result<bool, PlayerError> {
    let request_it = Request::GiveWay { name: name.into() };
    Ok(matches!(request(home, &request_it)?, Some(Answer::Done(_))))
}

fn socket(home: &Home) -> Option<PathBuf> {
    home.dir.path().map(|path| path.join(SOCKET))
}

/// Takes a socket away that nobody listens at any more.
fn forget(socket: &std::path::Path) -> Result<(), PlayerError> {
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(PlayerError::io("clearing a socket")(error))
        }
        _ => Ok(()),
    }
}

impl Agent<'_> {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Answers requests until it is over.
    fn answer(&self, requests: &Receiver<Pending<Request>>) {
        while !self.is_over() {
            match requests.try_recv() {
                Ok(pending) => {
                    let answer = self.answer_one(&pending.request);
                    pending.answer(answer);
                }
                Err(_) => self.home.clock.sleep(TICK),
            }
        }
    }

    fn answer_one(&self, request: &Request) -> Answer {
        let done = Answer::Done(serde_json::Value::Null);
        match request {
            Request::Status => {
                let status = self.status();
                serde_json::to_value(status)
                    .map_or_else(|error| Answer::Failed(error.to_string()), Answer::Done)
            }
            Request::Update { names } => match self.want(names) {
                Ok(()) => {
                    self.board().is_server_wanted |= names.is_empty();
                    done
                }
                Err(error) => Answer::Failed(error.to_string()),
            },
            Request::GiveWay { name } => {
                let until = self.home.clock.monotonic() + GIVEN_WAY;
                self.board().left_alone.insert(name.clone(), until);
                done
            }
            Request::Reload => match Settings::read(&self.home) {
                Ok(settings) => {
                    self.rate.set(settings.rate);
                    self.board().settings = settings;
                    done
                }
                Err(error) => Answer::Failed(error.to_string()),
            },
            Request::Stop => {
                self.stop.store(true, Ordering::Relaxed);
                done
            }
        }
    }

    fn status(&self) -> AgentStatus {
        let board = self.board();
        AgentStatus {
            pid: std::process::id(),
            since_unix_secs: self.since_unix_secs,
            settings: board.settings.clone(),
            subscriptions: board.lines.values().cloned().collect(),
            server: board.server.clone(),
        }
    }
}
