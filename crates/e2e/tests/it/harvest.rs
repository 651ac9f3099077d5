//! Random work by the kernel's own ext4, harvested, filed and composed again: what the user did is
//! there entry by entry, what was done to the system is not.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use crate::bench::{Bench, IMAGE, Mounted, run};

const ROUNDS: u64 = 10;
const OPERATIONS: u64 = 400;

/// Numbers that look random (xorshift64*), the same at every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }

    fn bytes(&mut self, len: u64) -> Vec<u8> {
        (0..len).map(|_| self.below(256) as u8).collect()
    }
}

/// A system small enough to be looked at whole.
fn make_disk(dir: &Path) -> PathBuf {
    let root = dir.join("root");
    let mut files: Vec<(String, String)> = vec![
        (
            "etc/passwd".into(),
            "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n".into(),
        ),
        ("etc/group".into(), "root:x:0:\nann:x:1000:\n".into()),
        ("etc/shadow".into(), "root:*:1::::::\nann:*:1::::::\n".into()),
        ("etc/gshadow".into(), "root:*::\nann:!::\n".into()),
        ("etc/fstab".into(), String::new()),
        ("usr/lib/os-release".into(), "PRETTY_NAME=\"Small\"\n".into()),
        ("usr/sbin/init".into(), "init".into()),
        ("sbin/init".into(), "init".into()),
        ("var/lib/dpkg/status".into(), String::new()),
    ];
    for n in 0..150 {
        let text = format!("{n}").repeat(n * 50);
        files.push((format!("usr/share/d{}/f{n}", n % 7), text.clone()));
        files.push((format!("home/ann/d{}/f{n}", n % 5), text));
    }
    for (path, text) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    fs::create_dir_all(root.join("tmp")).unwrap();
    run("chown", &["-R", "1000:1000", root.join("home/ann").to_str().unwrap()]);
    let disk = dir.join("disk.img");
    File::create(&disk).unwrap().set_len(128 << 20).unwrap();
    let (root, file) = (root.to_str().unwrap(), disk.to_str().unwrap());
    run("mke2fs", &["-q", "-t", "ext4", "-b", "4096", "-d", root, file]);
    disk
}

/// All that is to be the same at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    what: String,
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, i64),
    /// The first path of the same node.
    same_as: String,
}

fn what(path: &Path, data: &Metadata) -> String {
    let kind = data.file_type();
    if kind.is_symlink() {
        return format!("link to {}", fs::read_link(path).unwrap().display());
    }
    if kind.is_file() {
        return format!("{} bytes {}", data.len(), blake3::hash(&fs::read(path).unwrap()));
    }
    if kind.is_fifo() { "fifo".into() } else { "directory".into() }
}

fn look(root: &Path) -> BTreeMap<String, Seen> {
    let (mut seen, mut open) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let data = fs::symlink_metadata(&path).unwrap();
            if data.is_dir() {
                open.push(path.clone());
            }
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            // Of a directory that the image has too, the time alone is not worth an entry.
            let mtime = (data.mtime(), data.mtime_nsec());
            let one = Seen {
                what: what(&path, &data),
                mode: data.mode(),
                owner: (data.uid(), data.gid()),
                mtime: if data.is_dir() { (0, 0) } else { mtime },
                same_as: data.ino().to_string(),
            };
            seen.insert(name, one);
        }
    }
    let mut firsts: BTreeMap<String, String> = BTreeMap::new();
    for (name, one) in &mut seen {
        one.same_as = firsts.entry(one.same_as.clone()).or_insert_with(|| name.clone()).clone();
    }
    seen
}

/// Some path below a place, of a kind.
fn pick(chance: &mut Chance, place: &Path, directories: bool) -> PathBuf {
    let (mut found, mut open) = (Vec::new(), vec![place.to_owned()]);
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let is_dir = fs::symlink_metadata(&path).unwrap().is_dir();
            if is_dir {
                open.push(path.clone());
            }
            if is_dir == directories {
                found.push(path);
            }
        }
    }
    found.sort();
    if found.is_empty() || directories && chance.below(8) == 0 {
        return place.to_owned();
    }
    found[chance.below(found.len() as u64) as usize].clone()
}

/// One thing that somebody does. What the kernel refuses was not done. Of the first nine, each
/// gives something a new path.
fn operate(chance: &mut Chance, place: &Path, first: u64) {
    let dir = pick(chance, place, true);
    let file = pick(chance, place, false);
    let fresh = dir.join(format!("n{}", chance.below(500)));
    let plain = fs::symlink_metadata(&file).is_ok_and(|data| data.is_file());
    let len = [0, 1, 100, 4096, 5000, 70_000][chance.below(6) as usize];
    let _ = match first + chance.below(16 - first) {
        0..=2 => fs::write(&fresh, chance.bytes(len)),
        3 => fs::create_dir(&fresh),
        // It leads nowhere: what is written through it goes nowhere else.
        4 => symlink(format!("gone/{}", "x".repeat(1 + chance.below(90) as usize)), &fresh),
        // A name that is the image's stays so, apart from a new name of the same node.
        5 if plain && name_of(&file).starts_with('n') => fs::hard_link(&file, &fresh),
        6 if dir != *place => fs::rename(&dir, place.join(format!("m{}", chance.below(100)))),
        7 | 8 => fs::rename(&file, &fresh),
        9 => fs::remove_file(&file),
        10 if dir != *place && chance.below(4) == 0 => fs::remove_dir_all(&dir),
        11 if plain => fs::set_permissions(
            &file,
            fs::Permissions::from_mode([0o600, 0o644, 0o755][chance.below(3) as usize]),
        ),
        12 => chown(&file, Some([0, 1000][chance.below(2) as usize]), Some(1000)),
        13 if plain => overwrite(chance, &file),
        14 if plain => OpenOptions::new()
            .append(true)
            .open(&file)
            .and_then(|mut file| file.write_all(&chance.bytes(len))),
        15 if plain => OpenOptions::new()
            .write(true)
            .open(&file)
            .and_then(|file| file.set_len(chance.below(100_000))),
        _ => Ok(()),
    };
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn overwrite(chance: &mut Chance, path: &Path) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(chance.below(len + 20_000)))?;
    file.write_all(&chance.bytes(300))
}

/// What the next session must find: the user's as it was left, all else as in the image.
fn expected(
    image: &BTreeMap<String, Seen>,
    after: &BTreeMap<String, Seen>,
) -> BTreeMap<String, Seen> {
    let own = |name: &str| name.starts_with("home/ann");
    let kept = after.iter().filter(|(name, _)| own(name));
    let reset = image.iter().filter(|(name, _)| !own(name));
    kept.chain(reset).map(|(name, seen)| (name.clone(), seen.clone())).collect()
}

fn assert_same(expected: &BTreeMap<String, Seen>, found: &BTreeMap<String, Seen>, round: u64) {
    let names: std::collections::BTreeSet<_> = expected.keys().chain(found.keys()).collect();
    let wrong: Vec<String> = names
        .into_iter()
        .filter(|name| expected.get(*name) != found.get(*name))
        .map(|name| format!("{name}\n   {:?}\n   {:?}", expected.get(name), found.get(name)))
        .collect();
    assert!(wrong.is_empty(), "round {round}: {} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn what_the_kernel_wrote_is_what_the_next_session_finds() {
    let scratch = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(&make_disk(scratch.path()));
    let mut chance = Chance(0x6f1d_23a7);
    let mut image = None;
    let mut due: Option<BTreeMap<String, Seen>> = None;
    let at = bench.path("mnt");
    for round in 0..=ROUNDS {
        let (stack, composed) = bench.compose(IMAGE);
        let disk = bench.composed_file(&stack, &composed);
        let after = bench.path("after.img");
        let mounted = Mounted::new(&disk, &at, 0);
        let before = look(&at);
        let image = image.get_or_insert_with(|| before.clone());
        assert_same(due.as_ref().unwrap_or(image), &before, round);
        for _ in 0..OPERATIONS {
            operate(&mut chance, &at.join("home/ann"), 0);
            match chance.below(8) {
                // What is new there would be an application of the user's.
                0 => operate(&mut chance, &at.join("usr/share"), 9),
                1 => operate(&mut chance, &at.join("tmp"), 0),
                _ => {}
            }
        }
        // Every other time the power goes: the journal is not empty.
        if round % 2 == 0 {
            run("sync", &["-f", at.to_str().unwrap()]);
            run("cp", &["--sparse=always", disk.to_str().unwrap(), after.to_str().unwrap()]);
        }
        let seen = look(&at);
        drop(mounted);
        if round % 2 == 1 {
            fs::rename(&disk, &after).unwrap();
        }
        due = Some(expected(image, &seen));
        bench.file(&stack, &composed, &after);
    }
}
