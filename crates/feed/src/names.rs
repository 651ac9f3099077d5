//! Where things are in a feed's directory. Names are made here, from digests and checked words, and
//! never taken from what somebody published.

use goldleaf_store::Digest;

/// Directory of packs.
pub const PACKS: &str = "packs";
/// Directory of deltas.
pub const DELTAS: &str = "deltas";
/// Directory of maps.
pub const MAPS: &str = "maps";
/// Directory of boot profiles.
pub const PROFILES: &str = "profiles";
/// Directory of versions.
pub const VERSIONS: &str = "versions";
/// Directories of files that are named by their digest, and never change.
pub const BY_DIGEST: [&str; 5] = [PACKS, DELTAS, MAPS, PROFILES, VERSIONS];
/// Directory of feeds.
pub const FEEDS: &str = "feeds";
/// Directory of a channel's signed metadata.
pub const METADATA: &str = "metadata";

/// The path of a pack.
pub fn pack(name: &Digest) -> String {
    format!("{PACKS}/{name}")
}

/// The path of a delta.
pub fn delta(name: &Digest) -> String {
    format!("{DELTAS}/{name}")
}

/// The path of a map.
pub fn map(name: &Digest) -> String {
    format!("{MAPS}/{name}")
}

/// The path of a boot profile.
pub fn profile(name: &Digest) -> String {
    format!("{PROFILES}/{name}")
}

/// The path of a version.
pub fn version(name: &Digest) -> String {
    format!("{VERSIONS}/{name}")
}

/// Channel that is meant where none is named.
pub const STABLE: &str = "stable";

/// Where a channel of a feed is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The directory or the address that carries feeds.
    pub root: String,
    /// The feed.
    pub feed: String,
    /// The channel.
    pub channel: String,
}

impl Location {
    /// Reads `ROOT/feeds/FEED` or `ROOT/feeds/FEED/CHANNEL`, or the address of the page there;
    /// `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_suffix("/index.html").unwrap_or(text);
        let (root, path) = text.trim_end_matches('/').rsplit_once("/feeds/")?;
        let (feed, channel) = path.split_once('/').unwrap_or((path, STABLE));
        let is_word = |word: &str| {
            let mut bytes = word.bytes();
            let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            (1..=64).contains(&word.len())
                && bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric())
                && bytes.all(is_fine)
        };
        let own = |text: &str| text.to_owned();
        (is_word(feed) && is_word(channel)).then(|| Self {
            root: if root.is_empty() { own("/") } else { own(root) },
            feed: own(feed),
            channel: own(channel),
        })
    }
}

/// The path of a channel's signed metadata.
pub fn metadata(feed: &str, channel: &str) -> String {
    format!("{FEEDS}/{feed}/{channel}/{METADATA}")
}
