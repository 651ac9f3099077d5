//! `goldleaf key` as people use it: three of them with a key each, a stick that goes round, and what
//! a client makes of the directory.

use std::error::Error;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use goldleaf_host::RealDir;
use goldleaf_trust::{Line, Metadata, Repository, State, Target, Targets, TrustError, update};
use serde_json::Value;
use tempfile::TempDir;

const USER: i32 = 2;

/// A scratch directory in which the program runs.
struct Bench {
    dir: TempDir,
}

/// A feed's directory as a server.
struct Web(PathBuf);

impl Metadata for Web {
    fn fetch(&self, name: &str, _: u64) -> Result<Option<Vec<u8>>, Box<dyn Error + Send + Sync>> {
        Ok(fs::read(self.0.join(name)).ok())
    }
}

impl Bench {
    /// With keys a, b, c of people, x of a stranger, and the online keys o and p.
    fn new() -> Self {
        let bench = Self { dir: tempfile::tempdir().expect("a scratch directory") };
        for name in ["a", "b", "c", "d", "x", "o", "p"] {
            bench.text(&["key", "new", name]);
        }
        bench
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_goldleaf"));
        command.env("GOLDLEAF_HOME", self.dir.path().join("home")).current_dir(self.dir.path());
        command.args(args).output().expect("the program runs")
    }

    fn text(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {stderr}");
        let text = String::from_utf8(output.stdout).expect("text");
        self.tells_no_secret(&text);
        text
    }

    fn json(&self, args: &[&str]) -> Value {
        let text = self.text(&[args, &["--json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{args:?}: {error}: {text}"))
    }

    /// How a command fails: its sentence and its hint.
    fn refused(&self, args: &[&str]) -> (String, String) {
        let output = self.run(&[args, &["--json"]].concat());
        let text = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(USER), "{args:?}: {text}");
        self.tells_no_secret(&text);
        let told: Value = serde_json::from_str(&text).expect("JSON");
        let field = |name: &str| told[name].as_str().unwrap_or_default().to_string();
        assert!(!field("hint").is_empty(), "{args:?}: {text}");
        (field("error"), field("hint"))
    }

    fn tells_no_secret(&self, text: &str) {
        for name in ["a", "b", "c", "d", "x", "o", "p"] {
            let Ok(secret) = fs::read_to_string(self.dir.path().join(name)) else { continue };
            let body = secret.lines().nth(1).expect("a line of secret");
            assert!(!text.contains(body) && !text.contains("PRIVATE"), "{text}");
        }
    }

    fn id(&self, key: &str) -> String {
        self.json(&["key", "show", &format!("{key}.pub")])["id"].as_str().expect("an id").into()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn sign(&self, draft: &str, key: &str) -> Value {
        self.json(&["key", "sign", &format!("feed/{draft}"), "--key", key])["metadata"].clone()
    }

    /// Begins the feed: two of three for root and images.
    fn begin(&self) {
        let args = "key root feed --organisation acme --feed office/stable \
                    --root-key a.pub --root-key b.pub --root-key c.pub --root-threshold 2 \
                    --image-key a.pub --image-key b.pub --image-key c.pub \
                    --online-key o.pub";
        self.text(&args.split_whitespace().collect::<Vec<_>>());
    }

    /// The feed with its root in place and a version published.
    fn feed() -> Self {
        let bench = Self::new();
        bench.begin();
        bench.sign("1.root.draft.json", "a");
        bench.sign("1.root.draft.json", "b");
        let draft = bench.draft("version 1");
        bench.sign(&draft, "b");
        bench.sign(&draft, "c");
        bench.text(&["key", "refresh", "feed", "--online-key", "o"]);
        bench.sees("version 1");
        bench
    }

    /// What whoever builds images does: drafts the next targets.
    fn draft(&self, content: &str) -> String {
        let dir = RealDir::open(&self.path("feed")).expect("a directory");
        let target = Target::of(content.as_bytes(), content.into());
        let targets = Targets { targets: [("livepc.json".into(), target)].into() };
        let expires = now() + Duration::from_secs(86_400);
        let drafted =
            Repository::open(dir).and_then(|mut all| all.draft_targets(&targets, expires));
        drafted.expect("a draft")
    }

    /// What a client that knows the first root believes then.
    fn sees(&self, content: &str) {
        let client = tempfile::tempdir().expect("a scratch directory");
        let dir = RealDir::open(client.path()).expect("a directory");
        let line = Line { organisation: "acme".into(), feed: "office/stable".into() };
        let root = fs::read(self.path("feed/1.root.json")).expect("the first root");
        let mut state = State::create(dir, line, &root).expect("a root");
        update(&mut state, &Web(self.path("feed")), now()).expect("an update");
        let targets = state.believed().targets().expect("targets");
        assert_eq!(targets.targets["livepc.json"].custom, content);
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970")
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("a file").permissions().mode() & 0o777
}

#[test]
fn every_command_has_help() {
    let bench = Bench { dir: tempfile::tempdir().expect("a scratch directory") };
    for command in ["new", "root", "rotate", "sign", "show", "refresh"] {
        let text = bench.text(&["key", command, "--help"]);
        assert!(text.contains("Usage: goldleaf key"), "{command}: {text}");
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{command}: {text}");
    }
}

#[test]
fn a_key_is_its_owners_alone() {
    let bench = Bench::new();
    assert_eq!((mode(&bench.path("a")), mode(&bench.path("a.pub"))), (0o600, 0o644));
    let (id, secret) = (bench.id("a"), fs::read(bench.path("a")).expect("a key"));
    assert_eq!(bench.json(&["key", "show", "a"])["id"], id.as_str());
    assert_ne!(id, bench.id("b"));
    let (error, _) = bench.refused(&["key", "new", "a"]);
    assert!(error.contains("a.pub is there already"), "{error}");
    fs::remove_file(bench.path("a.pub")).expect("removed");
    let (error, _) = bench.refused(&["key", "new", "a"]);
    assert!(error.contains("a is there already"), "{error}");
    assert_eq!(fs::read(bench.path("a")).expect("a key"), secret);
    let (error, _) = bench.refused(&["key", "sign", "a", "--key", "b.pub"]);
    assert!(error.contains("the public half"), "{error}");
}

/// The whole ceremony: two of three sign the root, then what there is; the third is on holiday.
#[test]
fn three_people_and_a_stick() {
    let bench = Bench::new();
    bench.begin();
    let before = bench.json(&["key", "show", "feed"]);
    assert_eq!(before["metadata"][0]["complete"], false);
    assert_eq!(before["organisation"], "acme", "to be seen before it is signed");
    assert_eq!(before["metadata"][0]["says"]["image"]["threshold"], 2, "more than half of three");
    let first = bench.sign("1.root.draft.json", "a");
    assert_eq!(
        (&first["complete"], &first["signatures"][0]["missing"]),
        (&false.into(), &1.into())
    );
    assert!(!bench.path("feed/1.root.json").exists());
    let text = bench.text(&["key", "sign", "feed/1.root.draft.json", "--key", "b"]);
    assert!(text.contains("root 1 is in place"), "{text}");
    assert!(!bench.path("feed/1.root.draft.json").exists());

    let (error, hint) = bench.refused(&["key", "refresh", "feed", "--online-key", "o"]);
    assert!(error.contains("no targets yet") && hint.contains("key sign"), "{error} {hint}");
    let draft = bench.draft("version 1");
    let text = bench.text(&["key", "show", &format!("feed/{draft}")]);
    assert!(text.contains("livepc.json, 9 bytes") && text.contains("missing 2"), "{text}");
    let text = bench.text(&["key", "sign", &format!("feed/{draft}"), "--key", "c"]);
    assert!(text.contains("still missing: 1 signature by the image keys of root 1"), "{text}");
    // One signature is missing: nothing is published, and a second one by the same key is none.
    bench.sign(&draft, "c");
    bench.refused(&["key", "refresh", "feed", "--online-key", "o"]);
    bench.sign(&draft, "a");
    let published = bench.json(&["key", "refresh", "feed", "--online-key", "o"]);
    assert_eq!((&published["targets"], &published["timestamp"]), (&1.into(), &1.into()));
    bench.sees("version 1");
    let shown = bench.json(&["key", "show", "feed"]);
    assert_eq!((&shown["organisation"], &shown["feed"]), (&"acme".into(), &"office/stable".into()));
    assert_eq!(shown["metadata"].as_array().expect("a list").len(), 4);
    let signed = shown["metadata"][1]["signatures"][0]["signed"].as_array().expect("a list");
    assert_eq!(signed, &[Value::from(bench.id("c")), bench.id("a").into()]);
}

#[test]
fn wrong_keys_and_wrong_files() {
    let bench = Bench::feed();
    let draft = format!("feed/{}", bench.draft("evil"));
    for key in ["x", "o"] {
        let (error, hint) = bench.refused(&["key", "sign", &draft, "--key", key]);
        assert!(error.contains(&bench.id(key)) && hint.contains("key show"), "{error} {hint}");
    }
    for file in ["feed/1.root.json", "feed/timestamp.json", "feed/2.root.draft.json", "a"] {
        let (error, _) = bench.refused(&["key", "sign", file, "--key", "a"]);
        assert!(error.contains("is no draft") || error.contains("is not a file"), "{error}");
    }
    let (error, _) = bench.refused(&["key", "refresh", "feed", "--online-key", "a"]);
    assert!(error.contains("may not sign timestamp"), "{error}");
    let root = ["key", "root", "feed", "--organisation", "acme", "--feed", "f"];
    let keys = ["--root-key", "a.pub", "--image-key", "b.pub", "--online-key", "o.pub"];
    let (error, hint) = bench.refused(&[&root[..], &keys].concat());
    assert!(error.contains("has begun") && hint.contains("key rotate"), "{error} {hint}");
    let (error, _) = bench.refused(&[&root[..], &keys[..4]].concat());
    assert!(error.contains("--online-key"), "{error}");
    let (error, _) = bench.refused(&["key", "rotate", "feed", "--online-key", "a.pub"]);
    assert!(error.contains("online key and an offline one"), "{error}");
    let (error, _) = bench.refused(&["key", "rotate", "feed", "--root-key", "a"]);
    assert!(error.contains("this is a secret key"), "{error}");
    bench.refused(&["key", "rotate", "feed", "--root-threshold", "4"]);
    bench.sees("version 1");
}

/// Somebody leaves: d takes the place of a. The threshold stays, and clients follow.
#[test]
fn somebody_leaves() {
    let bench = Bench::feed();
    let args = "key rotate feed --root-key b.pub --root-key c.pub --root-key d.pub \
                --image-key b.pub --image-key c.pub --image-key d.pub";
    let drafts = bench.json(&args.split_whitespace().collect::<Vec<_>>())["drafts"].clone();
    // What b and c signed is good under the new root as well.
    assert_eq!(drafts, serde_json::json!(["2.root.draft.json"]));
    let (error, hint) = bench.refused(&["key", "rotate", "feed"]);
    assert!(error.contains("under way") && hint.contains("2.root.draft.json"), "{error} {hint}");
    let standing = bench.sign("2.root.draft.json", "d");
    assert_eq!(standing["signatures"][0]["missing"], 2, "d is nobody to the root before");
    assert_eq!(standing["signatures"][1]["missing"], 1);
    bench.sign("2.root.draft.json", "b");
    assert_eq!(bench.sign("2.root.draft.json", "c")["complete"], true);
    bench.sees("version 1");
    let draft = bench.draft("version 2");
    bench.refused(&["key", "sign", &format!("feed/{draft}"), "--key", "a"]);
    bench.sign(&draft, "d");
    bench.sign(&draft, "b");
    bench.text(&["key", "refresh", "feed", "--online-key", "o"]);
    bench.sees("version 2");
}

/// The online machine is replaced, and other people sign images from now on.
#[test]
fn the_online_key_and_the_image_keys_change() {
    let bench = Bench::feed();
    let args = "key rotate feed --image-key d.pub --image-threshold 1 --online-key p.pub";
    let drafts = bench.json(&args.split_whitespace().collect::<Vec<_>>())["drafts"].clone();
    assert_eq!(drafts, serde_json::json!(["2.root.draft.json", "2.targets.draft.json"]));
    bench.sign("2.root.draft.json", "a");
    let text = bench.text(&["key", "sign", "feed/2.root.draft.json", "--key", "c"]);
    assert!(text.contains("waits for what is published"), "{text}");
    let (error, hint) = bench.refused(&["key", "refresh", "feed", "--online-key", "p"]);
    assert!(error.contains("root 2 waits") && hint.contains("draft of targets"), "{error} {hint}");
    bench.sign("2.targets.draft.json", "d");
    let keys = ["--online-key", "p", "--online-key", "o"];
    let published = bench.json(&[&["key", "refresh", "feed"], &keys[..]].concat());
    assert_eq!((&published["root"], &published["targets"]), (&2.into(), &2.into()));
    bench.sees("version 1");
    bench.text(&["key", "refresh", "feed", "--online-key", "p"]);
    bench.sees("version 1");
}

/// The stick was in other hands.
#[test]
fn a_spoilt_directory_is_named() {
    let bench = Bench::feed();
    let path = bench.path("feed/1.root.json");
    let text = fs::read_to_string(&path).expect("a root").replacen("acme", "evil", 1);
    fs::write(&path, text).expect("written");
    let (error, _) = bench.refused(&["key", "show", "feed"]);
    assert!(error.contains("root metadata has 0 good signatures of 2"), "{error}");
    let dir = RealDir::open(&bench.path("feed")).expect("a directory");
    assert!(matches!(Repository::open(Arc::clone(&dir)), Err(TrustError::SigThreshold { .. })));
}
