//! A disk with two volumes that mke2fs filled from a directory, and what debugfs says of it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use goldleaf_block::{
    BlockCount, BlockNo, BlockRange, ByteLen, ByteOffset, ExtentMap, MapBuilder, MapExtent,
    SourceIndex, Target,
};
use goldleaf_host::file_from_fd;
use goldleaf_tree::GuestPath;
use goldleaf_worker::protocol::VolumeSpec;

const MIB: u64 = 1 << 20;
/// Where the volumes are on the disk, and how long they are.
const ROOT: (u64, u64) = (MIB, 80 * MIB);
const BOOT: (u64, u64) = (81 * MIB, 24 * MIB);
const DISK: u64 = 106 * MIB;

/// A file as its directory has it: path in the guest, and where it was made from.
pub type Made = (Vec<u8>, PathBuf);
/// Runs of a file: block within it, block on the disk, blocks.
pub type Runs = Vec<(u64, u64, u64)>;

pub struct Disk {
    scratch: tempfile::TempDir,
}

/// Runs a program that must succeed; returns what it printed.
pub fn run(program: &str, args: &[&OsStr]) -> String {
    let out = Command::new(program).args(args).output().expect("the program starts");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{program} {args:?}: {text}{errors}");
    text
}

impl Disk {
    /// With `requests` to debugfs for the root volume.
    pub fn new(requests: &str) -> Self {
        let disk = Self { scratch: tempfile::tempdir().expect("scratch") };
        let at = disk.scratch.path();
        fill_root(&at.join("root"));
        fill_boot(&at.join("boot"));
        let whole = File::create(disk.path()).expect("a disk");
        whole.set_len(DISK).expect("its length");
        for (name, (start, len)) in [("root", ROOT), ("boot", BOOT)] {
            let volume = at.join("volume");
            format(&volume, len, Some(&at.join(name)));
            if name == "root" {
                let file = at.join("requests");
                fs::write(&file, requests).expect("requests");
                let args = ["-w".as_ref(), "-f".as_ref(), file.as_ref(), volume.as_ref()];
                run("debugfs", &args);
            }
            whole.write_all_at(&fs::read(&volume).expect("a volume"), start).expect("written");
            fs::rename(volume, at.join(format!("{name}.volume"))).expect("kept");
        }
        disk
    }

    pub fn path(&self) -> PathBuf {
        self.scratch.path().join("disk")
    }

    pub fn file(&self) -> Arc<dyn goldleaf_host::File> {
        file_from_fd(File::open(self.path()).expect("a disk").into())
    }

    /// Root and boot.
    pub fn volumes(&self) -> Vec<VolumeSpec> {
        let spec = |mount: &str, (start, len): (u64, u64)| VolumeSpec {
            mount: GuestPath::parse(mount).expect("a path"),
            start: ByteOffset(start),
            len: ByteLen(len),
        };
        vec![spec("/", ROOT), spec("/boot", BOOT)]
    }

    /// Regular files as the guest sees them, in the order of their paths, each once.
    pub fn made(&self) -> Vec<Made> {
        let mut files = Vec::new();
        collect(&self.scratch.path().join("root"), b"", &mut files);
        files.retain(|(path, _)| !path.starts_with(b"boot/"));
        collect(&self.scratch.path().join("boot"), b"boot/", &mut files);
        files.sort();
        let mut met = BTreeSet::new();
        files.retain(|(_, file)| {
            let meta = fs::metadata(file).expect("metadata");
            met.insert((meta.dev(), meta.ino()))
        });
        files
    }

    /// Written runs of files, by debugfs' `ex`, in blocks of the disk.
    pub fn runs(&self, files: &[Made]) -> Vec<Runs> {
        let volumes = [("root", ROOT.0), ("boot", BOOT.0)];
        let [root, boot] = volumes.map(|(name, start)| {
            let requests = self.scratch.path().join("requests");
            let line = |(path, _): &Made| {
                let path = String::from_utf8(path.clone()).expect("text");
                let inside = path.strip_prefix("boot/").filter(|_| name == "boot");
                format!("ex \"/{}\"\n", inside.unwrap_or(&path))
            };
            fs::write(&requests, files.iter().map(line).collect::<String>()).expect("requests");
            let volume = self.scratch.path().join(format!("{name}.volume"));
            let said = run("debugfs", &["-f".as_ref(), requests.as_ref(), volume.as_ref()]);
            let answers: Vec<Runs> =
                said.split("debugfs: ex ").skip(1).map(|text| runs(text, start / 4096)).collect();
            assert_eq!(answers.len(), files.len());
            answers
        });
        let all = files.iter().zip(root.into_iter().zip(boot));
        all.map(|((path, _), (root, boot))| if path.starts_with(b"boot/") { boot } else { root })
            .collect()
    }
}

/// A whole file as a disk.
pub fn whole(bytes: u64) -> ExtentMap {
    let mut map = MapBuilder::new(BlockCount(bytes / 4096));
    let range = BlockRange::new(BlockNo(0), BlockCount(bytes / 4096));
    let target = Target::Source { source: SourceIndex(0), at: BlockNo(0) };
    map.push(MapExtent { range, target }).expect("a map");
    map.finish()
}

/// A volume in a file of its own.
pub fn format(volume: &Path, bytes: u64, from: Option<&Path>) {
    File::create(volume).expect("a volume").set_len(bytes).expect("its length");
    let from: Vec<&OsStr> =
        from.iter().flat_map(|from| [OsStr::new("-d"), from.as_os_str()]).collect();
    let args = ["-q", "-F", "-b", "4096", "-O", "has_journal"].map(OsStr::new);
    run("mkfs.ext4", &[&args[..], &from, &[volume.as_os_str()]].concat());
}

/// The leaves of an extent tree that debugfs shows, joined where they touch.
fn runs(text: &str, first_block: u64) -> Runs {
    let mut runs = Runs::new();
    for line in text.lines().filter(|line| !line.contains("Uninit")) {
        let words = line.split([' ', '/', '-']).filter(|word| !word.is_empty());
        let numbers: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
        let &[level, depth, _, _, block, _, place, _, count] = &numbers[..] else { continue };
        assert_eq!(level, depth);
        let place = place + first_block;
        match runs.last_mut() {
            Some(last) if last.0 + last.2 == block && last.1 + last.2 == place => last.2 += count,
            _ => runs.push((block, place, count)),
        }
    }
    runs
}

fn collect(dir: &Path, below: &[u8], into: &mut Vec<Made>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let entry = entry.expect("an entry");
        let path = [below, entry.file_name().as_bytes()].concat();
        let kind = entry.file_type().expect("a kind");
        if kind.is_dir() {
            collect(&entry.path(), &[&path[..], b"/"].concat(), into);
        } else if kind.is_file() {
            into.push((path, entry.path()));
        }
    }
}

fn put(root: &Path, name: &str, content: &[u8]) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().expect("a directory")).expect("directories");
    fs::write(path, content).expect("a file");
}

/// Names on both sides of the slash, names for one file, holes, long links, many names.
fn fill_root(root: &Path) {
    for name in ["b/c", "b.d", "b-d", "b!", "b/c.d/e", "b/cf", "zz", "b0/x", "etc/hostname"] {
        put(root, name, name.repeat(2000).as_bytes());
    }
    put(root, "empty", b"");
    put(root, "preallocated", &[b'p'; 30_000]);
    put(root, "boot/covered", &[b'c'; 9_000]);
    for number in 0..1500 {
        let name = format!("many/a-name-that-is-long-enough-for-some-blocks-{number}");
        put(root, &name, &[number as u8; 700]);
    }
    fs::hard_link(root.join("zz"), root.join("b/late")).expect("a link");
    fs::hard_link(root.join("zz"), root.join("first")).expect("a link");
    std::os::unix::fs::symlink("t".repeat(200), root.join("slow")).expect("a link");
    let holes = File::create(root.join("holes")).expect("a file");
    for number in 0..400 {
        holes.write_all_at(b"h", number * 8192).expect("written");
    }
    holes.set_len(10 << 20).expect("its length");
}

fn fill_boot(boot: &Path) {
    put(boot, "vmlinuz", &[b'k'; 3 << 20]);
    put(boot, "grub/grub.cfg", b"menu");
}
