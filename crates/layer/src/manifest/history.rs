//! Which versions of a layer are kept.

use std::collections::BTreeMap;

/// The newest versions, kept however old they are.
const NEWEST_KEPT: usize = 10;
/// Days of which one version each is kept.
const DAYS_KEPT: u64 = 30;
const DAY_SECS: u64 = 86_400;

/// A version in a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionInfo {
    /// Its number; later versions have higher ones.
    pub number: u64,
    /// When it was made, in seconds since 1970-01-01T00:00:00Z.
    pub created: u64,
}

/// The numbers of the versions to drop, ascending: all but the 10 newest and, of each of the last
/// 30 days (UTC), the last. Newest means highest number: clocks jump. A version from a time that
/// has not come yet counts as one of today's.
pub fn thin(versions: &[VersionInfo], now: u64) -> Vec<u64> {
    let mut sorted = versions.to_vec();
    sorted.sort_by_key(|version| version.number);
    let today = now / DAY_SECS;
    let mut last_of_day: BTreeMap<u64, u64> = BTreeMap::new();
    for version in &sorted {
        last_of_day.insert((version.created / DAY_SECS).min(today), version.number);
    }
    let old = sorted.len().saturating_sub(NEWEST_KEPT);
    let dropped = sorted[..old].iter().filter(|version| {
        let day = (version.created / DAY_SECS).min(today);
        today - day >= DAYS_KEPT || last_of_day.get(&day) != Some(&version.number)
    });
    dropped.map(|version| version.number).collect()
}
