//! Test images, made once and kept.
//!
//! They live under the build directory, or where the variable `GOLDLEAF_E2E_CACHE` says, each
//! named by a hash of its recipe. Tests take copies; a kept image is never written to.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use goldleaf_image::create::{Password, Recipe, Suite, create_debian};
use rustix::fs::{FlockOperation, flock};

use crate::error::HarnessError;

/// The superuser's password in test images.
pub const ROOT_PASSWORD: &str = "root";
/// Changes whenever images of an unchanged recipe come out differently.
const GENERATION: u32 = 1;
/// 2025-06-15: any fixed time will do.
const MADE_AT: u64 = 1_750_000_000;
/// Units that cost a translated guest seconds and tests nothing.
const SLOW_UNITS: &str = "dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount \
    sys-kernel-tracing.mount modprobe@dm_mod.service modprobe@loop.service \
    modprobe@efi_pstore.service modprobe@fuse.service systemd-update-utmp.service";

/// A small system that boots quickly, to be extended by a test.
pub fn recipe() -> Recipe {
    let mut recipe = Recipe::new("e2e", Suite::Bookworm, MADE_AT);
    recipe.root_password = Password::Plain(ROOT_PASSWORD.into());
    recipe.customize.push(format!("chroot \"$1\" systemctl --quiet mask {SLOW_UNITS}"));
    recipe
}

/// The kept image of a recipe; it is made if there is none. Tests that ask at the same time wait
/// for one another.
pub fn kept(recipe: &Recipe) -> Result<PathBuf, HarnessError> {
    let dir = cache_dir()?;
    fs::create_dir_all(&dir)?;
    let key = serde_json::to_vec(&(GENERATION, recipe)).map_err(io::Error::from)?;
    let key = blake3::hash(&key).to_hex();
    let name = key.get(..16).unwrap_or("image");
    let lock = File::create(dir.join(format!("{name}.lock")))?;
    flock(&lock, FlockOperation::LockExclusive).map_err(io::Error::from)?;
    let image = dir.join(format!("{name}.raw"));
    if !image.exists() {
        make(recipe, &dir.join(format!("{name}.work")), &image)?;
    }
    Ok(image)
}

fn make(recipe: &Recipe, work: &Path, image: &Path) -> Result<(), HarnessError> {
    if work.exists() {
        fs::remove_dir_all(work)?;
    }
    fs::create_dir_all(work)?;
    let fresh = work.join("disk.raw");
    create_debian(recipe, work, &fresh, &mut |step| eprintln!("test image: {step:?}"))?;
    fs::rename(&fresh, image)?;
    Ok(fs::remove_dir_all(work)?)
}

/// A copy to be written to; holes stay holes.
pub fn copy(image: &Path, to: &Path) -> Result<(), HarnessError> {
    let mut command = Command::new("cp");
    command.args(["--sparse=always", "--reflink=auto", "--"]).arg(image).arg(to);
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(HarnessError::Tool { program: "cp", said })
}

/// Cargo marks its build directory with a tag; the test's own program lies somewhere in it.
pub(crate) fn cache_dir() -> io::Result<PathBuf> {
    if let Some(dir) = std::env::var_os("GOLDLEAF_E2E_CACHE") {
        return Ok(dir.into());
    }
    let program = std::env::current_exe()?;
    let target = program.ancestors().find(|dir| dir.join("CACHEDIR.TAG").exists());
    Ok(target.map_or_else(std::env::temp_dir, Path::to_owned).join("e2e-cache"))
}
