//! Volumes that a hostile hand changed: typed errors, never a panic, in bounded time.

use goldleaf_block::{BlockCount, BlockNo, BlockRange};
use goldleaf_ext4::{
    Ext4Error, InodeNo, Limits, Volume, canonical, diff, diff_full, gate, identify, metadata,
    validate,
};
use goldleaf_tree::{FileTree, GuestPath, NodeKind};

use crate::diff::Random;
use crate::support::*;

const SMALL: &str = "
mkdir -p a/b c; echo hello > a/hello; ln a/hello c/again; ln -s hello a/fast
ln -s $(head -c 200 /dev/zero | tr '\\0' s) a/slow; setfacl -m u:5:r a/hello
setfattr -n user.k -v $(head -c 900 /dev/zero | tr '\\0' v) a/b
for i in $(seq 1 300); do echo $i > c/a-name-that-is-long-enough-to-split-the-blocks-$i; done
for i in $(seq 1 2 20); do printf y | dd of=a/holes bs=4096 seek=$i conv=notrunc status=none; done";

/// Does everything that can be done to a volume, ignoring errors.
fn exercise(bytes: &[u8], before: &Volume, dirty: &[BlockRange]) {
    let device = memory(bytes.to_vec());
    let _ = (gate(&device), identify(&device));
    let Ok(volume) = Volume::open_replayed(device) else { return };
    let _ = validate(&volume, Limits::default());
    let _ = canonical(&volume);
    if let Ok(ranges) = metadata(&volume) {
        let blocks = volume.superblock().blocks;
        assert!(ranges.iter().all(|range| range.end().0 <= blocks), "it stays on the volume");
    }
    let _ = diff(before, &volume, dirty);
    for ino in 1..=volume.superblock().inodes.min(600) {
        let id = InodeNo(ino).into();
        let mut buf = [0; 5000];
        let _ = (volume.node(id), volume.entries(id), volume.extents(id), volume.xattrs(id));
        let _ = (volume.read(id, 0, &mut buf), volume.read_link(id), volume.lookup(id, b"hello"));
    }
}

/// Blocks worth hitting: those that are not zero, so mostly metadata.
fn targets(bytes: &[u8]) -> Vec<usize> {
    (0..bytes.len() / 4096)
        .filter(|at| bytes[at * 4096..][..4096].iter().any(|b| *b != 0))
        .collect()
}

fn mutate(image: &[u8], seed: u64, rounds: usize) {
    let blocks = targets(image);
    let before = Volume::open_replayed(memory(image.to_vec())).expect("sound");
    let mut random = Random(seed);
    let mut bytes = image.to_vec();
    for _ in 0..rounds {
        let mut touched = Vec::new();
        for _ in 0..1 + random.below(4) {
            let block = blocks[random.below(blocks.len())];
            // Near a block's start stand headers; the superblock stands at 1024 of the first.
            let within = if random.below(2) == 0 { random.below(96) } else { random.below(4096) };
            let value = [0, 1, 0xFF, 0x80, random.0 as u8][random.below(5)];
            let base = if block == 0 { 1024 + within % 1024 } else { within };
            bytes[block * 4096 + base] = value;
            touched.push(block);
        }
        let range = |&at: &usize| BlockRange::new(BlockNo(at as u64), BlockCount(1));
        exercise(&bytes, &before, &touched.iter().map(range).collect::<Vec<_>>());
        for at in touched {
            bytes[at * 4096..][..4096].copy_from_slice(&image[at * 4096..][..4096]);
        }
    }
}

fn image(args: &[&str], live: bool) -> Vec<u8> {
    let image = Image::make(12, &[args, &["-N", "512"]].concat());
    let mount = image.mount();
    mount.sh(SMALL);
    mount.sync();
    let bytes = image.bytes();
    drop(mount);
    if live { bytes } else { image.bytes() }
}

#[test]
fn mutations_under_checksums() {
    mutate(&image(&[], false), 0xA076_1D64_78BD_642F, 500);
}

/// Without checksums every mutation reaches the parsers, as one does whose author fixed them up.
#[test]
fn mutations_without_checksums() {
    mutate(&image(&["-O", "^metadata_csum,^uninit_bg"], false), 0xE703_7ED1_A0B4_28DB, 2500);
}

#[test]
fn mutations_of_a_journal_in_use() {
    mutate(&image(&["-O", "^metadata_csum,^uninit_bg"], true), 0x8EBC_6AF0_9C88_C6E3, 800);
}

/// An image without checksums, changed by debugfs.
fn spoiled(requests: &[&str]) -> Volume {
    let args = ["-O", "^metadata_csum,^uninit_bg", "-N", "512"];
    let image = Image::make(12, &args);
    image.mount().sh(SMALL);
    for request in requests {
        image.tool("debugfs", &["-w", "-R", request]);
    }
    image.volume()
}

fn refused(requests: &[&str]) -> Ext4Error {
    match validate(&spoiled(requests), Limits::default()) {
        Err(error) => error,
        Ok(summary) => panic!("{requests:?} passed: {summary:?}"),
    }
}

#[test]
fn hand_made_contradictions_are_refused() {
    let sound = validate(&spoiled(&[]), Limits::default()).expect("sound");
    assert!(sound.files > 300 && sound.symlinks == 2);
    let cases: &[&[&str]] = &[
        &["link c a/circle"],                 // a directory with two names
        &["link . a/b/up"],                   // a circle through the root's child
        &["link a/hello c/uncounted"],        // more names than links
        &["sif a/hello links_count 7"],       // fewer
        &["unlink a/b"],                      // a directory that nobody names
        &["clri a/hello"],                    // a name for a free inode
        &["freeb 1000 1000"],                 // blocks in use free in the bitmap
        &["sif a/slow size 2199023255552"],   // a link of 2^41 bytes
        &["sif a/fast size 4000"],            // a target longer than the inode
        &["sif a/hello mode 0170644"],        // no kind of file
        &["sif a/hello flags 0x10080000"],    // inline data
        &["sif a/hello flags 0x80800"],       // encryption
        &["sif a/hello flags 0x180000"],      // verity
        &["sif a/hello flags 0"],             // blocks mapped without extents
        &["sif c size 4095"],                 // half a directory
        &["sif c size 1099511627776"],        // a directory with holes
        &["sif a/hello block[4] 0xffff0001"], // an extent elsewhere
        &["sif a/hello block[0] 0x0006f30a"], // more extents than fit
        &["sif a/hello block[1] 0x00090004"], // too deep a tree
        &["sif a/hello block[5] 0"],          // an extent at block 0
        &["sif a/hello block[5] 1"],          // an extent over descriptors
        &["sif a/hello block[5] 99999999"],   // an extent past the end
        &["sif a/hello extra_isize 4000"],    // more than the record
        &["sif a/hello file_acl 5"],          // attributes in other metadata
        &["sif a/hello file_acl 99999999"],   // attributes past the end
    ];
    for case in cases {
        let error = refused(case);
        let typed = matches!(error, Ext4Error::Corrupt { .. } | Ext4Error::Unsupported(_));
        assert!(typed, "{case:?}: {error}");
    }
}

/// Changes the entry `hello` of the directory `a` in an image without checksums.
fn renamed(from: &[u8], to: &[u8]) -> Result<usize, String> {
    let mut bytes = image(&["-O", "^metadata_csum,^uninit_bg"], false);
    let volume = Volume::open(memory(bytes.clone())).expect("sound");
    let path = GuestPath::parse("/a").expect("path");
    let dir = goldleaf_tree::resolve(&volume, &path).expect("walk").expect("there");
    assert_eq!(volume.node(dir).expect("node").kind, NodeKind::Directory);
    let hits: Vec<usize> =
        (0..bytes.len() - from.len()).filter(|&at| &bytes[at..at + from.len()] == from).collect();
    for at in hits {
        bytes[at..at + to.len()].copy_from_slice(to);
    }
    let volume = Volume::open(memory(bytes)).expect("opens");
    volume.entries(dir).map(|list| list.len()).map_err(|error| error.to_string())
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    // The length and type of the entry stand before its name.
    assert!(renamed(b"\x05\x01hello", b"\x05\x01h/llo").is_err());
    assert!(renamed(b"\x05\x01hello", b"\x05\x01h\0llo").is_err());
    assert!(renamed(b"\x05\x01hello", b"\x02\x01..llo").is_err());
    assert!(renamed(b"\x05\x01hello", b"\x01\x01.ello").is_err());
    assert!(renamed(b"\x05\x01hello", b"\x00\x01hello").is_err());
    assert!(renamed(b"\x05\x01hello", b"\xff\x01hello").is_err());
    assert!(renamed(b"\x05\x01hello", b"\x05\x01jello").is_ok());
}

#[test]
fn superblocks_that_lie_are_refused() {
    let sound = image(&["-O", "^metadata_csum,^uninit_bg"], false);
    let check = |at: usize, value: &[u8]| {
        let mut bytes = sound.clone();
        bytes[1024 + at..][..value.len()].copy_from_slice(value);
        assert!(Volume::open(memory(bytes)).is_err(), "{at:#x} {value:?}");
    };
    check(0x0, &[0; 4]); // inodes
    check(0x0, &[0xFF; 4]);
    check(0x4, &[0xFF; 4]); // blocks
    check(0x4, &[0; 4]);
    check(0x14, &[1]); // first data block
    check(0x18, &[53, 0, 0, 0]); // block size 2^63
    check(0x20, &[0; 4]); // blocks a group
    check(0x28, &[0; 4]); // inodes a group
    check(0x38, &[0]); // magic
    check(0x58, &[0, 0]); // inode size
    check(0x58, &[3, 1]);
    check(0xFE, &[0xFF, 0xFF]); // descriptor size
    check(0xCE, &[0xFF, 0xFF]); // reserved descriptors
    let mut bytes = sound.clone();
    bytes[1024 + 0x60] |= 0x10; // meta groups, the first far behind the last
    bytes[1024 + 0x104..][..4].fill(0xFF);
    assert!(Volume::open(memory(bytes)).is_err());
    assert!(Volume::open(memory(sound[..2048].to_vec())).is_err());
    assert!(Volume::open(memory(Vec::new())).is_err());
}

#[test]
fn a_journal_that_is_no_file_is_refused() {
    let sound = image(&["-O", "^metadata_csum,^uninit_bg"], false);
    let check = |ino: u32| {
        let mut bytes = sound.clone();
        bytes[1024 + 0xE0..][..4].copy_from_slice(&ino.to_le_bytes());
        let volume = Volume::open(memory(bytes)).expect("opens");
        validate(&volume, Limits::default())
    };
    check(8).expect("the journal's own inode");
    assert!(check(224).is_err(), "a free inode");
    assert!(check(1 << 30).is_err(), "beyond all inodes");
    assert!(check(2).is_err(), "a directory");
}

/// What validation does not look at, a comparison must not trip over.
#[test]
fn records_that_say_nothing_may_say_anything() {
    let wounds =
        ["set_inode_field <1> extra_isize 32000", "freei <5>", "sif <5> extra_isize 32000"];
    for count in 0..=wounds.len() {
        let (before, after) = (spoiled(&[]), spoiled(&wounds[..count]));
        validate(&after, Limits::default()).expect("valid");
        let blocks = after.superblock().blocks;
        let all = [BlockRange::new(BlockNo(0), BlockCount(blocks))];
        diff(&before, &after, &all).expect("compared");
        diff_full(&before, &after).expect("compared wholly");
    }
}

/// Changes the root of the one hash tree in an image without checksums, and validates.
fn with_hash_tree(change: impl Fn(&mut [u8])) -> Result<(), Ext4Error> {
    let mut bytes = image(&["-O", "^metadata_csum,^uninit_bg"], false);
    let is_root = |block: &&mut [u8]| {
        block[4..9] == [12, 0, 1, 2, b'.'] && block[0x1D] == 8 && block[0x10..0x12] == [0xF4, 0x0F]
    };
    // The journal may have another copy.
    let found = bytes.chunks_mut(4096).filter(is_root).map(&change).count();
    assert!(found > 0, "a directory of many names");
    let volume = Volume::open(memory(bytes)).expect("opens");
    validate(&volume, Limits::default()).map(|_| ())
}

#[test]
fn hash_trees_that_are_none_are_refused() {
    with_hash_tree(|_| ()).expect("sound");
    let wounds: [fn(&mut [u8]); 6] = [
        |root| root[0x1C] = 7,                                  // an unknown hash
        |root| root[0x1E] = 255,                                // 255 levels
        |root| root[0x22..0x24].fill(0),                        // no records
        |root| root[0x22..0x24].fill(0xFF),                     // more than fit
        |root| root[0x24..0x28].fill(0),                        // the root below itself
        |root| root[0x24..0x28].copy_from_slice(&[9, 9, 9, 0]), // a block of nobody's
    ];
    for (number, wound) in wounds.iter().enumerate() {
        let error = with_hash_tree(wound).expect_err("refused");
        assert!(matches!(error, Ext4Error::Corrupt { .. }), "{number}: {error}");
    }
}
