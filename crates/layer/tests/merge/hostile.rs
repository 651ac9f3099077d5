//! A guest can write anything into these files: errors are fine, panics and blow-ups are bugs.

use std::time::{Duration, Instant};

use goldleaf_layer::merge::accounts::Names;
use goldleaf_layer::merge::{ApplyContext, DiffContext, FileSet, FileState, handlers};
use goldleaf_tree::GuestPath;
use proptest::prelude::*;

use crate::path;

const PATHS: [&str; 20] = [
    "/etc/passwd",
    "/etc/group",
    "/etc/shadow",
    "/etc/gshadow",
    "/etc/subuid",
    "/etc/subgid",
    "/var/lib/dpkg/status",
    "/var/lib/apt/extended_states",
    "/var/lib/dpkg/statoverride",
    "/var/lib/dpkg/diversions",
    "/var/lib/dpkg/triggers/File",
    "/var/lib/dpkg/triggers/Unincorp",
    "/var/lib/dpkg/alternatives/a",
    "/etc/alternatives/a",
    "/etc/shells",
    "/var/lib/ucf/hashfile",
    "/var/lib/ucf/registry",
    "/var/cache/debconf/config.dat",
    "/var/lib/systemd/deb-systemd-helper-enabled/a.dsh-also",
    "/var/lib/dpkg/updates/1",
];

/// Bytes that look like the formats now and then.
fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"\n".to_vec()),
        Just(b":".to_vec()),
        Just(b"a:x:0:0:::\n".to_vec()),
        Just(b"a:1:4294967295\n".to_vec()),
        Just(b"a:x:4294967296:\n".to_vec()),
        Just(b"g:x:1000:a,,b,\n".to_vec()),
        Just(b"g:!:a:b\n".to_vec()),
        Just(b"Package: p\nArchitecture: all\nStatus: install ok installed\n".to_vec()),
        Just(b"Depends: p (>= , | :any (\nVersion: 1:~-\n".to_vec()),
        Just(b"Name: q\n\n".to_vec()),
        Just(b"auto\n/l\ns\n/sl\n\n/c\n1\n/p\n".to_vec()),
        Just(b"manual\n/l\n\n/c\n-2147483649\n".to_vec()),
        prop::collection::vec(any::<u8>(), 0..12),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

fn any_files() -> impl Strategy<Value = FileSet> {
    prop::collection::vec(any_bytes(), PATHS.len()).prop_map(|contents| {
        let state = |bytes| FileState::file(bytes, 0o644);
        PATHS.iter().zip(contents).map(|(at, bytes)| (path(at), state(bytes))).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_bytes_are_merged(below in any_files(), after in any_files(), now in any_files()) {
        for handler in handlers() {
            let records = handler.diff(&below, &after, &DiffContext::default()).expect("records");
            prop_assert!(records.iter().all(|r| !r.key.contains(char::is_control)));
            let applied = handler.apply(&now, &records, &ApplyContext::default()).expect("a merge");
            let mut reversed = records.clone();
            reversed.reverse();
            let again = handler.apply(&now, &reversed, &ApplyContext::default()).expect("a merge");
            prop_assert_eq!(&applied.files, &again.files, "whatever the order of the records");
            let names = Names::parse(&applied.onto(&now));
            for id in [0, 1, 100_000, u32::MAX] {
                names.gid_of(&names.owner_of_uid(id));
            }
        }
    }

    /// A layer may be damaged too: records with any key and value.
    #[test]
    fn any_records_are_applied(
        now in any_files(),
        mut records in prop::collection::vec((any_key(), prop::option::of(any_bytes())), 0..20),
    ) {
        for handler in handlers() {
            let made: Vec<_> = records.drain(..).map(|(key, value)| goldleaf_layer::merge::Record {
                handler: handler.name().to_owned(),
                key,
                layer: goldleaf_layer::Kind::UserData,
                package: None,
                ancestor: None,
                value,
            }).collect();
            let applied = handler.apply(&now, &made, &ApplyContext::default()).expect("a merge");
            let owned = |at: &GuestPath| handler.owns(at);
            prop_assert!(applied.files.keys().all(owned), "writes only what it owns");
            records = made.into_iter().map(|record| (record.key, record.value)).collect();
        }
    }
}

fn any_key() -> impl Strategy<Value = String> {
    let tag = prop::sample::select(vec![
        "user",
        "group",
        "shadow",
        "gshadow",
        "member",
        "gadmin",
        "subuid",
        "status",
        "extended",
        "diversion",
        "alternative",
        "shells",
        "debconf",
        "/etc/passwd",
        "/../x.dsh-also",
    ]);
    (tag, "[a:/.\n,]{0,6}", any::<String>()).prop_map(|(tag, a, b)| format!("{tag}:{a}{b}"))
}

/// Sizes that a quadratic step would show.
#[test]
fn large_files_take_linear_time() {
    let count = 50_000;
    let lines = |line: &dyn Fn(usize) -> String| (0..count).map(line).collect::<String>();
    let cases: [(&str, String); 5] = [
        ("/etc/passwd", lines(&|n| format!("n{n}:x:{n}:100:::\n"))),
        ("/etc/group", format!("g:x:7:{}\n", lines(&|n| format!("n{n},")))),
        ("/etc/subuid", lines(&|n| format!("n{n}:{n}:5\n"))),
        (
            "/var/lib/dpkg/status",
            lines(&|n| {
                format!(
                    "Package: p\nArchitecture: a{n}\nStatus: a b installed\nDepends: p:x, q\n\n"
                )
            }),
        ),
        (
            "/var/lib/dpkg/alternatives/a",
            format!("auto\n/l\n\n{}\n", lines(&|n| format!("/{n}\n{n}\n"))),
        ),
    ];
    for (at, text) in cases {
        let start = Instant::now();
        let after: FileSet = [(path(at), FileState::file(text, 0o644))].into();
        let below: FileSet = [(path(at), FileState::file("x:x:1:\n", 0o644))].into();
        for handler in handlers() {
            let records = handler.diff(&below, &after, &DiffContext::default()).expect("records");
            handler.apply(&below, &records, &ApplyContext::default()).expect("a merge");
        }
        assert!(start.elapsed() < Duration::from_secs(40), "{at}: {:?}", start.elapsed());
    }
}
