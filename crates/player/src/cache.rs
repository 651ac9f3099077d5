//! What has arrived of what is subscribed to, and could be brought again: how much it is, and how
//! much it may be.
//!
//! ```text
//!   HOME/cache.json      the limit
//! ```
//! Over the limit old versions go first, then the content of a newest version that nothing runs on,
//! of what was used longest ago first. What is current, pinned or in use never goes: a limit that
//! cannot be kept so is reported, not forced. Layers do not count: they are filed where they share
//! content with what desktops keep.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use goldleaf_image::{ImageError, Needs};
use serde::{Deserialize, Serialize};

use crate::feeds::{self, Followed};
use crate::home::{read_record, step, write_record};
use crate::in_use::InUse;
use crate::{Home, PlayerError, workshop};

/// Format of the records that this program writes.
const FORMAT: u32 = 1;
const RECORD: &str = "cache.json";

/// `cache.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct CacheRecord {
    /// Format of this record.
    format: u32,
    /// Bytes that what has arrived may occupy.
    limit_bytes: Option<u64>,
}

/// What has arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CacheView {
    /// Bytes that all of it may occupy, if there is a limit.
    pub limit_bytes: Option<u64>,
    /// Bytes that it occupies.
    pub bytes: u64,
    /// By subscription.
    pub subscriptions: Vec<CacheLine>,
}

/// What has arrived of a subscription.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CacheLine {
    /// The subscription.
    pub subscription: String,
    /// Bytes that its image's versions occupy.
    pub bytes: u64,
    /// How many of them nothing runs on: these may go.
    pub spare_bytes: u64,
    /// Bytes of the version that starts next.
    pub current_bytes: u64,
    /// How many of them have arrived.
    pub arrived_bytes: u64,
    /// Whether all of it is here, so that it starts without a network.
    pub is_whole: bool,
    /// The version of the channel that is to stay.
    pub pinned: Option<u64>,
    /// Whether a session runs or is unfinished.
    pub is_in_use: bool,
    /// Unix time of the newest session's beginning or filing, in seconds.
    pub last_used_unix_secs: Option<u64>,
}

/// The limit, if there is one, in bytes.
pub fn limit(home: &Home) -> Result<Option<u64>, PlayerError> {
    let record: Option<CacheRecord> = read_record(home.dir.as_ref(), RECORD)?;
    Ok(record.and_then(|record| record.limit_bytes))
}

/// Sets the limit, or lifts it. What is over it goes at the next collection.
pub fn set_limit(home: &Home, limit_bytes: Option<u64>) -> Result<(), PlayerError> {
    let record = CacheRecord { format: FORMAT, limit_bytes };
    step("cache.limit", || write_record(home.dir.as_ref(), RECORD, &record))
}

/// What has arrived.
pub fn view(home: &Home) -> Result<CacheView, PlayerError> {
    let in_use = InUse::read(home)?;
    let mut subscriptions = Vec::new();
    for record in feeds::list(home)? {
        let name = &record.name;
        let [arrived_bytes, current_bytes] = current(home, name)?;
        let spare = spare(home, name, &in_use)?;
        subscriptions.push(CacheLine {
            subscription: name.clone(),
            bytes: occupied(home, name)?,
            spare_bytes: spare,
            current_bytes,
            arrived_bytes,
            is_whole: arrived_bytes == current_bytes,
            pinned: record.pinned,
            is_in_use: in_use.desktops_of(name).any(|desktop| desktop.session.is_some()),
            last_used_unix_secs: last_used(&in_use, name),
        });
    }
    let bytes = subscriptions.iter().map(|line| line.bytes).sum();
    Ok(CacheView { limit_bytes: limit(home)?, bytes, subscriptions })
}

/// Bytes of the version that starts next: those that are here, and all.
fn current(home: &Home, name: &str) -> Result<[u64; 2], PlayerError> {
    let version = match crate::livepc::get(home, name) {
        Err(PlayerError::Unknown { .. }) => None,
        livepc => livepc?.image_version(),
    };
    let image = match home.images_here()?.open(name, version) {
        Err(ImageError::Unknown(_)) => return Ok([0, 0]),
        other => other?,
    };
    let arrived = image.arrived();
    Ok([arrived.here.bytes().0, arrived.all.bytes().0])
}

/// Bytes that an image occupies.
fn occupied(home: &Home, name: &str) -> Result<u64, PlayerError> {
    match home.images_here()?.occupied(name) {
        // Not received yet.
        Err(ImageError::Unknown(_)) => Ok(0),
        other => Ok(other?),
    }
}

/// Bytes that all of it occupies.
fn all(home: &Home) -> Result<u64, PlayerError> {
    feeds::list(home)?.iter().map(|record| occupied(home, &record.name)).sum()
}

/// Bytes of an image that nothing runs on.
fn spare(home: &Home, name: &str, in_use: &InUse) -> Result<u64, PlayerError> {
    let images = home.images_here()?;
    let record = match images.record(name) {
        Err(ImageError::Unknown(_)) => return Ok(0),
        other => other?,
    };
    let needs = Needs { versions: in_use.of_image(&record), newest: false, is_read: false };
    Ok(images.plan_forget(name, &needs)?.bytes)
}

fn last_used(in_use: &InUse, name: &str) -> Option<u64> {
    let used = in_use.desktops_of(name).flat_map(|desktop| {
        let began = desktop.session.as_ref().map(|session| session.started_unix_secs);
        let filed = desktop.last.as_ref().map(|last| last.at_unix_secs);
        [began, filed]
    });
    used.flatten().max()
}

/// What a limit asks for.
#[derive(Debug, Default)]
pub(crate) struct Squeeze {
    /// Subscriptions whose newest version is to go with its content, for nothing runs on it.
    pub tight: BTreeSet<String>,
    /// Bytes over the limit that stay.
    pub over: u64,
}

/// What is to go beside old versions, so that the limit is kept with so many bytes more.
pub(crate) fn squeeze(
    home: &Home,
    followed: &[Followed],
    more: u64,
) -> Result<Squeeze, PlayerError> {
    let Some(limit) = limit(home)? else { return Ok(Squeeze::default()) };
    let in_use = InUse::read(home)?;
    let mut over = all(home)?.saturating_add(more);
    for followed in followed {
        over = over.saturating_sub(followed.forget_image(home, true, false)?.bytes);
    }
    let mut over = over.saturating_sub(limit);
    let mut tight = BTreeSet::new();
    // Work that was not begun yet stands on a newest version.
    if over == 0 || workshop::is_busy(home)? {
        return Ok(Squeeze { tight, over });
    }
    let mut oldest: Vec<&Followed> = followed.iter().collect();
    oldest.sort_by_key(|followed| last_used(&in_use, &followed.name));
    for followed in oldest {
        let old = followed.forget_image(home, true, false)?.bytes;
        let gain = followed.forget_image(home, false, false)?.bytes.saturating_sub(old);
        if over > 0 && gain > 0 {
            over = over.saturating_sub(gain);
            tight.insert(followed.name.clone());
        }
    }
    Ok(Squeeze { tight, over })
}

/// Makes room for so many bytes more, where there is a limit. Returns how many bytes it will be
/// over the limit all the same. What this process holds, and what others use, stays.
pub fn make_room(home: &Home, more: u64) -> Result<u64, PlayerError> {
    let Some(limit) = limit(home)? else { return Ok(0) };
    if all(home)?.saturating_add(more) <= limit {
        return Ok(0);
    }
    let (followed, _) = feeds::followed(home)?;
    let squeeze = squeeze(home, &followed, more)?;
    for followed in &followed {
        followed.forget_image(home, !squeeze.tight.contains(&followed.name), true)?;
    }
    Ok(squeeze.over)
}
