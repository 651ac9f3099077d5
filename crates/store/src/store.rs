//! The store: one directory of packs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use goldleaf_block::{BlockCount, BlockNo, ByteLen, ReadBlocks};
use goldleaf_host::{Dir, File};

use crate::format::Row;
use crate::hold::{Exclusive, Hold};
use crate::pack::{Pack, PackBlocks, id_of, retired_id_of};
use crate::tables::Tables;
use crate::writer::PackWriter;
use crate::{Digest, StoreError};

/// The name of a pack, everywhere and for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackId(pub Digest);

/// A pack's number in this process; never used for another pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackNo(pub u32);

/// Where a blob lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// The pack that has it.
    pub pack: PackNo,
    /// Its first block in the pack's data area.
    pub at: BlockNo,
    /// Its length.
    pub blocks: BlockCount,
}

/// What a block of a pack belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobPart {
    /// The blob.
    pub blob: Digest,
    /// The block's number within the blob.
    pub block: BlockNo,
    /// Blocks of the blob from this one on.
    pub left: BlockCount,
}

/// What a pack is, for lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackInfo {
    /// Its number in this process.
    pub no: PackNo,
    /// Its name.
    pub id: PackId,
    /// Length of its data area.
    pub data: BlockCount,
    /// Length of the file.
    pub file: ByteLen,
    /// Number of blobs.
    pub blobs: u64,
    /// Number of objects.
    pub objects: u64,
}

/// One directory of content. Cheap to clone, and shared between threads.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
    /// Where objects are looked for that this store does not have whole.
    others: Arc<[Store]>,
}

/// How often a listing is taken anew when a pack goes away between listing and opening.
const LISTINGS_MAX: u32 = 8;

pub(crate) struct Inner {
    pub dir: Arc<dyn Dir>,
    tables: RwLock<Arc<Tables>>,
    refreshing: Mutex<()>,
}

/// What a look at the directory finds.
#[derive(Default)]
pub(crate) struct Listing {
    /// Packs, and the newest copy of each.
    pub packs: BTreeMap<Digest, u32>,
    /// Packs of which nothing is missed when they cannot be opened.
    pub retired: BTreeSet<Digest>,
}

impl Inner {
    pub(crate) fn tables(&self) -> Arc<Tables> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks what packs are there now; says whether anything changed.
    pub(crate) fn refresh(&self) -> Result<bool, StoreError> {
        let _one = self.refreshing.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..LISTINGS_MAX {
            let old = self.tables();
            let listing = self.list()?;
            // A damaged pack is tried again each time: filing the same content heals it.
            let same = listing.packs.len() == old.live.len()
                && listing.packs.iter().all(|(id, newest)| old.has(id, *newest).is_some());
            if same {
                return Ok(false);
            }
            if let Some(tables) = self.load(&old, &listing)? {
                let mut place = self.tables.write().unwrap_or_else(PoisonError::into_inner);
                *place = Arc::new(tables);
                return Ok(true);
            }
        }
        Err(StoreError::Busy("its packs change faster than they can be listed"))
    }

    /// Makes the names of all packs durable, and looks what there is. Whoever gave a pack its name
    /// may have been killed before that was durable, and nobody files content again, or keeps the
    /// one copy of it, that goes with the next power cut.
    fn settle(&self) -> Result<(), StoreError> {
        self.dir.sync().map_err(|error| StoreError::io("opening a store", &error))?;
        self.refresh().map(drop)
    }

    pub(crate) fn list(&self) -> Result<Listing, StoreError> {
        let items = self.dir.list().map_err(|error| StoreError::io("listing a store", &error))?;
        let mut listing = Listing::default();
        for item in items.iter().filter(|item| !item.is_dir) {
            if let Some((id, copy)) = id_of(&item.name) {
                let newest = listing.packs.entry(id).or_insert(copy);
                *newest = copy.max(*newest);
            }
            listing.retired.extend(retired_id_of(&item.name));
        }
        Ok(listing)
    }

    /// Opens what is new. `None` when a pack went away in the meantime.
    fn load(&self, old: &Tables, listing: &Listing) -> Result<Option<Tables>, StoreError> {
        let mut packs = old.packs.clone();
        let (mut live, mut damaged) = (BTreeMap::new(), BTreeMap::new());
        for (&id, &newest) in &listing.packs {
            if let Some(no) = old.has(&id, newest) {
                live.insert(id, no);
                continue;
            }
            match Pack::open(self.dir.as_ref(), id, newest) {
                Ok(pack) => {
                    live.insert(id, packs.len() as u32);
                    packs.push(Arc::new(pack));
                }
                // All that was missed of it is in other packs.
                Err(StoreError::Corrupt { .. }) if listing.retired.contains(&id) => {}
                Err(error @ StoreError::Corrupt { .. }) => {
                    damaged.insert(id, error);
                }
                Err(StoreError::Missing { .. }) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(Some(Tables::new(packs, live, damaged)))
    }
}

impl Store {
    /// Opens a store and reads the index of every pack. A pack whose index is damaged does not
    /// stop the others: see [`damaged`](Self::damaged).
    pub fn open(dir: Arc<dyn Dir>) -> Result<Self, StoreError> {
        let (tables, refreshing) = (RwLock::default(), Mutex::default());
        let inner = Inner { dir, tables, refreshing };
        inner.refresh()?;
        Ok(Self { inner: Arc::new(inner), others: Arc::default() })
    }

    /// The same store, where an object that it does not have whole is read from the others: what
    /// can be read of a layer before its store is repaired.
    pub fn with_others(&self, others: &[Store]) -> Self {
        Self { inner: self.inner.clone(), others: others.into() }
    }

    /// Takes notice of packs that another process added or removed; says whether there were any.
    pub fn refresh(&self) -> Result<bool, StoreError> {
        self.inner.refresh()
    }

    /// Begins a filing: nothing is collected until the [`Hold`] of its end is dropped.
    pub fn writer(&self) -> Result<PackWriter, StoreError> {
        let hold = Hold::take(&self.inner.dir)?;
        // Only what is there now, under the hold, may be relied on.
        self.inner.settle()?;
        Ok(PackWriter::new(self.inner.clone(), hold, self.inner.tables()))
    }

    /// Keeps collection away, for who builds on content that no durable root names yet.
    pub fn hold(&self) -> Result<Hold, StoreError> {
        Hold::take(&self.inner.dir)
    }

    /// Keeps every filing away, so that roots can be read and the store collected.
    pub fn exclusive(&self) -> Result<Exclusive, StoreError> {
        let exclusive = Exclusive::take(&self.inner.dir)?;
        self.inner.settle()?;
        Ok(exclusive)
    }

    /// Where a blob lies.
    pub fn blob(&self, digest: &Digest) -> Option<Location> {
        let (pack, row) = self.inner.tables().blob(digest)?;
        Some(Location { pack: PackNo(pack), at: BlockNo(row.at), blocks: BlockCount(row.len) })
    }

    /// Where many blobs lie, in their order: at a third of the time that asking for each takes.
    pub fn blobs(&self, digests: &[Digest]) -> Vec<Option<Location>> {
        let place = |(pack, row): (u32, Row)| Location {
            pack: PackNo(pack),
            at: BlockNo(row.at),
            blocks: BlockCount(row.len),
        };
        let found = self.inner.tables().blobs(digests);
        found.into_iter().map(|blob| blob.map(place)).collect()
    }

    /// Which blob has that block of a pack's data area.
    pub fn blob_at(&self, pack: PackNo, block: BlockNo) -> Option<BlobPart> {
        let tables = self.inner.tables();
        let row = tables.packs.get(pack.0 as usize)?.index.blob_at(block)?;
        let within = block.0 - row.at;
        Some(BlobPart {
            blob: row.digest,
            block: BlockNo(within),
            left: BlockCount(row.len - within),
        })
    }

    /// Whether an object is there.
    pub fn has_object(&self, digest: &Digest) -> bool {
        self.inner.tables().object(digest).is_some()
    }

    /// Reads an object; what is returned has that digest.
    pub fn object(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let own = self.own_object(digest);
        own.or_else(|error| {
            let mut others = self.others.iter();
            others.find_map(|other| other.own_object(digest).ok()).ok_or(error)
        })
    }

    fn own_object(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let tables = self.inner.tables();
        let missing = || StoreError::Missing { what: "object", digest: *digest };
        let (no, row) = tables.object(digest).ok_or_else(missing)?;
        tables.packs.get(no as usize).ok_or_else(missing)?.object(row)
    }

    /// The data area of a pack as a device. Each frame of 64 KiB is verified at its first use in
    /// this process; one that is not right reads as [`goldleaf_block::BlockError::Corrupt`].
    pub fn pack_blocks(&self, pack: PackNo) -> Result<Arc<dyn ReadBlocks>, StoreError> {
        Ok(Arc::new(PackBlocks(self.pack(pack)?)))
    }

    /// The file of a pack, whose descriptor goes to the worker. Its data area begins at byte 0.
    pub fn pack_file(&self, pack: PackNo) -> Result<Arc<dyn File>, StoreError> {
        Ok(self.pack(pack)?.file.clone())
    }

    /// The number of a pack that is there.
    pub fn pack_no(&self, id: PackId) -> Option<PackNo> {
        self.inner.tables().live.get(&id.0).map(|no| PackNo(*no))
    }

    /// The name of a pack that is there, by any number that it ever had: a repair gives it another.
    pub fn pack_id(&self, pack: PackNo) -> Option<PackId> {
        let tables = self.inner.tables();
        let id = tables.packs.get(pack.0 as usize)?.id;
        tables.live.contains_key(&id).then_some(PackId(id))
    }

    /// The packs that are there, by id.
    pub fn packs(&self) -> Vec<PackInfo> {
        let tables = self.inner.tables();
        tables.live_packs().map(|(no, pack)| info(no, pack)).collect()
    }

    /// Packs that are there and whose index cannot be read, with the reason.
    pub fn damaged(&self) -> Vec<(PackId, StoreError)> {
        let tables = self.inner.tables();
        tables.damaged.iter().map(|(id, error)| (PackId(*id), error.clone())).collect()
    }

    fn pack(&self, pack: PackNo) -> Result<Arc<Pack>, StoreError> {
        let tables = self.inner.tables();
        let found = tables.packs.get(pack.0 as usize).cloned();
        found.ok_or_else(|| StoreError::Limit(format!("pack number {} was never given", pack.0)))
    }
}

fn info(no: u32, pack: &Pack) -> PackInfo {
    PackInfo {
        no: PackNo(no),
        id: PackId(pack.id),
        data: BlockCount(pack.index.data_blocks),
        file: ByteLen(pack.file_len),
        blobs: pack.index.blobs.len() as u64,
        objects: pack.index.objects.len() as u64,
    }
}
