//! Publishing: a LivePC's current versions become a version of a channel.

use std::collections::BTreeMap;
use std::time::Duration;

use goldleaf_block::{BlockNo, BlockRange, ByteLen, FileBlocks};
use goldleaf_feed::{
    Channel, FORMAT, LivePcVersion, Offer, OfferedDelta, PublishedImage, PublishedLayer, Publisher,
    Written, names, offers, target_name,
};
use goldleaf_fetch::Destination;
use goldleaf_image::{ImageVersion, layout, order};
use goldleaf_layer::Layer;
use goldleaf_store::{LiveSet, Store, pack_file_name};
use goldleaf_trust::{
    Line, Repository, SigningKey, Standing, TARGETS_LIFE, Target, Targets, TrustError,
};
use goldleaf_wire::{BootProfile, Effort};

use super::deltas::Differ;
use super::record::published;
use crate::apps::{AppsLayer, AppsVersion};
use crate::desktop::{Listener, StartOptions, volumes};
use crate::home::step;
use crate::livepc::LivePc;
use crate::workshop::{Bench, Rehearsal, rehearse};
use crate::{Home, PlayerError};

/// How a LivePC is published.
pub struct PublishOptions {
    /// The channel.
    pub channel: String,
    /// For how many endpoints of a hundred.
    pub stage: u8,
    /// How much is done to make it small.
    pub effort: Effort,
    /// From how many of the channel's newest versions there is to be a delta.
    pub deltas: usize,
    /// Publish again what this version of the channel was, as the newest: a roll-back.
    pub again: Option<u64>,
    /// Other channels of the same place, by feed and channel: what their newest versions have is
    /// not published again.
    pub like: Vec<(String, String)>,
    /// How many versions of the channel stay there to be pinned or gone back to.
    pub keep: usize,
    /// How it is found what a guest reads when it starts, so that it travels first; `None` where
    /// nothing is said about that.
    pub rehearsal: Option<Rehearsal>,
    /// Image keys that are here; what others have to sign waits for them.
    pub image_keys: Vec<SigningKey>,
    /// The online key, if it is here.
    pub online_key: Option<SigningKey>,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct PublishReport {
    /// Number of the version in its channel.
    pub version: u64,
    /// Whether there is anything that the channel did not offer in this way before.
    pub is_new: bool,
    /// What was written.
    pub written: Written,
    /// The metadata that are to be signed, where signatures are missing.
    pub waits: Option<Standing>,
    /// Whether endpoints see it.
    pub is_visible: bool,
}

/// Publishes the current versions of a LivePC into a channel of the feed of its name.
pub fn publish(
    home: &Home,
    name: &str,
    to: &Destination,
    options: &PublishOptions,
    listener: &dyn Listener,
) -> Result<PublishReport, PlayerError> {
    let livepc = crate::livepc::get(home, name)?;
    let mut repository = repository(to, name, &options.channel)?;
    let channel = Channel::new(to.source.clone(), name, &options.channel);
    let work = Publishing { home, livepc: &livepc, to, channel, options, listener };
    let mut offered = match repository.targets()? {
        Some(targets) => offers(&targets)?,
        None => BTreeMap::new(),
    };
    let now = home.clock.now_unix();
    let (target, mut written) = work.target(&offered)?;
    let newest = offered.last_key_value();
    let newest = newest.map(|(_, (offer, target))| (offer, target));
    // The same for more people, or for fewer, is the same version.
    let same = newest.filter(|(_, newest)| newest.hashes == target.hashes);
    let version = match (same, newest) {
        (Some((offer, _)), _) => offer.version,
        (None, newest) => newest.map_or(1, |(offer, _)| offer.version + 1),
    };
    let stage = options.stage.min(100);
    let is_new = same.is_none_or(|(offer, _)| offer.stage != stage);
    let waits = if is_new {
        let deltas = match same {
            Some((offer, _)) => offer.deltas.clone(),
            None => work.deltas(&offered, &target, &mut written)?,
        };
        let offer = Offer { version, published_unix_secs: now.as_secs(), stage, deltas };
        let target = offer.over(&target)?;
        offered.insert(version, (offer, target));
        while offered.len() > options.keep.max(1) {
            offered.pop_first();
        }
        sign(&mut repository, &targets(offered), &options.image_keys, now)?
    } else {
        None
    };
    let is_visible = show(&mut repository, &waits, options.online_key.as_ref(), now)?;
    Ok(PublishReport { version, is_new, written, waits, is_visible })
}

fn targets(offered: BTreeMap<u64, (Offer, Target)>) -> Targets {
    let named = |(version, (_, target))| (target_name(version), target);
    Targets { targets: offered.into_iter().map(named).collect() }
}

/// The signed metadata of a channel, which must have been begun, and for this channel.
pub(super) fn repository(
    to: &Destination,
    feed: &str,
    channel: &str,
) -> Result<Repository, PlayerError> {
    let path = names::metadata(feed, channel);
    let metadata = path.split('/').fold(to.shelf.clone(), |shelf, name| shelf.folder(name));
    let repository = Repository::on(metadata)?;
    let Some(Line { feed: found, .. }) = repository.line() else {
        return Err(TrustError::NotBegun.into());
    };
    let expected = format!("{feed}/{channel}");
    if *found != expected {
        let text = format!("the keys in {path} are those of feed `{found}`, not of `{expected}`");
        return Err(PlayerError::Refused(text));
    }
    Ok(repository)
}

/// Signs with the keys that are here. Returns how it stands, where signatures are missing.
pub(super) fn sign(
    repository: &mut Repository,
    targets: &Targets,
    image_keys: &[SigningKey],
    now: Duration,
) -> Result<Option<Standing>, PlayerError> {
    let draft =
        step("publish.draft", || Ok(repository.draft_targets(targets, now + TARGETS_LIFE)?))?;
    for key in image_keys {
        step("publish.sign", || Ok(repository.sign(&draft, key)?))?;
    }
    let standing = repository.standing()?.into_iter().find(|standing| standing.file == draft);
    Ok(standing.filter(|standing| !standing.is_complete()))
}

/// Lets endpoints see what waits for nobody, if the online key is here. Returns whether they do.
pub(super) fn show(
    repository: &mut Repository,
    waits: &Option<Standing>,
    online_key: Option<&SigningKey>,
    now: Duration,
) -> Result<bool, PlayerError> {
    let (None, Some(key)) = (waits, online_key) else { return Ok(false) };
    step("publish.show", || Ok(repository.publish(&[key], now)?))?;
    Ok(true)
}

struct Publishing<'a> {
    home: &'a Home,
    livepc: &'a LivePc,
    to: &'a Destination,
    channel: Channel,
    options: &'a PublishOptions,
    listener: &'a dyn Listener,
}

impl Publishing<'_> {
    /// What is to be offered, and what was written for it.
    fn target(
        &self,
        offered: &BTreeMap<u64, (Offer, Target)>,
    ) -> Result<(Target, Written), PlayerError> {
        if let Some(again) = self.options.again {
            let (_, target) = offered.get(&again).ok_or_else(|| PlayerError::Unknown {
                kind: "version of the channel",
                name: again.to_string(),
            })?;
            return Ok((target.clone(), Written::default()));
        }
        let before = offered.values().map(|(_, target)| self.channel.version(target));
        let mut before: Vec<LivePcVersion> = before.collect::<Result<_, _>>()?;
        for (feed, channel) in &self.options.like {
            before.push(self.newest(feed, channel)?);
        }
        step("publish.content", || self.content(&before))
    }

    /// The newest version of another channel of the same place.
    fn newest(&self, feed: &str, channel: &str) -> Result<LivePcVersion, PlayerError> {
        let targets = repository(self.to, feed, channel)?.targets()?;
        let newest = targets.as_ref().map(offers).transpose()?.unwrap_or_default().pop_last();
        let name = || format!("{feed}/{channel}");
        let (_, (_, target)) =
            newest.ok_or_else(|| PlayerError::Unknown { kind: "version of", name: name() })?;
        Ok(Channel::new(self.to.source.clone(), feed, channel).version(&target)?)
    }

    /// Deltas from the newest versions of the channel to what is to be offered, and those that
    /// there are already.
    fn deltas(
        &self,
        offered: &BTreeMap<u64, (Offer, Target)>,
        target: &Target,
        written: &mut Written,
    ) -> Result<Vec<OfferedDelta>, PlayerError> {
        let before = offered.values().filter(|(_, known)| known.hashes == target.hashes);
        let mut deltas: Vec<_> =
            before.flat_map(|(offer, _)| offer.deltas.iter().cloned()).collect();
        let to = self.channel.version(target)?.image;
        let mut publisher = Publisher::new(self.to, self.options.effort);
        let (home, name) = (self.home, &self.livepc.name[..]);
        let differ = Differ { home, name, channel: &self.channel, progress: self.listener };
        for (_, target) in offered.values().rev().take(self.options.deltas) {
            let from = self.channel.version(target)?.image;
            let is_there = deltas.iter().any(|delta| delta.from == from.digest);
            if !is_there && from.digest != to.digest {
                let make = || differ.delta(&mut publisher, &from, &to);
                deltas.extend(step("publish.delta", make)?);
            }
        }
        *written = written.and(publisher.written);
        Ok(deltas)
    }

    /// Writes what is new.
    fn content(&self, before: &[LivePcVersion]) -> Result<(Target, Written), PlayerError> {
        let mut publisher = Publisher::new(self.to, self.options.effort);
        for version in before {
            publisher.learn(&version.image.map, self.listener)?;
        }
        let image = self.image(&mut publisher)?;
        // Layers travel in packs of their own: an endpoint may have them without the image.
        let mut apart = Publisher::new(self.to, self.options.effort);
        for layer in before.iter().flat_map(|version| &version.layers) {
            apart.learn(&layer.map, self.listener)?;
        }
        let mut layers = Vec::new();
        for (name, number) in self.livepc.layer_versions() {
            let layer = crate::apps::get(self.home, name)?;
            let version = layer.version(number)?.clone();
            layers.push(self.layer(&mut apart, &layer, &version)?);
        }
        let rules = crate::livepc::rules(self.home, &self.livepc.name)?.map(|rules| rules.text);
        let LivePc { name, memory_mib, cpus, .. } = self.livepc.clone();
        let version =
            LivePcVersion { format: FORMAT, livepc: name, image, layers, rules, memory_mib, cpus };
        let target = publisher.version(&version)?;
        Ok((target, publisher.written.and(apart.written)))
    }

    fn image(&self, publisher: &mut Publisher) -> Result<PublishedImage, PlayerError> {
        let images = self.home.images()?;
        let image = images.open(&self.livepc.image, self.livepc.image_version())?;
        let launcher = &self.home.launcher;
        let layout = layout(launcher, &image.map, &image.files, &volumes(&image)?, self.listener)?;
        let profile = self.profile(&image)?;
        let mut travel = profile.runs().to_vec();
        travel.extend(order(&layout, image.record.blocks));
        let map = publisher.disk(&image.device()?, &travel, self.listener)?;
        let is_known = !profile.runs().is_empty();
        let profile = is_known.then(|| publisher.profile(&profile)).transpose()?;
        Ok(published(&self.livepc.image, image.record, map, profile))
    }

    /// What a guest reads when it starts, kept with the image, so that a version that is published
    /// twice is the same.
    fn profile(&self, image: &ImageVersion) -> Result<BootProfile, PlayerError> {
        let Some(rehearsal) = &self.options.rehearsal else { return Ok(BootProfile::default()) };
        let images = self.home.images_here()?;
        if !rehearsal.anew
            && let Some(known) = images.boot_profile(&image.image, &image.record)?
        {
            return Ok(known);
        }
        let profile = rehearse(self.home, self.livepc, rehearsal, self.listener)?;
        images.keep_boot_profile(&image.image, image.record.number, &profile)?;
        Ok(profile)
    }

    /// A layer as one pack of a store that has nothing else.
    fn layer(
        &self,
        publisher: &mut Publisher,
        layer: &AppsLayer,
        version: &AppsVersion,
    ) -> Result<PublishedLayer, PlayerError> {
        let public = self.home.public()?;
        let mut live = LiveSet::default();
        Layer::open(&public, &version.digest.0)?.add_live(&public, &mut live)?;
        let name = format!("publish-{}", layer.name);
        let bench = Bench::open(self.home, &name, &StartOptions::default())?;
        let dir = bench.dir.create_dir("store").map_err(what())?;
        let mut writer = Store::open(dir.clone())?.writer()?;
        writer.copy(&public, &live)?;
        let pack = writer.finish()?.pack;
        let pack = pack.ok_or_else(|| PlayerError::corrupt(&layer.name, "an empty layer"))?;
        let file = dir.open_rw(&pack_file_name(pack)).map_err(what())?;
        let pack_len = file.len().map_err(what())?;
        // A disk has whole blocks.
        let blocks = ByteLen(pack_len).blocks();
        file.set_len(blocks.bytes().0).map_err(what())?;
        let all = [BlockRange::new(BlockNo(0), blocks)];
        let map = publisher.disk(&FileBlocks::new(file)?, &all, self.listener)?;
        bench.clear()?;
        Ok(PublishedLayer {
            name: layer.name.clone(),
            line: layer.image.clone(),
            digest: version.digest.0.to_string(),
            created_unix_secs: version.created_unix_secs,
            cause: version.cause.clone(),
            entries: version.entries,
            bytes: version.bytes,
            pack: pack.0.to_string(),
            pack_len,
            map,
        })
    }
}

fn what() -> impl FnOnce(std::io::Error) -> PlayerError {
    PlayerError::io("putting a layer together")
}
