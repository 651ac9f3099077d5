//! What a person, and an image's author, may do to files: random operations on a mounted tree.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::XattrFlags;

use crate::Result;
use crate::dice::Dice;

/// Where work is done: places of every kind that the rules tell apart.
pub const PLACES: &[&str] = &[
    "home/ann",
    "home/ann/.cache",
    "home/ann/.cache/web",
    "home/ann/.ssh",
    "home/ann/.local/bin",
    "home/ann/.local/share/Steam",
    "home/ann/.local/share/Steam/userdata",
    "root",
    "srv",
    "usr/share",
    "usr/lib/modules",
    "usr/local",
    "opt",
    "boot",
    "etc/app",
    "etc/cron.d",
    "etc/systemd/system",
    "etc/default",
    "etc/NetworkManager/system-connections",
    "var/lib/bluetooth",
    "var/lib/systemd/timers",
    "var/lib/systemd/coredump",
    "var/lib/flatpak",
    "var/lib/app",
    "var/cache",
    "var/log",
    "var/log/journal",
    "var/tmp",
    "var/spool/cups",
    "var/spool/cron",
    "tmp",
];

/// Single files that rules name.
const FILES: &[&str] = &[
    "etc/fstab",
    "etc/localtime",
    "etc/hostname",
    "etc/resolv.conf",
    "etc/ssh/ssh_host_own_key",
    "etc/default/grub",
    "etc/default/locale",
    "var/lib/systemd/random-seed",
    "home/ann/.xsession-errors",
];

/// A system small enough to be looked at whole.
pub fn settle(root: &Path, dice: &mut Dice) -> Result<()> {
    let files: [(&str, &str); 8] = [
        ("etc/passwd", "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n"),
        ("etc/group", "root:x:0:\nann:x:1000:\n"),
        ("etc/shadow", "root:*:1::::::\nann:*:1::::::\n"),
        ("etc/gshadow", "root:*::\nann:!::\n"),
        ("etc/fstab", ""),
        ("usr/lib/os-release", "PRETTY_NAME=\"Small\"\n"),
        ("var/lib/dpkg/status", ""),
        ("sbin/init", "init"),
    ];
    for (path, text) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().ok_or("a file in a directory")?)?;
        fs::write(path, text)?;
    }
    for place in PLACES {
        let place = root.join(place);
        fs::create_dir_all(&place)?;
        for n in 0..dice.below(4) {
            fs::write(place.join(format!("f{n}")), content(dice))?;
        }
        if dice.one_in(2) {
            let inner = place.join("d0");
            fs::create_dir_all(&inner)?;
            for n in 0..dice.below(3) {
                fs::write(inner.join(format!("f{n}")), content(dice))?;
            }
        }
    }
    fs::create_dir_all(root.join("etc/ssh"))?;
    for file in FILES.iter().filter(|file| !file.contains("random-seed")) {
        if dice.one_in(2) && !root.join(file).exists() {
            fs::write(root.join(file), content(dice))?;
        }
    }
    Ok(())
}

/// Contents are few, so that two sides come to the same now and then.
fn content(dice: &mut Dice) -> Vec<u8> {
    match dice.below(8) {
        0 => Vec::new(),
        1 => vec![b'x'; 5000 + dice.below(3) as usize],
        _ => format!("content {}\n", dice.below(6)).into_bytes(),
    }
}

/// Some path below a place: a directory, or anything else.
fn pick(dice: &mut Dice, place: &Path, directories: bool) -> PathBuf {
    let (mut found, mut open) = (Vec::new(), vec![place.to_owned()]);
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_dir {
                open.push(entry.path());
            }
            if is_dir == directories {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    if found.is_empty() || directories && dice.one_in(3) {
        return place.to_owned();
    }
    found[dice.index(found.len())].clone()
}

/// One thing that somebody does. What the kernel refuses was not done.
pub fn operate(dice: &mut Dice, root: &Path) {
    let place = root.join(dice.one(PLACES));
    if dice.one_in(20) {
        let file = root.join(dice.one(FILES));
        // It says whether it could; either is fine.
        let _ = if dice.one_in(3) { fs::remove_file(file) } else { fs::write(file, content(dice)) };
        return;
    }
    // Somebody may have put something else where the place was, and writes elsewhere then.
    if !fs::symlink_metadata(&place).is_ok_and(|data| data.is_dir()) {
        return;
    }
    let (dir, file) = (pick(dice, &place, true), pick(dice, &place, false));
    let fresh = dir.join(format!("n{}", dice.below(6)));
    let there = fs::symlink_metadata(&file);
    let plain = there.as_ref().is_ok_and(|data| data.is_file());
    let inner = dir != place;
    // What the kernel refuses was not done.
    let _ = match dice.below(23) {
        0..=3 => fs::write(&fresh, content(dice)),
        4 | 5 => fs::create_dir(&fresh),
        6 => symlink(format!("gone{}", dice.below(3)), &fresh),
        7 if plain => fs::hard_link(&file, &fresh),
        8 if plain => fs::hard_link(&file, root.join(dice.one(PLACES)).join("linked")),
        9 if inner => fs::rename(&dir, place.join(format!("m{}", dice.below(4)))),
        10 if inner => fs::rename(&dir, root.join(dice.one(PLACES)).join("moved")),
        11 if there.is_ok() => fs::rename(&file, &fresh),
        12 if there.is_ok() => fs::remove_file(&file),
        13 if inner => fs::remove_dir_all(&dir),
        14 if there.is_ok() => replace(dice, &file),
        15 if inner => replace(dice, &dir),
        16 if plain => mode(dice, &file),
        17 if inner => mode(dice, &dir),
        18 if there.is_ok() => lchown(&file, Some(dice.one(&[0, 1000])), Some(1000)),
        19 if plain => mark(dice, &file),
        20 | 21 if plain => fs::write(&file, content(dice)),
        22 if plain => OpenOptions::new()
            .append(true)
            .open(&file)
            .and_then(|mut file| file.write_all(&content(dice))),
        _ => Ok(()),
    };
}

fn mode(dice: &mut Dice, path: &Path) -> std::io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(dice.one(&[0o600, 0o644, 0o700, 0o755])))
}

fn mark(dice: &mut Dice, path: &Path) -> std::io::Result<()> {
    if dice.one_in(3) {
        return Ok(rustix::fs::lremovexattr(path, "user.note")?);
    }
    let value = [b'0' + dice.below(3) as u8];
    Ok(rustix::fs::lsetxattr(path, "user.note", &value, XattrFlags::empty())?)
}

/// Puts something of another kind in the place of what is there.
fn replace(dice: &mut Dice, path: &Path) -> std::io::Result<()> {
    let is_dir = fs::symlink_metadata(path)?.is_dir();
    if is_dir {
        fs::remove_dir_all(path)?
    } else {
        fs::remove_file(path)?
    }
    match dice.below(4) {
        0 => symlink(format!("gone{}", dice.below(3)), path),
        1 => fs::write(path, content(dice)),
        _ => {
            fs::create_dir(path)?;
            fs::write(path.join(format!("n{}", dice.below(3))), content(dice))
        }
    }
}
