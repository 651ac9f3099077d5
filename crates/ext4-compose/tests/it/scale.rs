//! Sizes at which structures change their shape.

use std::os::unix::fs::MetadataExt;

use goldleaf_ext4_compose::{Content, Op};

use crate::support::*;

#[test]
fn seventy_thousand_names_in_one_directory() {
    let mut bench = Bench::new(
        "400M",
        &["-N", "100000"],
        "mkdir old; for i in $(seq 1 3000); do echo $i > old/name-$i; done",
    );
    let file = bench.stored(b"content", 1);
    let mut ops = vec![put("/big", dir())];
    let name = |n: u32| format!("/big/{}-{n}", "long".repeat(30));
    ops.extend((0..70_000).map(|n| put(&name(n), bytes(b""))));
    ops.push(put("/old/one-more", file.clone()));
    ops.extend((0..100).map(|n| put(&format!("/old/name-{}", n * 7 + 1), file.clone())));
    bench.compose(&ops);
    let mount = bench.mount("out");
    for op in &ops {
        let at = mount.at.join(std::str::from_utf8(op.path().as_bytes()).expect("text"));
        assert!(std::fs::symlink_metadata(&at).is_ok(), "{}", op.path());
    }
    assert_eq!(std::fs::read_dir(mount.at.join("big")).expect("read").count(), 70_000);
    assert_eq!(std::fs::read_dir(mount.at.join("old")).expect("read").count(), 3001);
    // Some 2,500 leaves do not fit into one index block: the index has two levels.
    assert!(std::fs::metadata(mount.at.join("big")).expect("there").size() > 508 * 4096);
}

#[test]
fn more_subdirectories_than_links() {
    let bench = Bench::new("800M", &["-N", "140000"], "mkdir kept; mkdir kept/a");
    let mut ops = vec![put("/many", dir())];
    ops.extend((0..66_000).map(|n| put(&format!("/many/{n}"), dir())));
    ops.extend((0..64_999).map(|n| put(&format!("/kept/{n}"), dir())));
    bench.compose(&ops);
    let mount = bench.mount("out");
    assert_eq!(std::fs::metadata(mount.at.join("many")).expect("there").nlink(), 1);
    // 64,999 new ones, the old one and two.
    assert_eq!(std::fs::metadata(mount.at.join("kept")).expect("there").nlink(), 1);
    assert_eq!(std::fs::metadata(mount.at.join("many/65999")).expect("there").nlink(), 2);
}

#[test]
fn ten_thousand_extents_and_a_volume_in_fragments() {
    let mut bench = Bench::new("256M", &[], "for i in $(seq 1 3000); do echo $i > $i; done");
    let content: Vec<u8> =
        (0..10_000_u32).flat_map(|n| [n as u8, (n >> 8) as u8].repeat(2048)).collect();
    // One block in two is a hole.
    let mut holed = bench.stored(&content, 1);
    let Content::Runs { size, runs } = &mut holed.content else { unreachable!() };
    *size = 2 * 10_000 * 4096;
    runs.iter_mut().for_each(|run| run.file_block *= 2);
    let mut ops = vec![put("/z-holed", holed)];
    // Every other small file goes, and a file takes all that is left: many pieces.
    ops.extend((1..3000).step_by(2).map(|n| remove(&format!("/{n}"))));
    bench.compose_and_compare(&ops);
    let free = {
        let mut composer = bench.composer("metadata").expect("opened");
        let mut sorted: Vec<Op> = ops.clone();
        sorted.sort_by(|left, right| left.path().cmp(right.path()));
        sorted.into_iter().for_each(|op| composer.apply(op).expect("applied"));
        composer.free().blocks
    };
    let filler = bench.stored(&vec![1; (free as usize - 40) * 4096], 100_000);
    ops.push(put("/zz-filler", filler));
    bench.compose_and_compare(&ops);
}
