//! The map of a disk as it travels.
//!
//! ```text
//!   "GLMAP\x00\x00\x01"        magic and format, 8 bytes
//!   length decompressed        4 bytes, little-endian
//!   one zstd frame:            blocks of the disk; number of packs, then of each: name, length,
//!                              length before the frames, blocks of content; number of extents, then
//!                              four columns: blocks from the end of the extent before, blocks, pack
//!                              and block in it, the last two as differences from where the extent
//!                              before ended
//! ```
//! Columns of one kind compress better than extents do.

use goldleaf_block::{
    BLOCK_SIZE, BlockCount, BlockNo, BlockRange, ExtentMap, MapExtent, SourceIndex, Target,
};
use goldleaf_store::Digest;

use crate::WireError;
use crate::frame::FRAME_MAX;
use crate::pack::PACK_FRAMES_MAX;
use crate::sealed::Form;
use crate::varint::{Reader, put, put_difference};

const WHAT: &str = "a map";
const FORM: Form = Form { what: WHAT, magic: b"GLMAP\x00\x00\x01", limit: 64 << 20 };
/// Most bytes of content in a pack.
const CONTENT_MAX: u64 = (PACK_FRAMES_MAX * FRAME_MAX) as u64;

/// A pack as a map names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackRef {
    /// Its name.
    pub name: Digest,
    /// Its length in bytes.
    pub len: u64,
    /// How many of them come before the frames.
    pub head_len: u32,
    /// Its content, in blocks.
    pub blocks: BlockCount,
}

/// A disk over packs: the sources of the map, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireMap {
    /// The packs.
    pub packs: Vec<PackRef>,
    /// The disk.
    pub map: ExtentMap,
}

impl WireMap {
    /// As it travels.
    pub fn to_bytes(&self) -> Result<Vec<u8>, WireError> {
        let mut body = Vec::new();
        put(&mut body, self.map.blocks().0);
        put(&mut body, self.packs.len() as u64);
        for pack in &self.packs {
            body.extend_from_slice(&pack.name.0);
            put(&mut body, pack.len);
            put(&mut body, pack.head_len.into());
            put(&mut body, pack.blocks.0);
        }
        put(&mut body, self.map.extents().len() as u64);
        let mut columns = [const { Vec::new() }; 4];
        let (mut end, mut pack, mut behind) = (0, 0, 0);
        for MapExtent { range, target } in self.map.extents() {
            let Target::Source { source, at } = *target else { continue };
            put(&mut columns[0], range.start.0 - end);
            put(&mut columns[1], range.count.0);
            put_difference(&mut columns[2], pack, source.0.into());
            put_difference(&mut columns[3], behind, at.0);
            (end, pack, behind) = (range.end().0, source.0.into(), at.0 + range.count.0);
        }
        columns.iter().for_each(|column| body.extend_from_slice(column));
        FORM.seal(&body)
    }

    /// Reads a map whose bytes were verified. Extents lie within the disk and within their packs.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WireError> {
        parse(&FORM.open(bytes)?)
    }
}

fn parse(body: &[u8]) -> Result<WireMap, WireError> {
    let mut reader = Reader::new(WHAT, body);
    let blocks = BlockCount(reader.number()?);
    let mut packs = Vec::new();
    for _ in 0..reader.count()? {
        packs.push(pack(&mut reader)?);
    }
    let count = reader.count()?;
    let mut column = |difference: bool| -> Result<Vec<u64>, WireError> {
        let mut last = 0;
        let mut next = || {
            last = if difference { reader.difference(last)? } else { reader.number()? };
            Ok(last)
        };
        (0..count).map(|_| next()).collect()
    };
    let (gaps, counts, sources) = (column(false)?, column(false)?, column(true)?);
    let mut extents = Vec::with_capacity(count);
    let (mut end, mut behind) = (0u64, 0u64);
    for ((gap, count), source) in gaps.into_iter().zip(counts).zip(sources) {
        let at = reader.difference(behind)?;
        let past = || WireError::malformed(WHAT, "an extent past all ends");
        let start = end.checked_add(gap).ok_or_else(past)?;
        end = start.checked_add(count).ok_or_else(past)?;
        behind = at.checked_add(count).ok_or_else(past)?;
        let source = SourceIndex(u32::try_from(source).map_err(|_| past())?);
        let range = BlockRange::new(BlockNo(start), BlockCount(count));
        extents.push(MapExtent { range, target: Target::Source { source, at: BlockNo(at) } });
    }
    reader.end()?;
    let lens: Vec<BlockCount> = packs.iter().map(|pack| pack.blocks).collect();
    Ok(WireMap { map: ExtentMap::checked(blocks, extents, &lens)?, packs })
}

fn pack(reader: &mut Reader<'_>) -> Result<PackRef, WireError> {
    let (name, len) = (Digest(reader.array()?), reader.number()?);
    let head_len = u32::try_from(reader.number()?)
        .ok()
        .filter(|head| u64::from(*head) < len)
        .ok_or_else(|| WireError::malformed(WHAT, "a pack without frames"))?;
    let blocks = BlockCount(reader.number()?);
    if blocks.0 > CONTENT_MAX / BLOCK_SIZE {
        return Err(WireError::malformed(WHAT, "a pack with more content than any has"));
    }
    Ok(PackRef { name, len, head_len, blocks })
}
