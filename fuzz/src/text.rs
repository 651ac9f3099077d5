//! Texts: rules, the shared files that merge handlers take apart, the loader's configuration and
//! libraries, what a guest mounts and what it calls itself.
//!
//! ```text
//!   rules:    the file
//!   merges:   files of below and after: number 1 │ length 2 │ bytes
//!   records:  files and records: number 1 │ (key: length 2 │ bytes │ rest 1) │ length 2 │ bytes
//!   loader:   conf: length 2 │ bytes; then libraries: length 2 │ bytes
//!   guest:    os-release: length 2 │ bytes; then fstab
//! ```

use goldleaf_layer::merge::accounts::Names;
use goldleaf_layer::merge::derived::ld_cache;
use goldleaf_layer::merge::dpkg::{
    compare_versions, not_at_rest, package_of_info_file, packages, parse_list, user_packages,
};
use goldleaf_layer::merge::{
    Applied, ApplyContext, DiffContext, FileSet, FileState, Record, handlers,
};
use goldleaf_layer::rules::{KindClass, OwnerClass, PathFacts, RuleFile, RuleSet, State};
use goldleaf_layer::{Digest, Kind};
use goldleaf_tree::{GuestPath, is_obeyed};
use goldleaf_worker::{DeviceName, Mount, parse_fstab, pretty_name};

use crate::input::{Input, le32};
use crate::tree::LibraryTree;

fn path(text: &str) -> GuestPath {
    GuestPath::parse(text).expect("a path")
}

/// Rules of a site. What is accepted compiles, and explains what it decides.
pub fn rules(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let file = match RuleFile::site("site", &text) {
        Ok(file) => file,
        Err(error) => return drop(error.to_string()),
    };
    let homes = [path("/home/ada"), path("/root")];
    let Ok(set) = RuleSet::compile(&[RuleFile::debian().expect("the factory's"), file], &homes)
    else {
        return;
    };
    let owners = [OwnerClass::UserPackage, OwnerClass::Image, OwnerClass::Nobody];
    for at in ["/", "/etc/x", "/home/ada/.cache/y/z", "/var/lib/dpkg/status", "/opt/a b/\u{fc}"] {
        for owned_by in owners {
            for state in [State::New, State::Changed, State::Removed] {
                let facts = PathFacts { owned_by, state, kind: KindClass::File };
                let rule = set.evaluate(&path(at), &facts);
                let explained = set.explain(&path(at), &facts);
                assert_eq!(*set.target(rule, &facts), explained.target, "{at}: one decision");
            }
        }
    }
}

const ACCOUNTS: &[&str] =
    &["/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow", "/etc/subuid", "/etc/subgid"];
const PACKAGES: &[&str] = &[
    "/var/lib/dpkg/status",
    "/var/lib/apt/extended_states",
    "/var/lib/dpkg/diversions",
    "/var/lib/dpkg/statoverride",
    "/var/lib/dpkg/triggers/File",
    "/var/lib/dpkg/triggers/Unincorp",
    "/var/lib/dpkg/updates/0001",
    "/var/lib/dpkg/alternatives/editor",
];
const LINES: &[&str] = &[
    "/etc/shells",
    "/var/lib/ucf/hashfile",
    "/var/lib/ucf/registry",
    "/var/cache/debconf/config.dat",
    "/var/cache/debconf/passwords.dat",
    "/var/cache/debconf/templates.dat",
    "/var/lib/systemd/deb-systemd-helper-enabled/x",
];

/// `/etc/passwd` and its kin.
pub fn merge_accounts(data: &[u8]) {
    let (below, after) = file_sets(data, ACCOUNTS);
    merge("accounts", &below, &after);
    let names = Names::parse(&after);
    for id in [0, 1, 100, 1000, 100_000, u32::MAX] {
        let owner = names.owner_of_uid(id);
        let known = names.uid_of(&owner);
        assert!(known.is_none_or(|known| known == id), "{id} is {owner:?}, which is {known:?}");
        let _ = names.gid_of(&names.owner_of_gid(id));
    }
}

/// dpkg's database.
pub fn merge_dpkg(data: &[u8]) {
    let (below, after) = file_sets(data, PACKAGES);
    merge("dpkg", &below, &after);
    let _ = (packages(&after), not_at_rest(&after), user_packages(&below, &after));
    for state in after.values() {
        let paths = parse_list(&state.bytes);
        assert!(paths.iter().all(|path| !path.is_root()));
    }
    let _ = package_of_info_file(data);
    let text = String::from_utf8_lossy(data);
    if let Some((one, other)) = text.split_once('\n') {
        let order = compare_versions(one, other);
        assert_eq!(order, compare_versions(other, one).reverse(), "an order is antisymmetric");
    }
}

/// Files of lines and of paragraphs.
pub fn merge_lines(data: &[u8]) {
    let (below, after) = file_sets(data, LINES);
    merge("lines", &below, &after);
}

fn file_sets(data: &[u8], paths: &[&str]) -> (FileSet, FileSet) {
    let mut input = Input(data);
    let (mut below, mut after) = (FileSet::new(), FileSet::new());
    while !input.is_empty() {
        let number = usize::from(input.byte());
        let set = if number & 1 == 0 { &mut below } else { &mut after };
        let at = path(paths[(number / 2) % paths.len()]);
        set.insert(at, FileState::file(input.piece(), 0o644));
    }
    (below, after)
}

/// Equal files give no records; records give the same files in any order, and no records give none.
fn merge(name: &str, below: &FileSet, after: &FileSet) {
    let handler = handlers().iter().find(|handler| handler.name() == name).expect("a handler");
    let (diff, apply) = (DiffContext::default(), ApplyContext::default());
    let none = handler.diff(below, below, &diff).expect("small files");
    assert!(none.is_empty(), "equal files differ: {none:?}");
    let nothing = handler.apply(below, &[], &apply).expect("no records");
    assert!(nothing.files.is_empty() && nothing.removed.is_empty(), "nothing changes nothing");
    let mut records = handler.diff(below, after, &diff).expect("small files");
    let applied = handler.apply(below, &records, &apply).expect("own records");
    let _ = handler.apply(after, &records, &apply).expect("records onto other files");
    records.reverse();
    let reversed = handler.apply(below, &records, &apply).expect("own records");
    assert_eq!(applied.files, reversed.files, "the order of records does not count");
    assert_eq!(applied.removed, reversed.removed, "the order of records does not count");
}

/// Records that somebody else's layer brings along: nothing but the handler's own files changes.
pub fn merge_records(data: &[u8]) {
    let mut input = Input(data);
    let handler = handlers()[usize::from(input.byte()) % handlers().len()];
    let (mut below, mut records) = (FileSet::new(), Vec::new());
    let paths: Vec<&str> = [ACCOUNTS, PACKAGES, LINES].concat();
    let mut values = vec![Vec::new()];
    while !input.is_empty() && records.len() < 64 {
        let number = input.byte();
        if number & 1 == 0 {
            let at = path(paths[usize::from(number / 2) % paths.len()]);
            if handler.owns(&at) {
                below.insert(at, FileState::file(input.piece(), 0o644));
            }
        } else {
            records.push(record(handler.name(), number, &mut input, &values));
            values.extend(records.last().and_then(|record| record.value.clone()));
        }
    }
    let context = ApplyContext::default();
    let Ok(applied) = handler.apply(&below, &records, &context) else { return };
    let Applied { files, removed, dormant, notes: _ } = &applied;
    assert!(files.keys().chain(removed).all(|path| handler.owns(path)), "only its own files");
    assert!(removed.iter().all(|path| below.contains_key(path)), "what is gone was there");
    assert!(dormant.iter().all(|record| records.contains(record)), "what waits was there");
    let after = applied.onto(&below);
    let _ = handler.diff(&below, &after, &DiffContext::default()).expect("small files");
    let _ = handler.apply(&after, &records, &context).expect("once more");
}

fn record(handler: &str, number: u8, input: &mut Input<'_>, values: &[Vec<u8>]) -> Record {
    let key = String::from_utf8_lossy(input.piece()).into_owned();
    let rest = usize::from(input.byte());
    let ancestor = (rest & 1 == 1).then(|| Digest::of(&values[rest / 8 % values.len()]));
    Record {
        handler: handler.into(),
        key,
        layer: if number & 2 == 0 { Kind::UserApps } else { Kind::Apps },
        package: (rest & 2 == 2).then(|| "p:amd64".into()),
        ancestor,
        value: (rest & 4 == 0).then(|| input.piece().to_vec()),
    }
}

/// What a guest mounts and what it calls itself. Mounts that are written again are the same ones.
pub fn guest(data: &[u8]) {
    let mut input = Input(data);
    if let Some(name) = pretty_name(&String::from_utf8_lossy(input.piece())) {
        assert!(!name.is_empty() && !name.chars().any(is_obeyed), "{name:?} can be shown");
    }
    let mounts = parse_fstab(&String::from_utf8_lossy(input.0));
    let written = fstab(&mounts);
    assert_eq!(parse_fstab(&written), mounts, "{written:?}");
}

/// The file with these mounts, each in its line.
fn fstab(mounts: &[Mount]) -> String {
    let mut text = String::new();
    let mut line = 1;
    for mount in mounts {
        (line..mount.line).for_each(|_| text.push('\n'));
        line = mount.line;
        text += &match &mount.device {
            DeviceName::Uuid(uuid) => format!("/dev/disk/by-uuid/{uuid}"),
            DeviceName::Label(label) => format!("/dev/disk/by-label/{label}"),
            DeviceName::PartUuid(uuid) => format!("/dev/disk/by-partuuid/{uuid}"),
            DeviceName::Partition(number) => format!("/dev/vda{number}"),
            DeviceName::Other(name) => format!("\"{name}\""),
        };
        text.push_str(" \\057");
        mount.point.as_bytes().iter().for_each(|byte| text += &format!("\\{byte:03o}"));
        text += &format!(" {} defaults", mount.kind);
    }
    text
}

/// `/etc/ld.so.conf`, and what may be a library.
pub fn loader(data: &[u8]) {
    let mut input = Input(data);
    let conf = input.piece().to_vec();
    let mut libraries = Vec::new();
    while !input.is_empty() && libraries.len() < 8 {
        libraries.push(input.piece().to_vec());
    }
    let tree = LibraryTree { conf, libraries };
    let _ = ld_cache::Inputs::of(&tree);
    let Ok(Some(cache)) = ld_cache::build(&tree) else { return };
    assert!(cache.starts_with(b"glibc-ld.so.cache1.1"));
    let entries = le32(&cache, 20) as usize;
    for entry in cache[48..].chunks(24).take(entries) {
        for field in [4, 8] {
            let at = le32(entry, field) as usize;
            assert!(at < cache.len() && cache[at..].contains(&0), "names lie in the file");
        }
    }
    assert_eq!(ld_cache::build(&tree).expect("once more"), Some(cache), "it is deterministic");
}
