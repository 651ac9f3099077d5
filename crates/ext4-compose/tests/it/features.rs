//! The features that decide how a volume is written, on and off.

use crate::support::*;

const SEED: &str = "mkdir -p a/b; for i in $(seq 1 500); do echo $i > a/entry-number-$i; done";

fn check(mkfs: &[&str]) {
    let mut bench = Bench::new("160M", mkfs, SEED);
    let file = bench.stored(&vec![3; 9000], 1);
    let mut ops = vec![
        remove("/a/entry-number-100"),
        put("/a/entry-number-7", file.clone()),
        put("/a/new", file.clone()),
        put("/many", dir()),
        put("/odd", dir()),
    ];
    ops.extend((0..1500).map(|n| put(&format!("/many/a-name-of-some-length-{n}"), file.clone())));
    // Bytes above 127 tell signed hashes from unsigned ones.
    ops.extend((0..200).map(|n| put(&format!("/odd/ü-{n}-ÿ{}", "é".repeat(30)), bytes(b"odd"))));
    let mut attributed = file;
    attributed.xattrs =
        vec![goldleaf_tree::Xattr { name: b"user.x".into(), value: vec![b'1'; 300] }];
    ops.push(put("/a/b/attributed", attributed));
    if mkfs.contains(&"128") {
        // Inodes without extra fields have no nanoseconds, and no birth time.
        for op in &mut ops {
            if let goldleaf_ext4_compose::Op::Put { node, .. } = op {
                node.attrs.mtime.nanos = 0;
                node.attrs.ctime.nanos = 0;
            }
        }
    }
    let composed = bench.compose_and_compare(&ops);
    assert_eq!(composed.stats.nodes_put, 1705);
    // Opening by name goes through the index where there is one.
    let mount = bench.mount("out");
    for op in &ops {
        let at = mount.at.join(std::str::from_utf8(op.path().as_bytes()).expect("text"));
        let gone = matches!(op, goldleaf_ext4_compose::Op::Remove { .. });
        assert_eq!(at.exists(), !gone, "{}", op.path());
    }
}

#[test]
fn as_made_today() {
    check(&[]);
}

#[test]
fn without_metadata_checksums() {
    check(&["-O", "^metadata_csum,uninit_bg"]);
}

#[test]
fn without_any_group_checksums() {
    check(&["-O", "^metadata_csum,^uninit_bg"]);
}

#[test]
fn without_64_bits() {
    check(&["-O", "^64bit"]);
}

#[test]
fn without_directory_index() {
    check(&["-O", "^dir_index"]);
}

#[test]
fn without_flexible_groups() {
    check(&["-O", "^flex_bg,^resize_inode", "-g", "8192"]);
}

#[test]
fn with_lazy_inode_tables() {
    check(&["-E", "lazy_itable_init=1,lazy_journal_init=1"]);
}

#[test]
fn without_lazy_inode_tables() {
    check(&["-E", "lazy_itable_init=0,lazy_journal_init=0"]);
}

#[test]
fn with_short_inodes() {
    check(&["-I", "128"]);
}

#[test]
fn with_long_inodes_and_without_journal() {
    check(&["-I", "512", "-O", "^has_journal"]);
}

#[test]
fn with_the_orphan_file_and_other_hashes() {
    check(&["-O", "orphan_file"]);
    for hash in ["legacy", "tea"] {
        check_hash(hash);
    }
}

fn check_hash(hash: &str) {
    let mut bench = Bench::new("96M", &[], SEED);
    let image = bench.file("base");
    let set = format!("set_super_value def_hash_version {hash}");
    run("debugfs", &["-w".as_ref(), "-R".as_ref(), set.as_ref(), image.as_ref()]);
    let file = bench.stored(&[1], 1);
    let mut ops = vec![put("/many", dir())];
    ops.extend((0..900).map(|n| put(&format!("/many/ä-name-of-some-length-{n}"), file.clone())));
    bench.compose_and_compare(&ops);
}

#[test]
fn unused_inode_tables_are_zero_and_declared_so() {
    // A disk full of rubbish before mkfs, as a used one is.
    let bench = Bench::new("300M", &["-E", "lazy_itable_init=1,nodiscard", "-N", "60000"], SEED);
    let (_, text) = run("dumpe2fs", &[bench.file("base").as_ref()]);
    assert!(!text.contains("ITABLE_ZEROED"), "{text}");
    let composed = bench.compose_and_compare(&[put("/x", dir())]);
    let (_, text) = run("dumpe2fs", &[bench.file("out").as_ref()]);
    let groups = text.lines().filter(|line| line.contains("(Blocks ")).count();
    assert_eq!(text.matches("ITABLE_ZEROED").count(), groups, "{text}");
    let zero: u64 = composed
        .extents
        .iter()
        .filter(|extent| extent.target == goldleaf_block::Target::Zero)
        .map(|extent| extent.range.count.0)
        .sum();
    assert!((3600..3760).contains(&zero), "{zero} blocks of 3750 in tables");
}
