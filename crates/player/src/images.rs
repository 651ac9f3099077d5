//! Removing golden images: only when nothing stands on them any more.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{Home, PlayerError};

/// What the removal of an image takes away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletion {
    /// The image.
    pub image: String,
    /// Number of its versions.
    pub versions: u64,
    /// Bytes that its data files occupy.
    pub bytes: u64,
}

/// What the removal of an image would take away. Refused, naming it, while a LivePC or a desktop
/// uses the image, or a workshop edits it.
pub fn plan(home: &Home, name: &str) -> Result<Deletion, PlayerError> {
    let images = home.images()?;
    let record = images.record(name)?;
    check_unused(home, name)?;
    let dir = images.dir(name)?;
    let files: BTreeSet<&String> =
        record.versions.iter().flat_map(|version| &version.data).collect();
    let mut bytes = 0;
    for file in files {
        let what = || PlayerError::io(format!("reading {name}/{file}"));
        bytes += dir.open(file).map_err(what())?.allocated().map_err(what())?;
    }
    Ok(Deletion { image: name.into(), versions: record.versions.len() as u64, bytes })
}

/// Removes an image with all its versions.
pub fn delete(home: &Home, name: &str) -> Result<Deletion, PlayerError> {
    let deletion = plan(home, name)?;
    let images = home.images()?;
    let lock = images.dir(name)?.try_lock("lock").map_err(PlayerError::io("locking an image"))?;
    let Some(_lock) = lock else { return Err(busy(name, "it is being edited".into())) };
    // Asked again under the lock: an edit may have used the time between.
    check_unused(home, name)?;
    images.remove(name)?;
    Ok(deletion)
}

fn check_unused(home: &Home, name: &str) -> Result<(), PlayerError> {
    let desktops = crate::desktop::list(home)?;
    let livepcs = crate::livepc::list(home)?;
    let Some(livepc) = livepcs.iter().find(|livepc| livepc.image == name) else { return Ok(()) };
    let instance = desktops.iter().find(|desktop| desktop.livepc == livepc.name);
    let detail = match instance {
        Some(desktop) => format!(
            "LivePC `{}` is made from it, and desktop `{}` is an instance of that",
            livepc.name, desktop.name
        ),
        None => format!("LivePC `{}` is made from it", livepc.name),
    };
    Err(busy(name, detail))
}

fn busy(name: &str, detail: String) -> PlayerError {
    PlayerError::Busy { kind: "image", name: name.into(), detail }
}
