//! Reading a feed from wherever it is carried. Nothing of it is believed but what signatures and
//! digests vouch for.

use std::error::Error;
use std::ops::Range;
use std::sync::Arc;

use goldleaf_block::BlockCount;
use goldleaf_cache::{Carried, Supply, SupplyError, Take};
use goldleaf_fetch::Source;
use goldleaf_store::Digest;
use goldleaf_trust::{Metadata, Target};
use goldleaf_wire::{BootProfile, WireMap};

use crate::version::{LivePcVersion, Object, VERSION_MAX};
use crate::{FeedError, names};

/// Longest map that is read, in bytes.
const MAP_MAX: u64 = 64 << 20;
/// Longest boot profile that is read, in bytes.
const PROFILE_MAX: u64 = 16 << 20;

/// A channel of a feed.
pub struct Channel {
    source: Arc<dyn Source>,
    metadata: String,
}

impl Channel {
    /// A channel of a feed that `source` carries. Both names are checked by whoever asks.
    pub fn new(source: Arc<dyn Source>, feed: &str, channel: &str) -> Self {
        Self { source, metadata: names::metadata(feed, channel) }
    }

    /// A version that a signed target vouches for.
    pub fn version(&self, target: &Target) -> Result<LivePcVersion, FeedError> {
        let digest = target.hashes.get("blake3").and_then(|digest| Digest::parse(digest));
        let digest =
            digest.ok_or_else(|| FeedError::malformed("a target", "it has no BLAKE3 digest"))?;
        let bytes = self.object(&names::version(&digest), target.length.min(VERSION_MAX))?;
        let parsed = LivePcVersion::parse(&bytes, target);
        self.distrusting(&names::version(&digest), parsed)
    }

    /// The map of a disk.
    pub fn map(&self, object: &Object) -> Result<WireMap, FeedError> {
        let bytes = self.named(object, &names::map(&object.name()?), MAP_MAX)?;
        Ok(WireMap::from_bytes(&bytes)?)
    }

    /// What of a disk of so many blocks a guest reads when it starts.
    pub fn profile(&self, object: &Object, disk: BlockCount) -> Result<BootProfile, FeedError> {
        let bytes = self.named(object, &names::profile(&object.name()?), PROFILE_MAX)?;
        Ok(BootProfile::from_bytes(&bytes, disk)?)
    }

    /// What brings packs and deltas.
    pub fn content(&self) -> Arc<dyn Supply> {
        Arc::new(Content(self.source.clone()))
    }

    /// An object as its name says that it is.
    fn named(&self, object: &Object, path: &str, limit: u64) -> Result<Vec<u8>, FeedError> {
        let bytes = self.object(path, object.len.min(limit))?;
        if Digest::of(&bytes) != object.name()? {
            return self.distrusting(path, Err(FeedError::malformed(path, "another digest")));
        }
        Ok(bytes)
    }

    fn object(&self, path: &str, limit: u64) -> Result<Vec<u8>, FeedError> {
        let read = self.source.read(path, limit)?;
        read.ok_or_else(|| FeedError::Missing(path.into()))
    }

    /// Says that what came was wrong, so that it comes from somewhere else at the next try.
    fn distrusting<T>(&self, path: &str, result: Result<T, FeedError>) -> Result<T, FeedError> {
        if result.is_err() {
            self.source.distrust(path);
        }
        result
    }
}

impl Metadata for Channel {
    fn fetch(
        &self,
        name: &str,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, Box<dyn Error + Send + Sync>> {
        Ok(self.source.read(&format!("{}/{name}", self.metadata), limit)?)
    }
}

/// Content, from where a feed is carried.
struct Content(Arc<dyn Source>);

fn path(object: Carried) -> String {
    match object {
        Carried::Pack(name) => names::pack(&name),
        Carried::Delta(name) => names::delta(&name),
    }
}

impl Supply for Content {
    fn stream(
        &self,
        object: Carried,
        range: Range<u64>,
        take: &mut Take<'_>,
    ) -> Result<(), SupplyError> {
        Ok(self.0.stream(&path(object), range, take)?)
    }

    fn distrust(&self, object: Carried) -> bool {
        self.0.distrust(&path(object))
    }
}
