//! What a delta comes to beside packs, for two trees of files:
//! `cargo run --release -p goldleaf-wire --example delta OLD NEW SCRATCH [unit MiB] [level] [every]`.
//!
//! Each tree becomes a disk, file behind file in the order of paths, below SCRATCH; what was published
//! there is used again. `every` makes a delta of every so-manieth new pack only.
#![allow(clippy::unwrap_used, missing_docs, reason = "an example")]

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use goldleaf_block::{
    BLOCK_SIZE, BlockCount, BlockError, BlockNo, BlockRange, ByteLen, ByteOffset, RangeKind,
    ReadBlocks, SourceIndex, Target,
};
use goldleaf_wire::{
    DeltaEffort, DeltaIndex, DiskFile, Effort, Known, PackIndex, PackRun, Pairing, Side, Versions,
    WireMap, make_delta, publish,
};

struct Disk {
    file: File,
    paths: Vec<(Vec<u8>, Vec<(BlockNo, BlockRange)>)>,
    blocks: u64,
}

impl ReadBlocks for Disk {
    fn len(&self) -> ByteLen {
        ByteLen(self.blocks * BLOCK_SIZE)
    }

    fn read_at(&self, at: ByteOffset, buf: &mut [u8]) -> Result<(), BlockError> {
        self.file.read_exact_at(buf, at.0).map_err(|error| BlockError::io("reading", &error))
    }

    fn status(&self, _: ByteOffset, limit: ByteLen) -> Result<(ByteLen, RangeKind), BlockError> {
        Ok((limit, RangeKind::Data))
    }
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => walk(&entry.path(), found),
            kind if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
}

/// Files behind one another.
fn lay_out(tree: &Path, to: &Path) -> Disk {
    let mut files = Vec::new();
    walk(tree, &mut files);
    files.sort();
    let mut out = BufWriter::new(File::create(to).unwrap());
    let (mut blocks, mut paths) = (0, Vec::new());
    for file in files {
        let bytes = fs::read(&file).unwrap();
        let count = (bytes.len() as u64).div_ceil(BLOCK_SIZE);
        out.write_all(&bytes).unwrap();
        out.write_all(&vec![0; (count * BLOCK_SIZE) as usize - bytes.len()]).unwrap();
        let path = file.strip_prefix(tree).unwrap().to_str().unwrap().as_bytes().to_vec();
        let range = BlockRange::new(BlockNo(blocks), BlockCount(count));
        paths.push((path, vec![(BlockNo(0), range)]));
        blocks += count;
    }
    out.flush().unwrap();
    Disk { file: File::open(to).unwrap(), paths, blocks }
}

/// Publishes a disk, or takes what was published; new heads are kept.
fn published(disk: &Disk, scratch: &Path, name: &str, known: &mut Known, level: i32) -> WireMap {
    let at = scratch.join(format!("{name}.map"));
    if let Ok(map) = fs::read(&at) {
        return WireMap::from_bytes(&map).unwrap();
    }
    let order = [BlockRange::new(BlockNo(0), BlockCount(disk.blocks))];
    let begin = Instant::now();
    let effort = Effort { level, threads: 2 };
    let map = publish(disk, &order, known, effort, &mut |pack, bytes| {
        fs::write(scratch.join(pack.name.to_string()), &bytes[..pack.head_len as usize])
    })
    .unwrap();
    println!("published {name} at level {level} in {:.0} s", begin.elapsed().as_secs_f64());
    fs::write(at, map.to_bytes().unwrap()).unwrap();
    map
}

/// Content of packs, found on the disk that names them.
struct Content<'a> {
    disk: &'a Disk,
    places: HashMap<(u32, u64), u64>,
}

impl<'a> Content<'a> {
    fn new(disk: &'a Disk, map: &WireMap) -> Self {
        let mut places = HashMap::new();
        for extent in map.map.extents() {
            let Target::Source { source, at } = extent.target else { continue };
            for block in 0..extent.range.count.0 {
                places.insert((source.0, at.0 + block), extent.range.start.0 + block);
            }
        }
        Self { disk, places }
    }

    fn read(&self, pack: u32, blocks: BlockRange, to: &mut [u8]) -> Result<(), BlockError> {
        for (block, to) in (blocks.start.0..).zip(to.chunks_exact_mut(BLOCK_SIZE as usize)) {
            self.disk.read_at(ByteOffset(self.places[&(pack, block)] * BLOCK_SIZE), to)?;
        }
        Ok(())
    }
}

struct Author<'a> {
    old: Content<'a>,
    new: Content<'a>,
    pairing: Pairing<'a>,
    /// Of packs of the delta: their number in the pairing, and in the new map.
    packs: Vec<(u32, u32)>,
}

impl Versions for Author<'_> {
    fn read_new(&self, run: PackRun, content: &mut [u8]) -> Result<(), BlockError> {
        self.new.read(self.packs[run.pack.0 as usize].1, run.blocks, content)
    }

    fn read_old(&self, run: PackRun, content: &mut [u8]) -> Result<(), BlockError> {
        self.old.read(run.pack.0, run.blocks, content)
    }

    fn reference(&self, run: PackRun) -> Vec<PackRun> {
        let pack = SourceIndex(self.packs[run.pack.0 as usize].0);
        self.pairing.reference(PackRun { pack, ..run })
    }
}

fn peak_mb() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut path = || PathBuf::from(arguments.next().expect("OLD NEW SCRATCH"));
    let (old_tree, new_tree, scratch) = (path(), path(), path());
    let mut number = |default: u64| arguments.next().map_or(default, |text| text.parse().unwrap());
    let (unit, level, every) = (number(8), number(19) as i32, number(1) as usize);
    fs::create_dir_all(&scratch).unwrap();
    let old = lay_out(&old_tree, &scratch.join("old.disk"));
    let new = lay_out(&new_tree, &scratch.join("new.disk"));
    let mut known = Known::default();
    let old_map = published(&old, &scratch, "old", &mut known, 1);
    if !scratch.join("new.map").exists() {
        known.learn(&old_map, &old).unwrap();
    }
    let new_map = published(&new, &scratch, "new", &mut known, 19);
    drop(known);
    make(&old, &old_map, &new, &new_map, &scratch, (unit, level, every));
}

fn files(disk: &Disk) -> Vec<DiskFile<'_>> {
    disk.paths.iter().map(|(path, extents)| DiskFile { path, extents }).collect()
}

fn make(
    old: &Disk,
    old_map: &WireMap,
    new: &Disk,
    new_map: &WireMap,
    scratch: &Path,
    (unit, level, every): (u64, i32, usize),
) {
    let (old_files, new_files) = (files(old), files(new));
    let begin = Instant::now();
    let pairing = Pairing::new(
        Side { map: old_map, files: &old_files },
        Side { map: new_map, files: &new_files },
    );
    let numbers: HashMap<_, u32> =
        new_map.packs.iter().zip(0..).map(|(pack, number)| (pack.name, number)).collect();
    let chosen: Vec<_> = pairing.new_packs().iter().copied().zip(0..).step_by(every).collect();
    let packs = chosen.iter().map(|(pack, at)| (*at, numbers[&pack.name])).collect();
    let read = |name: &dyn ToString| fs::read(scratch.join(name.to_string())).unwrap();
    let heads: Vec<Vec<u8>> = chosen.iter().map(|(pack, _)| read(&pack.name)).collect();
    println!("paired in {:.2} s; {} new packs", begin.elapsed().as_secs_f64(), heads.len());
    let author =
        Author { old: Content::new(old, old_map), new: Content::new(new, new_map), pairing, packs };
    let names: Vec<_> = old_map.packs.iter().map(|pack| pack.name).collect();
    let effort = DeltaEffort { level, threads: 2, unit: ByteLen(unit << 20) };
    let (begin, before) = (Instant::now(), peak_mb());
    let at = scratch.join("units");
    let mut out = File::create(&at).unwrap();
    let mut sink = |stored: Vec<u8>| out.write_all(&stored);
    let (name, head) = make_delta(&names, &heads, &author, effort, &mut sink).unwrap();
    let seconds = begin.elapsed().as_secs_f64();
    let index = DeltaIndex::parse(&head, &name).unwrap();
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let content: u64 = index.packs().iter().map(|pack| pack.index.content_len).sum();
    let plain: u64 = chosen.iter().map(|(pack, _)| pack.len).sum();
    println!(
        "unit {unit} MiB, level {level}: content {:.1} MiB, packs {:.1}, delta {:.1} (index {:.2}): \
         {:.1} % less; {seconds:.0} s; peak {} MB, {before} before",
        mib(content),
        mib(plain),
        mib(index.len),
        mib(head.len() as u64),
        100.0 - index.len as f64 * 100.0 / plain as f64,
        peak_mb(),
    );
    per_pack(&index, new_map, &new_files);
    apply(&index, &author, &fs::read(&at).unwrap(), head.len());
}

/// Where bytes are saved, and where not.
fn per_pack(index: &DeltaIndex, map: &WireMap, files: &[DiskFile<'_>]) {
    let mut starts: Vec<_> =
        files.iter().map(|file| (file.extents[0].1.start, file.path)).collect();
    starts.sort_unstable();
    for unit in index.units() {
        let frames = index.frames(unit);
        let stored: u64 = frames.iter().map(|frame| u64::from(frame.stored_len)).sum();
        let name = index.packs()[unit.pack.0 as usize].name;
        let source = map.packs.iter().position(|pack| pack.name == name).unwrap() as u32;
        let first = frames[0].from / BLOCK_SIZE;
        let holds = |target: Target, count: u64| {
            matches!(target, Target::Source { source: pack, at }
                if pack.0 == source && (at.0..at.0 + count).contains(&first))
        };
        let extents = map.map.extents();
        let there = extents.iter().find(|extent| holds(extent.target, extent.range.count.0));
        let path = there.map(|extent| {
            starts[starts.partition_point(|(start, _)| *start <= extent.range.start) - 1].1
        });
        eprintln!(
            "{:9} {:9} ref {:6} {}",
            stored,
            unit.stored_len,
            unit.reference_blocks().0,
            String::from_utf8_lossy(path.unwrap_or_default())
        );
    }
}

fn apply(index: &DeltaIndex, author: &Author<'_>, stored: &[u8], head_len: usize) {
    let (mut reading, mut decoding, mut content) = (0.0, 0.0, 0);
    let numbers: HashMap<_, u32> = {
        let names = index.old_packs();
        names.iter().copied().zip(0..).collect()
    };
    assert_eq!(numbers.len(), index.old_packs().len());
    for unit in index.units() {
        let begin = Instant::now();
        let new = PackRun {
            pack: unit.pack,
            blocks: BlockRange::new(
                BlockNo(index.frames(unit)[0].from / BLOCK_SIZE),
                BlockCount(
                    index.frames(unit).iter().map(|frame| u64::from(frame.len)).sum::<u64>()
                        / BLOCK_SIZE,
                ),
            ),
        };
        let mut reference = vec![0; unit.reference_blocks().bytes().0 as usize];
        let mut rest = &mut reference[..];
        for run in author.reference(new) {
            let (to, behind) = rest.split_at_mut(run.blocks.count.bytes().0 as usize);
            author.read_old(run, to).unwrap();
            rest = behind;
        }
        reading += begin.elapsed().as_secs_f64();
        let begin = Instant::now();
        let at = unit.at as usize - head_len;
        let stored = &stored[at..at + unit.stored_len as usize];
        content += index.decode(unit, stored, &reference).unwrap().bytes().len();
        decoding += begin.elapsed().as_secs_f64();
    }
    println!(
        "applied: {:.0} MB/s decoding, {reading:.1} s reading references",
        content as f64 / 1e6 / decoding
    );
}

#[allow(dead_code)]
fn unused(_: PackIndex) {}
