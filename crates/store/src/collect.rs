//! Collection: plan, then apply.
//!
//! The plan is plain data. Applying first writes what is to survive into a new pack and makes that
//! durable, then removes; a crash leaves the store before or after, or with some content twice,
//! which the next plan sees as garbage.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::sync::Arc;

use goldleaf_block::{BlockCount, ByteLen, ByteOffset, ReadBlocks};
use goldleaf_host::planted;

use crate::format::Row;
use crate::hold::{Exclusive, is_temporary};
use crate::pack::{Pack, PackBlocks, copy_name};
use crate::store::{Inner, PackId, Store};
use crate::tables::Tables;
use crate::writer::Draft;
use crate::{Digest, StoreError};

/// Packs below this are small: each costs an open file in every process that reads the store.
const SMALL_LEN: u64 = 64 << 20;
/// How many small packs there may be before they are joined.
const SMALL_MAX: usize = 16;

/// What must stay. Digests that this store does not have may be named too.
#[derive(Debug, Clone, Default)]
pub struct LiveSet {
    /// Blobs that something refers to.
    pub blobs: HashSet<Digest>,
    /// Objects that something refers to.
    pub objects: HashSet<Digest>,
    /// Packs that must stay as they are: maps of running or unfinished sessions and of cached
    /// compositions name blocks of theirs.
    pub packs: BTreeSet<PackId>,
}

/// Why a pack is written anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RewriteReason {
    /// More than half of it is garbage.
    Garbage,
    /// It is one of too many small ones.
    Small,
}

/// A pack whose content goes into a new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrite {
    /// The pack.
    pub pack: PackId,
    /// Why.
    pub reason: RewriteReason,
    /// Bytes that are copied.
    pub live: ByteLen,
}

/// What a collection would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CollectPlan {
    /// The packs that there were when the plan was made.
    pub seen: Vec<PackId>,
    /// Packs without anything that lives.
    pub remove: Vec<PackId>,
    /// Packs that are written anew, all into one.
    pub rewrite: Vec<Rewrite>,
    /// Bytes of content that go.
    pub gained: ByteLen,
}

/// What a collection did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// Packs that are gone.
    pub removed: Vec<PackId>,
    /// The pack that their living content is in.
    pub written: Option<PackId>,
    /// Bytes of content that went.
    pub gained: ByteLen,
}

#[derive(Default)]
struct Share {
    items: u64,
    bytes: u64,
}

impl Store {
    /// What a collection that keeps `live` would do. Never writes.
    pub fn plan_collect(&self, live: &LiveSet) -> Result<CollectPlan, StoreError> {
        self.refresh()?;
        plan(&self.inner.tables(), live)
    }

    /// Does what the plan says. `live` is read from the roots after `exclusive` was taken; when a
    /// plan made from it now is not this plan, nothing is done.
    pub fn apply(
        &self,
        plan: &CollectPlan,
        live: &LiveSet,
        exclusive: &Exclusive,
    ) -> Result<Collected, StoreError> {
        let now = self.plan_collect(live)?;
        if now != *plan {
            let text = format!("{} bytes would be gained now, not {}", now.gained, plan.gained);
            return Err(StoreError::PlanStale(text));
        }
        remove_left_behind(&self.inner)?;
        if planted("a collection removes before it has written anew") {
            let rewritten: Vec<PackId> = plan.rewrite.iter().map(|one| one.pack).collect();
            remove_packs(&self.inner, &rewritten)?;
        }
        let written = step("store.rewrite", || rewrite(&self.inner, plan, live, exclusive))?;
        let rewritten = plan.rewrite.iter().map(|rewrite| rewrite.pack);
        let removed: Vec<PackId> = plan
            .remove
            .iter()
            .copied()
            .chain(rewritten)
            .filter(|id| Some(*id) != written)
            .collect();
        step("store.remove", || {
            remove_packs(&self.inner, &removed)?;
            self.inner.dir.sync().map_err(|error| StoreError::io("collecting", &error))
        })?;
        self.refresh()?;
        Ok(Collected { removed, written, gained: plan.gained })
    }
}

fn step<T>(
    name: &'static str,
    take: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    goldleaf_host::step(name, |error| StoreError::io(name, &error), take)
}

fn plan(tables: &Tables, live: &LiveSet) -> Result<CollectPlan, StoreError> {
    if !tables.damaged.is_empty() {
        return Err(StoreError::Damaged(tables.damaged.len()));
    }
    let shares = shares(tables, live);
    let mut plan = CollectPlan::default();
    let mut small = Vec::new();
    for (no, pack) in tables.live_packs() {
        let id = PackId(pack.id);
        plan.seen.push(id);
        let total = content_len(pack);
        let share = shares.get(&no);
        let alive = ByteLen(share.map_or(0, |share| share.bytes));
        if live.packs.contains(&id) {
            continue;
        } else if share.is_none_or(|share| share.items == 0) {
            plan.remove.push(id);
            plan.gained.0 += total;
        } else if alive.0 < total - alive.0 {
            plan.rewrite.push(Rewrite { pack: id, reason: RewriteReason::Garbage, live: alive });
            plan.gained.0 += total - alive.0;
        } else if total < SMALL_LEN {
            small.push((Rewrite { pack: id, reason: RewriteReason::Small, live: alive }, total));
        }
    }
    // What is written anew becomes a pack too: counted now, or the next plan would go on with it.
    if small.len() + usize::from(!plan.rewrite.is_empty()) > SMALL_MAX {
        plan.gained.0 += small.iter().map(|(rewrite, total)| total - rewrite.live.0).sum::<u64>();
        plan.rewrite.extend(small.into_iter().map(|(rewrite, _)| rewrite));
    }
    Ok(plan)
}

fn content_len(pack: &Pack) -> u64 {
    pack.index.data_len() + pack.index.objects_len
}

/// What lives in which pack. Of content that several packs have, one copy counts: the one that
/// every look-up finds.
fn shares(tables: &Tables, live: &LiveSet) -> BTreeMap<u32, Share> {
    let mut shares: BTreeMap<u32, Share> = BTreeMap::new();
    let mut add = |no: u32, bytes: u64| {
        let share = shares.entry(no).or_default();
        share.items += 1;
        share.bytes += bytes;
    };
    for (no, row) in live.blobs.iter().filter_map(|digest| tables.blob(digest)) {
        add(no, BlockCount(row.len).bytes().0);
    }
    for (no, row) in live.objects.iter().filter_map(|digest| tables.object(digest)) {
        add(no, row.len);
    }
    shares
}

/// Nobody files now, so that temporary files are leftovers of crashes.
fn remove_left_behind(inner: &Inner) -> Result<(), StoreError> {
    let items = inner.dir.list().map_err(|error| StoreError::io("listing a store", &error))?;
    let names = items.iter().filter(|item| is_temporary(&item.name));
    names.map(|item| item.name.as_str()).try_for_each(|name| remove(inner, name))
}

/// The newest copy goes last, so that a crash uncovers no damaged one. The mark of a retired pack
/// goes with the pack; one without a pack is in nobody's way.
fn remove_packs(inner: &Inner, removed: &[PackId]) -> Result<(), StoreError> {
    let listing = inner.list()?;
    for id in removed {
        for copy in 0..=listing.packs.get(&id.0).copied().unwrap_or(0) {
            remove(inner, &copy_name(id.0, copy))?;
        }
    }
    Ok(())
}

fn remove(inner: &Inner, name: &str) -> Result<(), StoreError> {
    match inner.dir.remove(name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::io(format!("removing {name}"), &error))
        }
        _ => Ok(()),
    }
}

fn rewrite(
    inner: &Inner,
    plan: &CollectPlan,
    live: &LiveSet,
    exclusive: &Exclusive,
) -> Result<Option<PackId>, StoreError> {
    if plan.rewrite.is_empty() {
        return Ok(None);
    }
    let tables = inner.tables();
    let rewritten: BTreeSet<Digest> = plan.rewrite.iter().map(|one| one.pack.0).collect();
    let removed: BTreeSet<Digest> = plan.remove.iter().map(|id| id.0).collect();
    let rest = tables.without(&|id| rewritten.contains(&id) || removed.contains(&id));
    let mut draft = Draft::new(inner.dir.clone(), exclusive.temporary(), Arc::new(rest));
    for (_, pack) in tables.live_packs().filter(|(_, pack)| rewritten.contains(&pack.id)) {
        copy_living(pack, live, &mut draft)?;
    }
    Ok(draft.finish()?.map(PackId))
}

/// Copies what lives, verified, in the order in which it lies. The draft itself leaves out what
/// another pack has that stays.
pub(crate) fn copy_living(
    pack: &Arc<Pack>,
    live: &LiveSet,
    draft: &mut Draft,
) -> Result<(), StoreError> {
    let blocks = PackBlocks(pack.clone());
    for &number in &pack.index.blobs_by_place {
        let row = pack.index.blobs.row(number as usize);
        if live.blobs.contains(&row.digest) {
            copy_blob(&blocks, row, draft)?;
        }
    }
    for row in pack.index.objects.rows().filter(|row| live.objects.contains(&row.digest)) {
        draft.put_object(&pack.object(row)?)?;
    }
    Ok(())
}

fn copy_blob(blocks: &PackBlocks, row: Row, draft: &mut Draft) -> Result<(), StoreError> {
    let mut at = ByteOffset(BlockCount(row.at).bytes().0);
    let found = draft.put_blob(BlockCount(row.len), &mut |buf| {
        blocks.read_at(at, buf)?;
        at = at.plus(ByteLen(buf.len() as u64));
        Ok(())
    })?;
    if found != row.digest {
        let place = format!("pack {}, blob at block {}", blocks.0.id, row.at);
        return Err(StoreError::corrupt(place, row.digest, found));
    }
    Ok(())
}
