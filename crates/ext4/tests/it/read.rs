//! Every stat field, content, attribute and ACL against the kernel's view, in many formats.

use goldleaf_ext4::{Limits, canonical, validate};

use crate::support::*;

fn check(megabytes: u64, args: &[&str]) {
    let image = Image::make(megabytes, args);
    let mount = image.mount();
    mount.sh(FILL);
    drop(mount);
    let mount = image.mount();
    let kernel = kernel_tree(&mount.at);
    drop(mount);
    let volume = image.volume();
    let ours = our_tree(&volume);
    assert!(kernel.len() > 1500);
    assert_same(&kernel, &ours);
    let summary = validate(&volume, Limits::default()).expect("valid");
    assert_eq!(summary.leaked, 0, "{args:?}");
    let names = |kind| ours.values().filter(|seen| seen.kind == kind).count() as u64;
    assert_eq!(summary.directories, names(goldleaf_tree::NodeKind::Directory));
    canonical_is_still_sound(&image, &kernel);
}

/// Zeroing what the canonical form zeroes changes nothing that anybody can see.
fn canonical_is_still_sound(image: &Image, kernel: &Tree) {
    let map = canonical(&image.volume()).expect("canonical");
    let mut bytes = image.bytes();
    for range in &map.zeroes {
        let (from, to) = (range.start.offset().0, range.end().offset().0);
        bytes[from as usize..to as usize].fill(0);
    }
    let copy = Image::of(&bytes);
    copy.tool("e2fsck", &["-fn"]);
    let mount = copy.mount();
    let mut seen = kernel_tree(&mount.at);
    seen.values_mut().for_each(|seen| seen.ctime = Default::default());
    let mut wanted = kernel.clone();
    wanted.values_mut().for_each(|seen| seen.ctime = Default::default());
    assert_same(&wanted, &seen);
}

#[test]
fn default_format() {
    check(128, &[]);
}

#[test]
fn without_64bit_and_checksums() {
    check(64, &["-O", "^64bit,^metadata_csum,uninit_bg"]);
}

#[test]
fn without_any_checksums_or_flex_bg() {
    check(64, &["-O", "^64bit,^metadata_csum,^flex_bg,^uninit_bg,^dir_index"]);
}

#[test]
fn meta_bg_and_small_groups() {
    check(128, &["-O", "meta_bg,^resize_inode", "-g", "2048"]);
}

#[test]
fn sparse_super2_seed_and_large_inodes() {
    check(64, &["-O", "sparse_super2,metadata_csum_seed,orphan_file", "-I", "512"]);
}

#[test]
fn lazily_initialised_tables_and_other_group_sizes() {
    check(200, &["-E", "lazy_itable_init=1", "-g", "8192", "-N", "20000", "-G", "4"]);
}

#[test]
fn inodes_of_128_bytes_lose_only_fine_times() {
    let image = Image::make(32, &["-I", "128"]);
    let mount = image.mount();
    mount.sh("mkdir a; echo x > a/b; setfattr -n user.k -v v a/b; ln -s b a/c");
    let kernel = kernel_names(&mount);
    drop(mount);
    let ours = our_tree(&image.volume());
    assert_eq!(kernel, ours.keys().cloned().collect::<Vec<_>>());
    assert_eq!(ours[&b"/a/b"[..]].xattrs[&b"user.k"[..]], b"v");
    validate(&image.volume(), Limits::default()).expect("valid");
}

fn kernel_names(mount: &Mount) -> Vec<Vec<u8>> {
    let listed = run("find", &[mount.at.to_str().expect("text"), "-printf", "/%P\n"]);
    let mut names: Vec<Vec<u8>> =
        listed.lines().map(|line| line.trim_end_matches('/').as_bytes().to_vec()).collect();
    names.sort();
    names
}
