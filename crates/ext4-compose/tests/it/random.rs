//! Random operations against a plain model.

use std::collections::BTreeMap;

use goldleaf_ext4_compose::{Op, PutNode};
use goldleaf_tree::{GuestPath, NodeKind, Xattr};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::support::*;

const SEED: &str = "
    mkdir -p a/a/a a/b b/c c
    for d in a a/a a/a/a a/b b/c; do for f in d e f; do echo $d$f > $d/$f; done; done
    ln a/d b/d; ln a/d b/e; ln -s x c/a; mkfifo c/b
    for i in $(seq 1 200); do echo $i > c/some-longer-name-$i; done
";

#[derive(Debug, Clone)]
enum What {
    Remove,
    Dir,
    File(usize),
    Bytes(usize),
    Link(u64),
    Symlink(usize),
    Fifo,
    Many(u32),
}

fn what() -> impl Strategy<Value = What> {
    prop_oneof![
        3 => Just(What::Remove),
        4 => Just(What::Dir),
        3 => (0..30_000_usize).prop_map(What::File),
        2 => (0..9000_usize).prop_map(What::Bytes),
        2 => (0..2_u64).prop_map(What::Link),
        1 => (1..200_usize).prop_map(What::Symlink),
        1 => Just(What::Fifo),
        1 => (1..300_u32).prop_map(What::Many),
    ]
}

fn ops() -> impl Strategy<Value = Vec<(Vec<u8>, What, u16, usize)>> {
    let path = prop::collection::vec(0..6_u8, 1..5);
    prop::collection::vec((path, what(), 0..0o7777_u16, 0..600_usize), 1..40)
}

/// Turns what was drawn into operations that can be applied: each parent is a directory.
fn lower(drawn: Vec<(Vec<u8>, What, u16, usize)>, bench: &mut Bench, model: &Tree) -> Vec<Op> {
    let mut chosen: BTreeMap<GuestPath, (What, u16, usize)> = BTreeMap::new();
    for (names, what, mode, xattr) in drawn {
        let text: Vec<String> = names.iter().map(|&n| char::from(b'a' + n).to_string()).collect();
        chosen.insert(path(&text.join("/")), (what, mode, xattr));
    }
    let mut now: BTreeMap<GuestPath, bool> =
        model.iter().map(|(path, entry)| (path.clone(), entry.kind == "directory")).collect();
    let mut ops = Vec::new();
    for (path, (what, mode, xattr)) in chosen {
        let parent = path.parent().expect("not the root");
        if now.get(&parent) != Some(&true) && !matches!(what, What::Remove) {
            continue;
        }
        let keeps = matches!(what, What::Dir | What::Many(_)) && now.get(&path) == Some(&true);
        if !keeps {
            now.retain(|at, _| !at.starts_with(&path));
        }
        let mut nodes = Vec::new();
        match what {
            What::Remove => ops.push(Op::Remove { path: path.clone() }),
            What::Dir => nodes.push((path.clone(), dir())),
            What::File(len) => nodes.push((path.clone(), bench.stored(&vec![len as u8; len], 2))),
            What::Bytes(len) => nodes.push((path.clone(), bytes(&vec![len as u8; len]))),
            What::Link(n) => {
                nodes.push((path.clone(), PutNode { link: Some(n), ..bytes(&[n as u8; 5000]) }));
            }
            What::Symlink(len) => nodes.push((path.clone(), symlink(&"s".repeat(len)))),
            What::Fifo => nodes.push((path.clone(), node(NodeKind::Fifo, 0))),
            What::Many(count) => {
                nodes.push((path.clone(), dir()));
                for n in 0..count {
                    let name = format!("zz-a-generated-name-{n}");
                    nodes.push((path.join(name.as_bytes()).expect("a name"), bytes(b"")));
                }
            }
        }
        for (path, mut node) in nodes {
            node.attrs.mode = mode;
            if xattr > 300 && node.kind != NodeKind::Symlink && node.kind != NodeKind::Fifo {
                node.xattrs =
                    vec![Xattr { name: b"user.x".into(), value: vec![b'x'; xattr - 300] }];
            }
            now.insert(path.clone(), node.kind == NodeKind::Directory);
            ops.push(Op::Put { path, node });
        }
    }
    ops
}

#[test]
fn random_operations_give_what_the_model_says() {
    let config = Config { cases: 120, failure_persistence: None, ..Config::default() };
    let mut bench = Bench::new("64M", &["-N", "8000"], SEED);
    let model = bench.base_tree().clone();
    let drawn = std::cell::RefCell::new(&mut bench);
    let result = TestRunner::new(config).run(&ops(), |ops| {
        let mut bench = drawn.borrow_mut();
        let ops = lower(ops, &mut bench, &model);
        bench.compose_and_compare(&ops);
        Ok(())
    });
    result.expect("all cases hold");
}
