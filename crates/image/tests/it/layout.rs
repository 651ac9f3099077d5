//! The layout of a real disk, against debugfs and against what the files were made from.

use std::fs;

use goldleaf_block::{BlockCount, ByteLen};
use goldleaf_host::Silent;
use goldleaf_image::{FileExtents, ImageError, Layout, order};
use goldleaf_worker::WorkerError;

use crate::disk::{Disk, format, whole};
use crate::launcher;

/// Unwritten blocks, within a file and behind its end.
const PREALLOCATE: &str = "fallocate /preallocated 10 20\nfallocate /holes 1 1\n";

fn laid_out(disk: &Disk) -> Result<Layout, ImageError> {
    let file = disk.file();
    let map = whole(file.len().expect("its length"));
    goldleaf_image::layout(&launcher(), &map, &[file], &disk.volumes(), &Silent)
}

/// A file's content, from the disk.
fn content(disk: &[u8], file: &FileExtents) -> Vec<u8> {
    let mut bytes = vec![0; file.len.blocks().bytes().0 as usize];
    for (block, range) in &file.extents {
        let from = range.start.offset().0 as usize;
        let len = range.count.bytes().0 as usize;
        bytes[block.offset().0 as usize..][..len].copy_from_slice(&disk[from..][..len]);
    }
    bytes.truncate(file.len.0 as usize);
    bytes
}

pub fn files_lie_where_debugfs_finds_them() {
    let disk = Disk::new(PREALLOCATE);
    let layout = laid_out(&disk).expect("a layout");
    let made = disk.made();
    let paths: Vec<&[u8]> = made.iter().map(|(path, _)| &path[..]).collect();
    let found: Vec<&[u8]> = layout.files.iter().map(|file| file.path.as_bytes()).collect();
    assert_eq!(found, paths);
    assert!(paths.contains(&&b"b/late"[..]) && !paths.contains(&&b"zz"[..]), "once, and first");
    let bytes = fs::read(disk.path()).expect("the disk");
    for ((file, (_, source)), runs) in layout.files.iter().zip(&made).zip(disk.runs(&made)) {
        let said = file.extents.iter().map(|(block, run)| (block.0, run.start.0, run.count.0));
        assert_eq!(said.collect::<Vec<_>>(), runs, "{}", file.path);
        assert!(content(&bytes, file) == fs::read(source).expect("a file"), "{}", file.path);
    }
    let runs: Vec<usize> = layout.files.iter().map(|file| file.extents.len()).collect();
    assert!(runs.contains(&0) && runs.contains(&400), "an empty file, and one of holes");
}

pub fn every_block_travels_once() {
    let disk = Disk::new(PREALLOCATE);
    let layout = laid_out(&disk).expect("a layout");
    let blocks = ByteLen(disk.file().len().expect("its length")).blocks();
    let order = order(&layout, blocks);
    let mut met: Vec<u64> = order.iter().flat_map(|r| r.start.0..r.end().0).collect();
    for spec in disk.volumes() {
        let superblock = spec.start.block();
        assert!(layout.metadata.iter().any(|range| range.contains(superblock)), "{spec:?}");
    }
    let boot_sector = met.iter().position(|block| *block == 0).expect("the boot sector");
    let metadata: u64 = layout.metadata.iter().map(|range| range.count.0).sum();
    assert_eq!(boot_sector as u64, metadata, "the boot sector is next to travel");
    met.sort_unstable();
    assert!(met.into_iter().eq(0..blocks.0));
}

/// A file of 10,000 runs is listed in two messages, and is one file.
pub fn files_of_very_many_runs_come_in_pieces() {
    let scratch = tempfile::tempdir().expect("scratch");
    let source = scratch.path().join("root");
    fs::create_dir(&source).expect("a directory");
    let holes = fs::File::create(source.join("holes")).expect("a file");
    for number in 0..10_000 {
        std::os::unix::fs::FileExt::write_all_at(&holes, b"h", number * 8192).expect("written");
    }
    let volume = scratch.path().join("volume");
    format(&volume, 64 << 20, Some(&source));
    let file = goldleaf_host::file_from_fd(fs::File::open(&volume).expect("opened").into());
    let spec = goldleaf_worker::protocol::VolumeSpec {
        mount: goldleaf_tree::GuestPath::root(),
        start: goldleaf_block::ByteOffset(0),
        len: ByteLen(64 << 20),
    };
    let layout = goldleaf_image::layout(&launcher(), &whole(64 << 20), &[file], &[spec], &Silent);
    let layout = layout.expect("a layout");
    assert_eq!(layout.files.len(), 1);
    let blocks: Vec<u64> = layout.files[0].extents.iter().map(|(block, _)| block.0).collect();
    assert!(blocks.into_iter().eq((0..10_000).map(|number| number * 2)));
    let counts = layout.files[0].extents.iter().map(|(_, range)| range.count);
    assert!(counts.into_iter().all(|count| count == BlockCount(1)));
}

/// What debugfs spoils in the root volume, and what the worker says of it.
pub fn what_cannot_be_read_is_refused() {
    let cases = [
        ("feature needs_recovery\n", "journal"),
        ("sif /holes block[0] 0\n", "extent tree"),
        ("link /b /again\n", "a directory with two names"),
        ("sif /empty flags 0x10080000\n", "inline data"),
    ];
    for (requests, expected) in cases {
        let disk = Disk::new(requests);
        match laid_out(&disk) {
            Err(ImageError::Worker(WorkerError::Refused(why))) => {
                assert!(why.contains(expected), "{requests}: {why}");
            }
            other => panic!("{requests}: {other:?}"),
        }
    }
}
