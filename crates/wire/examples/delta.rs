//! What a delta comes to beside packs, for two trees of files:
//! `cargo run --release -p goldleaf-wire --example delta -- make OLD NEW SCRATCH`, and then
//! `apply SCRATCH`.
//!
//! Each tree becomes a disk, file behind file in the order of paths, below SCRATCH; what was
//! published there is used again. `every` makes a delta of every so-manieth new pack only.
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
use goldleaf_store::Digest;
use goldleaf_wire::{
    DeltaEffort, DeltaIndex, DiskFile, Effort, Known, PackRef, PackRun, Pairing, Side, Versions,
    WireMap, make_delta, publish,
};

/// A file's path, and its extents.
type Placed = (Vec<u8>, Vec<(BlockNo, BlockRange)>);

struct Disk {
    file: File,
    files: Vec<Placed>,
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
    let (mut blocks, mut placed) = (0, Vec::new());
    for file in files {
        let bytes = fs::read(&file).unwrap();
        let count = (bytes.len() as u64).div_ceil(BLOCK_SIZE);
        out.write_all(&bytes).unwrap();
        out.write_all(&vec![0; (count * BLOCK_SIZE) as usize - bytes.len()]).unwrap();
        let path = file.strip_prefix(tree).unwrap().to_str().unwrap().as_bytes().to_vec();
        let range = BlockRange::new(BlockNo(blocks), BlockCount(count));
        placed.push((path, vec![(BlockNo(0), range)]));
        blocks += count;
    }
    out.flush().unwrap();
    Disk { file: File::open(to).unwrap(), files: placed, blocks }
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

/// Content of packs, found on the disk that names it.
struct Content {
    disk: File,
    /// For each pack of the map: where its blocks are on the disk.
    places: Vec<Vec<u64>>,
}

impl Content {
    fn new(disk: &Path, map: &WireMap) -> Self {
        let blocks = |pack: &PackRef| vec![0; pack.blocks.0 as usize];
        let mut places: Vec<Vec<u64>> = map.packs.iter().map(blocks).collect();
        for extent in map.map.extents() {
            let Target::Source { source, at } = extent.target else { continue };
            for block in 0..extent.range.count.0 {
                let place = &mut places[source.0 as usize][(at.0 + block) as usize];
                *place = extent.range.start.0 + block;
            }
        }
        Self { disk: File::open(disk).unwrap(), places }
    }

    fn read(&self, pack: u32, blocks: BlockRange, to: &mut [u8]) -> Result<(), BlockError> {
        let places = &self.places[pack as usize][blocks.start.0 as usize..];
        for (block, to) in places.iter().zip(to.chunks_exact_mut(BLOCK_SIZE as usize)) {
            self.disk
                .read_exact_at(to, block * BLOCK_SIZE)
                .map_err(|error| BlockError::io("reading", &error))?;
        }
        Ok(())
    }
}

struct Author<'a> {
    old: Content,
    new: Content,
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

/// Peak of this process's memory, in MB of 1,000,000 bytes.
fn peak_mb() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024 / 1_000_000
}

/// Processor time of this process so far: on a busy machine it says more than the clock does.
fn cpu_s() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat.rsplit(')').next().unwrap().split_whitespace();
    fields.skip(11).take(2).map(|ticks| ticks.parse::<f64>().unwrap() / 100.0).sum()
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let path = |at: usize| PathBuf::from(&arguments[at]);
    let number = |at: usize, default: u64| match arguments.get(at) {
        Some(text) => text.parse().unwrap(),
        None => default,
    };
    match arguments.first().map(String::as_str) {
        Some("make") => {
            let effort = DeltaEffort {
                level: number(5, 19) as i32,
                threads: 2,
                unit: ByteLen(number(4, 8) << 20),
            };
            make(&path(1), &path(2), &path(3), effort, number(6, 1) as usize);
        }
        Some("apply") => apply(&path(1)),
        _ => panic!("make OLD NEW SCRATCH [unit MiB] [level] [every], or apply SCRATCH"),
    }
}

fn files(disk: &Disk) -> Vec<DiskFile<'_>> {
    disk.files.iter().map(|(path, extents)| DiskFile { path, extents }).collect()
}

fn make(old_tree: &Path, new_tree: &Path, scratch: &Path, effort: DeltaEffort, every: usize) {
    fs::create_dir_all(scratch).unwrap();
    let old = lay_out(old_tree, &scratch.join("old.disk"));
    let new = lay_out(new_tree, &scratch.join("new.disk"));
    let mut known = Known::default();
    let old_map = published(&old, scratch, "old", &mut known, 1);
    if !scratch.join("new.map").exists() {
        known.learn(&old_map, &old).unwrap();
    }
    let new_map = published(&new, scratch, "new", &mut known, 19);
    drop(known);
    let (old_files, new_files) = (files(&old), files(&new));
    let pairing = Pairing::new(
        Side { map: &old_map, files: &old_files },
        Side { map: &new_map, files: &new_files },
    );
    let numbers: HashMap<_, u32> =
        new_map.packs.iter().zip(0..).map(|(pack, number)| (pack.name, number)).collect();
    let chosen: Vec<_> = pairing.new_packs().iter().copied().zip(0..).step_by(every).collect();
    let packs = chosen.iter().map(|(pack, at)| (*at, numbers[&pack.name])).collect();
    let read = |(pack, _): &(PackRef, u32)| fs::read(scratch.join(pack.name.to_string())).unwrap();
    let heads: Vec<Vec<u8>> = chosen.iter().map(read).collect();
    let names: Vec<_> = old_map.packs.iter().map(|pack| pack.name).collect();
    let old = Content::new(&scratch.join("old.disk"), &old_map);
    let new = Content::new(&scratch.join("new.disk"), &new_map);
    let author = Author { old, new, pairing, packs };
    let (begin, cpu) = (Instant::now(), cpu_s());
    let mut units = File::create(scratch.join("units")).unwrap();
    let mut sink = |stored: Vec<u8>| units.write_all(&stored);
    let (name, head) = make_delta(&names, &heads, &author, effort, &mut sink).unwrap();
    let (seconds, cpu) = (begin.elapsed().as_secs_f64(), cpu_s() - cpu);
    fs::write(scratch.join("head"), &head).unwrap();
    let index = DeltaIndex::parse(&head, &name).unwrap();
    let content: u64 = index.packs().iter().map(|pack| pack.index.content_len).sum();
    let plain: u64 = chosen.iter().map(|(pack, _)| pack.len).sum();
    println!(
        "{} packs: content {:.1} MiB, packs {:.1}, delta {:.1} with its head of {:.2}: {:.1} % less",
        heads.len(),
        mib(content),
        mib(plain),
        mib(index.len),
        mib(head.len() as u64),
        100.0 - index.len as f64 * 100.0 / plain as f64,
    );
    println!("{seconds:.0} s, {cpu:.0} s of processors; peak {} MB", peak_mb());
}

/// What an endpoint does: old content from the old disk, new content to nowhere.
fn apply(scratch: &Path) {
    let map = WireMap::from_bytes(&fs::read(scratch.join("old.map")).unwrap()).unwrap();
    let old = Content::new(&scratch.join("old.disk"), &map);
    let head = fs::read(scratch.join("head")).unwrap();
    let index = DeltaIndex::parse(&head, &Digest::of(&head)).unwrap();
    let number = |name: &Digest| map.packs.iter().position(|pack| pack.name == *name).unwrap();
    let numbers: Vec<u32> = index.old_packs().iter().map(|name| number(name) as u32).collect();
    let units = File::open(scratch.join("units")).unwrap();
    let (begin, cpu) = (Instant::now(), cpu_s());
    let (mut content, mut read) = (0, 0);
    for unit in index.units() {
        let mut reference = vec![0; unit.reference_blocks().bytes().0 as usize];
        let mut rest = &mut reference[..];
        for run in &unit.reference {
            let (to, behind) = rest.split_at_mut(run.blocks.count.bytes().0 as usize);
            old.read(numbers[run.pack.0 as usize], run.blocks, to).unwrap();
            rest = behind;
        }
        let mut stored = vec![0; unit.stored_len as usize];
        units.read_exact_at(&mut stored, unit.at - head.len() as u64).unwrap();
        content += index.decode(unit, &stored, &reference).unwrap().bytes().len();
        read += reference.len();
    }
    let (seconds, cpu) = (begin.elapsed().as_secs_f64(), cpu_s() - cpu);
    let mb = content as f64 / 1e6;
    println!(
        "applied: {mb:.0} MB, {:.0} MB/s, {:.0} MB a second of processor; {:.0} MB of references \
         read; peak {} MB",
        mb / seconds,
        mb / cpu,
        read as f64 / 1e6,
        peak_mb()
    );
}
