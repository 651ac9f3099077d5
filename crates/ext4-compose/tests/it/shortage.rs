//! Volumes that are too small, and what is said of them.

use std::ffi::OsStr;

use goldleaf_block::BlockNo;
use goldleaf_ext4_compose::{ComposeError, Content, ContentRun, Op, PutNode, Shortage};
use goldleaf_tree::Xattr;

use crate::support::*;

fn of_blocks(blocks: u64) -> PutNode {
    let run = ContentRun { file_block: 0, blocks, source: CONTENT, at: BlockNo(0) };
    let mut file = bytes(b"");
    file.content = Content::Runs { size: blocks * 4096, runs: vec![run] };
    file
}

fn shortage(bench: &Bench, ops: &[Op]) -> Shortage {
    match bench.try_compose(ops) {
        Err(ComposeError::Full(shortage)) => shortage,
        other => panic!("{other:?}"),
    }
}

fn grow(bench: &Bench, blocks: u64) {
    let base = bench.file("base");
    let len = std::fs::metadata(&base).expect("there").len() + blocks * 4096;
    std::fs::OpenOptions::new().write(true).open(&base).expect("opened").set_len(len).expect("set");
    let (ok, text) = run("resize2fs", &[OsStr::new("-f"), base.as_os_str()]);
    assert!(ok, "resize2fs: {text}");
}

/// The growth that is said must do, and three quarters of it must not.
fn growth_does(make: impl Fn() -> Bench, ops: &[Op]) {
    let short = shortage(&make(), ops);
    let grown = |blocks| {
        let bench = make();
        grow(&bench, blocks);
        bench.try_compose(ops)
    };
    grown(short.grow_blocks).unwrap_or_else(|error| panic!("{short:?}: {error}"));
    let left = grown(short.grow_blocks * 3 / 4);
    assert!(matches!(left, Err(ComposeError::Full(_))), "less than {short:?} does: {left:?}");
}

fn small() -> Bench {
    Bench::new("64M", &[], "mkdir old; seq 100000 > old/one; seq 300000 > old/two")
}

#[test]
fn what_is_missing_is_said_to_the_block() {
    let bench = small();
    let free = bench.composer("metadata").expect("opened").free();
    // The root has room for the names.
    let short = shortage(&bench, &[put("/a", of_blocks(free.blocks - 3)), put("/b", of_blocks(8))]);
    assert_eq!((short.blocks, short.inodes), (5 + 1, 0), "one for the names");
    let several: Vec<_> = (0..10).map(|n| put(&format!("/{n}"), of_blocks(free.blocks))).collect();
    let short = shortage(&bench, &several);
    assert_eq!((short.blocks, short.inodes), (9 * free.blocks + 1, 0));
}

#[test]
fn inodes_may_be_what_is_missing() {
    let bench = Bench::new("64M", &["-N", "64"], "echo 1 > file");
    let free = bench.composer("metadata").expect("opened").free();
    let many: Vec<_> = (0..free.inodes + 9).map(|n| put(&format!("/{n}"), bytes(b""))).collect();
    let short = shortage(&bench, &many);
    assert_eq!((short.blocks, short.inodes), (0, 9));
    assert!(short.grow_blocks > 0);
    bench.compose(&many[..many.len() - 9]);
}

#[test]
fn a_name_of_a_node_that_is_counted_costs_nothing() {
    let bench = small();
    let free = bench.composer("metadata").expect("opened").free();
    let linked = PutNode { link: Some(7), ..of_blocks(1000) };
    let ops = [
        put("/a", of_blocks(free.blocks)),
        put("/b", linked.clone()),
        put("/c", linked.clone()),
        put("/d", linked),
    ];
    assert_eq!(shortage(&bench, &ops).blocks, 1000 + 1);
    let linked = PutNode { link: Some(8), ..of_blocks(10) };
    let ops = [put("/a", linked.clone()), put("/b", of_blocks(free.blocks)), put("/c", linked)];
    assert_eq!(shortage(&bench, &ops).blocks, 10 + 1, "its node was made before");
}

#[test]
fn what_goes_gives_its_space_to_what_comes_later_only() {
    let bench = small();
    let free = bench.composer("metadata").expect("opened").free();
    let first = put("/a", of_blocks(free.blocks + 100));
    let short = shortage(&bench, &[first.clone(), remove("/old")]);
    assert_eq!(short.blocks, 100 + 1, "the space comes too late");
    let old = shortage(&bench, &[first.clone(), remove("/old"), put("/z", of_blocks(100))]);
    assert_eq!(old.blocks, short.blocks, "100 blocks fit where /old was");
    let replaced = shortage(&bench, &[first, put("/old", of_blocks(100))]);
    assert_eq!(replaced.blocks, short.blocks);
}

#[test]
fn so_much_more_does() {
    let files: Vec<Op> = (0..300).map(|n| put(&format!("/f{n:03}"), of_blocks(400))).collect();
    growth_does(small, &files);
    let one = put("/old/huge", of_blocks(40_000));
    growth_does(small, &[one]);
}

#[test]
fn so_many_more_inodes_do() {
    let files: Vec<Op> = (0..60_000).map(|n| put(&format!("/f{n:05}"), bytes(b""))).collect();
    growth_does(small, &files);
}

#[test]
fn all_that_takes_blocks_counts() {
    let long = "x".repeat(1000);
    let mut ops = vec![put("/tree", dir())];
    for n in 0..5_000 {
        let at = format!("/tree/{n:04}");
        let mut file = bytes(b"one block");
        file.xattrs =
            vec![Xattr { name: b"user.long".to_vec(), value: n.to_string().repeat(100).into() }];
        ops.push(put(&at, dir()));
        ops.push(put(&format!("{at}/file"), file));
        ops.push(put(&format!("{at}/link"), symlink(&long)));
        ops.push(put(&format!("{at}/short"), symlink("short")));
    }
    growth_does(small, &ops);
}
