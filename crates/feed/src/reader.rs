//! Reading a feed from wherever it is carried. Nothing of it is believed but what signatures and
//! digests vouch for.

use std::cell::RefCell;
use std::error::Error;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use goldleaf_block::BlockCount;
use goldleaf_cache::{Carried, Supply, SupplyError, Take};
use goldleaf_fetch::Source;
use goldleaf_store::Digest;
use goldleaf_trust::{Metadata, State, Target, TrustError, Updated, update};
use goldleaf_wire::{BootProfile, WireMap};

use crate::version::{LivePcVersion, Object, VERSION_MAX};
use crate::{FeedError, names};

/// Longest map that is read, in bytes.
pub(crate) const MAP_MAX: u64 = 64 << 20;
/// Longest boot profile that is read, in bytes.
pub(crate) const PROFILE_MAX: u64 = 16 << 20;
/// How often what came may be wrong, and another try is worth it: more than there are mirrors.
const TRIES: usize = 8;

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

    /// Brings what is believed up to date, as [`goldleaf_trust::update`] does. Where what came is
    /// stale or wrong, and somebody else carries the feed too, they are asked.
    pub fn update(&self, state: &mut State, now: Duration) -> Result<Updated, TrustError> {
        for _ in 1..TRIES {
            let asked = Asking { channel: self, given: RefCell::default() };
            match update(state, &asked, now) {
                Err(error) if error.is_of_what_came() && asked.distrust() => {}
                other => return other,
            }
        }
        update(state, self, now)
    }

    pub(crate) fn source(&self) -> &dyn Source {
        self.source.as_ref()
    }

    /// A version that a signed target vouches for.
    pub fn version(&self, target: &Target) -> Result<LivePcVersion, FeedError> {
        let digest = digest_of(target)?;
        let limit = target.length.min(VERSION_MAX);
        let bytes = self.verified(&names::version(&digest), limit, &|bytes| {
            Ok(target.check("a version", bytes)?)
        })?;
        LivePcVersion::parse(&bytes, target)
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
        let name = object.name()?;
        self.verified(path, object.len.min(limit), &|bytes| {
            let (what, expected, found) = (path.into(), object.len, bytes.len() as u64);
            if expected != found {
                return Err(FeedError::Length { what, expected, found });
            }
            match Digest::of(bytes) == name {
                true => Ok(()),
                false => Err(FeedError::malformed(path, "another digest")),
            }
        })
    }

    /// What is right by its digest. What is wrong is asked for once more, and then of whoever else
    /// there is.
    fn verified(
        &self,
        path: &str,
        limit: u64,
        check: &dyn Fn(&[u8]) -> Result<(), FeedError>,
    ) -> Result<Vec<u8>, FeedError> {
        let mut round = 0;
        loop {
            let read = self.source.read(path, limit)?;
            let bytes = read.ok_or_else(|| FeedError::Missing(path.into()))?;
            let wrong = match check(&bytes) {
                Ok(()) => return Ok(bytes),
                Err(wrong) => wrong,
            };
            if round == TRIES || (round > 0 && !self.source.distrust(path)) {
                return Err(wrong);
            }
            round += 1;
        }
    }

    fn metadata(&self, name: &str) -> String {
        format!("{}/{name}", self.metadata)
    }
}

/// A channel, as one update asks it.
struct Asking<'a> {
    channel: &'a Channel,
    /// What was given last, if anything was.
    given: RefCell<Option<String>>,
}

impl Asking<'_> {
    /// Says that what was given last is wrong. Returns whether there is somebody else.
    fn distrust(&self) -> bool {
        let given = self.given.borrow();
        given
            .as_ref()
            .is_some_and(|name| self.channel.source.distrust(&self.channel.metadata(name)))
    }
}

impl Metadata for Asking<'_> {
    fn fetch(
        &self,
        name: &str,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, Box<dyn Error + Send + Sync>> {
        let fetched = self.channel.fetch(name, limit)?;
        self.given.replace(fetched.is_some().then(|| name.into()));
        Ok(fetched)
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
        Ok(self.source.read(&self.metadata(name), limit)?)
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
