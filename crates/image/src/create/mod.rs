//! A bootable Debian image from nothing but a recipe, without root and without a loop device.
//!
//! mmdebstrap installs the packages into an archive; mke2fs makes the file system out of the
//! unpacked tree, right where the partition will be; GRUB's stages and the partition table are
//! written around it. Nothing is mounted, and no part of the image ever runs on the host outside
//! mmdebstrap's own chroot.

mod error;
mod gpt;
mod grub;
mod ids;
mod recipe;
mod system;
mod tools;

use std::path::Path;

pub use error::CreateError;
pub use recipe::{Account, Kernel, Password, Recipe, Suite};

use gpt::{BOOT_START, Ids, ROOT_START, SECTOR};
use ids::Identity;
use system::Place;

/// What is being done, for whoever waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Packages are fetched and installed.
    Install,
    /// The file system is made.
    Filesystem,
    /// The boot loader and the partition table are written.
    BootLoader,
}

/// Makes a Debian image: a new raw, sparse file at `disk`, which must not exist. Intermediate files
/// of about three times the system's size live in `work` meanwhile.
pub fn create_debian(
    recipe: &Recipe,
    work: &Path,
    disk: &Path,
    progress: &mut dyn FnMut(Step),
) -> Result<(), CreateError> {
    recipe.check()?;
    let identity = Identity::of(&recipe.name);
    let scratch = tools::Scratch::new(work.join("create"))?;
    let sectors = (recipe.size_mib << 20) / SECTOR;
    // Before the long part: what is missing should be said at once.
    let loader = grub::build(scratch.path(), &identity.filesystem)?;
    tools::make_sparse(disk, sectors * SECTOR)?;

    progress(Step::Install);
    let archive = scratch.path().join("root.tar");
    system::install(recipe, &archive)?;

    progress(Step::Filesystem);
    let files = scratch.path().join("files");
    system::write_files(recipe, &identity, &files)?;
    let place = Place {
        disk,
        offset_bytes: ROOT_START * SECTOR,
        len_bytes: gpt::root_sectors(sectors) * SECTOR,
    };
    system::make_filesystem(recipe, &identity, &archive, &files, &place)?;

    progress(Step::BootLoader);
    let ids =
        Ids { disk: identity.disk, boot: identity.boot_partition, root: identity.root_partition };
    let mut pieces = gpt::table(sectors, &ids, &loader.first);
    pieces.push((BOOT_START * SECTOR, loader.core));
    tools::write_pieces(disk, &pieces)
}
