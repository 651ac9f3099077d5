//! The images that are published: a Debian, the same one upgraded, and that upgrade made anew.
//!
//! ```text
//!   v1.raw    made by the product from packages of the release alone
//!   v2.raw    v1, upgraded in place by apt: what an author does in a workshop
//!   v2r.raw   the files of v2 in a file system made anew: what an author's pipeline does
//! ```
//! They are made once and kept, so only the first run needs an archive: the one that apt is
//! configured with here. What it has differs from month to month, and so do the images; figures are
//! compared with a peer's of the same images for that reason. Packages that the upgrade fetched are
//! kept as well: their length is the least that anybody pays for that upgrade today.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use goldleaf_image::create::{Recipe, Suite, create_debian};

use super::archive::Archive;
use super::ground::{PAIR, V1, V2, V2R};
use crate::Result;
use crate::disks::sh;

/// Where the one partition of an image of the product's making begins, in bytes.
const START: u64 = 2 << 20;
/// What is behind it, in bytes.
const TAIL: u64 = 1 << 20;
/// No file of the release's image is younger, so that it depends on the archive alone.
const MADE_AT: u64 = 1_767_225_600;

/// Which images.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// Packages beside those that every image has.
    packages: &'static [&'static str],
    /// Packages that the second version has more.
    added: &'static [&'static str],
    size_mib: u64,
}

/// A desktop.
pub const DESKTOP: Kind = Kind {
    packages: &[
        "xfce4",
        "xserver-xorg-core",
        "firefox-esr",
        "libreoffice-writer",
        "python3",
        "git",
        "ca-certificates",
    ],
    added: &[],
    size_mib: 3072,
};

/// A system without a desktop, for trying out: its upgrade may be nothing, so it gets a program.
pub const LITTLE: Kind = Kind { packages: &[], added: &["git"], size_mib: 1024 };

/// Upgrades a disk in place. `$1` disk, `$2` mount point, `$3` directory of the archive's files;
/// then packages to add. All mounts are in a namespace of their own and go with it. The resolver
/// and the sources of packages are this machine's, and leave no trace.
const UPGRADE: &str = r#"set -e
disk=$1 root=$2 archive=$3
shift 3
mount -o "loop,offset=$START,discard,noatime" "$disk" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --bind "$archive/packages" "$root/var/cache/apt/archives"
mount --bind "$archive/lists" "$root/var/lib/apt/lists"
mount --bind "$archive/sources.list" "$root/etc/apt/sources.list"
for file in /etc/resolv.conf /etc/hosts; do mount --bind "$file" "$root$file"; done
export DEBIAN_FRONTEND=noninteractive APT_CONFIG=/var/cache/apt/archives/apt.conf
apt() { chroot "$root" apt-get -q -y -o Dpkg::Options::=--force-confold "$@"; }
apt update
apt full-upgrade
test $# = 0 || apt install --no-install-recommends "$@"
rm -f "$root"/var/cache/apt/*.bin
for path in etc/hosts etc/resolv.conf etc/apt/sources.list var/lib/apt/lists \
    var/cache/apt/archives proc; do umount "$root/$path"; done
umount -R -l "$root/dev"
fstrim "$root"
umount "$root"
"#;

/// Puts the files of a disk's partition into a new file system. `$1` disk, `$2` mount point, `$3`
/// the new disk, `$4` the partition's length in KiB.
const REBUILD: &str = r#"set -e
mount -o "loop,offset=$START,ro,noload" "$1" "$2"
id=$(blkid -p -O "$START" -o value -s UUID "$1")
mkfs.ext4 -q -F -b 4096 -L root -m 1 -U "$id" -d "$2" \
    -E "offset=$START,hash_seed=$id,lazy_itable_init=0,lazy_journal_init=0" "$3" "$4k"
umount "$2"
"#;

/// Makes what is missing of the images. Nothing is fetched where nothing is missing.
pub fn prepare(place: &Path, kind: Kind) -> Result<()> {
    fs::create_dir_all(place)?;
    let file = |name: &str| place.join(format!("{name}.raw"));
    if PAIR.iter().all(|name| file(name).exists()) {
        return Ok(());
    }
    let archive = Archive::of_this_machine()?;
    make(&file(V1), |disk| release(place, disk, kind, &archive))?;
    make(&file(V2), |disk| upgraded(place, disk, &file(V1), kind, &archive))?;
    make(&file(V2R), |disk| anew(place, disk, &file(V2)))
}

/// Bytes of the packages that the upgrade fetched.
pub fn package_bytes(place: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(place.join("archive/packages"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            bytes += fs::metadata(path)?.len();
        }
    }
    Ok(bytes)
}

/// Makes a disk under another name first: one that is half made is not taken for whole later.
fn make(disk: &Path, work: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if disk.exists() {
        return Ok(());
    }
    eprintln!("making {}", disk.display());
    let unfinished = disk.with_extension("unfinished");
    if unfinished.exists() {
        fs::remove_file(&unfinished)?;
    }
    work(&unfinished)?;
    Ok(fs::rename(unfinished, disk)?)
}

fn release(place: &Path, disk: &Path, kind: Kind, archive: &Archive) -> Result<()> {
    let suite = match archive.suite.as_str() {
        "bookworm" => Suite::Bookworm,
        "trixie" => Suite::Trixie,
        other => return Err(format!("cannot make images of Debian `{other}`").into()),
    };
    let mut recipe = Recipe::new("distribution", suite, MADE_AT);
    recipe.size_mib = kind.size_mib;
    recipe.packages = kind.packages.iter().map(ToString::to_string).collect();
    recipe.mirrors = archive.release();
    recipe.apt_options = vec!["APT::Install-Recommends \"false\"".into()];
    Ok(create_debian(&recipe, place, disk, &mut |step| eprintln!("  {step:?}"))?)
}

fn upgraded(place: &Path, disk: &Path, v1: &Path, kind: Kind, archive: &Archive) -> Result<()> {
    copy(v1, disk)?;
    let (root, files) = (mount_point(place)?, place.join("archive"));
    for name in ["packages/partial", "lists/partial"] {
        fs::create_dir_all(files.join(name))?;
    }
    fs::write(files.join("sources.list"), archive.all().join("\n") + "\n")?;
    fs::write(files.join("packages/apt.conf"), archive.options()?)?;
    let args = [text(disk)?, text(&root)?, text(&files)?];
    script(UPGRADE, &[&args[..], kind.added].concat())
}

fn anew(place: &Path, disk: &Path, v2: &Path) -> Result<()> {
    let len = fs::metadata(v2)?.len();
    let (old, new) = (File::open(v2)?, File::create(disk)?);
    new.set_len(len)?;
    // Partition tables and boot loader.
    for (at, count) in [(0, START), (len - TAIL, TAIL)] {
        let mut bytes = vec![0; count as usize];
        old.read_exact_at(&mut bytes, at)?;
        new.write_all_at(&bytes, at)?;
    }
    let kib = ((len - START - TAIL) / 1024).to_string();
    script(REBUILD, &[text(v2)?, text(&mount_point(place)?)?, text(disk)?, &kib])
}

fn mount_point(place: &Path) -> Result<PathBuf> {
    let root = place.join("root.mnt");
    fs::create_dir_all(&root)?;
    Ok(root)
}

/// Runs a script that mounts: its mounts are its own.
fn script(script: &str, args: &[&str]) -> Result<()> {
    let output = Command::new("unshare")
        .args(["--mount", "--propagation=private", "sh", "-c", script, "sh"])
        .args(args)
        .env("START", START.to_string())
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    std::io::stderr().write_all(&output.stdout)?;
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned().into())
}

/// Copies a file, holes and all.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    sh("cp", &["--sparse=always", text(from)?, text(to)?])
}

pub(super) fn text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| "a path that is not text".into())
}
