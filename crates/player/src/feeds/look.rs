//! Looking at a feed without following it.

use std::sync::Arc;

use goldleaf_feed::{Channel, Location, offers};
use goldleaf_fetch::Source;
use goldleaf_trust::{Line, Role, State, introduce};
use serde::Serialize;

use super::subscription::{first_root, source};
use crate::desktop::StartOptions;
use crate::workshop::Bench;
use crate::{Home, PlayerError};

/// What a channel of a feed has.
#[derive(Debug, Clone, Serialize)]
pub struct FeedView {
    /// Whose feed it is.
    pub organisation: String,
    /// The feed, and its channel behind a slash.
    pub feed: String,
    /// Ids of the root keys.
    pub root_keys: Vec<String>,
    /// How many of them must sign a root.
    pub root_threshold: usize,
    /// Versions, newest first.
    pub versions: Vec<VersionView>,
}

/// A version of a channel.
#[derive(Debug, Clone, Serialize)]
pub struct VersionView {
    /// Its number.
    pub version: u64,
    /// Unix time of its publication, in seconds.
    pub published_unix_secs: u64,
    /// For how many endpoints of a hundred it is meant.
    pub stage: u8,
    /// Name of its image with its author.
    pub image: String,
    /// BLAKE3 of the image's canonical form.
    pub image_digest: String,
    /// Unix time of the image's making, in seconds.
    pub image_created_unix_secs: u64,
    /// What the guest calls itself.
    pub os: String,
    /// Length of the disk in bytes.
    pub disk_bytes: u64,
    /// Length of the packs that the disk is made of, in bytes: what a first download takes.
    pub pack_bytes: u64,
    /// Names of its layers, lowest first.
    pub layers: Vec<String>,
    /// Deltas: the version that each is from, where the channel still has it, and its length in
    /// bytes.
    pub deltas: Vec<(Option<u64>, u64)>,
}

/// A channel as somebody sees it who has never seen it before. Nothing is kept of it.
pub(super) struct Glance {
    pub(super) line: Line,
    pub(super) state: State,
    pub(super) channel: Channel,
    bench: Bench,
}

impl Glance {
    /// Asks, as an endpoint would that believes that root, or the channel's own.
    pub(super) fn take(
        home: &Home,
        carried: Arc<dyn Source>,
        (feed, channel): (&str, &str),
        root: Option<Vec<u8>>,
    ) -> Result<Self, PlayerError> {
        let root = match root {
            Some(root) => root,
            None => first_root(carried.as_ref(), feed, channel)?,
        };
        let (line, _) = introduce(&root)?;
        let bench = Bench::open(home, &format!("look-{feed}"), &StartOptions::default())?;
        let mut state = State::create(bench.dir.clone(), line.clone(), &root)?;
        let channel = Channel::new(carried, feed, channel);
        channel.update(&mut state, home.clock.now_unix())?;
        Ok(Self { line, state, channel, bench })
    }

    /// Ids of the root keys, and how many of them must sign a root.
    pub(super) fn root_keys(&self) -> (Vec<String>, usize) {
        let keys = self.state.believed().authority().of(Role::Root);
        let ids = keys.iter().flat_map(|keys| &keys.keyids).map(|id| id.0.clone()).collect();
        (ids, keys.map_or(0, |keys| keys.threshold))
    }

    /// Takes away what was kept meanwhile.
    pub(super) fn end(self) -> Result<(), PlayerError> {
        self.bench.clear()
    }
}

/// Asks what a feed has, as an endpoint would that believes that root, or the feed's own. Nothing
/// is kept of it.
pub fn look(
    home: &Home,
    location: &Location,
    root: Option<Vec<u8>>,
) -> Result<FeedView, PlayerError> {
    let carried = source(home, std::slice::from_ref(&location.root), None)?;
    look_at(home, carried, (&location.feed, &location.channel), root)
}

/// Asks the same of what carries it.
pub fn look_at(
    home: &Home,
    carried: Arc<dyn Source>,
    channel: (&str, &str),
    root: Option<Vec<u8>>,
) -> Result<FeedView, PlayerError> {
    let glance = Glance::take(home, carried, channel, root)?;
    let view = view(&glance)?;
    glance.end()?;
    Ok(view)
}

fn view(glance: &Glance) -> Result<FeedView, PlayerError> {
    let Glance { line, state, channel, .. } = glance;
    let believed = state.believed();
    let offered = believed.targets().map(offers).transpose()?.unwrap_or_default();
    let mut versions = Vec::new();
    for (offer, target) in offered.values().rev() {
        let version = channel.version(target)?;
        let packs = channel.map(&version.image.map)?.packs;
        versions.push((offer, version, packs.iter().map(|pack| pack.len).sum()));
    }
    let numbers: Vec<(String, u64)> = versions
        .iter()
        .map(|(offer, version, _)| (version.image.digest.clone(), offer.version))
        .collect();
    let number = |digest: &String| {
        numbers.iter().find(|(known, _)| known == digest).map(|(_, number)| *number)
    };
    let versions = versions.into_iter().map(|(offer, version, pack_bytes)| VersionView {
        version: offer.version,
        published_unix_secs: offer.published_unix_secs,
        stage: offer.stage,
        image: version.image.line,
        image_digest: version.image.digest,
        image_created_unix_secs: version.image.created_unix_secs,
        os: version.image.os,
        disk_bytes: version.image.blocks.bytes().0,
        pack_bytes,
        layers: version.layers.into_iter().map(|layer| layer.name).collect(),
        deltas: offer.deltas.iter().map(|one| (number(&one.from), one.delta.len)).collect(),
    });
    let versions = versions.collect();
    let (root_keys, root_threshold) = glance.root_keys();
    Ok(FeedView {
        organisation: line.organisation.clone(),
        feed: line.feed.clone(),
        root_keys,
        root_threshold,
        versions,
    })
}
