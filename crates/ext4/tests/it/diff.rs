//! Random operations by the kernel: the guided diff, the full diff, and walks of the mounts agree.

use std::collections::BTreeMap;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};

use goldleaf_block::{BlockCount, BlockNo, BlockRange};
use goldleaf_ext4::{Volume, diff, diff_full};
use goldleaf_tree::{Change, NodeKind};

use crate::support::*;

/// A small generator of random numbers.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit.max(1)
    }
}

/// Path, and whether it is a `Put` (with `existed`) or a `Remove`.
type Shown = BTreeMap<Vec<u8>, Option<bool>>;

fn shown(changes: &[Change]) -> Shown {
    let path = |change: &Change| {
        let bytes = change.path().as_bytes();
        if bytes.is_empty() { Vec::new() } else { [b"/", bytes].concat() }
    };
    changes
        .iter()
        .map(|change| match change {
            Change::Put { existed, .. } => (path(change), Some(*existed)),
            Change::Remove { .. } => (path(change), None),
        })
        .collect()
}

/// What two walks of a mount say that the changes are.
fn expected(before: &Tree, after: &Tree) -> Shown {
    let plain = |seen: &Seen| Seen { ctime: Default::default(), links: 0, ino: 0, ..seen.clone() };
    let mut out = Shown::new();
    let mut put = std::collections::BTreeSet::new();
    for (path, seen) in after {
        if before.get(path).map(plain) != Some(plain(seen)) {
            out.insert(path.clone(), Some(before.contains_key(path)));
            put.insert(seen.ino);
        }
    }
    for (path, seen) in after {
        if seen.links > 1 && seen.kind != NodeKind::Directory && put.contains(&seen.ino) {
            out.insert(path.clone(), Some(before.contains_key(path)));
        }
    }
    for path in before.keys().filter(|path| !after.contains_key(*path)) {
        out.insert(path.clone(), None);
    }
    out
}

fn paths(root: &Path) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let (mut dirs, mut files) = (vec![root.to_path_buf()], Vec::new());
    let mut next = 0;
    while next < dirs.len() {
        for entry in std::fs::read_dir(&dirs[next]).expect("directory") {
            let entry = entry.expect("entry");
            let list =
                if entry.file_type().expect("type").is_dir() { &mut dirs } else { &mut files };
            list.push(entry.path());
        }
        next += 1;
    }
    dirs.sort();
    files.sort();
    (dirs, files)
}

/// One random operation; one that cannot be is no operation.
fn operate(root: &Path, random: &mut Random) {
    let (dirs, files) = paths(root);
    let dir = dirs[random.below(dirs.len())].clone();
    let new = dir.join(format!("n{}", random.below(40)));
    let Some(file) = files.get(random.below(files.len())) else {
        let _ = std::fs::write(new, b"first");
        return;
    };
    let any = if random.below(3) == 0 { &dir } else { file };
    match random.below(18) {
        0..=2 => drop(std::fs::write(&new, vec![random.0 as u8; random.below(20000)])),
        3 => drop(std::fs::create_dir(&new)),
        4 => drop(std::fs::remove_file(file)),
        5 if random.below(4) == 0 && dir != root => drop(std::fs::remove_dir_all(&dir)),
        6 => drop(std::fs::rename(file, &new)),
        7 if dir != root => {
            let target = dirs[random.below(dirs.len())].join(format!("m{}", random.below(20)));
            let _ = std::fs::rename(&dir, target);
        }
        8 => drop(std::fs::hard_link(file, &new)),
        9 => drop(symlink("x".repeat(1 + random.below(120)), &new)),
        10 => {
            if let Ok(open) = std::fs::OpenOptions::new().write(true).open(file) {
                let _ = open.write_all_at(&[random.0 as u8; 700], random.below(30000) as u64);
            }
        }
        11 => {
            let mode =
                std::os::unix::fs::PermissionsExt::from_mode(0o600 + random.below(64) as u32);
            let _ = std::fs::set_permissions(file, mode);
        }
        12 => drop(std::os::unix::fs::lchown(any, Some(random.below(9) as u32), None)),
        13 => {
            let value = vec![b'v'; random.below(2500)];
            let flags = rustix::fs::XattrFlags::empty();
            let _ = rustix::fs::lsetxattr(any, "trusted.k", &value, flags);
        }
        14 => {
            // An editor's save: delete and create at one path, often with the same inode number.
            let _ = std::fs::remove_file(file);
            let _ = std::fs::write(file, vec![random.0 as u8; random.below(9000)]);
        }
        // Opening a socket fails at once, where a pipe would wait for its other end.
        15 => drop(std::os::unix::net::UnixListener::bind(&new)),
        16 => {
            if let Ok(open) = std::fs::OpenOptions::new().write(true).open(file) {
                let _ = open.set_len(random.below(50000) as u64);
            }
        }
        _ => {
            // A file becomes a directory of the same name, and with luck the same number.
            let _ = std::fs::remove_file(file);
            let _ = std::fs::create_dir(file);
        }
    }
}

/// Both diffs of two images against two walks of the kernel.
fn agree(before: (&[u8], &Tree), after: (&[u8], &Tree)) {
    let dirty = dirty_blocks(before.0, after.0);
    let old = Volume::open(memory(before.0.to_vec())).expect("before");
    let new = Volume::open_replayed(memory(after.0.to_vec())).expect("after");
    let guided = diff(&old, &new, &dirty).expect("diff");
    assert!(!guided.stats.full, "explained");
    let full = diff_full(&old, &new).expect("full diff");
    assert_eq!(shown(&guided.changes), shown(&full.changes));
    assert_eq!(guided.changes, full.changes);
    assert_eq!(shown(&guided.changes), expected(before.1, after.1));
    assert!(guided.changes.is_sorted_by_key(|change| change.path().clone()));
}

fn sequences(seed: u64, count: usize, args: &[&str]) {
    let image = Image::make(16, args);
    let mut random = Random(seed);
    let mount = image.mount();
    (0..150).for_each(|_| operate(&mount.at, &mut random));
    drop(mount);
    for round in 0..count {
        let before = image.bytes();
        let mount = image.mount();
        let old = kernel_tree(&mount.at);
        (0..1 + random.below(30)).for_each(|_| operate(&mount.at, &mut random));
        mount.sync();
        let new = kernel_tree(&mount.at);
        let live = image.bytes();
        drop(mount);
        let after = if round % 2 == 0 { live } else { image.bytes() };
        agree((&before, &old), (&after, &new));
    }
}

#[test]
fn random_sequences_default() {
    sequences(0x9E37_79B9_7F4A_7C15, 60, &[]);
}

#[test]
fn random_sequences_small_groups() {
    sequences(0xD1B5_4A32_D192_ED03, 60, &["-g", "1024", "-N", "2048"]);
}

#[test]
fn random_sequences_without_checksums() {
    sequences(0x2545_F491_4F6C_DD1D, 60, &["-O", "^metadata_csum,^64bit", "-J", "size=4"]);
}

fn filled() -> (Image, Vec<u8>) {
    let image = Image::make(64, &[]);
    image.mount().sh(FILL);
    let before = image.bytes();
    (image, before)
}

/// Runs a script in a session and returns what the diff says, by path.
fn session(script: &str) -> BTreeMap<String, Change> {
    let (image, before) = filled();
    let mount = image.mount();
    let old = kernel_tree(&mount.at);
    mount.sh(script);
    let new = kernel_tree(&mount.at);
    drop(mount);
    let after = image.bytes();
    agree((&before, &old), (&after, &new));
    let (old, new) = (image_volume(&before), image_volume(&after));
    let found = diff(&old, &new, &dirty_blocks(&before, &after)).expect("diff");
    found.changes.into_iter().map(|change| (change.path().to_string(), change)).collect()
}

fn image_volume(bytes: &[u8]) -> Volume {
    Volume::open(memory(bytes.to_vec())).expect("volume")
}

#[test]
fn reading_alone_changes_nothing() {
    assert!(session("cat a/hello many/* > /dev/null; ls -R > /dev/null").is_empty());
}

#[test]
fn a_change_of_attributes_says_so_at_every_name() {
    let changes = session("chmod 600 a/hello");
    assert_eq!(changes.keys().collect::<Vec<_>>(), ["/a/b/again", "/a/hello"]);
    let meta =
        |change: &Change| matches!(change, Change::Put { meta_only: true, existed: true, .. });
    assert!(changes.values().all(meta));
}

#[test]
fn a_moved_directory_takes_its_subtree_along() {
    let changes = session("mv a/b moved; touch moved/c/inner");
    assert!(matches!(changes["/a/b/random"], Change::Remove { .. }));
    assert!(matches!(changes["/moved/random"], Change::Put { existed: false, .. }));
    assert!(changes.contains_key("/moved/c/inner"));
    // The other name of a file that moved is put as well, so that the link stays.
    assert!(changes.contains_key("/a/hello"));
}

#[test]
fn a_replaced_file_is_one_put() {
    let changes = session("(cat a/b/random; echo) > a/t; mv a/t a/b/random");
    assert!(matches!(changes["/a/b/random"], Change::Put { existed: true, meta_only: false, .. }));
}

/// Where the content lies is not what it is: a file that was saved again unchanged.
#[test]
fn content_that_only_moved_is_the_same() {
    let said = |session: BTreeMap<String, Change>| match &session["/a/b/random"] {
        Change::Put { existed: true, meta_only, .. } => *meta_only,
        other => panic!("{other:?}"),
    };
    assert!(said(session("cp a/b/random a/t; mv a/t a/b/random")));
    assert!(said(session("cp a/b/random a/t; sync; cat a/t > a/b/random; rm a/t")));
    let patch = "printf x | dd of=a/t bs=1 seek=100 conv=notrunc status=none";
    assert!(!said(session(&format!("cp a/b/random a/t; {patch}; mv a/t a/b/random"))));
}

/// A raw write into a file's data touches no inode: it is found by the full comparison.
#[test]
fn a_write_in_place_is_never_missed() {
    let (image, before) = filled();
    let volume = image.volume();
    let path = goldleaf_tree::GuestPath::parse("/a/b/random").expect("path");
    let id = goldleaf_tree::resolve(&volume, &path).expect("walk").expect("there");
    let extents = goldleaf_tree::FileTree::extents(&volume, id).expect("read").expect("volume");
    let mut after = before.clone();
    after[extents[0].volume_block as usize * 4096 + 17] ^= 0xFF;
    let dirty = dirty_blocks(&before, &after);
    assert_eq!(dirty, [BlockRange::new(BlockNo(extents[0].volume_block), BlockCount(1))]);
    let found = diff(&image_volume(&before), &image_volume(&after), &dirty).expect("diff");
    assert!(found.stats.full && found.explained());
    assert_eq!(shown(&found.changes), Shown::from([(b"/a/b/random".to_vec(), Some(true))]));
    assert!(matches!(found.changes[0], Change::Put { meta_only: false, .. }));
}

/// A volume that grew in the session is read by its new geometry.
#[test]
fn a_volume_may_grow() {
    let image = Image::make(64, &["-g", "4096"]);
    image.mount().sh("mkdir d; echo x > d/f");
    let before = image.bytes();
    let file = std::fs::OpenOptions::new().write(true).open(image.path()).expect("image");
    file.set_len(128 << 20).expect("grown");
    // Unforced, it wants a check first when the second has changed since mkfs.
    image.tool("resize2fs", &["-f"]);
    let mount = image.mount();
    mount
        .sh("for i in $(seq 1 60); do mkdir g$i; head -c 50000 /dev/urandom > g$i/f; done; rm d/f");
    drop(mount);
    let after = image.bytes();
    let (old, new) = (image_volume(&before), image_volume(&after));
    let guided = diff(&old, &new, &dirty_blocks(&before, &after)).expect("diff");
    assert_eq!(guided.changes, diff_full(&old, &new).expect("full").changes);
    assert!(guided.changes.len() > 120);
}
