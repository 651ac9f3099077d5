//! Sessions: from power-on to power-off.
//!
//! ```text
//!   (none) ── begin: compose, new log ──▶ open ── guest shut down ──▶ ended ── file ──▶ (none)
//!                                          │  ▲
//!                          cut off: killed, │  │ next start goes on where the guest was;
//!                          panic, power cut ▼  │ it recovers its own journal
//!                                          open
//! ```
//! Each arrow is one write of the root record. What a crash leaves between two of them is made
//! again or removed at the next start.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;

use goldleaf_block::{SessionDevice, SessionId, WriteBlocks};
use goldleaf_host::{Dir, Progress, Silent, planted};
use goldleaf_image::Arrived;
use goldleaf_layer::Kind;
use goldleaf_layer::classify::Summary;
use goldleaf_layer::plan::Outcome;
use goldleaf_vm::{
    Accel, AfterReboot, Forward, Hardware, Mac, Machine, Network, Probe, QEMU_BINARY, SessionEnd,
};
use goldleaf_worker::protocol::{Fate, HarvestMode, Item};
use serde::{Deserialize, Serialize};

use super::compose::{Composed, compose, recompose};
use super::filing::{Filer, Filing};
use super::filling::Filling;
use super::harvest::{Harvest, Harvested, SessionView, records_by_layer};
use super::identity::describe;
use super::record::{FiledReport, HardwareIdentity, Hex, SessionRecord, SessionState};
use super::stack::{Stack, StackVersions, StoreName};
use super::trial::{self, Watched};
use super::{Desktop, directory};
use crate::control::{Answer, Request, ask, listen};
use crate::home::step;
use crate::machine::{MachineNews, MachineSpec, Owner, display};
use crate::{Home, PlayerError};

/// Panics in a row after which a session is filed and reset instead of continued.
const PANICS_MAX: u32 = 2;

/// What is said of that.
const PANICKED: &str = "the guest panicked at its last starts; what is to be kept was filed, and \
                        its system reset";

/// What is said of an unfinished session of a version that was given up.
const GIVEN_UP: &str = "the unfinished session was of a version that did not come up; what is to \
                        be kept was filed, and its system reset";

/// What is said of a guest that went to sleep on its disk.
const HIBERNATED: &str = "the guest hibernated: its session is not filed, and goes on at the next \
                          start";

/// What is told while a desktop starts, runs and ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// What runs the guest, and why not something faster.
    Accel(String),
    /// The disk is composed and served from the cache or anew.
    Ready {
        /// Entries that stand over the image.
        entries: u64,
        /// Milliseconds from the beginning.
        took_ms: u64,
    },
    /// An unfinished session goes on.
    Continuing {
        /// Its number.
        session: u64,
    },
    /// What the machine does.
    Machine(MachineNews),
    /// A session was filed.
    Filed(FiledReport),
    /// Something that a person should know.
    Note(String),
}

/// Hears what happens and how far long work has come.
pub trait Listener: Progress {
    /// Something happened.
    fn event(&self, event: &Event);
}

impl Listener for Silent {
    fn event(&self, _event: &Event) {}
}

/// How a desktop is started.
#[derive(Debug, Clone, Default)]
pub struct StartOptions {
    /// Without a window.
    pub headless: bool,
    /// What is to run the guest, instead of what the probe finds.
    pub accel: Option<Accel>,
    /// Drops an unfinished session instead of continuing it.
    pub discard_session: bool,
    /// Doors from the host into the guest.
    pub forwards: Vec<Forward>,
}

/// How a start ended.
#[derive(Debug, Clone)]
pub struct Started {
    /// How the session ended.
    pub end: SessionEnd,
    /// What was filed, when it was.
    pub filed: Option<FiledReport>,
}

/// A session under way: its disk and what it stands on.
pub struct Live {
    stack: Stack,
    composed: Composed,
    device: Arc<SessionDevice>,
    /// The edition that it stands on, while that is on trial.
    on_trial: Option<u64>,
    /// What has not arrived of the image comes meanwhile.
    _filling: Option<Filling>,
}

/// Runs a desktop until its session ends, and files it.
pub fn start(
    home: &Home,
    name: &str,
    options: &StartOptions,
    listener: &dyn Listener,
) -> Result<Started, PlayerError> {
    let mut desktop = Desktop::open_soon(home, name)?;
    let accel = match options.accel {
        Some(accel) => accel,
        None => probe(home, listener)?,
    };
    let run = run_directory(&desktop.dir)?;
    let requests = listen(&fresh_socket(&run)?)?;
    let live = Live::open(home, &mut desktop, options.discard_session, listener)?;
    // Not before: which hardware it is may have been settled with the session.
    let spec = machine(home, &desktop, options, accel, run)?;
    let mut owner = SessionOwner {
        home,
        desktop: &mut desktop,
        live: None,
        watched: None,
        told_percent: 0,
        listener,
    };
    let disk = owner.take(live);
    let end = home.hypervisor.run(disk, &spec, home.clock.clone(), &requests, &mut owner)?;
    let live = owner.live.take();
    let filed = finish(home, &mut desktop, live, &end, listener)?;
    Ok(Started { end, filed })
}

/// What a machine of a desktop is made of.
fn machine(
    home: &Home,
    desktop: &Desktop,
    options: &StartOptions,
    accel: Accel,
    run: PathBuf,
) -> Result<MachineSpec, PlayerError> {
    let livepc = crate::livepc::get(home, &desktop.record.livepc)?;
    let identity = &desktop.record.hardware;
    let size = (livepc.memory_mib, livepc.cpus);
    let hardware = describe_machine(&desktop.record.name, identity, size, options)?;
    Ok(MachineSpec {
        hardware,
        disk_serial: identity.disk_serial.clone(),
        accel,
        after_reboot: AfterReboot::EndsSession,
        run,
    })
}

fn parse_mac(text: &str) -> Option<Mac> {
    let parts = text.split(':').map(|part| u8::from_str_radix(part, 16));
    let bytes: Vec<u8> = parts.collect::<Result<_, _>>().ok()?;
    Some(Mac(bytes.try_into().ok()?))
}

/// A machine that is nobody's in particular: its hardware and the serial number of its disk.
pub fn hardware(
    home: &Home,
    name: &str,
    memory_mib: u32,
    cpus: u32,
    options: &StartOptions,
) -> Result<(Hardware, String), PlayerError> {
    let identity = super::identity::hardware(home)?;
    let hardware = describe_machine(name, &identity, (memory_mib, cpus), options)?;
    Ok((hardware, identity.disk_serial))
}

fn describe_machine(
    name: &str,
    identity: &HardwareIdentity,
    (memory_mib, cpus): (u32, u32),
    options: &StartOptions,
) -> Result<Hardware, PlayerError> {
    let mac = parse_mac(&identity.mac).ok_or_else(|| {
        PlayerError::corrupt("record.json", format!("the address {:?}", identity.mac))
    })?;
    Ok(Hardware {
        name: name.into(),
        uuid: identity.uuid.clone(),
        mac,
        memory_mib,
        cpus,
        machine: Machine::default(),
        firmware: goldleaf_vm::Firmware::Bios,
        display: display(options.headless),
        network: Network::User { isolated: false, forwards: options.forwards.clone() },
        clock_is_local: false,
    })
}

/// What this machine can run guests with, told to the listener.
pub fn probe(home: &Home, listener: &dyn Listener) -> Result<Accel, PlayerError> {
    let probe = goldleaf_vm::probe(QEMU_BINARY.as_ref(), home.clock.as_ref())?;
    let said = match &probe {
        Probe::Kvm => "hardware virtualisation (KVM)".to_string(),
        Probe::Tcg { why } => format!("emulation (TCG), which is slow: {why}"),
    };
    listener.event(&Event::Accel(said));
    Ok(probe.accel())
}

/// The directory of a desktop's sockets.
pub fn run_directory(desktop: &Arc<dyn Dir>) -> Result<PathBuf, PlayerError> {
    let run = desktop.create_dir("run").map_err(PlayerError::io("making a run directory"))?;
    run.path().map(Into::into).ok_or_else(|| {
        PlayerError::Refused("a virtual machine needs a home on a real file system".into())
    })
}

/// Whether a session of a desktop can be asked something.
pub(super) fn is_under_way(home: &Home, name: &str) -> Result<bool, PlayerError> {
    // Without a real file system there are no sockets.
    let Ok(run) = run_directory(&directory(home, name)?) else { return Ok(true) };
    Ok(UnixStream::connect(run.join("control.sock")).is_ok())
}

/// The place of the control socket; what an earlier process left there goes.
pub fn fresh_socket(run: &std::path::Path) -> Result<PathBuf, PlayerError> {
    let socket = run.join("control.sock");
    match std::fs::remove_file(&socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(PlayerError::io("clearing a socket")(error))
        }
        _ => Ok(socket),
    }
}

impl Live {
    /// The session to run: an unfinished one, or a new one.
    pub fn open(
        home: &Home,
        desktop: &mut Desktop,
        discard: bool,
        listener: &dyn Listener,
    ) -> Result<Self, PlayerError> {
        trial::judge(home, desktop, listener)?;
        if let Some(session) = desktop.record.session.clone() {
            let finished = session.state == SessionState::Ended;
            let why = why_reset(home, desktop, &session)?;
            if discard {
                drop_session(desktop, session.number)?;
                listener.event(&Event::Note("the unfinished session was discarded".into()));
            } else if finished || why.is_some() {
                if let Some(why) = why.filter(|_| !finished) {
                    listener.event(&Event::Note(why.into()));
                }
                let live = Self::resume(home, desktop, &session, listener)?;
                file(home, desktop, live, listener)?;
            }
            // Not finished, or hibernated.
            if let Some(session) = desktop.record.session.clone() {
                listener.event(&Event::Continuing { session: session.number });
                let on_trial = trial::count(home, desktop, session.edition, listener)?;
                let live = Self::resume(home, desktop, &session, listener)?;
                return Ok(Self { on_trial, ..live });
            }
        }
        Self::begin(home, desktop, listener)
    }

    /// A new session over what the layers are now, ready for a machine.
    pub fn begin(
        home: &Home,
        desktop: &mut Desktop,
        listener: &dyn Listener,
    ) -> Result<Self, PlayerError> {
        let before = home.clock.monotonic();
        // The packs that the disk is composed over are pinned by it, but not before it is there.
        let is_late = planted("a session is composed while content is collected");
        let _hold = if is_late { None } else { Some(home.public()?.hold()?) };
        let versions = desktop.versions(home)?;
        let on_trial = trial::count(home, desktop, versions.edition, listener)?;
        home.settle("images", &versions.image.0)?;
        versions.apps.iter().try_for_each(|(name, _)| home.settle("layers", name))?;
        let stack = Stack::open(home, &desktop.dir, &versions)?;
        let _filling = Filling::begin(home, &stack.image)?;
        if _filling.is_some() {
            let percent = stack.image.arrived().percent();
            listener.event(&Event::Note(format!(
                "{percent} % of the image is here; the rest comes while the guest runs"
            )));
        }
        let (composed, _) = compose(home, &desktop.dir, &stack, listener)?;
        let number = desktop.record.next_session;
        let mut id = [0; 16];
        home.entropy.fill(&mut id).map_err(PlayerError::io("drawing random numbers"))?;
        let base = Arc::new(composed.device()?);
        let device = step("session.log", || {
            let dir = session_dir(&desktop.dir, number, true)?;
            Ok(SessionDevice::create(dir, base, SessionId(id), composed.facts.digest.0)?)
        })?;
        let record = session_record(home, number, &composed, &versions);
        desktop.commit("session.begin", |desktop| {
            desktop.session = Some(record);
            desktop.next_session = number + 1;
        })?;
        step("composed.prune", || prune_composed(&desktop.dir, &composed))?;
        let took = home.clock.monotonic().saturating_sub(before);
        let (entries, took_ms) = (composed.facts.entries, took.as_millis() as u64);
        listener.event(&Event::Ready { entries, took_ms });
        Ok(Self { stack, composed, device: Arc::new(device), on_trial, _filling })
    }

    /// Its disk.
    pub fn device(&self) -> &Arc<SessionDevice> {
        &self.device
    }

    /// What its disk stands on.
    pub fn composed(&self) -> &Composed {
        &self.composed
    }

    /// Files the session of a guest that came to rest; `None` when it only hibernated, and is to go
    /// on with its session. A guest that changed files and left its file systems in order
    /// has come up.
    pub fn end(
        self,
        home: &Home,
        desktop: &mut Desktop,
        listener: &dyn Listener,
    ) -> Result<Option<FiledReport>, PlayerError> {
        self.device.flush()?;
        let on_trial = self.on_trial;
        let Some(filed) = file(home, desktop, self, listener)? else { return Ok(None) };
        if let Some(version) = on_trial.filter(|_| filed.is_in_order) {
            crate::livepc::trial::pass(home, &desktop.record.livepc, version)?;
        }
        Ok(Some(filed.report))
    }

    /// A session that was begun before.
    fn resume(
        home: &Home,
        desktop: &Desktop,
        session: &SessionRecord,
        progress: &dyn Progress,
    ) -> Result<Self, PlayerError> {
        let versions = desktop.record.session_versions(home, session)?;
        let stack = Stack::open(home, &desktop.dir, &versions)?;
        let _filling = Filling::begin(home, &stack.image)?;
        let composed = recompose(home, &desktop.dir, &stack, session.composed.0, progress)?;
        let dir = session_dir(&desktop.dir, session.number, false)?;
        let base = Arc::new(composed.device()?);
        let (device, _) = SessionDevice::open(dir, base, &composed.facts.digest.0)?;
        Ok(Self { stack, composed, device: Arc::new(device), on_trial: None, _filling })
    }

    /// What the session changed so far, and where each change will go, for people.
    pub fn changes(
        &self,
        home: &Home,
        running: bool,
        progress: &dyn Progress,
    ) -> Result<ChangesReport, PlayerError> {
        let view = SessionView::new(&self.composed, &self.device)?;
        let mut changes = Vec::new();
        let mut take = |item: Item| {
            changes.push(ChangeLine::of(&item));
            Ok(())
        };
        let harvested = self.harvest(&view).begin(home)?.collect(&mut take, progress)?;
        Ok(ChangesReport {
            running,
            changes,
            notes: notes(&self.composed, &harvested),
            summary: harvested.reply.summary,
        })
    }

    /// What is to be read back of the session.
    fn harvest<'a>(&'a self, view: &'a SessionView) -> Harvest<'a> {
        let (stack, composed) = (&self.stack, &self.composed);
        Harvest { stack, composed, view, mode: HarvestMode::Desktop }
    }
}

/// Why an unfinished session is not to go on, in words.
fn why_reset(
    home: &Home,
    desktop: &Desktop,
    session: &SessionRecord,
) -> Result<Option<&'static str>, PlayerError> {
    if trial::is_given_up(home, desktop, session)? {
        return Ok(Some(GIVEN_UP));
    }
    Ok((session.failed_starts >= PANICS_MAX).then_some(PANICKED))
}

fn session_record(
    home: &Home,
    number: u64,
    composed: &Composed,
    versions: &StackVersions,
) -> SessionRecord {
    SessionRecord {
        number,
        state: SessionState::Open,
        composed: Hex(composed.key),
        edition: versions.edition,
        image_version: versions.image.1,
        apps: versions.apps.clone(),
        rules: versions.rules.clone(),
        started_unix_secs: home.now_unix_secs(),
        failed_starts: 0,
    }
}

fn session_dir(
    desktop: &Arc<dyn Dir>,
    number: u64,
    fresh: bool,
) -> Result<Arc<dyn Dir>, PlayerError> {
    let what = || PlayerError::io("opening a session's directory");
    let sessions = desktop.create_dir("sessions").map_err(what())?;
    let name = number.to_string();
    if !fresh {
        return sessions.dir(&name).map_err(what());
    }
    match sessions.remove_dir_all(&name) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(what()(error)),
        _ => {}
    }
    let dir = sessions.create_dir(&name).map_err(what())?;
    if !planted("a new session's directory is not synced") {
        sessions.sync().map_err(what())?;
    }
    Ok(dir)
}

/// Forgets a session: its record first, its bytes after that.
fn drop_session(desktop: &mut Desktop, number: u64) -> Result<(), PlayerError> {
    desktop.commit("session.discard", |desktop| desktop.session = None)?;
    remove_session(&desktop.dir, number)
}

fn remove_session(desktop: &Arc<dyn Dir>, number: u64) -> Result<(), PlayerError> {
    let what = || PlayerError::io("removing a session");
    let sessions = desktop.create_dir("sessions").map_err(what())?;
    step("session.remove", || match sessions.remove_dir_all(&number.to_string()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(what()(error)),
        _ => Ok(()),
    })
}

/// Composed disks are caches: only the one in use stays.
fn prune_composed(desktop: &Arc<dyn Dir>, keep: &Composed) -> Result<(), PlayerError> {
    let what = || PlayerError::io("clearing composed disks");
    let cache = desktop.create_dir("composed").map_err(what())?;
    let keep = keep.key.to_string();
    for item in cache.list().map_err(what())? {
        if item.is_dir && item.name != keep {
            cache.remove_dir_all(&item.name).map_err(what())?;
        }
    }
    Ok(())
}

/// Stands between a running machine and the desktop that it is a session of.
struct SessionOwner<'a> {
    home: &'a Home,
    desktop: &'a mut Desktop,
    live: Option<Live>,
    /// Its disk, while the edition that it stands on is on trial.
    watched: Option<Arc<Watched>>,
    /// How much of its image was here when that was last told, of a hundred.
    told_percent: u64,
    listener: &'a dyn Listener,
}

impl SessionOwner<'_> {
    /// Takes a session over; its disk.
    fn take(&mut self, live: Live) -> Arc<dyn WriteBlocks> {
        let disk: Arc<dyn WriteBlocks> = live.device.clone();
        let volumes = &live.stack.image.record.volumes;
        let watched = || Arc::new(Watched::new(disk.clone(), volumes, &self.home.clock));
        self.watched = live.on_trial.map(|_| watched());
        self.told_percent = live.stack.image.arrived().percent();
        self.live = Some(live);
        self.watched.clone().map_or(disk, |watched| watched)
    }

    /// Tells how far an image is that arrives while the guest runs.
    fn tell_arrival(&mut self) {
        let Some(arrived) = self.arrived() else { return };
        let percent = arrived.percent();
        if percent != std::mem::replace(&mut self.told_percent, percent) {
            let (here, all) = (arrived.here.bytes().0, arrived.all.bytes().0);
            self.listener.at("bringing the image", here, all);
        }
    }
}

impl Owner for SessionOwner<'_> {
    fn news(&mut self, news: &MachineNews) {
        self.listener.event(&Event::Machine(news.clone()));
    }

    fn tick(&mut self) {
        self.tell_arrival();
        if !self.watched.as_ref().is_some_and(|watched| watched.lasts()) {
            return;
        }
        self.watched = None;
        let on_trial = self.live.as_ref().and_then(|live| live.on_trial);
        let name = &self.desktop.record.livepc;
        let pass = |version| crate::livepc::trial::pass(self.home, name, version);
        // Who works with the guest is not to be disturbed by this. Its end is asked again.
        if let Some(Err(error)) = on_trial.map(pass) {
            self.listener.event(&Event::Note(format!("the version came up, but: {error}")));
        }
    }

    fn arrived(&self) -> Option<Arrived> {
        let arrived = self.live.as_ref().map(|live| live.stack.image.arrived());
        arrived.filter(|arrived| arrived.all.0 > 0)
    }

    fn next_disk(&mut self) -> Result<Arc<dyn WriteBlocks>, PlayerError> {
        if let Some(live) = self.live.take() {
            live.end(self.home, self.desktop, self.listener)?;
        }
        let live = Live::open(self.home, self.desktop, false, self.listener)?;
        Ok(self.take(live))
    }

    fn changes(&mut self) -> Result<serde_json::Value, PlayerError> {
        let Some(live) = &self.live else { return Ok(serde_json::Value::Null) };
        let report = live.changes(self.home, true, self.listener)?;
        serde_json::to_value(report)
            .map_err(|error| PlayerError::corrupt("a report", error.to_string()))
    }
}

/// Says how far the session came. Whatever that is, the guest did not panic.
fn mark(desktop: &mut Desktop, step: &'static str, state: SessionState) -> Result<(), PlayerError> {
    desktop.commit(step, |desktop| {
        if let Some(session) = &mut desktop.session {
            session.state = state;
            session.failed_starts = 0;
        }
    })
}

/// After the machine: files a session that came to rest, leaves any other for the next start.
fn finish(
    home: &Home,
    desktop: &mut Desktop,
    live: Option<Live>,
    end: &SessionEnd,
    listener: &dyn Listener,
) -> Result<Option<FiledReport>, PlayerError> {
    let Some(live) = live else { return Ok(None) };
    if end.is_finished() {
        return live.end(home, desktop, listener);
    }
    live.device.flush()?;
    if *end == SessionEnd::GuestPanic {
        desktop.commit("session.panic", |desktop| {
            if let Some(session) = &mut desktop.session {
                session.failed_starts += 1;
            }
        })?;
    }
    Ok(None)
}

/// What came of filing a session.
struct Filed {
    report: FiledReport,
    /// Whether the guest changed files, and unmounted all of its file systems.
    is_in_order: bool,
}

/// Files a session and forgets it: harvest, new versions, one move of the root record. A guest that
/// hibernated is not at rest: its session stays as it is.
fn file(
    home: &Home,
    desktop: &mut Desktop,
    live: Live,
    listener: &dyn Listener,
) -> Result<Option<Filed>, PlayerError> {
    let view = SessionView::new(&live.composed, &live.device)?;
    let harvest = live.harvest(&view);
    let underway = harvest.begin(home)?;
    // Synced while the worker reads.
    if desktop.record.session.as_ref().is_some_and(|session| session.state != SessionState::Ended) {
        mark(desktop, "session.end", SessionState::Ended)?;
    }
    let stack = &live.stack;
    let mut filer = Filer::new(&stack.own, StoreName::Private, &stack.private, &view)?;
    let harvested = underway.collect(&mut |item| filer.file(item), listener)?;
    if harvested.reply.hibernated {
        mark(desktop, "session.sleep", SessionState::Open)?;
        listener.event(&Event::Note(HIBERNATED.into()));
        return Ok(None);
    }
    let created = home.now_unix_secs();
    let records = records_by_layer(&harvested.reply, &live.composed.facts.dormant);
    let number = desktop.record.session.as_ref().map_or(0, |session| session.number);
    let cause = format!("session {number}");
    let filing = step("session.pack", || filer.finish(&records, created, &cause))?;
    let report = filed_report(created, &filing, &harvested, &live.composed);
    if planted("a session goes before the record that forgets it") {
        remove_session(&desktop.dir, number)?;
    }
    adopt(desktop, &filing, created, &cause, &report)?;
    listener.event(&Event::Filed(report.clone()));
    drop(filing);
    remove_session(&desktop.dir, number)?;
    let is_in_order = harvested.reply.replayed == 0 && !harvested.reply.summary.groups.is_empty();
    Ok(Some(Filed { report, is_in_order }))
}

fn filed_report(
    at_unix_secs: u64,
    filing: &Filing,
    harvested: &Harvested,
    composed: &Composed,
) -> FiledReport {
    FiledReport {
        at_unix_secs,
        kept: filing.kept.clone(),
        dropped: filing.dropped,
        new_blocks: filing.new_bytes.blocks(),
        notes: notes(composed, harvested),
    }
}

/// What a person should know of a composition and a harvest, one sentence each.
fn notes(composed: &Composed, harvested: &Harvested) -> Vec<String> {
    // What identity whites out is none of a person's business, however often an image brings it.
    let reports = composed.facts.reports.iter().filter(|report| report.layer != Kind::Identity);
    let reports = reports.map(|report| {
        let outcome = match report.outcome {
            Outcome::Shadows => "is used although",
            Outcome::KeptAside => "was kept aside, because",
            Outcome::Superseded => "is no longer needed:",
            Outcome::Kept => "was kept although",
        };
        let (path, layer, advice) = (&report.path, report.layer, report.advice());
        format!("{path} of {layer} {outcome} {}; {advice}", report.reason)
    });
    let merged = composed.facts.notes.iter().chain(&harvested.reply.notes);
    let merged = merged.map(|note| format!("{}: {}", note.subject.escape_debug(), note.text));
    let mut notes: Vec<String> = reports.chain(merged).collect();
    notes.sort();
    notes.dedup();
    notes
}

/// The one move: the new versions, and no session any more.
fn adopt(
    desktop: &mut Desktop,
    filing: &Filing,
    created: u64,
    cause: &str,
    report: &FiledReport,
) -> Result<(), PlayerError> {
    desktop.commit("session.file", |desktop| {
        for (&kind, layer) in &filing.versions {
            super::upkeep::push_version(desktop, kind, layer, created, cause);
        }
        desktop.session = None;
        desktop.last = Some(report.clone());
    })
}

/// Appends a version to a history.
pub(super) fn next_version(
    history: &mut super::LayerHistory,
    layer: &goldleaf_layer::Layer,
    created: u64,
    cause: &str,
) {
    let number = history.next.max(1);
    history.versions.push(describe(number, layer, created, cause));
    history.next = number + 1;
}

/// One changed path for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeLine {
    /// Where, printable.
    pub path: String,
    /// `added`, `changed` or `removed`.
    pub what: String,
    /// `kept`, `forgotten`, `dropped`, `shredded` or `merged`.
    pub fate: String,
    /// The layer that keeps it.
    pub layer: Option<String>,
    /// Bytes of a file.
    pub size: u64,
    /// The rule that decided, and why.
    pub why: String,
}

/// What a session changed, and where each change will go.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ChangesReport {
    /// Whether the guest still runs: then what it has not written to its disk yet is not here.
    pub running: bool,
    /// The changes, sorted by path.
    pub changes: Vec<ChangeLine>,
    /// Counts.
    pub summary: Summary,
    /// Conflicts and things kept aside.
    pub notes: Vec<String>,
}

impl ChangeLine {
    fn of(item: &Item) -> Self {
        let what = match (item.existed, item.present) {
            (_, false) => "removed",
            (false, true) => "added",
            (true, true) => "changed",
        };
        let (fate, layer) = match &item.fate {
            Fate::Keep { layer, .. } => ("kept", Some(layer.name().to_string())),
            Fate::Forget => ("forgotten", None),
            Fate::Drop => ("dropped", None),
            Fate::Shred => ("shredded", None),
            Fate::Merged => ("merged", None),
        };
        Self {
            path: item.path.to_string(),
            what: what.into(),
            fate: fate.into(),
            layer,
            size: item.size,
            why: item.why.clone(),
        }
    }
}

/// What a desktop's session changed: asked of the running player, or read from an unfinished
/// session. `None` when there is no session.
pub fn changes(
    home: &Home,
    name: &str,
    progress: &dyn Progress,
) -> Result<Option<ChangesReport>, PlayerError> {
    let dir = directory(home, name)?;
    let socket = run_directory(&dir)?.join("control.sock");
    match ask(&socket, &Request::Changes)? {
        Some(Answer::Done(value)) => {
            return serde_json::from_value(value)
                .map(Some)
                .map_err(|error| PlayerError::corrupt("the session's answer", error.to_string()));
        }
        Some(Answer::Failed(why)) => return Err(PlayerError::Refused(why)),
        None => {}
    }
    let desktop = Desktop::open(home, name)?;
    let Some(session) = desktop.record.session.clone() else { return Ok(None) };
    let live = Live::resume(home, &desktop, &session, progress)?;
    live.changes(home, false, progress).map(Some)
}

/// Powers a running desktop off: in order, or by pulling the plug. `false` when it does not run.
pub fn stop(home: &Home, name: &str, force: bool) -> Result<bool, PlayerError> {
    let socket = run_directory(&directory(home, name)?)?.join("control.sock");
    let request = if force { Request::Kill } else { Request::Stop };
    match ask(&socket, &request)? {
        None => Ok(false),
        Some(Answer::Done(_)) => Ok(true),
        Some(Answer::Failed(why)) => Err(PlayerError::Refused(why)),
    }
}
