//! What the guest boots: the kernel of a distribution's package, or the system's own, and an archive
//! with our program as the only one in it.
//!
//! Specification of the archive: `Documentation/driver-api/early-userspace/buffer-format.rst` of
//! the kernel ("newc"): headers of hexadecimal digits, names and contents padded to 4 bytes.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Result;
use crate::replay::tools;

/// Packages that depend on the present kernel, small because it is for virtual machines only:
/// Debian's, and Ubuntu's of today and of before.
const KERNEL_PACKAGES: [&str; 3] =
    ["linux-image-cloud-amd64", "linux-image-virtual", "linux-image-kvm"];
/// What the disk needs of it, in the order of loading. Ubuntu's has them built in.
const MODULES: [&str; 6] = [
    "virtio/virtio_ring",
    "virtio/virtio",
    "virtio/virtio_pci_legacy_dev",
    "virtio/virtio_pci_modern_dev",
    "virtio/virtio_pci",
    "block/virtio_blk",
];
const PROGRAM: &str = include_str!("init.c");

/// How the files of kernels begin, before the version.
const IMAGE_PREFIX: &str = "vmlinuz-";

/// Modes of a regular program, a directory and a character device, as `stat` has them.
const MODE_FILE: u32 = 0o100_755;
const MODE_DIR: u32 = 0o040_755;
const MODE_CHARACTERS: u32 = 0o020_600;
/// The console's numbers.
const CONSOLE: (u32, u32) = (5, 1);

/// What QEMU is to boot.
pub struct Boot {
    /// A kernel.
    pub kernel: PathBuf,
    /// Its initramfs.
    pub initrd: PathBuf,
}

/// Makes it in `place`. The kernel is fetched once and kept beside what was built.
pub fn make(place: &Path) -> Result<Boot> {
    let kernel = kernel(place)?;
    let source = place.join("init.c");
    let program = place.join("init");
    fs::write(&source, PROGRAM)?;
    tools::succeed("gcc", &["-static", "-O1", "-o", text(&program)?, text(&source)?])?;
    let mut archive = Archive::default();
    archive.add("dev", MODE_DIR, (0, 0), &[]);
    archive.add("dev/console", MODE_CHARACTERS, CONSOLE, &[]);
    archive.add("init", MODE_FILE, (0, 0), &fs::read(&program)?);
    let found: Vec<_> = MODULES.iter().filter_map(|name| kernel.module(name)).collect();
    for (number, module) in found.iter().enumerate() {
        archive.add(&format!("m{number}"), MODE_FILE, (0, 0), &unpacked(module)?);
    }
    archive.add("TRAILER!!!", 0, (0, 0), &[]);
    let initrd = place.join("initrd");
    fs::write(&initrd, archive.0)?;
    let plain = place.join("vmlinux");
    let kernel = if uncompress(&kernel.image, &plain)? { plain } else { kernel.image };
    Ok(Boot { kernel, initrd })
}

/// Takes the kernel out of its compressed form. QEMU boots it as well (by PVH), and the emulated
/// processor is spared a fifth of the boot; `false` where the tool for that is missing.
///
/// Specification: `Documentation/arch/x86/boot.rst` of the kernel (`setup_sects`, `payload_offset`,
/// `payload_length`); the payload ends with its length when unpacked.
fn uncompress(image: &Path, to: &Path) -> Result<bool> {
    let bytes = fs::read(image)?;
    let number = |at: usize| {
        let field = bytes.get(at..at + 4)?;
        Some(u32::from_le_bytes(field.try_into().ok()?) as usize)
    };
    let place = || {
        let setup = (usize::from(*bytes.get(0x1F1)?).max(1) + 1) * 512;
        let (start, len) = (setup + number(0x248)?, number(0x24C)?);
        bytes.get(start..(start + len).checked_sub(4)?)
    };
    let payload = place().ok_or_else(|| format!("{} is no kernel", image.display()))?;
    let program = match payload {
        [0x02, 0x21, 0x4C, 0x18, ..] => "lz4",
        [0x28, 0xB5, 0x2F, 0xFD, ..] => "zstd",
        [0xFD, b'7', b'z', ..] => "xz",
        _ => return Ok(false),
    };
    let packed = to.with_extension("packed");
    fs::write(&packed, payload)?;
    let Ok(output) = tools::run(program, &["-dcq", text(&packed)?]) else { return Ok(false) };
    let is_elf = output.status.success() && output.stdout.starts_with(b"\x7FELF");
    if is_elf {
        fs::write(to, output.stdout)?;
    }
    Ok(is_elf)
}

/// A kernel and where its modules are, if it has some.
struct Kernel {
    image: PathBuf,
    modules: PathBuf,
}

impl Kernel {
    /// The one in a tree of files, such as a package or this system.
    fn below(root: &Path) -> Result<Self> {
        let image = only_entry(&root.join("boot"), IMAGE_PREFIX)?;
        fs::File::open(&image).map_err(|error| format!("{}: {error}", image.display()))?;
        let name = image.file_name().unwrap_or_default().to_string_lossy();
        let version = name.strip_prefix(IMAGE_PREFIX).unwrap_or_default();
        let places = ["lib/modules", "usr/lib/modules"].map(|place| root.join(place).join(version));
        let modules = places.into_iter().find(|place| place.exists()).unwrap_or_default();
        Ok(Self { image, modules })
    }

    /// The file of a module; one that is not there is part of the kernel itself.
    fn module(&self, name: &str) -> Option<PathBuf> {
        let names = ["ko", "ko.xz", "ko.zst"].map(|end| format!("kernel/drivers/{name}.{end}"));
        names.iter().map(|name| self.modules.join(name)).find(|file| file.exists())
    }
}

/// What a module's file holds.
fn unpacked(module: &Path) -> Result<Vec<u8>> {
    let program = match module.extension().and_then(|end| end.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => return Ok(fs::read(module)?),
    };
    let output = tools::run(program, &["-dc", text(module)?])?;
    if output.status.success() { Ok(output.stdout) } else { Err(tools::said(&output).into()) }
}

/// A package's kernel, or else this system's own.
fn kernel(place: &Path) -> Result<Kernel> {
    let mut why = Vec::new();
    for package in KERNEL_PACKAGES {
        match kernel_files(place, package) {
            Ok(root) => return Kernel::below(&root),
            Err(error) => why.push(error.to_string()),
        }
    }
    Kernel::below(Path::new("/")).map_err(|error| {
        format!("the guests need a kernel, and there is none: {}; {error}", why.join("; ")).into()
    })
}

fn text(path: &Path) -> Result<&str> {
    Ok(path.to_str().ok_or("a path that is no text")?)
}

fn only_entry(dir: &Path, prefix: &str) -> Result<PathBuf> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            return Ok(entry.path());
        }
    }
    Err(format!("nothing named {prefix}… in {}", dir.display()).into())
}

/// The unpacked package of the kernel on which `on` depends.
fn kernel_files(place: &Path, on: &str) -> Result<PathBuf> {
    let said = tools::run("apt-cache", &["depends", on])?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let needed = said.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    let package = needed.into_iter().find(|name| name.starts_with("linux-image-"));
    let package = package.ok_or(format!("no package {on}"))?;
    let kept = kept_dir(place)?.join(package);
    if kept.exists() {
        return Ok(kept);
    }
    let fresh = place.join("kernel");
    fs::create_dir_all(&fresh)?;
    let output =
        tools::command("apt-get", &["download", "-q", package]).current_dir(&fresh).output()?;
    if !output.status.success() {
        return Err(format!("apt-get download {package}: {}", tools::said(&output)).into());
    }
    let archive = only_entry(&fresh, package)?;
    let unpacked = kept.with_extension("new");
    let _ = fs::remove_dir_all(&unpacked);
    tools::succeed("dpkg-deb", &["-x", text(&archive)?, text(&unpacked)?])?;
    fs::rename(&unpacked, &kept)?;
    Ok(kept)
}

/// Cargo marks its build directory with a tag; this program lies somewhere in it.
fn kept_dir(place: &Path) -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.ancestors().find(|dir| dir.join("CACHEDIR.TAG").exists());
    let dir = target.unwrap_or(place).join("proof-cache");
    fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// An archive under construction.
#[derive(Default)]
struct Archive(Vec<u8>);

impl Archive {
    fn add(&mut self, name: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        let number = self.0.len() as u32;
        let name_len = name.len() as u32 + 1;
        // Inode, mode, owner, group, links, time, length, its device, device, name's length, sum.
        let fields =
            [number, mode, 0, 0, 1, 0, content.len() as u32, 0, 0, device.0, device.1, name_len, 0];
        self.0.extend(b"070701");
        fields.iter().for_each(|field| self.0.extend(format!("{field:08x}").bytes()));
        self.0.extend(name.bytes().chain([0]));
        self.pad();
        self.0.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}
