//! Each thing that an operation can do, once.

use goldleaf_block::{MapExtent, Target};
use goldleaf_ext4_compose::{Content, ContentRun, Op, PutNode};
use goldleaf_tree::{FLAG_IMMUTABLE, FLAG_NODUMP, NodeKind, Timestamp, Xattr};

use crate::support::*;

/// A tree with something of every kind.
const SEED: &str = "
    mkdir -p etc/sub/deep home var/big
    for i in $(seq 1 400); do echo $i > var/big/file-with-a-long-name-$i; done
    echo one > etc/passwd; echo two > etc/group; ln etc/group etc/group-link
    ln -s passwd etc/link; mkfifo etc/pipe; echo x > etc/sub/deep/x
    head -c 300000 /dev/urandom > home/blob
    setfattr -n user.big -v $(head -c 3000 /dev/zero | tr '\\0' a) home/blob
    setfattr -n user.a -v 1 etc; setfacl -m u:1000:rw etc/passwd
";

fn bench() -> Bench {
    Bench::new("96M", &[], SEED)
}

#[test]
fn no_operations_change_nothing_that_can_be_seen() {
    let composed = bench().compose_and_compare(&[]);
    assert!(composed.slots_used < 16, "{} slots", composed.slots_used);
}

#[test]
fn nodes_of_every_kind_are_made() {
    let mut bench = bench();
    let file = bench.stored(&vec![7; 100_001], 3);
    let ops = [
        put("/new", dir()),
        put("/new/block", node(NodeKind::BlockDevice { major: 8, minor: 1 }, 0o660)),
        put("/new/char", node(NodeKind::CharDevice { major: 300, minor: 70_000 }, 0o666)),
        put("/new/empty", node(NodeKind::File, 0o4755)),
        put("/new/fifo", node(NodeKind::Fifo, 0o600)),
        put("/new/file", file),
        put("/new/inline", bytes(b"generated\n")),
        put("/new/long-link", symlink(&"x/".repeat(2000))),
        put("/new/link-59", symlink(&"a".repeat(59))),
        put("/new/link-60", symlink(&"a".repeat(60))),
        put("/new/socket", node(NodeKind::Socket, 0o1777)),
        put("/new/sub", dir()),
        put("/new/sub/sub", dir()),
    ];
    bench.compose_and_compare(&ops);
}

#[test]
fn kinds_replace_each_other() {
    let mut bench = bench();
    let file = bench.stored(&vec![9; 20_000], 1);
    let ops = [
        put("/etc/group", file.clone()),
        put("/etc/link", dir()),
        put("/etc/link/in", bytes(b"in")),
        put("/etc/passwd", symlink("elsewhere")),
        put("/etc/pipe", file),
        put("/etc/sub", bytes(b"a file now")),
        put("/home", dir()),
        put("/home/blob", dir()),
        put("/home/blob/a", dir()),
        put("/var", symlink("/elsewhere")),
    ];
    bench.compose_and_compare(&ops);
}

#[test]
fn subtrees_go_and_missing_paths_are_fine() {
    let bench = bench();
    let ops = [
        remove("/etc"),
        remove("/nothing/here"),
        remove("/home/blob/below"),
        remove("/home/blob"),
        remove("/var/big"),
        remove("/var/none"),
    ];
    let mut sorted = ops.to_vec();
    sorted.sort_by(|left, right| left.path().cmp(right.path()));
    let composed = bench.compose_and_compare(&sorted);
    // etc with 7 below it (a second name is no node), blob, big with 400.
    assert_eq!(composed.stats.nodes_removed, 8 + 1 + 401);
    let zero: u64 = composed
        .extents
        .iter()
        .filter(|extent| extent.target == Target::Zero)
        .map(|extent| extent.range.count.0)
        .sum();
    assert!(zero >= 74 + 400, "freed blocks read as zeroes");
}

#[test]
fn a_directory_keeps_its_children_and_takes_attributes() {
    let mut etc = dir();
    etc.attrs.mode = 0o2750;
    etc.xattrs = vec![Xattr { name: b"user.other".to_vec(), value: vec![b'x'; 2000] }];
    let root = PutNode { attrs: attrs(0o711), ..dir() };
    bench().compose_and_compare(&[put("/", root), put("/etc", etc), remove("/etc/sub/deep")]);
}

#[test]
fn hard_links_are_made_broken_and_replaced() {
    let linked = |content: &[u8]| PutNode { link: Some(5), ..bytes(content) };
    let ops = [
        put("/etc/a", linked(b"shared")),
        put("/etc/group", bytes(b"on its own now")),
        put("/etc/passwd", linked(b"shared")),
        put("/home/z", linked(b"shared")),
    ];
    bench().compose_and_compare(&ops);
    let both = [put("/etc/group", linked(b"new")), put("/etc/group-link", linked(b"new"))];
    bench().compose_and_compare(&both);
    bench().compose_and_compare(&[remove("/etc/group-link")]);
}

#[test]
fn extended_attributes_and_acls_are_as_getxattr_has_them() {
    let acl = |entries: &[(u16, u16, u32)]| {
        let mut value = 2_u32.to_le_bytes().to_vec();
        for (tag, perm, id) in entries {
            value.extend(tag.to_le_bytes());
            value.extend(perm.to_le_bytes());
            value.extend(id.to_le_bytes());
        }
        value
    };
    let any = u32::MAX;
    let access = acl(&[
        (1, 6, any),
        (2, 4, 1000),
        (2, 6, 70_000),
        (4, 4, any),
        (8, 5, 12),
        (16, 7, any),
        (32, 4, any),
    ]);
    let default = acl(&[(1, 7, any), (2, 7, 33), (4, 5, any), (16, 7, any), (32, 0, any)]);
    let xattr = |name: &str, value: &[u8]| Xattr { name: name.into(), value: value.to_vec() };
    // The group bits of the mode are the ACL's mask.
    let mut file = node(NodeKind::File, 0o674);
    file.xattrs = vec![
        xattr("security.capability", &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        xattr("system.posix_acl_access", &access),
        xattr("trusted.t", b""),
        xattr("user.large", &[b'v'; 2500]),
        xattr("user.x", b"value"),
        xattr("user.yy", b"another"),
    ];
    let mut many = bytes(b"many");
    many.xattrs =
        (0..40_u32).map(|at| xattr(&format!("user.n{}", at * 37 % 41), &[at as u8; 30])).collect();
    let mut directory = node(NodeKind::Directory, 0o755);
    directory.xattrs = vec![xattr("system.posix_acl_default", &default)];
    let mut link = symlink("somewhere");
    link.xattrs = vec![xattr("trusted.link", b"1")];
    bench().compose_and_compare(&[
        put("/acl", directory),
        put("/acl/file", file),
        put("/acl/link", link),
        put("/acl/many", many),
    ]);
}

#[test]
fn flags_and_far_times_are_kept() {
    let mut file = bytes(b"fixed");
    file.attrs.flags = FLAG_IMMUTABLE | FLAG_NODUMP;
    file.attrs.mtime = Timestamp { secs: 10_000_000_000, nanos: 5 };
    file.attrs.ctime = Timestamp { secs: -1_000_000_000, nanos: 7 };
    let mut pipe = node(NodeKind::Fifo, 0o600);
    pipe.attrs.flags = FLAG_IMMUTABLE;
    let bench = bench();
    bench.compose_and_compare(&[put("/etc/fixed", file), put("/etc/pipe", pipe)]);
    let mount = bench.mount("out");
    let (_, flags) = run("lsattr", &[mount.at.join("etc/fixed").as_ref()]);
    let set: Vec<char> = flags.chars().take_while(|&c| c != ' ').filter(|&c| c != '-').collect();
    assert_eq!(set, ['i', 'd', 'e'], "{flags}");
    let (_, birth) =
        run("stat", &["-c".as_ref(), "%W".as_ref(), mount.at.join("etc/fixed").as_ref()]);
    assert_eq!(birth.trim(), "1600000003");
}

#[test]
fn holes_stay_holes() {
    let mut bench = bench();
    let mut file = bench.stored(&[vec![1; 8192], vec![2; 4096], vec![3; 100]].concat(), 1);
    let Content::Runs { size, runs } = &mut file.content else { unreachable!() };
    *size = 5_000_000_000;
    let places = [0, 5, 1_000_000, 1_220_703];
    for (run, place) in runs.iter_mut().zip(places) {
        run.file_block = place;
    }
    let at = runs.clone();
    let composed = bench.compose(&[put("/home/sparse", file)]);
    assert_eq!(composed.stats.content_blocks, 4);
    let mount = bench.mount("out");
    let path = mount.at.join("home/sparse");
    let (_, shown) = run("stat", &["-c".as_ref(), "%s %b".as_ref(), path.as_ref()]);
    assert_eq!(shown.trim(), "5000000000 32");
    let file = std::fs::File::open(path).expect("opened");
    for (run, byte) in at.iter().zip([1_u8, 1, 2, 3]) {
        let mut found = [0; 1];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut found, run.file_block * 4096)
            .expect("read");
        assert_eq!(found[0], byte);
    }
    let mut found = [9; 64];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut found, 4096 * 2).expect("read");
    assert_eq!(found, [0; 64]);
}

#[test]
fn nothing_of_the_content_is_written() {
    let mut bench = bench();
    let file = bench.stored(&vec![0xA5; 40 << 20], 1 << 14);
    let runs = match &file.content {
        Content::Runs { runs, .. } => runs.clone(),
        Content::Bytes(_) => Vec::new(),
    };
    let composed = bench.compose(&[put("/home/huge", file)]);
    assert!(composed.slots_used < 30, "{} slots", composed.slots_used);
    let covers = |extent: &&MapExtent| matches!(extent.target, Target::Source { source, .. } if source == CONTENT);
    let mapped: u64 = composed.extents.iter().filter(covers).map(|e| e.range.count.0).sum();
    assert_eq!(mapped, runs.iter().map(|run: &ContentRun| run.blocks).sum::<u64>());
}

#[test]
fn the_same_operations_give_the_same_bytes() {
    let mut bench = bench();
    let file = bench.stored(&vec![7; 5000], 1);
    let mut ops: Vec<Op> = (0..3000).map(|n| put(&format!("/var/big/{n}"), file.clone())).collect();
    ops.extend([remove("/etc/sub"), put("/home/blob", file), put("/new", dir())]);
    let first = bench.try_compose(&ops).expect("composed");
    let bytes = std::fs::read(bench.file("metadata")).expect("read");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let second = bench.try_compose(&ops).expect("composed");
    assert_eq!(first, second);
    assert!(bytes == std::fs::read(bench.file("metadata")).expect("read"), "the bytes differ");
}
