//! LivePCs: what is published and subscribed to. An image, an order of apps layers, rules,
//! hardware.

pub mod trial;

use std::collections::BTreeSet;
use std::sync::Arc;

use goldleaf_host::Dir;
use goldleaf_image::check_name;
use goldleaf_layer::rules::SiteRules;
use serde::{Deserialize, Serialize};

use crate::home::{read_record, step, write_record};
use crate::{Home, PlayerError};
use trial::Trial;

/// Format of the records that this program writes.
pub(crate) const FORMAT: u32 = 1;
/// Longest rules file, in bytes.
const RULES_LIMIT: u64 = 1 << 20;

/// `livepc.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LivePc {
    /// Format of this record.
    pub format: u32,
    /// Its name.
    pub name: String,
    /// The golden image; desktops follow its current version.
    pub image: String,
    /// Apps layers, lowest first; desktops follow their current versions.
    pub layers: Vec<String>,
    /// Memory of the virtual machine, in MiB.
    pub memory_mib: u32,
    /// Its processors.
    pub cpus: u32,
    /// Unix time of its making, in seconds.
    pub created_unix_secs: u64,
    /// Of one that is subscribed to: what of it runs here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edition: Option<Edition>,
    /// While no guest came up on that yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<Trial>,
    /// Versions that did not come up here, and are not adopted again unless a person asks.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub failed: BTreeSet<u64>,
}

/// A published version of a LivePC, as it is here. With it the whole record changes in one move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edition {
    /// Number that its channel gave it.
    pub version: u64,
    /// Version of the image.
    pub image_version: u32,
    /// Versions of the layers, in their order.
    pub layer_versions: Vec<u32>,
    /// The site's rules.
    pub rules: Option<String>,
}

impl LivePc {
    /// Number of its edition in its channel.
    pub fn version(&self) -> Option<u64> {
        self.edition.as_ref().map(|edition| edition.version)
    }

    /// It and, while it is on trial, what it may be again.
    pub fn possible(&self) -> impl Iterator<Item = &Self> {
        [self].into_iter().chain(self.trial.iter().map(|trial| trial.before.as_ref()))
    }

    /// Which version of the image desktops are to run; the current one for `None`.
    pub fn image_version(&self) -> Option<u32> {
        self.edition.as_ref().map(|edition| edition.image_version)
    }

    /// The layers, lowest first, each with the version that desktops are to run; the current one
    /// for `None`.
    pub fn layer_versions(&self) -> impl Iterator<Item = (&String, Option<u32>)> {
        let versions = self.edition.as_ref().map(|edition| &edition.layer_versions);
        self.layers.iter().enumerate().map(move |(number, name)| {
            (name, versions.and_then(|versions| versions.get(number).copied()))
        })
    }
}

/// What a LivePC is made from.
#[derive(Debug, Clone)]
pub struct NewLivePc {
    /// Its name.
    pub name: String,
    /// The golden image.
    pub image: String,
    /// Apps layers, lowest first.
    pub layers: Vec<String>,
    /// Memory, in MiB.
    pub memory_mib: u32,
    /// Processors.
    pub cpus: u32,
    /// The site's rules.
    pub rules: Option<SiteRules>,
}

fn dir(home: &Home) -> Result<Arc<dyn Dir>, PlayerError> {
    home.sub("livepcs")
}

/// All LivePCs, by name.
pub fn list(home: &Home) -> Result<Vec<LivePc>, PlayerError> {
    let dir = dir(home)?;
    let mut found = Vec::new();
    for item in dir.list().map_err(PlayerError::io("listing LivePCs"))? {
        if item.is_dir
            && let Some(record) = open(home, &item.name)?
        {
            found.push(record);
        }
    }
    Ok(found)
}

fn open(home: &Home, name: &str) -> Result<Option<LivePc>, PlayerError> {
    check_name(name)?;
    match dir(home)?.dir(name) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(PlayerError::io(format!("opening LivePC `{name}`"))(error)),
        Ok(dir) => read_record(dir.as_ref(), "livepc.json"),
    }
}

/// One LivePC.
pub fn get(home: &Home, name: &str) -> Result<LivePc, PlayerError> {
    open(home, name)?.ok_or_else(|| PlayerError::Unknown { kind: "LivePC", name: name.into() })
}

/// The site's rules of a LivePC, as [`NewLivePc::rules`].
pub fn rules(home: &Home, name: &str) -> Result<Option<SiteRules>, PlayerError> {
    if let Some(edition) = get(home, name)?.edition {
        let file = |text| SiteRules { file: "rules.toml".into(), text };
        return Ok(edition.rules.map(file));
    }
    let dir = dir(home)?.dir(name).map_err(PlayerError::io("opening a LivePC"))?;
    match goldleaf_host::read_file(dir.as_ref(), "rules.toml", RULES_LIMIT) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(PlayerError::io("reading rules.toml")(error)),
        Ok(bytes) => String::from_utf8(bytes)
            .map(|text| Some(SiteRules { file: "rules.toml".into(), text }))
            .map_err(|error| PlayerError::corrupt("rules.toml", error.to_string())),
    }
}

/// Makes a LivePC, after checking that all it names is there and its rules make sense.
pub fn create(home: &Home, new: NewLivePc) -> Result<LivePc, PlayerError> {
    if open(home, &new.name)?.is_some() {
        return Err(PlayerError::Exists { kind: "LivePC", name: new.name });
    }
    home.images()?.record(&new.image)?;
    home.settle("images", &new.image)?;
    for layer in &new.layers {
        crate::apps::get(home, layer)?;
        home.settle("layers", layer)?;
    }
    if let Some(rules) = &new.rules {
        rules.parse()?;
    }
    let dir = dir(home)?;
    let own = dir.create_dir(&new.name).map_err(PlayerError::io("making a LivePC"))?;
    if let Some(rules) = &new.rules {
        goldleaf_host::replace_file(own.as_ref(), "rules.toml", rules.text.as_bytes())
            .map_err(PlayerError::io("writing rules.toml"))?;
    }
    let record = LivePc {
        format: FORMAT,
        name: new.name,
        image: new.image,
        layers: new.layers,
        memory_mib: new.memory_mib,
        cpus: new.cpus,
        created_unix_secs: home.now_unix_secs(),
        edition: None,
        trial: None,
        failed: BTreeSet::new(),
    };
    step("livepc.create", || {
        write_record(own.as_ref(), "livepc.json", &record)?;
        dir.sync().map_err(PlayerError::io("making a LivePC"))
    })?;
    Ok(record)
}

/// Makes a LivePC that is subscribed to what a new edition says: one durable move, by which its
/// image, layers, rules and hardware become others at once. The edition is on trial then, unless
/// it is the first or was good before. Returns whether anything changed: an edition that failed
/// here is not adopted.
pub fn adopt(home: &Home, new: &LivePc) -> Result<bool, PlayerError> {
    check_name(&new.name)?;
    home.settle("images", &new.image)?;
    new.layers.iter().try_for_each(|layer| home.settle("layers", layer))?;
    let dir = dir(home)?;
    let own = dir.create_dir(&new.name).map_err(PlayerError::io("making a LivePC"))?;
    let _lock = trial::lock(home, own.as_ref(), &new.name)?;
    let Some(record) = trial::adopted(open(home, &new.name)?, new) else { return Ok(false) };
    step("livepc.adopt", || {
        write_record(own.as_ref(), "livepc.json", &record)?;
        dir.sync().map_err(PlayerError::io("making a LivePC"))
    })?;
    Ok(true)
}

/// Refuses, naming it, when a desktop is an instance of a LivePC.
pub fn check_unused(home: &Home, name: &str) -> Result<(), PlayerError> {
    get(home, name)?;
    for desktop in crate::desktop::list(home)? {
        if desktop.livepc == name {
            let detail = format!("desktop `{}` is an instance of it", desktop.name);
            return Err(PlayerError::Busy { kind: "LivePC", name: name.into(), detail });
        }
    }
    Ok(())
}

/// Removes a LivePC that no desktop is an instance of.
pub fn delete(home: &Home, name: &str) -> Result<(), PlayerError> {
    check_unused(home, name)?;
    let dir = dir(home)?;
    let what = || PlayerError::io("removing a LivePC");
    let own = dir.dir(name).map_err(what())?;
    step("livepc.forget", || own.remove("livepc.json").map_err(what()))?;
    step("livepc.remove", || dir.remove_dir_all(name).map_err(what()))
}

#[cfg(test)]
pub(crate) mod tests;
