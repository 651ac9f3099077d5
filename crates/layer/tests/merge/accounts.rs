use goldleaf_layer::merge::accounts::{Names, acl_to_ids, acl_to_names};
use goldleaf_layer::merge::{FileSet, NoteKind};
use goldleaf_layer::{Kind, Owner};
use goldleaf_tree::Xattr;
use proptest::prelude::*;

use crate::{apply, check_round_trip, diff, files, notes, text};

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

fn stack(passwd: &str, group: &str) -> FileSet {
    files(&[
        (PASSWD, &format!("root:x:0:0:root:/root:/bin/bash\n{passwd}")),
        (GROUP, &format!("root:x:0:\naudio:x:29:pulse\nshadow:x:42:\n{group}")),
    ])
}

/// Applies what a session made of `below` to `now`; checks the added lines of passwd and group.
fn check(below: &FileSet, after: &FileSet, now: &FileSet, passwd: &str, group: &str) {
    check_round_trip("accounts", below, after);
    let merged = apply("accounts", now, &diff("accounts", below, after)).onto(now);
    assert_eq!(text(&merged, PASSWD), text(&stack(passwd, ""), PASSWD));
    assert_eq!(text(&merged, GROUP), text(&stack("", group), GROUP));
}

#[test]
fn a_system_account_moves_when_its_number_is_taken() {
    check(
        &stack("", ""),
        &stack("redis:x:101:102::/var/lib/redis:/bin/false\n", "redis:x:102:\n"),
        &stack("avahi:x:101:104::/:/bin/false\n", "ssl-cert:x:102:\navahi:x:104:\n"),
        "avahi:x:101:104::/:/bin/false\nredis:x:999:999::/var/lib/redis:/bin/false\n",
        "ssl-cert:x:102:\navahi:x:104:\nredis:x:999:\n",
    );
}

#[test]
fn a_system_account_keeps_a_number_that_is_free() {
    check(
        &stack("", ""),
        &stack("redis:x:101:102::/:/bin/false\n", "redis:x:102:\n"),
        &stack("sshd:x:100:65534::/:/bin/false\n", ""),
        "sshd:x:100:65534::/:/bin/false\nredis:x:101:102::/:/bin/false\n",
        "redis:x:102:\n",
    );
}

#[test]
fn a_person_never_moves_and_a_clash_is_reported() {
    let below = stack("", "");
    let after = stack("alice:x:1000:1000::/home/alice:/bin/sh\n", "alice:x:1000:\n");
    let now = stack("bob:x:1000:1000::/home/bob:/bin/sh\n", "bob:x:1000:\n");
    let applied = apply("accounts", &now, &diff("accounts", &below, &after));
    assert_eq!(notes(&applied, NoteKind::Clash), ["alice", "alice"]);
    assert!(text(&applied.files, PASSWD).ends_with("alice:x:1000:1000::/home/alice:/bin/sh\n"));
}

#[test]
fn memberships_are_sets() {
    let member = |list| format!("docker:x:998:{list}\n");
    let below = stack("a:x:1000:42:::\nb:x:1001:42:::\n", &member("ghost,a"));
    let after = stack("a:x:1000:42:::\nb:x:1001:42:::\n", &member("ghost,b"));
    let now = stack("a:x:1000:42:::\nb:x:1001:42:::\nc:x:1002:42:::\n", &member("c,a"));
    let people = "a:x:1000:42:::\nb:x:1001:42:::\nc:x:1002:42:::\n";
    check(&below, &after, &now, people, &member("c,b"));
}

#[test]
fn a_membership_waits_for_its_group() {
    let below = stack("alice:x:1000:42:::\n", "docker:x:998:\n");
    let after = stack("alice:x:1000:42:::\n", "docker:x:998:alice\n");
    let now = stack("alice:x:1000:42:::\n", "");
    let records = diff("accounts", &below, &after);
    let applied = apply("accounts", &now, &records);
    assert_eq!(applied.dormant, records);
    assert!(apply("accounts", &below, &applied.dormant).dormant.is_empty());
}

#[test]
fn owners_of_records() {
    let below = stack("daemon:x:1:1::/:/bin/false\n", "");
    let after = files(&[
        (
            PASSWD,
            "root:x:0:0:root:/root:/bin/zsh\ndaemon:x:1:1::/:/bin/false\n\
             redis:x:101:102::/:/bin/false\nalice:x:1000:1000::/home/alice:/bin/sh\n",
        ),
        (
            GROUP,
            "root:x:0:\naudio:x:29:pulse,alice\nshadow:x:42:redis\nredis:x:102:\nalice:x:1000:\n",
        ),
        ("/etc/shadow", "root:hash:1::::::\nalice:hash:1::::::\nredis:!:1::::::\n"),
        ("/etc/subuid", "alice:100000:65536\n"),
    ]);
    let records = diff("accounts", &below, &after);
    let said: Vec<(&str, Kind, Option<&str>)> =
        records.iter().map(|r| (r.key.as_str(), r.layer, r.package.as_deref())).collect();
    let package = Some("redis-server");
    assert_eq!(
        said,
        [
            ("group:alice", Kind::UserData, None),
            ("group:redis", Kind::UserApps, package),
            ("member:audio:alice", Kind::UserData, None),
            ("member:shadow:redis", Kind::UserApps, package),
            ("shadow:alice", Kind::UserData, None),
            ("shadow:redis", Kind::UserApps, package),
            ("shadow:root", Kind::UserData, None),
            ("subuid:alice", Kind::UserData, None),
            ("user:alice", Kind::UserData, None),
            ("user:redis", Kind::UserApps, package),
            ("user:root:shell", Kind::UserData, None),
        ]
    );
    check_round_trip("accounts", &below, &after);
}

#[test]
fn a_changed_password_survives_a_new_image() {
    let shadow = |root: &str| files(&[(PASSWD, "root:x:0:0:::\n"), ("/etc/shadow", root)]);
    let records = diff("accounts", &shadow("root:!:1::::::\n"), &shadow("root:mine:2::::::\n"));
    let now = shadow("root:*:3::::::\n");
    let applied = apply("accounts", &now, &records);
    assert_eq!(text(&applied.files, "/etc/shadow"), "root:mine:2::::::\n");
    assert_eq!(notes(&applied, NoteKind::Conflict), ["shadow:root"]);
}

#[test]
fn lines_that_are_no_entry_keep_their_place() {
    let below = stack("# ours\n+@netgroup::::::\n+::::::\n", "");
    let after = stack("a:x:1000:42:::\n# ours\n+@netgroup::::::\n+::::::\n", "");
    let merged = check_round_trip("accounts", &below, &after);
    assert!(text(&merged, PASSWD).ends_with("# ours\na:x:1000:42:::\n+@netgroup::::::\n+::::::\n"));
}

#[test]
fn subordinate_ranges_move_and_owners_follow() {
    let people = "a:x:1000:42:::\nb:x:1001:42:::\n";
    let with = |ranges: &str| {
        let mut set = stack(people, "");
        set.extend(files(&[("/etc/subuid", ranges)]));
        set
    };
    let after = with("a:100000:65536\n");
    let owner = Names::parse(&after).owner_of_uid(100_042);
    assert_eq!(owner, Owner::SubId { name: "a".to_owned(), index: 42 });
    let now = with("b:100000:65536\n");
    let merged = apply("accounts", &now, &diff("accounts", &with(""), &after)).onto(&now);
    assert_eq!(text(&merged, "/etc/subuid"), "b:100000:65536\na:165536:65536\n");
    assert_eq!(Names::parse(&merged).uid_of(&owner), Some(165_578));
}

#[test]
fn two_apps_layers_recorded_apart_both_live() {
    let image = stack("", "");
    let one = stack("one:x:101:102::/:/bin/false\n", "one:x:102:\n");
    let two = stack("two:x:101:102::/:/bin/false\n", "two:x:102:\n");
    let first = apply("accounts", &image, &diff("accounts", &image, &one)).onto(&image);
    let both = apply("accounts", &first, &diff("accounts", &image, &two)).onto(&first);
    let names = Names::parse(&both);
    let uid = |name: &str| names.uid_of(&Owner::Name(name.to_owned()));
    assert_eq!((uid("one"), uid("two")), (Some(101), Some(999)));
}

#[test]
fn acls_follow_names_and_tell_users_from_groups() {
    let acl = |ids: [(u16, u32); 4]| {
        let entry =
            |(tag, id): (u16, u32)| [&tag.to_le_bytes()[..], &[7, 0], &id.to_le_bytes()].concat();
        let value = [&2u32.to_le_bytes()[..], &ids.map(entry).concat()].concat();
        Xattr { name: b"system.posix_acl_access".to_vec(), value }
    };
    let names = |user: u32, group: u32| {
        Names::parse(&stack(&format!("u:x:{user}:42:::\n"), &format!("g:x:{group}:\n")))
    };
    let none = u32::MAX;
    let mut xattrs = vec![acl([(1, none), (2, 101), (8, 101), (0x20, none)])];
    let owners = acl_to_names(&mut xattrs, &names(101, 101)).expect("an ACL");
    let name = |name: &str| Owner::Name(name.to_owned());
    assert_eq!(owners, [(0, name("u")), (1, name("g"))]);
    let mut back = xattrs.clone();
    assert_eq!(acl_to_ids(&mut back, &owners, &names(999, 998)).expect("an ACL"), []);
    assert_eq!(back, [acl([(1, none), (2, 999), (8, 998), (0x20, none)])]);
    let unknown = acl_to_ids(&mut xattrs, &owners, &Names::default()).expect("an ACL");
    assert_eq!(unknown, [name("g"), name("u")]);
}

#[test]
fn a_damaged_acl_is_an_error() {
    for value in [&b""[..], b"\x02\0\0", b"\x01\0\0\0", b"\x02\0\0\0\x01"] {
        let name = b"system.posix_acl_default".to_vec();
        let mut xattrs = vec![Xattr { name, value: value.to_vec() }];
        assert!(acl_to_names(&mut xattrs, &Names::default()).is_err(), "{value:?}");
    }
}

/// Stacks with distinct numbers: a few accounts of a small set of names, in groups.
fn any_stack() -> impl Strategy<Value = FileSet> {
    let account = (0u32..3, "[ab]{0,1}", prop::collection::btree_set(0usize..8, 0..4));
    prop::collection::btree_map(0usize..8, account, 0..8).prop_map(|accounts| {
        let (mut passwd, mut group) = (String::new(), String::new());
        let (mut shadow, mut gshadow, mut subuid) = (String::new(), String::new(), String::new());
        for (n, (shift, text, members)) in &accounts {
            let id = if n % 2 == 0 { 100 } else { 1000 } + 10 * n + *shift as usize;
            let list: Vec<String> = members.iter().map(|m| format!("n{m}")).collect();
            let list = list.join(",");
            passwd.push_str(&format!("n{n}:x:{id}:{id}:{text}:/home/{text}:/bin/sh\n"));
            group.push_str(&format!("n{n}:x:{id}:{list}\n"));
            shadow.push_str(&format!("n{n}:{text}:1::::::\n"));
            gshadow.push_str(&format!("n{n}:!:{text}:{list}\n"));
            subuid.push_str(&format!("n{n}:{}:65536\n", 100_000 * (n + 1)));
        }
        files(&[
            (PASSWD, &passwd),
            (GROUP, &group),
            ("/etc/shadow", &shadow),
            ("/etc/gshadow", &gshadow),
            ("/etc/subuid", &subuid),
        ])
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn sessions_come_back(below in any_stack(), after in any_stack()) {
        let result = check_round_trip("accounts", &below, &after);
        for (path, state) in &after {
            let sorted = |bytes: &[u8]| {
                let mut lines: Vec<Vec<u8>> = bytes.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
                lines.iter_mut().for_each(|line| line.sort_unstable());
                lines.sort();
                lines
            };
            let got = result.get(path).map_or(&[][..], |state| &state.bytes);
            prop_assert_eq!(sorted(got), sorted(&state.bytes));
        }
    }

    /// On any third stack: no two names of system accounts share a number, and what waits can be
    /// written later.
    #[test]
    fn no_two_accounts_share_a_number(
        below in any_stack(), after in any_stack(), now in any_stack(),
    ) {
        let records = diff("accounts", &below, &after);
        let applied = apply("accounts", &now, &records);
        let mut seen = std::collections::BTreeMap::new();
        for line in text(&applied.onto(&now), PASSWD).lines() {
            let fields: Vec<&str> = line.split(':').collect();
            let id: u32 = fields[2].parse().expect("a number");
            let other = seen.insert(id, fields[0].to_owned());
            prop_assert!(id >= 1000 || other.is_none(), "{:?} and {}", other, line);
        }
        for record in &applied.dormant {
            prop_assert!(records.contains(record));
        }
    }
}
