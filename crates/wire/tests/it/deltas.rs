//! Deltas: what an endpoint gets is what the packs have, or an error.

use std::collections::BTreeMap;

use goldleaf_block::{
    BLOCK_SIZE, BlockCount, BlockError, BlockNo, BlockRange, ByteLen, MapExtent, SourceIndex,
    Target,
};
use goldleaf_store::Digest;
use goldleaf_wire::{
    DeltaEffort, DeltaIndex, DiskFile, Effort, Known, PackRun, Pairing, REFERENCE_MAX, Side,
    UNIT_MAX, Versions, WireError, WireMap, make_delta, publish,
};
use proptest::prelude::*;

use crate::published::{Disk, whole};

const BLOCK: usize = BLOCK_SIZE as usize;
const EFFORT: DeltaEffort = DeltaEffort { level: 3, threads: 2, unit: ByteLen(512 << 10) };

/// A file's path, and its extents.
type Placed = (Vec<u8>, Vec<(BlockNo, BlockRange)>);

/// What was published of one disk.
pub struct Published {
    disk: Vec<u8>,
    pub map: WireMap,
    /// Heads of packs, by name.
    heads: BTreeMap<Digest, Vec<u8>>,
    files: Vec<Placed>,
}

impl Published {
    /// Files one behind the other.
    fn new(files: &BTreeMap<Vec<u8>, Vec<u8>>, known: &mut Known) -> Self {
        let (mut disk, mut extents) = (vec![0; BLOCK], Vec::new());
        for (path, content) in files {
            let start = BlockNo((disk.len() / BLOCK) as u64);
            disk.extend_from_slice(content);
            disk.resize(disk.len().next_multiple_of(BLOCK), 0);
            let count = BlockCount((disk.len() / BLOCK) as u64 - start.0);
            extents.push((path.clone(), vec![(BlockNo(0), BlockRange::new(start, count))]));
        }
        let (device, mut heads) = (Disk(disk), BTreeMap::new());
        let effort = Effort { level: 1, threads: 1, frame: BlockCount(64) };
        let map = publish(&device, &whole(&device), known, effort, &mut |pack, bytes| {
            heads.insert(pack.name, bytes[..pack.head_len as usize].to_vec());
            Ok(())
        })
        .unwrap();
        Self { disk: device.0, map, heads, files: extents }
    }

    fn files(&self) -> Vec<DiskFile<'_>> {
        self.files.iter().map(|(path, extents)| DiskFile { path, extents }).collect()
    }

    /// Content of a pack, through the disk that names it.
    fn read(&self, pack: Digest, blocks: BlockRange) -> Vec<u8> {
        let block = |block: u64| {
            let here = |extent: &MapExtent| match extent.target {
                Target::Source { source, at } => {
                    let within = block.checked_sub(at.0)?;
                    let here = self.map.packs[source.0 as usize].name == pack;
                    (here && within < extent.range.count.0).then(|| extent.range.start.0 + within)
                }
                Target::Zero => None,
            };
            let at = self.map.map.extents().iter().find_map(here).unwrap() as usize * BLOCK;
            &self.disk[at..at + BLOCK]
        };
        (blocks.start.0..blocks.end().0).flat_map(|number| block(number).to_vec()).collect()
    }
}

struct Author<'a> {
    old: &'a Published,
    new: &'a Published,
    pairing: Pairing<'a>,
    pairs: bool,
}

impl Versions for Author<'_> {
    fn read_new(&self, run: PackRun, content: &mut [u8]) -> Result<(), BlockError> {
        let name = self.pairing.new_packs()[run.pack.0 as usize].name;
        content.copy_from_slice(&self.new.read(name, run.blocks));
        Ok(())
    }

    fn read_old(&self, run: PackRun, content: &mut [u8]) -> Result<(), BlockError> {
        let name = self.old.map.packs[run.pack.0 as usize].name;
        content.copy_from_slice(&self.old.read(name, run.blocks));
        Ok(())
    }

    fn reference(&self, run: PackRun) -> Vec<PackRun> {
        if self.pairs { self.pairing.reference(run) } else { Vec::new() }
    }
}

/// A delta: its head's digest, its head, and all of it.
pub struct Made {
    pub name: Digest,
    pub head: Vec<u8>,
    pub bytes: Vec<u8>,
}

fn make(old: &Published, new: &Published, pairs: bool, effort: DeltaEffort) -> Made {
    let (old_files, new_files) = (old.files(), new.files());
    let pairing = Pairing::new(
        Side { map: &old.map, files: &old_files },
        Side { map: &new.map, files: &new_files },
    );
    let heads: Vec<Vec<u8>> =
        pairing.new_packs().iter().map(|pack| new.heads[&pack.name].clone()).collect();
    let names: Vec<Digest> = old.map.packs.iter().map(|pack| pack.name).collect();
    let author = Author { old, new, pairing, pairs };
    let mut stored = Vec::new();
    let (name, head) = make_delta(&names, &heads, &author, effort, &mut |unit| {
        stored.extend(unit);
        Ok(())
    })
    .unwrap();
    let bytes = [&head[..], &stored].concat();
    Made { name, head, bytes }
}

/// What an endpoint does that has the old version. Returns how many bytes it read.
fn apply(made: &Made, old: &Published, new: &Published) -> u64 {
    assert_eq!(DeltaIndex::head_len(&made.bytes[..16]).unwrap(), made.head.len());
    let index = DeltaIndex::parse(&made.head, &made.name).unwrap();
    assert_eq!(index.len, made.bytes.len() as u64);
    let mut frames = 0;
    for unit in index.units() {
        let reference: Vec<u8> = unit
            .reference
            .iter()
            .flat_map(|run| old.read(index.old_packs()[run.pack.0 as usize], run.blocks))
            .collect();
        let stored = &made.bytes[unit.at as usize..][..unit.stored_len as usize];
        let content = index.decode(unit, stored, &reference, Vec::new()).unwrap();
        let pack = &index.packs()[unit.pack.0 as usize];
        for (frame, bytes) in content.frames() {
            let start = BlockNo(frame.from / BLOCK_SIZE);
            let blocks = BlockRange::new(start, ByteLen(frame.len.into()).blocks());
            assert_eq!(bytes, new.read(pack.name, blocks));
            frames += 1;
        }
    }
    let all = index.packs().iter().map(|pack| pack.index.frames().len()).sum::<usize>();
    assert_eq!(frames, all, "a delta brings all frames of new packs");
    index.len
}

/// Bytes that do not compress, the same for the same seed.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2) | 1;
    let mut byte = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..len).map(|_| byte()).collect()
}

type Files = BTreeMap<Vec<u8>, Vec<u8>>;

fn files(list: &[(&str, Vec<u8>)]) -> Files {
    list.iter().map(|(path, content)| (path.as_bytes().to_vec(), content.clone())).collect()
}

fn versions(old: &Files, new: &Files) -> (Published, Published) {
    let mut known = Known::default();
    let old = Published::new(old, &mut known);
    let new = Published::new(new, &mut known);
    (old, new)
}

/// What becomes of a file.
#[derive(Debug, Clone)]
enum Edit {
    Insert(usize, u8),
    Remove(usize, usize),
    Rename(u8),
    Directory(u8),
    Drop,
    Keep,
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        (0..60_000usize, any::<u8>()).prop_map(|(at, byte)| Edit::Insert(at, byte)),
        (0..60_000usize, 1..9000usize).prop_map(|(at, len)| Edit::Remove(at, len)),
        any::<u8>().prop_map(Edit::Rename),
        any::<u8>().prop_map(Edit::Directory),
        Just(Edit::Drop),
        Just(Edit::Keep),
    ]
}

fn edited(old: &Files, edits: &[Edit]) -> Files {
    let mut new = Files::new();
    for ((path, content), edit) in old.iter().zip(edits) {
        let (mut path, mut content) = (path.clone(), content.clone());
        match *edit {
            Edit::Insert(at, byte) => content.insert(at.min(content.len()), byte),
            Edit::Remove(at, len) => {
                let at = at.min(content.len());
                content.drain(at..(at + len).min(content.len()));
            }
            Edit::Rename(number) => path.extend_from_slice(format!(".{number}").as_bytes()),
            Edit::Directory(number) => path.splice(0..0, [b'd', number, b'/']).for_each(drop),
            Edit::Drop => continue,
            Edit::Keep => {}
        }
        new.insert(path, content);
    }
    new
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn every_frame_comes_back(
        lens in prop::collection::vec(0..60_000usize, 1..16),
        edits in prop::collection::vec(edit(), 16),
        pairs in any::<bool>(),
    ) {
        let old: Files = lens
            .iter()
            .zip(0..)
            .map(|(len, seed)| (format!("dir/lib{seed}.so.1.{seed}").into(), noise(seed, *len)))
            .collect();
        let (old, new) = versions(&old, &edited(&old, &edits));
        let made = make(&old, &new, pairs, EFFORT);
        apply(&made, &old, &new);
    }

    /// Whatever is between magic and end, and whoever vouches for it: an answer that keeps to all
    /// limits, and no more memory than those say.
    #[test]
    fn nonsense_is_refused(body in prop::collection::vec(any::<u8>(), 0..300)) {
        let (name, head) = sealed(&body);
        if let Ok(index) = DeltaIndex::parse(&head, &name) {
            for unit in index.units() {
                prop_assert!(unit.reference_blocks().bytes().0 <= REFERENCE_MAX);
            }
        }
    }
}

/// A head of that body.
pub fn sealed(body: &[u8]) -> (Digest, Vec<u8>) {
    let packed = zstd::bulk::compress(body, 1).unwrap();
    let mut head = b"GLDELT\x00\x01".to_vec();
    head.extend_from_slice(&(packed.len() as u32).to_le_bytes());
    head.extend_from_slice(&(body.len() as u32).to_le_bytes());
    head.extend_from_slice(&packed);
    (Digest::of(&head), head)
}

/// A library that grew at its beginning, under a new name: all of its blocks are new, and nearly
/// none of its bytes.
fn grown() -> (Published, Published) {
    let content = noise(1, 700_000);
    let longer = [&b"more"[..], &content].concat();
    let other = noise(2, 50_000);
    versions(
        &files(&[("usr/lib/libz.so.1.2.13", content), ("z", other.clone())]),
        &files(&[("usr/lib/libz.so.1.3", longer), ("z", other)]),
    )
}

#[test]
fn what_moved_within_a_file_costs_nearly_nothing() {
    let (old, new) = grown();
    let with = apply(&make(&old, &new, true, EFFORT), &old, &new);
    let without = apply(&make(&old, &new, false, EFFORT), &old, &new);
    assert!(with < 2000 && without > 700_000, "{with} and {without} bytes");
}

#[test]
fn the_same_versions_make_the_same_delta() {
    let (old, new) = grown();
    let made = make(&old, &new, true, EFFORT);
    for threads in [1, 3] {
        let again = make(&old, &new, true, DeltaEffort { threads, ..EFFORT });
        assert_eq!((made.name, &made.bytes), (again.name, &again.bytes));
    }
}

#[test]
fn where_nothing_is_new_there_are_no_units() {
    let same = files(&[("a", noise(1, 30_000))]);
    let (old, new) = versions(&same, &same);
    let made = make(&old, &new, true, EFFORT);
    let index = DeltaIndex::parse(&made.head, &made.name).unwrap();
    assert!(index.units().is_empty() && index.packs().is_empty() && index.old_packs().is_empty());
}

/// A large file changed everywhere: references stay within their limit, and near to what changed.
#[test]
fn references_of_a_large_file_are_bounded() {
    let content = noise(3, 30 << 20);
    let mut changed = content.clone();
    changed.iter_mut().step_by(BLOCK).for_each(|byte| *byte ^= 1);
    let (old, new) = versions(&files(&[("large", content)]), &files(&[("large", changed)]));
    let effort = DeltaEffort { unit: ByteLen(UNIT_MAX), ..EFFORT };
    let (old_files, new_files) = (old.files(), new.files());
    let pairing = Pairing::new(
        Side { map: &old.map, files: &old_files },
        Side { map: &new.map, files: &new_files },
    );
    for (pack, number) in pairing.new_packs().iter().zip(0..) {
        let blocks = BlockRange::new(BlockNo(0), pack.blocks);
        let runs = pairing.reference(PackRun { pack: SourceIndex(number), blocks });
        let sum: u64 = runs.iter().map(|run| run.blocks.count.bytes().0).sum();
        assert_eq!(sum, REFERENCE_MAX);
    }
    let made = make(&old, &new, true, effort);
    assert!(apply(&made, &old, &new) < 2 << 20, "{} bytes", made.bytes.len());
}

/// Each byte changed, each length.
#[test]
fn a37_a38_no_byte_may_change() {
    let (old, new) = grown();
    let made = make(&old, &new, true, EFFORT);
    for at in 0..made.head.len() {
        let mut head = made.head.clone();
        head[at] ^= 1 << (at % 8);
        assert!(DeltaIndex::parse(&head, &made.name).is_err(), "byte {at}");
        // The same from somebody who says that it is the delta: an answer.
        let _ = DeltaIndex::parse(&head, &Digest::of(&head));
        let _ = DeltaIndex::parse(&made.head[..at], &Digest::of(&made.head[..at]));
    }
    let index = DeltaIndex::parse(&made.head, &made.name).unwrap();
    let unit = &index.units()[0];
    let stored = &made.bytes[unit.at as usize..][..unit.stored_len as usize];
    let reference = vec![0; unit.reference_blocks().bytes().0 as usize];
    for at in 0..stored.len() {
        let mut other = stored.to_vec();
        other[at] ^= 1;
        let error = index.decode(unit, &other, &reference, Vec::new()).unwrap_err();
        assert!(matches!(error, WireError::HashMismatch { .. }), "{error}");
    }
    let short = index.decode(unit, &stored[1..], &reference, Vec::new());
    assert!(matches!(short, Err(WireError::Length { .. })));
}

/// What is here is not what the author had: an error that says so, and never other content.
#[test]
fn a_wrong_reference_is_useless_and_no_more() {
    let (old, new) = grown();
    let made = make(&old, &new, true, EFFORT);
    let index = DeltaIndex::parse(&made.head, &made.name).unwrap();
    for unit in index.units() {
        let stored = &made.bytes[unit.at as usize..][..unit.stored_len as usize];
        let len = unit.reference_blocks().bytes().0 as usize;
        let wrong = index.decode(unit, stored, &noise(9, len), Vec::new()).unwrap_err();
        let typed = matches!(wrong, WireError::HashMismatch { .. } | WireError::Decompress { .. });
        assert!(typed, "{wrong}");
        for len in [0, len - 1, len + 1] {
            let error = index.decode(unit, stored, &noise(9, len), Vec::new()).unwrap_err();
            assert!(matches!(error, WireError::Length { .. }), "{error}");
        }
    }
}

/// An author whose reading goes wrong makes no delta.
#[test]
fn content_that_is_not_the_packs_makes_no_delta() {
    struct Wrong;
    impl Versions for Wrong {
        fn read_new(&self, _: PackRun, content: &mut [u8]) -> Result<(), BlockError> {
            content.fill(7);
            Ok(())
        }
        fn read_old(&self, _: PackRun, _: &mut [u8]) -> Result<(), BlockError> {
            Ok(())
        }
        fn reference(&self, _: PackRun) -> Vec<PackRun> {
            Vec::new()
        }
    }
    struct Far(u32, u64);
    impl Versions for Far {
        fn read_new(&self, _: PackRun, _: &mut [u8]) -> Result<(), BlockError> {
            Ok(())
        }
        fn read_old(&self, _: PackRun, _: &mut [u8]) -> Result<(), BlockError> {
            Ok(())
        }
        fn reference(&self, _: PackRun) -> Vec<PackRun> {
            let blocks = BlockRange::new(BlockNo(0), BlockCount(self.1));
            vec![PackRun { pack: SourceIndex(self.0), blocks }]
        }
    }
    let (_, new) = grown();
    let heads: Vec<Vec<u8>> = new.heads.values().cloned().collect();
    let old = [Digest::of(b"old")];
    let make = |versions: &dyn Versions| {
        make_delta(&old, &heads, versions, EFFORT, &mut |_| Ok(())).unwrap_err()
    };
    assert!(matches!(make(&Wrong), WireError::HashMismatch { .. }));
    assert!(matches!(make(&Far(1, 1)), WireError::Malformed { .. }));
    assert!(matches!(make(&Far(0, REFERENCE_MAX / BLOCK_SIZE + 1)), WireError::TooLarge { .. }));
    let mut none = |_| Err(std::io::Error::other("full"));
    let failed = make_delta(&old, &heads, &Honest(&new), EFFORT, &mut none).unwrap_err();
    assert!(matches!(failed, WireError::Sink(_)));
}

/// Reads what there is, and refers to nothing.
struct Honest<'a>(&'a Published);

impl Versions for Honest<'_> {
    fn read_new(&self, run: PackRun, content: &mut [u8]) -> Result<(), BlockError> {
        let name = *self.0.heads.keys().nth(run.pack.0 as usize).unwrap();
        content.copy_from_slice(&self.0.read(name, run.blocks));
        Ok(())
    }

    fn read_old(&self, _: PackRun, _: &mut [u8]) -> Result<(), BlockError> {
        Ok(())
    }

    fn reference(&self, _: PackRun) -> Vec<PackRun> {
        Vec::new()
    }
}
