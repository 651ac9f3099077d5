//! The index of a delta: written, and read from whoever sent it.

use goldleaf_block::{BlockCount, BlockNo, BlockRange, SourceIndex};
use goldleaf_store::Digest;

use super::{
    DeltaIndex, DeltaUnit, FIXED, INDEX_MAX, MAGIC, NewPack, PACK_BLOCKS_MAX, PackRun,
    REFERENCE_MAX, RUNS_MAX, UNIT_MAX, WHAT, blocks_of, content_len,
};
use crate::WireError;
use crate::error::verify;
use crate::pack::PackIndex;
use crate::varint::{Reader, put, put_difference};

const LEVEL: i32 = 19;

fn malformed(why: &str) -> WireError {
    WireError::malformed(WHAT, why)
}

/// The index before it is stored.
fn body(index: &DeltaIndex) -> Vec<u8> {
    let mut body = Vec::new();
    put(&mut body, index.old_packs.len() as u64);
    index.old_packs.iter().for_each(|name| body.extend_from_slice(&name.0));
    put(&mut body, index.packs.len() as u64);
    for pack in &index.packs {
        put(&mut body, pack.head.len() as u64);
        body.extend_from_slice(&pack.head);
    }
    put(&mut body, index.units.len() as u64);
    let mut columns = [const { Vec::new() }; 9];
    let (mut pack, mut frame) = (0, 0);
    let mut behind = (0, 0);
    for unit in &index.units {
        if unit.pack.0 != pack {
            frame = 0;
        }
        put(&mut columns[0], u64::from(unit.pack.0 - pack));
        put(&mut columns[1], (unit.frames.start - frame) as u64);
        put(&mut columns[2], unit.frames.len() as u64);
        put(&mut columns[3], unit.reference.len() as u64);
        put(&mut columns[4], unit.stored_len.into());
        columns[5].extend_from_slice(&unit.stored.0);
        (pack, frame) = (unit.pack.0, unit.frames.end);
        for PackRun { pack, blocks } in &unit.reference {
            put_difference(&mut columns[6], behind.0, pack.0.into());
            put(&mut columns[7], blocks.count.0);
            put_difference(&mut columns[8], behind.1, blocks.start.0);
            behind = (pack.0.into(), blocks.end().0);
        }
    }
    columns.iter().for_each(|column| body.extend_from_slice(column));
    body
}

impl DeltaIndex {
    /// All that is before the units. What it gives, [`parse`](Self::parse) takes.
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, WireError> {
        let body = body(self);
        if body.len() > INDEX_MAX {
            return Err(WireError::TooLarge { what: "a delta's index", limit: INDEX_MAX as u64 });
        }
        let packed = zstd::bulk::compress(&body, LEVEL)
            .map_err(|error| WireError::malformed(WHAT, error))?;
        let lens = [packed.len(), body.len()].map(|len| (len as u32).to_le_bytes());
        Ok([&MAGIC[..], lens.as_flattened(), &packed].concat())
    }

    /// How many bytes say how many there are before the units.
    pub const FIRST: usize = FIXED;

    /// How many bytes there are before the units, as the [first](Self::FIRST) of them say.
    pub fn head_len(first: &[u8]) -> Result<usize, WireError> {
        let mut reader = Reader::new(WHAT, first);
        if reader.array()? != *MAGIC {
            return Err(malformed("another magic number"));
        }
        let stored = u32::from_le_bytes(reader.array()?) as usize;
        let len = u32::from_le_bytes(reader.array()?) as usize;
        if len > INDEX_MAX || stored > zstd::zstd_safe::compress_bound(len) {
            return Err(malformed("an index longer than any"));
        }
        Ok(FIXED + stored)
    }

    /// Reads what is before the units of the delta of that name. All that it says of the delta and
    /// of the new packs is true of them; of old packs only the names are known.
    pub fn parse(head: &[u8], name: &Digest) -> Result<Self, WireError> {
        let (expected, found) = (Self::head_len(head)? as u64, head.len() as u64);
        if expected != found {
            return Err(WireError::Length { what: WHAT, expected, found });
        }
        verify(WHAT, head, name)?;
        let mut len = [0; 4];
        len.copy_from_slice(&head[FIXED - 4..FIXED]);
        let len = u32::from_le_bytes(len) as usize;
        let body = zstd::bulk::decompress(&head[FIXED..], len)
            .map_err(|why| WireError::Decompress { what: WHAT, why: why.to_string() })?;
        if body.len() != len {
            let (expected, found) = (len as u64, body.len() as u64);
            return Err(WireError::Length { what: WHAT, expected, found });
        }
        let mut reader = Reader::new(WHAT, &body);
        let mut index =
            Self { old_packs: Vec::new(), packs: Vec::new(), units: Vec::new(), len: found };
        for _ in 0..reader.count()? {
            index.old_packs.push(Digest(reader.array()?));
        }
        for _ in 0..reader.count()? {
            index.packs.push(new_pack(&mut reader)?);
        }
        let runs = index.read_units(&mut reader)?;
        index.read_references(&mut reader, &runs)?;
        reader.end()?;
        Ok(index)
    }

    /// Reads the units' columns; returns how many runs the reference of each has.
    fn read_units(&mut self, reader: &mut Reader<'_>) -> Result<Vec<usize>, WireError> {
        let count = reader.count()?;
        let mut column =
            || -> Result<Vec<u64>, WireError> { (0..count).map(|_| reader.number()).collect() };
        let (packs, gaps, frames) = (column()?, column()?, column()?);
        let (runs, lens) = (column()?, column()?);
        let (mut pack, mut behind) = (0u64, 0u64);
        for number in 0..count {
            if packs[number] > 0 {
                behind = 0;
            }
            let past = || malformed("a unit of frames that are not there");
            pack = pack.checked_add(packs[number]).ok_or_else(past)?;
            let first = behind.checked_add(gaps[number]).ok_or_else(past)?;
            behind = first.checked_add(frames[number]).ok_or_else(past)?;
            let there = usize::try_from(pack).ok().and_then(|pack| self.packs.get(pack));
            let all = there.ok_or_else(past)?.index.frames();
            let frames = first as usize..behind as usize;
            let unit = all.get(frames.clone()).filter(|frames| !frames.is_empty());
            let content = content_len(unit.ok_or_else(past)?);
            let stored_len = stored_len(content, lens[number])?;
            self.units.push(DeltaUnit {
                at: self.len,
                stored_len,
                stored: Digest(reader.array()?),
                pack: SourceIndex(pack as u32),
                frames,
                reference: Vec::new(),
            });
            self.len += u64::from(stored_len);
        }
        if runs.iter().fold(0, |sum: u64, runs| sum.saturating_add(*runs)) > RUNS_MAX as u64 {
            return Err(WireError::TooLarge { what: "runs of references", limit: RUNS_MAX as u64 });
        }
        Ok(runs.into_iter().map(|runs| runs as usize).collect())
    }

    /// Reads the columns of all references.
    fn read_references(
        &mut self,
        reader: &mut Reader<'_>,
        runs: &[usize],
    ) -> Result<(), WireError> {
        let all = runs.iter().sum();
        let mut last = 0;
        let mut packs = Vec::new();
        for _ in 0..all {
            last = reader.difference(last)?;
            if last >= self.old_packs.len() as u64 {
                return Err(malformed("a reference to no pack"));
            }
            packs.push(SourceIndex(last as u32));
        }
        let counts: Vec<u64> = (0..all).map(|_| reader.number()).collect::<Result<_, _>>()?;
        let mut left = packs.into_iter().zip(counts);
        let mut behind = 0u64;
        for (unit, runs) in self.units.iter_mut().zip(runs) {
            for (pack, count) in left.by_ref().take(*runs) {
                let start = reader.difference(behind)?;
                let end = start.checked_add(count).filter(|end| *end <= PACK_BLOCKS_MAX);
                behind = end.filter(|_| count > 0).ok_or_else(|| malformed("a run of no pack"))?;
                let blocks = BlockRange::new(BlockNo(start), BlockCount(count));
                unit.reference.push(PackRun { pack, blocks });
            }
            check_reference(&unit.reference)?;
        }
        Ok(())
    }
}

fn new_pack(reader: &mut Reader<'_>) -> Result<NewPack, WireError> {
    let len = reader.count()?;
    let head = reader.bytes(len)?.to_vec();
    let name = Digest::of(&head);
    let index = PackIndex::parse(&head, &name)?;
    Ok(NewPack { name, head, index })
}

/// The length of what is stored of a unit, if it can be that.
fn stored_len(content: u64, stored: u64) -> Result<u32, WireError> {
    if content > UNIT_MAX {
        return Err(WireError::TooLarge { what: "content of a unit", limit: UNIT_MAX });
    }
    let most = zstd::zstd_safe::compress_bound(content as usize) as u64;
    if stored == 0 || stored > most {
        return Err(malformed("a unit that is stored in more bytes than it has, or in none"));
    }
    Ok(stored as u32)
}

/// Fails where a reference is longer than one may be.
pub(super) fn check_reference(runs: &[PackRun]) -> Result<(), WireError> {
    if blocks_of(runs).bytes().0 > REFERENCE_MAX {
        return Err(WireError::TooLarge { what: "content of a reference", limit: REFERENCE_MAX });
    }
    Ok(())
}
