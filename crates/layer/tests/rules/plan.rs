//! The walk over a stack's entries and the tree below.

use goldleaf_layer::plan::{
    ComposeFacts, Conffile, Outcome, PackageState, Part, PlanError, PlannedOp, Reason, Report,
    StackItem, plan,
};
use goldleaf_layer::{Content, Digest, Entry, EntryAttrs, EntryNode, Kind, Owner};
use goldleaf_tree::{GuestPath, NodeKind, Timestamp};

use crate::path;
use crate::tree::Tree;

/// No packages, no `keep` rules; the content of a file's entry is its `link` number, as text.
pub struct Plain;

impl ComposeFacts for Plain {
    fn keeps(&self, _: &GuestPath) -> bool {
        false
    }
    fn package(&self, name: &str, _: Kind) -> PackageState {
        if name == "old" { PackageState::Superseded } else { PackageState::Higher }
    }
    fn conffile(&self, _: &GuestPath, _: &Entry) -> Conffile {
        Conffile::No
    }
    fn content(&self, entry: &Entry) -> Option<Digest> {
        match &entry.node {
            EntryNode::Node { link: Some(number), .. } => {
                Some(Digest::of(number.to_string().as_bytes()))
            }
            _ => None,
        }
    }
}

pub fn item(layer: Kind, node: Option<NodeKind>, origin: Option<&str>) -> StackItem {
    let attrs = EntryAttrs {
        mode: 0o644,
        user: Owner::Id(0),
        group: Owner::Id(0),
        mtime: Timestamp::default(),
        ctime: Timestamp::default(),
        crtime: Timestamp::default(),
        flags: 0,
    };
    let content = Content { size: 1, extents: Vec::new() };
    let node = node.map_or(EntryNode::Whiteout, |kind| EntryNode::Node {
        kind,
        attrs,
        xattrs: Vec::new(),
        acl_names: Vec::new(),
        content,
        target: Vec::new(),
        link: Some(7),
    });
    let origin = origin.map(|text| Digest::of(text.as_bytes()));
    StackItem { layer, entry: Entry { node, package: None, origin, digest: None, edit: false } }
}

fn show(op: &PlannedOp) -> String {
    match op {
        PlannedOp::MakeDirectory { path } => format!("mkdir {path}"),
        PlannedOp::Remove { path, only_if_empty: false } => format!("rm {path}"),
        PlannedOp::Remove { path, only_if_empty: true } => format!("rmdir {path}"),
        PlannedOp::CopyLower { from, to } => format!("cp {from} {to}"),
        PlannedOp::Put { path, part: Part::Whole, .. } => format!("put {path}"),
        PlannedOp::Put { path, part: Part::Content, .. } => format!("content {path}"),
        PlannedOp::Put { path, part: Part::Attributes, .. } => format!("attributes {path}"),
    }
}

#[track_caller]
fn check(tree: &Tree, entries: Vec<(&str, StackItem)>, expected: &[&str]) -> Vec<Report> {
    let entries = entries.into_iter().map(|(at, item)| (path(at), item));
    let mut plan = plan(tree, entries, &Plain);
    let ops: Vec<String> = plan.by_ref().map(|op| show(&op.expect("a plan"))).collect();
    assert_eq!(ops, expected);
    plan.into_reports()
}

fn tree() -> Tree {
    let mut tree = Tree::new();
    tree.add(&path("/usr/bin/tool"), NodeKind::File, b"a");
    tree.add(&path("/usr/lib/x.so"), NodeKind::File, b"a");
    tree.add(&path("/lib"), NodeKind::Symlink, b"usr/lib");
    tree.add(&path("/etc/conf"), NodeKind::File, b"b");
    tree.add(&path("/srv/link"), NodeKind::Symlink, b"/etc");
    tree.add(&path("/srv/file"), NodeKind::File, b"a");
    tree
}

use Kind::{UserApps, UserData};
use NodeKind::{Directory, File};

#[test]
fn parents_are_made_once() {
    let new = |at| (at, item(UserApps, Some(File), None));
    let entries = vec![new("/opt/a/b/x"), new("/opt/a/b/y"), new("/opt/a/z"), new("/usr/bin/n")];
    let ops = [
        "mkdir /opt",
        "mkdir /opt/a",
        "mkdir /opt/a/b",
        "put /opt/a/b/x",
        "put /opt/a/b/y",
        "put /opt/a/z",
        "put /usr/bin/n",
    ];
    assert_eq!(check(&tree(), entries, &ops), []);
}

#[test]
fn merged_usr_is_followed_and_other_links_are_not() {
    let entries = vec![
        ("/lib", item(UserApps, Some(Directory), None)),
        ("/lib/deep/y", item(UserApps, Some(File), None)),
        ("/lib/x.so", item(UserApps, None, Some("a"))),
        ("/srv/link/x", item(UserData, Some(File), None)),
    ];
    let ops = ["mkdir /usr/lib/deep", "put /usr/lib/deep/y", "rm /usr/lib/x.so"];
    let reports = check(&tree(), entries, &ops);
    assert_eq!(reports.len(), 1);
    assert_eq!((reports[0].outcome, reports[0].reason), (Outcome::KeptAside, Reason::ParentIsLink));
    assert!(!reports[0].advice().is_empty());
}

#[test]
fn files_against_directories() {
    let entries = vec![
        ("/srv/file", item(UserApps, Some(Directory), Some("other"))),
        ("/srv/file/x", item(UserApps, Some(File), None)),
        ("/usr/bin", item(UserApps, Some(File), None)),
        ("/usr/bin/more", item(UserApps, Some(File), None)),
    ];
    let reports = check(&tree(), entries, &["put /usr/bin/more"]);
    let reasons: Vec<Reason> = reports.iter().map(|report| report.reason).collect();
    assert_eq!(reasons, [Reason::KindConflict, Reason::ParentKeptAside, Reason::KindConflict]);

    let entries = vec![("/srv/file/a/x", item(UserData, Some(File), None))];
    let ops = ["rm /srv/file", "mkdir /srv/file", "mkdir /srv/file/a", "put /srv/file/a/x"];
    assert_eq!(check(&tree(), entries, &ops).len(), 1);

    let entries = vec![
        ("/usr/bin", item(UserData, Some(File), None)),
        ("/usr/bin/x", item(UserApps, Some(File), None)),
    ];
    assert_eq!(check(&tree(), entries, &["rm /usr/bin", "put /usr/bin"]).len(), 2);
}

#[test]
fn what_the_stack_itself_puts_over_a_directory_stays() {
    let entries = vec![
        ("/srv/link", item(UserData, Some(NodeKind::Symlink), Some("/etc"))),
        ("/srv/link/x", item(UserData, Some(File), None)),
    ];
    let reports = check(&tree(), entries, &["put /srv/link"]);
    assert_eq!(reports[0].reason, Reason::ParentIsNoDirectory);
}

#[test]
fn edits_keep_the_upstream_file_beside_them() {
    let mut edit = item(UserData, Some(File), Some("a"));
    edit.entry.edit = true;
    let ops = ["cp /etc/conf /etc/conf.dpkg-dist", "content /etc/conf"];
    let reports = check(&tree(), vec![("/etc/conf", edit.clone())], &ops);
    assert_eq!(reports[0].outcome, Outcome::Shadows);
    let mut tree = tree();
    tree.add(&path("/etc/conf.dpkg-dist"), NodeKind::File, b"c");
    check(&tree, vec![("/etc/conf", edit)], &["content /etc/conf"]);
}

#[test]
fn whiteouts() {
    let entries = vec![
        ("/etc", item(UserData, None, None)),
        ("/etc/conf", item(UserData, None, Some("b"))),
        ("/etc/new", item(UserApps, Some(File), None)),
        ("/usr/bin", item(UserApps, None, None)),
        ("/usr/bin/tool", item(UserApps, None, Some("a"))),
        ("/usr/lib/x.so", item(UserApps, None, Some("z"))),
    ];
    let ops = ["rm /etc", "mkdir /etc", "put /etc/new", "rmdir /usr/bin", "rm /usr/bin/tool"];
    let reports = check(&tree(), entries, &ops);
    assert_eq!(reports.len(), 1);
    assert_eq!(reports[0].path, path("/usr/lib/x.so"));
}

#[test]
fn superseded_packages_leave_no_trace() {
    let mut dir = item(UserApps, Some(Directory), None);
    dir.entry.package = Some("old".into());
    let mut file = item(UserApps, Some(File), None);
    file.entry.package = Some("old".into());
    let entries = vec![
        ("/opt/p", dir),
        ("/opt/p/f", file),
        ("/opt/p/mine", item(UserData, Some(File), None)),
    ];
    let ops = ["mkdir /opt", "mkdir /opt/p", "put /opt/p/mine"];
    let reports = check(&tree(), entries, &ops);
    assert!(reports.iter().all(|report| report.outcome == Outcome::Superseded));
    assert_eq!(reports.len(), 2);
}

#[test]
fn entries_must_be_sorted() {
    let tree = tree();
    let new = || item(UserData, Some(File), None);
    let entries = [(path("/b"), new()), (path("/a"), new())];
    let results: Vec<_> = plan(&tree, entries, &Plain).collect();
    assert!(matches!(results[..], [Ok(_), Err(PlanError::Order { .. })]));
}

#[test]
fn listing_a_directory_finds_what_looking_up_finds() {
    let mut tree = Tree::new();
    for number in 0..50 {
        tree.add(&path(&format!("/d/{number:03}")), NodeKind::File, b"7");
    }
    let entries: Vec<(GuestPath, StackItem)> = (0..60)
        .map(|number| (path(&format!("/d/{number:03}")), item(UserApps, Some(File), None)))
        .collect();
    let mut plan = plan(&tree, entries, &Plain);
    // The first fifty have the content of the entries; only the rest is put.
    let ops: Vec<String> = plan.by_ref().map(|op| show(&op.expect("a plan"))).collect();
    assert_eq!(ops.len(), 10);
    assert_eq!(ops[0], "put /d/050");
}
