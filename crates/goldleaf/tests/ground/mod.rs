//! The real program, in a home of its own, with disks that no guest has to make.
#![allow(dead_code, reason = "each test uses some of it")]

pub mod author;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

pub const USER: i32 = 2;
pub const CONFIG: i32 = 3;
pub const ENVIRONMENT: i32 = 4;
pub const INTERNAL: i32 = 70;
pub const MIB: u64 = 1 << 20;
/// Where the one partition of a test disk begins, and how large it is, in bytes.
pub const PART_START: u64 = MIB;
pub const PART_LEN: u64 = 62 * MIB;

/// A home of its own for one test, with a place for files beside it.
pub struct Bench {
    dir: TempDir,
}

/// What a failed command said.
pub struct Refusal {
    pub error: String,
    pub kind: String,
    pub hint: String,
}

impl Bench {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a scratch directory") }
    }

    pub fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).expect("a file");
        path
    }

    pub fn run(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_goldleaf"))
            .env("GOLDLEAF_HOME", self.home())
            .args(args)
            .output()
            .expect("the program runs")
    }

    /// What a command that succeeds prints.
    pub fn text(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {stderr}");
        String::from_utf8(output.stdout).expect("text")
    }

    pub fn json(&self, args: &[&str]) -> Value {
        let text = self.text(&[args, &["--json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{args:?}: {error}: {text}"))
    }

    /// How a command fails, in both of its languages.
    pub fn refused(&self, args: &[&str], code: i32) -> Refusal {
        let output = self.run(args);
        let text = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "one clear sentence: {text}");
        assert!(output.stdout.is_empty(), "{args:?} prints its failure on standard error");

        let output = self.run(&[&["--json"], args].concat());
        assert_eq!(output.status.code(), Some(code), "{args:?} with --json");
        assert!(output.stdout.is_empty(), "{args:?} with --json");
        let told: Value = serde_json::from_slice(&output.stderr).expect("JSON on standard error");
        let field = |name: &str| told[name].as_str().unwrap_or_default().to_string();
        let refusal = Refusal { error: field("error"), kind: field("kind"), hint: field("hint") };
        assert_eq!(errors[0], format!("error: {}", refusal.error));
        let kind = match code {
            USER => "user",
            CONFIG => "config",
            ENVIRONMENT => "environment",
            _ => "internal",
        };
        assert_eq!(refusal.kind, kind, "{args:?}");
        refusal
    }

    /// What is stored below a directory of the home, but for locks.
    pub fn stored(&self, below: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut todo = vec![self.home().join(below)];
        while let Some(dir) = todo.pop() {
            for entry in fs::read_dir(&dir).into_iter().flatten() {
                let path = entry.expect("an entry").path();
                todo.extend(path.is_dir().then(|| path.clone()));
                found.push(path);
            }
        }
        found
    }

    /// A refused import: what it said; nothing of it is left.
    pub fn import_refused(&self, disk: &Path) -> Refusal {
        let disk = disk.to_str().expect("a path");
        let refusal = self.refused(&["image", "import", disk, "--name", "golden"], USER);
        assert_eq!(self.stored("images"), Vec::<PathBuf>::new());
        assert!(!refusal.hint.is_empty(), "{}", refusal.error);
        refusal
    }

    /// A disk with one Linux partition, which is empty.
    pub fn disk(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        let file = fs::File::create(&path).expect("a disk");
        file.set_len(PART_START + PART_LEN + MIB).expect("its length");
        let layout = self.file("layout", "label: gpt\nstart=2048, size=126976, type=linux\n");
        let layout = fs::File::open(layout).expect("the layout");
        let mut sfdisk = Command::new("sfdisk");
        let output = sfdisk.args(["-q"]).arg(&path).stdin(layout).output().expect("sfdisk");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        path
    }

    /// A disk with a small Debian on ext4, made with further options of mke2fs.
    pub fn debian(&self, name: &str, options: &[&str]) -> PathBuf {
        let path = self.disk(name);
        let tree = self.path("tree");
        for (file, text) in [
            ("etc/fstab", ""),
            ("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
            ("usr/lib/os-release", "PRETTY_NAME=\"Test Debian\"\nID=debian\n"),
            ("usr/lib/systemd/systemd", "init"),
            ("var/lib/dpkg/status", ""),
        ] {
            let file = tree.join(file);
            fs::create_dir_all(file.parent().expect("a parent")).expect("a directory");
            if !file.exists() {
                fs::write(file, text).expect("a file");
            }
        }
        let blocks = (PART_LEN / 4096).to_string();
        let offset = format!("offset={PART_START}");
        let mut mke2fs = Command::new("mke2fs");
        mke2fs.args(["-q", "-F", "-t", "ext4", "-b", "4096", "-E", &offset]).args(options);
        let output = mke2fs.arg("-d").arg(&tree).arg(&path).arg(blocks).output().expect("mke2fs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        path
    }

    /// Imports a good disk as `golden`.
    pub fn golden(&self) {
        let disk = self.debian("good.raw", &[]);
        let disk = disk.to_str().expect("a path");
        self.text(&["image", "import", disk, "--name", "golden"]);
    }
}
