//! Repair of images: copies of their files with what another home has whole.

use std::collections::BTreeMap;

use goldleaf_host::{Lock, Progress};
use goldleaf_image::{ImageMend, apply_mend, plan_mend};

use super::RepairPlan;
use super::sources::Sources;
use crate::check::HurtImage;
use crate::{Home, PlayerError};

pub(super) fn plan(
    home: &Home,
    hurt: &[HurtImage],
    sources: &Sources,
    progress: &dyn Progress,
    plan: &mut RepairPlan,
) -> Result<(), PlayerError> {
    let mut by_image: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for hurt in hurt {
        by_image.entry(&hurt.image).or_default().push(hurt.version);
    }
    let images = home.images()?;
    for (image, versions) in by_image {
        let (mend, lost) = plan_mend(&images, image, &versions, &sources.images, progress)?;
        plan.images.extend(mend);
        let lost = lost.into_iter().map(|version| HurtImage { image: image.into(), version });
        plan.lost_images.extend(lost);
    }
    Ok(())
}

/// Keeps imports and edits away from the images that a plan adds to.
pub(super) fn lock(home: &Home, plan: &RepairPlan) -> Result<Vec<Box<dyn Lock>>, PlayerError> {
    let images = home.images()?;
    let lock = |mend: &ImageMend| {
        let dir = images.dir(&mend.image)?;
        let lock = dir.try_lock("lock").map_err(PlayerError::io("locking an image"))?;
        lock.ok_or_else(|| PlayerError::Busy {
            kind: "image",
            name: mend.image.clone(),
            detail: "it is being edited, or another repair works on it".into(),
        })
    };
    plan.images.iter().map(lock).collect()
}

pub(super) fn apply(
    home: &Home,
    plan: &RepairPlan,
    sources: &Sources,
    progress: &dyn Progress,
) -> Result<(), PlayerError> {
    let images = home.images()?;
    for mend in &plan.images {
        apply_mend(&images, mend, &sources.images, progress)?;
    }
    Ok(())
}
