//! Hears what the product tells of a session, and looks at the session's disk before it is filed.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use goldleaf_block::{ReadBlocks, SessionDevice};
use goldleaf_host::{Progress, RealDir};
use goldleaf_player::Home;
use goldleaf_player::desktop::{self, Event, Listener, SessionView, Stack};
use goldleaf_player::machine::MachineNews;

use crate::disk::check_snapshot;
use crate::error::HarnessError;

/// What the product says right before it reads a session back.
const HARVEST_BEGINS: &str = "reading the session's changes";

/// Records events.
pub struct Watcher {
    home: Home,
    desktop: Option<String>,
    events: Mutex<Vec<Event>>,
    heard: Condvar,
    trouble: Mutex<Option<String>>,
}

impl Watcher {
    /// For a desktop's session, or for the workshop.
    pub fn new(home: &Home, desktop: Option<&str>) -> Self {
        Self {
            home: home.clone(),
            desktop: desktop.map(str::to_owned),
            events: Mutex::default(),
            heard: Condvar::new(),
            trouble: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Event>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that was told.
    pub fn events(&self) -> Vec<Event> {
        self.lock().clone()
    }

    /// The same, to be shown.
    pub fn shown(&self) -> String {
        let mut text = String::new();
        for event in self.lock().iter() {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {event:?}");
        }
        text
    }

    /// Waits until the machine was started, and gives its process id. `None` when it takes longer.
    pub fn started(&self, timeout: Duration) -> Option<u32> {
        let pid = |events: &Vec<Event>| {
            events.iter().find_map(|event| match event {
                Event::Machine(MachineNews::Started { pid }) => Some(*pid),
                _ => None,
            })
        };
        let (events, _) = self
            .heard
            .wait_timeout_while(self.lock(), timeout, |events| pid(events).is_none())
            .unwrap_or_else(PoisonError::into_inner);
        pid(&events)
    }

    /// What the looks at the session's disk found wrong.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A copy of the session is opened and checked: the session itself is in use.
    fn look(&self, name: &str) -> Result<(), HarnessError> {
        let record = desktop::peek(&self.home, name)?;
        let Some(session) = &record.session else { return Ok(()) };
        let dir = desktop::directory(&self.home, name)?;
        let versions = record.session_versions(&self.home, session)?;
        let stack = Stack::open(&self.home, &dir, &versions)?;
        let (composed, _) = desktop::compose(&self.home, &dir, &stack, &Silent)?;
        let own = dir.path().map(Path::to_owned).unwrap_or_default();
        let copy = tempfile::tempdir()?;
        let to = copy_dir(&own.join("sessions").join(session.number.to_string()), copy.path())?;
        let base = Arc::new(composed.device()?);
        let (device, _) =
            SessionDevice::open(RealDir::create(&to)?, base, &composed.facts.digest.0)?;
        let view = SessionView::new(&composed, &device)?;
        let disk: Arc<dyn ReadBlocks> = Arc::new(view.device);
        check_snapshot(&disk, &stack.volumes()?)
    }
}

fn copy_dir(from: &Path, to: &Path) -> Result<PathBuf, HarnessError> {
    let to = to.join("session");
    let mut command = Command::new("cp");
    let output = command.args(["-a", "--sparse=always", "--"]).arg(from).arg(&to).output()?;
    if output.status.success() {
        return Ok(to);
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(HarnessError::Tool { program: "cp", said })
}

impl Progress for Watcher {
    fn at(&self, what: &str, _done: u64, _total: u64) {
        if let Some(name) = self.desktop.as_ref().filter(|_| what == HARVEST_BEGINS)
            && let Err(error) = self.look(name)
        {
            let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
            trouble.get_or_insert(format!("the session's disk: {error}"));
        }
    }
}

impl Listener for Watcher {
    fn event(&self, event: &Event) {
        self.lock().push(event.clone());
        self.heard.notify_all();
    }
}

/// Hears nothing.
pub struct Silent;

impl Progress for Silent {
    fn at(&self, _what: &str, _done: u64, _total: u64) {}
}
