//! What the layout of a volume with very many files takes: `cargo test --release -p goldleaf-image
//! --test it -- --ignored`.

use std::fs;
use std::time::Duration;

use goldleaf_block::{BlockRange, ByteLen, ByteOffset};
use goldleaf_host::{Silent, file_from_fd};
use goldleaf_tree::GuestPath;
use goldleaf_worker::Scale;
use goldleaf_worker::protocol::{DiskSpec, FilePiece, LayoutTask, Task, VolumeSpec};

use crate::disk::{format, whole};
use crate::launcher;

const FILES: u64 = 200_000;
const VOLUME: u64 = 4 << 30;

/// Processor time of this process, and of children that ended.
fn processor_times() -> (Duration, Duration) {
    let stat = fs::read_to_string("/proc/self/stat").expect("own times");
    let behind = stat.rsplit(')').next().expect("fields");
    let ticks: Vec<u64> = behind.split(' ').map(|word| word.parse().unwrap_or_default()).collect();
    // Ticks are of 10 ms; user and system, fields 14 and 15, and of children 16 and 17.
    let time = |from: usize| Duration::from_millis(10 * (ticks[from] + ticks[from + 1]));
    (time(12), time(14))
}

pub fn of_many_files() {
    let scratch = tempfile::tempdir().expect("scratch");
    let source = scratch.path().join("root");
    for number in 0..FILES {
        let dir = source.join(format!("d{}/s{}", number / 10_000, number / 100 % 100));
        if number % 100 == 0 {
            fs::create_dir_all(&dir).expect("a directory");
        }
        let size = (number % 100 * 40) as usize;
        fs::write(dir.join(format!("file{number}")), vec![b'x'; size]).expect("a file");
    }
    let volume = scratch.path().join("volume");
    format(&volume, VOLUME, Some(&source));
    let file = file_from_fd(fs::File::open(&volume).expect("opened").into());
    let files = [file];
    let map = whole(VOLUME);
    let mount = GuestPath::root();
    let volumes = vec![VolumeSpec { mount, start: ByteOffset(0), len: ByteLen(VOLUME) }];

    // The worker alone, under the limits of exactly so many files.
    let disk = DiskSpec { map: map.clone(), sources: vec![0] };
    let task = Task::Layout(LayoutTask { disk, volumes: volumes.clone() });
    let scale = Scale { files: FILES, output_bytes: 0 };
    let mut worker = launcher().start(&files, scale, &task).expect("started");
    while !worker.receive_batch::<BlockRange>().expect("metadata").is_empty() {}
    while !worker.receive_batch::<FilePiece>().expect("files").is_empty() {}
    let ((), usage) = worker.finish().expect("the end");
    println!("the worker's memory: {} MiB", usage.peak_rss_bytes >> 20);

    for _ in 0..3 {
        let before = processor_times();
        let layout = goldleaf_image::layout(&launcher(), &map, &files, &volumes, &Silent);
        let layout = layout.expect("a layout");
        let after = processor_times();
        assert_eq!(layout.files.len() as u64, FILES);
        let order = goldleaf_image::order(&layout, map.blocks());
        println!(
            "{} files: worker {:?}, parent {:?}; {} ranges of metadata, {} in the order",
            layout.files.len(),
            after.1 - before.1,
            after.0 - before.0,
            layout.metadata.len(),
            order.len(),
        );
    }
}
