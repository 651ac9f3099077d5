//! GRUB for PC firmware, put into a disk image without a device and without root.
//!
//! ```text
//! sector 0       boot.img, 440 bytes of code; at 0x5c the sector where the core begins (u64)
//! core + 0       the core's first sector reads the rest by the list at its own end:
//!                at 0x1f4 first sector (u64), count (u16), segment to load to (u16)
//! core + 1 ...   the core: kernel, built-in modules, and a first configuration
//! ```
//!
//! That is what `grub-bios-setup` leaves behind when it embeds a core (GRUB's manual, "BIOS
//! installation"; offsets: its `include/grub/i386/pc/boot.h`). The core has every module it needs
//! built in, so the guest needs no GRUB package: the configuration names the kernel by the links
//! `/vmlinuz` and `/initrd.img`, which Debian's kernel packages keep up to date.

use std::path::Path;

use super::error::CreateError;
use super::gpt::{BOOT_SECTORS, BOOT_START, SECTOR};
use super::tools::{self, Tool};

const MKIMAGE: Tool = Tool { program: "grub-mkimage", package: "grub-common" };
const FIRST_STAGE: &str = "/usr/lib/grub/i386-pc/boot.img";
const FIRST_STAGE_PACKAGE: &str = "grub-pc-bin";

/// Where the first stage keeps the sector of the core.
const KERNEL_SECTOR_AT: usize = 0x5c;
/// A jump that the installer blanks for hard disks: some firmware passes a wrong drive number.
const DRIVE_CHECK_AT: usize = 0x66;
const NOPS: [u8; 2] = [0x90, 0x90];
/// Where the core's first sector keeps the list of what to load.
const BLOCK_LIST_AT: usize = 0x1f4;
/// Where the rest of the core goes: one sector above 0x8000.
const LOAD_SEGMENT: u16 = 0x820;

const MODULES: [&str; 13] = [
    "biosdisk",
    "part_gpt",
    "ext2",
    "normal",
    "configfile",
    "linux",
    "search_fs_uuid",
    "search",
    "echo",
    "test",
    "ls",
    "reboot",
    "halt",
];

/// The boot loader, ready to be written.
pub(super) struct BootLoader {
    /// For the disk's first sector.
    pub(super) first: [u8; 440],
    /// For the BIOS boot partition.
    pub(super) core: Vec<u8>,
}

/// Builds the boot loader of a disk whose root file system has this UUID.
pub(super) fn build(scratch: &Path, filesystem: &str) -> Result<BootLoader, CreateError> {
    let early = scratch.join("grub-early.cfg");
    let search = format!("search.fs_uuid {filesystem} root\nset prefix=($root)/boot/grub\n");
    tools::write_file(&early, search.as_bytes())?;
    let core = scratch.join("core.img");
    let mut arguments: Vec<String> =
        ["-O", "i386-pc", "-p", "(hd0,gpt2)/boot/grub", "-c"].map(String::from).to_vec();
    arguments.push(early.display().to_string());
    arguments.push("-o".into());
    arguments.push(core.display().to_string());
    arguments.extend(MODULES.map(String::from));
    MKIMAGE.run(&arguments, &[])?;
    let first = tools::read_packaged(Path::new(FIRST_STAGE), "GRUB", FIRST_STAGE_PACKAGE)?;
    Ok(BootLoader { first: first_stage(&first)?, core: core_image(tools::read_file(&core)?)? })
}

fn first_stage(image: &[u8]) -> Result<[u8; 440], CreateError> {
    let wrong = || CreateError::BootLoader {
        what: "first stage",
        found: image.len(),
        expected: "one sector of 512",
    };
    if image.len() as u64 != SECTOR {
        return Err(wrong());
    }
    let mut first: [u8; 440] =
        image.get(..440).and_then(|b| b.try_into().ok()).ok_or_else(wrong)?;
    put(&mut first, KERNEL_SECTOR_AT, &BOOT_START.to_le_bytes());
    put(&mut first, DRIVE_CHECK_AT, &NOPS);
    Ok(first)
}

fn core_image(mut core: Vec<u8>) -> Result<Vec<u8>, CreateError> {
    let found = core.len();
    let sectors = (found as u64).div_ceil(SECTOR);
    let rest = u16::try_from(sectors.saturating_sub(1)).unwrap_or(0);
    if !(2..=BOOT_SECTORS).contains(&sectors) || rest == 0 {
        return Err(CreateError::BootLoader {
            what: "core",
            found,
            expected: "more than one sector and at most the boot partition's 1 MiB",
        });
    }
    core.resize((sectors * SECTOR) as usize, 0);
    put(&mut core, BLOCK_LIST_AT, &(BOOT_START + 1).to_le_bytes());
    put(&mut core, BLOCK_LIST_AT + 8, &rest.to_le_bytes());
    put(&mut core, BLOCK_LIST_AT + 10, &LOAD_SEGMENT.to_le_bytes());
    Ok(core)
}

/// Overwrites bytes at an offset that the caller has made room for.
fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    for (to, from) in bytes.iter_mut().skip(at).zip(value) {
        *to = *from;
    }
}

/// The configuration in the guest's `/boot/grub/grub.cfg`.
pub(super) fn configuration(filesystem: &str, kernel_arguments: &str) -> String {
    format!(
        "set default=0\n\
         set timeout=0\n\
         menuentry \"Debian\" {{\n\
         \tsearch --no-floppy --fs-uuid --set=root {filesystem}\n\
         \tlinux /vmlinuz root=UUID={filesystem} {kernel_arguments}\n\
         \tinitrd /initrd.img\n\
         }}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_that_does_not_fit_is_refused() {
        assert!(core_image(vec![0; 512]).is_err());
        assert!(core_image(vec![0; (1 << 20) + 1]).is_err());
        let core = core_image(vec![0; 1000]).unwrap();
        assert_eq!(core.len(), 1024);
        assert_eq!(core[0x1f4..0x200], [1, 8, 0, 0, 0, 0, 0, 0, 1, 0, 0x20, 0x08]);
    }

    #[test]
    fn a_first_stage_of_another_size_is_refused() {
        assert!(first_stage(&[0; 511]).is_err());
        assert_eq!(first_stage(&[0; 512]).unwrap()[0x5c..0x64], 2048_u64.to_le_bytes());
    }
}
