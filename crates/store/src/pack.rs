//! One pack, opened: its index in memory, its content verified at first use.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use goldleaf_block::{BlockError, ByteLen, ByteOffset, RangeKind, ReadBlocks};
use goldleaf_host::{Dir, File};

use crate::format::{FRAME_LEN, Index, Row, TRAILER_LEN, Trailer};
use crate::{Digest, StoreError};

/// An opened pack. The index was checked against the pack's name; the rest is checked where it is
/// read.
pub(crate) struct Pack {
    pub id: Digest,
    pub index: Index,
    pub file: Arc<dyn File>,
    pub file_len: u64,
    frames: OnceLock<Box<[u8]>>,
    /// One bit a frame of the data area: seen to be right by this process.
    verified: Box<[AtomicU64]>,
}

/// Name of a pack's file.
pub(crate) fn file_name(id: Digest) -> String {
    format!("{id}.pack")
}

/// The id in a pack's file name; `None` for other files.
pub(crate) fn id_of(name: &str) -> Option<Digest> {
    name.strip_suffix(".pack").and_then(Digest::parse)
}

impl Pack {
    /// Opens the pack of that id and reads its index.
    pub(crate) fn open(dir: &dyn Dir, id: Digest) -> Result<Self, StoreError> {
        let io = |error: io::Error| StoreError::io(format!("pack {id}"), &error);
        let file = dir.open(&file_name(id)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => StoreError::Missing { what: "pack", digest: id },
            _ => io(error),
        })?;
        let file_len = file.len().map_err(io)?;
        let index = read_index(file.as_ref(), file_len, id).map_err(|error| in_pack(id, error))?;
        let words = index.data_frames().div_ceil(64) as usize;
        let verified = (0..words).map(|_| AtomicU64::new(0)).collect();
        Ok(Self { id, index, file, file_len, frames: OnceLock::new(), verified })
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

/// Reads the trailer and the index and checks them against the pack's name.
pub(crate) fn read_index(file: &dyn File, len: u64, id: Digest) -> Result<Index, StoreError> {
    let io = |error| StoreError::io("reading an index", &error);
    let end = len
        .checked_sub(TRAILER_LEN)
        .ok_or_else(|| StoreError::corrupt("length", "a whole pack", len))?;
    let mut trailer = [0; TRAILER_LEN as usize];
    file.read_exact_at(&mut trailer, end).map_err(io)?;
    let trailer = Trailer::decode(&trailer)?;
    if trailer.id != id {
        return Err(StoreError::corrupt("trailer", format!("id {id}"), trailer.id));
    }
    let start = end.checked_sub(trailer.index_len).ok_or_else(|| {
        StoreError::corrupt("trailer", format!("an index within {end} bytes"), trailer.index_len)
    })?;
    let mut bytes = vec![0; trailer.index_len as usize];
    file.read_exact_at(&mut bytes, start).map_err(io)?;
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
                self.read_verifying(here / FRAME_LEN, here, &mut buf[done..done + part])?;
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

fn check_range(at: ByteOffset, len: u64, size: ByteLen) -> Result<(), BlockError> {
    match at.0.checked_add(len) {
        Some(end) if end <= size.0 => Ok(()),
        _ => Err(BlockError::OutOfRange { at, len: ByteLen(len), size }),
    }
}
