//! Feeds in buckets and on sticks, by the program as people run it. No guest is needed.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use goldleaf_e2e::storage::{KEY, SECRET, Storage};
use goldleaf_e2e::{Desktop, DiskTree, Link, site_program};
use goldleaf_player::Home;
use goldleaf_worker::Launcher;
use serde_json::Value;
use tempfile::TempDir;

const MIB: u64 = 1 << 20;
const PART_START: u64 = MIB;
const PART_LEN: u64 = 128 * MIB;
const BUCKET: &str = "pub";
const PLACE: &str = "s3://pub/acme";
/// Files whose content is looked at.
const FILES: [&str; 3] = ["usr/share/golden", "opt/tool/version", "usr/share/noise"];

/// Somebody with a home, and an environment.
struct Person {
    dir: TempDir,
    environment: Vec<(&'static str, String)>,
}

impl Person {
    fn new() -> Self {
        // The name is short because paths of sockets are.
        let dir = tempfile::Builder::new().prefix("gl").tempdir().unwrap();
        Self { dir, environment: Vec::new() }
    }

    /// With the account of a server of buckets at a port.
    fn at(port: u16, secret: &str) -> Self {
        let mut person = Self::new();
        person.move_to(port, secret);
        person
    }

    fn move_to(&mut self, port: u16, secret: &str) {
        self.environment = vec![
            ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{port}")),
            ("AWS_REGION", "us-east-1".into()),
            ("AWS_ACCESS_KEY_ID", KEY.into()),
            ("AWS_SECRET_ACCESS_KEY", secret.into()),
        ];
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn home(&self) -> PathBuf {
        self.path("home")
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(site_program().unwrap());
        command.env("GOLDLEAF_HOME", self.home()).current_dir(self.dir.path());
        for name in ["AWS_ENDPOINT_URL_S3", "AWS_SESSION_TOKEN"] {
            command.env_remove(name);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.args(args).arg("--json").output().unwrap()
    }

    fn json(&self, args: &[&str]) -> Value {
        let output = self.run(args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {said}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// What a command says that fails. No secret is in it.
    fn refused(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(!output.status.success(), "{args:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!text.contains(SECRET) && !text.contains("Signature="), "{text}");
        let told: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(told["kind"], "environment", "{text}");
        told["error"].as_str().unwrap().into()
    }

    /// A home with an image, a layer, a LivePC and keys, and the root of a feed at a place.
    fn begin(&self, place: &str) {
        let metadata = format!("{place}/feeds/office/stable/metadata");
        for key in ["image.key", "online.key"] {
            self.json(&["key", "new", key]);
        }
        let (image, online) = ("image.key.pub", "online.key.pub");
        let keys = ["--root-key", image, "--image-key", image, "--online-key", online];
        let root = ["key", "root", &metadata, "--organisation", "acme", "--feed", "office/stable"];
        self.json(&[&root[..], &keys].concat());
        let draft = format!("{metadata}/1.root.draft.json");
        self.json(&["key", "sign", &draft, "--key", "image.key"]);
        self.disk();
        self.json(&["image", "import", "disk.raw", "--name", "golden"]);
        self.layer("one\n");
        self.json(&["livepc", "create", "office", "--image", "golden", "--layer", "tool"]);
    }

    /// A version of the layer, with so much of noise that it takes several packs.
    fn layer(&self, version: &str) {
        let tree = self.path("layer");
        write(&tree.join("opt/tool/version"), version.as_bytes());
        write(&tree.join("opt/tool/noise"), &noise(40 * MIB, version.as_bytes()[0]));
        self.json(&["layer", "add", "tool", "--from", "layer", "--on", "golden"]);
    }

    fn publish_args(place: &str) -> [&str; 9] {
        let key = ["--key", "image.key", "--online-key", "online.key"];
        ["publish", "office", "--to", place, "--draft", key[0], key[1], key[2], key[3]]
    }

    fn publish(&self, place: &str) -> Value {
        self.json(&Self::publish_args(place))
    }

    /// The newest version of a feed.
    fn newest(&self, place: &str) -> u64 {
        let view = self.json(&["feed", "show", &format!("{place}/feeds/office")]);
        view["versions"][0]["version"].as_u64().unwrap()
    }

    /// A disk with a small Debian on ext4.
    fn disk(&self) {
        let (disk, tree, layout) = (self.path("disk.raw"), self.path("tree"), self.path("layout"));
        fs::File::create(&disk).unwrap().set_len(PART_START + PART_LEN + MIB).unwrap();
        write(&layout, b"label: gpt\nstart=2048, size=262144, type=linux\n");
        let layout = fs::File::open(layout).unwrap();
        succeed(Command::new("sfdisk").arg("-q").arg(&disk).stdin(layout));
        for (file, text) in [
            ("etc/fstab", ""),
            ("etc/passwd", "root:x:0:0:root:/root:/bin/bash\n"),
            ("etc/group", "root:x:0:\n"),
            ("usr/lib/os-release", "PRETTY_NAME=\"Small Linux\"\nID=debian\n"),
            ("usr/lib/systemd/systemd", "no program\n"),
            ("usr/share/golden", "golden\n"),
            ("var/lib/dpkg/status", ""),
        ] {
            write(&tree.join(file), text.as_bytes());
        }
        write(&tree.join("usr/share/noise"), &noise(20 * MIB, 0));
        let mut mke2fs = Command::new("mke2fs");
        mke2fs.args(["-q", "-F", "-t", "ext4", "-b", "4096", "-E"]);
        mke2fs.arg(format!("offset={PART_START}")).arg("-d").arg(&tree).arg(&disk);
        succeed(mke2fs.arg((PART_LEN / 4096).to_string()));
    }

    /// What the desktop's next session will find.
    fn tree(&self) -> DiskTree {
        let launcher = Launcher::new(site_program().unwrap(), vec!["worker".into()]);
        let home = Home::open(&self.home(), launcher).unwrap();
        let path = self.home().join("desktops/office");
        Desktop { home, path, name: "office".into() }.tree().unwrap()
    }
}

/// A directory that the program serves, as long as this lives.
struct Served {
    process: Child,
    address: String,
}

impl Served {
    fn over(dir: &Path) -> Self {
        let mut command = Command::new(site_program().unwrap());
        command.args(["serve-static", "--listen", "127.0.0.1:0"]).arg(dir);
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let (_, address) = line.trim_end().trim_end_matches('/').split_once("http://").unwrap();
        Self { process, address: address.into() }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn succeed(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Bytes that do not compress.
fn noise(len: u64, seed: u8) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[seed]);
    let mut bytes = vec![0; len as usize];
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

/// That two have the same, and which version of the layer it is.
fn are_alike(one: &Person, other: &Person, version: &str) {
    let (one, other) = (one.tree(), other.tree());
    for path in FILES {
        let text = one.text(path).unwrap();
        assert!(text.is_some(), "{path}");
        assert_eq!(text, other.text(path).unwrap(), "{path}");
    }
    assert_eq!(other.text("opt/tool/version").unwrap().as_deref(), Some(version));
}

/// All files below a directory, with their lengths and when they were written.
fn files(dir: &Path) -> Vec<(PathBuf, u64, SystemTime)> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::metadata(&path).unwrap();
            match meta.is_dir() {
                true => todo.push(path),
                false => found.push((path, meta.len(), meta.modified().unwrap())),
            }
        }
    }
    found.sort();
    found
}

#[test]
fn a_feed_lives_in_a_bucket() {
    let mut storage = Storage::with_bucket(BUCKET).unwrap();
    let mut author = Person::at(storage.port(), SECRET);
    author.begin(PLACE);
    let first = author.publish(PLACE);
    assert_eq!((&first["version"], &first["is_visible"]), (&1.into(), &true.into()));
    assert!(first["new_packs"].as_u64().unwrap() > 2, "{first}");

    // Nothing that is there is written again.
    let packs = storage.path().join(BUCKET).join("acme/packs");
    let before = files(&packs);
    assert_eq!(author.publish(PLACE)["is_new"], false);
    assert_eq!(files(&packs), before);

    let place = format!("{PLACE}/feeds/office");
    let endpoint = Person::at(storage.port(), SECRET);
    endpoint.json(&["subscribe", &place, "--whole"]);
    are_alike(&author, &endpoint, "one\n");
    let record = fs::read_to_string(endpoint.home().join("subscriptions/office/subscription.json"));
    let record = record.unwrap();
    assert!(record.contains(PLACE) && !record.contains(SECRET) && !record.contains(KEY));

    // The network goes away in the middle of a pack: the feed stays at the version before.
    author.layer("two\n");
    let link = Link::to(storage.port(), Duration::from_millis(1), u64::MAX).unwrap();
    author.move_to(link.port(), SECRET);
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while files(&packs).len() == before.len() && !is_done.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(5));
            }
            link.cut(true);
        });
        author.refused(&Person::publish_args(PLACE));
        is_done.store(true, Ordering::Relaxed);
    });
    let begun = files(&packs);
    assert!(begun.len() > before.len(), "it was in the middle");
    assert_eq!(endpoint.newest(PLACE), 1);
    assert_eq!(endpoint.json(&["update"])[0]["version"], 1);

    link.cut(false);
    assert_eq!(author.publish(PLACE)["version"], 2);
    assert!(begun.iter().all(|file| files(&packs).contains(file)), "it went on");
    assert_eq!(endpoint.json(&["update"])[0]["version"], 2);
    are_alike(&author, &endpoint, "two\n");

    // A roll-back is a version like any other.
    let again = [&Person::publish_args(PLACE)[..4], &["--again", "1"]].concat();
    let again = [&again[..], &Person::publish_args(PLACE)[5..]].concat();
    assert_eq!(author.json(&again)["version"], 3);
    let metadata = format!("{PLACE}/feeds/office/stable/metadata");
    author.json(&["key", "refresh", &metadata, "--online-key", "online.key"]);
    assert_eq!(endpoint.json(&["update"])[0]["version"], 3);

    // What is refused, and by whom.
    let stranger = Person::at(storage.port(), "no secret");
    let said = stranger.refused(&["subscribe", &place]);
    assert!(said.contains("403"), "{said}");
    let said = stranger.refused(&["feed", "show", "s3://nowhere/feeds/office"]);
    assert!(said.contains("s3://nowhere"), "{said}");
    let said = author.refused(&Person::publish_args("s3://nowhere"));
    assert!(said.contains("404, NoSuchBucket"), "{said}");
    storage.stop();
    author.move_to(storage.port(), SECRET);
    let said = author.refused(&Person::publish_args(PLACE));
    assert!(said.contains("no connection") || said.contains("refused"), "{said}");
    storage.start().unwrap();
    assert_eq!(author.publish(PLACE)["version"], 4);
}

#[test]
fn a_stick_carries_a_feed() {
    let author = Person::new();
    let shelf = author.path("shelf");
    let place = shelf.to_str().unwrap();
    author.begin(place);
    author.publish(place);
    let traveller = Person::new();
    traveller.json(&["subscribe", &format!("{place}/feeds/office")]);

    let stick = tempfile::tempdir().unwrap();
    let to = stick.path().to_str().unwrap();
    let plan = traveller.json(&["export", "office", "--to", to, "--dry-run"]);
    assert!(plan["new_bytes"].as_u64().unwrap() > 50 * MIB, "{plan}");
    assert_eq!(files(stick.path()), []);
    let done = traveller.json(&["export", "office", "--to", to]);
    assert_eq!((&done["new_bytes"], &done["versions"]), (&plan["new_bytes"], &vec![1].into()));

    // Nobody else can be reached.
    let away = author.path("away");
    fs::rename(&shelf, &away).unwrap();
    let hermit = Person::new();
    hermit.json(&["subscribe", &format!("{to}/feeds/office"), "--whole"]);
    are_alike(&author, &hermit, "one\n");
    assert_eq!(hermit.json(&["check"])["damage"], Value::Array(vec![]));
    fs::rename(&away, &shelf).unwrap();

    // What is on the stick can be served, too.
    let visitor = Person::new();
    let served = Served::over(stick.path());
    visitor.json(&["subscribe", &format!("http://{}/feeds/office", served.address), "--whole"]);
    are_alike(&author, &visitor, "one\n");
    drop(served);

    // What went bad is found and brought again, and nothing else.
    let before = files(&stick.path().join("packs"));
    let spoilt = &before[0].0;
    let mut bytes = fs::read(spoilt).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(spoilt, &bytes).unwrap();
    let mended = traveller.json(&["export", "office", "--to", to]);
    assert_eq!((&mended["new_files"], &mended["new_bytes"]), (&1.into(), &before[0].1.into()));
    bytes[middle] ^= 1;
    assert_eq!(fs::read(spoilt).unwrap(), bytes);
    assert_eq!(traveller.json(&["export", "office", "--to", to])["new_files"], 0);

    // The next version, of which a pack cannot be had: the stick is what it was.
    author.layer("two\n");
    author.publish(place);
    let there = files(&shelf.join("packs"));
    let known = |file: &(PathBuf, u64, SystemTime)| {
        before.iter().any(|known| known.0.file_name() == file.0.file_name())
    };
    let missing = &there.iter().rfind(|file| !known(file)).unwrap().0;
    let pack = fs::read(missing).unwrap();
    fs::remove_file(missing).unwrap();
    let said = traveller.refused(&["export", "office", "--to", to]);
    assert!(said.contains("is missing"), "{said}");
    assert_eq!(hermit.newest(to), 1);
    assert_eq!(hermit.json(&["update"])[0]["version"], 1);
    fs::write(missing, pack).unwrap();
    let rest = traveller.json(&["export", "office", "--to", to, "--deltas"]);
    assert!(rest["new_files"].as_u64() < rest["files"].as_u64(), "{rest}");
    assert_eq!(hermit.json(&["update"])[0]["version"], 2);
    are_alike(&author, &hermit, "two\n");

    // Another author's feed of that name is not written over.
    let other = Person::new();
    let place = other.path("shelf");
    other.begin(place.to_str().unwrap());
    other.publish(place.to_str().unwrap());
    other.json(&["livepc", "create", "other", "--image", "golden"]);
    let follower = Person::new();
    follower.json(&["subscribe", &format!("{}/feeds/office", place.display())]);
    let output = follower.run(&["export", "office", "--to", to]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("another root of trust"));
    assert_eq!(hermit.newest(to), 2);
}
