//! A rehearsal: a guest boots on what is to be published, to see what it reads. Nothing that it
//! writes is kept.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use goldleaf_block::Trace;
use goldleaf_layer::Kind;
use goldleaf_vm::{Accel, SessionEnd};
use goldleaf_wire::BootProfile;

use super::bench::Bench;
use crate::control::{Request, ask};
use crate::desktop::{
    Listener, Stack, StackVersions, StartOptions, compose, make_identity, run_directory,
};
use crate::livepc::LivePc;
use crate::{Home, PlayerError};

/// A guest that has read nothing new for this long has started.
const QUIET: Duration = Duration::from_secs(20);
/// How long a guest may take to start, under emulation too.
const START_MAX: Duration = Duration::from_secs(900);
/// How often it is looked at.
const TICK: Duration = Duration::from_millis(200);

/// Until when a guest is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// It has started: for a while it has read nothing new.
    Started,
    /// It is shut down, in whatever way.
    ShutDown,
}

/// How a guest is watched.
#[derive(Debug, Clone)]
pub struct Rehearsal {
    /// Also where it is known already what a guest reads.
    pub anew: bool,
    /// Without a window.
    pub headless: bool,
    /// Until when.
    pub until: Until,
    /// What runs the guest, instead of what the probe finds.
    pub accel: Option<Accel>,
}

/// Boots a guest on the current versions of a LivePC, and notes what it reads of the image.
pub fn rehearse(
    home: &Home,
    livepc: &LivePc,
    rehearsal: &Rehearsal,
    listener: &dyn Listener,
) -> Result<BootProfile, PlayerError> {
    let options = StartOptions {
        headless: rehearsal.headless,
        accel: rehearsal.accel,
        discard_session: true,
        forwards: Vec::new(),
    };
    let bench = Bench::open(home, &format!("rehearse-{}", livepc.name), &options)?;
    let image = home.images()?.open(&livepc.image, livepc.image_version())?;
    // Until the disk is composed nothing names its packs.
    let public = home.public()?.hold()?;
    let (identity, own) = make_identity(home, &bench.dir, "rehearsal", &image)?;
    let mut apps = Vec::new();
    for (name, number) in livepc.layer_versions() {
        apps.push((name.clone(), crate::apps::get(home, name)?.version(number)?.number));
    }
    let versions = StackVersions {
        image: (livepc.image.clone(), image.record.number),
        apps,
        private: [(Kind::Identity, identity.digest.0)].into(),
        rules: crate::livepc::rules(home, &livepc.name)?,
        edition: None,
    };
    let mut stack = Stack::open(home, &bench.dir, &versions)?;
    let (map, blocks) = (stack.image.map.clone(), stack.image.record.blocks);
    let trace = Arc::new(Trace::default());
    stack.image = stack.image.traced(&trace);
    let (composed, _) = compose(home, &bench.dir, &stack, listener)?;
    let device = bench.log(home, Arc::new(composed.device()?), composed.facts.digest.0)?;
    drop((public, own));
    let socket = run_directory(&bench.dir)?.join("control.sock");
    let is_over = AtomicBool::new(false);
    let end = thread::scope(|scope| {
        let _over = Over(&is_over);
        if rehearsal.until == Until::Started {
            scope.spawn(|| end_when_quiet(home, &trace, &socket, &is_over));
        }
        bench.run(home, &device, &options, listener)
    });
    let end = end.map_err(|error| match error {
        PlayerError::Vm(error) => did_not_start(&error.to_string()),
        other => other,
    })?;
    bench.clear()?;
    let failed = match end {
        SessionEnd::GuestShutdown | SessionEnd::HostQuit => {
            return Ok(BootProfile::new(trace.on(&map), blocks));
        }
        SessionEnd::GuestPanic => "its kernel panicked".into(),
        SessionEnd::Died { status, stderr } => format!("the hypervisor ended: {status} {stderr}"),
        other => format!("it ended otherwise ({other:?})"),
    };
    Err(did_not_start(&failed))
}

fn did_not_start(why: &str) -> PlayerError {
    PlayerError::Refused(format!(
        "no guest started on what is to be published: {why}; `--profile none` publishes without"
    ))
}

/// Says that it is over, however it ended.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Ends a guest that has started. It is killed: nothing that it has is wanted.
fn end_when_quiet(home: &Home, trace: &Trace, socket: &Path, is_over: &AtomicBool) {
    let now = || home.clock.monotonic();
    let (begun, mut read) = (now(), trace.blocks());
    let mut last = begun;
    while !is_over.load(Ordering::Relaxed) {
        home.clock.sleep(TICK);
        let seen = trace.blocks();
        if seen != read {
            (read, last) = (seen, now());
        } else if now() - last >= QUIET || now() - begun >= START_MAX {
            // One that does not listen yet, or any more, is asked again or is over.
            let _ = ask(socket, &Request::Kill);
        }
    }
}
