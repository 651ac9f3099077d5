//! Filing: new content into one new pack.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use goldleaf_block::{BLOCK_SIZE, BlockCount, BlockError, BlockRange, ByteLen, ReadBlocks};
use goldleaf_host::{Dir, File, planted};

use crate::collect::{LiveSet, copy_living};
use crate::format::{MAX_OBJECT_LEN, Row, Trailer, encode_index};
use crate::frames::{FrameHasher, Mark};
use crate::hold::Hold;
use crate::pack::file_name;
use crate::store::Inner;
use crate::tables::Tables;
use crate::{Digest, PackId, Store, StoreError};

/// How much content is in memory at once, in bytes.
const CHUNK_LEN: usize = 1 << 20;

/// Collects what one filing adds. What the store has already, or what was put before, is not
/// written again. Blobs stream into a temporary file; objects stay in memory until
/// [`finish`](Self::finish). Dropped without that, nothing has happened.
pub struct PackWriter {
    store: Arc<Inner>,
    hold: Hold,
    draft: Draft,
}

/// What a finished filing leaves behind.
pub struct Filed {
    /// The new pack; `None` when everything was there already.
    pub pack: Option<PackId>,
    /// To be dropped when the root that names the content is durable, not before.
    pub hold: Hold,
}

impl PackWriter {
    pub(crate) fn new(store: Arc<Inner>, hold: Hold, tables: Arc<Tables>) -> Self {
        let draft = Draft::new(store.dir.clone(), hold.temporary(), tables);
        Self { store, hold, draft }
    }

    /// Stores `count` blocks, which must not be none. `fill` is called with one buffer after the
    /// other, of whole blocks, and puts the next blocks there.
    pub fn put_blob(
        &mut self,
        count: BlockCount,
        fill: &mut dyn FnMut(&mut [u8]) -> Result<(), BlockError>,
    ) -> Result<Digest, StoreError> {
        self.draft.put_blob(count, fill)
    }

    /// Stores the runs of a device one behind the other, `len` bytes of them: what lies behind that
    /// in the last block is stored as zeroes, whatever the device has there.
    pub fn put_blob_from(
        &mut self,
        device: &dyn ReadBlocks,
        runs: &[BlockRange],
        len: ByteLen,
    ) -> Result<Digest, StoreError> {
        let count: u64 = runs.iter().map(|run| run.count.0).sum();
        if count != len.blocks().0 {
            let text = format!("{len} bytes of content in runs of {count} blocks");
            return Err(StoreError::Limit(text));
        }
        let mut reader = RunReader { device, runs, run: 0, within: 0, left: len.0 };
        self.draft.put_blob(BlockCount(count), &mut |buf| reader.fill(buf))
    }

    /// Stores an object.
    pub fn put_object(&mut self, bytes: &[u8]) -> Result<Digest, StoreError> {
        self.draft.put_object(bytes)
    }

    /// Stores what of `live` another store has, and this one has not.
    pub fn copy(&mut self, from: &Store, live: &LiveSet) -> Result<(), StoreError> {
        for (_, pack) in from.inner.tables().live_packs() {
            copy_living(pack, live, &mut self.draft)?;
        }
        Ok(())
    }

    /// Bytes that this filing adds so far.
    pub fn new_bytes(&self) -> ByteLen {
        ByteLen(self.draft.at + self.draft.object_bytes.len() as u64)
    }

    /// Makes all that was put durable, and visible in the store that this writer came from.
    pub fn finish(self) -> Result<Filed, StoreError> {
        let pack = self.draft.finish()?.map(PackId);
        if pack.is_some() {
            self.store.refresh()?;
        }
        Ok(Filed { pack, hold: self.hold })
    }
}

/// Reads runs of a device as one stream.
struct RunReader<'a> {
    device: &'a dyn ReadBlocks,
    runs: &'a [BlockRange],
    run: usize,
    within: u64,
    left: u64,
}

impl RunReader<'_> {
    fn fill(&mut self, buf: &mut [u8]) -> Result<(), BlockError> {
        let mut done = 0;
        while done < buf.len() {
            let Some(run) = self.runs.get(self.run) else {
                buf[done..].fill(0);
                return Ok(());
            };
            let part = (run.count.bytes().0 - self.within).min((buf.len() - done) as u64);
            let piece = &mut buf[done..done + part as usize];
            let (data, padding) = piece.split_at_mut(part.min(self.left) as usize);
            self.device.read_at(run.start.offset().plus(ByteLen(self.within)), data)?;
            padding.fill(0);
            self.left -= data.len() as u64;
            self.within += part;
            done += part as usize;
            if self.within == run.count.bytes().0 {
                (self.run, self.within) = (self.run + 1, 0);
            }
        }
        Ok(())
    }
}

/// A pack in the making.
pub(crate) struct Draft {
    dir: Arc<dyn Dir>,
    known: Arc<Tables>,
    temporary: Temporary,
    /// The end of the data area, in bytes, with what is still in `tail`.
    at: u64,
    /// Bytes at the end of the data area that the file does not have yet.
    tail: Vec<u8>,
    scratch: Vec<u8>,
    frames: FrameHasher,
    blobs: HashMap<Digest, Row>,
    objects: HashMap<Digest, Row>,
    object_bytes: Vec<u8>,
}

impl Draft {
    pub(crate) fn new(dir: Arc<dyn Dir>, temporary: String, known: Arc<Tables>) -> Self {
        Self {
            temporary: Temporary::new(dir.clone(), temporary),
            dir,
            known,
            at: 0,
            tail: Vec::new(),
            scratch: Vec::new(),
            frames: FrameHasher::new(),
            blobs: HashMap::new(),
            objects: HashMap::new(),
            object_bytes: Vec::new(),
        }
    }

    pub(crate) fn put_blob(
        &mut self,
        count: BlockCount,
        fill: &mut dyn FnMut(&mut [u8]) -> Result<(), BlockError>,
    ) -> Result<Digest, StoreError> {
        let len = count.0.checked_mul(BLOCK_SIZE).filter(|len| *len > 0);
        let len = len.ok_or_else(|| StoreError::Limit(format!("a blob of {count} blocks")))?;
        if len <= CHUNK_LEN as u64 {
            return self.put_small(len as usize, fill);
        }
        let (start, mark) = (self.at, self.frames.mark());
        let result = self.stream(len, fill);
        match result {
            Ok(digest) if !self.has_blob(&digest) => Ok(self.note_blob(digest, start)),
            result => {
                self.rewind(start, mark);
                result
            }
        }
    }

    /// A blob that fits the buffer is looked up before anything is written.
    fn put_small(
        &mut self,
        len: usize,
        fill: &mut dyn FnMut(&mut [u8]) -> Result<(), BlockError>,
    ) -> Result<Digest, StoreError> {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.resize(CHUNK_LEN, 0);
        let filled = fill(&mut scratch[..len]);
        let digest = Digest::of(&scratch[..len]);
        let start = self.at;
        let result = match filled {
            Ok(()) if self.has_blob(&digest) => Ok(digest),
            Ok(()) => self.append(&scratch[..len]).map(|()| self.note_blob(digest, start)),
            Err(error) => Err(error.into()),
        };
        self.scratch = scratch;
        result
    }

    /// A longer one is known only when it has been written, and is taken back if it was there.
    fn stream(
        &mut self,
        len: u64,
        fill: &mut dyn FnMut(&mut [u8]) -> Result<(), BlockError>,
    ) -> Result<Digest, StoreError> {
        let mut hasher = blake3::Hasher::new();
        let mut buf = vec![0; CHUNK_LEN];
        let mut left = len;
        while left > 0 {
            let part = left.min(CHUNK_LEN as u64) as usize;
            fill(&mut buf[..part])?;
            hasher.update(&buf[..part]);
            self.append(&buf[..part])?;
            left -= part as u64;
        }
        Ok(Digest(*hasher.finalize().as_bytes()))
    }

    pub(crate) fn put_object(&mut self, bytes: &[u8]) -> Result<Digest, StoreError> {
        if bytes.len() as u64 > MAX_OBJECT_LEN {
            return Err(StoreError::Limit(format!("an object of {} bytes", bytes.len())));
        }
        let digest = Digest::of(bytes);
        if !self.objects.contains_key(&digest) && self.known.object(&digest).is_none() {
            let (at, len) = (self.object_bytes.len() as u64, bytes.len() as u64);
            self.objects.insert(digest, Row { digest, at, len });
            self.object_bytes.extend_from_slice(bytes);
        }
        Ok(digest)
    }

    fn has_blob(&self, digest: &Digest) -> bool {
        self.blobs.contains_key(digest) || self.known.blob(digest).is_some()
    }

    fn note_blob(&mut self, digest: Digest, start: u64) -> Digest {
        let len = (self.at - start) / BLOCK_SIZE;
        self.blobs.insert(digest, Row { digest, at: start / BLOCK_SIZE, len });
        digest
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.frames.update(bytes);
        self.tail.extend_from_slice(bytes);
        self.at += bytes.len() as u64;
        if self.tail.len() >= CHUNK_LEN {
            self.flush_tail()?;
        }
        Ok(())
    }

    fn flush_tail(&mut self) -> Result<(), StoreError> {
        let start = self.at - self.tail.len() as u64;
        self.temporary.write(&self.tail, start)?;
        self.tail.clear();
        Ok(())
    }

    /// Takes back what was appended since `start`.
    fn rewind(&mut self, start: u64, mark: Mark) {
        let in_tail = self.tail.len() as u64 - (self.at - start).min(self.tail.len() as u64);
        self.tail.truncate(in_tail as usize);
        self.at = start;
        self.frames.rewind(mark);
    }

    /// Writes the rest and makes the pack durable under its name.
    pub(crate) fn finish(mut self) -> Result<Option<Digest>, StoreError> {
        if self.blobs.is_empty() && self.objects.is_empty() {
            return Ok(None);
        }
        self.flush_tail()?;
        self.frames.end_area();
        self.frames.update(&self.object_bytes);
        self.frames.end_area();
        let areas = (BlockCount(self.at / BLOCK_SIZE), self.object_bytes.len() as u64);
        let frames_digest = Digest::of(self.frames.hashes());
        let index =
            encode_index(areas, frames_digest, &sorted(&self.blobs), &sorted(&self.objects));
        let id = Digest::of(&index);
        let trailer = Trailer { index_len: index.len() as u64, id }.encode();
        let mut at = self.at;
        for part in [&self.object_bytes, self.frames.hashes(), &index, &trailer] {
            self.temporary.write(part, at)?;
            at += part.len() as u64;
        }
        self.temporary.commit(at, &file_name(id))?;
        if !planted("a new pack's name is not synced") {
            self.dir.sync().map_err(|error| StoreError::io(format!("pack {id}"), &error))?;
        }
        Ok(Some(id))
    }
}

fn sorted(rows: &HashMap<Digest, Row>) -> Vec<Row> {
    let mut rows: Vec<Row> = rows.values().copied().collect();
    rows.sort_unstable_by_key(|row| row.digest);
    rows
}

/// The file that a pack is written to. It goes when it is dropped before it was named.
pub(crate) struct Temporary {
    dir: Arc<dyn Dir>,
    name: String,
    file: Option<Arc<dyn File>>,
}

impl Temporary {
    pub(crate) fn new(dir: Arc<dyn Dir>, name: String) -> Self {
        Self { dir, name, file: None }
    }

    pub(crate) fn write(&mut self, bytes: &[u8], at: u64) -> Result<(), StoreError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let result = match &self.file {
            Some(file) => file.write_all_at(bytes, at),
            None => self.create().and_then(|file| file.write_all_at(bytes, at)),
        };
        result.map_err(|error| StoreError::io("writing a pack", &error))
    }

    /// The name belongs to one slot and the slot is held, so what has it already was left behind.
    fn create(&mut self) -> io::Result<Arc<dyn File>> {
        match self.dir.remove(&self.name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = self.dir.create(&self.name)?;
        self.file = Some(file.clone());
        Ok(file)
    }

    fn commit(&mut self, len: u64, name: &str) -> Result<(), StoreError> {
        self.settle(len)?;
        self.name_it(name)
    }

    /// Makes all that was written durable.
    pub(crate) fn settle(&self, len: u64) -> Result<(), StoreError> {
        let io = |error| StoreError::io("completing a pack", &error);
        let Some(file) = &self.file else { return Ok(()) };
        file.set_len(len).map_err(io)?;
        if planted("a pack is named before it is synced") {
            return Ok(());
        }
        file.sync_data().map_err(io)
    }

    /// Gives what was settled its name. The directory is still to be synced.
    pub(crate) fn name_it(&mut self, name: &str) -> Result<(), StoreError> {
        let io = |error| StoreError::io("completing a pack", &error);
        self.dir.rename(&self.name, name).map_err(io)?;
        self.file = None;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if self.file.is_some() {
            // A failure leaves a file that the slot's next user removes.
            let _ = self.dir.remove(&self.name);
        }
    }
}
