//! Salvage: a new version of a user's layer in place of one with files that nobody has whole. Each
//! such file has its content of the newest older version in which it is whole there, or is left
//! out. The damaged version stays in the history.
//!
//! Only of layers whose files stand alone: documents and caches. Installed packages are rolled back
//! as a whole, because files of two versions of a program do not go together; identity never goes
//! back. A version whose directories are lost is rolled back, too.

use goldleaf_block::ByteLen;
use goldleaf_layer::{Entry, EntryNode, Kind, Layer, LayerEditor, VersionMeta};
use goldleaf_store::Store;
use goldleaf_tree::GuestPath;
use serde::{Deserialize, Serialize};

use super::RepairPlan;
use crate::check::VersionOf;
use crate::desktop::{Desktop, Hex, LayerVersion, at_rest};
use crate::{Home, PlayerError};

/// Layers of which single files are taken from older versions.
const KINDS: [Kind; 2] = [Kind::UserData, Kind::Local];

/// What is salvaged of the current version of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Salvage {
    /// The desktop.
    pub desktop: String,
    /// The layer.
    pub layer: Kind,
    /// Its current version, which stays in the history.
    pub version: u64,
    /// The files of it that nobody has whole.
    pub files: Vec<SalvagedFile>,
}

/// A file that is not in the new version as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SalvagedFile {
    /// Its path, with a leading slash.
    pub path: String,
    /// The version whose content it gets; `None` when it is left out.
    pub from: Option<u64>,
    /// Length of what it gets, in bytes.
    pub bytes: u64,
    /// Its path as it is stored: the other one is for people.
    #[serde(skip)]
    exact: Vec<u8>,
}

/// A file of a version that nobody has whole.
pub(super) struct LostFile {
    pub layer: String,
    pub version: u64,
    pub path: GuestPath,
}

/// What can be salvaged of a desktop's layers, if they are of its own.
pub(super) fn plan(
    view: &Store,
    versions: &[&VersionOf],
    files: &[LostFile],
    is_whole: &dyn Fn(&Entry) -> bool,
    plan: &mut RepairPlan,
) {
    for kind in KINDS {
        let own = versions.iter().filter(|of| of.layer == kind.name() && of.desktop.is_some());
        let mut own: Vec<&VersionOf> = own.copied().collect();
        own.sort_by_key(|of| of.number);
        let Some((head, older)) = own.split_last() else { continue };
        let is_head = |layer: &str, version| layer == head.layer && version == head.number;
        let files: Vec<_> =
            files.iter().filter(|file| is_head(&file.layer, file.version)).collect();
        let lost = plan
            .lost
            .iter()
            .filter(|lost| lost.desktop == head.desktop && is_head(&lost.layer, lost.version));
        // What is lost beside files goes back with a roll-back.
        if files.is_empty() || lost.count() != files.len() {
            continue;
        }
        let files = files.iter().map(|file| salvaged(view, older, &file.path, is_whole)).collect();
        let desktop = head.desktop.clone().unwrap_or_default();
        plan.salvage.push(Salvage { desktop, layer: kind, version: head.number, files });
    }
}

fn salvaged(
    view: &Store,
    older: &[&VersionOf],
    path: &GuestPath,
    is_whole: &dyn Fn(&Entry) -> bool,
) -> SalvagedFile {
    let found = older.iter().rev().find_map(|of| {
        let layer = Layer::open(view, &of.digest).ok()?;
        let entry = layer.get(view, path).ok()?.filter(is_whole)?;
        let EntryNode::Node { content, .. } = entry.node else { return None };
        Some((of.number, content.size))
    });
    SalvagedFile {
        path: path.to_string(),
        from: found.map(|(number, _)| number),
        bytes: found.map_or(0, |(_, bytes)| bytes),
        exact: path.as_bytes().to_vec(),
    }
}

/// Takes the desktops whose layers get new versions. Refused while a session is not filed.
pub(super) fn lock(home: &Home, plan: &RepairPlan) -> Result<Vec<Desktop>, PlayerError> {
    let mut desktops: Vec<Desktop> = Vec::new();
    for salvage in plan.salvage.iter().filter(|_| plan.salvages) {
        if desktops.iter().any(|desktop| desktop.record.name == salvage.desktop) {
            continue;
        }
        let desktop = Desktop::open(home, &salvage.desktop)?;
        at_rest(&desktop)?;
        desktops.push(desktop);
    }
    Ok(desktops)
}

pub(super) fn apply(
    home: &Home,
    plan: &RepairPlan,
    desktops: &mut [Desktop],
) -> Result<(), PlayerError> {
    for desktop in desktops {
        let name = desktop.record.name.clone();
        for salvage in plan.salvage.iter().filter(|salvage| salvage.desktop == name) {
            add_version(home, desktop, salvage)?;
        }
    }
    Ok(())
}

fn add_version(home: &Home, desktop: &mut Desktop, salvage: &Salvage) -> Result<(), PlayerError> {
    let dir = desktop.dir.dir("private").map_err(PlayerError::io("opening a store"))?;
    let store = Store::open(dir)?;
    let history = desktop.record.layers.get(&salvage.layer).cloned().unwrap_or_default();
    let open = |number: u64| {
        let version = history.versions.iter().find(|version| version.number == number);
        let version = version.ok_or_else(|| super::gone(&format!("version {number}")))?;
        Ok::<_, PlayerError>(Layer::open(&store, &version.digest.0)?)
    };
    let head = open(salvage.version)?;
    let mut editor = LayerEditor::new(&store, &head)?;
    for file in &salvage.files {
        let path = GuestPath::parse(&file.exact)
            .map_err(|error| PlayerError::corrupt(&file.path, error.to_string()))?;
        let entry = file.from.map(|from| open(from)?.get(&store, &path).map_err(PlayerError::from));
        match entry.transpose()?.flatten() {
            Some(entry) => editor.put(&path, entry)?,
            None => drop(editor.remove(&path)?),
        }
    }
    let created = home.now_unix_secs();
    let cause = format!("salvaged from version {}", salvage.version);
    let records = head.version().records.clone();
    let mut writer = store.writer()?;
    let digest =
        editor.commit(&mut writer, VersionMeta { created, cause: cause.clone(), records })?;
    // Kept until the record names what was filed.
    let filed = writer.finish()?;
    let counts = Layer::open(&store, &digest)?.counts();
    desktop.commit("repair.salvage", |record| {
        let history = record.layers.entry(salvage.layer).or_default();
        history.versions.push(LayerVersion {
            number: history.next,
            digest: Hex(digest),
            created_unix_secs: created,
            cause,
            entries: counts.entries,
            bytes: ByteLen(counts.content_bytes),
        });
        history.next += 1;
    })?;
    drop(filed.hold);
    Ok(())
}
