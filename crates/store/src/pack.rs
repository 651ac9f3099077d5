//! One pack, opened: its index in memory, its content verified at first use.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use goldleaf_block::{
    BLOCK_SIZE, BlockCount, BlockError, BlockNo, ByteLen, ByteOffset, RangeKind, ReadBlocks,
};
use goldleaf_host::{Dir, File};

use crate::format::{FRAME_LEN, Index, Row, TRAILER_LEN, Trailer};
use crate::{Digest, PackId, StoreError};

/// An opened pack. The index was checked against the pack's name; the rest is checked where it is
/// read.
pub(crate) struct Pack {
    pub id: Digest,
    /// Which copy of it this is.
    pub copy: u32,
    /// The newest copy that there was when it was opened.
    pub newest: u32,
    pub index: Index,
    pub file: Arc<dyn File>,
    pub file_len: u64,
    frames: OnceLock<Box<[u8]>>,
    /// One bit a frame of the data area: seen to be right by this process.
    verified: Box<[AtomicU64]>,
    /// First blocks of blobs that were seen to be right as a whole, because a frame was not.
    whole: Mutex<HashSet<u64>>,
}

/// Name of the file of a pack as it was filed.
pub fn pack_file_name(pack: PackId) -> String {
    file_name(pack.0)
}

/// Name of a pack's file.
pub(crate) fn file_name(id: Digest) -> String {
    copy_name(id, 0)
}

/// Name of the file of a copy of a pack. The first is the one that was filed; each later one was
/// made by a repair, because something in those before it is damaged.
pub(crate) fn copy_name(id: Digest, copy: u32) -> String {
    match copy {
        0 => format!("{id}.pack"),
        copy => format!("{id}.{copy}.pack"),
    }
}

/// The id in the name of a pack's file, and which copy that is; `None` for other files.
pub(crate) fn id_of(name: &str) -> Option<(Digest, u32)> {
    let stem = name.strip_suffix(".pack")?;
    let Some((id, number)) = stem.split_once('.') else { return Some((Digest::parse(stem)?, 0)) };
    let found = (Digest::parse(id)?, number.parse().ok()?);
    (copy_name(found.0, found.1) == name).then_some(found)
}

/// Name of the mark that nothing is missed of a pack that cannot be opened.
pub(crate) fn retired_name(id: Digest) -> String {
    format!("{id}.retired")
}

/// The id in the name of such a mark.
pub(crate) fn retired_id_of(name: &str) -> Option<Digest> {
    name.strip_suffix(".retired").and_then(Digest::parse)
}

impl Pack {
    /// Opens a pack: the newest of its copies, `newest`, or else the one before whose index can be
    /// read. The error is that of the newest.
    pub(crate) fn open(dir: &dyn Dir, id: Digest, newest: u32) -> Result<Self, StoreError> {
        let first = match Self::open_copy(dir, id, newest) {
            Err(error @ StoreError::Corrupt { .. }) => error,
            other => return other,
        };
        let older = (0..newest).rev().find_map(|copy| Self::open_copy(dir, id, copy).ok());
        older.map(|pack| Self { newest, ..pack }).ok_or(first)
    }

    fn open_copy(dir: &dyn Dir, id: Digest, copy: u32) -> Result<Self, StoreError> {
        let io = |error: io::Error| StoreError::io(format!("pack {id}"), &error);
        let file = dir.open(&copy_name(id, copy)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => StoreError::Missing { what: "pack", digest: id },
            _ => io(error),
        })?;
        let file_len = file.len().map_err(io)?;
        let index = read_index(file.as_ref(), file_len, id).map_err(|error| in_pack(id, error))?;
        let words = index.data_frames().div_ceil(64) as usize;
        let verified = (0..words).map(|_| AtomicU64::new(0)).collect();
        let (frames, whole) = (OnceLock::new(), Mutex::default());
        Ok(Self { id, copy, newest: copy, index, file, file_len, frames, verified, whole })
    }

    /// The hashes of all frames, read and checked at first use.
    pub(crate) fn frame_hashes(&self) -> Result<&[u8], StoreError> {
        if let Some(hashes) = self.frames.get() {
            return Ok(hashes);
        }
        let mut hashes = vec![0; self.index.frames() as usize * 32];
        self.file
            .read_exact_at(&mut hashes, self.index.data_len() + self.index.objects_len)
            .map_err(|error| StoreError::io(format!("pack {}", self.id), &error))?;
        let found = Digest::of(&hashes);
        match self.index.frames_digest {
            Some(expected) if expected != found => {
                let place = format!("pack {}, frame hashes", self.id);
                Err(StoreError::corrupt(place, expected, found))
            }
            _ => Ok(self.frames.get_or_init(|| hashes.into_boxed_slice())),
        }
    }

    /// Place and length in bytes of a frame of the data area.
    fn frame_range(&self, frame: u64) -> (u64, usize) {
        let start = frame * FRAME_LEN;
        (start, (self.index.data_len() - start).min(FRAME_LEN) as usize)
    }

    fn is_verified(&self, frame: u64) -> bool {
        self.verified[(frame / 64) as usize].load(Ordering::Relaxed) >> (frame % 64) & 1 == 1
    }

    /// Checks a whole frame of the data area that was just read.
    fn verify(&self, frame: u64, bytes: &[u8]) -> Result<(), BlockError> {
        let hashes = self.frame_hashes().map_err(as_block_error)?;
        let expected = &hashes[frame as usize * 32..][..32];
        let found = Digest::of(bytes);
        if found.0 != *expected {
            return Err(BlockError::Corrupt {
                place: format!("pack {}, frame {frame} of the data area", self.id),
                expected: expected.iter().map(|byte| format!("{byte:02x}")).collect(),
                found: found.to_string(),
            });
        }
        self.verified[(frame / 64) as usize].fetch_or(1 << (frame % 64), Ordering::Relaxed);
        Ok(())
    }

    /// Whether a blob is right, hashed once in this process.
    fn is_whole(&self, blob: Row) -> bool {
        let known = || self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        if known().contains(&blob.at) {
            return true;
        }
        let (start, len) = (blob.at * BLOCK_SIZE, blob.len * BLOCK_SIZE);
        let found = hash_range(self.file.as_ref(), start, len);
        let is_whole = found.is_ok_and(|found| found == blob.digest);
        if is_whole {
            known().insert(blob.at);
        }
        is_whole
    }

    fn read_file(&self, buf: &mut [u8], at: u64) -> Result<(), BlockError> {
        self.file.read_exact_at(buf, at).map_err(|error| BlockError::io("reading a pack", &error))
    }

    /// Reads an object and checks it against its name.
    pub(crate) fn object(&self, row: Row) -> Result<Vec<u8>, StoreError> {
        let mut bytes = vec![0; row.len as usize];
        self.file
            .read_exact_at(&mut bytes, self.index.data_len() + row.at)
            .map_err(|error| StoreError::io(format!("pack {}", self.id), &error))?;
        let found = Digest::of(&bytes);
        if found != row.digest {
            let place = format!("pack {}, object at {}", self.id, row.at);
            return Err(StoreError::corrupt(place, row.digest, found));
        }
        Ok(bytes)
    }
}

/// Where a blob lies in a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackedBlob {
    /// Its name.
    pub digest: Digest,
    /// Its first block in the pack's file.
    pub at: BlockNo,
    /// How long it is.
    pub blocks: BlockCount,
}

/// The blobs of a pack of `len` bytes that is in no store yet, in the order in which they lie in
/// it. Its index is read and checked, and nothing else.
pub fn packed_blobs(
    disk: &dyn ReadBlocks,
    len: u64,
    pack: PackId,
) -> Result<Vec<PackedBlob>, StoreError> {
    let read = |buf: &mut [u8], at| disk.read_at(ByteOffset(at), buf).map_err(StoreError::from);
    let index = index_by(&read, len, pack.0).map_err(|error| in_pack(pack.0, error))?;
    let blob = |&number: &u32| {
        let Row { digest, at, len } = index.blobs.row(number as usize);
        PackedBlob { digest, at: BlockNo(at), blocks: BlockCount(len) }
    };
    Ok(index.blobs_by_place.iter().map(blob).collect())
}

/// Reads the trailer and the index and checks them against the pack's name.
pub(crate) fn read_index(file: &dyn File, len: u64, id: Digest) -> Result<Index, StoreError> {
    let io = |error| StoreError::io("reading an index", &error);
    index_by(&|buf, at| file.read_exact_at(buf, at).map_err(io), len, id)
}

/// Fills a buffer with what stands from a byte of a pack on.
type Read<'a> = dyn Fn(&mut [u8], u64) -> Result<(), StoreError> + 'a;

fn index_by(read: &Read<'_>, len: u64, id: Digest) -> Result<Index, StoreError> {
    let end = len
        .checked_sub(TRAILER_LEN)
        .ok_or_else(|| StoreError::corrupt("length", "a whole pack", len))?;
    let mut trailer = [0; TRAILER_LEN as usize];
    read(&mut trailer, end)?;
    let trailer = Trailer::decode(&trailer)?;
    if trailer.id != id {
        return Err(StoreError::corrupt("trailer", format!("id {id}"), trailer.id));
    }
    let start = end.checked_sub(trailer.index_len).ok_or_else(|| {
        StoreError::corrupt("trailer", format!("an index within {end} bytes"), trailer.index_len)
    })?;
    let mut bytes = vec![0; trailer.index_len as usize];
    read(&mut bytes, start)?;
    let found = Digest::of(&bytes);
    if found != id {
        return Err(StoreError::corrupt("index", id, found));
    }
    Index::decode(&bytes, len)
}

/// Says in which pack the structure lies that an error speaks of.
pub(crate) fn in_pack(id: Digest, error: StoreError) -> StoreError {
    match error {
        StoreError::Corrupt { place, expected, found } => {
            StoreError::Corrupt { place: format!("pack {id}, {place}"), expected, found }
        }
        StoreError::Io { what, message, code } => {
            StoreError::Io { what: format!("pack {id}: {what}"), message, code }
        }
        other => other,
    }
}

fn as_block_error(error: StoreError) -> BlockError {
    match error {
        StoreError::Corrupt { place, expected, found } => {
            BlockError::Corrupt { place, expected, found }
        }
        StoreError::Io { message, code, .. } => {
            BlockError::Io { what: "reading frame hashes", message, code }
        }
        other => BlockError::Io { what: "verifying", message: other.to_string(), code: None },
    }
}

/// The data area of a pack as a device. Each frame of 64 KiB is verified at its first use in this
/// process; after that a read costs one bit test a frame and one system call.
pub(crate) struct PackBlocks(pub Arc<Pack>);

impl PackBlocks {
    /// Fills `buf` with what lies in one frame that was not verified yet.
    fn read_verifying(&self, frame: u64, at: u64, buf: &mut [u8]) -> Result<(), BlockError> {
        let (start, len) = self.0.frame_range(frame);
        if at == start && buf.len() == len {
            self.0.read_file(buf, start)?;
            return self.0.verify(frame, buf);
        }
        let mut bytes = vec![0; len];
        self.0.read_file(&mut bytes, start)?;
        self.0.verify(frame, &bytes)?;
        let within = (at - start) as usize;
        buf.copy_from_slice(&bytes[within..within + buf.len()]);
        Ok(())
    }

    /// The same in a frame that is not right, or whose hash is not: what of it belongs to whole
    /// blobs can be read.
    fn read_by_blob(&self, at: u64, buf: &mut [u8]) -> Result<bool, BlockError> {
        let (mut next, end) = (at, at + buf.len() as u64);
        while next < end {
            let Some(row) = self.0.index.blob_at(BlockNo(next / BLOCK_SIZE)) else {
                return Ok(false);
            };
            if !self.0.is_whole(row) {
                return Ok(false);
            }
            next = (row.at + row.len) * BLOCK_SIZE;
        }
        self.0.read_file(buf, at)?;
        Ok(true)
    }

    /// Bytes from `at` on, at most `limit`, that lie in verified frames.
    fn verified_run(&self, at: u64, limit: u64) -> u64 {
        let mut end = at;
        while end < at + limit && self.0.is_verified(end / FRAME_LEN) {
            end = (end / FRAME_LEN + 1) * FRAME_LEN;
        }
        end.min(at + limit) - at
    }
}

impl ReadBlocks for PackBlocks {
    fn len(&self) -> ByteLen {
        ByteLen(self.0.index.data_len())
    }

    fn read_at(&self, at: ByteOffset, buf: &mut [u8]) -> Result<(), BlockError> {
        check_range(at, buf.len() as u64, self.len())?;
        let mut done = 0;
        while done < buf.len() {
            let here = at.0 + done as u64;
            let rest = (buf.len() - done) as u64;
            let run = self.verified_run(here, rest);
            if run > 0 {
                self.0.read_file(&mut buf[done..done + run as usize], here)?;
                done += run as usize;
            } else {
                let part = (FRAME_LEN - here % FRAME_LEN).min(rest) as usize;
                let piece = &mut buf[done..done + part];
                if let Err(error) = self.read_verifying(here / FRAME_LEN, here, piece)
                    && !self.read_by_blob(here, piece)?
                {
                    return Err(error);
                }
                done += part;
            }
        }
        Ok(())
    }

    fn status(&self, at: ByteOffset, limit: ByteLen) -> Result<(ByteLen, RangeKind), BlockError> {
        check_range(at, 1, self.len())?;
        let rest = self.len().0 - at.0;
        Ok((ByteLen(limit.0.clamp(1, rest)), RangeKind::Data))
    }
}

/// The hash of a range of a file, read in pieces.
pub(crate) fn hash_range(file: &dyn File, at: u64, len: u64) -> Result<Digest, StoreError> {
    let mut hasher = blake3::Hasher::new();
    let mut buf = vec![0; len.min(1 << 20) as usize];
    let mut done = 0;
    while done < len {
        let part = (len - done).min(buf.len() as u64) as usize;
        file.read_exact_at(&mut buf[..part], at + done)
            .map_err(|error| StoreError::io("reading a pack", &error))?;
        hasher.update(&buf[..part]);
        done += part as u64;
    }
    Ok(Digest(*hasher.finalize().as_bytes()))
}

fn check_range(at: ByteOffset, len: u64, size: ByteLen) -> Result<(), BlockError> {
    match at.0.checked_add(len) {
        Some(end) if end <= size.0 => Ok(()),
        _ => Err(BlockError::OutOfRange { at, len: ByteLen(len), size }),
    }
}
