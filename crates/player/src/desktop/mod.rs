//! Desktops: instances of LivePCs on this machine.
//!
//! ```text
//!   record    the root record: versions of layers, the session under way
//!   stack     the versions, opened            compose   the stack as one disk
//!   harvest   a session read back             filing    changes put into layers
//!   session   starting, ending, filing        upkeep    history, roll-back, reset, rejuvenate
//!   identity  what makes a guest this one    trial    whether a guest came up
//!   ahead     the next session's disk, composed before it is wanted
//! ```

mod ahead;
mod compose;
mod filing;
mod filling;
mod harvest;
mod identity;
mod record;
mod session;
mod stack;
mod trial;
mod upkeep;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use goldleaf_host::{Dir, Lock, planted};
use goldleaf_image::check_name;
use goldleaf_layer::Kind;

pub use ahead::compose_ahead;
pub(crate) use compose::compose_in_worker;
pub use compose::{Composed, compose, pinned_packs};
pub use filing::{Filer, Filing, store_records};
pub use harvest::{Harvest, Harvested, SessionView, TakeItem, Underway, records_by_layer};
pub use identity::HostKeys;
pub(crate) use identity::make as make_identity;
pub use record::{
    DesktopRecord, FiledReport, HardwareIdentity, Hex, LayerHistory, LayerVersion, SessionRecord,
    SessionState,
};
pub use session::{
    ChangeLine, ChangesReport, Event, Listener, Live, StartOptions, Started, changes, fresh_socket,
    hardware, probe, run_directory, start, stop,
};
pub use stack::{Handing, Packs, Source, Stack, StackVersions, StoreName, volumes};
pub(crate) use upkeep::at_rest;
pub use upkeep::{
    AppsPackage, HistoryLine, Rejuvenated, ResetItem, Status, apps, history, rejuvenate,
    remove_package, reset, rollback, status,
};

use crate::home::{read_record, step, write_record};
use crate::{Home, PlayerError};

/// How long a command on a desktop is waited for: composing takes seconds.
const SOON: Duration = Duration::from_secs(15);
/// How often it is asked whether that is done.
const TICK: Duration = Duration::from_millis(50);

/// A desktop, locked: nobody else works on it while this lives.
pub struct Desktop {
    /// Its directory.
    pub dir: Arc<dyn Dir>,
    /// Its root record, as it is on disk.
    pub record: DesktopRecord,
    _lock: Box<dyn Lock>,
}

impl Desktop {
    /// Opens and locks a desktop.
    pub fn open(home: &Home, name: &str) -> Result<Self, PlayerError> {
        let dir = directory(home, name)?;
        let is_early = planted("a desktop is read before it is locked");
        let early = if is_early { Some(record(&dir, name)?) } else { None };
        let lock = lock(dir.as_ref(), name)?;
        home.settle("desktops", name)?;
        // Read under the lock: the record that was there before may have moved on.
        let record = early.map_or_else(|| record(&dir, name), Ok)?;
        Ok(Self { record, dir, _lock: lock })
    }

    /// Opens and locks a desktop for a person, who does not want to hear of a command that is about
    /// to be done: waits for it a while, unless it is a session.
    pub fn open_soon(home: &Home, name: &str) -> Result<Self, PlayerError> {
        let until = home.clock.monotonic() + SOON;
        loop {
            match Self::open(home, name) {
                Err(PlayerError::Busy { .. })
                    if !session::is_under_way(home, name)? && home.clock.monotonic() < until =>
                {
                    home.clock.sleep(TICK);
                }
                other => return other,
            }
        }
    }

    /// Writes the root record: the one durable move by which anything changes. It has a name.
    pub fn commit(
        &mut self,
        name: &'static str,
        change: impl FnOnce(&mut DesktopRecord),
    ) -> Result<(), PlayerError> {
        step(name, || {
            let mut next = self.record.clone();
            change(&mut next);
            next.generation += 1;
            write_record(self.dir.as_ref(), "record.json", &next)?;
            self.record = next;
            Ok(())
        })
    }

    /// The versions that the next session stands on.
    pub fn versions(&self, home: &Home) -> Result<StackVersions, PlayerError> {
        let livepc = crate::livepc::get(home, &self.record.livepc)?;
        let number = match self.record.pinned_image.or(livepc.image_version()) {
            Some(number) => number,
            None => home.images()?.open(&livepc.image, None)?.record.number,
        };
        let mut apps = Vec::new();
        for (name, published) in livepc.layer_versions() {
            let pinned = self.record.pinned_apps.get(name).copied().or(published);
            let version = crate::apps::get(home, name)?.version(pinned)?.number;
            apps.push((name.clone(), version));
        }
        let rules = crate::livepc::rules(home, &self.record.livepc)?;
        let pinned = &self.record.pinned_apps;
        let is_pinned = self.record.pinned_image.is_some()
            || livepc.layers.iter().any(|layer| pinned.contains_key(layer));
        let edition = livepc.version().filter(|_| !is_pinned);
        let image = (livepc.image, number);
        Ok(StackVersions { edition, image, apps, private: self.record.private_versions(), rules })
    }
}

fn lock(dir: &dyn Dir, name: &str) -> Result<Box<dyn Lock>, PlayerError> {
    let lock = dir.try_lock("lock").map_err(PlayerError::io("locking a desktop"))?;
    lock.ok_or_else(|| PlayerError::Busy {
        kind: "desktop",
        name: name.into(),
        detail: "a session runs, or another command works on it".into(),
    })
}

/// The directory of a desktop that exists.
pub fn directory(home: &Home, name: &str) -> Result<Arc<dyn Dir>, PlayerError> {
    check_name(name)?;
    match home.sub("desktops")?.dir(name) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(PlayerError::Unknown { kind: "desktop", name: name.into() })
        }
        other => other.map_err(PlayerError::io(format!("opening desktop `{name}`"))),
    }
}

fn record(dir: &Arc<dyn Dir>, name: &str) -> Result<DesktopRecord, PlayerError> {
    read_record(dir.as_ref(), "record.json")?
        .ok_or_else(|| PlayerError::Unknown { kind: "desktop", name: name.into() })
}

/// The record of a desktop, without locking it: what a list or a status shows.
pub fn peek(home: &Home, name: &str) -> Result<DesktopRecord, PlayerError> {
    record(&directory(home, name)?, name)
}

/// All desktops, by name.
pub fn list(home: &Home) -> Result<Vec<DesktopRecord>, PlayerError> {
    let dir = home.sub("desktops")?;
    let mut found = Vec::new();
    for item in dir.list().map_err(PlayerError::io("listing desktops"))? {
        if !item.is_dir {
            continue;
        }
        let own = dir.dir(&item.name).map_err(PlayerError::io("listing desktops"))?;
        // What an interrupted creation left is no desktop.
        if let Some(record) = read_record(own.as_ref(), "record.json")? {
            found.push(record);
        }
    }
    Ok(found)
}

/// Makes a desktop of a LivePC, with an identity of its own.
pub fn create(home: &Home, name: &str, livepc: &str) -> Result<DesktopRecord, PlayerError> {
    check_name(name)?;
    let livepc = crate::livepc::get(home, livepc)?;
    let desktops = home.sub("desktops")?;
    let dir = desktops.create_dir(name).map_err(PlayerError::io("making a desktop"))?;
    let _lock = lock(dir.as_ref(), name)?;
    match peek(home, name) {
        Ok(_) => return Err(PlayerError::Exists { kind: "desktop", name: name.into() }),
        Err(PlayerError::Unknown { .. }) => {}
        Err(error) => return Err(error),
    }
    home.settle("livepcs", &livepc.name)?;
    let image = home.images()?.open(&livepc.image, livepc.image_version())?;
    let (version, hold) = step("desktop.identity", || identity::make(home, &dir, name, &image))?;
    let identity = LayerHistory { versions: vec![version], next: 2 };
    let record = DesktopRecord {
        format: record::FORMAT,
        generation: 1,
        name: name.into(),
        livepc: livepc.name,
        pinned_image: None,
        pinned_apps: BTreeMap::new(),
        layers: [(Kind::Identity, identity)].into(),
        session: None,
        next_session: 1,
        hardware: identity::hardware(home)?,
        last: None,
    };
    step("desktop.create", || {
        write_record(dir.as_ref(), "record.json", &record)?;
        desktops.sync().map_err(PlayerError::io("making a desktop"))
    })?;
    drop(hold);
    Ok(record)
}

/// Removes a desktop with everything of its user's. There is no way back.
pub fn delete(home: &Home, name: &str) -> Result<(), PlayerError> {
    let desktop = Desktop::open(home, name)?;
    let what = || PlayerError::io(format!("removing desktop `{name}`"));
    step("desktop.forget", || {
        desktop.dir.remove("record.json").map_err(what())?;
        desktop.dir.sync().map_err(what())
    })?;
    step("desktop.remove", || home.sub("desktops")?.remove_dir_all(name).map_err(what()))
}
