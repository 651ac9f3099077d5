//! The house style as a test: sizes, banned calls and their replacements, directions between
//! crates.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const FILE_LINES_MAX: usize = 1000;
const FUNCTION_LINES_MAX: usize = 70;
const COLUMNS_MAX: usize = 100;
/// Packages in Cargo.lock, ours included. Raise it when a dependency is worth it, and say why.
/// HTTP with TLS (`ureq`, `rustls`, `aws-lc-rs`) brought 30: 17 that are built here, and 13 that are
/// only named, for systems and features that are not ours (`ring`, `windows-sys`). Key files brought 6
/// (`pkcs8` and what it stands on). Buckets brought 12: requests that are signed, URLs, and the XML of
/// lists (`rusty-s3`, `url`, `instant-xml`); with tables of all the world's letters it were 31. The
/// control server brought 120, of which an endpoint's own part builds 14: HTTP with its routes
/// (`axum`, `hyper`, `tokio`), a database of two kinds (`sqlx`; its MySQL and its macros are named and
/// not built), certificates (`rcgen`, `x509-parser`), the API's description (`schemars`), metrics.
const LOCKED_MAX: usize = 325;

/// Calls that library crates may not make, what to use instead, and which crates may.
const BANNED: &[(&str, &str, &[&str])] = &[
    ("std::fs::", "goldleaf_host::Dir", OUTSIDE),
    ("use std::fs", "goldleaf_host::Dir", OUTSIDE),
    ("SystemTime::now", "goldleaf_host::Clock", &["host", "proof"]),
    ("Instant::now", "goldleaf_host::Clock", &["host", "e2e", "bench", "proof"]),
    ("thread::sleep", "goldleaf_host::Clock", &["host", "e2e", "bench", "proof"]),
    ("std::env::var", "an argument", &["goldleaf", "e2e", "bench", "proof"]),
    ("println!", "a return value", &["goldleaf", "e2e", "bench", "proof", "figures"]),
];

/// Crates whose work is with the host's own paths: programs, sockets, tools.
const OUTSIDE: &[&str] = &[
    "host", "jail", "vm", "image", "player", "worker", "nbd", "goldleaf", "e2e", "bench", "proof",
    "figures",
];

/// Edges that must not be, and why.
const FORBIDDEN_EDGES: &[(&str, &str, &str)] = &[
    ("goldleaf-ext4", "goldleaf-host", "a format reader does no input or output of its own"),
    ("goldleaf-ext4", "goldleaf-layer", "the reader does not know what layers are"),
    ("goldleaf-layer", "goldleaf-ext4", "layers work over any FileTree"),
    ("goldleaf-layer", "goldleaf-ext4-compose", "layers plan; the worker carries out"),
    ("goldleaf-player", "goldleaf-ext4", "guest bytes are parsed in the worker only"),
    ("goldleaf-player", "goldleaf-ext4-compose", "libext2fs runs in the worker only"),
    ("goldleaf-image", "goldleaf-ext4", "guest bytes are parsed in the worker only"),
    ("goldleaf-worker", "goldleaf-fetch", "who reads a guest's bytes has no network"),
    ("goldleaf-wire", "goldleaf-host", "a format does no input or output of its own"),
    ("goldleaf-cache", "goldleaf-fetch", "whoever brings content is a seam"),
    ("goldleaf-fetch", "goldleaf-trust", "a source is believed for nothing"),
    ("goldleaf-trust", "goldleaf-fetch", "trust does not depend on who carries it"),
    ("goldleaf-feed", "goldleaf-image", "a feed knows nothing of this machine"),
    ("goldleaf-tree", "goldleaf-block", "the vocabulary of files knows no disks"),
    ("goldleaf-block", "goldleaf-tree", "disks know no files"),
    ("goldleaf-nbd", "goldleaf-store", "the disk server serves any device"),
    ("goldleaf-vm", "goldleaf-block", "a hypervisor is given a socket, not a device"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("workspace").to_path_buf()
}

/// Every Rust file of the project with its crate's folder name.
fn sources() -> Vec<(String, PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join("crates")).expect("crates") {
        let dir = entry.expect("entry").path();
        let name = dir.file_name().expect("name").to_string_lossy().into_owned();
        collect(&dir, &name, &mut found);
    }
    assert!(found.len() > 20, "the walk finds the sources");
    found
}

fn collect(dir: &Path, name: &str, found: &mut Vec<(String, PathBuf, String)>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            collect(&path, name, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("readable");
            found.push((name.into(), path, text));
        }
    }
}

fn is_test(path: &Path) -> bool {
    let text = path.to_string_lossy();
    ["/tests/", "/examples/", "/benches/", "_tests.rs", "/tests.rs", "/bench.rs"]
        .iter()
        .any(|part| text.contains(part))
}

/// The part of a file before its unit tests.
fn product(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap_or(text)
}

fn report(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}\n{} problems", problems.join("\n"), problems.len());
}

#[test]
fn files_lines_and_words() {
    let mut problems = Vec::new();
    for (_, path, text) in sources() {
        let lines = text.lines().count();
        if lines > FILE_LINES_MAX {
            problems.push(format!("{}: {lines} lines", path.display()));
        }
        for (number, line) in (1..).zip(text.lines()) {
            // Rows of tables, drawings of layouts and texts in tests cannot be wrapped.
            let fixed = line.trim_start().starts_with("//!") || is_test(&path);
            if line.chars().count() > COLUMNS_MAX && !fixed {
                problems.push(format!("{}:{number}: longer than 100 columns", path.display()));
            }
            // Spelled in two halves, so that this file passes its own test.
            for word in [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")] {
                if line.contains(word) {
                    problems.push(format!("{}:{number}: {word}", path.display()));
                }
            }
        }
    }
    report(&problems);
}

#[test]
fn functions_can_be_held_in_the_head() {
    let mut problems = Vec::new();
    // A test that tells a story from boot to boot is one function.
    for (_, path, text) in sources().into_iter().filter(|(_, path, _)| !is_test(path)) {
        for (start, len, name) in functions(&text) {
            if len > FUNCTION_LINES_MAX {
                problems.push(format!("{}:{start}: {name} has {len} lines", path.display()));
            }
        }
    }
    report(&problems);
}

/// Functions of a rustfmt-formatted file: first line, number of lines, name. A function ends at the
/// first closing brace that stands where its `fn` line began.
fn functions(text: &str) -> Vec<(usize, usize, String)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let trimmed = line.trim_start();
        let Some(at) = trimmed.find("fn ") else { continue };
        let before = &trimmed[..at];
        let starts = before.split_whitespace().all(|word| {
            matches!(word, "pub" | "const" | "async" | "unsafe" | "extern" | "\"C\"")
                || word.starts_with("pub(")
        });
        if !starts || trimmed.ends_with(';') {
            continue;
        }
        let indent = line.len() - trimmed.len();
        let end = (index..lines.len()).find(|&end| {
            let other = lines[end];
            other.len() - other.trim_start().len() == indent
                && (other.trim_start().starts_with('}') || (end == index && other.ends_with('}')))
        });
        let name = trimmed[at + 3..].split(['(', '<']).next().unwrap_or("").to_string();
        if let Some(end) = end {
            found.push((index + 1, end - index + 1, name));
        }
    }
    found
}

#[test]
fn banned_calls_name_their_replacement() {
    let mut problems = Vec::new();
    for (name, path, text) in sources() {
        if is_test(&path) {
            continue;
        }
        for (number, line) in (1..).zip(product(&text).lines()) {
            let code = line.trim_start();
            if code.starts_with("//") {
                continue;
            }
            for (call, instead, allowed) in BANNED {
                if code.contains(call) && !allowed.contains(&name.as_str()) {
                    let place = path.display();
                    problems.push(format!("{place}:{number}: {call}: use {instead} here"));
                }
            }
        }
    }
    report(&problems);
}

/// Crates whose threads a test must be able to put in order.
const ORDERED: &[&str] = &["block"];
/// What threads meet at. (`OnceLock` is not among them: who is first writes the same as who is not.)
const MEETING: &[&str] = &["Mutex", "RwLock", "Condvar", "Barrier", "atomic", "mpsc", "thread"];

#[test]
fn threads_meet_where_a_test_can_order_them() {
    let mut problems = Vec::new();
    for (name, path, text) in sources() {
        if !ORDERED.contains(&name.as_str()) || is_test(&path) {
            continue;
        }
        for statement in product(&text).split(';') {
            let Some(at) = statement.find("std::sync").or(statement.find("std::thread")) else {
                continue;
            };
            if let Some(word) = MEETING.iter().find(|word| statement[at..].contains(**word)) {
                let place = path.display();
                problems.push(format!("{place}: std's {word}: use goldleaf_host::sync here"));
            }
        }
    }
    report(&problems);
}

#[test]
fn unsafe_stays_behind_its_fences() {
    let mut problems = Vec::new();
    for (name, path, text) in sources() {
        let fenced = ["jail", "ext4-compose"].contains(&name.as_str());
        if !fenced && !is_test(&path) && text.contains("unsafe {") {
            problems.push(format!("{}: unsafe outside jail and ext4-compose", path.display()));
        }
    }
    report(&problems);
}

#[test]
fn every_crate_is_in_the_list() {
    let list = fs::read_to_string(root().join("crates/README.md")).expect("crates/README.md");
    let mut problems = Vec::new();
    for entry in fs::read_dir(root().join("crates")).expect("crates") {
        let entry = entry.expect("entry");
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() && !list.contains(&format!("| `{name}` |")) {
            problems.push(format!("crates/README.md does not list `{name}`"));
        }
    }
    report(&problems);
}

#[test]
fn crates_point_one_way() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo metadata");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let mut edges: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in metadata["packages"].as_array().expect("packages") {
        let name = package["name"].as_str().expect("a name").to_string();
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            if dependency["kind"].is_null() {
                let to = dependency["name"].as_str().expect("a name").to_string();
                edges.entry(name.clone()).or_default().push(to);
            }
        }
    }
    let problems: Vec<String> = FORBIDDEN_EDGES
        .iter()
        .filter(|(from, to, _)| edges.get(*from).is_some_and(|all| all.iter().any(|t| t == to)))
        .map(|(from, to, why)| format!("{from} depends on {to}: {why}"))
        .collect();
    report(&problems);
}

#[test]
fn dependencies_stay_few() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).expect("Cargo.lock");
    let locked = lock.matches("[[package]]").count();
    assert!(locked <= LOCKED_MAX, "{locked} packages in Cargo.lock, at most {LOCKED_MAX}");
}
