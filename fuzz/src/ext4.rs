//! Volumes: a valid one, spoiled in the structures that a target is about.
//!
//! ```text
//!   input:  volume, mending, and whether single inodes are read, 1 │ edits
//! ```
//! The volumes hold a directory with an index, a file whose extents need a block of their own,
//! attributes in inodes and in a block, every kind of file, and, where the journal is the subject,
//! transactions that wait.

mod sums;
mod survey;

use std::sync::{Arc, LazyLock};

use goldleaf_block::{BlockCount, BlockNo, BlockRange};
use goldleaf_ext4::{
    InodeNo, Limits, Volume, canonical, diff, diff_full, gate, identify, validate,
};
use goldleaf_tree::{FileTree, NodeId, NodeKind};

use crate::disk::Disk;
use crate::input::{Input, apply};
use survey::{Kind, Survey};

/// A volume to begin with.
struct Seed {
    disk: Disk,
    survey: Survey,
    before: Volume,
}

impl Seed {
    fn new(packed: &[u8]) -> Self {
        let disk = Disk::unpack(packed);
        let before = Volume::open_replayed(Arc::new(disk.clone())).expect("a sound seed");
        validate(&before, Limits::default()).expect("a valid seed");
        Self { survey: Survey::of(&disk), disk, before }
    }
}

static CLEAN: LazyLock<[Seed; 2]> = LazyLock::new(|| {
    [
        Seed::new(include_bytes!("../seeds/plain.vol")),
        Seed::new(include_bytes!("../seeds/summed.vol")),
    ]
});

static LIVE: LazyLock<[Seed; 2]> = LazyLock::new(|| {
    [
        Seed::new(include_bytes!("../seeds/plain-live.vol")),
        Seed::new(include_bytes!("../seeds/summed-live.vol")),
    ]
});

/// Superblock, descriptors of groups, bitmaps.
pub fn superblock(data: &[u8]) {
    run(&CLEAN, Kind::is_super, data);
}

/// Inodes in use.
pub fn inode(data: &[u8]) {
    run(&CLEAN, Kind::is_inode, data);
}

/// Blocks of directories.
pub fn dirent(data: &[u8]) {
    run(&CLEAN, Kind::is_leaf, data);
}

/// Blocks of a directory's index.
pub fn htree(data: &[u8]) {
    run(&CLEAN, Kind::is_index, data);
}

/// Extent trees, in inodes and in blocks.
pub fn extents(data: &[u8]) {
    run(&CLEAN, Kind::is_extents, data);
}

/// Extended attributes, in inodes and in blocks.
pub fn xattr(data: &[u8]) {
    run(&CLEAN, Kind::is_attributes, data);
}

/// The journal of a volume that was not unmounted.
pub fn journal(data: &[u8]) {
    run(&LIVE, Kind::is_journal, data);
}

fn run(seeds: &[Seed; 2], is_place: fn(&Kind) -> bool, data: &[u8]) {
    let mut input = Input(data);
    let choice = input.byte();
    let seed = &seeds[usize::from(choice & 1)];
    let places: Vec<_> = seed.survey.places.iter().filter(|place| is_place(&place.kind)).collect();
    let mut disk = seed.disk.clone();
    let mut spoiled = Vec::new();
    for edit in input.edits() {
        let place = places[edit.place % places.len()];
        apply(&mut disk.block_mut(place.block)[place.at..place.at + place.len], &edit);
        spoiled.push(place);
    }
    if choice & 2 == 0 {
        spoiled.iter().for_each(|place| sums::mend(&mut disk, &seed.survey, place));
    }
    let touched = |&block: &u64| BlockRange::new(BlockNo(block), BlockCount(1));
    let dirty: Vec<BlockRange> = disk.changed().iter().map(touched).collect();
    if choice & 4 == 0 {
        exercise(disk, &seed.before, &dirty);
    } else if let Ok(volume) = Volume::open_replayed(Arc::new(disk)) {
        (1..=160).for_each(|ino| look_at(&volume, InodeNo(ino).into()));
    }
}

/// Does what the product does with a volume.
fn exercise(disk: Disk, before: &Volume, dirty: &[BlockRange]) {
    let _ = (gate(&disk), identify(&disk));
    let Ok(volume) = Volume::open_replayed(Arc::new(disk)) else { return };
    let valid = validate(&volume, Limits::default()).is_ok();
    let found = canonical(&volume);
    if valid && volume.replayed_blocks().is_empty() {
        let map = found.expect("a valid volume has a canonical form");
        let blocks = volume.superblock().blocks;
        assert!(map.zeroes.iter().all(|range| range.end().0 <= blocks), "it stays on the volume");
    }
    if valid {
        follow(&volume, volume.root(), 0);
    }
    let guided = diff(before, &volume, dirty);
    if valid {
        let guided = guided.expect("valid volumes can be compared");
        let full = diff_full(before, &volume).expect("valid volumes can be compared wholly");
        assert_eq!(guided.changes, full.changes, "guided and full comparison agree");
    }
}

/// Everything that can be asked of one inode, whether or not a name leads to it.
fn look_at(volume: &Volume, id: NodeId) {
    let mut buf = [0; 5000];
    let _ = (volume.node(id), volume.entries(id), volume.extents(id), volume.xattrs(id));
    let _ = (volume.read(id, 0, &mut buf), volume.read_link(id), volume.lookup(id, b"hello"));
}

/// A volume that was called valid must not fail later.
fn follow(volume: &Volume, directory: NodeId, depth: usize) {
    assert!(depth < 160, "a valid tree has no circles");
    for entry in volume.entries(directory).expect("names") {
        let found = volume.lookup(directory, &entry.name).expect("a search");
        assert_eq!(found, Some(entry.id), "what is listed can be found");
        let node = volume.node(entry.id).expect("a node");
        volume.xattrs(entry.id).expect("attributes");
        match node.kind {
            NodeKind::Directory => follow(volume, entry.id, depth + 1),
            NodeKind::Symlink => drop(volume.read_link(entry.id).expect("a target")),
            NodeKind::File => drop(volume.extents(entry.id).expect("extents")),
            _ => {}
        }
    }
}
