//! Where things are in a feed's directory. Names are made here, from digests and checked words, and
//! never taken from what somebody published.

use goldleaf_store::Digest;

/// Directory of packs.
pub const PACKS: &str = "packs";
/// Directory of maps.
pub const MAPS: &str = "maps";
/// Directory of versions.
pub const VERSIONS: &str = "versions";
/// Directory of feeds.
pub const FEEDS: &str = "feeds";
/// Directory of a channel's signed metadata.
pub const METADATA: &str = "metadata";

/// The path of a pack.
pub fn pack(name: &Digest) -> String {
    format!("{PACKS}/{name}")
}

/// The path of a map.
pub fn map(name: &Digest) -> String {
    format!("{MAPS}/{name}")
}

/// The path of a version.
pub fn version(name: &Digest) -> String {
    format!("{VERSIONS}/{name}")
}

/// The path of a channel's signed metadata.
pub fn metadata(feed: &str, channel: &str) -> String {
    format!("{FEEDS}/{feed}/{channel}/{METADATA}")
}
