//! A real Debian in three states: image v1, the user's session on it, image v2. The judges are
//! dpkg, apt, pwck and grpck.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use goldleaf_layer::Owner;
use goldleaf_layer::merge::accounts::Names;
use goldleaf_layer::merge::dpkg::{packages, user_packages};
use goldleaf_layer::merge::{Applied, FileSet, FileState, NoteKind, handler_of, handlers};
use tempfile::TempDir;

use crate::{apply, check_round_trip, diff, notes, path, text};

const FIXTURE: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/debian-3way-state.tar.xz");

fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().unwrap_or_else(|e| panic!("{program}: {e}"))
}

fn succeeds(program: &str, arguments: &[&str]) -> String {
    let output = run(program, arguments);
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    said
}

fn load(root: &Path, directory: &Path, files: &mut FileSet) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let at = entry.expect("an entry").path();
        if at.is_dir() {
            load(root, &at, files);
            continue;
        }
        let name = at.strip_prefix(root).expect("below the root").to_str().expect("text");
        let bytes = fs::read(&at).expect("a file");
        if handler_of(&path(name)).is_some() {
            files.insert(path(name), FileState::file(bytes, 0o644));
        }
    }
}

/// The states v1, user, v2.
fn states() -> [FileSet; 3] {
    let scratch = TempDir::new().expect("scratch");
    succeeds("tar", &["-xJf", FIXTURE, "-C", scratch.path().to_str().expect("text")]);
    ["v1", "user", "v2"].map(|state| {
        let (root, mut files) = (scratch.path().join(state), FileSet::new());
        load(&root, &root, &mut files);
        files
    })
}

/// All handlers: what the session made of `below`, on `now`.
fn merge(below: &FileSet, after: &FileSet, now: &FileSet) -> (FileSet, Vec<Applied>) {
    let mut merged = now.clone();
    let mut all = Vec::new();
    for handler in handlers() {
        let applied = apply(handler.name(), now, &diff(handler.name(), below, after));
        merged = applied.onto(&merged);
        all.push(applied);
    }
    (merged, all)
}

fn store(files: &FileSet, root: &Path) {
    for (path, state) in files {
        let at = root.join(path.to_string().trim_start_matches('/'));
        fs::create_dir_all(at.parent().expect("a parent")).expect("a directory");
        if state.is_link() {
            continue;
        }
        fs::write(at, &state.bytes).expect("a file");
    }
}

#[test]
fn the_session_comes_back_on_its_own_image() {
    let [v1, user, _] = states();
    for handler in handlers() {
        let result = check_round_trip(handler.name(), &v1, &user);
        assert!(diff(handler.name(), &result, &user).is_empty());
    }
    let (merged, _) = merge(&v1, &user, &v1);
    for at in ["passwd", "group", "shadow", "gshadow"].map(|name| format!("/etc/{name}")) {
        assert_eq!(text(&merged, &at), text(&user, &at), "{at}");
    }
    for at in ["status", "statoverride", "alternatives/editor"] {
        let at = format!("/var/lib/dpkg/{at}");
        assert_eq!(text(&merged, &at), text(&user, &at), "{at}");
    }
}

#[test]
fn accounts_do_not_collide() {
    let [v1, user, v2] = states();
    let (merged, applied) = merge(&v1, &user, &v2);
    let (old, new) = (Names::parse(&user), Names::parse(&merged));
    let name = |name: &str| Owner::Name(name.to_owned());
    assert_eq!(old.owner_of_uid(101), name("redis"));
    assert_eq!(new.owner_of_uid(101), name("avahi"));
    assert_eq!(new.uid_of(&name("mosquitto")), Some(999));
    assert_eq!(new.uid_of(&name("systemd-network")), Some(998));
    assert_eq!(new.uid_of(&name("redis")), Some(997));
    assert_eq!(new.gid_of(&name("ssl-cert")), Some(102));
    assert_eq!(new.uid_of(&name("alice")), Some(1000));
    let moved = ["mosquitto", "redis", "mosquitto", "redis"];
    assert_eq!(notes(&applied[0], NoteKind::Renumbered), moved);
    assert_eq!(applied.iter().map(|applied| applied.dormant.len()).sum::<usize>(), 0);
}

#[test]
fn pwck_and_grpck_accept_the_result() {
    let [v1, user, v2] = states();
    let (merged, _) = merge(&v1, &user, &v2);
    let scratch = TempDir::new().expect("scratch");
    let root = scratch.path();
    store(&merged, root);
    let at = |name: &str| root.join("etc").join(name).to_str().expect("text").to_owned();
    // Homes and shells are looked up on the machine that runs this: those warnings say nothing.
    let output = run("pwck", &["-r", &at("passwd"), &at("shadow")]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let bad = |line: &&str| !line.contains("does not exist") && !line.contains("no changes");
    assert_eq!(said.lines().filter(bad).collect::<Vec<_>>(), Vec::<&str>::new());
    // Members are looked up there too; the three states have none.
    assert_eq!(succeeds("grpck", &["-r", &at("group"), &at("gshadow")]), "");
}

#[test]
fn dpkg_and_apt_accept_the_result() {
    let [v1, user, v2] = states();
    let (merged, applied) = merge(&v1, &user, &v2);
    assert_eq!(notes(&applied[1], NoteKind::Broken), Vec::<String>::new());
    let scratch = TempDir::new().expect("scratch");
    let root = scratch.path();
    store(&merged, root);
    let admin = root.join("var/lib/dpkg");
    for directory in ["info", "updates", "triggers"] {
        fs::create_dir_all(admin.join(directory)).expect("a directory");
    }
    for name in packages(&merged).keys() {
        for file in [name.name.clone(), name.to_string()] {
            for kind in ["list", "md5sums"] {
                fs::write(admin.join("info").join(format!("{file}.{kind}")), "").expect("a file");
            }
        }
    }
    fs::write(admin.join("info/format"), "1\n").expect("a file");
    let admin = admin.to_str().expect("text");
    let audit = succeeds("dpkg", &["--admindir", admin, "--audit"]);
    assert_eq!(audit, "");
    let status = format!("Dir::State::status={admin}/status");
    let state = format!("Dir::State={}", root.join("var/lib/apt").display());
    let lists = format!("Dir::State::lists={}", root.join("lists").display());
    let cache = format!("Dir::Cache={}", root.join("cache").display());
    fs::create_dir_all(root.join("cache")).expect("a directory");
    let options = ["-o", &status, "-o", &state, "-o", &lists, "-o", &cache];
    let arguments = [&options[..], &["-o", "Debug::NoLocking=1", "check"]].concat();
    succeeds("apt-get", &arguments);
}

#[test]
fn packages_of_the_user_are_known() {
    let [v1, user, v2] = states();
    let own: Vec<String> = user_packages(&v1, &user).keys().map(|it| it.name.clone()).collect();
    for name in ["redis-server", "mosquitto", "vim-tiny"] {
        assert!(own.contains(&name.to_owned()), "{name} in {own:?}");
    }
    let (merged, _) = merge(&v1, &user, &v2);
    let (all, image) = (packages(&merged), packages(&v2));
    assert_eq!(
        all.len(),
        image
            .keys()
            .chain(user_packages(&v1, &user).keys())
            .collect::<std::collections::BTreeSet<_>>()
            .len()
    );
    assert_eq!(
        text(&merged, "/var/lib/dpkg/statoverride"),
        "root ssl-cert 710 /etc/ssl/private\n\
         root messagebus 4754 /usr/lib/dbus-1.0/dbus-daemon-launch-helper\n\
         redis redis 640 /etc/redis/redis.conf\n"
    );
}

#[test]
fn alternatives_are_read_by_update_alternatives() {
    let [v1, user, v2] = states();
    let (merged, _) = merge(&v1, &user, &v2);
    let scratch = TempDir::new().expect("scratch");
    store(&merged, scratch.path());
    // A candidate that is not there would be passed over.
    for candidate in ["bin/ed", "bin/nano", "usr/bin/vim.tiny"] {
        let at = scratch.path().join(candidate);
        fs::create_dir_all(at.parent().expect("a parent")).expect("a directory");
        fs::write(at, "").expect("a file");
    }
    let arguments = ["--root", scratch.path().to_str().expect("text"), "--query", "editor"];
    let said = succeeds("update-alternatives", &arguments);
    let candidates: Vec<&str> =
        said.lines().filter_map(|line| line.strip_prefix("Alternative: ")).collect();
    assert_eq!(candidates, ["/bin/ed", "/bin/nano", "/usr/bin/vim.tiny"]);
    assert!(said.contains("editor.da.1.gz /usr/share/man/da/man1/vim.1.gz"), "{said}");
}
