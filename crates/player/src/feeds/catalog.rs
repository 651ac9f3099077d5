//! A catalog: which feeds a place carries, and whom to believe about each, signed.
//!
//! ```text
//!   feeds/catalog/stable/metadata     a channel like any other, with keys of its own
//!     targets: FEED/CHANNEL ─▶ digest of feeds/FEED/CHANNEL/metadata/1.root.json, with a title
//! ```
//! Its targets are the first roots of trust of the feeds: who believes the catalog need not believe
//! each of them at first sight. It says nothing about versions; those are for their own keys to say.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use goldleaf_feed::{FeedError, Location, names};
use goldleaf_fetch::{Destination, Source};
use goldleaf_trust::{SigningKey, Standing, Target, Targets, introduce};
use serde::{Deserialize, Serialize};

use super::look::Glance;
use super::publish::{repository, show, sign};
use super::subscription::{first_root, source};
use crate::{Home, PlayerError};

/// The feed that is a place's catalog.
pub const CATALOG: &str = "catalog";
/// Longest title and description, in bytes.
const TITLE_MAX: usize = 100;
const DESCRIPTION_MAX: usize = 2000;

/// What a catalog says of a feed beside its root.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Words {
    title: String,
    description: String,
}

/// A feed in a catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CatalogEntry {
    /// The feed.
    pub feed: String,
    /// Its channel.
    pub channel: String,
    /// What people call it.
    pub title: String,
    /// What it is for.
    pub description: String,
}

/// A catalog.
#[derive(Debug, Clone, Serialize)]
pub struct CatalogView {
    /// Whose it is.
    pub organisation: String,
    /// Ids of its root keys.
    pub root_keys: Vec<String>,
    /// How many of them must sign a root.
    pub root_threshold: usize,
    /// The feeds, by name.
    pub entries: Vec<CatalogEntry>,
}

/// Keys of a catalog.
pub struct CatalogKeys {
    /// Image keys that are here; what others have to sign waits for them.
    pub image_keys: Vec<SigningKey>,
    /// The online key, if it is here.
    pub online_key: Option<SigningKey>,
}

/// What came of a change.
#[derive(Debug, Clone)]
pub struct CatalogReport {
    /// Whether it said otherwise before.
    pub is_new: bool,
    /// The metadata that are to be signed, where signatures are missing.
    pub waits: Option<Standing>,
    /// Whether others see it.
    pub is_visible: bool,
}

/// The catalog of a place, as somebody sees it who believes that root, or the catalog's own.
pub fn catalog(
    home: &Home,
    place: &str,
    root: Option<Vec<u8>>,
) -> Result<CatalogView, PlayerError> {
    catalog_at(home, source(home, &[place.to_owned()], None)?, root)
}

/// The same, of what carries it.
pub fn catalog_at(
    home: &Home,
    carried: Arc<dyn Source>,
    root: Option<Vec<u8>>,
) -> Result<CatalogView, PlayerError> {
    let glance = Glance::take(home, carried, (CATALOG, names::STABLE), root)?;
    let entries = entries(glance.state.believed().targets())?;
    let (root_keys, root_threshold) = glance.root_keys();
    let view = CatalogView {
        organisation: glance.line.organisation.clone(),
        root_keys,
        root_threshold,
        entries: entries.into_iter().map(|(entry, _)| entry).collect(),
    };
    glance.end()?;
    Ok(view)
}

/// The first root of trust of a feed, as the catalog of its place vouches for it. `root` is the
/// catalog's own, from somebody who is trusted.
pub fn root_by_catalog(
    home: &Home,
    location: &Location,
    root: Vec<u8>,
) -> Result<Vec<u8>, PlayerError> {
    let Location { root: place, feed, channel } = location;
    let carried = source(home, std::slice::from_ref(place), None)?;
    let glance = Glance::take(home, carried.clone(), (CATALOG, names::STABLE), Some(root))?;
    let entries = entries(glance.state.believed().targets())?;
    let found = entries
        .into_iter()
        .find(|(entry, _)| (&entry.feed, &entry.channel) == (feed, channel))
        .ok_or_else(|| PlayerError::Unknown {
            kind: "feed in the catalog",
            name: format!("{feed}/{channel}"),
        });
    glance.end()?;
    let first = first_root(carried.as_ref(), feed, channel)?;
    found?.1.check("the feed's first root", &first)?;
    Ok(first)
}

/// Puts a feed of the same place into its catalog, or says otherwise what is there.
pub fn add_to_catalog(
    to: &Destination,
    entry: &CatalogEntry,
    keys: &CatalogKeys,
    now: Duration,
) -> Result<CatalogReport, PlayerError> {
    let CatalogEntry { feed, channel, title, description } = entry.clone();
    if title.trim().is_empty() || title.len() > TITLE_MAX || description.len() > DESCRIPTION_MAX {
        return Err(PlayerError::Refused(format!(
            "a title has 1 to {TITLE_MAX} bytes, and a description at most {DESCRIPTION_MAX}"
        )));
    }
    if feed == CATALOG {
        return Err(PlayerError::Refused("a catalog is not in itself".into()));
    }
    let root = first_root(to.source.as_ref(), &feed, &channel)?;
    let (line, _) = introduce(&root)?;
    let name = format!("{feed}/{channel}");
    if line.feed != name {
        let text = format!("the keys of {name} are those of feed `{}`", line.feed);
        return Err(PlayerError::Refused(text));
    }
    let words = serde_json::to_value(Words { title, description })
        .map_err(|error| FeedError::malformed("an entry of a catalog", error))?;
    let target = Target::of(&root, words);
    change(to, keys, now, |targets| {
        let before = targets.insert(name, target.clone());
        Ok(before != Some(target))
    })
}

/// Takes a feed out of the catalog of a place. Nothing happens to the feed.
pub fn remove_from_catalog(
    to: &Destination,
    (feed, channel): (&str, &str),
    keys: &CatalogKeys,
    now: Duration,
) -> Result<CatalogReport, PlayerError> {
    let name = format!("{feed}/{channel}");
    change(to, keys, now, |targets| match targets.remove(&name) {
        Some(_) => Ok(true),
        None => Err(PlayerError::Unknown { kind: "feed in the catalog", name: name.clone() }),
    })
}

fn change(
    to: &Destination,
    keys: &CatalogKeys,
    now: Duration,
    change: impl FnOnce(&mut BTreeMap<String, Target>) -> Result<bool, PlayerError>,
) -> Result<CatalogReport, PlayerError> {
    let mut repository = repository(to, CATALOG, names::STABLE)?;
    let mut targets = repository.targets()?.unwrap_or_else(|| Targets { targets: BTreeMap::new() });
    let is_new = change(&mut targets.targets)?;
    let waits = match is_new {
        true => sign(&mut repository, &targets, &keys.image_keys, now)?,
        false => None,
    };
    let is_visible = show(&mut repository, &waits, keys.online_key.as_ref(), now)?;
    Ok(CatalogReport { is_new, waits, is_visible })
}

/// The feeds that signed targets name, by name.
fn entries(targets: Option<&Targets>) -> Result<Vec<(CatalogEntry, Target)>, PlayerError> {
    let mut entries = Vec::new();
    for (name, target) in targets.iter().flat_map(|targets| &targets.targets) {
        let wrong = |why: String| FeedError::malformed(format!("{name} in the catalog"), why);
        let words = Words::deserialize(&target.custom).map_err(|error| wrong(error.to_string()))?;
        // Where a feed is named by this, so it is as strict as what a person writes.
        let location = Location::parse(&format!("/feeds/{name}"));
        let Location { feed, channel, .. } = location
            .filter(|location| format!("{}/{}", location.feed, location.channel) == *name)
            .ok_or_else(|| wrong("no name of a feed".into()))?;
        let Words { title, description } = words;
        entries.push((CatalogEntry { feed, channel, title, description }, target.clone()));
    }
    Ok(entries)
}
