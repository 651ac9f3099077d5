//! Collection: giving back the space of content that nothing names any more.
//!
//! Roots are the versions that the records of apps layers and desktops list; pinned are the packs
//! that composed disks map blocks of, those of running and unfinished sessions among them. Of what
//! is subscribed to, old versions that nothing runs on are forgotten first. A plan
//! is made and can be shown; applying it makes the same plan again under the stores' locks and
//! does nothing when the two differ.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use goldleaf_host::{Dir, planted};
use goldleaf_layer::Layer;
use goldleaf_store::{CollectPlan, LiveSet, PackId, Store};
use serde::{Deserialize, Serialize};

use crate::apps::AppsLayer;
use crate::cache;
use crate::desktop::{self, DesktopRecord, StoreName, pinned_packs};
use crate::feeds::{self, Followed};
use crate::home::step;
use crate::{Home, PlayerError};

/// What a collection would do, or did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CollectReport {
    /// Packs without anything that lives.
    pub removed_packs: u64,
    /// Packs whose living part is written anew.
    pub rewritten_packs: u64,
    /// Bytes of content that go.
    pub gained_bytes: u64,
    /// Old versions of what is subscribed to, in words.
    pub forgotten: Vec<String>,
    /// What interrupted work left behind: imports, sessions.
    pub leftovers: Vec<String>,
    /// Desktops that are in use, whose own store is left alone.
    pub skipped: Vec<String>,
    /// Subscriptions that are in use, whose old versions are left alone.
    pub skipped_subscriptions: Vec<String>,
    /// Bytes by which what has arrived is over its limit, and which nothing may take away.
    pub over_limit_bytes: u64,
}

impl CollectReport {
    fn add(&mut self, plan: &CollectPlan) {
        self.removed_packs += plan.remove.len() as u64;
        self.rewritten_packs += plan.rewrite.len() as u64;
        self.gained_bytes += plan.gained.0;
    }
}

/// What a collection would do.
pub fn plan(home: &Home) -> Result<CollectReport, PlayerError> {
    run(home, false)
}

/// Collects.
pub fn apply(home: &Home) -> Result<CollectReport, PlayerError> {
    run(home, true)
}

fn run(home: &Home, apply: bool) -> Result<CollectReport, PlayerError> {
    let mut report = CollectReport::default();
    let (followed, busy) = feeds::followed(home)?;
    report.skipped_subscriptions = busy;
    let squeeze = cache::squeeze(home, &followed, 0)?;
    report.over_limit_bytes = squeeze.over;
    for followed in &followed {
        let stays = !squeeze.tight.contains(&followed.name);
        old_images(home, followed, stays, apply, &mut report)?;
    }
    collect_public(home, &followed, apply, &mut report)?;
    drop(followed);
    for record in desktop::list(home)? {
        match desktop::Desktop::open(home, &record.name) {
            Err(PlayerError::Busy { .. }) => report.skipped.push(record.name),
            Err(error) => return Err(error),
            Ok(desktop) => {
                collect_private(&desktop, apply, &mut report)?;
                half_written(&desktop, apply, &mut report)?;
                sessions(&desktop, apply, &mut report)?;
            }
        }
    }
    half_made(home, apply, &mut report)?;
    image_files(home, apply, &mut report)?;
    let benches = crate::workshop::leftovers(home, apply)?;
    report.leftovers.extend(benches.iter().map(|name| format!("bench {name} of the workshop")));
    Ok(report)
}

fn collect(
    store: &Store,
    apply: bool,
    report: &mut CollectReport,
    live: impl FnOnce(&mut CollectReport) -> Result<LiveSet, PlayerError>,
) -> Result<(), PlayerError> {
    // Held from before the roots are read: no filing may begin meanwhile.
    let exclusive = store.exclusive()?;
    let live = live(report)?;
    let plan = store.plan_collect(&live)?;
    report.add(&plan);
    if apply {
        store.apply(&plan, &live, &exclusive)?;
    }
    Ok(())
}

/// Versions of an image that is subscribed to.
fn old_images(
    home: &Home,
    followed: &Followed,
    newest_stays: bool,
    apply: bool,
    report: &mut CollectReport,
) -> Result<(), PlayerError> {
    let gone = followed.forget_image(home, newest_stays, apply)?;
    let named = |version| format!("version {version} of image {}", followed.name);
    report.forgotten.extend(gone.versions.into_iter().map(named));
    if !newest_stays {
        report.forgotten.push(format!("content of the newest version of image {}", followed.name));
    }
    report.gained_bytes += gone.bytes;
    Ok(())
}

/// Versions of a layer that is subscribed to.
fn old_layers(
    home: &Home,
    followed: &[Followed],
    layer: &AppsLayer,
    apply: bool,
) -> Result<BTreeSet<u32>, PlayerError> {
    let mut old = BTreeSet::new();
    for followed in followed {
        old.extend(followed.old_versions(home, layer)?);
    }
    if apply && !old.is_empty() {
        crate::apps::forget(home, &layer.name, &old)?;
    }
    Ok(old)
}

fn collect_public(
    home: &Home,
    followed: &[Followed],
    apply: bool,
    report: &mut CollectReport,
) -> Result<(), PlayerError> {
    let store = home.public()?;
    collect(&store, apply, report, |report| {
        let mut live = LiveSet::default();
        for layer in crate::apps::list(home)? {
            let old = old_layers(home, followed, &layer, apply)?;
            let named = |version| format!("version {version} of layer {}", layer.name);
            report.forgotten.extend(old.iter().map(named));
            for version in layer.versions.iter().filter(|one| !old.contains(&one.number)) {
                Layer::open(&store, &version.digest.0)?.add_live(&store, &mut live)?;
            }
        }
        for record in desktop::list(home)? {
            let dir = desktop::directory(home, &record.name)?;
            pin(&dir, &record, (StoreName::Public, &store), &mut live)?;
        }
        Ok(live)
    })
}

fn collect_private(
    desktop: &desktop::Desktop,
    apply: bool,
    report: &mut CollectReport,
) -> Result<(), PlayerError> {
    let dir = desktop.dir.create_dir("private").map_err(PlayerError::io("opening a store"))?;
    let store = Store::open(dir)?;
    collect(&store, apply, report, |_| {
        let mut live = LiveSet::default();
        for version in desktop.record.layers.values().flat_map(|history| &history.versions) {
            Layer::open(&store, &version.digest.0)?.add_live(&store, &mut live)?;
        }
        pin(&desktop.dir, &desktop.record, (StoreName::Private, &store), &mut live)?;
        Ok(live)
    })
}

fn pin(
    dir: &Arc<dyn Dir>,
    record: &DesktopRecord,
    (which, store): (StoreName, &Store),
    live: &mut LiveSet,
) -> Result<(), PlayerError> {
    if planted("a collection takes what a session stands on") {
        return Ok(());
    }
    let session = record.session.as_ref().map(|session| session.composed.0);
    match pinned_packs(dir, session)? {
        Some(packs) => {
            let packs = packs.into_iter().filter(|(store, _)| *store == which);
            live.packs.extend(packs.map(|(_, id)| PackId(id)));
        }
        None => live.packs.extend(store.packs().iter().map(|pack| pack.id)),
    }
    Ok(())
}

/// A record that was to take the place of the one before.
fn half_written(
    desktop: &desktop::Desktop,
    apply: bool,
    report: &mut CollectReport,
) -> Result<(), PlayerError> {
    const NAME: &str = "record.json.new";
    let what = || PlayerError::io("clearing a record");
    let items = desktop.dir.list().map_err(what())?;
    if items.iter().any(|item| item.name == NAME) {
        report.leftovers.push(format!("half-written record of desktop {}", desktop.record.name));
        if apply {
            desktop.dir.remove(NAME).map_err(what())?;
        }
    }
    Ok(())
}

/// Files of images that no version names: what an edit that was cut off left behind.
fn image_files(home: &Home, apply: bool, report: &mut CollectReport) -> Result<(), PlayerError> {
    let images = home.images()?;
    for name in images.list()?.into_iter().map(|image| image.name) {
        let dir = images.dir(&name)?;
        let lock = dir.try_lock("lock").map_err(PlayerError::io("locking an image"))?;
        // One that is edited has files that are not named yet.
        let Some(_lock) = lock else { continue };
        for file in images.unnamed(&name)? {
            report.leftovers.push(format!("file {file} of image {name}"));
            if apply {
                step("collect.half-made", || {
                    dir.remove(&file).map_err(PlayerError::io("clearing an image"))
                })?;
            }
        }
    }
    Ok(())
}

/// Session logs that no record names.
fn sessions(
    desktop: &desktop::Desktop,
    apply: bool,
    report: &mut CollectReport,
) -> Result<(), PlayerError> {
    let what = || PlayerError::io("clearing sessions");
    let sessions = desktop.dir.create_dir("sessions").map_err(what())?;
    let current = desktop.record.session.as_ref().map(|session| session.number.to_string());
    for item in sessions.list().map_err(what())? {
        if item.is_dir && Some(&item.name) != current.as_ref() {
            let name = &desktop.record.name;
            report.leftovers.push(format!("session {} of desktop {name}", item.name));
            if apply {
                step("collect.session", || sessions.remove_dir_all(&item.name).map_err(what()))?;
            }
        }
    }
    Ok(())
}

/// Directories whose record names what they are: without one they were never finished, or not
/// removed to the end. What is being made now is locked, or is made again by whoever makes it.
const SHELVES: [(&str, &str, &str); 5] = [
    ("images", "image.json", "image"),
    ("layers", "layer.json", "layer"),
    ("livepcs", "livepc.json", "LivePC"),
    ("desktops", "record.json", "desktop"),
    ("subscriptions", "subscription.json", "subscription"),
];

fn half_made(home: &Home, apply: bool, report: &mut CollectReport) -> Result<(), PlayerError> {
    let what = || PlayerError::io("clearing what is half made");
    for (shelf, record, kind) in SHELVES {
        let dir = home.sub(shelf)?;
        for item in dir.list().map_err(what())?.into_iter().filter(|item| item.is_dir) {
            let own = dir.dir(&item.name).map_err(what())?;
            match own.open(record) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => {
                    other.map_err(what())?;
                    continue;
                }
            }
            let Some(_lock) = own.try_lock("lock").map_err(what())? else { continue };
            report.leftovers.push(format!("half-made or half-removed {kind} {}", item.name));
            if apply {
                step("collect.half-made", || dir.remove_dir_all(&item.name).map_err(what()))?;
            }
        }
    }
    Ok(())
}
