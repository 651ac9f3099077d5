//! The fuzz targets: every parser of bytes that somebody else wrote, under libFuzzer.
//!
//! One program holds all targets, because linking is what takes the time; the environment says
//! which one runs (`GOLDLEAF_FUZZ_TARGET`, or `list`). Where a checksum would keep random bytes
//! out, a target begins with something valid, makes the edits that the input describes, and mends
//! the checksums behind them if the input says so. An error is an answer; what is looked for is a
//! panic, a hang, memory without bound, or an answer that contradicts another one.
#![no_main]

mod disk;
mod ext4;
mod input;
mod map;
mod monitor;
mod nbd;
mod partitions;
mod records;
mod session;
mod store;
mod text;
mod tree;
mod wire;
mod worker;

use std::sync::OnceLock;

/// A target: its name, and what is done with an input.
type Target = (&'static str, fn(&[u8]));

const TARGETS: &[Target] = &[
    ("ext4-superblock", ext4::superblock),
    ("ext4-inode", ext4::inode),
    ("ext4-dirent", ext4::dirent),
    ("ext4-htree", ext4::htree),
    ("ext4-extents", ext4::extents),
    ("ext4-xattr", ext4::xattr),
    ("jbd2", ext4::journal),
    ("gpt", partitions::gpt),
    ("mbr", partitions::mbr),
    ("foreign", partitions::foreign),
    ("session-log", session::log),
    ("session-operations", session::operations),
    ("extent-map", map::stored),
    ("pack", store::pack),
    ("layer", store::layer),
    ("rules", text::rules),
    ("merge-accounts", text::merge_accounts),
    ("merge-dpkg", text::merge_dpkg),
    ("merge-lines", text::merge_lines),
    ("merge-records", text::merge_records),
    ("loader", text::loader),
    ("guest-texts", text::guest),
    ("nbd-handshake", nbd::handshake),
    ("nbd-transmission", nbd::transmission),
    ("monitor", monitor::said),
    ("worker-task", worker::to_worker),
    ("worker-answer", worker::to_parent),
    ("records", records::records),
    ("wire", wire::wire),
    ("delta", wire::delta),
];

static CHOSEN: OnceLock<fn(&[u8])> = OnceLock::new();

fn choose() {
    let name = std::env::var("GOLDLEAF_FUZZ_TARGET").unwrap_or_default();
    match TARGETS.iter().find(|target| target.0 == name) {
        Some(target) => CHOSEN.get_or_init(|| target.1),
        None => {
            TARGETS.iter().for_each(|target| println!("{}", target.0));
            std::process::exit(i32::from(name != "list"));
        }
    };
}

libfuzzer_sys::fuzz_target!(init: choose(), |data: &[u8]| {
    if let Some(target) = CHOSEN.get() {
        target(data);
    }
});
