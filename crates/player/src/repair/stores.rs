//! Repair of stores: better copies of damaged packs, and content of lost packs filed anew.

use std::collections::BTreeSet;

use goldleaf_block::ByteLen;
use goldleaf_host::Progress;
use goldleaf_layer::{Entry, EntryNode, Layer, Surveyed};
use goldleaf_store::{Damaged, Digest, Exclusive, PackId, PackMend, Store};
use serde::{Deserialize, Serialize};

use super::salvage::{self, LostFile};
use super::sources::Sources;
use super::{Lost, LostWhat, RepairPlan, sub};
use crate::check::{StoreFound, Survey, VersionOf};
use crate::desktop::{self, Hex};
use crate::{Home, PlayerError};

type Digests = BTreeSet<Digest>;

/// What is added to one store.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StoreRepair {
    /// The desktop whose own store it is; `None` for the one that desktops share.
    pub desktop: Option<String>,
    /// Packs of which a better copy is added.
    pub packs: Vec<PackRepair>,
    /// Blobs that are filed anew, because their pack is lost.
    pub blobs: BTreeSet<Hex>,
    /// Objects that are filed anew.
    pub objects: BTreeSet<Hex>,
    /// Bytes of what is filed anew.
    pub filed_bytes: u64,
    /// Packs that cannot be opened and of which nothing is missed then: they are marked so.
    pub retired: BTreeSet<Hex>,
}

/// A better copy of a pack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackRepair {
    /// The pack.
    pub pack: Hex,
    /// Number of the copy.
    pub copy: u32,
    /// Name of the file that is added.
    pub file: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// Blobs and objects that it makes readable again.
    pub healed: BTreeSet<Hex>,
    /// Blobs and objects that stay damaged.
    pub lost: BTreeSet<Hex>,
}

impl From<PackMend> for PackRepair {
    fn from(mend: PackMend) -> Self {
        let hex = |digests: &BTreeSet<Digest>| digests.iter().copied().map(Hex).collect();
        Self {
            pack: Hex(mend.pack.0),
            copy: mend.copy,
            file: mend.file_name(),
            bytes: mend.len.0,
            healed: hex(&mend.healed),
            lost: hex(&mend.lost),
        }
    }
}

impl From<&PackRepair> for PackMend {
    fn from(repair: &PackRepair) -> Self {
        Self {
            pack: PackId(repair.pack.0),
            copy: repair.copy,
            healed: plain(&repair.healed),
            lost: plain(&repair.lost),
            len: ByteLen(repair.bytes),
        }
    }
}

fn plain(digests: &BTreeSet<Hex>) -> BTreeSet<Digest> {
    digests.iter().map(|hex| hex.0).collect()
}

impl StoreRepair {
    /// Bytes that are written.
    pub fn bytes(&self) -> u64 {
        self.filed_bytes + self.packs.iter().map(|pack| pack.bytes).sum::<u64>()
    }

    fn is_empty(&self) -> bool {
        self.packs.is_empty()
            && self.blobs.is_empty()
            && self.objects.is_empty()
            && self.retired.is_empty()
    }
}

/// Plans for each store that something is wrong with, or missing from.
pub(super) fn plan(
    found: &Survey,
    sources: &Sources,
    progress: &dyn Progress,
    plan: &mut RepairPlan,
) -> Result<(), PlayerError> {
    let public = &found.public;
    for (index, at) in std::iter::once(public).chain(&found.private).enumerate() {
        progress.at("looking for whole copies", index as u64, 1 + found.private.len() as u64);
        let versions: Vec<&VersionOf> =
            found.versions.iter().filter(|version| version.desktop == at.desktop).collect();
        let is_touched = versions.iter().any(|version| version.is_hurt);
        if at.damage.is_empty() && !is_touched {
            continue;
        }
        let shared = at.desktop.is_some().then_some(&public.store);
        let repair = StorePlan::new(at, shared, sources)?.finish(&versions, plan);
        if !repair.is_empty() {
            plan.stores.push(repair);
        }
    }
    Ok(())
}

/// A plan for one store in the making.
struct StorePlan<'a> {
    at: &'a StoreFound,
    /// The store that desktops share, when this is a desktop's own.
    shared: Option<&'a Store>,
    sources: &'a Sources,
    /// The store, reading from the sources what it does not have whole.
    view: Store,
    /// Damaged, and not healed by a better copy of its pack.
    bad: Digests,
    /// Readable by a better copy.
    healed: Digests,
    /// Damaged or missing, and needed.
    lost: Digests,
    /// Looked for already, and found.
    found: Digests,
    lost_files: Vec<LostFile>,
    repair: StoreRepair,
}

impl<'a> StorePlan<'a> {
    fn new(
        at: &'a StoreFound,
        shared: Option<&'a Store>,
        sources: &'a Sources,
    ) -> Result<Self, PlayerError> {
        let hurt = at.damage.iter().map(|damage| damage.pack).collect();
        let mends = at.store.plan_mends(&hurt, &sources.stores)?;
        let healed: Digests = mends.iter().flat_map(|mend| &mend.healed).copied().collect();
        let bad = at.damage.iter().filter_map(|damage| match damage.what {
            Damaged::Blob(digest) | Damaged::Object(digest) => Some(digest),
            Damaged::Frame | Damaged::Pack => None,
        });
        let bad = bad.chain(mends.iter().flat_map(|mend| &mend.lost).copied());
        let bad = bad.filter(|digest| !healed.contains(digest)).collect();
        let view = at.store.with_others(&sources.stores);
        let packs = mends.into_iter().map(PackRepair::from).collect();
        let repair = StoreRepair { desktop: at.desktop.clone(), packs, ..StoreRepair::default() };
        let (lost, found) = (Digests::new(), Digests::new());
        let lost_files = Vec::new();
        Ok(Self { at, shared, sources, view, bad, healed, lost, found, lost_files, repair })
    }

    fn finish(mut self, versions: &[&VersionOf], plan: &mut RepairPlan) -> StoreRepair {
        for version in versions.iter().filter(|version| version.is_hurt) {
            self.version(version, plan);
        }
        let is_whole = |entry: &Entry| match &entry.node {
            EntryNode::Node { content, .. } => {
                content.extents.iter().all(|run| !self.lost.contains(&run.blob))
            }
            EntryNode::Whiteout => false,
        };
        salvage::plan(&self.view, versions, &self.lost_files, &is_whole, plan);
        plan.unneeded += self.bad.difference(&self.lost).count() as u64;
        if self.lost.is_empty() {
            let mended: BTreeSet<Hex> = self.repair.packs.iter().map(|mend| mend.pack).collect();
            let damaged = self.at.store.damaged().into_iter().map(|(pack, _)| Hex(pack.0));
            self.repair.retired = damaged.filter(|pack| !mended.contains(pack)).collect();
        }
        self.repair
    }

    fn version(&mut self, of: &VersionOf, plan: &mut RepairPlan) {
        let mut lose = |what, path: String, bytes| {
            let (desktop, layer) = (of.desktop.clone(), of.layer.clone());
            plan.lost.push(Lost { desktop, layer, version: of.number, what, path, bytes });
        };
        let layer = self.needs_object(of.digest, true);
        let layer = Layer::open(&self.view, &of.digest).ok().filter(|_| layer);
        let Some(layer) = layer else { return lose(LostWhat::Version, String::new(), 0) };
        let records = layer.version().side_objects();
        // Each is asked for, found or not.
        let whole = records.iter().filter(|object| self.needs_object(**object, false)).count();
        if whole < records.len() {
            lose(LostWhat::Records, String::new(), 0);
        }
        let view = self.view.clone();
        layer.survey(&view, &mut |come| match come {
            Surveyed::Directory(path, object) => {
                if !self.needs_object(object, true) {
                    lose(LostWhat::Below, path.to_string(), 0);
                }
            }
            Surveyed::Unreadable(path, object) => {
                self.lost.insert(object);
                lose(LostWhat::Below, path.to_string(), 0);
            }
            Surveyed::Entry(path, entry) => {
                let EntryNode::Node { content, .. } = &entry.node else { return };
                let blobs: Digests = content.extents.iter().map(|run| run.blob).collect();
                let whole = blobs.iter().filter(|blob| self.needs_blob(**blob)).count();
                if whole < blobs.len() {
                    let (layer, version) = (of.layer.clone(), of.number);
                    self.lost_files.push(LostFile { layer, version, path: path.clone() });
                    lose(LostWhat::File, path.to_string(), content.size);
                }
            }
        });
    }

    /// Whether an object will be there; what is missing and can be had is put down to be filed.
    /// One that is only read from this store must be in it.
    fn needs_object(&mut self, object: Digest, is_own: bool) -> bool {
        if self.healed.contains(&object) || self.found.contains(&object) {
            return true;
        }
        let shared = self.shared.filter(|_| !is_own);
        let is_there = self.at.store.has_object(&object)
            || shared.is_some_and(|shared| shared.has_object(&object));
        if is_there && !self.bad.contains(&object) {
            return true;
        }
        let len = self.whole(&object, Store::whole_object);
        self.put_down(object, len, |repair| &mut repair.objects)
    }

    fn needs_blob(&mut self, blob: Digest) -> bool {
        if self.healed.contains(&blob) || self.found.contains(&blob) {
            return true;
        }
        let is_there = self.at.store.blob(&blob).is_some()
            || self.shared.is_some_and(|shared| shared.blob(&blob).is_some());
        if is_there && !self.bad.contains(&blob) {
            return true;
        }
        let len = self.whole(&blob, Store::whole_blob);
        self.put_down(blob, len, |repair| &mut repair.blobs)
    }

    /// Length of what a source has whole. What is bad in a pack that can be opened was looked for
    /// when the better copy of that pack was planned.
    fn whole(
        &self,
        digest: &Digest,
        of: fn(&Store, &Digest) -> Option<ByteLen>,
    ) -> Option<ByteLen> {
        if self.bad.contains(digest) || self.lost.contains(digest) {
            return None;
        }
        self.sources.stores.iter().find_map(|store| of(store, digest))
    }

    fn put_down(
        &mut self,
        digest: Digest,
        len: Option<ByteLen>,
        place: fn(&mut StoreRepair) -> &mut BTreeSet<Hex>,
    ) -> bool {
        let Some(len) = len else {
            self.lost.insert(digest);
            return false;
        };
        self.found.insert(digest);
        place(&mut self.repair).insert(Hex(digest));
        self.repair.filed_bytes += len.0;
        true
    }
}

/// A store that is repaired, and nobody else changes.
pub(super) struct Held {
    store: Store,
    exclusive: Exclusive,
}

/// Takes the stores that a plan adds to, in its order.
pub(super) fn hold(home: &Home, plan: &RepairPlan) -> Result<Vec<Held>, PlayerError> {
    let mut held = Vec::new();
    for repair in &plan.stores {
        let store = match &repair.desktop {
            None => home.public()?,
            Some(name) => {
                let dir = sub(&desktop::directory(home, name)?, "private")?;
                Store::open(dir.ok_or_else(|| super::gone(&format!("the store of {name}")))?)?
            }
        };
        held.push(Held { exclusive: store.exclusive()?, store });
    }
    Ok(held)
}

pub(super) fn apply(
    held: &[Held],
    plan: &RepairPlan,
    sources: &Sources,
    progress: &dyn Progress,
) -> Result<(), PlayerError> {
    let total = plan.bytes();
    let mut done = 0;
    for (Held { store, exclusive }, repair) in held.iter().zip(&plan.stores) {
        for pack in &repair.packs {
            progress.at("writing whole copies", done, total);
            store.mend(&pack.into(), &sources.stores, exclusive)?;
            done += pack.bytes;
        }
        let (blobs, objects) = (plain(&repair.blobs), plain(&repair.objects));
        store.file_from(&blobs, &objects, &sources.stores, exclusive)?;
        done += repair.filed_bytes;
        progress.at("writing whole copies", done, total);
        for pack in &repair.retired {
            store.retire(PackId(pack.0), exclusive)?;
        }
    }
    Ok(())
}
