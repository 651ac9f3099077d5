use std::cmp::Ordering;
use std::process::Command;

use goldleaf_layer::Kind;
use goldleaf_layer::merge::dpkg::{
    compare_versions, not_at_rest, package_of_info_file, packages, parse_list, superseded,
    user_packages,
};
use goldleaf_layer::merge::{FileSet, NoteKind};
use proptest::prelude::*;

use crate::{apply, check_round_trip, diff, files, notes, path, text};

const STATUS: &str = "/var/lib/dpkg/status";

fn package(name: &str, version: &str, more: &str) -> String {
    format!(
        "Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: {version}\n\
         {more}\n"
    )
}

fn status(list: &[(&str, &str, &str)]) -> FileSet {
    let stanzas = list.iter().map(|(name, version, more)| package(name, version, more));
    files(&[(STATUS, &stanzas.collect::<String>())])
}

/// What a session made of `below`, on `now`: `name version` of each package, and the notes.
fn check(
    [below, after, now]: [&[(&str, &str, &str)]; 3],
    merged: &[&str],
    noted: (NoteKind, &[&str]),
) {
    let (below, after, now) = (status(below), status(after), status(now));
    check_round_trip("dpkg", &below, &after);
    let applied = apply("dpkg", &now, &diff("dpkg", &below, &after));
    let list = packages(&applied.onto(&now)).into_iter();
    let list: Vec<String> =
        list.map(|(it, state)| format!("{} {}", it.name, state.version)).collect();
    assert_eq!(list, merged);
    assert_eq!(notes(&applied, noted.0), noted.1);
}

const NOTHING: (NoteKind, &[&str]) = (NoteKind::Conflict, &[]);

#[test]
fn the_merge_table_of_packages() {
    let a = |version| [("a", version, "")];
    // Only the user's.
    check([&[], &a("1"), &[("b", "1", "")]], &["a 1", "b 1"], NOTHING);
    // Only the image's.
    check([&a("1"), &a("1"), &a("2")], &["a 2"], NOTHING);
    // Both, the image's higher or equal.
    check([&a("1"), &a("2"), &a("3")], &["a 3"], (NoteKind::Superseded, &["a:amd64"]));
    check([&[], &a("2"), &a("2")], &["a 2"], (NoteKind::Superseded, &["a:amd64"]));
    // Both, the user's higher.
    check([&a("1"), &a("3"), &a("2")], &["a 3"], (NoteKind::Conflict, &["status:a:amd64"]));
    // Removed by the user, changed by the image.
    check([&a("1"), &[], &a("2")], &["a 2"], (NoteKind::KeptAside, &["status:a:amd64"]));
    // Removed by the user.
    check([&a("1"), &[], &[("a", "1", ""), ("b", "1", "")]], &["b 1"], NOTHING);
    // Upgraded by the user, dropped by the image.
    check([&a("1"), &a("2"), &[]], &["a 2"], (NoteKind::Conflict, &["status:a:amd64"]));
}

#[test]
fn what_a_merge_breaks_is_noted() {
    let broken = |names: &'static [&str]| (NoteKind::Broken, names);
    let lib = |version| ("lib", version, "");
    let needs = ("app", "1", "Depends: lib (>= 2), x | virtual:any\nPre-Depends: lib\n");
    let virt = ("v", "1", "Provides: virtual, lib-abi (= 3)\nMulti-Arch: allowed\n");
    check(
        [&[lib("2"), virt], &[needs, lib("2"), virt], &[lib("2"), virt]],
        &["app 1", "lib 2", "v 1"],
        broken(&[]),
    );
    check(
        [&[lib("2"), virt], &[needs, lib("2"), virt], &[lib("1"), virt]],
        &["app 1", "lib 1", "v 1"],
        broken(&["app:amd64"]),
    );
    check(
        [&[lib("2"), virt], &[needs, lib("2"), virt], &[lib("2")]],
        &["app 1", "lib 2"],
        broken(&["app:amd64"]),
    );
    let breaks = ("lib", "3", "Breaks: app (<< 2)\n");
    check(
        [&[lib("2"), virt], &[needs, lib("2"), virt], &[breaks, virt]],
        &["app 1", "lib 3", "v 1"],
        broken(&["lib:amd64"]),
    );
    let abi = ("app", "1", "Depends: lib-abi (>= 3)\n");
    check([&[virt], &[abi, virt], &[virt]], &["app 1", "v 1"], broken(&[]));
    let selfish = ("app", "1", "Provides: mta\nConflicts: mta\n");
    check([&[], &[selfish], &[]], &["app 1"], broken(&[]));
    check(
        [&[], &[selfish], &[("w", "1", "Provides: mta\n")]],
        &["app 1", "w 1"],
        broken(&["app:amd64"]),
    );
}

#[test]
fn stanzas_stand_in_the_order_of_dpkg() {
    let below = status(&[("libc6", "1", ""), ("libc6-dev", "1", ""), ("zlib", "1", "")]);
    let after = status(&[
        ("libc6", "1", ""),
        ("libc6-dbg", "1", ""),
        ("libc6-dev", "1", ""),
        ("zlib", "1", ""),
    ]);
    assert_eq!(check_round_trip("dpkg", &below, &after), after);
}

#[test]
fn sets_of_packages() {
    let (below, after) = (status(&[("a", "1", "")]), status(&[("a", "1", ""), ("b", "2", "")]));
    let own: Vec<String> = user_packages(&below, &after).keys().map(ToString::to_string).collect();
    assert_eq!(own, ["b:amd64"]);
    let records = diff("dpkg", &below, &after);
    assert_eq!(
        (records[0].layer, records[0].package.as_deref()),
        (Kind::UserApps, Some("b:amd64"))
    );
    assert_eq!(superseded(&status(&[("b", "1", "")]), &records).len(), 0);
    assert_eq!(superseded(&status(&[("b", "10", "")]), &records).len(), 1);
    assert_eq!(package_of_info_file(b"libc6:amd64.list").as_deref(), Some("libc6:amd64"));
    assert_eq!(package_of_info_file(b"apt.postinst").as_deref(), Some("apt"));
    assert_eq!(package_of_info_file(b"format"), None);
    assert_eq!(
        parse_list(b"/.\n/usr\n/usr/bin/a b\nx\n/a/../b\n"),
        [path("/usr"), path("/usr/bin/a b")]
    );
}

#[test]
fn unfinished_work_is_seen() {
    let set = files(&[
        (STATUS, "Package: a\nStatus: install ok half-configured\nArchitecture: all\n\n"),
        ("/var/lib/dpkg/updates/0001", "x"),
        ("/var/lib/dpkg/triggers/Unincorp", "t p\n"),
    ]);
    let subjects: Vec<String> = not_at_rest(&set).into_iter().map(|note| note.subject).collect();
    assert_eq!(
        subjects,
        ["a:all", "/var/lib/dpkg/triggers/Unincorp", "/var/lib/dpkg/updates/0001"]
    );
    assert_eq!(not_at_rest(&status(&[("a", "1", "")])), []);
}

#[test]
fn record_sets_merge_by_path() {
    let cases = [
        (
            "statoverride",
            "a a 1 /x\n",
            "a a 1 /x\nb b 2 /y z\n",
            "a a 7 /x\n",
            "a a 7 /x\nb b 2 /y z\n",
        ),
        ("diversions", "/a\n/a.d\np\n", "/a\n/a.d\np\n/b\n/b.d\n:\n", "", "/b\n/b.d\n:\n"),
        (
            "triggers/File",
            "/a x/noawait\n",
            "/a x/noawait\n/a y\n",
            "/a x/noawait\n",
            "/a x/noawait\n/a y\n",
        ),
    ];
    for (name, below, after, now, merged) in cases {
        let at = format!("/var/lib/dpkg/{name}");
        let set = |text: &str| files(&[(&at, text)]);
        check_round_trip("dpkg", &set(below), &set(after));
        let applied = apply("dpkg", &set(now), &diff("dpkg", &set(below), &set(after)));
        assert_eq!(text(&applied.onto(&set(now)), &at), merged, "{name}");
    }
}

const NANO: &str = "/bin/nano\n40\n/usr/share/man/man1/nano.1.gz\n";

/// The alternative `editor`: mode, slaves, candidates, and its links.
fn editor(mode: &str, slaves: &str, candidates: &str, link: &str) -> FileSet {
    let file = format!("{mode}\n/usr/bin/editor\n{slaves}\n{candidates}\n");
    files(&[("/var/lib/dpkg/alternatives/editor", &file), ("/etc/alternatives/editor", link)])
}

#[test]
fn alternatives_unite_candidates_and_slaves() {
    let man = "editor.1.gz\n/usr/share/man/man1/editor.1.gz\n";
    let both = "editor.1.gz\n/usr/share/man/man1/editor.1.gz\neditor.da.1.gz\n/m/da/editor.1.gz\n";
    let vim = "/usr/bin/vim\n50\n/m/vim.1.gz\n/m/da/vim.1.gz\n";
    let nano_no_da = format!("{NANO}\n");
    let ed = "/bin/ed\n-100\n/m/ed.1.gz\n";
    let below = editor("auto", man, NANO, "->/bin/nano");
    let after = editor("auto", both, &format!("{nano_no_da}{vim}"), "->/usr/bin/vim");
    let now = editor("auto", man, &format!("{ed}{NANO}"), "->/bin/nano");
    check_round_trip("dpkg", &below, &after);
    let merged = apply("dpkg", &now, &diff("dpkg", &below, &after)).onto(&now);
    let expected = editor("auto", both, &format!("{ed}\n{nano_no_da}{vim}"), "->/usr/bin/vim");
    let at = "/var/lib/dpkg/alternatives/editor";
    assert_eq!(text(&merged, at), text(&expected, at));
    for (name, target) in [
        ("editor", "/usr/bin/vim"),
        ("editor.1.gz", "/m/vim.1.gz"),
        ("editor.da.1.gz", "/m/da/vim.1.gz"),
    ] {
        let link = &merged[&path(&format!("/etc/alternatives/{name}"))];
        assert!(link.is_link());
        assert_eq!(link.bytes, target.as_bytes());
    }
}

#[test]
fn a_choice_by_hand_is_the_users_and_waits_for_its_candidate() {
    let two = "/bin/ed\n-100\n/bin/nano\n40\n";
    let below = editor("auto", "", two, "->/bin/nano");
    let after = editor("manual", "", two, "->/bin/ed");
    let records = diff("dpkg", &below, &after);
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].layer, Kind::UserData);
    assert_eq!(check_round_trip("dpkg", &below, &after), after);
    let vim = editor("auto", "", "/bin/ed\n-100\n/bin/vim\n90\n", "->/bin/vim");
    let merged = apply("dpkg", &vim, &records).onto(&vim);
    assert_eq!(text(&merged, "/etc/alternatives/editor"), "/bin/ed");
    let gone = editor("auto", "", "/bin/nano\n40\n", "->/bin/nano");
    let applied = apply("dpkg", &gone, &records);
    assert_eq!((applied.dormant, applied.files.len()), (records, 0));
}

#[test]
fn an_alternative_goes_with_its_last_candidate() {
    let below = editor("auto", "", "/bin/nano\n40\n", "->/bin/nano");
    let result = check_round_trip("dpkg", &below, &FileSet::new());
    assert!(result.is_empty());
}

fn dpkg_compares(a: &str, operator: &str, b: &str) -> bool {
    let run = Command::new("dpkg").args(["--compare-versions", a, operator, b]).status();
    run.expect("dpkg runs").success()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn versions_compare_as_dpkg_does(
        a in "([0-2]:)?[0-9][0-9a-bA+.~]{0,6}(-[0-9a+.~]{1,4})?",
        b in "([0-2]:)?[0-9][0-9a-bA+.~]{0,6}(-[0-9a+.~]{1,4})?",
    ) {
        let operator = match compare_versions(&a, &b) {
            Ordering::Less => "lt",
            Ordering::Equal => "eq",
            Ordering::Greater => "gt",
        };
        prop_assert!(dpkg_compares(&a, operator, &b), "{} {} {}", a, operator, b);
    }

    #[test]
    fn sessions_come_back(
        below in prop::collection::btree_map("[a-d]-?[a-d]", "[1-3]", 0..6),
        after in prop::collection::btree_map("[a-d]-?[a-d]", "[1-3]", 0..6),
    ) {
        let set = |map: &std::collections::BTreeMap<String, String>| {
            let list: Vec<(&str, &str, &str)> = map.iter().map(|(k, v)| (k.as_str(), v.as_str(), "")).collect();
            status(&list)
        };
        prop_assert_eq!(check_round_trip("dpkg", &set(&below), &set(&after)), set(&after));
    }
}
