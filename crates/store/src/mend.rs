//! Mending: whole copies of what is damaged, made from other stores and from what the store itself
//! has twice. Adds only.
//!
//! A pack's name authenticates every byte of it, so a pack that is put together from whole pieces,
//! wherever they come from, *is* that pack: places in it hold, and so do the maps of composed disks
//! that name them. The new copy gets a file of its own (`ID.1.pack`, `ID.2.pack`, …), and the
//! newest copy is the one that is read; what was damaged stays as it is. What is in no source keeps
//! its damaged bytes in the new copy, and is found by every check as before.
//!
//! Of a pack whose index nobody has, the content that is needed is filed anew under its digests.
//! The pack itself can then be *retired*: a mark beside it says that nothing is missed of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use goldleaf_block::{BLOCK_SIZE, BlockCount, BlockError, ByteLen};
use goldleaf_host::File;

use crate::check::check_file;
use crate::format::{Index, Row, TRAILER_LEN, Table, Trailer, encode_index};
use crate::frames::FrameHasher;
use crate::hold::Exclusive;
use crate::pack::{Pack, copy_name, hash_range, read_index, retired_name};
use crate::writer::{Draft, Temporary};
use crate::{CheckReport, Damaged, Digest, PackId, Store, StoreError};

/// How much is in memory at once when content is copied, in bytes.
const PIECE_LEN: u64 = 1 << 20;
/// How much of a file's end is searched for an index whose trailer is damaged, in bytes.
const INDEX_SEARCH_LEN: u64 = 64 << 20;

/// A pack of which a better copy can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackMend {
    /// The pack.
    pub pack: PackId,
    /// Number of the copy that is made.
    pub copy: u32,
    /// Blobs and objects that can be read when the copy is there, and cannot be now.
    pub healed: BTreeSet<Digest>,
    /// Blobs and objects that nobody has whole.
    pub lost: BTreeSet<Digest>,
    /// Length of the new file.
    pub len: ByteLen,
}

impl PackMend {
    /// Name of the file that is added.
    pub fn file_name(&self) -> String {
        copy_name(self.pack.0, self.copy)
    }
}

impl Store {
    /// What can be made of the packs named, which are damaged. A pack of which no better copy can
    /// be made is not in the answer. Never writes.
    pub fn plan_mends(
        &self,
        hurt: &BTreeSet<PackId>,
        others: &[Store],
    ) -> Result<Vec<PackMend>, StoreError> {
        self.refresh()?;
        let mut plan = Vec::new();
        for pack in hurt {
            if let Some(mender) = Mender::new(self, pack.0, others)? {
                plan.extend(mender.plan());
            }
        }
        Ok(plan)
    }

    /// Adds the copy that a plan speaks of. Nothing is added when it would not be what was planned.
    pub fn mend(
        &self,
        mend: &PackMend,
        others: &[Store],
        exclusive: &Exclusive,
    ) -> Result<(), StoreError> {
        let mender = Mender::new(self, mend.pack.0, others)?;
        let Some(mender) = mender.filter(|mender| mender.plan().as_ref() == Some(mend)) else {
            return Err(stale(mend.pack.0));
        };
        let dir = &self.inner.dir;
        // The name is a leftover's or nobody's: all slots are held.
        let mut temporary = Temporary::new(dir.clone(), exclusive.temporary());
        let len = mender.write(&mut temporary)?;
        temporary.settle(len)?;
        read_back(self, mend, &exclusive.temporary())?;
        temporary.name_it(&mend.file_name())?;
        dir.sync().map_err(|error| StoreError::io(format!("pack {}", mend.pack.0), &error))?;
        self.refresh()?;
        Ok(())
    }

    /// The length of a blob that some pack has whole, read and compared.
    pub fn whole_blob(&self, digest: &Digest) -> Option<ByteLen> {
        find(&[self], digest, Area::Data).map(|place| ByteLen(place.len))
    }

    /// The length of an object that some pack has whole, read and compared.
    pub fn whole_object(&self, digest: &Digest) -> Option<ByteLen> {
        find(&[self], digest, Area::Objects).map(|place| ByteLen(place.len))
    }

    /// Files content that other stores have whole, and this one has not, into one new pack.
    pub fn file_from(
        &self,
        blobs: &BTreeSet<Digest>,
        objects: &BTreeSet<Digest>,
        others: &[Store],
        exclusive: &Exclusive,
    ) -> Result<Option<PackId>, StoreError> {
        let others: Vec<&Store> = others.iter().collect();
        let temporary = exclusive.temporary();
        let mut draft = Draft::new(self.inner.dir.clone(), temporary, self.inner.tables());
        let missing = |what, digest: &Digest| StoreError::Missing { what, digest: *digest };
        for digest in blobs {
            let place = find(&others, digest, Area::Data).ok_or_else(|| missing("blob", digest))?;
            let mut at = place.at;
            let found = draft.put_blob(BlockCount(place.len / BLOCK_SIZE), &mut |buf| {
                let read = place.file.read_exact_at(buf, at);
                at += buf.len() as u64;
                read.map_err(|error| BlockError::io("reading a pack", &error))
            })?;
            expect(*digest, found)?;
        }
        for digest in objects {
            let place =
                find(&others, digest, Area::Objects).ok_or_else(|| missing("object", digest))?;
            let mut bytes = vec![0; place.len as usize];
            read(place.file.as_ref(), &mut bytes, place.at)?;
            expect(*digest, draft.put_object(&bytes)?)?;
        }
        let pack = draft.finish()?.map(PackId);
        self.refresh()?;
        Ok(pack)
    }

    /// Marks a pack that cannot be opened as one of which nothing is missed. Should it be opened
    /// again one day, the mark means nothing.
    pub fn retire(&self, pack: PackId, _exclusive: &Exclusive) -> Result<(), StoreError> {
        let io = |error| StoreError::io(format!("retiring pack {}", pack.0), &error);
        match self.inner.dir.create(&retired_name(pack.0)) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(io(error));
            }
            _ => {}
        }
        self.inner.dir.sync().map_err(io)?;
        self.refresh()?;
        Ok(())
    }
}

fn stale(pack: Digest) -> StoreError {
    StoreError::PlanStale(format!("the sources of pack {pack} are not what they were"))
}

fn expect(expected: Digest, found: Digest) -> Result<(), StoreError> {
    if expected == found {
        return Ok(());
    }
    Err(StoreError::PlanStale(format!("{expected} reads as {found} now")))
}

fn read(file: &dyn File, buf: &mut [u8], at: u64) -> Result<(), StoreError> {
    file.read_exact_at(buf, at).map_err(|error| StoreError::io("reading a pack", &error))
}

/// What was written, read from the medium again, is what was planned.
fn read_back(store: &Store, mend: &PackMend, name: &str) -> Result<(), StoreError> {
    let io = |error| StoreError::io("reading a new copy back", &error);
    let dir = &store.inner.dir;
    dir.open(name).and_then(|file| file.drop_cache()).map_err(io)?;
    let mut report = CheckReport::default();
    check_file(store, name, mend.pack.0, &mut report);
    let wrong = report.damage.into_iter().find(|damage| match damage.what {
        Damaged::Blob(digest) | Damaged::Object(digest) => !mend.lost.contains(&digest),
        Damaged::Frame => mend.lost.is_empty(),
        Damaged::Pack => true,
    });
    wrong.map_or(Ok(()), |damage| Err(damage.error))
}

#[derive(Clone, Copy)]
enum Area {
    Data,
    Objects,
}

impl Area {
    fn table(self, index: &Index) -> &Table {
        match self {
            Self::Data => &index.blobs,
            Self::Objects => &index.objects,
        }
    }

    /// Place and length in bytes of a row in the pack's file.
    fn range(self, index: &Index, row: Row) -> (u64, u64) {
        match self {
            Self::Data => (row.at * BLOCK_SIZE, row.len * BLOCK_SIZE),
            Self::Objects => (index.data_len() + row.at, row.len),
        }
    }
}

/// Where whole content lies.
#[derive(Clone)]
struct Place {
    file: Arc<dyn File>,
    at: u64,
    len: u64,
}

impl Place {
    fn is_whole(&self, digest: Digest) -> bool {
        // Content that cannot be read is as lost as one that reads as something else.
        hash_range(self.file.as_ref(), self.at, self.len).is_ok_and(|found| found == digest)
    }
}

/// Whole content in any pack of the stores.
fn find(stores: &[&Store], digest: &Digest, area: Area) -> Option<Place> {
    stores.iter().find_map(|store| {
        let tables = store.inner.tables();
        tables.live_packs().find_map(|(_, pack)| {
            let row = area.table(&pack.index).find(digest)?;
            let (at, len) = area.range(&pack.index, row);
            let place = Place { file: pack.file.clone(), at, len };
            place.is_whole(*digest).then_some(place)
        })
    })
}

/// Where a row of the new copy comes from.
#[derive(Clone)]
enum Origin {
    /// The copy that is read now has it.
    Current,
    /// It is copied from here.
    Whole(Place),
    /// Nobody has it.
    Lost,
}

/// Takes bytes for a place in the new file.
type Write<'a> = dyn FnMut(u64, &[u8]) -> Result<(), StoreError> + 'a;

/// A pack to be made whole, with all that is known of it.
struct Mender {
    id: Digest,
    index: Index,
    /// The file that is read now; `None` when it cannot even be opened.
    current: Option<Arc<dyn File>>,
    /// Whether its index can be read.
    has_index: bool,
    /// The frame hashes, if anybody has them right.
    frames: Option<Vec<u8>>,
    /// Whether the current file is the one that has them.
    has_frames: bool,
    /// Number of the next copy.
    copy: u32,
    blobs: Vec<(Row, Origin)>,
    objects: Vec<(Row, Origin)>,
}

impl Mender {
    /// `None` when nobody has the pack's index.
    fn new(store: &Store, id: Digest, others: &[Store]) -> Result<Option<Self>, StoreError> {
        let newest = store.inner.list()?.packs.get(&id).copied();
        let tables = store.inner.tables();
        // What every reader uses is the copy that could be opened, else the newest.
        let opened = tables.live.get(&id).and_then(|no| tables.packs.get(*no as usize));
        let read_now = opened.map(|pack| pack.copy).or(newest);
        let older = (0..=newest.unwrap_or(0)).rev().filter(|copy| Some(*copy) != read_now);
        let own = read_now.into_iter().chain(older);
        let own: Vec<_> = own.map(|copy| store.inner.dir.open(&copy_name(id, copy)).ok()).collect();
        let current = own.first().cloned().flatten();
        let has_index = current.as_ref().is_some_and(|file| index_of(file, id).is_some());
        let elsewhere = others.iter().filter_map(|other| same_pack(other, id));
        let bases: Vec<Arc<dyn File>> =
            own.into_iter().flatten().chain(elsewhere.map(|pack| pack.file.clone())).collect();
        let index = bases.iter().find_map(|file| index_of(file, id).or_else(|| search(file, id)));
        let Some(index) = index else { return Ok(None) };
        let has_frames =
            current.as_ref().is_some_and(|file| frames_of(file.as_ref(), &index).is_some());
        let frames = bases.iter().find_map(|file| frames_of(file.as_ref(), &index));
        let sources = Sources { store, others, bases: &bases, current: current.as_ref() };
        let blobs = sources.rows(&index, Area::Data, &index.blobs_by_place);
        let objects = sources.rows(&index, Area::Objects, &index.objects.by_place());
        let copy = newest.map_or(0, |newest| newest + 1);
        Ok(Some(Self { id, index, current, has_index, frames, has_frames, copy, blobs, objects }))
    }

    /// `None` when the new copy would be no better than the current one.
    fn plan(&self) -> Option<PackMend> {
        let rows = || self.blobs.iter().chain(&self.objects);
        let of = |wanted: fn(&Origin) -> bool| -> BTreeSet<Digest> {
            rows().filter(|(_, origin)| wanted(origin)).map(|(row, _)| row.digest).collect()
        };
        // Without an index nothing can be read now, however whole it is.
        let healed = match self.has_index {
            true => of(|origin| matches!(origin, Origin::Whole(_))),
            false => of(|origin| !matches!(origin, Origin::Lost)),
        };
        let lost = of(|origin| matches!(origin, Origin::Lost));
        let mends_frames = !self.has_frames && (self.frames.is_some() || lost.is_empty());
        // A pack of which nothing is whole is no better with an index than without.
        let is_anything = lost.len() < rows().count();
        let gains = !healed.is_empty() || mends_frames || !self.has_index;
        let len = ByteLen(self.file_len());
        let (pack, copy) = (PackId(self.id), self.copy);
        (gains && is_anything).then_some(PackMend { pack, copy, healed, lost, len })
    }

    fn index_bytes(&self) -> Vec<u8> {
        let (blobs, objects) = (&self.index.blobs, &self.index.objects);
        let areas = (BlockCount(self.index.data_blocks), self.index.objects_len);
        let rows = |table: &Table| table.rows().collect::<Vec<_>>();
        let frames = self.index.frames_digest.unwrap_or(Digest([0; 32]));
        encode_index(areas, frames, &rows(blobs), &rows(objects))
    }

    fn file_len(&self) -> u64 {
        let index = self.index_bytes().len() as u64;
        let areas = self.index.data_len() + self.index.objects_len;
        areas + self.index.frames() * 32 + index + TRAILER_LEN
    }

    /// Writes the whole file, and says how long it is.
    fn write(&self, to: &mut Temporary) -> Result<u64, StoreError> {
        let mut hasher = FrameHasher::new();
        for (area, rows) in [(Area::Data, &self.blobs), (Area::Objects, &self.objects)] {
            for (row, origin) in rows {
                self.write_row(
                    area.range(&self.index, *row),
                    row.digest,
                    origin,
                    &mut |at, bytes| {
                        hasher.update(bytes);
                        to.write(bytes, at)
                    },
                )?;
            }
            hasher.end_area();
        }
        let frames = self.frames.as_deref().unwrap_or(hasher.hashes());
        let index = self.index_bytes();
        let trailer = Trailer { index_len: index.len() as u64, id: self.id }.encode();
        let mut at = self.index.data_len() + self.index.objects_len;
        for part in [frames, &index, &trailer] {
            to.write(part, at)?;
            at += part.len() as u64;
        }
        Ok(at)
    }

    fn write_row(
        &self,
        (start, len): (u64, u64),
        digest: Digest,
        origin: &Origin,
        write: &mut Write<'_>,
    ) -> Result<(), StoreError> {
        let (file, from) = match origin {
            Origin::Whole(place) => (Some(&place.file), place.at),
            Origin::Current | Origin::Lost => (self.current.as_ref(), start),
        };
        let is_lost = matches!(origin, Origin::Lost);
        // What is lost is taken block by block, so that one that cannot be read costs no other.
        let step = if is_lost { BLOCK_SIZE } else { PIECE_LEN };
        let mut buf = vec![0; step.min(len) as usize];
        let mut hasher = blake3::Hasher::new();
        let mut done = 0;
        while done < len {
            let piece = &mut buf[..step.min(len - done) as usize];
            let result = match file {
                Some(file) => read(file.as_ref(), piece, from + done),
                None => Err(stale(self.id)),
            };
            match result {
                Err(_) if is_lost => piece.fill(0),
                other => other?,
            }
            hasher.update(piece);
            write(start + done, piece)?;
            done += piece.len() as u64;
        }
        if is_lost { Ok(()) } else { expect(digest, Digest(*hasher.finalize().as_bytes())) }
    }
}

/// Where the rows of a pack are looked for.
struct Sources<'a> {
    store: &'a Store,
    others: &'a [Store],
    bases: &'a [Arc<dyn File>],
    current: Option<&'a Arc<dyn File>>,
}

impl Sources<'_> {
    fn rows(&self, index: &Index, area: Area, order: &[u32]) -> Vec<(Row, Origin)> {
        let rows = order.iter().map(|&number| area.table(index).row(number as usize));
        rows.map(|row| (row, self.origin(row.digest, area.range(index, row), area))).collect()
    }

    fn origin(&self, digest: Digest, (at, len): (u64, u64), area: Area) -> Origin {
        let place = |file: &Arc<dyn File>| Place { file: file.clone(), at, len };
        if self.current.is_some_and(|file| place(file).is_whole(digest)) {
            return Origin::Current;
        }
        let mut bases = self.bases.iter().map(place);
        let stores: Vec<&Store> = std::iter::once(self.store).chain(self.others).collect();
        let found = bases
            .find(|place| place.is_whole(digest))
            .or_else(|| find(&stores, &digest, area).filter(|place| place.len == len));
        found.map_or(Origin::Lost, Origin::Whole)
    }
}

/// The pack of that id, where another store has opened it.
fn same_pack(store: &Store, id: Digest) -> Option<Arc<Pack>> {
    let tables = store.inner.tables();
    let no = *tables.live.get(&id)?;
    tables.packs.get(no as usize).cloned()
}

fn index_of(file: &Arc<dyn File>, id: Digest) -> Option<Index> {
    read_index(file.as_ref(), file.len().ok()?, id).ok()
}

/// The frame hashes, if the file has them right.
fn frames_of(file: &dyn File, index: &Index) -> Option<Vec<u8>> {
    let mut hashes = vec![0; index.frames() as usize * 32];
    file.read_exact_at(&mut hashes, index.data_len() + index.objects_len).ok()?;
    (index.frames_digest == Some(Digest::of(&hashes))).then_some(hashes)
}

/// The index of a file whose trailer is damaged: it ends where the trailer begins, says itself how
/// long it is, and has the pack's name for a hash.
fn search(file: &Arc<dyn File>, id: Digest) -> Option<Index> {
    let len = file.len().ok()?;
    let end = len.checked_sub(TRAILER_LEN)?;
    let searched = end.min(INDEX_SEARCH_LEN);
    let mut tail = vec![0; searched as usize];
    file.read_exact_at(&mut tail, end - searched).ok()?;
    let candidates = Index::encoded_lens(tail.len());
    candidates.filter_map(|len| tail.get(tail.len() - len..)).find_map(|bytes| {
        (Index::says_len(bytes) && Digest::of(bytes) == id)
            .then(|| Index::decode(bytes, len).ok())
            .flatten()
    })
}
