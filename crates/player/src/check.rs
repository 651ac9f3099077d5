//! Checking: everything that is stored is read and compared with what names it, and what is damaged
//! is named by what it means: versions of images and layers, and the LivePCs and desktops whose
//! next session would stand on one. Nothing is written.
//!
//! Composed disks are caches and are not looked at; nor are unfinished sessions, which check
//! themselves when they are opened.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use goldleaf_host::Progress;
use goldleaf_layer::{Digest, Kind, Layer};
use goldleaf_store::{Damage, Damaged, LiveSet, Store};
use serde::{Deserialize, Serialize};

use crate::desktop::{self, DesktopRecord};
use crate::livepc::LivePc;
use crate::{Home, PlayerError, apps, livepc};

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CheckReport {
    /// Packs that were read.
    pub packs: u64,
    /// Blobs that were right.
    pub blobs: u64,
    /// Objects that were right.
    pub objects: u64,
    /// Versions of images that were right.
    pub image_versions: u64,
    /// Bytes that were read of stores.
    pub bytes: u64,
    /// What is not right, a sentence each; empty when all is well.
    pub damage: Vec<String>,
    /// Versions of images that are damaged.
    pub images: Vec<HurtImage>,
    /// Versions of layers that are damaged.
    pub layers: Vec<HurtLayer>,
    /// LivePCs whose new desktops would stand on something damaged.
    pub livepcs: BTreeSet<String>,
    /// Desktops whose next session would stand on something damaged.
    pub desktops: BTreeSet<String>,
}

impl CheckReport {
    /// Whether all is well: nothing is damaged, and nothing is missing.
    pub fn is_clean(&self) -> bool {
        self.damage.is_empty()
            && self.images.is_empty()
            && self.layers.is_empty()
            && self.livepcs.is_empty()
            && self.desktops.is_empty()
    }
}

/// A version of an image that is not what its digest says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HurtImage {
    /// The image.
    pub image: String,
    /// The version.
    pub version: u32,
}

/// A version of a layer of which something is damaged or missing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HurtLayer {
    /// The desktop that it belongs to; `None` for a layer of applications that desktops share.
    pub desktop: Option<String>,
    /// The layer.
    pub layer: String,
    /// The version.
    pub version: u64,
}

/// Reads and compares everything.
pub fn check(home: &Home, progress: &dyn Progress) -> Result<CheckReport, PlayerError> {
    Ok(survey(home, progress)?.report)
}

/// What a check found, in full: what a repair is planned from.
pub(crate) struct Survey {
    pub report: CheckReport,
    /// The store that desktops share.
    pub public: StoreFound,
    /// Desktops' own stores.
    pub private: Vec<StoreFound>,
    /// All versions of all layers.
    pub versions: Vec<VersionOf>,
    /// Sentences about what cannot be repaired: records.
    pub unreadable: Vec<String>,
}

/// A store, and what of it is damaged.
pub(crate) struct StoreFound {
    /// The desktop whose own it is.
    pub desktop: Option<String>,
    pub store: Store,
    pub damage: Vec<Damage>,
}

/// A version of a layer.
pub(crate) struct VersionOf {
    pub desktop: Option<String>,
    pub layer: String,
    pub number: u64,
    pub digest: Digest,
    pub is_hurt: bool,
}

/// Reads and compares everything, and keeps what was found.
pub(crate) fn survey(home: &Home, progress: &dyn Progress) -> Result<Survey, PlayerError> {
    let mut check = Check {
        home,
        progress,
        report: CheckReport::default(),
        private: Vec::new(),
        versions: Vec::new(),
        unreadable: Vec::new(),
    };
    let images = check.images()?;
    let public = home.public()?;
    let (hurt, found) = check.store(&public, None)?;
    let layers = check.apps(&public, &hurt)?;
    let livepcs = check.livepcs(&images, &layers)?;
    for name in names(home, "desktops")? {
        match desktop::peek(home, &name) {
            Ok(record) => check.desktop(&record, &public, &livepcs, &images, &layers)?,
            // What an interrupted creation left is no desktop.
            Err(PlayerError::Unknown { .. }) => {}
            Err(error) => {
                check.unreadable(format!("desktop {name}: {error}"));
                check.report.desktops.insert(name);
            }
        }
    }
    let Check { mut report, private, versions, unreadable, .. } = check;
    report.images.sort();
    report.layers.sort();
    Ok(Survey { report, public: found, private, versions, unreadable })
}

/// The current version of something, and those of its versions that are damaged.
#[derive(Default)]
struct Versions {
    current: u32,
    hurt: BTreeSet<u32>,
}

impl Versions {
    /// Whether the version is damaged, the current one when `number` is `None`.
    fn is_hurt(&self, number: Option<u32>) -> bool {
        self.hurt.contains(&number.unwrap_or(self.current))
    }
}

/// Versions by name. What has no readable record is not in it, and counts as damaged.
type ByName = BTreeMap<String, Versions>;

fn is_hurt(all: &ByName, name: &str, number: Option<u32>) -> bool {
    all.get(name).is_none_or(|versions| versions.is_hurt(number))
}

/// The content of a store that is damaged.
#[derive(Default)]
struct Hurt(HashSet<Digest>);

struct Check<'a> {
    home: &'a Home,
    progress: &'a dyn Progress,
    report: CheckReport,
    private: Vec<StoreFound>,
    versions: Vec<VersionOf>,
    unreadable: Vec<String>,
}

impl Check<'_> {
    /// Notes a record that cannot be read.
    fn unreadable(&mut self, sentence: String) {
        self.report.damage.push(sentence.clone());
        self.unreadable.push(sentence);
    }

    fn images(&mut self) -> Result<ByName, PlayerError> {
        // Without anybody to bring what is missing: a check changes nothing.
        let images = self.home.images_here()?;
        let mut found = ByName::new();
        for name in names(self.home, "images")? {
            let record = match images.record(&name) {
                Ok(record) => record,
                // What an interrupted import left is no image.
                Err(goldleaf_image::ImageError::Unknown(_)) => continue,
                Err(error) => {
                    self.unreadable(error.to_string());
                    continue;
                }
            };
            let mut versions = Versions::default();
            for version in &record.versions {
                versions.current = version.number;
                let opened = images.open(&name, Some(version.number));
                let checked = opened.and_then(|image| image.check(self.progress));
                let Err(wrong) = checked else {
                    self.report.image_versions += 1;
                    continue;
                };
                versions.hurt.insert(version.number);
                let (image, version) = (name.clone(), version.number);
                self.report.damage.push(format!("image {image} version {version}: {wrong}"));
                self.report.images.push(HurtImage { image, version });
            }
            found.insert(name, versions);
        }
        Ok(found)
    }

    fn store(
        &mut self,
        store: &Store,
        desktop: Option<&str>,
    ) -> Result<(Hurt, StoreFound), PlayerError> {
        let what = desktop.map_or_else(
            || "the shared store".into(),
            |name| format!("the store of desktop {name}"),
        );
        let progress = self.progress;
        let told = format!("reading {what}");
        let found = store.check(&mut |at| progress.at(&told, at.done.0, at.total.0))?;
        self.report.packs += found.packs;
        self.report.blobs += found.blobs;
        self.report.objects += found.objects;
        self.report.bytes += found.bytes.0;
        let mut hurt = Hurt::default();
        for damage in &found.damage {
            if let Damaged::Blob(digest) | Damaged::Object(digest) = damage.what {
                hurt.0.insert(digest);
            }
            self.report.damage.push(format!("{what}: {}", damage.error));
        }
        let desktop = desktop.map(str::to_owned);
        Ok((hurt, StoreFound { desktop, store: store.clone(), damage: found.damage }))
    }

    fn apps(&mut self, public: &Store, hurt: &Hurt) -> Result<ByName, PlayerError> {
        let mut found = ByName::new();
        for name in names(self.home, "layers")? {
            let layer = match apps::get(self.home, &name) {
                Ok(layer) => layer,
                Err(PlayerError::Unknown { .. }) => continue,
                Err(error) => {
                    self.unreadable(format!("layer {name}: {error}"));
                    continue;
                }
            };
            let mut versions = Versions::default();
            for version in &layer.versions {
                versions.current = version.number;
                let is_hurt = is_touched(&[public], hurt, &version.digest.0);
                if is_hurt {
                    versions.hurt.insert(version.number);
                }
                self.note(None, &name, version.number.into(), version.digest.0, is_hurt);
            }
            found.insert(name, versions);
        }
        Ok(found)
    }

    fn note(
        &mut self,
        desktop: Option<&str>,
        layer: &str,
        number: u64,
        digest: Digest,
        is_hurt: bool,
    ) {
        let (desktop, layer) = (desktop.map(str::to_owned), layer.to_owned());
        if is_hurt {
            let (desktop, layer) = (desktop.clone(), layer.clone());
            self.report.layers.push(HurtLayer { desktop, layer, version: number });
        }
        self.versions.push(VersionOf { desktop, layer, number, digest, is_hurt });
    }

    fn livepcs(
        &mut self,
        images: &ByName,
        layers: &ByName,
    ) -> Result<BTreeMap<String, LivePc>, PlayerError> {
        let mut found = BTreeMap::new();
        for name in names(self.home, "livepcs")? {
            match livepc::get(self.home, &name) {
                Ok(livepc) => {
                    let mut above = livepc.layers.iter();
                    if is_hurt(images, &livepc.image, None)
                        || above.any(|layer| is_hurt(layers, layer, None))
                    {
                        self.report.livepcs.insert(name.clone());
                    }
                    found.insert(name, livepc);
                }
                Err(PlayerError::Unknown { .. }) => {}
                Err(error) => {
                    self.unreadable(format!("LivePC {name}: {error}"));
                    self.report.livepcs.insert(name);
                }
            }
        }
        Ok(found)
    }

    fn desktop(
        &mut self,
        record: &DesktopRecord,
        public: &Store,
        livepcs: &BTreeMap<String, LivePc>,
        images: &ByName,
        layers: &ByName,
    ) -> Result<(), PlayerError> {
        let name = &record.name;
        let dir = desktop::directory(self.home, name)?;
        let mut is_hurt_itself = false;
        match dir.dir("private") {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                if !private_versions(record).is_empty() {
                    self.unreadable(format!("desktop {name}: its store is not there"));
                    is_hurt_itself = true;
                }
            }
            dir => {
                let own = Store::open(dir.map_err(PlayerError::io("opening a store"))?)?;
                let (hurt, found) = self.store(&own, Some(name))?;
                self.private.push(found);
                for (kind, number, digest) in private_versions(record) {
                    let is_hurt = is_touched(&[&own, public], &hurt, &digest);
                    self.note(Some(name), kind.name(), number, digest, is_hurt);
                    if is_hurt {
                        let current = record.layers[&kind].current().map(|last| last.number);
                        is_hurt_itself |= current == Some(number);
                    }
                }
            }
        }
        let below = livepcs.get(&record.livepc).is_none_or(|livepc| {
            let pinned = |layer: &String| record.pinned_apps.get(layer).copied();
            is_hurt(images, &livepc.image, record.pinned_image)
                || livepc.layers.iter().any(|layer| is_hurt(layers, layer, pinned(layer)))
        });
        if is_hurt_itself || below {
            self.report.desktops.insert(name.clone());
        }
        Ok(())
    }
}

/// All versions of a desktop's own layers: kind, number, digest.
fn private_versions(record: &DesktopRecord) -> Vec<(Kind, u64, Digest)> {
    let versions = record.layers.iter().flat_map(|(&kind, history)| {
        history.versions.iter().map(move |version| (kind, version.number, version.digest.0))
    });
    versions.collect()
}

/// Whether something that a version of a layer needs is damaged in the first of the stores, or in
/// none of them.
fn is_touched(stores: &[&Store], hurt: &Hurt, version: &Digest) -> bool {
    let Some(own) = stores.first() else { return true };
    let mut live = LiveSet::default();
    let read = Layer::open(own, version).and_then(|layer| layer.add_live(own, &mut live));
    let has_blob = |digest| stores.iter().any(|store| store.blob(digest).is_some());
    let has_object = |digest| stores.iter().any(|store| store.has_object(digest));
    read.is_err()
        || live.blobs.iter().any(|digest| hurt.0.contains(digest) || !has_blob(digest))
        || live.objects.iter().any(|digest| hurt.0.contains(digest) || !has_object(digest))
}

/// What a directory of the home lists, whether its records are readable or not.
pub(crate) fn names(home: &Home, kind: &str) -> Result<Vec<String>, PlayerError> {
    let items = home.sub(kind)?.list().map_err(PlayerError::io(format!("listing {kind}")))?;
    Ok(items.into_iter().filter(|item| item.is_dir).map(|item| item.name).collect())
}

#[cfg(test)]
pub(crate) mod tests;
