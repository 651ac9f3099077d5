//! Reading a feed from wherever it is carried. Nothing of it is believed but what signatures and
//! digests vouch for.

use std::error::Error;
use std::ops::Range;
use std::sync::Arc;

use goldleaf_cache::{Carried, Supply, SupplyError, Take};
use goldleaf_fetch::Source;
use goldleaf_store::Digest;
use goldleaf_trust::{Metadata, Target};
use goldleaf_wire::WireMap;

use crate::version::{LivePcVersion, Object, VERSION_MAX};
use crate::{FeedError, names};

/// Longest map that is read, in bytes.
pub(crate) const MAP_MAX: u64 = 64 << 20;

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

    pub(crate) fn source(&self) -> &dyn Source {
        self.source.as_ref()
    }

    /// A version that a signed target vouches for.
    pub fn version(&self, target: &Target) -> Result<LivePcVersion, FeedError> {
        let digest = digest_of(target)?;
        let bytes = self.object(&names::version(&digest), target.length.min(VERSION_MAX))?;
        let parsed = LivePcVersion::parse(&bytes, target);
        self.distrusting(&names::version(&digest), parsed)
    }

    /// The map of a disk.
    pub fn map(&self, object: &Object) -> Result<WireMap, FeedError> {
        let (name, path) = (object.name()?, names::map(&object.name()?));
        let bytes = self.object(&path, object.len.min(MAP_MAX))?;
        if Digest::of(&bytes) != name {
            let wrong = Err(FeedError::malformed(&path, "another digest"));
            return self.distrusting(&path, wrong);
        }
        Ok(WireMap::from_bytes(&bytes)?)
    }

    /// What brings packs and deltas.
    pub fn content(&self) -> Arc<dyn Supply> {
        Arc::new(Content(self.source.clone()))
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

/// The name of a version that a signed target vouches for.
pub(crate) fn digest_of(target: &Target) -> Result<Digest, FeedError> {
    let digest = target.hashes.get("blake3").and_then(|digest| Digest::parse(digest));
    digest.ok_or_else(|| FeedError::malformed("a target", "it has no BLAKE3 digest"))
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
