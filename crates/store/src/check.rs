//! Checking: everything is read and compared with everything that names it; nothing is written.

use std::sync::Arc;

use goldleaf_host::File;

use crate::format::{FRAME_LEN, Index};
use crate::pack::{copy_name, hash_range, in_pack, read_index};
use crate::store::{PackId, Store};
use crate::{Digest, StoreError};
use goldleaf_block::{BLOCK_SIZE, ByteLen};

/// What a check found.
#[derive(Debug, Clone, Default)]
pub struct CheckReport {
    /// Packs that were read.
    pub packs: u64,
    /// Blobs that were right.
    pub blobs: u64,
    /// Objects that were right.
    pub objects: u64,
    /// Bytes that were read.
    pub bytes: ByteLen,
    /// What is not right; empty when all is well.
    pub damage: Vec<Damage>,
}

/// One thing that is not right.
#[derive(Debug, Clone)]
pub struct Damage {
    /// The pack.
    pub pack: PackId,
    /// What of it is affected.
    pub what: Damaged,
    /// What was expected and found.
    pub error: StoreError,
}

/// What of a pack is not what its name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damaged {
    /// A structure, and with it everything in the pack.
    Pack,
    /// A frame. The content within it is named beside it, if there is any.
    Frame,
    /// A blob.
    Blob(Digest),
    /// An object.
    Object(Digest),
}

/// How far a check is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckProgress {
    /// Bytes that were read.
    pub done: ByteLen,
    /// Bytes to be read in all.
    pub total: ByteLen,
}

impl Store {
    /// Reads all packs that are there from their files. Errors of the storage are damage too.
    pub fn check(
        &self,
        progress: &mut dyn FnMut(CheckProgress),
    ) -> Result<CheckReport, StoreError> {
        self.refresh()?;
        let tables = self.inner.tables();
        let total = ByteLen(tables.live_packs().map(|(_, pack)| pack.file_len).sum());
        let mut report = CheckReport::default();
        for (id, error) in &tables.damaged {
            let (pack, error) = (PackId(*id), error.clone());
            report.damage.push(Damage { pack, what: Damaged::Pack, error });
        }
        for (_, pack) in tables.live_packs() {
            check_file(self, &copy_name(pack.id, pack.copy), pack.id, &mut report);
            report.packs += 1;
            report.bytes.0 += pack.file_len;
            progress(CheckProgress { done: report.bytes, total });
        }
        Ok(report)
    }
}

/// Checks the file of one pack, whatever its name.
pub(crate) fn check_file(store: &Store, name: &str, id: Digest, report: &mut CheckReport) {
    let mut check = PackCheck { id, report };
    if let Err(error) = check.run(store, name) {
        check.note(Damaged::Pack, error);
    }
}

struct PackCheck<'a> {
    id: Digest,
    report: &'a mut CheckReport,
}

impl PackCheck<'_> {
    fn run(&mut self, store: &Store, name: &str) -> Result<(), StoreError> {
        let io = |error| StoreError::io(format!("pack {}", self.id), &error);
        let file = store.inner.dir.open(name).map_err(io)?;
        let len = file.len().map_err(io)?;
        let index = read_index(file.as_ref(), len, self.id).map_err(|e| in_pack(self.id, e))?;
        // Content says by itself whether it is right, whatever became of the hashes beside it.
        if let Err(error) = self.frames(&file, &index) {
            self.note(Damaged::Frame, error);
        }
        self.blobs(&file, &index);
        self.objects(&file, &index);
        Ok(())
    }

    fn note(&mut self, what: Damaged, error: StoreError) {
        self.report.damage.push(Damage { pack: PackId(self.id), what, error });
    }

    fn expect(&self, place: String, expected: Digest, found: Digest) -> Result<(), StoreError> {
        if expected == found {
            return Ok(());
        }
        Err(StoreError::corrupt(format!("pack {}, {place}", self.id), expected, found))
    }

    fn frames(&mut self, file: &Arc<dyn File>, index: &Index) -> Result<(), StoreError> {
        let io = |error| StoreError::io("reading frame hashes", &error);
        let mut hashes = vec![0; index.frames() as usize * 32];
        let areas = [(0, index.data_len()), (index.data_len(), index.objects_len)];
        file.read_exact_at(&mut hashes, areas[1].0 + areas[1].1).map_err(io)?;
        if let Some(expected) = index.frames_digest {
            self.expect("frame hashes".into(), expected, Digest::of(&hashes))?;
        }
        let mut hashes = hashes.chunks_exact(32);
        for (start, len) in areas {
            let mut at = 0;
            while at < len {
                let mut expected = [0; 32];
                expected.copy_from_slice(hashes.next().unwrap_or(&[0; 32]));
                let frame = (len - at).min(FRAME_LEN);
                let result = hash_range(file.as_ref(), start + at, frame)
                    .and_then(|found| self.expect(at_byte(start + at), Digest(expected), found));
                if let Err(error) = result {
                    self.note(Damaged::Frame, error);
                }
                at += frame;
            }
        }
        Ok(())
    }

    fn blobs(&mut self, file: &Arc<dyn File>, index: &Index) {
        for &number in &index.blobs_by_place {
            let row = index.blobs.row(number as usize);
            let (at, len) = (row.at * BLOCK_SIZE, row.len * BLOCK_SIZE);
            let result = hash_range(file.as_ref(), at, len).and_then(|found| {
                self.expect(format!("blob at block {}", row.at), row.digest, found)
            });
            match result {
                Ok(()) => self.report.blobs += 1,
                Err(error) => self.note(Damaged::Blob(row.digest), error),
            }
        }
    }

    fn objects(&mut self, file: &Arc<dyn File>, index: &Index) {
        for row in index.objects.rows() {
            let result = hash_range(file.as_ref(), index.data_len() + row.at, row.len)
                .and_then(|found| self.expect(format!("object at {}", row.at), row.digest, found));
            match result {
                Ok(()) => self.report.objects += 1,
                Err(error) => self.note(Damaged::Object(row.digest), error),
            }
        }
    }
}

fn at_byte(at: u64) -> String {
    format!("frame at byte {at}")
}
