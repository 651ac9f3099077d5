//! Images copied from under a live mount: our replay against e2fsck's and the kernel's.

use goldleaf_block::ByteOffset;
use goldleaf_ext4::{Ext4Error, Limits, Volume, validate};

use crate::support::*;

fn check(args: &[&str]) {
    let image = Image::make(64, args);
    let mount = image.mount();
    mount.sh(FILL);
    mount.sync();
    mount.sh(
        "for i in $(seq 1 400); do mv many/file-with-a-rather-long-name-to-split-blocks-$i many/n$i; done
         sync -f .; for i in $(seq 1 200); do rm many/n$i; done; rm -r home/user; sync -f .
         head -c 9000 /dev/urandom > a/new; printf '\\xc0\\x3b\\x39\\x98escaped' > a/magic; mkdir z; sync -f .
         rm a/b/random; sync -f .; head -c 200000 /dev/urandom > a/reused; sync -f .",
    );
    let live = image.bytes();
    drop(mount);
    let replayed = Volume::open_replayed(memory(live.clone())).expect("replayed");
    assert!(matches!(Volume::open(memory(live.clone())), Err(Ext4Error::NeedsRecovery)));
    assert!(replayed.replayed_blocks().len() > 10);
    let ours = our_tree(&replayed);
    validate(&replayed, Limits::default()).expect("valid");

    let by_kernel = Image::of(&live);
    let mount = by_kernel.mount();
    assert_same(&kernel_tree(&mount.at), &ours);
    drop(mount);
    let mut bytes = vec![0; live.len()];
    replayed.replayed().read_at(ByteOffset(0), &mut bytes).expect("read");
    Image::of(&bytes).tool("e2fsck", &["-fn"]);
    Volume::open(memory(bytes)).expect("clean");
}

#[test]
fn replay_with_checksums_v3() {
    check(&[]);
}

#[test]
fn replay_without_checksums_32_bits() {
    check(&["-O", "^64bit,^metadata_csum"]);
}

#[test]
fn replay_of_a_small_log_that_wraps() {
    check(&["-J", "size=4"]);
}

#[test]
fn replay_in_data_journal_mode_escapes_the_magic() {
    let image = Image::make(64, &[]);
    image.tool("tune2fs", &["-o", "journal_data"]);
    let mount = image.mount();
    mount.sh(
        "printf '\\xc0\\x3b\\x39\\x98escaped' > magic; head -c 20000 /dev/urandom > x; sync -f .",
    );
    let live = image.bytes();
    let kernel = kernel_tree(&mount.at);
    drop(mount);
    let replayed = Volume::open_replayed(memory(live)).expect("replayed");
    assert_same(&kernel, &our_tree(&replayed));
}

/// Recovery ends at the first commit that is damaged, and sees what was committed before.
#[test]
fn a_damaged_commit_ends_the_log() {
    let image = Image::make(32, &[]);
    let mount = image.mount();
    mount.sh("mkdir one; sync -f .; mkdir two; sync -f .; mkdir three; sync -f .");
    let mut live = image.bytes();
    drop(mount);
    let commits: Vec<usize> = (0..live.len() / 4096)
        .map(|block| block * 4096)
        .filter(|&at| live[at..at + 8] == [0xC0, 0x3B, 0x39, 0x98, 0, 0, 0, 2])
        .collect();
    let newest = commits.iter().copied().max_by_key(|&at| {
        u32::from_be_bytes([live[at + 8], live[at + 9], live[at + 10], live[at + 11]])
    });
    let newest = newest.expect("a commit");
    // A bit of the commit's time: only its checksum can tell.
    live[newest + 0x38] ^= 1;
    let flipped = our_tree(&Volume::open_replayed(memory(live.clone())).expect("replayed"));
    // A commit that never came, which the kernel takes for the log's end without complaint.
    live[newest..newest + 4096].fill(0);
    let ours = our_tree(&Volume::open_replayed(memory(live.clone())).expect("replayed"));
    assert_same(&flipped, &ours);
    let by_kernel = Image::of(&live);
    assert_same(&kernel_tree(&by_kernel.mount().at), &ours);
    assert!(ours.contains_key(&b"/one"[..]) && !ours.contains_key(&b"/three"[..]));
}
