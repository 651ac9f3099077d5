//! Figures, printed: `cargo test --release -- --ignored --nocapture bench`.

use std::sync::Arc;
use std::time::Duration;

use goldleaf_ext4::{Limits, Volume, diff, diff_full, validate};

use crate::support::*;

const MANY: &str = "
python3 - <<'P'
import os
for d in range(3000):
    p = f'd{d//100}/s{d%100}'; os.makedirs(p)
    for f in range(100):
        with open(f'{p}/file{f}', 'w') as out: out.write('x' * (f * 40))
P";

const OPERATIONS: &str = "
python3 - <<'P'
import os, random
random.seed(7)
for n in range(OPS):
    d = random.randrange(3000); p = f'd{d//100}/s{d%100}'; f = f'{p}/file{random.randrange(100)}'
    try:
        k = n % 5
        if k == 0: open(f'{p}/new{n}', 'w').write('new')
        elif k == 1: open(f, 'a').write('more')
        elif k == 2: os.unlink(f)
        elif k == 3: os.rename(f, f'{p}/moved{n}')
        else: os.chmod(f, 0o600)
    except FileNotFoundError: pass
P";

fn on_disk(path: &std::path::Path) -> Arc<dyn goldleaf_block::ReadBlocks> {
    let file = std::fs::File::open(path).expect("image");
    let len = file.metadata().expect("length").len();
    Arc::new(OnDisk(file, len))
}

#[test]
#[ignore = "prints figures; run it in release"]
fn guided_diff_of_a_volume_with_300_000_files() {
    let image = Image::make(4096, &["-N", "400000"]);
    image.mount().sh(MANY);
    let copy = image.path().with_extension("before");
    for operations in [10, 1000, 20000] {
        let script = OPERATIONS.replace("OPS", &operations.to_string());
        let (from, to) = (image.path(), copy.clone());
        run("cp", &["--sparse=always", from.to_str().expect("text"), to.to_str().expect("text")]);
        image.mount().sh(&script);
        let (old, new) = (on_disk(&copy), on_disk(&image.path()));
        let dirty = dirty_of(&*old, &*new);
        figures(operations, &copy, &image.path(), &dirty);
    }
    let start = processor_time();
    let summary = validate(&image.volume_on_disk(), Limits::default()).expect("valid");
    println!("validate: {:?}, {} files", processor_time() - start, summary.files);
}

fn processor_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

fn figures(
    operations: u32,
    before: &std::path::Path,
    after: &std::path::Path,
    dirty: &[goldleaf_block::BlockRange],
) {
    // Warm caches of the host, cold ones of ours; processor time, as others may be at work.
    let mut took = Duration::MAX;
    let mut results = Vec::new();
    for _ in 0..3 {
        let start = processor_time();
        let old = Volume::open(on_disk(before)).expect("before");
        let new = Volume::open_replayed(on_disk(after)).expect("after");
        let guided = diff(&old, &new, dirty).expect("diff");
        took = took.min(processor_time() - start);
        results.push((old, new, guided));
    }
    let (old, new, guided) = results.pop().expect("three runs");
    let start = processor_time();
    let full = diff_full(&old, &new).expect("full");
    println!(
        "{operations} operations: guided {took:?} ({:?}, {} changes), full {:?}",
        guided.stats,
        guided.changes.len(),
        processor_time() - start
    );
    assert!(!guided.stats.full);
    assert_eq!(guided.changes, full.changes);
}

fn dirty_of(
    old: &dyn goldleaf_block::ReadBlocks,
    new: &dyn goldleaf_block::ReadBlocks,
) -> Vec<goldleaf_block::BlockRange> {
    let mut out = Vec::new();
    let (mut left, mut right) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    for mebibyte in 0..new.len().0 >> 20 {
        let at = goldleaf_block::ByteOffset(mebibyte << 20);
        old.read_at(at, &mut left).expect("read");
        new.read_at(at, &mut right).expect("read");
        let first = mebibyte << 8;
        out.extend(dirty_blocks(&left, &right).into_iter().map(|mut range| {
            range.start.0 += first;
            range
        }));
    }
    out
}

impl Image {
    fn volume_on_disk(&self) -> Volume {
        Volume::open(on_disk(&self.path())).expect("volume")
    }
}
