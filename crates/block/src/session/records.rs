//! Reading and writing the chain of records in an index file.

use std::io;
use std::sync::Arc;

use goldleaf_host::{File, planted};

use super::format::{
    Entry, Epoch, HEADER_LEN, Header, RecordHeader, Sequence, decode_entries, decode_record_header,
    encode_record, record_len,
};
use crate::units::BLOCK_SIZE;
use crate::{BlockError, SessionId};

/// The end of a chain, where the next record goes.
#[derive(Clone)]
pub(super) struct Chain {
    pub file: Arc<dyn File>,
    pub id: SessionId,
    pub epoch: Epoch,
    /// Where the next record goes, in bytes.
    pub end: u64,
    /// The last record's number.
    pub last: Sequence,
    /// The last record's checksum; 0 when there is none.
    pub last_crc: u32,
    /// What the last record says is durable.
    pub claimed: Sequence,
}

/// A record as it was found.
pub(super) struct Record {
    pub header: RecordHeader,
    pub entries: Vec<Entry>,
    /// The chain up to and without this record.
    pub before: Chain,
}

impl Chain {
    /// The empty chain behind a header.
    pub(super) fn start(file: Arc<dyn File>, header: &Header) -> Self {
        Self {
            file,
            id: header.id,
            epoch: header.epoch,
            end: HEADER_LEN as u64,
            last: Sequence(header.first_sequence.0.saturating_sub(1)),
            last_crc: 0,
            claimed: header.durable,
        }
    }

    /// Appends a record, saying that all up to `durable` is durable.
    pub(super) fn append(&mut self, durable: Sequence, entries: &[Entry]) -> io::Result<()> {
        let header = RecordHeader {
            sequence: self.last.next(),
            durable,
            epoch: self.epoch,
            entries: 0,
            crc: 0,
            previous_crc: self.last_crc,
            id: self.id,
        };
        let (bytes, crc) = encode_record(&header, entries);
        self.file.write_all_at(&bytes, self.end)?;
        self.step(&RecordHeader { crc, ..header }, bytes.len() as u64);
        Ok(())
    }

    /// Reads the record at the end and steps over it; `None` when what is there does not belong
    /// to this chain.
    pub(super) fn next(&mut self, file_len: u64) -> Result<Option<Record>, BlockError> {
        let Some(header) = self.header_at(self.end, file_len)? else { return Ok(None) };
        let opens = header.epoch == self.epoch.next() && header.entries == 0;
        let follows = header.id == self.id
            && header.sequence == self.last.next()
            && (header.previous_crc == self.last_crc && (header.epoch == self.epoch || opens)
                || planted("records of an earlier life are taken for new ones"));
        if !follows {
            return Ok(None);
        }
        let Some(entries) = self.entries_at(self.end, &header)? else { return Ok(None) };
        let before = self.clone();
        self.step(&header, record_len(entries.len()) as u64);
        Ok(Some(Record { header, entries, before }))
    }

    /// The first record behind the end that this chain's own records must have led to: one that
    /// says that more is durable than the chain has. Where there is one, the chain is damaged, not
    /// torn.
    pub(super) fn find_orphan(&self, file_len: u64) -> Result<Option<RecordHeader>, BlockError> {
        let mut at = self.end;
        while let Some(next) = at.checked_add(BLOCK_SIZE).filter(|&next| next <= file_len) {
            if let Some(header) = self.header_at(at, file_len)?
                && header.id == self.id
                && header.epoch >= self.epoch
                && header.durable > self.last
                && self.entries_at(at, &header)?.is_some()
            {
                return Ok(Some(header));
            }
            at = next;
        }
        Ok(None)
    }

    /// What the record that begins at `at` says; `None` when there is no whole one.
    pub(super) fn entries_from(
        &self,
        at: u64,
        file_len: u64,
    ) -> Result<Option<Vec<Entry>>, BlockError> {
        let Some(header) = self.header_at(at, file_len)? else { return Ok(None) };
        self.entries_at(at, &header)
    }

    fn step(&mut self, header: &RecordHeader, len: u64) {
        self.end += len;
        self.last = header.sequence;
        self.last_crc = header.crc;
        self.epoch = header.epoch;
        self.claimed = header.durable;
    }

    fn header_at(&self, at: u64, file_len: u64) -> Result<Option<RecordHeader>, BlockError> {
        if at.checked_add(BLOCK_SIZE).is_none_or(|end| end > file_len) {
            return Ok(None);
        }
        let mut block = [0; HEADER_LEN];
        self.file.read_exact_at(&mut block, at).map_err(|error| reading(&error))?;
        let header = decode_record_header(&block);
        Ok(header.filter(|header| at + record_len(header.entries as usize) as u64 <= file_len))
    }

    fn entries_at(&self, at: u64, header: &RecordHeader) -> Result<Option<Vec<Entry>>, BlockError> {
        let mut bytes = vec![0; record_len(header.entries as usize)];
        self.file.read_exact_at(&mut bytes, at).map_err(|error| reading(&error))?;
        Ok(decode_entries(&bytes, header))
    }
}

fn reading(error: &io::Error) -> BlockError {
    BlockError::io("reading the session's index", error)
}
