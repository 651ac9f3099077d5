//! Versions of a channel, signed and offered, so that an endpoint can follow it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use goldleaf_e2e::Author;
use goldleaf_feed::{FORMAT, LivePcVersion, Location, Offer, Publisher, target_name};
use goldleaf_player::feeds::{SubscribeOptions, published};
use goldleaf_trust::{TARGETS_LIFE, Targets};
use goldleaf_wire::{BootProfile, Effort};

use super::ground::Ground;
use super::publishing::{FINAL, Made};
use crate::Result;

/// A channel in a feed's directory.
pub struct Offering<'a> {
    ground: &'a Ground,
    feed: PathBuf,
    name: &'static str,
    author: Author,
    targets: Targets,
}

impl<'a> Offering<'a> {
    /// Begins one for a LivePC of this name.
    pub fn begin(ground: &'a Ground, feed: &Path, name: &'static str) -> Result<Self> {
        let author = Author::begin(&ground.home, feed, name)?;
        let targets = Targets { targets: BTreeMap::new() };
        Ok(Self { ground, feed: feed.into(), name, author, targets })
    }

    /// Offers an image that was published into the directory as the next version.
    pub fn offer(&mut self, image: &str, made: &Made, profile: Option<&BootProfile>) -> Result<()> {
        let home = &self.ground.home;
        let publisher = Publisher::new(&self.author.to, Effort::of(FINAL, 1));
        let profile = profile.map(|profile| publisher.profile(profile)).transpose()?;
        let record = home.images()?.open(image, None)?.record;
        let version = LivePcVersion {
            format: FORMAT,
            livepc: self.name.into(),
            image: published(image, record, made.map.clone(), profile),
            layers: Vec::new(),
            rules: None,
            memory_mib: 2048,
            cpus: 2,
        };
        let target = publisher.version(&version)?;
        let (now, number) = (home.clock.now_unix(), self.targets.targets.len() as u64 + 1);
        let (published_unix_secs, deltas) = (now.as_secs(), Vec::new());
        let offer = Offer { version: number, published_unix_secs, stage: 100, deltas };
        self.targets.targets.insert(target_name(number), offer.over(&target)?);
        let mut repository = self.author.repository(&self.feed, self.name)?;
        let draft = repository.draft_targets(&self.targets, now + TARGETS_LIFE)?;
        repository.sign(&draft, &self.author.key)?;
        repository.publish(&[&self.author.online], now)?;
        Ok(())
    }

    /// How an endpoint follows it from `root`, which is an address or a directory.
    pub fn followed(&self, root: String) -> SubscribeOptions {
        let (feed, channel) = (self.name.to_owned(), "stable".to_owned());
        let location = Location { root, feed, channel };
        SubscribeOptions { location, mirrors: Vec::new(), name: self.name.into(), root: None }
    }
}
