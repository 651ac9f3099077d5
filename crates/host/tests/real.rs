//! The real directory and file, on a real file system.

use std::io::ErrorKind;
use std::sync::Arc;

use goldleaf_host::{Dir, Entropy, RealDir, RealEntropy, read_file, replace_file};

fn scratch() -> (tempfile::TempDir, Arc<dyn Dir>) {
    let scratch = tempfile::tempdir().expect("scratch");
    let dir = RealDir::open(scratch.path()).expect("open");
    (scratch, dir)
}

#[test]
fn only_plain_names_are_names() {
    let (_scratch, dir) = scratch();
    for bad in ["", ".", "..", "a/b", "/a", "a/", "a\0b"] {
        let kinds = [
            dir.open(bad).err().map(|e| e.kind()),
            dir.open_rw(bad).err().map(|e| e.kind()),
            dir.create(bad).err().map(|e| e.kind()),
            dir.dir(bad).err().map(|e| e.kind()),
            dir.create_dir(bad).err().map(|e| e.kind()),
            dir.remove(bad).err().map(|e| e.kind()),
            dir.remove_dir_all(bad).err().map(|e| e.kind()),
            dir.rename(bad, "x").err().map(|e| e.kind()),
            dir.rename("x", bad).err().map(|e| e.kind()),
            dir.try_lock(bad).err().map(|e| e.kind()),
        ];
        assert_eq!(kinds, [Some(ErrorKind::InvalidInput); 10], "{bad:?}");
    }
}

#[test]
fn what_others_are_to_read_they_may_read_as_far_as_the_umask_allows() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = tempfile::tempdir().expect("scratch");
    let mode = |path: &str| {
        let path = scratch.path().join(path);
        path.metadata().expect("stat").permissions().mode() & 0o777
    };
    std::fs::write(scratch.path().join("usual"), "").expect("write");
    let usual = mode("usual");
    let dir = RealDir::create_public(&scratch.path().join("a/b")).expect("create");
    dir.create("f").expect("create");
    let inner = dir.create_dir("c").expect("create");
    replace_file(inner.as_ref(), "g", b"text").expect("replace");
    assert_eq!([mode("a/b/f"), mode("a/b/c/g")], [usual & 0o644; 2]);
    assert_eq!(
        [mode("a"), mode("a/b"), mode("a/b/c")].map(|mode| mode & 0o444),
        [usual & 0o444; 3]
    );
    let again = RealDir::open_public(&scratch.path().join("a")).expect("open");
    again.dir("b").expect("open").create("h").expect("create");
    assert_eq!(mode("a/b/h"), usual & 0o644);
}

#[test]
fn a_file_is_made_once_with_mode_0600() {
    use std::os::unix::fs::PermissionsExt;
    let (scratch, dir) = scratch();
    let file = dir.create("f").expect("create");
    assert_eq!(dir.create("f").err().map(|e| e.kind()), Some(ErrorKind::AlreadyExists));
    let mode = scratch.path().join("f").metadata().expect("stat").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    file.write_all_at(b"hello", 3).expect("write");
    let mut bytes = [9; 8];
    file.read_exact_at(&mut bytes, 0).expect("read");
    assert_eq!(&bytes, b"\0\0\0hello");
    let end = file.read_exact_at(&mut bytes, 1).expect_err("too long");
    assert_eq!(end.kind(), ErrorKind::UnexpectedEof);
    assert!(dir.open("f").expect("open").write_all_at(b"x", 0).is_err());
}

#[test]
fn symbolic_links_are_not_followed() {
    let (scratch, dir) = scratch();
    dir.create("target").expect("create");
    dir.create_dir("targets").expect("create");
    std::os::unix::fs::symlink("target", scratch.path().join("link")).expect("link");
    std::os::unix::fs::symlink("targets", scratch.path().join("links")).expect("link");
    assert!(dir.open("link").is_err());
    assert!(dir.open_rw("link").is_err());
    assert!(dir.create("link").is_err());
    assert!(dir.dir("links").is_err());
    assert!(dir.create_dir("links").is_err());
    assert!(dir.try_lock("link").is_err());
    assert!(dir.remove_dir_all("links").is_err());
    dir.remove("link").expect("the link itself goes");
    dir.open("target").expect("not what it pointed to");
}

/// A pipe would be waited for, and a device has no end.
#[test]
fn what_is_no_file_is_not_opened() {
    let (scratch, dir) = scratch();
    let pipe = scratch.path().join("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .expect("pipe");
    std::os::unix::net::UnixListener::bind(scratch.path().join("socket")).expect("socket");
    dir.create_dir("directory").expect("create");
    for name in ["pipe", "socket", "directory"] {
        assert!(dir.open(name).is_err(), "{name}");
        assert!(dir.open_rw(name).is_err(), "{name}");
    }
    let devices = RealDir::open("/dev".as_ref()).expect("devices");
    assert_eq!(devices.open("zero").err().expect("a device").kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_held_lock_excludes() {
    let (scratch, dir) = scratch();
    let held = dir.try_lock("lock").expect("lock").expect("free");
    let other = RealDir::open(scratch.path()).expect("open");
    assert!(other.try_lock("lock").expect("lock").is_none());
    drop(held);
    assert!(other.try_lock("lock").expect("lock").is_some());
}

#[test]
fn replacing_survives_a_leftover_and_reading_has_a_limit() {
    let (_scratch, dir) = scratch();
    dir.create("f.new").expect("leftover").write_all_at(&[7; 100], 0).expect("write");
    replace_file(dir.as_ref(), "f", b"one").expect("replace");
    replace_file(dir.as_ref(), "f", b"two!").expect("replace");
    assert_eq!(read_file(dir.as_ref(), "f", 4).expect("read"), b"two!");
    let long = read_file(dir.as_ref(), "f", 3).expect_err("limit");
    assert_eq!(long.kind(), ErrorKind::InvalidData);
    assert_eq!(dir.list().expect("list").len(), 1);
}

#[test]
fn lists_are_sorted_and_say_what_is_a_directory() {
    let (_scratch, dir) = scratch();
    let inner = dir.create_dir("b").expect("dir");
    inner.create("deep").expect("create");
    inner.create_dir("deeper").expect("dir").create("x").expect("create");
    dir.create("c").expect("create");
    dir.create("a").expect("create");
    let items: Vec<_> =
        dir.list().expect("list").into_iter().map(|item| (item.name, item.is_dir)).collect();
    assert_eq!(items, [("a".into(), false), ("b".into(), true), ("c".into(), false)]);
    dir.remove_dir_all("b").expect("remove");
    dir.rename("a", "c").expect("rename");
    assert_eq!(dir.list().expect("list").len(), 1);
    dir.sync().expect("sync");
    assert!(dir.free_space().expect("space") > 0);
}

#[test]
fn punched_space_goes_back_and_data_is_found_behind_it() {
    let (_scratch, dir) = scratch();
    let file = dir.create("f").expect("create");
    file.write_all_at(&vec![1; 1 << 20], 0).expect("write");
    file.sync_data().expect("sync");
    let before = file.allocated().expect("allocated");
    assert!(before >= 1 << 20);
    file.punch_hole(4096, 1 << 19).expect("punch");
    file.punch_hole(0, 0).expect("nothing to do");
    assert!(file.allocated().expect("allocated") <= before - (1 << 19));
    assert_eq!(file.len().expect("len"), 1 << 20);
    let hole = 4096 + (1 << 19);
    assert_eq!(file.next_data(0).expect("seek"), Some((0, 4096)));
    assert_eq!(file.next_data(5000).expect("seek"), Some((hole, 1 << 20)));
    assert_eq!(file.next_data(1 << 20).expect("seek"), None);
    let mut bytes = [9; 4];
    file.read_exact_at(&mut bytes, 8192).expect("read");
    assert_eq!(bytes, [0; 4]);
}

#[test]
fn random_bytes_are_random() {
    let (mut a, mut b) = ([0; 32], [0; 32]);
    RealEntropy.fill(&mut a).expect("fill");
    RealEntropy.fill(&mut b).expect("fill");
    assert!(a != b && a != [0; 32]);
}
