//! The root file system: packages by mmdebstrap, a few files of ours, and a file system made of
//! them without mounting anything.
//!
//! Without root, everything runs in a user namespace in which the user is root and the user's
//! subordinate ids are everybody else, so that owners come out right.

use std::path::Path;

use super::error::CreateError;
use super::recipe::{Kernel, Password, Recipe};
use super::tools::{self, Tool};
use super::{grub, ids::Identity};

const MMDEBSTRAP: Tool = Tool { program: "mmdebstrap", package: "mmdebstrap" };
const SHELL: Tool = Tool { program: "sh", package: "dash" };
const UNSHARE: Tool = Tool { program: "unshare", package: "util-linux (2.38 or later), uidmap" };
const MKE2FS: Tool = Tool { program: "mke2fs", package: "e2fsprogs" };

/// In every image: an init, a kernel's needs, a login, and a network.
const PACKAGES: [&str; 10] = [
    "systemd-sysv",
    "udev",
    "kmod",
    "initramfs-tools",
    "zstd",
    "iproute2",
    "login",
    "passwd",
    "e2fsprogs",
    "procps",
];
/// Features that every part of Goldleaf reads, by name, whatever the host's defaults are.
const FEATURES: &str = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,\
    flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum";
/// Both consoles speak; the last one is where the system's own messages and a login appear.
const KERNEL_ARGUMENTS: &str = "ro quiet net.ifnames=0 console=tty0 console=ttyS0,115200";
/// The drivers that a virtual machine's disk may need.
const BOOT_MODULES: &str = "virtio_pci\nvirtio_blk\nvirtio_scsi\nahci\nsd_mod\next4\ncrc32c\n";
/// Units that make sense on a machine that is updated in place and is not started often.
const MASKED_UNITS: [&str; 6] = [
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "getty-static.service",
    "systemd-networkd-wait-online.service",
];
/// Unpacks, lays our files over, and makes the file system. `$1` archive, `$2` tree, `$3` files,
/// `$4` disk; the rest are mke2fs's arguments.
const ASSEMBLE: &str = r#"set -e
archive=$1 tree=$2 files=$3
shift 3
trap 'rm -rf -- "$tree"' EXIT
mkdir -m 755 -- "$tree"
tar --extract --file "$archive" --directory "$tree" --numeric-owner --same-permissions \
    --xattrs --xattrs-include='*' --exclude='./dev/*'
rm -f -- "$tree"/etc/ssh/ssh_host_* "$tree/etc/resolv.conf" "$tree/etc/hostname" \
    "$tree/var/lib/dbus/machine-id" "$tree/var/lib/systemd/random-seed"
cp -a -- "$files/." "$tree"
find "$files" -mindepth 1 -printf '%P\0' | (cd "$tree" && xargs -0 touch -h -d "@$EPOCH" --)
touch -d "@$EPOCH" -- "$tree"
mke2fs -q -F -d "$tree" "$@"
"#;

/// Fills `archive` with the packages' files.
pub(super) fn install(recipe: &Recipe, archive: &Path) -> Result<(), CreateError> {
    let environment = [("SOURCE_DATE_EPOCH", recipe.made_at.to_string())];
    MMDEBSTRAP.run(&mmdebstrap_arguments(recipe, archive), &environment)
}

fn mmdebstrap_arguments(recipe: &Recipe, archive: &Path) -> Vec<String> {
    let kernel = match recipe.kernel {
        Kernel::Cloud => "linux-image-cloud-amd64",
        Kernel::General => "linux-image-amd64",
    };
    let packages: Vec<&str> = PACKAGES
        .into_iter()
        .chain([kernel])
        .chain(recipe.packages.iter().map(String::as_str))
        .collect();
    let mut arguments = vec![
        "--quiet".to_owned(),
        "--mode=auto".to_owned(),
        "--architectures=amd64".to_owned(),
        "--variant=minbase".to_owned(),
        "--format=tar".to_owned(),
        format!("--components={}", recipe.components.join(",")),
        format!("--include={}", packages.join(",")),
    ];
    arguments.extend(recipe.apt_options.iter().map(|option| format!("--aptopt={option}")));
    arguments.extend(early_hooks(recipe).map(|hook| format!("--essential-hook={hook}")));
    arguments.extend(late_hooks(recipe).iter().map(|hook| format!("--customize-hook={hook}")));
    arguments.push(recipe.suite.name().to_owned());
    arguments.push(archive.display().to_string());
    arguments.extend(recipe.mirrors.iter().cloned());
    arguments
}

/// What must be there before the kernel's first file system is built.
fn early_hooks(recipe: &Recipe) -> impl Iterator<Item = String> {
    let small = [
        ("etc/initramfs-tools/conf.d", "goldleaf", "MODULES=list\nCOMPRESS=zstd\nFSTYPE=ext4\n"),
        ("usr/share/initramfs-tools/modules.d", "goldleaf", BOOT_MODULES),
    ];
    let wanted = recipe.kernel == Kernel::Cloud;
    small.into_iter().filter(move |_| wanted).map(|(dir, name, text)| {
        format!("mkdir -p \"$1/{dir}\" && printf %s {} > \"$1/{dir}/{name}\"", quote(text))
    })
}

fn late_hooks(recipe: &Recipe) -> Vec<String> {
    let mut hooks = vec![
        "chroot \"$1\" systemctl --quiet enable systemd-networkd.service".to_owned(),
        format!("chroot \"$1\" systemctl --quiet mask {}", MASKED_UNITS.join(" ")),
    ];
    for account in &recipe.accounts {
        let name = &account.name;
        hooks.push(format!("chroot \"$1\" useradd --create-home --shell /bin/bash {name}"));
        for group in &account.groups {
            hooks.push(format!("chroot \"$1\" usermod --append --groups {group} {name}"));
        }
        hooks.extend(password_hook(name, &account.password));
    }
    hooks.extend(password_hook("root", &recipe.root_password));
    hooks.extend(recipe.customize.iter().cloned());
    hooks
}

fn password_hook(name: &str, password: &Password) -> Option<String> {
    let (flag, text) = match password {
        Password::Locked => return None,
        Password::Plain(text) => ("", text),
        Password::Hashed(text) => (" --encrypted", text),
    };
    let line = quote(&format!("{name}:{text}"));
    Some(format!("printf '%s\\n' {line} | chroot \"$1\" chpasswd{flag}"))
}

/// One word for a POSIX shell, whatever is in it.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Writes the files that no package brings.
pub(super) fn write_files(
    recipe: &Recipe,
    identity: &Identity,
    files: &Path,
) -> Result<(), CreateError> {
    let filesystem = &identity.filesystem;
    let host = &recipe.hostname;
    let configuration = grub::configuration(filesystem, KERNEL_ARGUMENTS);
    let fstab = format!("UUID={filesystem} / ext4 errors=remount-ro 0 1\n");
    let network = "[Match]\nType=ether\n\n[Network]\nDHCP=yes\n";
    let hosts = format!("127.0.0.1 localhost\n127.0.1.1 {host}\n::1 localhost ip6-localhost\n");
    let all = [
        ("boot/grub/grub.cfg", configuration.as_str()),
        ("etc/fstab", &fstab),
        ("etc/hostname", &format!("{host}\n")),
        ("etc/hosts", &hosts),
        // Empty, not missing: a missing one means a first boot, which resets every unit.
        ("etc/machine-id", ""),
        ("etc/systemd/network/80-ethernet.network", network),
    ];
    for (path, text) in all {
        tools::write_file(&files.join(path), text.as_bytes())?;
    }
    resolver(recipe, files)
}

/// With a resolver in the image its link, without one the address at which QEMU's network of the
/// user answers.
fn resolver(recipe: &Recipe, files: &Path) -> Result<(), CreateError> {
    let path = files.join("etc/resolv.conf");
    if recipe.packages.iter().any(|package| package == "systemd-resolved") {
        tools::link(&path, "../run/systemd/resolve/stub-resolv.conf")
    } else {
        tools::write_file(&path, b"nameserver 10.0.2.3\n")
    }
}

/// Where a file system is to be made.
pub(super) struct Place<'a> {
    pub(super) disk: &'a Path,
    pub(super) offset_bytes: u64,
    pub(super) len_bytes: u64,
}

/// Unpacks `archive` beside it, lays `files` over, and makes the file system in its place.
pub(super) fn make_filesystem(
    recipe: &Recipe,
    identity: &Identity,
    archive: &Path,
    files: &Path,
    place: &Place<'_>,
) -> Result<(), CreateError> {
    let text = |path: &Path| path.display().to_string();
    let mut shell = vec![
        "-c".to_owned(),
        ASSEMBLE.to_owned(),
        "sh".to_owned(),
        text(archive),
        text(&archive.with_extension("tree")),
        text(files),
    ];
    shell.extend(mke2fs_arguments(identity, place));
    let environment = [
        ("EPOCH", recipe.made_at.to_string()),
        // mke2fs takes the time from here; 0 would mean the clock.
        ("E2FSPROGS_FAKE_TIME", recipe.made_at.max(1).to_string()),
    ];
    MKE2FS.run(&["-V".to_owned()], &[])?;
    if tools::is_root() {
        return SHELL.run(&shell, &environment);
    }
    let mut unshare = ["--map-root-user", "--map-auto", "--", "sh"].map(String::from).to_vec();
    unshare.extend(shell);
    UNSHARE.run(&unshare, &environment)
}

/// Inode tables are ready at once, so that no guest spends its first minutes, and its session log,
/// on writing zeroes.
fn mke2fs_arguments(identity: &Identity, place: &Place<'_>) -> Vec<String> {
    let filesystem = &identity.filesystem;
    let extended = format!(
        "offset={},lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0,hash_seed={}",
        place.offset_bytes, identity.hash_seed
    );
    [
        "-t", "ext4", "-b", "4096", "-I", "256", "-m", "1", "-L", "root", "-O", FEATURES, "-U",
        filesystem, "-E", &extended,
    ]
    .into_iter()
    .map(str::to_owned)
    .chain([place.disk.display().to_string(), format!("{}k", place.len_bytes / 1024)])
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::create::recipe::{Account, Suite};

    #[test]
    fn nothing_in_a_recipe_leaves_its_quotes() {
        let mut recipe = Recipe::new("x", Suite::Trixie, 7);
        recipe.root_password = Password::Plain("it's; rm -rf /".into());
        recipe.accounts.push(Account {
            name: "ann".into(),
            password: Password::Hashed("$y$j9T$x".into()),
            groups: vec!["audio".into()],
        });
        let arguments = mmdebstrap_arguments(&recipe, Path::new("/w/root.tar"));
        for expected in [
            r#"--customize-hook=printf '%s\n' 'root:it'\''s; rm -rf /' | chroot "$1" chpasswd"#,
            r#"--customize-hook=printf '%s\n' 'ann:$y$j9T$x' | chroot "$1" chpasswd --encrypted"#,
            r#"--customize-hook=chroot "$1" usermod --append --groups audio ann"#,
        ] {
            assert!(arguments.iter().any(|argument| argument == expected), "{arguments:#?}");
        }
        assert_eq!(arguments[arguments.len() - 2..], ["trixie", "/w/root.tar"]);
    }

    #[test]
    fn features_are_spelled_out() {
        let place = Place { disk: Path::new("/d"), offset_bytes: 2 << 20, len_bytes: 1 << 30 };
        let arguments = mke2fs_arguments(&Identity::of("x"), &place).join(" ");
        assert!(arguments.contains("-O none,has_journal,"), "{arguments}");
        assert!(arguments.contains("-E offset=2097152,lazy_itable_init=0,"), "{arguments}");
        assert!(arguments.ends_with("/d 1048576k"), "{arguments}");
    }
}
