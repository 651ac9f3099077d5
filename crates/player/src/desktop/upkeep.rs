//! What is done to a desktop between sessions: history, roll-back, rejuvenation, and taking single
//! applications or paths back. Each is one durable move, and each can be shown before it is done.

use std::collections::{BTreeMap, BTreeSet};

use goldleaf_layer::merge::Record;
use goldleaf_layer::merge::dpkg::dependents;
use goldleaf_layer::{Kind, Layer, LayerEditor, VersionInfo, VersionMeta, thin};
use goldleaf_store::Store;
use goldleaf_tree::GuestPath;
use serde::{Deserialize, Serialize};

use super::filing::store_records;
use super::session::next_version;
use super::stack::{Stack, StoreName};
use super::{Desktop, DesktopRecord, LayerHistory, SessionRecord};
use crate::home::step;
use crate::livepc::LivePc;
use crate::{Home, PlayerError};

/// Appends a new version of a layer to a desktop's history, and forgets what is too old to keep:
/// the ten newest stay, and one a day for thirty days.
pub fn push_version(
    desktop: &mut DesktopRecord,
    kind: Kind,
    layer: &Layer,
    created: u64,
    cause: &str,
) {
    let history = desktop.layers.entry(kind).or_default();
    next_version(history, layer, created, cause);
    let known: Vec<VersionInfo> = history
        .versions
        .iter()
        .map(|version| VersionInfo { number: version.number, created: version.created_unix_secs })
        .collect();
    let old: BTreeSet<u64> = thin(&known, created).into_iter().collect();
    history.versions.retain(|version| !old.contains(&version.number));
}

/// Refuses to touch layers under a session that is not filed yet.
pub fn at_rest(desktop: &Desktop) -> Result<(), PlayerError> {
    match &desktop.record.session {
        None => Ok(()),
        Some(SessionRecord { number, .. }) => Err(PlayerError::Refused(format!(
            "session {number} of desktop `{name}` is not finished; start it and shut it down, or \
             drop it with `goldleaf start {name} --discard-session`",
            name = desktop.record.name
        ))),
    }
}

/// One version of one layer, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryLine {
    /// `os`, `apps NAME`, or the name of a private layer.
    pub layer: String,
    /// Its number.
    pub version: u64,
    /// Whether the next session stands on it.
    pub current: bool,
    /// Unix time of its making, in seconds.
    pub created_unix_secs: u64,
    /// Number of entries; none for an image.
    pub entries: Option<u64>,
    /// Bytes of content that it names; none for an image.
    pub bytes: Option<u64>,
    /// Why it was made.
    pub cause: String,
}

/// All versions of all layers of a desktop, lowest layer first, oldest first.
pub fn history(home: &Home, name: &str) -> Result<Vec<HistoryLine>, PlayerError> {
    let record = super::peek(home, name)?;
    let livepc = crate::livepc::get(home, &record.livepc)?;
    let mut lines = Vec::new();
    let image = home.images()?.record(&livepc.image)?;
    let last = livepc.image_version().or(image.versions.last().map(|version| version.number));
    for version in &image.versions {
        lines.push(HistoryLine {
            layer: "os".into(),
            version: version.number.into(),
            current: record.pinned_image.or(last) == Some(version.number),
            created_unix_secs: version.created_unix_secs,
            entries: None,
            bytes: None,
            cause: version.cause.clone(),
        });
    }
    for (name, published) in livepc.layer_versions() {
        let layer = crate::apps::get(home, name)?;
        let pinned = record.pinned_apps.get(name).copied().or(published);
        let current = layer.version(pinned)?.number;
        lines.extend(layer.versions.iter().map(|version| HistoryLine {
            layer: format!("apps {name}"),
            version: version.number.into(),
            current: version.number == current,
            created_unix_secs: version.created_unix_secs,
            entries: Some(version.entries),
            bytes: Some(version.bytes),
            cause: version.cause.clone(),
        }));
    }
    for (kind, history) in &record.layers {
        lines.extend(history.versions.iter().map(|version| HistoryLine {
            layer: kind.to_string(),
            version: version.number,
            current: history.current() == Some(version),
            created_unix_secs: version.created_unix_secs,
            entries: Some(version.entries),
            bytes: Some(version.bytes.0),
            cause: version.cause.clone(),
        }));
    }
    Ok(lines)
}

/// Sets one layer to an earlier version. `os` and apps layers are pinned, and unpinned by rolling
/// them to their newest; a private layer gets a new version with the old content.
pub fn rollback(
    home: &Home,
    name: &str,
    layer: &str,
    to: u64,
    dry_run: bool,
) -> Result<HistoryLine, PlayerError> {
    let mut desktop = Desktop::open(home, name)?;
    at_rest(&desktop)?;
    let wanted = |line: &HistoryLine| {
        let named = line.layer == layer || line.layer.strip_prefix("apps ") == Some(layer);
        named && line.version == to
    };
    let lines = history(home, name)?;
    let line = lines.iter().find(|line| wanted(line)).cloned().ok_or_else(|| {
        PlayerError::Unknown { kind: "version of that layer", name: format!("{layer} {to}") }
    })?;
    if layer == Kind::Identity.name() {
        let why = "identity is never rolled back: a machine account or a key that went forward \
                   cannot go back";
        return Err(PlayerError::Refused(why.into()));
    }
    if dry_run {
        return Ok(line);
    }
    let newest = lines.iter().rfind(|other| other.layer == line.layer);
    let is_newest = newest.is_some_and(|newest| newest.version == to);
    let created = home.now_unix_secs();
    desktop.commit("layers.roll-back", |record| {
        match (line.layer.as_str(), line.layer.strip_prefix("apps ")) {
            ("os", _) => record.pinned_image = (!is_newest).then_some(to as u32),
            (_, Some(apps)) => {
                record.pinned_apps.remove(apps);
                if !is_newest {
                    record.pinned_apps.insert(apps.into(), to as u32);
                }
            }
            _ => roll_private(record, layer, to, created),
        }
    })?;
    Ok(line)
}

fn roll_private(record: &mut DesktopRecord, layer: &str, to: u64, created: u64) {
    let Some(history) = Kind::parse(layer).and_then(|kind| record.layers.get_mut(&kind)) else {
        return;
    };
    let Some(mut version) = history.versions.iter().find(|old| old.number == to).cloned() else {
        return;
    };
    version.number = history.next;
    version.created_unix_secs = created;
    version.cause = format!("rolled back to {to}");
    history.next += 1;
    history.versions.push(version);
}

/// Edits private layers and adopts the new versions in one move.
struct Edit<'a> {
    home: &'a Home,
    desktop: &'a mut Desktop,
    stack: &'a Stack,
    changed: BTreeMap<Kind, Option<Vec<Record>>>,
    editors: BTreeMap<Kind, LayerEditor<'a>>,
}

impl<'a> Edit<'a> {
    fn new(home: &'a Home, desktop: &'a mut Desktop, stack: &'a Stack) -> Self {
        Self { home, desktop, stack, changed: BTreeMap::new(), editors: BTreeMap::new() }
    }

    fn editor(&mut self, kind: Kind) -> Result<Option<&mut LayerEditor<'a>>, PlayerError> {
        let Some(layer) = self.stack.private.get(&kind) else { return Ok(None) };
        if !self.editors.contains_key(&kind) {
            self.editors.insert(kind, LayerEditor::new(&self.stack.own, layer)?);
        }
        self.changed.entry(kind).or_default();
        Ok(self.editors.get_mut(&kind))
    }

    /// Replaces a layer's merge records.
    fn set_records(&mut self, kind: Kind, records: Vec<Record>) -> Result<(), PlayerError> {
        self.editor(kind)?;
        self.changed.insert(kind, Some(records));
        Ok(())
    }

    fn commit(self, cause: &str) -> Result<(), PlayerError> {
        let created = self.home.now_unix_secs();
        let store: &Store = &self.stack.own;
        let mut writer = store.writer()?;
        let mut digests = Vec::new();
        for (kind, editor) in self.editors {
            let records = match self.changed.get(&kind).cloned().flatten() {
                Some(records) => records,
                None => self.stack.records(StoreName::Private, &self.stack.private[&kind])?,
            };
            let records = store_records(&mut writer, &records)?;
            let meta = VersionMeta { created, cause: cause.into(), records };
            digests.push((kind, editor.commit(&mut writer, meta)?));
        }
        let filed = step("layers.pack", || Ok(writer.finish()?))?;
        let mut layers = Vec::new();
        for (kind, digest) in digests {
            layers.push((kind, Layer::open(store, &digest)?));
        }
        self.desktop.commit("layers.edit", |record| {
            for (kind, layer) in &layers {
                push_version(record, *kind, layer, created, cause);
            }
        })?;
        drop(filed);
        Ok(())
    }
}

fn open_stack(home: &Home, desktop: &Desktop) -> Result<Stack, PlayerError> {
    Stack::open(home, &desktop.dir, &desktop.versions(home)?)
}

/// What a rejuvenation takes away.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Rejuvenated {
    /// Entries of the local layer.
    pub local: u64,
    /// Kept edits of files that the image owns.
    pub edits: Vec<String>,
    /// The user's packages, with `--apps`.
    pub packages: Vec<String>,
}

/// A clean system: clears caches and kept edits of the image's files; with `apps` also what the
/// user installed. Documents, settings and identity stay.
pub fn rejuvenate(
    home: &Home,
    name: &str,
    apps: bool,
    dry_run: bool,
) -> Result<Rejuvenated, PlayerError> {
    let mut desktop = Desktop::open(home, name)?;
    at_rest(&desktop)?;
    let stack = open_stack(home, &desktop)?;
    let mut done = Rejuvenated::default();
    let mut edits = Vec::new();
    if let Some(data) = stack.private.get(&Kind::UserData) {
        for item in data.walk(&stack.own) {
            let (path, entry) = item?;
            if entry.edit {
                done.edits.push(path.to_string());
                edits.push(path);
            }
        }
    }
    done.local = stack.private.get(&Kind::Local).map_or(0, |layer| layer.counts().entries);
    if apps && let Some(layer) = stack.private.get(&Kind::UserApps) {
        done.packages = layer.packages(&stack.own)?.into_keys().collect();
    }
    if dry_run {
        return Ok(done);
    }
    let mut edit = Edit::new(home, &mut desktop, &stack);
    if let Some(data) = edit.editor(Kind::UserData)? {
        edits.iter().try_for_each(|path| data.remove(path).map(drop))?;
    }
    let cleared = if apps { vec![Kind::Local, Kind::UserApps] } else { vec![Kind::Local] };
    for kind in cleared {
        if let Some(layer) = edit.editor(kind)? {
            layer.remove_tree(&GuestPath::root())?;
            edit.set_records(kind, Vec::new())?;
        }
    }
    edit.commit(if apps { "rejuvenated without applications" } else { "rejuvenated" })?;
    Ok(done)
}

/// A package that the user installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppsPackage {
    /// Its name.
    pub package: String,
    /// Paths that it owns in the user's layers.
    pub paths: u64,
    /// Bytes of content of those.
    pub bytes: u64,
    /// Unix time of the first version that has it, in seconds, as far as history reaches back.
    pub since_unix_secs: u64,
}

/// What the user installed.
pub fn apps(home: &Home, name: &str) -> Result<Vec<AppsPackage>, PlayerError> {
    let desktop = Desktop::open(home, name)?;
    let stack = open_stack(home, &desktop)?;
    let Some(layer) = stack.private.get(&Kind::UserApps) else { return Ok(Vec::new()) };
    let mut found: BTreeMap<String, AppsPackage> = BTreeMap::new();
    for item in layer.walk(&stack.own) {
        let (_, entry) = item?;
        let Some(package) = &entry.package else { continue };
        let line = found.entry(package.clone()).or_insert_with(|| AppsPackage {
            package: package.clone(),
            paths: 0,
            bytes: 0,
            since_unix_secs: layer.version().created,
        });
        line.paths += 1;
        if let goldleaf_layer::EntryNode::Node { content, .. } = &entry.node {
            line.bytes += content.size;
        }
    }
    let history = desktop.record.layers.get(&Kind::UserApps).cloned().unwrap_or_default();
    since(&stack.own, &history, &mut found)?;
    Ok(found.into_values().collect())
}

fn since(
    store: &Store,
    history: &LayerHistory,
    found: &mut BTreeMap<String, AppsPackage>,
) -> Result<(), PlayerError> {
    for version in history.versions.iter().rev() {
        let packages = Layer::open(store, &version.digest.0)?.packages(store)?;
        for line in found.values_mut().filter(|line| packages.contains_key(&line.package)) {
            line.since_unix_secs = line.since_unix_secs.min(version.created_unix_secs);
        }
    }
    Ok(())
}

/// Takes a package that the user installed away: its files and its records, not its data.
pub fn remove_package(
    home: &Home,
    name: &str,
    package: &str,
    dry_run: bool,
) -> Result<Vec<String>, PlayerError> {
    let mut desktop = Desktop::open(home, name)?;
    at_rest(&desktop)?;
    let stack = open_stack(home, &desktop)?;
    let layer = stack.private.get(&Kind::UserApps);
    let known = match layer {
        Some(layer) => layer.packages(&stack.own)?,
        None => BTreeMap::new(),
    };
    let same = |tag: &str| tag == package || tag.split(':').next() == Some(package);
    let (Some(layer), Some(tag)) = (layer, known.keys().find(|tag| same(tag)).cloned()) else {
        return Err(PlayerError::Unknown { kind: "package of the user's", name: package.into() });
    };
    let records = stack.records(StoreName::Private, layer)?;
    let needed_by = dependents(&records, &tag);
    if !needed_by.is_empty() {
        return Err(PlayerError::Refused(format!(
            "`{package}` is needed by {}; remove that first",
            needed_by.join(", ")
        )));
    }
    let mut gone = Vec::new();
    for item in layer.walk(&stack.own) {
        let (path, entry) = item?;
        if entry.package.as_ref() == Some(&tag) {
            gone.push(path);
        }
    }
    let shown = gone.iter().map(ToString::to_string).collect();
    if dry_run {
        return Ok(shown);
    }
    let mut edit = Edit::new(home, &mut desktop, &stack);
    if let Some(layer) = edit.editor(Kind::UserApps)? {
        gone.iter().try_for_each(|path| layer.remove(path).map(drop))?;
    }
    let rest = records.into_iter().filter(|record| record.package.as_ref() != Some(&tag));
    edit.set_records(Kind::UserApps, rest.collect())?;
    edit.commit(&format!("removed {package}"))?;
    Ok(shown)
}

/// A path that a reset takes back to the image's version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResetItem {
    /// Where.
    pub path: String,
    /// The layer that had it.
    pub layer: String,
}

/// Takes paths, with all that is below them, back to what the image and the apps layers have.
/// Identity stays.
pub fn reset(
    home: &Home,
    name: &str,
    paths: &[String],
    dry_run: bool,
) -> Result<Vec<ResetItem>, PlayerError> {
    let mut desktop = Desktop::open(home, name)?;
    at_rest(&desktop)?;
    let stack = open_stack(home, &desktop)?;
    let mut found = Vec::new();
    let mut trees = Vec::new();
    for text in paths {
        let tree = GuestPath::parse(text)
            .map_err(|error| PlayerError::Refused(format!("{text}: {error}")))?;
        // Without its own identity a desktop would have the image's, as every other would.
        let layers = stack.private.iter().filter(|(kind, _)| **kind != Kind::Identity);
        for (&kind, layer) in layers {
            for item in layer.walk_below(&stack.own, &tree)? {
                let (path, _) = item?;
                let layer = kind.to_string();
                found.push(ResetItem { path: path.to_string(), layer });
            }
        }
        trees.push(tree);
    }
    if dry_run || found.is_empty() {
        return Ok(found);
    }
    let kinds: Vec<Kind> = stack.private.keys().copied().collect();
    let mut edit = Edit::new(home, &mut desktop, &stack);
    for kind in kinds {
        let touched = found.iter().any(|item| item.layer == kind.name());
        if let Some(layer) = if touched { edit.editor(kind)? } else { None } {
            trees.iter().try_for_each(|tree| layer.remove_tree(tree))?;
        }
    }
    edit.commit(&format!("reset {}", paths.join(" ")))?;
    Ok(found)
}

/// How a desktop is, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// Its LivePC.
    pub livepc: String,
    /// `off`, `running`, `unfinished` or `to be filed`.
    pub state: String,
    /// The version of the LivePC that starts next, of one that follows a channel.
    pub version: Option<u64>,
    /// Starts of that version so far, while it is on trial.
    pub trial_starts: Option<u32>,
    /// Versions that did not come up here.
    pub failed_versions: BTreeSet<u64>,
    /// What the running session says of itself.
    pub live: Option<serde_json::Value>,
    /// The root record.
    pub record: DesktopRecord,
}

/// How a desktop is.
pub fn status(home: &Home, name: &str) -> Result<Status, PlayerError> {
    use crate::control::{Answer, Request, ask};
    let record = super::peek(home, name)?;
    let dir = super::directory(home, name)?;
    let socket = super::session::run_directory(&dir)?.join("control.sock");
    let live = match ask(&socket, &Request::Status)? {
        Some(Answer::Done(value)) => Some(value),
        _ => None,
    };
    let state = match (&live, &record.session) {
        (Some(_), _) => "running",
        (None, None) => "off",
        (None, Some(session)) if session.state == super::SessionState::Ended => "to be filed",
        (None, Some(_)) => "unfinished",
    };
    // A LivePC whose record cannot be read is no reason to hide its desktops.
    let livepc = crate::livepc::get(home, &record.livepc).ok();
    let trial = livepc.as_ref().and_then(|livepc| livepc.trial.as_ref());
    Ok(Status {
        name: record.name.clone(),
        livepc: record.livepc.clone(),
        state: state.into(),
        version: livepc.as_ref().and_then(LivePc::version),
        trial_starts: trial.map(|trial| trial.starts),
        failed_versions: livepc.map(|livepc| livepc.failed).unwrap_or_default(),
        live,
        record,
    })
}
