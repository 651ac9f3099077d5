//! What must be refused, and how.

use std::ffi::OsStr;

use goldleaf_block::BlockNo;
use goldleaf_ext4_compose::{ComposeError, Content, ContentRun};

use crate::support::*;

fn refused(mkfs: &[&str], prepare: &[&str]) -> String {
    let bench = Bench::new("64M", mkfs, "echo 1 > file");
    let image = bench.file("base");
    for command in prepare {
        run("debugfs", &["-w".as_ref(), "-R".as_ref(), OsStr::new(command), image.as_ref()]);
    }
    match bench.composer("metadata") {
        Err(ComposeError::Refused(reason)) => reason,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("{mkfs:?} {prepare:?} was taken"),
    }
}

#[test]
fn volumes_that_are_not_clean_or_not_known() {
    assert!(refused(&[], &["feature needs_recovery"]).contains("journal"));
    assert!(refused(&[], &["set_super_value state 3"]).contains("errors"));
    assert!(refused(&[], &["set_super_value state 0"]).contains("unmounted"));
    assert!(refused(&[], &["set_super_value last_orphan 12"]).contains("orphan"));
    assert!(refused(&["-O", "bigalloc"], &[]).contains("0x200"));
    assert!(refused(&["-O", "quota"], &[]).contains("0x100"));
    assert!(refused(&["-O", "inline_data"], &[]).contains("0x8000"));
    assert!(refused(&["-O", "fast_commit"], &[]).contains("0x400"));
    assert!(refused(&["-b", "1024"], &[]).contains("1024 bytes"));
    assert!(refused(&["-O", "^extents,^64bit"], &[]).contains("not ext4"));
}

#[test]
fn what_is_no_volume_is_an_error_and_no_crash() {
    let bench = Bench::new("64M", &[], "echo 1 > file");
    std::fs::write(bench.file("base"), vec![0xFF; 1 << 20]).expect("written");
    assert!(matches!(bench.composer("metadata"), Err(ComposeError::Library { .. })));
    std::fs::write(bench.file("base"), []).expect("written");
    assert!(matches!(bench.composer("metadata"), Err(ComposeError::Base(_))));
}

#[test]
fn operations_that_make_no_sense() {
    let bench = Bench::new("64M", &[], "echo 1 > file; ln -s . link");
    let fails = |ops: &[goldleaf_ext4_compose::Op]| bench.try_compose(ops).expect_err("refused");
    assert!(matches!(fails(&[put("/no/where", dir())]), ComposeError::NoParent(_)));
    assert!(matches!(fails(&[put("/file/x", dir())]), ComposeError::NoParent(_)));
    assert!(matches!(fails(&[put("/link/x", dir())]), ComposeError::NoParent(_)));
    assert!(matches!(fails(&[remove("/x"), put("/x/y", dir())]), ComposeError::NoParent(_)));
    assert!(matches!(fails(&[put("/x", dir()), remove("/x")]), ComposeError::Order { .. }));
    assert!(matches!(fails(&[remove("/")]), ComposeError::Invalid { .. }));
    assert!(matches!(fails(&[put("/", bytes(b""))]), ComposeError::Invalid { .. }));
    assert!(matches!(fails(&[put("/l", symlink(""))]), ComposeError::Invalid { .. }));
    assert!(matches!(
        fails(&[put("/l", symlink(&"x".repeat(4096)))]),
        ComposeError::Invalid { .. }
    ));
    let mut file = bytes(b"");
    let run = ContentRun { file_block: 1, blocks: 1, source: CONTENT, at: BlockNo(0) };
    file.content = Content::Runs { size: 4096, runs: vec![run] };
    assert!(matches!(fails(&[put("/f", file.clone())]), ComposeError::Invalid { .. }));
    file.content = Content::Runs { size: 9000, runs: vec![run, run] };
    assert!(matches!(fails(&[put("/f", file)]), ComposeError::Invalid { .. }));
    let mut large = bytes(b"");
    large.xattrs = vec![goldleaf_tree::Xattr { name: b"user.x".into(), value: vec![1; 5000] }];
    assert!(matches!(fails(&[put("/f", large)]), ComposeError::Invalid { .. }));
}

#[test]
fn after_an_error_nothing_goes_on() {
    let bench = Bench::new("64M", &[], "echo 1 > file");
    let mut composer = bench.composer("metadata").expect("opened");
    assert!(composer.apply(put("/no/where", dir())).is_err());
    assert!(matches!(composer.apply(put("/z", dir())), Err(ComposeError::Poisoned)));
    assert!(matches!(composer.finish(), Err(ComposeError::Poisoned)));
}
