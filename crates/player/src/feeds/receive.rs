//! Receiving a version: an image, layers and a LivePC of what was published.

use std::ops::ControlFlow;

use goldleaf_cache::Cached;
use goldleaf_feed::{Channel, LivePcVersion, Offer, PublishedImage};
use goldleaf_host::Progress;
use goldleaf_image::{Arrived, ImageError, ImageVersion};
use goldleaf_layer::rules::SiteRules;
use goldleaf_tree::GuestPath;
use goldleaf_wire::DeltaRef;

use super::record::received;
use super::subscription::Wanted;
use crate::cache;
use crate::home::step;
use crate::livepc::{self, Edition, LivePc};
use crate::{Home, PlayerError};

/// Streams by which a disk is filled.
pub(super) const STREAMS: usize = 2;

/// A version whose layers are here, and its image as far as it has arrived.
pub struct Arrival {
    /// Number of the version in its channel.
    pub version: u64,
    /// Whether [`Arrival::adopt`] makes it start: not when it does already, nor when it failed
    /// here.
    pub is_new: bool,
    pub(super) home: Home,
    pub(super) image: ImageVersion,
    livepc: LivePc,
    /// A short way to the image from a version that is here.
    difference: Option<Difference>,
}

/// A delta, and what is here of the version that it is from.
struct Difference {
    delta: DeltaRef,
    from: Vec<Cached>,
}

impl Arrival {
    /// What starts next as it is, for what has not arrived of it yet.
    pub fn of_current(home: &Home, name: &str) -> Result<Self, PlayerError> {
        let livepc = livepc::get(home, name)?;
        let image = home.images()?.open(&livepc.image, livepc.image_version())?;
        let version = livepc.version().unwrap_or_default();
        let (home, is_new, difference) = (home.clone(), false, None);
        Ok(Self { version, is_new, home, image, livepc, difference })
    }

    /// Makes it the version that starts next: one durable move.
    pub fn adopt(&self, home: &Home) -> Result<(), PlayerError> {
        if self.is_new { livepc::adopt(home, &self.livepc).map(drop) } else { Ok(()) }
    }

    /// How much of the image is here.
    pub fn arrived(&self) -> Arrived {
        self.image.arrived()
    }

    /// Brings the rest of the image, after making room for it; `told` is told how far it is, and
    /// may end it. Returns whether all is here.
    pub fn fill(
        &self,
        told: &(dyn Fn(Arrived) -> ControlFlow<()> + Sync),
    ) -> Result<bool, PlayerError> {
        cache::make_room(&self.home, self.arrived().missing().bytes().0)?;
        step("receive.content", || self.bring(told))
    }

    fn bring(
        &self,
        told: &(dyn Fn(Arrived) -> ControlFlow<()> + Sync),
    ) -> Result<bool, PlayerError> {
        let told = |_| told(self.arrived());
        let missing = self.image.published().iter().filter(|data| !data.is_whole());
        for data in missing {
            let fill = |by: &Difference| Ok(data.fill_from_delta(&by.delta, &by.from, &told)?);
            let by_delta = |by: &Difference| step("receive.delta", || fill(by));
            let filled = self.difference.as_ref().map(by_delta);
            // What it could not bring, for whatever reason, comes from the packs.
            if let Some(Ok(false)) = filled {
                return Ok(false);
            }
            if !data.fill(STREAMS, &told)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Takes versions of one subscription.
pub(super) struct Receiver<'a> {
    pub home: &'a Home,
    pub name: &'a str,
    pub channel: &'a Channel,
    pub progress: &'a dyn Progress,
}

impl Receiver<'_> {
    /// Takes a version: its layers, and its image but for the content. Nothing starts otherwise for
    /// it.
    pub fn receive(&self, wanted: &Wanted) -> Result<Arrival, PlayerError> {
        let number = wanted.offer.version;
        let before = match livepc::get(self.home, self.name) {
            Err(PlayerError::Unknown { .. }) => None,
            other => Some(other?),
        };
        let version = self.channel.version(&wanted.target)?;
        let is_new = before.as_ref().is_none_or(|livepc| {
            livepc.version() != Some(number) && !livepc.failed.contains(&number)
        });
        let image_version = self.image(&version.image)?;
        let livepc = self.livepc(number, image_version, &version, before.as_ref())?;
        let image = self.home.images()?.open(self.name, Some(image_version))?;
        let difference = self.difference(&wanted.offer)?;
        let home = self.home.clone();
        Ok(Arrival { version: number, is_new, home, image, livepc, difference })
    }

    fn livepc(
        &self,
        number: u64,
        image_version: u32,
        version: &LivePcVersion,
        before: Option<&LivePc>,
    ) -> Result<LivePc, PlayerError> {
        if let Some(text) = &version.rules {
            SiteRules { file: "rules.toml".into(), text: text.clone() }.parse()?;
        }
        let (mut layers, mut layer_versions) = (Vec::new(), Vec::new());
        for layer in &version.layers {
            let (name, version) = self.layer(layer, image_version)?;
            layers.push(name);
            layer_versions.push(version);
        }
        let rules = version.rules.clone();
        Ok(LivePc {
            format: livepc::FORMAT,
            name: self.name.into(),
            image: self.name.into(),
            layers,
            memory_mib: version.memory_mib,
            cpus: version.cpus,
            created_unix_secs: before
                .map_or_else(|| self.home.now_unix_secs(), |livepc| livepc.created_unix_secs),
            edition: Some(Edition { version: number, image_version, layer_versions, rules }),
            trial: None,
            failed: Default::default(),
        })
    }

    /// The delta from the newest version of the image that there is one from.
    fn difference(&self, offer: &Offer) -> Result<Option<Difference>, PlayerError> {
        let images = self.home.images()?;
        let from = |digest: &String| offer.deltas.iter().find(|delta| delta.from == *digest);
        for version in images.record(self.name)?.versions.iter().rev() {
            if let Some(delta) = from(&version.digest) {
                let delta = delta.reference()?;
                let from = images.open(self.name, Some(version.number))?.published().to_vec();
                return Ok(Some(Difference { delta, from }));
            }
        }
        Ok(None)
    }

    /// The number that an image's version has here.
    fn image(&self, published: &PublishedImage) -> Result<u32, PlayerError> {
        let images = self.home.images()?;
        let known = match images.record(self.name) {
            Err(ImageError::Unknown(_)) => Vec::new(),
            other => other?.versions,
        };
        if let Some(version) = known.iter().find(|version| version.digest == published.digest) {
            return Ok(version.number);
        }
        self.progress.at("reading the map of the disk", 0, 0);
        let wire = self.channel.map(&published.map)?;
        if wire.map.blocks() != published.blocks {
            return Err(PlayerError::corrupt("a published image", "a map of another length"));
        }
        check_volumes(published)?;
        let number = known.last().map_or(1, |version| version.number + 1);
        let version = received(published, number);
        let profile = published.profile.as_ref();
        let profile = profile.map(|object| self.channel.profile(object, published.blocks));
        let number = images.add_published(self.name, version, &wire)?.number;
        if let Some(profile) = profile.transpose()? {
            images.keep_boot_profile(self.name, number, &profile)?;
        }
        Ok(number)
    }
}

/// Refuses volumes that no session could stand on: who adopted them could not start any more.
fn check_volumes(published: &PublishedImage) -> Result<(), PlayerError> {
    let wrong = |why: String| PlayerError::corrupt("a published image", why);
    for volume in &published.volumes {
        GuestPath::parse(&volume.mount)
            .map_err(|error| wrong(format!("a mount point: {error}")))?;
        let end = volume.start.0.checked_add(volume.len.0);
        if end.is_none_or(|end| end > published.blocks.bytes().0) {
            return Err(wrong("a volume behind the end of the disk".into()));
        }
    }
    Ok(())
}
