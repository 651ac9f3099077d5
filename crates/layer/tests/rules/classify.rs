//! The factory's rules over a real session of a Debian guest, and single cases.

use std::collections::HashMap;

use goldleaf_layer::classify::{
    Below, Classified, Destination, Facts, Options, PackageRef, Reason, Source, classify, facts_of,
    summarize,
};
use goldleaf_layer::rules::{RuleFile, RuleSet};
use goldleaf_layer::{Digest, Kind};
use goldleaf_tree::{Attrs, Change, GuestPath, Node, NodeId, NodeKind, Timestamp};

use crate::path;

pub const SESSION: &str = include_str!("../data/debian-session.tsv");

/// A guest in tables.
#[derive(Default)]
pub struct Guest {
    pub below: HashMap<GuestPath, Below>,
    pub digests: HashMap<GuestPath, (Option<Digest>, Option<Digest>)>,
    pub owners: HashMap<GuestPath, PackageRef>,
    pub named: HashMap<String, PackageRef>,
    pub existing: HashMap<GuestPath, Kind>,
    pub conffiles: Vec<GuestPath>,
}

impl Facts for Guest {
    fn below(&self, path: &GuestPath) -> Option<Below> {
        self.below.get(path).cloned()
    }
    fn below_digest(&self, path: &GuestPath) -> Option<Digest> {
        self.digests.get(path)?.0
    }
    fn digest(&self, change: &Change) -> Option<Digest> {
        self.digests.get(change.path())?.1
    }
    fn package(&self, path: &GuestPath) -> Option<PackageRef> {
        self.owners.get(path).cloned()
    }
    fn package_named(&self, name: &str) -> Option<PackageRef> {
        self.named.get(name.split(':').next()?).cloned()
    }
    fn existing(&self, path: &GuestPath) -> Option<Kind> {
        self.existing.get(path).copied()
    }
    fn is_conffile(&self, path: &GuestPath) -> bool {
        self.conffiles.contains(path)
    }
}

fn node(kind: NodeKind, number: usize) -> Node {
    let (mtime, ctime, crtime) = Default::default();
    let mode = if kind == NodeKind::Directory { 0o755 } else { 0o644 };
    Node {
        id: NodeId(number as u64),
        kind,
        attrs: Attrs { mode, uid: 0, gid: 0, mtime, ctime, crtime, flags: 0 },
        size: 10,
        links: 1,
        generation: 0,
    }
}

pub fn put(at: &str, kind: NodeKind, target: &str, existed: bool) -> Change {
    Change::Put {
        path: path(at),
        node: node(kind, at.len()),
        target: target.as_bytes().to_vec(),
        xattrs: Vec::new(),
        extents: Vec::new(),
        existed,
        meta_only: false,
    }
}

fn remove(at: &str, kind: NodeKind) -> Change {
    Change::Remove { path: path(at), kind }
}

fn image(kind: NodeKind) -> Below {
    let mode = if kind == NodeKind::Directory { 0o755 } else { 0o644 };
    let (source, xattrs) = (Source::Image, Vec::new());
    Below { source, kind, mode, uid: 0, gid: 0, flags: 0, xattrs }
}

pub fn debian() -> RuleSet {
    RuleSet::compile(&[RuleFile::debian().expect("rules")], &[]).expect("patterns")
}

/// The session as changes, with the guest that it ran in.
pub fn session() -> (Guest, Vec<Change>) {
    let (mut guest, mut changes) = (Guest::default(), Vec::new());
    for line in SESSION.lines().filter(|line| !line.starts_with('#')) {
        let columns: Vec<&str> = line.split('\t').collect();
        let [state, kind, package, at, target] = columns[..] else { panic!("{line}") };
        let target = if target == "-" { "" } else { target };
        let kind = match kind {
            "d" => NodeKind::Directory,
            "l" => NodeKind::Symlink,
            _ => NodeKind::File,
        };
        if package != "-" {
            let user = package.ends_with('+');
            let package = PackageRef { name: package.trim_end_matches('+').to_owned(), user };
            guest.owners.insert(path(at), package.clone());
            guest.named.insert(package.name.clone(), package);
        }
        if state == "changed" {
            guest.below.insert(path(at), image(kind));
            let digests = (Some(Digest::of(b"old")), Some(Digest::of(b"new")));
            guest.digests.insert(path(at), digests);
        }
        changes.push(put(at, kind, target, state == "changed"));
    }
    changes.sort_by(|a, b| a.path().cmp(b.path()));
    (guest, changes)
}

/// A destination as a word, with its package.
fn word(destination: &Destination) -> String {
    let tagged = |text: &str, package: &Option<String>| match package {
        Some(package) => format!("{text}({package})"),
        None => text.to_owned(),
    };
    match destination {
        Destination::Keep { layer, package, etc_edit, secret, skeleton } => {
            let mut text = tagged(layer.name(), package);
            for (flag, name) in [(etc_edit, "edit"), (secret, "secret"), (skeleton, "skeleton")] {
                if *flag {
                    text += &format!(" {name}");
                }
            }
            text
        }
        Destination::Whiteout { layer, package } => tagged(&format!("whiteout {layer}"), package),
        Destination::Merge(handler) => format!("merge:{handler}"),
        other => other.word().to_owned(),
    }
}

fn run(guest: &Guest, changes: &[Change]) -> Vec<Classified> {
    classify(changes, &debian(), guest, Options::default())
}

#[test]
fn a_real_session_goes_where_it_should() {
    let (guest, changes) = session();
    let all = run(&guest, &changes);
    assert_eq!(all.len(), changes.len());
    let at = |text: &str| {
        let place = changes.iter().position(|c| c.path() == &path(text)).expect(text);
        word(&all[place].destination)
    };
    let wants = "/etc/systemd/system/multi-user.target.wants";
    let helper = "/var/lib/systemd/deb-systemd-helper-enabled";
    for (file, expected) in [
        ("/etc/passwd", "merge:accounts"),
        ("/etc/passwd-", "drop"),
        ("/etc/subuid-", "drop"),
        ("/etc/nanorc", "user-data edit"),
        ("/etc/redis", "user-apps(redis-server)"),
        ("/etc/redis/redis.conf", "user-apps(redis-server)"),
        ("/etc/default/redis-server", "user-apps(redis-server)"),
        ("/etc/rc2.d/S01redis-server", "user-apps(redis-server)"),
        ("/etc/systemd/system/evil.service", "drop"),
        (&format!("{wants}/redis-server.service"), "user-apps(redis-server)"),
        (&format!("{wants}/mosquitto.service"), "user-apps(mosquitto)"),
        ("/etc/systemd/system/redis.service", "user-apps(redis-server)"),
        ("/etc/alternatives/vi", "merge:dpkg"),
        ("/etc/hosts.allow", "user-data"),
        ("/etc/ld.so.cache", "merge:derived"),
        ("/usr/bin/redis-cli", "user-apps(redis-tools)"),
        ("/usr/local/bin/tool", "user-apps"),
        ("/usr/bin", "drop"),
        ("/home/alice", "user-data"),
        ("/home/alice/notes.txt", "user-data"),
        ("/home/alice/.cache/app/blob", "local"),
        ("/home/alice/.ssh/id", "user-data secret"),
        ("/tmp/scratch", "shred"),
        ("/tmp", "drop"),
        ("/var/lib/redis", "user-data(redis-server)"),
        ("/var/lib/redis/dump.rdb", "user-data(redis-server)"),
        ("/var/lib/mosquitto", "user-apps(mosquitto)"),
        ("/var/log/mosquitto", "user-apps(mosquitto) skeleton"),
        ("/var/log/redis", "user-apps(redis-server) skeleton"),
        ("/var/log/dpkg.log", "drop"),
        ("/var/log", "drop"),
        ("/var/cache/apt/pkgcache.bin", "local"),
        ("/var/cache/ldconfig/aux-cache", "drop"),
        ("/var/lib/apt/lists/auxfiles", "local"),
        ("/var/lib/apt/extended_states", "merge:dpkg"),
        ("/var/lib/dpkg/status", "merge:dpkg"),
        ("/var/lib/dpkg/status-old", "drop"),
        ("/var/lib/dpkg/statoverride-old", "drop"),
        ("/var/lib/dpkg/alternatives/vi", "merge:dpkg"),
        ("/var/lib/dpkg/info/redis-server.list", "user-apps(redis-server)"),
        ("/var/lib/dpkg/info/libatomic1:amd64.list", "user-apps(libatomic1)"),
        (&format!("{helper}/redis-server.service.dsh-also"), "user-apps(redis-server)"),
    ] {
        assert_eq!(at(file), expected, "{file}");
    }
    every_package_file_is_with_its_package(&guest, &changes, &all);
    every_kept_path_has_its_parents(&guest, &changes, &all);
}

fn every_package_file_is_with_its_package(guest: &Guest, changes: &[Change], all: &[Classified]) {
    let mut seen = 0;
    for (change, classified) in changes.iter().zip(all) {
        let Some(package) = guest.owners.get(change.path()).filter(|p| p.user) else { continue };
        if guest.below.contains_key(change.path()) {
            continue;
        }
        seen += 1;
        let Destination::Keep { layer: Kind::UserApps, package: tag, .. } = &classified.destination
        else {
            panic!("{}: {:?}", change.path(), classified)
        };
        assert_eq!(tag.as_ref(), Some(&package.name), "{}", change.path());
    }
    assert!(seen > 200, "{seen}");
}

fn every_kept_path_has_its_parents(guest: &Guest, changes: &[Change], all: &[Classified]) {
    let kept: HashMap<&GuestPath, Kind> = changes
        .iter()
        .zip(all)
        .filter_map(|(change, one)| match &one.destination {
            Destination::Keep { layer, .. } => Some((change.path(), *layer)),
            _ => None,
        })
        .collect();
    for at in kept.keys() {
        let parent = at.parent().expect("no root among them");
        let listed = changes.iter().any(|c| c.path() == &parent);
        let there = !listed || guest.below.contains_key(&parent);
        assert!(there || kept.contains_key(&parent), "{at} without its parent");
    }
}

#[test]
fn a_summary_counts_everything_once() {
    let (guest, changes) = session();
    let summary = summarize(&changes, &run(&guest, &changes));
    let total: u64 = summary.groups.values().map(|group| group.put + group.removed).sum();
    assert_eq!(total, changes.len() as u64);
    let data = &summary.groups["user-data"];
    assert!(data.top.iter().any(|top| top.path == path("/home/alice")), "{data:?}");
    assert!(summary.groups["shred"].bytes >= 10);
}

#[track_caller]
fn check(guest: &Guest, changes: &[Change], expected: &[&str]) {
    let all = run(guest, changes);
    let words: Vec<String> = all.iter().map(|one| word(&one.destination)).collect();
    assert_eq!(words, expected);
}

fn with_image(paths: &[(&str, NodeKind)]) -> Guest {
    let mut guest = Guest::default();
    for (at, kind) in paths {
        guest.below.insert(path(at), image(*kind));
        let digests = (Some(Digest::of(b"old")), Some(Digest::of(b"new")));
        guest.digests.insert(path(at), digests);
    }
    guest
}

use NodeKind::{Directory as DIR, File as FILE, Symlink as LINK};

#[test]
fn removals() {
    let guest = with_image(&[("/etc/a", FILE), ("/srv/a", FILE), ("/usr/bin/a", FILE)]);
    let removed = ["/etc/a", "/srv/a", "/srv/b", "/usr/bin/a", "/var/log/x"];
    let changes: Vec<Change> = removed.iter().map(|at| remove(at, FILE)).collect();
    check(&guest, &changes, &["drop", "whiteout user-data", "forget", "drop", "forget"]);
}

#[test]
fn removal_by_an_upgraded_package_is_kept() {
    let mut guest = with_image(&[("/usr/lib/x.so.1", FILE)]);
    let package = PackageRef { name: "libx".into(), user: true };
    guest.owners.insert(path("/usr/lib/x.so.1"), package);
    check(&guest, &[remove("/usr/lib/x.so.1", FILE)], &["whiteout user-apps(libx)"]);
}

#[test]
fn a_removal_takes_back_what_private_layers_said() {
    let mut guest = with_image(&[("/etc/a", FILE)]);
    guest.existing.insert(path("/etc/a"), Kind::UserData);
    check(&guest, &[remove("/etc/a", FILE)], &["forget"]);
}

#[test]
fn image_files_under_etc_keep_edits_only() {
    let files = [("/etc/a", FILE), ("/etc/b", FILE), ("/etc/c", FILE), ("/etc/d", FILE)];
    let mut guest = with_image(&files);
    guest.digests.insert(path("/etc/b"), (Some(Digest::of(b"x")), Some(Digest::of(b"x"))));
    let mut changes = vec![put("/etc/a", FILE, "", true), put("/etc/b", FILE, "", true)];
    changes.extend([put("/etc/c", FILE, "", true), put("/etc/d", LINK, "x", true)]);
    if let Change::Put { node, meta_only, .. } = &mut changes[2] {
        (node.attrs.mode, *meta_only) = (0o777, true);
    }
    check(&guest, &changes, &["user-data edit", "drop", "drop", "user-data edit"]);
    let all = run(&guest, &changes);
    assert_eq!(all[1].reason, Reason::SameAsBelow);
    assert_eq!(all[2].reason, Reason::EditsOnly);
}

#[test]
fn edited_conffiles_outside_etc_are_edits() {
    let mut guest = with_image(&[("/usr/lib/x.conf", FILE), ("/usr/lib/y.conf", FILE)]);
    guest.conffiles.push(path("/usr/lib/x.conf"));
    let changes = [put("/usr/lib/x.conf", FILE, "", true), put("/usr/lib/y.conf", FILE, "", true)];
    check(&guest, &changes, &["user-data edit", "drop"]);
}

#[test]
fn upgraded_packages_take_image_files_along() {
    let mut guest = with_image(&[("/usr/bin/a", FILE), ("/usr/bin/b", FILE)]);
    let package = |user| PackageRef { name: "p".into(), user };
    guest.owners.insert(path("/usr/bin/a"), package(true));
    guest.owners.insert(path("/usr/bin/b"), package(false));
    let changes = [put("/usr/bin/a", FILE, "", true), put("/usr/bin/b", FILE, "", true)];
    check(&guest, &changes, &["user-apps(p)", "drop"]);
    let off = classify(&changes, &debian(), &guest, Options { user_apps: false });
    assert_eq!(off[0].destination, Destination::Drop);
    assert_eq!(off[0].reason, Reason::UserAppsOff);
}

#[test]
fn directories_of_what_is_kept_are_kept_as_long() {
    let guest = Guest::default();
    let changes = [
        put("/home/a/.cache", DIR, "", false),
        put("/home/a/.cache/x", DIR, "", false),
        put("/media/disk", DIR, "", false),
        put("/media/disk/file", FILE, "", false),
        put("/media/empty", DIR, "", false),
        put("/opt/x", DIR, "", false),
        put("/opt/x/bin", FILE, "", false),
    ];
    let expected =
        ["user-data", "local", "user-data skeleton", "user-data", "drop", "user-apps", "user-apps"];
    check(&guest, &changes, &expected);
}

#[test]
fn a_file_that_becomes_a_directory_and_back() {
    let guest = with_image(&[("/usr/lib/a", FILE), ("/srv/d", DIR), ("/srv/d/x", FILE)]);
    let changes = [
        put("/srv/d", FILE, "", true),
        remove("/srv/d/x", FILE),
        put("/usr/lib/a", DIR, "", true),
        put("/usr/lib/a/new", FILE, "", false),
    ];
    check(&guest, &changes, &["user-data", "drop", "user-apps skeleton", "user-apps"]);
}

#[test]
fn identity_and_seeds() {
    let guest = with_image(&[("/etc/machine-id", FILE), ("/etc/hostname", FILE)]);
    let changes = [
        put("/etc/hostname", FILE, "", true),
        put("/etc/machine-id", FILE, "", true),
        put("/etc/ssh/ssh_host_rsa_key", FILE, "", false),
        put("/var/lib/cloud/instance", LINK, "x", false),
        put("/var/lib/systemd/random-seed", FILE, "", false),
        put("/var/log/journal/x", DIR, "", false),
        put("/var/crash/core", FILE, "", false),
        put("/lost+found", DIR, "", false),
    ];
    let expected =
        ["identity", "identity", "identity secret", "identity", "drop", "local", "shred", "ignore"];
    check(&guest, &changes, &expected);
}

#[test]
fn the_site_overrides_the_factory_and_explains_it() {
    let site = "[[rule]]\npath = '/etc/nanorc'\nto = 'drop'\nwhy = 'ours'\n";
    let files = [RuleFile::debian().expect("rules"), RuleFile::site("site", site).expect("rules")];
    let rules = RuleSet::compile(&files, &[]).expect("patterns");
    let (guest, changes) = session();
    let all = classify(&changes, &rules, &guest, Options::default());
    let place = changes.iter().position(|c| c.path() == &path("/etc/nanorc")).expect("there");
    assert_eq!(all[place].destination, Destination::Drop);
    let why = rules.explain(&path("/etc/nanorc"), &facts_of(&changes[place], &guest));
    let decided = why.decided.expect("a rule");
    assert_eq!((decided.file.as_str(), decided.line), ("site", 1));
    assert!(why.overridden[0].text.contains("edits-only"), "{:?}", why.overridden[0]);
}

#[test]
fn times_alone_are_no_change() {
    let guest = with_image(&[("/srv", DIR), ("/srv/a", FILE)]);
    let mut changes = [put("/srv", DIR, "", true), put("/srv/a", FILE, "", true)];
    for change in &mut changes {
        if let Change::Put { node, meta_only, .. } = change {
            node.attrs.mtime = Timestamp { secs: 1, nanos: 0 };
            *meta_only = true;
        }
    }
    check(&guest, &changes, &["drop", "drop"]);
}
