//! What the chapters start from: a disk to import, a small disk of the host's to live on, and a
//! directory of goods.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::Result;
use crate::replay::tools::{self, text};

/// The one desktop.
pub const DESKTOP: &str = "desk";
/// Where the root volume begins, in bytes.
pub const ROOT_START: u64 = 1 << 20;
/// Its length.
const ROOT_LEN: u64 = 16 << 20;
/// Where swap begins.
pub const SWAP_START: u64 = ROOT_START + ROOT_LEN;
const SWAP_LEN: u64 = 1 << 20;
/// The host's disk: soon full.
const HOST_LEN: u64 = 192 << 20;
/// All that e2fsprogs write is of this time, in seconds.
const TIME: &str = "1760000000";

/// As much of a Debian as an import asks for, and something of a user's.
const FILES: [(&str, &str); 13] = [
    ("etc/passwd", "root:x:0:0:root:/root:/bin/bash\nada:x:1000:1000:Ada:/home/ada:/bin/sh\n"),
    ("etc/group", "root:x:0:\nada:x:1000:\n"),
    ("etc/shadow", "root:*:20000::::::\nada:*:20000::::::\n"),
    ("etc/gshadow", "root:*::\nada:!::\n"),
    ("etc/fstab", ""),
    ("etc/hostname", "golden\n"),
    ("etc/motd", "welcome\n"),
    ("usr/lib/os-release", "PRETTY_NAME=\"Small Linux\"\nID=debian\n"),
    ("usr/lib/systemd/systemd", "no program\n"),
    (
        "var/lib/dpkg/status",
        "Package: base-files\nStatus: install ok installed\nArchitecture: amd64\nVersion: 13\n\
         Maintainer: nobody\nDescription: none\n\n",
    ),
    ("var/lib/dpkg/info/base-files.list", "/.\n/etc\n/usr\n"),
    ("home/ada/text", "a text\n"),
    ("home/ada/a/b/c/deep", "deep\n"),
];

/// A file that an edit removes: some frames of a pack (768 KiB each) are its alone.
const LARGE: &str = "usr/share/golden";
/// Its length in blocks.
const LARGE_BLOCKS: usize = 512;

/// What a real machine's processor finds in the first sector: reboot at the first boot, power off
/// at the second. Which one it is, says a byte of the battery-backed memory (44h), which a reset
/// does not clear. Ports: CF9h resets, 604h is where QEMU's firmware puts the ACPI power control.
const BOOT_CODE: [u8; 37] = [
    0xb0, 0x44, // mov al, 44h
    0xe6, 0x70, // out 70h, al
    0xe4, 0x71, // in al, 71h
    0x84, 0xc0, // test al, al
    0x75, 0x11, // jnz off
    0xb0, 0x44, // mov al, 44h
    0xe6, 0x70, // out 70h, al
    0xb0, 0x01, // mov al, 1
    0xe6, 0x71, // out 71h, al
    0xba, 0xf9, 0x0c, // mov dx, cf9h
    0xb0, 0x06, // mov al, 6
    0xee, // out dx, al
    0xf4, // halt: hlt
    0xeb, 0xfd, // jmp halt
    0xba, 0x04, 0x06, // off: mov dx, 604h
    0xb8, 0x00, 0x20, // mov ax, 2000h
    0xef, // out dx, ax
    0xf4, // halt: hlt
    0xeb, 0xfd, // jmp halt
];

/// Directories that the guest's work needs.
const DIRECTORIES: [&str; 5] = ["usr/bin", "usr/local/bin", "var/cache", "tmp", "root"];

/// Makes the disk that is imported.
pub fn make_disk(path: &Path) -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let tree = scratch.path().join("tree");
    for (file, text) in FILES {
        let file = tree.join(file);
        fs::create_dir_all(file.parent().ok_or("no parent")?)?;
        fs::write(file, text)?;
    }
    for directory in DIRECTORIES {
        fs::create_dir_all(tree.join(directory))?;
    }
    fs::create_dir_all(tree.join("usr/share"))?;
    let blocks = (0..LARGE_BLOCKS).map(|block| format!("{block:08}").repeat(512));
    fs::write(tree.join(LARGE), blocks.collect::<String>())?;
    fs::File::create(path)?.set_len(SWAP_START + SWAP_LEN + (1 << 20))?;
    let disk = text(path)?;
    partition(
        disk,
        &format!(
            "label: gpt\nstart={}, size={}, type=linux\nstart={}, size={}, type=swap\n",
            ROOT_START / 512,
            ROOT_LEN / 512,
            SWAP_START / 512,
            SWAP_LEN / 512
        ),
    )?;
    let blocks = (ROOT_LEN / 4096).to_string();
    let place = format!("offset={ROOT_START},lazy_itable_init=0");
    let fixed = ["-q", "-F", "-t", "ext4", "-b", "4096", "-N", "1024", "-J", "size=4"];
    let own = ["-U", "6f0a1b52-43a1-4b0c-9d53-0f1e2d3c4b5b", "-E", &place];
    let made = tools::command("mke2fs", &[&fixed[..], &own, &["-d", text(&tree)?, disk]].concat())
        .arg(blocks)
        .env("E2FSPROGS_FAKE_TIME", TIME)
        .output()?;
    if !made.status.success() {
        return Err(format!("mke2fs: {}", tools::said(&made)).into());
    }
    let swap = scratch.path().join("swap");
    fs::File::create(&swap)?.set_len(SWAP_LEN)?;
    tools::succeed("mkswap", &["-q", text(&swap)?])?;
    let file = fs::OpenOptions::new().write(true).open(path)?;
    file.write_all_at(&fs::read(swap)?, SWAP_START)?;
    Ok(file.write_all_at(&BOOT_CODE, 0)?)
}

fn partition(disk: &str, table: &str) -> Result<()> {
    let args = ["--quiet", "--no-reread", "--no-tell-kernel", disk];
    let mut child =
        tools::command("sfdisk", &args).stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    child.stdin.take().ok_or("no input")?.write_all(table.as_bytes())?;
    if child.wait()?.success() { Ok(()) } else { Err("sfdisk failed".into()) }
}

/// Lets debugfs change the root volume of a disk; `@` in the commands is `goods`.
pub fn debugfs(disk: &Path, commands: &[&str], goods: &Path) -> Result<()> {
    let script = disk.with_extension("commands");
    let device = format!("{}?offset={ROOT_START}", disk.display());
    fs::write(&script, commands.iter().map(|one| line(one, goods)).collect::<Result<String>>()?)?;
    let said = tools::command("debugfs", &["-w", "-f", text(&script)?, &device])
        .env("E2FSPROGS_FAKE_TIME", TIME)
        .output()?;
    // It ends well whatever happened; what went wrong, it says.
    let errors = String::from_utf8_lossy(&said.stderr).lines().skip(1).collect::<String>();
    if errors.is_empty() { Ok(()) } else { Err(format!("debugfs: {errors}").into()) }
}

/// debugfs names a new file in its working directory only.
fn line(command: &str, goods: &Path) -> Result<String> {
    let Some((dir, name)) = command.strip_prefix("write @ ").and_then(|at| at.rsplit_once('/'))
    else {
        return Ok(format!("{command}\n"));
    };
    Ok(format!("cd {}/\nwrite {} {name}\n", dir, text(goods)?))
}

/// A small disk of the host's, mounted; unmounted when dropped.
pub struct HostDisk {
    at: PathBuf,
}

impl HostDisk {
    /// Makes it, a file, and mounts it at a new directory.
    pub fn new(file: &Path, at: PathBuf) -> Result<Self> {
        fs::File::create(file)?.set_len(HOST_LEN)?;
        fs::create_dir(&at)?;
        // Nothing is kept back for root, whose processes the tests are.
        tools::succeed("mkfs.ext4", &["-q", "-F", "-m", "0", text(file)?])?;
        tools::succeed("mount", &["-o", "loop", text(file)?, text(&at)?])?;
        Ok(Self { at })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.at
    }

    /// Removes everything on it.
    pub fn clear(&self) -> Result<()> {
        for entry in fs::read_dir(&self.at)? {
            let path = entry?.path();
            if path.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
        }
        Ok(())
    }
}

impl Drop for HostDisk {
    fn drop(&mut self) {
        // Another thread may be starting a program, which has our files open until it runs.
        let _ = text(&self.at).and_then(|at| tools::succeed("umount", &["-l", at]));
    }
}
