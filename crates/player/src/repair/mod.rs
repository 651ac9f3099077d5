//! Repair: what is damaged is healed by whole copies of it, from the stores of this home and from
//! others that are named: older copies of the home, its backups, other people's homes.
//!
//! Content is named by its digest, so a whole copy is as good as what was lost, wherever it comes
//! from. Nothing is removed, shortened or overwritten: packs and the files of images get further
//! copies, which come before the damaged ones, and content of packs that nobody has is filed anew.
//!
//! A plan is made from a check and can be shown; applying it does that and nothing else, and is
//! refused when the home is not what it was. Every step is one durable move, so that a repair that
//! was cut off is gone on with by the next. Where nothing is damaged, nothing is written.

mod images;
mod salvage;
mod sources;
mod stores;

use std::sync::Arc;

use goldleaf_host::{Dir, Progress};
use goldleaf_image::ImageMend;
use goldleaf_layer::Digest;
use serde::{Deserialize, Serialize};

pub use salvage::{Salvage, SalvagedFile};
pub use sources::source;
pub use stores::{PackRepair, StoreRepair};

use crate::check::{self, HurtImage};
use crate::desktop::Hex;
use crate::home::step;
use crate::{Home, PlayerError};
use sources::Sources;

/// What a repair would do, and what it cannot heal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairPlan {
    /// What the home was when the plan was made: its records, and the names of its packs.
    pub seen: Hex,
    /// Stores to which something is added.
    pub stores: Vec<StoreRepair>,
    /// Images to which something is added.
    pub images: Vec<ImageMend>,
    /// What of layers nobody has whole.
    pub lost: Vec<Lost>,
    /// What can be salvaged where the current version of a user's layer lost files.
    pub salvage: Vec<Salvage>,
    /// Whether it is, in new versions of those layers.
    pub salvages: bool,
    /// Versions of images that nobody has whole.
    pub lost_images: Vec<HurtImage>,
    /// Damaged content that no source has, and that no version of a layer needs.
    pub unneeded: u64,
    /// What is damaged besides: records that cannot be read. To be put right by hand.
    pub by_hand: Vec<String>,
}

/// Something of a version of a layer that nobody has whole.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Lost {
    /// The desktop that it belongs to; `None` for a layer of applications that desktops share.
    pub desktop: Option<String>,
    /// The layer.
    pub layer: String,
    /// The version.
    pub version: u64,
    /// What it is.
    pub what: LostWhat,
    /// The path, with a leading slash; empty for what has none.
    pub path: String,
    /// Length of the file in bytes; 0 for what is none.
    pub bytes: u64,
}

/// What is lost of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LostWhat {
    /// All of it: what names the rest is lost.
    Version,
    /// What it says of the shared files (accounts, packages), or the table of its packages.
    Records,
    /// All that is below a path.
    Below,
    /// A file's content, or a part of it.
    File,
}

impl RepairPlan {
    /// Whether there is nothing to be added.
    pub fn is_empty(&self) -> bool {
        let salvages = self.salvages && !self.salvage.is_empty();
        self.stores.is_empty() && self.images.is_empty() && !salvages
    }

    /// Whether everything is as it should be once the plan is carried out.
    pub fn heals_all(&self) -> bool {
        let lost = self.lost.len() + self.lost_images.len() + self.by_hand.len();
        lost == 0 && self.unneeded == 0
    }

    /// Bytes that are written.
    pub fn bytes(&self) -> u64 {
        let stores: u64 = self.stores.iter().map(StoreRepair::bytes).sum();
        let files = self.images.iter().flat_map(|image| &image.files);
        stores + files.map(|file| file.bytes).sum::<u64>()
    }
}

/// What a repair would do. Reads everything that is stored here, and of the sources what is needed
/// from them; writes nothing. With `salvages`, layers of users whose current version lost files get
/// new versions.
pub fn plan(
    home: &Home,
    sources: &[Arc<dyn Dir>],
    salvages: bool,
    progress: &dyn Progress,
) -> Result<RepairPlan, PlayerError> {
    let seen = seen(home)?;
    let found = check::survey(home, progress)?;
    let mut plan = RepairPlan {
        seen,
        stores: Vec::new(),
        images: Vec::new(),
        lost: Vec::new(),
        salvage: Vec::new(),
        salvages,
        lost_images: Vec::new(),
        unneeded: 0,
        by_hand: found.unreadable.clone(),
    };
    if found.report.is_clean() {
        return Ok(plan);
    }
    let sources = Sources::open(home, sources)?;
    stores::plan(&found, &sources, progress, &mut plan)?;
    images::plan(home, &found.report.images, &sources, progress, &mut plan)?;
    plan.lost.sort();
    Ok(plan)
}

/// Does what the plan says. Refused when the home, or what a source has, is not what it was when
/// the plan was made; what was added before that was noticed stays, and is right.
pub fn apply(
    home: &Home,
    sources: &[Arc<dyn Dir>],
    plan: &RepairPlan,
    progress: &dyn Progress,
) -> Result<(), PlayerError> {
    if plan.is_empty() {
        return Ok(());
    }
    let sources = Sources::open(home, sources)?;
    // Held to the end: no filing and no collection changes what the plan was made for.
    let mut desktops = salvage::lock(home, plan)?;
    let held = stores::hold(home, plan)?;
    let _locks = images::lock(home, plan)?;
    if seen(home)? != plan.seen {
        let text = "the plan no longer holds: something was filed, published or removed meanwhile; \
                    repair again for another plan";
        return Err(PlayerError::Refused(text.into()));
    }
    step("repair.stores", || stores::apply(&held, plan, &sources, progress))?;
    step("repair.images", || images::apply(home, plan, &sources, progress))?;
    // A new version is filed like any other; its desktop is still locked.
    drop(held);
    salvage::apply(home, plan, &mut desktops)
}

/// Names what a plan is made from: records by their content, packs and the files of images by their
/// names, which stand for their content.
fn seen(home: &Home) -> Result<Hex, PlayerError> {
    let mut hasher = blake3::Hasher::new();
    let mut note = |text: &str| {
        hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
    };
    let mut dirs = vec![("public".to_owned(), sub(&home.dir, "public")?)];
    for (kind, record) in [
        ("images", "image.json"),
        ("layers", "layer.json"),
        ("livepcs", "livepc.json"),
        ("desktops", "record.json"),
    ] {
        for name in check::names(home, kind)? {
            let dir = sub(&sub(&home.dir, kind)?.ok_or_else(|| gone(kind))?, &name)?;
            let Some(dir) = dir else { continue };
            note(&format!("{kind}/{name}"));
            match goldleaf_host::read_file(dir.as_ref(), record, 64 << 20) {
                Ok(bytes) => note(&Digest::of(&bytes).to_string()),
                Err(error) => note(&error.kind().to_string()),
            }
            match kind {
                "images" => dirs.push((name, Some(dir))),
                "desktops" => dirs.push((name, sub(&dir, "private")?)),
                _ => {}
            }
        }
    }
    for (name, dir) in dirs {
        note(&name);
        let Some(dir) = dir else { continue };
        for item in dir.list().map_err(PlayerError::io(format!("listing {name}")))? {
            if !item.is_dir && !item.name.ends_with(".new") && !item.name.ends_with("lock") {
                note(&item.name);
            }
        }
    }
    Ok(Hex(Digest(*hasher.finalize().as_bytes())))
}

fn gone(what: &str) -> PlayerError {
    PlayerError::Refused(format!("{what} went away meanwhile"))
}

/// A subdirectory, if there is one. Unlike [`Home::sub`] it makes none.
fn sub(dir: &Arc<dyn Dir>, name: &str) -> Result<Option<Arc<dyn Dir>>, PlayerError> {
    match dir.dir(name) {
        Ok(dir) => Ok(Some(dir)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(PlayerError::io(format!("opening {name}"))(error)),
    }
}

#[cfg(test)]
mod tests;
