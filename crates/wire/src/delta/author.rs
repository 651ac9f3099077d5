//! Making a delta.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;

use goldleaf_block::{
    BLOCK_SIZE, BlockCount, BlockError, BlockNo, BlockRange, ByteLen, SourceIndex,
};
use goldleaf_store::Digest;

use super::parse::check_reference;
use super::unit::{compress, decode};
use super::{DeltaIndex, DeltaUnit, NewPack, PackRun, RUNS_MAX, UNIT_MAX, blocks_of, content_len};
use crate::WireError;
use crate::error::verify;
use crate::pack::PackIndex;

const WHAT: &str = "a delta";

/// How a delta is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeltaEffort {
    /// Of zstd: 1 is quick, 19 is small.
    pub level: i32,
    /// How many units are compressed at once. Each takes 400 MB at level 19.
    pub threads: usize,
    /// Most content of a unit, in bytes: [`UNIT_MAX`], or less.
    pub unit: ByteLen,
}

/// What an author has: the content of both versions, and what of the one is like what of the other.
pub trait Versions: Sync {
    /// Reads content of a new pack.
    fn read_new(&self, run: PackRun, content: &mut [u8]) -> Result<(), BlockError>;

    /// Reads content of an old pack.
    fn read_old(&self, run: PackRun, content: &mut [u8]) -> Result<(), BlockError>;

    /// Old content that is likely to be like a run of new content, 24 MiB at most: what
    /// [`Pairing::reference`](crate::Pairing::reference) says.
    fn reference(&self, run: PackRun) -> Vec<PackRun>;
}

/// Takes what is stored of each unit, one behind the other.
pub type DeltaSink<'a> = dyn FnMut(Vec<u8>) -> io::Result<()> + 'a;

/// Makes a delta of all frames of new packs. `old` are the names of the old packs, `heads` what is
/// before the frames of the new ones: [`Versions`] counts packs as they do.
///
/// The units go to the sink as they are made. They belong behind the head, which is returned with
/// its digest, the delta's name: all units must be known before it can be written.
pub fn make_delta(
    old: &[Digest],
    heads: &[Vec<u8>],
    versions: &dyn Versions,
    effort: DeltaEffort,
    sink: &mut DeltaSink<'_>,
) -> Result<(Digest, Vec<u8>), WireError> {
    let mut packs = Vec::new();
    for head in heads {
        let name = Digest::of(head);
        let index = PackIndex::parse(head, &name)?;
        packs.push(NewPack { name, head: head.clone(), index });
    }
    let mut index = DeltaIndex { old_packs: old.to_vec(), packs, units: Vec::new(), len: 0 };
    // What is too much is said before hours were spent on it.
    index.to_bytes()?;
    let planned = plan(&index, effort.unit.0.min(UNIT_MAX), versions)?;
    for some in planned.chunks(effort.threads.max(1)) {
        for (unit, stored) in encode(&index, some, versions, effort.level)? {
            index.units.push(unit);
            sink(stored).map_err(WireError::Sink)?;
        }
    }
    forget_unused(&mut index);
    let head = index.to_bytes()?;
    let name = Digest::of(&head);
    // Whatever could not be read must not be published.
    DeltaIndex::parse(&head, &name)?;
    Ok((name, head))
}

/// Frames that come together.
struct Planned {
    pack: SourceIndex,
    frames: Range<usize>,
    /// Their content, in blocks of the pack's.
    blocks: BlockRange,
    reference: Vec<PackRun>,
}

/// Cuts the frames of each pack into units, with their references. When there are as many runs as
/// an index may have, those that are left get none: they are compressed by themselves.
fn plan(
    index: &DeltaIndex,
    unit_len: u64,
    versions: &dyn Versions,
) -> Result<Vec<Planned>, WireError> {
    let (mut planned, mut runs) = (Vec::new(), 0);
    for (new, number) in index.packs.iter().zip(0..) {
        let (pack, frames) = (SourceIndex(number), new.index.frames());
        let mut first = 0;
        for last in 1..=frames.len() {
            if last < frames.len() && content_len(&frames[first..=last]) <= unit_len {
                continue;
            }
            let unit = &frames[first..last];
            let blocks = blocks(unit[0].from, content_len(unit))?;
            let mut reference = versions.reference(PackRun { pack, blocks });
            check(&reference, index)?;
            if runs + reference.len() > RUNS_MAX {
                reference.clear();
            }
            runs += reference.len();
            planned.push(Planned { pack, frames: first..last, blocks, reference });
            first = last;
        }
    }
    Ok(planned)
}

fn blocks(from: u64, len: u64) -> Result<BlockRange, WireError> {
    if from % BLOCK_SIZE != 0 || len % BLOCK_SIZE != 0 {
        return Err(WireError::malformed(WHAT, "frames that are not of whole blocks"));
    }
    Ok(BlockRange::new(BlockNo(from / BLOCK_SIZE), BlockCount(len / BLOCK_SIZE)))
}

/// Fails where a reference is longer than one may be, or of packs that are not there.
fn check(reference: &[PackRun], index: &DeltaIndex) -> Result<(), WireError> {
    if reference.iter().any(|run| run.pack.0 as usize >= index.old_packs.len()) {
        return Err(WireError::malformed(WHAT, "a reference to no pack"));
    }
    check_reference(reference)
}

/// Some units at once, each with what is stored of it.
fn encode(
    index: &DeltaIndex,
    planned: &[Planned],
    versions: &dyn Versions,
    level: i32,
) -> Result<Vec<(DeltaUnit, Vec<u8>)>, WireError> {
    std::thread::scope(|scope| {
        let one = |unit| scope.spawn(move || encode_unit(index, unit, versions, level));
        let started: Vec<_> = planned.iter().map(one).collect();
        let join = |unit: std::thread::ScopedJoinHandle<'_, _>| {
            unit.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        started.into_iter().map(join).collect()
    })
}

/// What was compressed is decompressed again and compared: an encoder's bug must not get as far as
/// a delta.
fn encode_unit(
    index: &DeltaIndex,
    planned: &Planned,
    versions: &dyn Versions,
    level: i32,
) -> Result<(DeltaUnit, Vec<u8>), WireError> {
    let Planned { pack, blocks, .. } = *planned;
    let frames = &index.packs[pack.0 as usize].index.frames()[planned.frames.clone()];
    let reference_len = blocks_of(&planned.reference).bytes().0 as usize;
    let mut both = vec![0; reference_len + blocks.count.bytes().0 as usize];
    let mut rest = &mut both[..];
    for run in &planned.reference {
        let (content, behind) = rest.split_at_mut(run.blocks.count.bytes().0 as usize);
        versions.read_old(*run, content)?;
        rest = behind;
    }
    versions.read_new(PackRun { pack, blocks }, rest)?;
    for frame in frames {
        let from = (frame.from - frames[0].from) as usize;
        verify("a frame", &rest[from..from + frame.len as usize], &frame.content)?;
    }
    let stored = compress(&both, reference_len, level)?;
    both.truncate(reference_len);
    decode(frames, &stored, &both, Vec::new())?;
    let unit = DeltaUnit {
        at: 0,
        stored_len: stored.len() as u32,
        stored: Digest::of(&stored),
        pack,
        frames: planned.frames.clone(),
        reference: planned.reference.clone(),
    };
    Ok((unit, stored))
}

/// Leaves only those old packs in the list that a reference names, and counts anew.
fn forget_unused(index: &mut DeltaIndex) {
    let runs = index.units.iter().flat_map(|unit| &unit.reference);
    let used: BTreeSet<SourceIndex> = runs.map(|run| run.pack).collect();
    let used: Vec<SourceIndex> = used.into_iter().collect();
    index.old_packs = used.iter().map(|pack| index.old_packs[pack.0 as usize]).collect();
    for run in index.units.iter_mut().flat_map(|unit| &mut unit.reference) {
        let number = used.partition_point(|pack| *pack < run.pack);
        run.pack = SourceIndex(number as u32);
    }
}
