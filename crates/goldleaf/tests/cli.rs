//! The real program on bad input and on an empty home: one clear sentence, the exit code of the
//! kind, and nothing half-made. No guest is started.

mod ground;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ground::{Bench, CONFIG, ENVIRONMENT, INTERNAL, MIB, PART_LEN, PART_START, USER};
use serde_json::Value;

/// Writes bytes into the partition of a disk.
fn poke(disk: &Path, at: u64, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;
    let file = fs::File::options().write(true).open(disk).expect("the disk");
    file.write_all_at(bytes, PART_START + at).expect("writable");
}

const COMMANDS: &[&str] = &[
    "image import",
    "image create",
    "image edit",
    "image grow",
    "image list",
    "image delete",
    "layer record",
    "layer list",
    "layer delete",
    "livepc create",
    "livepc list",
    "livepc delete",
    "desktop create",
    "desktop delete",
    "key",
    "catalog add",
    "catalog remove",
    "catalog show",
    "publish",
    "feed show",
    "subscribe",
    "unsubscribe",
    "update",
    "agent start",
    "agent stop",
    "agent status",
    "agent set",
    "agent install",
    "agent run",
    "enrol",
    "server",
    "admin begin",
    "admin login",
    "admin logout",
    "admin whoami",
    "admin token create",
    "admin token list",
    "admin token revoke",
    "admin group create",
    "admin group list",
    "admin group delete",
    "admin code",
    "admin endpoint list",
    "admin endpoint show",
    "admin endpoint approve",
    "admin endpoint quarantine",
    "admin endpoint retire",
    "admin endpoint move",
    "admin action update",
    "admin action rejuvenate",
    "admin action rollback",
    "admin action list",
    "admin livepc put",
    "admin livepc list",
    "admin livepc delete",
    "admin livepc assign",
    "admin livepc unassign",
    "admin trust",
    "admin audit list",
    "admin audit check",
    "export",
    "serve-static",
    "pin",
    "unpin",
    "start",
    "stop",
    "status",
    "list",
    "changes",
    "history",
    "rollback",
    "reset",
    "rejuvenate",
    "apps",
    "apps x remove",
    "gc",
    "cache",
    "rules explain",
    "rules check",
    "rules list",
    "check",
    "repair",
    "doctor",
    "completions",
    "man",
];

#[test]
fn every_command_has_help() {
    let bench = Bench::new();
    for command in COMMANDS {
        let mut args: Vec<&str> = command.split(' ').collect();
        args.push("--help");
        let text = bench.text(&args);
        assert!(text.contains("Usage: goldleaf"), "{command}: {text}");
        for line in text.lines() {
            assert!(line.chars().count() <= 100, "{command}: {line}");
        }
        let missing = text.lines().filter(|line| line.trim_start().starts_with("--"));
        let missing: Vec<&str> = missing.filter(|line| line.ends_with(['>', ']'])).collect();
        let described = |line: &&str| text.contains(&format!("{line}\n          "));
        assert!(missing.iter().all(described), "{command}: {missing:?}");
    }
    assert!(!bench.home().exists(), "help touches nothing");
}

#[test]
fn lists_of_nothing() {
    let bench = Bench::new();
    for (args, word) in [
        (&["image", "list"][..], "images"),
        (&["layer", "list"], "layers"),
        (&["livepc", "list"], "LivePCs"),
        (&["list"], "desktops"),
        (&["status"], "desktops"),
    ] {
        assert_eq!(bench.json(args), serde_json::json!([]), "{args:?}");
        assert_eq!(bench.text(args), format!("there are no {word}\n"));
    }
    let collected = bench.json(&["gc", "--dry-run"]);
    assert_eq!(collected["removed_packs"], 0, "{collected}");
}

#[test]
fn a_limit_of_what_arrives_is_kept_until_it_is_lifted() {
    let bench = Bench::new();
    for (limit, expected) in
        [("40G", Some(40u64 << 30)), ("none", None), ("512MiB", Some(512 << 20)), ("0", None)]
    {
        let expected =
            serde_json::json!({ "limit_bytes": expected, "bytes": 0, "subscriptions": [] });
        assert_eq!(bench.json(&["cache", "--limit", limit]), expected);
        assert_eq!(bench.json(&["cache"]), expected);
    }
    assert_eq!(bench.text(&["cache"]), "nothing is subscribed to\n0 B in all, without a limit\n");
    let shown = bench.text(&["cache", "--limit", "1T"]);
    assert_eq!(shown, "nothing is subscribed to\n0 B in all, of 1.0 TiB at most\n");
}

#[test]
fn unknown_names_and_missing_files() {
    let bench = Bench::new();
    for args in [
        &["image", "delete", "nobody"][..],
        &["layer", "delete", "nobody"],
        &["livepc", "delete", "nobody"],
        &["livepc", "create", "new", "--image", "nobody"],
        &["desktop", "create", "new", "--livepc", "nobody"],
        &["desktop", "delete", "nobody", "--yes"],
        &["start", "nobody", "--headless"],
        &["stop", "nobody"],
        &["status", "nobody"],
        &["changes", "nobody"],
        &["history", "nobody"],
        &["rollback", "nobody", "--layer", "os", "--to", "1"],
        &["reset", "nobody", "--path", "/etc"],
        &["rejuvenate", "nobody"],
        &["apps", "nobody"],
        &["apps", "nobody", "remove", "hello"],
        &["image", "edit", "nobody", "--headless"],
        &["layer", "record", "new", "--on", "nobody", "--headless"],
        &["rules", "explain", "/etc", "--livepc", "nobody"],
    ] {
        let refusal = bench.refused(args, USER);
        assert!(refusal.error.contains("`nobody`"), "{args:?}: {}", refusal.error);
        assert!(refusal.hint.contains("list"), "{args:?}: {}", refusal.hint);
    }
    for below in ["images", "livepcs", "desktops", "layers"] {
        assert_eq!(bench.stored(below), Vec::<PathBuf>::new(), "{below}");
    }
    let missing = bench.path("missing.raw");
    let refusal = bench.import_refused(&missing);
    assert!(refusal.error.ends_with("missing.raw is not a file"), "{}", refusal.error);
    let missing = bench.path("missing.toml");
    let refusal = bench.refused(&["rules", "check", missing.to_str().expect("text")], ENVIRONMENT);
    assert!(refusal.error.contains("missing.toml: No such file"), "{}", refusal.error);
}

#[test]
fn command_lines_that_make_no_sense() {
    let bench = Bench::new();
    for args in [
        &["frobnicate"][..],
        &["image", "import"],
        &["image", "create", "--debian", "potato", "--name", "x"],
        &["image", "create", "--debian", "trixie", "--name", "x", "--size", "big"],
        &["start", "x", "--forward", "80"],
        &["changes", "x", "--kept", "--dropped"],
    ] {
        bench.refused(args, USER);
    }
    for name in ["", "a/b", "..", "-x", "ä"] {
        let refusal = bench.refused(&["status", "--", name], USER);
        assert!(refusal.error.contains("is not a name"), "{}", refusal.error);
    }
    let output = bench.run(&["worker"]);
    assert_eq!(output.status.code(), Some(USER));
}

#[test]
fn a_home_that_cannot_be() {
    let bench = Bench::new();
    let file = bench.file("file", "");
    let file = file.to_str().expect("text");
    let refusal = bench.refused(&["list", "--home", file], ENVIRONMENT);
    assert!(refusal.error.contains(file), "{}", refusal.error);
}

#[test]
fn foreign_disks_are_named() {
    for (at, signature, name) in [
        (0, &b"LUKS\xba\xbe"[..], "LUKS"),
        (0, b"XFSB", "XFS"),
        (0x10040, b"_BHRfS_M", "btrfs"),
        (512 + 24, b"LVM2 001", "LVM2"),
    ] {
        let bench = Bench::new();
        let disk = bench.disk("disk.raw");
        poke(&disk, at, signature);
        let refusal = bench.import_refused(&disk);
        assert!(refusal.error.contains(name), "{name}: {}", refusal.error);
        assert!(refusal.error.contains("partition 1"), "{name}: {}", refusal.error);
    }
}

#[test]
fn file_systems_that_cannot_be_composed_are_named() {
    for (options, name) in [
        (&["-O", "bigalloc"][..], "bigalloc"),
        (&["-O", "quota"], "quota"),
        (&["-O", "fast_commit"], "fast_commit"),
    ] {
        let bench = Bench::new();
        let refusal = bench.import_refused(&bench.debian("disk.raw", options));
        assert!(refusal.error.contains(name), "{name}: {}", refusal.error);
    }
}

#[test]
fn a_dirty_disk_is_told_to_be_shut_down() {
    let bench = Bench::new();
    let disk = bench.debian("disk.raw", &["-O", "^metadata_csum"]);
    // The state word of the superblock, without the bit for "unmounted in order".
    poke(&disk, 1024 + 0x3a, &[0, 0]);
    let refusal = bench.import_refused(&disk);
    assert!(refusal.error.contains("not clean"), "{}", refusal.error);
    assert!(refusal.hint.contains("shut down"), "{}", refusal.hint);
}

#[test]
fn disks_that_are_none() {
    let bench = Bench::new();
    // Half a disk: its table says more than there is.
    let disk = bench.debian("half.raw", &[]);
    let file = fs::File::options().write(true).open(&disk).expect("the disk");
    file.set_len(PART_START + PART_LEN / 2).expect("shorter");
    bench.import_refused(&disk);

    let noise: Vec<u8> = (0..MIB).map(|n| (n * n % 251) as u8).collect();
    fs::write(bench.path("noise.qcow2"), &noise).expect("a file");
    let refusal = bench.import_refused(&bench.path("noise.qcow2"));
    assert!(refusal.error.contains("qcow2"), "{}", refusal.error);
    fs::write(bench.path("noise.raw"), &noise).expect("a file");
    bench.import_refused(&bench.path("noise.raw"));
    fs::write(bench.path("empty.raw"), b"").expect("a file");
    bench.import_refused(&bench.path("empty.raw"));
    let refusal = bench.import_refused(&bench.file("disk.iso", "x"));
    assert!(refusal.error.contains("iso"), "{}", refusal.error);
}

#[test]
fn rules_files_with_errors_say_where() {
    let bench = Bench::new();
    let good = bench.file("good.toml", "[[rule]]\npath = \"/opt/x/**\"\nto = \"local\"\n");
    let told = bench.json(&["rules", "check", good.to_str().expect("text")]);
    assert_eq!(told["rules"], 1, "{told}");
    for (text, place, said) in [
        ("[[rule]]\npath = \"/a\"\nto = \"nowhere\"\n", ":3:6", "expected"),
        ("[[rule]]\npath = \"/a\"\nto = \n", ":3:", ""),
        ("[[rule]]\npath = \"/home/**\"\nto = \"drop\"\n", ":2:", "broad"),
        ("[[rule]]\npath = \"/a\"\nto = \"local\"\nmode = 1\n", ":4:1", "expected"),
    ] {
        let file = bench.file("bad.toml", text);
        let file = file.to_str().expect("text");
        let refusal = bench.refused(&["rules", "check", file], CONFIG);
        assert!(refusal.error.contains(&format!("bad.toml{place}")), "{}", refusal.error);
        assert!(refusal.error.contains(said), "{}", refusal.error);
        bench.refused(&["livepc", "create", "x", "--image", "y", "--rules", file], CONFIG);
    }
    assert_eq!(bench.stored("livepcs"), Vec::<PathBuf>::new());
}

#[test]
fn rules_are_explained() {
    let bench = Bench::new();
    let told = bench.json(&["rules", "explain", "/home/ann/.cache/x"]);
    assert_eq!(told["target"], "local", "{told}");
    assert!(told["decided"]["line"].is_u64(), "{told}");
    let text = bench.text(&["rules", "explain", "/home/ann/.cache/x"]);
    assert!(text.starts_with("/home/ann/.cache/x goes to local\nbecause of factory:"), "{text}");
    let all = bench.json(&["rules", "list"]);
    assert!(all.as_array().is_some_and(|rules| rules.len() > 20));
}

#[test]
fn from_a_disk_to_a_desktop_and_back() {
    let bench = Bench::new();
    bench.golden();
    let images = bench.json(&["image", "list"]);
    assert_eq!(images[0]["name"], "golden");
    assert_eq!(images[0]["versions"][0]["os"], "Test Debian");
    let disk = bench.path("good.raw");
    let again = ["image", "import", disk.to_str().expect("text"), "--name", "golden"];
    let refusal = bench.refused(&again, USER);
    assert!(refusal.error.contains("already"), "{}", refusal.error);

    let made = bench.json(&["livepc", "create", "office", "--image", "golden", "--memory", "512"]);
    assert_eq!((&made["livepc"]["memory_mib"], &made["desktop"]), (&512.into(), &"office".into()));
    let taken = bench.refused(&["livepc", "create", "office", "--image", "golden"], USER);
    assert!(taken.error.contains("already"), "{}", taken.error);
    bench.refused(&["desktop", "create", "office", "--livepc", "office"], USER);

    let used = bench.refused(&["image", "delete", "golden"], USER);
    assert!(used.error.contains("`office`"), "{}", used.error);
    bench.refused(&["image", "delete", "golden", "--dry-run"], USER);
    let used = bench.refused(&["livepc", "delete", "office"], USER);
    assert!(used.error.contains("desktop `office`"), "{}", used.error);
    upkeep_at_rest(&bench);
    damage_is_named(&bench);

    bench.refused(&["desktop", "delete", "office"], USER);
    bench.text(&["desktop", "delete", "office", "--dry-run"]);
    assert_eq!(bench.json(&["list"])[0]["state"], "off");
    bench.text(&["desktop", "delete", "office", "--yes"]);
    assert_eq!(bench.json(&["list"]), serde_json::json!([]));
    bench.text(&["livepc", "delete", "office"]);
    let deletion = bench.json(&["image", "delete", "golden", "--dry-run"]);
    assert_eq!(bench.json(&["image", "delete", "golden"]), deletion);
    assert_eq!(bench.stored("images"), Vec::<PathBuf>::new());
}

#[test]
fn secrets_in_an_image_are_found() {
    const SECRETS: [&str; 20] = [
        "etc/machine-id",
        "etc/ssh/ssh_host_rsa_key",
        "etc/ssh/ssh_host_ecdsa_key",
        "etc/ssh/ssh_host_ed25519_key",
        "etc/krb5.keytab",
        "etc/hostid",
        "etc/ssl/private/ssl-cert-snakeoil.key",
        "etc/wireguard/wg0.conf",
        "etc/NetworkManager/system-connections/office.nmconnection",
        "etc/wpa_supplicant/wpa_supplicant.conf",
        "etc/sssd/sssd.conf",
        "root/.ssh/id_ed25519",
        "var/cache/debconf/passwords.dat",
        "var/lib/samba/private/secrets.tdb",
        "var/lib/sss/secrets/secrets.ldb",
        "var/lib/NetworkManager/secret_key",
        "var/lib/systemd/random-seed",
        "var/lib/systemd/credential.secret",
        "var/lib/bluetooth/00:11/info",
        "var/lib/cloud/data/instance-id",
    ];
    const PACKAGE: &str = "Package: wpasupplicant\nStatus: install ok installed\n\
        Architecture: amd64\nVersion: 1\nConffiles:\n /etc/wpa_supplicant/functions.sh 01234567\n";
    let bench = Bench::new();
    let others = [
        ("etc/ssh/ssh_host_rsa_key.pub", "ssh-rsa AAAA"),
        ("etc/ssh/ssh_host_dsa_key", ""),
        ("var/lib/dbus/machine-id", "uninitialized\n"),
        ("etc/wpa_supplicant/functions.sh", "a conffile"),
        ("etc/ssh/sshd_config", "Port 22\n"),
    ];
    let planted = SECRETS.iter().map(|path| (*path, "d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0\n"));
    for (path, text) in planted.chain(others).chain([("var/lib/dpkg/status", PACKAGE)]) {
        let path = bench.path("tree").join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, text).expect("a file");
    }
    let disk = bench.debian("secrets.raw", &[]);
    let disk = disk.to_str().expect("a path");
    let imported = bench.json(&["image", "import", disk, "--name", "golden"]);
    let mut found: Vec<String> =
        serde_json::from_value(imported["identity"].clone()).expect("paths");
    found.sort();
    let mut expected = SECRETS.map(|path| format!("/{path}"));
    expected.sort();
    assert_eq!(found, expected);
    // Desktops get machine-id and host keys of their own, and no seeds.
    let remarks = imported["remarks"].to_string();
    assert!(remarks.contains("would share /etc/NetworkManager/system-connections/"), "{remarks}");
    assert!(remarks.contains("and 13 more secrets"), "{remarks}");
}

#[test]
fn layers_that_do_not_fit_say_what_is_missing_and_what_helps() {
    let bench = Bench::new();
    bench.golden();
    let tree = bench.path("layer/opt");
    fs::create_dir_all(&tree).expect("a directory");
    let content: Vec<u8> = (0..20 * MIB as u32).flat_map(u32::to_le_bytes).collect();
    fs::write(tree.join("huge"), content).expect("a file");
    let from = bench.path("layer");
    let from = from.to_str().expect("a path");
    bench.text(&["layer", "add", "huge", "--on", "golden", "--from", from]);
    bench.text(&["livepc", "create", "desk", "--image", "golden", "--layer", "huge"]);
    let start = ["start", "desk", "--headless", "--accel", "tcg"];
    let refusal = bench.refused(&start, USER);
    // 80 MiB, of which a volume of 62 MiB has less than 60 free.
    let lack = refusal.error.split("of / lacks ").nth(1).and_then(|rest| rest.split(' ').next());
    let lack: u64 = lack.and_then(|lack| lack.parse().ok()).expect(&refusal.error);
    assert!((22..40).contains(&lack), "{}", refusal.error);
    assert_eq!(bench.json(&["status", "desk"])["state"], "off");

    let cure = refusal.hint.split('`').nth(1).expect("a command").to_string();
    assert_eq!(cure, "goldleaf image grow golden --size 1G");
    let cure: Vec<&str> = cure.split(' ').skip(1).collect();
    let grown = bench.json(&cure);
    assert_eq!((&grown["version"], &grown["to"]), (&2.into(), &(1_u64 << 30).into()));
    let images = bench.json(&["image", "list"]);
    assert_eq!(images[0]["versions"].as_array().map(Vec::len), Some(2));
    let again = bench.refused(&cure, USER);
    assert!(again.error.contains("already"), "{}", again.error);
    let odd = ((1 << 30) + 1).to_string();
    let grown = bench.json(&["image", "grow", "golden", "--size", &odd]);
    assert_eq!((&grown["version"], &grown["to"]), (&3.into(), &((1_u64 << 30) + 4096).into()));
    assert!(bench.stored("workshop").iter().all(|path| path.extension() == Some("lock".as_ref())));
    bench.refused(&["image", "grow", "nothing", "--size", "2G"], USER);
}

/// What can be asked of a desktop that never ran.
fn upkeep_at_rest(bench: &Bench) {
    assert_eq!(bench.json(&["status", "office"])["state"], "off");
    assert_eq!(bench.json(&["changes", "office"]), Value::Null);
    assert_eq!(bench.json(&["apps", "office"]), serde_json::json!([]));
    assert_eq!(bench.json(&["stop", "office"])["was_running"], false);
    assert_eq!(bench.json(&["rejuvenate", "office", "--dry-run"])["local"], 0);
    assert_eq!(bench.json(&["reset", "office", "--path", "/etc", "/opt"]), serde_json::json!([]));
    let history = bench.json(&["history", "office"]);
    let layers: Vec<&Value> =
        history.as_array().expect("lines").iter().map(|l| &l["layer"]).collect();
    assert_eq!(layers, ["os", "identity"], "{history}");
    bench.refused(&["rollback", "office", "--layer", "identity", "--to", "1"], USER);
    bench.refused(&["rollback", "office", "--layer", "os", "--to", "7"], USER);
    bench.text(&["rollback", "office", "--layer", "os", "--to", "1", "--dry-run"]);
    let refusal = bench.refused(&["apps", "office", "remove", "hello"], USER);
    assert!(refusal.error.contains("hello"), "{}", refusal.error);
}

/// A check is clean, then names the one thing that is damaged, and writes nothing.
fn damage_is_named(bench: &Bench) {
    let report = bench.json(&["check"]);
    assert_eq!((&report["damage"], &report["image_versions"]), (&serde_json::json!([]), &1.into()));
    assert!(bench.text(&["check"]).contains("as they should be"));
    let data = bench.home().join("images/golden/0001.data");
    let whole = fs::read(&data).expect("data");
    let at = whole.iter().rposition(|&byte| byte != 0).expect("content");
    let place = at as u64 - PART_START;
    poke(&data, place, &[!whole[at]]);
    let output = bench.run(&["check"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(INTERNAL), "{text}");
    for named in ["image golden version 1", "LivePC office", "desktop office"] {
        assert!(text.contains(named), "{named}: {text}");
    }
    poke(&data, place, &[whole[at]]);
    assert_eq!(bench.json(&["check"]), report);
    damage_is_healed(bench, &data, place, !whole[at]);
}

/// The same damage is healed from a copy of the home, as planned and after being asked for only.
fn damage_is_healed(bench: &Bench, data: &Path, place: u64, wrong: u8) {
    let untouched = "nothing is damaged, and nothing was written\n";
    assert_eq!(bench.text(&["repair"]), untouched);
    let copy = bench.path("copy");
    let copied = Command::new("cp").arg("-a").args([&bench.home(), &copy]).status().expect("cp");
    assert!(copied.success());
    poke(data, place, &[wrong]);
    let from = copy.to_str().expect("text");
    let output = bench.run(&["repair", "--yes"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(INTERNAL), "{text}");
    assert!(text.contains("lost: image golden version 1"), "{text}");
    let plan = bench.json(&["repair", "--from", from, "--dry-run"]);
    let refusal = bench.refused(&["repair", "--from", from], USER);
    assert!(refusal.hint.contains("--yes"), "{}", refusal.hint);
    assert_eq!(bench.json(&["repair", "--from", from, "--yes"]), plan);
    assert_eq!(plan["images"][0]["files"][0]["copy"], "0001.data.1");
    assert_eq!(bench.json(&["check"])["damage"], serde_json::json!([]));
    assert_eq!(bench.text(&["repair"]), untouched);
    bench.refused(&["repair", "--from", "/nowhere"], ENVIRONMENT);
}

#[test]
fn completions_and_manual_pages() {
    let bench = Bench::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = bench.text(&["completions", shell]);
        assert!(script.contains("rejuvenate"), "{shell}");
    }
    let man = bench.path("man");
    let told = bench.json(&["man", man.to_str().expect("text")]);
    let pages: Vec<_> = fs::read_dir(&man).expect("pages").collect();
    assert_eq!(told["pages"], pages.len());
    let page = fs::read_to_string(man.join("goldleaf-image-import.1")).expect("a page");
    assert!(page.contains("shut down"), "{page}");
}

#[test]
fn the_doctor_looks_at_everything() {
    let bench = Bench::new();
    let findings = bench.json(&["doctor"]);
    let health = |name: &str| {
        let all = findings.as_array().expect("findings");
        let finding = all.iter().find(|finding| finding["name"] == name);
        finding.unwrap_or_else(|| panic!("no {name}: {findings}"))["health"].clone()
    };
    for name in ["QEMU", "qemu-img", "sandbox", "home"] {
        assert_eq!(health(name), "good", "{name}: {findings}");
    }
    assert_ne!(health("accelerator"), "missing");

    // Without its programs the machine is no host of guests, and each has its cure.
    let output = Command::new(env!("CARGO_BIN_EXE_goldleaf"))
        .args(["doctor", "--json", "--home"])
        .arg(bench.home())
        .env("PATH", "/nonexistent")
        .output()
        .expect("the program runs");
    assert_eq!(output.status.code(), Some(ENVIRONMENT));
    let findings: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let missing = findings.as_array().expect("findings").iter();
    let missing: Vec<_> = missing.filter(|finding| finding["health"] == "missing").collect();
    assert!(missing.len() >= 2, "{findings}");
    assert!(missing.iter().all(|finding| finding["cure"].is_string()), "{findings}");
}
