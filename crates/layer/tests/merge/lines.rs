use goldleaf_layer::Kind;
use goldleaf_layer::merge::FileSet;
use proptest::prelude::*;

use crate::{apply, check_round_trip, diff, files, text};

fn check(at: &str, below: &str, after: &str, now: &str, merged: &str) {
    let set = |text: &str| files(&[(at, text)]);
    check_round_trip("lines", &set(below), &set(after));
    let records = diff("lines", &set(below), &set(after));
    let result = apply("lines", &set(now), &records).onto(&set(now));
    assert_eq!(text(&result, at), merged, "{at}");
}

#[test]
fn each_file_by_its_key() {
    check(
        "/etc/shells",
        "# c\n/bin/sh\n",
        "# c\n/bin/sh\n/bin/zsh\n",
        "# d\n/bin/sh\n/bin/ksh\n",
        "# d\n/bin/sh\n/bin/ksh\n/bin/zsh\n",
    );
    check("/etc/shells", "/a\n/b\n", "/b\n", "/a\n/b\n/c\n", "/b\n/c\n");
    check(
        "/var/lib/ucf/hashfile",
        "1  /etc/a\n",
        "2  /etc/a\n3  /etc/b\n",
        "9  /etc/a\n",
        "9  /etc/a\n3  /etc/b\n",
    );
    check(
        "/var/cache/debconf/config.dat",
        "Name: a\nValue: 1\n\n",
        "Name: a\nValue: 2\n\n",
        "Name: a\nValue: 3\n\nName: b\n\n",
        "Name: a\nValue: 2\n\nName: b\n\n",
    );
    check(
        "/var/cache/debconf/templates.dat",
        "Name: a\nX: 1\n\n",
        "Name: a\nX: 2\n\nName: c\n\n",
        "Name: a\nX: 3\n\nName: d\n\n",
        "Name: a\nX: 3\n\nName: c\n\nName: d\n\n",
    );
}

#[test]
fn passwords_are_identity_and_answers_are_the_users() {
    let set = |value: &str| -> FileSet {
        let stanza = format!("Name: p/q\nOwners: pkg, other\nValue: {value}\n\n");
        files(&[
            ("/var/cache/debconf/passwords.dat", &stanza),
            ("/var/cache/debconf/config.dat", &stanza),
        ])
    };
    let records = diff("lines", &set("1"), &set("2"));
    let layers: Vec<(&str, Kind)> = records.iter().map(|r| (r.key.as_str(), r.layer)).collect();
    let expected = [("debconf-password:p/q", Kind::Identity), ("debconf:p/q", Kind::UserData)];
    assert_eq!(layers, expected);
    assert!(records.iter().all(|record| record.package.as_deref() == Some("pkg")));
}

#[test]
fn state_of_units_comes_and_goes_with_its_lines() {
    let at = "/var/lib/systemd/deb-systemd-helper-enabled/a.service.dsh-also";
    let (none, some) = (FileSet::new(), files(&[(at, "/etc/systemd/system/x.wants/a.service\n")]));
    assert_eq!(check_round_trip("lines", &none, &some), some);
    assert_eq!(check_round_trip("lines", &some, &none), none);
}

proptest! {
    #[test]
    fn sessions_come_back(
        below in prop::collection::btree_map("[a-e]", "[x-z]", 0..5),
        after in prop::collection::btree_map("[a-e]", "[x-z]", 0..5),
    ) {
        let set = |map: &std::collections::BTreeMap<String, String>| {
            let stanzas = map.iter().map(|(k, v)| format!("Name: {k}\nValue: {v}\n\n"));
            let lines = map.iter().map(|(k, v)| format!("{v} /{k}\n"));
            files(&[
                ("/var/cache/debconf/config.dat", &stanzas.collect::<String>()),
                ("/var/lib/ucf/hashfile", &lines.collect::<String>()),
            ])
        };
        let result = check_round_trip("lines", &set(&below), &set(&after));
        let at = "/var/cache/debconf/config.dat";
        prop_assert_eq!(text(&result, at), text(&set(&after), at));
    }
}
