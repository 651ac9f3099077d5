//! The bytes of a session's `index` file. All numbers are little-endian.
//!
//! ```text
//!  index   ┌──────────┬──────────┬─────────────────────┬──────────┬─ ─ ─ ─ ─ ─
//!          │ header   │ record   │ record              │ record   │ zeroes, or what
//!          │ 4 KiB    │ 4 KiB    │ n × 4 KiB           │ 4 KiB    │ a crash left behind
//!          └──────────┴──────────┴─────────────────────┴──────────┴─ ─ ─ ─ ─ ─
//!  header  0 magic "GLSESLOG"   8 version u32      12 crc32c u32     16 device length, bytes u64
//!         24 first sequence u64 32 durable sequence u64              40 first epoch u64
//!         48 session id [16]    64 digest of the base [32]           96 zeroes to 4096
//!  record  0 magic "GLSESREC"   8 sequence u64     16 durable sequence u64   24 epoch u64
//!         32 entries u32       36 crc32c u32       40 crc32c of the record before u32
//!         44 zero u32          48 session id [16]  64 entries, then zeroes to a 4 KiB boundary
//!  entry   0 device block u64   8 kind u32 (1 data, 2 zeroes)   12 slot (data), blocks (zeroes) u32
//!         16 crc32c of the block's 4096 bytes u32 (data)        20 key id u32
//!         24 nonce [24]        48 tag [16]
//! ```
//!
//! A slot is a 4 KiB block of the `data` file. Key id, nonce and tag are reserved for encryption
//! and zero until then. A checksum covers the whole header, or the record to the end of its entries,
//! with the field itself as zeroes. Not the zeroes behind them: a recovery that is cut off while it
//! writes its own record over a torn one could complete them, and the torn one would count.
//! *Durable sequence* is the highest record that was durable, data included, when this was written.
//! Within a record entries apply in order. What makes a record part of the log is in
//! [`recover`](super::recover).

use goldleaf_host::planted;

use crate::units::{BLOCK_SIZE, BlockCount, BlockNo, ByteLen};
use crate::{BlockError, SessionId};

/// First bytes of the file.
const HEADER_MAGIC: [u8; 8] = *b"GLSESLOG";
/// First bytes of a record.
const RECORD_MAGIC: [u8; 8] = *b"GLSESREC";
/// The only version there is so far.
const VERSION: u32 = 1;
/// Length of the header: one block, so that records begin on a boundary.
pub(super) const HEADER_LEN: usize = BLOCK_SIZE as usize;
/// Length of a record's fixed part, in bytes.
const RECORD_HEADER_LEN: usize = 64;
/// Length of an entry, in bytes.
pub(super) const ENTRY_LEN: usize = 64;
/// Most entries of one record: bounds the memory of a commit and of recovery (4 MiB).
pub(super) const ENTRIES_MAX: usize = 65_536;
const HEADER_CRC_AT: usize = 12;
const RECORD_CRC_AT: usize = 36;
const KIND_DATA: u32 = 1;
const KIND_ZERO: u32 = 2;

/// Number of a 4 KiB block of the `data` file. Given again only when no record that a recovery may
/// have to check against its data names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot(pub u32);

impl Slot {
    /// Place in the `data` file, in bytes.
    pub(super) fn offset(self) -> u64 {
        u64::from(self.0) * BLOCK_SIZE
    }
}

/// Number of a record, counted up from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Sequence(pub u64);

impl Sequence {
    /// The one behind.
    pub(super) fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// Number of an opening of the log, counted up from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Epoch(pub u64);

impl Epoch {
    /// The one behind.
    pub(super) fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// The header of the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub device_len: ByteLen,
    pub first_sequence: Sequence,
    pub durable: Sequence,
    pub epoch: Epoch,
    pub id: SessionId,
    pub base_digest: [u8; 32],
}

/// One change of the device's map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub block: BlockNo,
    pub change: Change,
    /// Key id, nonce and tag, carried along as they are.
    pub sealed: [u8; 44],
}

/// What an entry does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// The block's content is in a slot.
    Data { slot: Slot, crc: u32 },
    /// A run of blocks from here reads as zeroes.
    Zero { count: BlockCount },
}

impl Entry {
    /// An entry without encryption.
    pub(super) fn plain(block: BlockNo, change: Change) -> Self {
        Self { block, change, sealed: [0; 44] }
    }
}

/// The fixed part of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub sequence: Sequence,
    pub durable: Sequence,
    pub epoch: Epoch,
    pub entries: u32,
    pub crc: u32,
    pub previous_crc: u32,
    pub id: SessionId,
}

/// Length of a record with so many entries, in bytes: a multiple of 4 KiB.
pub(super) fn record_len(entries: usize) -> usize {
    (RECORD_HEADER_LEN + entries * ENTRY_LEN).next_multiple_of(BLOCK_SIZE as usize)
}

/// Writes a header; the second value is its checksum, which the first record names.
pub(super) fn encode_header(header: &Header) -> (Vec<u8>, u32) {
    let mut bytes = Vec::with_capacity(HEADER_LEN);
    bytes.extend_from_slice(&HEADER_MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&header.device_len.0.to_le_bytes());
    bytes.extend_from_slice(&header.first_sequence.0.to_le_bytes());
    bytes.extend_from_slice(&header.durable.0.to_le_bytes());
    bytes.extend_from_slice(&header.epoch.0.to_le_bytes());
    bytes.extend_from_slice(&header.id.0);
    bytes.extend_from_slice(&header.base_digest);
    bytes.resize(HEADER_LEN, 0);
    let crc = seal(&mut bytes, HEADER_CRC_AT);
    (bytes, crc)
}

/// Reads a header; the second value is its checksum.
pub(super) fn decode_header(bytes: &[u8; HEADER_LEN]) -> Result<(Header, u32), BlockError> {
    let magic: [u8; 8] = array(bytes, 0);
    if magic != HEADER_MAGIC {
        return Err(corrupt("magic", &HEADER_MAGIC, &magic));
    }
    let (found, expected) = (u32_at(bytes, HEADER_CRC_AT), checksum(bytes, HEADER_CRC_AT));
    if found != expected && !planted("a header's checksum is not looked at") {
        return Err(corrupt("checksum", &expected, &found));
    }
    let version = u32_at(bytes, 8);
    if version != VERSION {
        return Err(corrupt("version", &VERSION, &version));
    }
    let header = Header {
        device_len: ByteLen(u64_at(bytes, 16)),
        first_sequence: Sequence(u64_at(bytes, 24)),
        durable: Sequence(u64_at(bytes, 32)),
        epoch: Epoch(u64_at(bytes, 40)),
        id: SessionId(array(bytes, 48)),
        base_digest: array(bytes, 64),
    };
    Ok((header, found))
}

/// Writes a record. `header.crc` and `header.entries` are computed; the second value is the
/// checksum, which the next record names.
pub(super) fn encode_record(header: &RecordHeader, entries: &[Entry]) -> (Vec<u8>, u32) {
    let mut bytes = Vec::with_capacity(record_len(entries.len()));
    bytes.extend_from_slice(&RECORD_MAGIC);
    bytes.extend_from_slice(&header.sequence.0.to_le_bytes());
    bytes.extend_from_slice(&header.durable.0.to_le_bytes());
    bytes.extend_from_slice(&header.epoch.0.to_le_bytes());
    bytes.extend_from_slice(&(entries.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&header.previous_crc.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&header.id.0);
    entries.iter().for_each(|entry| encode_entry(&mut bytes, entry));
    let crc = seal(&mut bytes, RECORD_CRC_AT);
    bytes.resize(record_len(entries.len()), 0);
    (bytes, crc)
}

/// Reads a record's fixed part from its first block; `None` when there is no record here.
pub(super) fn decode_record_header(bytes: &[u8; HEADER_LEN]) -> Option<RecordHeader> {
    let entries = u32_at(bytes, 32);
    if array::<8>(bytes, 0) != RECORD_MAGIC || entries as usize > ENTRIES_MAX {
        return None;
    }
    Some(RecordHeader {
        sequence: Sequence(u64_at(bytes, 8)),
        durable: Sequence(u64_at(bytes, 16)),
        epoch: Epoch(u64_at(bytes, 24)),
        entries,
        crc: u32_at(bytes, RECORD_CRC_AT),
        previous_crc: u32_at(bytes, 40),
        id: SessionId(array(bytes, 48)),
    })
}

/// Reads the entries of a whole record of [`record_len`] bytes; `None` when its checksum is wrong
/// or an entry is of no known kind.
pub(super) fn decode_entries(bytes: &[u8], header: &RecordHeader) -> Option<Vec<Entry>> {
    let sealed = bytes.get(..RECORD_HEADER_LEN + header.entries as usize * ENTRY_LEN)?;
    if checksum(sealed, RECORD_CRC_AT) != header.crc
        && !planted("a record's checksum is not looked at")
    {
        return None;
    }
    sealed[RECORD_HEADER_LEN..].chunks_exact(ENTRY_LEN).map(decode_entry).collect()
}

fn encode_entry(bytes: &mut Vec<u8>, entry: &Entry) {
    let (kind, value, crc) = match entry.change {
        Change::Data { slot, crc } => (KIND_DATA, slot.0, crc),
        Change::Zero { count } => (KIND_ZERO, count.0 as u32, 0),
    };
    bytes.extend_from_slice(&entry.block.0.to_le_bytes());
    bytes.extend_from_slice(&kind.to_le_bytes());
    bytes.extend_from_slice(&value.to_le_bytes());
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes.extend_from_slice(&entry.sealed);
}

fn decode_entry(bytes: &[u8]) -> Option<Entry> {
    let value = u32_at(bytes, 12);
    let change = match u32_at(bytes, 8) {
        KIND_DATA => Change::Data { slot: Slot(value), crc: u32_at(bytes, 16) },
        KIND_ZERO => Change::Zero { count: BlockCount(u64::from(value)) },
        _ => return None,
    };
    Some(Entry { block: BlockNo(u64_at(bytes, 0)), change, sealed: array(bytes, 20) })
}

/// Stores the checksum of `bytes` in its field.
fn seal(bytes: &mut [u8], crc_at: usize) -> u32 {
    let crc = checksum(bytes, crc_at);
    bytes[crc_at..crc_at + 4].copy_from_slice(&crc.to_le_bytes());
    crc
}

/// CRC-32C of `bytes` with the four bytes at `crc_at` taken as zeroes.
fn checksum(bytes: &[u8], crc_at: usize) -> u32 {
    let crc = crc32c::crc32c(&bytes[..crc_at]);
    let crc = crc32c::crc32c_append(crc, &[0; 4]);
    crc32c::crc32c_append(crc, &bytes[crc_at + 4..])
}

/// The callers pass whole structures, so the place is always inside.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}

fn corrupt(what: &str, expected: &dyn std::fmt::Debug, found: &dyn std::fmt::Debug) -> BlockError {
    BlockError::Corrupt {
        place: format!("session index, header, {what}"),
        expected: format!("{expected:02x?}"),
        found: format!("{found:02x?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            device_len: ByteLen(1 << 30),
            first_sequence: Sequence(1),
            durable: Sequence(0),
            epoch: Epoch(1),
            id: SessionId([7; 16]),
            base_digest: [9; 32],
        }
    }

    fn record() -> (RecordHeader, Vec<Entry>) {
        let header = RecordHeader {
            sequence: Sequence(5),
            durable: Sequence(4),
            epoch: Epoch(2),
            entries: 2,
            crc: 0,
            previous_crc: 77,
            id: SessionId([7; 16]),
        };
        let mut sealed = Entry::plain(BlockNo(3), Change::Data { slot: Slot(8), crc: 1 });
        sealed.sealed = std::array::from_fn(|i| i as u8);
        (header, vec![Entry::plain(BlockNo(1), Change::Zero { count: BlockCount(9) }), sealed])
    }

    #[test]
    fn headers_round_trip_and_every_damaged_byte_is_seen() {
        let (bytes, crc) = encode_header(&header());
        let good: [u8; HEADER_LEN] = bytes.try_into().expect("one block");
        assert_eq!(decode_header(&good).expect("good"), (header(), crc));
        for at in 0..HEADER_LEN {
            let mut bad = good;
            bad[at] ^= 0x40;
            assert!(decode_header(&bad).is_err(), "byte {at}");
        }
    }

    #[test]
    fn records_round_trip_and_every_damaged_byte_is_seen() {
        let (header, entries) = record();
        let (bytes, crc) = encode_record(&header, &entries);
        let decode = |bytes: &[u8]| {
            let first = bytes[..HEADER_LEN].try_into().expect("one block");
            let header = decode_record_header(first)?;
            Some((header, decode_entries(bytes, &header)?))
        };
        let expected = Some((RecordHeader { crc, ..header }, entries.clone()));
        assert_eq!(decode(&bytes), expected);
        let end = RECORD_HEADER_LEN + entries.len() * ENTRY_LEN;
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            // A record that tore behind its end is whole.
            let wanted = if at < end { None } else { expected.clone() };
            assert_eq!(decode(&bad), wanted, "byte {at}");
        }
    }

    #[test]
    fn a_flush_of_63_blocks_costs_one_block() {
        assert_eq!(record_len(63), 4096);
        assert_eq!(record_len(64), 8192);
        assert_eq!(record_len(ENTRIES_MAX) % 4096, 0);
    }
}
