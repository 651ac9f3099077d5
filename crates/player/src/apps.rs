//! Apps layers: what IT delivers. Their content is in the public store; a record names the
//! versions.

use std::collections::BTreeSet;
use std::sync::Arc;

use goldleaf_host::Dir;
use goldleaf_image::check_name;
use serde::{Deserialize, Serialize};

use crate::desktop::Hex;
use crate::home::{read_record, step, write_record};
use crate::{Home, PlayerError};

/// Format of the records that this program writes.
const FORMAT: u32 = 1;

/// `layer.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppsLayer {
    /// Format of this record.
    pub format: u32,
    /// Its name.
    pub name: String,
    /// The image that it was recorded on.
    pub image: String,
    /// Its versions, oldest first; the last one is current.
    pub versions: Vec<AppsVersion>,
}

/// One version of an apps layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppsVersion {
    /// 1, 2, 3, …
    pub number: u32,
    /// Digest of its version object in the public store.
    pub digest: Hex,
    /// Version of the image that it was recorded on.
    pub image_version: u32,
    /// Unix time of its making, in seconds.
    pub created_unix_secs: u64,
    /// Why it was made, in words.
    pub cause: String,
    /// Number of entries.
    pub entries: u64,
    /// Bytes of content that it names.
    pub bytes: u64,
}

impl AppsLayer {
    /// A version; the current one when `number` is `None`.
    pub fn version(&self, number: Option<u32>) -> Result<&AppsVersion, PlayerError> {
        let found = match number {
            None => self.versions.last(),
            Some(number) => self.versions.iter().find(|version| version.number == number),
        };
        found.ok_or_else(|| PlayerError::Unknown {
            kind: "version of the layer",
            name: match number {
                Some(number) => format!("{} {number}", self.name),
                None => self.name.clone(),
            },
        })
    }
}

fn dir(home: &Home) -> Result<Arc<dyn Dir>, PlayerError> {
    home.sub("layers")
}

fn open(home: &Home, name: &str) -> Result<Option<AppsLayer>, PlayerError> {
    check_name(name)?;
    match dir(home)?.dir(name) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(PlayerError::io(format!("opening layer `{name}`"))(error)),
        Ok(dir) => read_record(dir.as_ref(), "layer.json"),
    }
}

/// One apps layer.
pub fn get(home: &Home, name: &str) -> Result<AppsLayer, PlayerError> {
    open(home, name)?.ok_or_else(|| PlayerError::Unknown { kind: "layer", name: name.into() })
}

/// All apps layers, by name.
pub fn list(home: &Home) -> Result<Vec<AppsLayer>, PlayerError> {
    let mut found = Vec::new();
    for item in dir(home)?.list().map_err(PlayerError::io("listing layers"))? {
        if item.is_dir
            && let Some(record) = open(home, &item.name)?
        {
            found.push(record);
        }
    }
    Ok(found)
}

/// Adds a version to a layer, making the layer when it is new: one durable move.
pub fn add_version(
    home: &Home,
    name: &str,
    image: &str,
    make: impl FnOnce(u32) -> AppsVersion,
) -> Result<AppsLayer, PlayerError> {
    let mut record = open(home, name)?.unwrap_or_else(|| AppsLayer {
        format: FORMAT,
        name: name.into(),
        image: image.into(),
        versions: Vec::new(),
    });
    let number = record.versions.last().map_or(1, |version| version.number + 1);
    record.versions.push(make(number));
    let dir = dir(home)?;
    let own = dir.create_dir(name).map_err(PlayerError::io("making a layer"))?;
    step("layer.version", || {
        write_record(own.as_ref(), "layer.json", &record)?;
        dir.sync().map_err(PlayerError::io("making a layer"))
    })?;
    Ok(record)
}

/// Forgets versions of a layer. Their content goes at the next collection.
pub(crate) fn forget(home: &Home, name: &str, versions: &BTreeSet<u32>) -> Result<(), PlayerError> {
    let mut record = get(home, name)?;
    record.versions.retain(|version| !versions.contains(&version.number));
    let own = dir(home)?.dir(name).map_err(PlayerError::io("opening a layer"))?;
    step("layer.retire", || write_record(own.as_ref(), "layer.json", &record))
}

/// Refuses, naming it, when a LivePC has a layer.
pub fn check_unused(home: &Home, name: &str) -> Result<(), PlayerError> {
    get(home, name)?;
    for livepc in crate::livepc::list(home)? {
        if livepc.possible().any(|livepc| livepc.layers.iter().any(|layer| layer == name)) {
            let detail = format!("LivePC `{}` has it", livepc.name);
            return Err(PlayerError::Busy { kind: "layer", name: name.into(), detail });
        }
    }
    Ok(())
}

/// Removes an apps layer that no LivePC names. Its content goes at the next collection.
pub fn delete(home: &Home, name: &str) -> Result<(), PlayerError> {
    check_unused(home, name)?;
    let dir = dir(home)?;
    let what = || PlayerError::io("removing a layer");
    let own = dir.dir(name).map_err(what())?;
    step("layer.forget", || own.remove("layer.json").map_err(what()))?;
    step("layer.remove", || dir.remove_dir_all(name).map_err(what()))
}
