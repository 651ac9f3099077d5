//! The pack: an immutable file that holds what one filing added.
//!
//! ```text
//!   0            ┌──────────────────────────────────────────────────────────────┐
//!                │ data area: blobs, each in whole blocks of 4 KiB, back to back │ data_blocks
//!                ├──────────────────────────────────────────────────────────────┤
//!                │ objects area: objects of any length, back to back             │ objects_len
//!                ├──────────────────────────────────────────────────────────────┤
//!                │ frame hashes, 32 bytes each: of every 64 KiB of the data      │
//!                │ area, then of every 64 KiB of the objects area (the last      │
//!                │ frame of either may be shorter)                               │
//!                ├──────────────────────────────────────────────────────────────┤
//!                │ index                                                         │ index_len
//!                │   data_blocks u64 │ objects_len u64 │ blobs u64 │ objects u64 │
//!                │   hash of the frame hashes, 32 bytes                          │
//!                │   blobs   × { digest 32 │ first block u64 │ blocks u64 }      │ by digest
//!                │   objects × { digest 32 │ offset u64      │ length u64 }      │ by digest
//!                ├──────────────────────────────────────────────────────────────┤
//!                │ trailer: magic 8 │ version u32 │ 0 u32 │ index_len u64 │      │ 56 bytes
//!                │          hash of the index, 32 bytes = the pack's id          │
//!   end of file  └──────────────────────────────────────────────────────────────┘
//! ```
//!
//! Numbers are little-endian, hashes BLAKE3. The digest of a blob is that of its whole blocks, the
//! zeroes behind the content's end included, so that a block says by itself whether it is right.
//! The id names the index, the index names the frame hashes and every digest, so the id (which is
//! the file's name too) authenticates every byte. Blobs fill the data area and objects the objects
//! area, without gaps or overlap: two packs of the same content have the same size.
//! Frame hashes lie outside the index because opening a store needs the index only.
//!
//! A pack may have several copies: `ID.pack` as it was filed, then `ID.1.pack`, `ID.2.pack`, …, each
//! made by a repair because something in those before it is damaged. They are the same pack; the
//! newest whose index can be read is the one that is used. An empty file `ID.retired` says that
//! nothing is missed of a pack none of whose copies can be opened.

use goldleaf_block::{BLOCK_SIZE, BlockCount, BlockNo};

use crate::{Digest, StoreError};

/// The unit of verification on read, in bytes: one look at a 4 KiB block costs the hash of 64 KiB
/// once, and the hashes are 0.05 % of the data.
pub(crate) const FRAME_LEN: u64 = 65_536;
/// The largest object, in bytes: one is held in memory whole. A directory of a million names fits.
pub(crate) const MAX_OBJECT_LEN: u64 = 256 << 20;
/// Bytes of the trailer.
pub(crate) const TRAILER_LEN: u64 = 56;
const INDEX_HEAD_LEN: usize = 64;
const ROW_LEN: usize = 48;
const MAGIC: [u8; 8] = *b"GLPACK\r\n";
const VERSION: u32 = 1;

/// The parsed trailer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trailer {
    pub index_len: u64,
    pub id: Digest,
}

impl Trailer {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(TRAILER_LEN as usize);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&0u32.to_le_bytes());
        bytes.extend_from_slice(&self.index_len.to_le_bytes());
        bytes.extend_from_slice(&self.id.0);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; TRAILER_LEN as usize]) -> Result<Self, StoreError> {
        let head = [MAGIC.as_slice(), &VERSION.to_le_bytes(), &[0; 4]].concat();
        if bytes[..16] != head {
            let found = format!("{:02x?}", &bytes[..16]);
            return Err(StoreError::corrupt("trailer", "a pack of version 1", found));
        }
        Ok(Self { index_len: u64_at(bytes, 16), id: digest_at(bytes, 24) })
    }
}

/// One row of a table: a blob (place and length in blocks) or an object (in bytes).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    pub digest: Digest,
    pub at: u64,
    pub len: u64,
}

/// A sorted table, kept as the bytes that were read: 48 a row, no allocation a row.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table(Box<[u8]>);

impl Table {
    pub(crate) fn len(&self) -> usize {
        self.0.len() / ROW_LEN
    }

    /// The row of that number, which must be below [`len`](Self::len).
    pub(crate) fn row(&self, number: usize) -> Row {
        let row = &self.0[number * ROW_LEN..][..ROW_LEN];
        Row { digest: digest_at(row, 0), at: u64_at(row, 32), len: u64_at(row, 40) }
    }

    pub(crate) fn digest_bytes(&self, number: usize) -> &[u8] {
        &self.0[number * ROW_LEN..][..32]
    }

    /// The row of a digest.
    pub(crate) fn find(&self, digest: &Digest) -> Option<Row> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.digest_bytes(middle).cmp(&digest.0) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some(self.row(middle)),
            }
        }
        None
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = Row> + '_ {
        (0..self.len()).map(|number| self.row(number))
    }

    /// Numbers of the rows in the order of their places.
    pub(crate) fn by_place(&self) -> Box<[u32]> {
        let place = |number: u32| {
            let row = self.row(number as usize);
            (row.at, row.len, number)
        };
        // Rows lie in the order of their digests: reading them once is cheaper than at each step.
        let mut order: Vec<(u64, u64, u32)> = (0..self.len() as u32).map(place).collect();
        order.sort_unstable();
        order.into_iter().map(|(_, _, number)| number).collect()
    }
}

/// The index of a pack: what is in it and where.
#[derive(Debug, Clone, Default)]
pub(crate) struct Index {
    pub data_blocks: u64,
    pub objects_len: u64,
    pub frames_digest: Option<Digest>,
    pub blobs: Table,
    pub objects: Table,
    /// Numbers of the blob rows in the order of their blocks, for the look-up from a block.
    pub blobs_by_place: Box<[u32]>,
}

impl Index {
    /// Bytes of the data area.
    pub(crate) fn data_len(&self) -> u64 {
        self.data_blocks * BLOCK_SIZE
    }

    pub(crate) fn data_frames(&self) -> u64 {
        self.data_len().div_ceil(FRAME_LEN)
    }

    /// Frames of both areas.
    pub(crate) fn frames(&self) -> u64 {
        self.data_frames() + self.objects_len.div_ceil(FRAME_LEN)
    }

    /// The blob that holds a block of the data area: its row, found by place.
    pub(crate) fn blob_at(&self, block: BlockNo) -> Option<Row> {
        let behind = self
            .blobs_by_place
            .partition_point(|&number| self.blobs.row(number as usize).at <= block.0);
        let row = self.blobs.row(*self.blobs_by_place.get(behind.checked_sub(1)?)? as usize);
        (block.0 - row.at < row.len).then_some(row)
    }

    /// The lengths that an index within so many bytes can have, ascending.
    pub(crate) fn encoded_lens(limit: usize) -> impl Iterator<Item = usize> {
        (INDEX_HEAD_LEN..=limit).step_by(ROW_LEN)
    }

    /// Whether bytes that may be an index are as long as they would say then.
    pub(crate) fn says_len(bytes: &[u8]) -> bool {
        let rows = bytes.len().saturating_sub(INDEX_HEAD_LEN) / ROW_LEN;
        bytes.len() >= INDEX_HEAD_LEN
            && u64_at(bytes, 16).checked_add(u64_at(bytes, 24)) == Some(rows as u64)
    }

    /// Checks an index against its file's length, and takes it apart.
    pub(crate) fn decode(bytes: &[u8], file_len: u64) -> Result<Self, StoreError> {
        if bytes.len() < INDEX_HEAD_LEN {
            return Err(StoreError::corrupt("index", "at least 64 bytes", bytes.len()));
        }
        let rows = (bytes.len() - INDEX_HEAD_LEN) as u64 / ROW_LEN as u64;
        let (blobs, objects) = (u64_at(bytes, 16), u64_at(bytes, 24));
        let fits = (bytes.len() - INDEX_HEAD_LEN) % ROW_LEN == 0
            && blobs.checked_add(objects) == Some(rows)
            && rows <= u64::from(u32::MAX);
        if !fits {
            let found = format!("{blobs} and {objects} rows in {} bytes", bytes.len());
            return Err(StoreError::corrupt("index", "tables that fill it", found));
        }
        let cut = INDEX_HEAD_LEN + blobs as usize * ROW_LEN;
        let mut index = Self {
            data_blocks: u64_at(bytes, 0),
            objects_len: u64_at(bytes, 8),
            frames_digest: Some(digest_at(bytes, 32)),
            blobs: Table(bytes[INDEX_HEAD_LEN..cut].into()),
            objects: Table(bytes[cut..].into()),
            blobs_by_place: Box::default(),
        };
        index.check_len(bytes.len() as u64, file_len)?;
        check_table("blob table", &index.blobs, index.data_blocks, 1..=index.data_blocks)?;
        index.blobs_by_place = index.blobs.by_place();
        check_places("blob table", &index.blobs, &index.blobs_by_place, index.data_blocks)?;
        check_table("object table", &index.objects, index.objects_len, 0..=MAX_OBJECT_LEN)?;
        let order = index.objects.by_place();
        check_places("object table", &index.objects, &order, index.objects_len)?;
        Ok(index)
    }

    fn check_len(&self, index_len: u64, file_len: u64) -> Result<(), StoreError> {
        let limit = file_len / BLOCK_SIZE;
        let expected = (self.data_blocks <= limit && self.objects_len <= file_len).then(|| {
            self.data_len() + self.objects_len + self.frames() * 32 + index_len + TRAILER_LEN
        });
        if expected != Some(file_len) {
            let areas = format!("{} blocks and {} bytes", self.data_blocks, self.objects_len);
            let expected = format!("areas that fill {file_len} bytes");
            return Err(StoreError::corrupt("index", expected, areas));
        }
        Ok(())
    }
}

/// Rows by digest, each once, of allowed lengths, inside the area.
fn check_table(
    place: &str,
    table: &Table,
    area: u64,
    lens: std::ops::RangeInclusive<u64>,
) -> Result<(), StoreError> {
    let mut last: Option<Digest> = None;
    for (number, row) in table.rows().enumerate() {
        let sorted = last.is_none_or(|last| last < row.digest);
        let inside = row.at.checked_add(row.len).is_some_and(|end| end <= area);
        if !sorted || !inside || !lens.contains(&row.len) {
            return Err(StoreError::corrupt(
                format!("{place}, row {number}"),
                format!("a digest above the last one, a run of {lens:?} within {area}"),
                format!("{} at {} of length {}", row.digest, row.at, row.len),
            ));
        }
        last = Some(row.digest);
    }
    Ok(())
}

/// Runs fill their area without gap or overlap.
fn check_places(place: &str, table: &Table, order: &[u32], area: u64) -> Result<(), StoreError> {
    let mut next = 0;
    for &number in order {
        let row = table.row(number as usize);
        if row.at != next {
            let place = format!("{place}, row {number}");
            return Err(StoreError::corrupt(place, format!("a run at {next}"), row.at));
        }
        next += row.len;
    }
    if next != area {
        return Err(StoreError::corrupt(place, format!("runs that fill {area}"), next));
    }
    Ok(())
}

/// The index of rows that the caller sorted by digest.
pub(crate) fn encode_index(
    areas: (BlockCount, u64),
    frames_digest: Digest,
    blobs: &[Row],
    objects: &[Row],
) -> Vec<u8> {
    let rows = blobs.len() + objects.len();
    let mut bytes = Vec::with_capacity(INDEX_HEAD_LEN + rows * ROW_LEN);
    for number in [areas.0.0, areas.1, blobs.len() as u64, objects.len() as u64] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(&frames_digest.0);
    for row in blobs.iter().chain(objects) {
        bytes.extend_from_slice(&row.digest.0);
        bytes.extend_from_slice(&row.at.to_le_bytes());
        bytes.extend_from_slice(&row.len.to_le_bytes());
    }
    bytes
}

/// The caller has checked that the bytes are there.
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

fn digest_at(bytes: &[u8], at: usize) -> Digest {
    let mut digest = [0; 32];
    digest.copy_from_slice(&bytes[at..at + 32]);
    Digest(digest)
}
