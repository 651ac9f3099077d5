//! Frames from files that lie elsewhere, from other images, and from liars.

use std::collections::BTreeSet;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use goldleaf_cache::Frames;
use goldleaf_host::RealDir;
use goldleaf_host::sim::SimDir;
use goldleaf_image::ImageVersion;

use super::*;
use crate::Home;
use crate::feeds::tests::{BLOCKS, NAME, Shelf, disk, follow, home, read, receive, take, version};

/// Files of [`disk`]: a frame of metadata, then one long file and twenty short ones, whose last blocks
/// are half full.
fn layout() -> Layout {
    let range = |start, count| BlockRange::new(BlockNo(start), BlockCount(count));
    let file = |path: String, start, count, len| FileExtents {
        path: GuestPath::parse(path).unwrap(),
        len: ByteLen(len),
        extents: vec![(BlockNo(0), range(start, count))],
    };
    let long = file("usr/bin/long".into(), 64, 256, 256 * BLOCK_SIZE);
    let short = |number: u64| {
        let path = format!("usr/share/short-{number:02}");
        file(path, 320 + 16 * number, 16, 15 * BLOCK_SIZE + BLOCK_SIZE / 2)
    };
    let files = [long].into_iter().chain((0..20).map(short)).collect();
    Layout { metadata: vec![range(0, 64)], files }
}

/// A disk in which the last blocks of short files end in zeroes.
fn padded() -> Vec<u8> {
    let mut disk = disk(|_| 1);
    for number in 0..20 {
        let end = (320 + 16 * (number + 1)) * BLOCK_SIZE as usize;
        disk[end - BLOCK_SIZE as usize / 2..end].fill(0);
    }
    disk
}

/// The files of a layout as they are on a disk, below a directory.
fn unpack(disk: &[u8], layout: &Layout, root: &Path) {
    for FileExtents { path, len, extents } in &layout.files {
        let path = root.join(std::str::from_utf8(path.as_bytes()).unwrap().trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let at = extents[0].1.start.offset().0 as usize;
        fs::write(path, &disk[at..at + len.0 as usize]).unwrap();
    }
}

/// A home whose image has no content yet, and where it may come from.
fn ground(disk: &[u8]) -> (Home, Shelf) {
    let mut shelf = Shelf::new();
    let home = home(&SimDir::new());
    follow(&home, NAME, shelf.place());
    take(&home, NAME, 1, &shelf.publish(disk));
    (home, shelf)
}

fn go_on(_: BlockCount) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn opened(home: &Home) -> ImageVersion {
    home.images().unwrap().open(NAME, None).unwrap()
}

/// Which frames are here after files were asked.
fn found(home: &Home, files: &dyn Files) -> BTreeSet<u64> {
    let (image, layout) = (opened(home), layout());
    let data = &image.published()[0];
    let places = Places::new(&layout, &image.map, SourceIndex(0));
    let seed = ByPath::new(&layout, &places, files);
    assert!(data.take_from(&[&seed], &go_on).unwrap());
    let image = home.images_here().unwrap().open(NAME, None).unwrap();
    let data = &image.published()[0];
    let here = |frame: &u64| {
        let mut block = [0; 1];
        data.read_at(BlockNo(frame * 64).offset(), &mut block).is_ok()
    };
    (0..BLOCKS / 64).filter(here).collect()
}

#[test]
fn frames_are_found_of_which_every_file_is_where_it_was() {
    let (disk, scratch) = (padded(), tempfile::tempdir().unwrap());
    unpack(&disk, &layout(), scratch.path());
    let short = |number| scratch.path().join(format!("usr/share/short-{number:02}"));
    // One is gone, one has another content, one is a link to itself elsewhere: three frames of five.
    fs::remove_file(short(1)).unwrap();
    let mut other = fs::read(short(4)).unwrap();
    other[5] ^= 1;
    fs::write(short(4), other).unwrap();
    fs::rename(short(19), scratch.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(scratch.path().join("elsewhere"), short(19)).unwrap();
    let (home, _shelf) = ground(&disk);
    let rooted = Rooted(RealDir::open(scratch.path()).unwrap());
    // The first frame is metadata, four are the long file's.
    assert_eq!(found(&home, &rooted), BTreeSet::from([1, 2, 3, 4, 7, 8]));
    // The rest arrives as ever, and all is as it was published.
    for data in opened(&home).published() {
        assert!(data.fill(1, &go_on).unwrap());
    }
    assert_eq!(read(&home, NAME, 1), disk);
}

#[test]
fn nothing_waits_for_somebodys_pipe() {
    let (disk, scratch) = (padded(), tempfile::tempdir().unwrap());
    unpack(&disk, &layout(), scratch.path());
    let long = scratch.path().join("usr/bin/long");
    fs::remove_file(&long).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&long).status().unwrap();
    assert!(made.success());
    let (home, _shelf) = ground(&disk);
    let rooted = Rooted(RealDir::open(scratch.path()).unwrap());
    assert_eq!(found(&home, &rooted), (5..10).collect());
}

#[test]
fn files_of_another_disk_are_found_wherever_they_lie_there() {
    let (disk, mut layout) = (padded(), layout());
    // The same files in the other order, without metadata.
    let mut other = vec![0; disk.len()];
    for file in &mut layout.files {
        let BlockRange { start, count } = file.extents[0].1;
        let to = BlockNo(BLOCKS - start.0 - count.0);
        let (from, len) = (start.offset().0 as usize, count.bytes().0 as usize);
        other[to.offset().0 as usize..][..len].copy_from_slice(&disk[from..from + len]);
        file.extents[0].1.start = to;
    }
    let mut shelf = Shelf::new();
    let elsewhere = crate::feeds::tests::home(&SimDir::new());
    follow(&elsewhere, "other", shelf.place());
    receive(&elsewhere, "other", 1, &shelf.publish(&other));
    let image = elsewhere.images_here().unwrap().open("other", None).unwrap();
    let files = OnDisk { layout, disk: Arc::new(image.device().unwrap()) };
    let (home, _shelf) = ground(&disk);
    assert_eq!(found(&home, &files), (1..10).collect());
}

#[test]
fn frames_of_another_subscription_are_taken_without_asking_anybody() {
    let (home, mut shelf) = ground(&version(1));
    // The same content by another author, and what follows on the first frames is another.
    let mut other = Shelf::new();
    follow(&home, "other", other.place());
    receive(&home, "other", 1, &other.publish(&disk(|block| if block < 256 { 1 } else { 7 })));
    let others = home.images_here().unwrap().open("other", None).unwrap();
    let frames = Frames::of(others.published());
    let image = opened(&home);
    image.published()[0].take_from(&[&frames], &go_on).unwrap();
    assert_eq!(image.published()[0].arrived(), BlockCount(256));
    // The same packs: not even their indexes are asked for.
    let same = shelf.publish(&version(1));
    follow(&home, "same", shelf.place());
    receive(&home, "same", 1, &same);
    let nowhere = home.sub("images").unwrap();
    let images = goldleaf_image::Images::new(nowhere);
    take(&home, "third", 1, &same);
    let (same, third) = (images.open("same", None).unwrap(), images.open("third", None).unwrap());
    third.published()[0].take_from(&[&Frames::of(same.published())], &go_on).unwrap();
    assert!(third.is_whole());
    assert_eq!(read(&home, "third", 1), version(1));
}

#[test]
fn a_copy_of_the_feed_is_a_seed_and_a_bad_copy_is_none() {
    let (home, shelf) = ground(&version(1));
    let packs = shelf.scratch.path().join("packs");
    let copy = tempfile::tempdir().unwrap();
    fs::create_dir(copy.path().join("packs")).unwrap();
    for pack in fs::read_dir(&packs).unwrap() {
        let pack = pack.unwrap();
        let mut bytes = fs::read(pack.path()).unwrap();
        // The last frame of it.
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(copy.path().join("packs").join(pack.file_name()), bytes).unwrap();
    }
    let carrier = Carrier(RealDir::open(copy.path()).unwrap());
    let images = home.images_here().unwrap();
    let image = images.open(NAME, None).unwrap();
    image.published()[0].take_from(&[&carrier], &go_on).unwrap();
    assert_eq!(image.published()[0].arrived(), BlockCount(BLOCKS - 64));
    let good = Carrier(RealDir::open(shelf.scratch.path()).unwrap());
    image.published()[0].take_from(&[&carrier, &good], &go_on).unwrap();
    assert_eq!(read(&home, NAME, 1), version(1));
}

#[test]
fn blocks_that_files_share_are_one_files() {
    let run = |at, count, file| Run { at, count, file, block: 0 };
    let shared = vec![run(4, 10, 2), run(0, 8, 0), run(2, 2, 1), run(20, 1, 3)];
    let cut = Run { at: 8, count: 6, file: 2, block: 4 };
    assert_eq!(apart(shared), [run(0, 8, 0), cut, run(20, 1, 3)]);
}
