//! Subscriptions: which feed is followed, where it is carried, and what of it runs here.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use goldleaf_cache::Supply;
use goldleaf_feed::{Channel, Location, Offer, offers};
use goldleaf_fetch::{Limited, Retrying, Several, Source, Tries, open};
use goldleaf_host::{Dir, Lock, Progress};
use goldleaf_image::check_name;
use goldleaf_trust::{Line, Root, State, Target, TrustError, introduce};
use serde::{Deserialize, Serialize};

use super::receive::{Arrival, Receiver};
use crate::home::{read_record, step, write_record};
use crate::{Home, PlayerError, agent};

/// Format of the records that this program writes.
const FORMAT: u32 = 1;
/// Longest root that is read, in bytes, as in the client's workflow.
const ROOT_LIMIT: u64 = 64 << 10;
const RECORD: &str = "subscription.json";
const SHELF: &str = "subscriptions";
/// How long an agent may take to give way: it ends what it asked for last.
const GIVING_WAY: Duration = Duration::from_secs(20);
/// How often it is asked whether it has.
const TICK: Duration = Duration::from_millis(50);

/// `subscription.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriptionRecord {
    /// Format of this record.
    pub format: u32,
    /// Its name here, which is that of its LivePC and its image.
    pub name: String,
    /// Organisation whose feed it is.
    pub organisation: String,
    /// The feed, by its author's name for it.
    pub feed: String,
    /// The channel.
    pub channel: String,
    /// Directories and addresses that carry the feed, the first one first.
    pub sources: Vec<String>,
    /// Drawn once, below 100: versions that are offered to some only begin with the low ones.
    pub lot: u8,
    /// The version that is to stay, whatever is new.
    pub pinned: Option<u64>,
    /// Unix time in seconds up to which a new version waits before it starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deferred_until: Option<u64>,
    /// Unix time of the subscription, in seconds.
    pub created_unix_secs: u64,
}

impl SubscriptionRecord {
    fn line(&self) -> Line {
        let feed = format!("{}/{}", self.feed, self.channel);
        Line { organisation: self.organisation.clone(), feed }
    }
}

/// What is subscribed to.
#[derive(Debug, Clone)]
pub struct SubscribeOptions {
    /// Where it is: `ROOT/feeds/FEED` or `ROOT/feeds/FEED/CHANNEL`.
    pub location: Location,
    /// Other places that carry the same feeds.
    pub mirrors: Vec<String>,
    /// Its name here.
    pub name: String,
    /// The root of trust, from somebody who is trusted; without it the feed's own is believed from
    /// now on.
    pub root: Option<Vec<u8>>,
}

/// How often a place that cannot be reached is asked while a guest waits for its disk: for some
/// minutes. A disk that is slow can be borne, one that fails ends what the guest was doing.
const TRIES_OF_A_DISK: u32 = 60;

/// Places that carry a feed, as one, which is asked so many times; of several none keeps the others
/// waiting for longer than the usual tries.
pub(super) fn source(
    home: &Home,
    locations: &[String],
    tries: Option<u32>,
) -> Result<Arc<dyn Source>, PlayerError> {
    let locations: Vec<&String> = home.nearest.iter().chain(locations).collect();
    let mut options = home.fetch_options();
    let usual = options.tries;
    let tries = Tries { count: tries.unwrap_or(usual.count), ..usual };
    if let [location] = locations[..] {
        options.tries = tries;
        return Ok(limited(home, open(location, &options)?));
    }
    let opened = locations.iter().map(|location| open(location, &options));
    let several = Several::new(opened.collect::<Result<_, _>>()?, options.clock.clone());
    let rounds = Tries { count: tries.count.div_ceil(usual.count), ..usual };
    let several = Retrying::new(Arc::new(several), rounds, options.clock, options.entropy);
    Ok(limited(home, Arc::new(several)))
}

/// A source that keeps to the rate of all that is brought for this home.
fn limited(home: &Home, source: Arc<dyn Source>) -> Arc<dyn Source> {
    match &home.rate {
        Some(rate) => Arc::new(Limited::new(source, rate.clone())),
        None => source,
    }
}

/// A subscription, locked.
pub struct Subscription {
    /// Its record.
    pub record: SubscriptionRecord,
    dir: Arc<dyn Dir>,
    pub(super) state: State,
    pub(super) channel: Channel,
    _lock: Box<dyn Lock>,
}

/// Begins to follow a feed: believes its author, and makes an image and a LivePC of the version
/// that is offered. Nothing of the image need have arrived then. Returns the subscription and by
/// whom it is signed.
pub fn subscribe(
    home: &Home,
    options: &SubscribeOptions,
    progress: &dyn Progress,
) -> Result<(Subscription, Root, Arrival), PlayerError> {
    let name = &options.name;
    check_name(name)?;
    let taken = |kind| PlayerError::Exists { kind, name: name.clone() };
    if list(home)?.iter().any(|record| record.name == *name) {
        return Err(taken("subscription"));
    }
    if crate::livepc::list(home)?.iter().any(|livepc| livepc.name == *name) {
        return Err(taken("LivePC"));
    }
    if home.images()?.list()?.iter().any(|image| image.name == *name) {
        return Err(taken("image"));
    }
    let sources: Vec<String> =
        [&options.location.root].into_iter().chain(&options.mirrors).cloned().collect();
    let Location { feed, channel, .. } = &options.location;
    let carried = source(home, &sources, None)?;
    let root = match &options.root {
        Some(root) => root.clone(),
        None => first_root(carried.as_ref(), feed, channel)?,
    };
    let (line, keys) = introduce(&root)?;
    let shelf = home.sub(SHELF)?;
    let dir = shelf.create_dir(name).map_err(what())?;
    let lock = lock(dir.as_ref(), name)?;
    let mut lot = [0];
    home.entropy.fill(&mut lot).map_err(PlayerError::io("drawing random numbers"))?;
    let record = SubscriptionRecord {
        format: FORMAT,
        name: name.clone(),
        organisation: line.organisation,
        feed: feed.clone(),
        channel: channel.clone(),
        sources,
        lot: lot[0] % 100,
        pinned: None,
        deferred_until: None,
        created_unix_secs: home.now_unix_secs(),
    };
    // What an earlier attempt believed is no subscription's yet.
    for file in ["believed", "believed.copy"] {
        match dir.remove(file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(what()(error));
            }
            _ => {}
        }
    }
    let state = State::create(dir.clone(), record.line(), &root)?;
    let channel = Channel::new(carried, feed, channel);
    let mut subscription = Subscription { record, dir, state, channel, _lock: lock };
    let wanted = subscription.refresh(home)?;
    step("subscription.create", || {
        write_record(subscription.dir.as_ref(), RECORD, &subscription.record)?;
        shelf.sync().map_err(what())
    })?;
    let arrival = subscription.take(home, &wanted, progress)?;
    arrival.adopt(home)?;
    Ok((subscription, keys, arrival))
}

/// Ends a subscription: its LivePC, image, layers and desktops stay as they are, and nothing is
/// brought any more. Refused while a version of the image that something stands on has not wholly
/// arrived.
pub fn unsubscribe(home: &Home, name: &str) -> Result<(), PlayerError> {
    peek(home, name)?;
    let shelf = home.sub(SHELF)?;
    let dir = shelf.dir(name).map_err(what())?;
    let _lock = lock_soon(home, dir.as_ref(), name)?;
    // Asked again: another command may have been faster.
    peek(home, name)?;
    check_arrived(home, name)?;
    step("subscription.forget", || {
        dir.remove(RECORD).map_err(what())?;
        dir.sync().map_err(what())
    })?;
    step("subscription.remove", || shelf.remove_dir_all(name).map_err(what()))
}

/// Refuses when something of the image is missing that is needed, with what brings it.
fn check_arrived(home: &Home, name: &str) -> Result<(), PlayerError> {
    let livepc = match crate::livepc::get(home, name) {
        // One that was interrupted has nothing that could stand on it.
        Err(PlayerError::Unknown { .. }) => return Ok(()),
        livepc => livepc?,
    };
    let mut needed = vec![(livepc.image_version(), format!("`goldleaf update {name}` brings it"))];
    if let Some(trial) = &livepc.trial {
        let cure = "it is back if the version on trial does not come up, so start that one first";
        needed.push((trial.before.image_version(), cure.into()));
    }
    for desktop in crate::desktop::list(home)?.iter().filter(|desktop| desktop.livepc == name) {
        let cure = format!("`goldleaf start {}` brings it while the desktop runs", desktop.name);
        let session = desktop.session.as_ref().map(|session| session.image_version);
        needed.extend([(desktop.pinned_image, cure.clone()), (session, cure)]);
    }
    let images = home.images_here()?;
    for (version, cure) in needed.into_iter().filter(|(version, _)| version.is_some()) {
        let image = images.open(&livepc.image, version)?;
        if !image.is_whole() {
            return Err(PlayerError::Refused(format!(
                "version {} of image `{}` has not wholly arrived; {cure}",
                image.record.number, livepc.image
            )));
        }
    }
    Ok(())
}

/// The feed's own first root. Where what comes is none, whoever else carries the feed is asked.
pub(super) fn first_root(
    carried: &dyn Source,
    feed: &str,
    channel: &str,
) -> Result<Vec<u8>, PlayerError> {
    let path = format!("{}/1.root.json", goldleaf_feed::names::metadata(feed, channel));
    loop {
        let root = carried.read(&path, ROOT_LIMIT)?.ok_or_else(|| PlayerError::Unknown {
            kind: "feed",
            name: format!("{feed}/{channel} at {}", carried.name()),
        })?;
        match introduce(&root) {
            // Each time one more is found out.
            Err(_) if carried.distrust(&path) => {}
            introduced => return introduced.map(|_| root).map_err(PlayerError::from),
        }
    }
}

fn what() -> impl FnOnce(std::io::Error) -> PlayerError {
    PlayerError::io("opening a subscription")
}

fn lock(dir: &dyn Dir, name: &str) -> Result<Box<dyn Lock>, PlayerError> {
    let lock = dir.try_lock("lock").map_err(PlayerError::io("locking a subscription"))?;
    lock.ok_or_else(|| PlayerError::Busy {
        kind: "subscription",
        name: name.into(),
        detail: "another command works on it".into(),
    })
}

/// Locks a subscription, after asking an agent that works on it to give way.
fn lock_soon(home: &Home, dir: &dyn Dir, name: &str) -> Result<Box<dyn Lock>, PlayerError> {
    match lock(dir, name) {
        Err(PlayerError::Busy { .. }) if agent::give_way(home, name)? => {}
        other => return other,
    }
    let until = home.clock.monotonic() + GIVING_WAY;
    loop {
        match lock(dir, name) {
            Err(PlayerError::Busy { .. }) if home.clock.monotonic() < until => {
                home.clock.sleep(TICK);
            }
            other => return other,
        }
    }
}

/// The record of a subscription. Asked for each image that is opened, so it makes nothing.
fn peek(home: &Home, name: &str) -> Result<SubscriptionRecord, PlayerError> {
    check_name(name)?;
    let unknown = || PlayerError::Unknown { kind: "subscription", name: name.into() };
    match home.dir.dir(SHELF).and_then(|shelf| shelf.dir(name)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(unknown()),
        Err(error) => Err(what()(error)),
        Ok(dir) => read_record(dir.as_ref(), RECORD)?.ok_or_else(unknown),
    }
}

/// Locks a subscription.
pub(super) fn hold(home: &Home, name: &str) -> Result<Box<dyn Lock>, PlayerError> {
    lock(home.sub(SHELF)?.dir(name).map_err(what())?.as_ref(), name)
}

/// All subscriptions, by name.
pub fn list(home: &Home) -> Result<Vec<SubscriptionRecord>, PlayerError> {
    let mut found = Vec::new();
    for item in home.sub(SHELF)?.list().map_err(what())?.iter().filter(|item| item.is_dir) {
        match peek(home, &item.name) {
            // What an interrupted subscription left is none.
            Err(PlayerError::Unknown { .. }) => {}
            other => found.push(other?),
        }
    }
    Ok(found)
}

/// The version of the channel that starts next; `None` when none was adopted yet.
pub fn current(home: &Home, name: &str) -> Result<Option<u64>, PlayerError> {
    match crate::livepc::get(home, name) {
        Err(PlayerError::Unknown { .. }) => Ok(None),
        livepc => Ok(livepc?.version()),
    }
}

/// Whether a version did not come up here: it is not adopted again before somebody pins it.
pub fn has_failed(home: &Home, name: &str, version: u64) -> Result<bool, PlayerError> {
    match crate::livepc::get(home, name) {
        Err(PlayerError::Unknown { .. }) => Ok(false),
        livepc => Ok(livepc?.failed.contains(&version)),
    }
}

/// What brings what has not arrived of a subscription's image; nothing where the image is of none,
/// or cannot be brought from anywhere.
pub fn supplier(home: &Home, image: &str) -> Option<Arc<dyn Supply>> {
    let record = peek(home, image).ok()?;
    let carried = source(home, &record.sources, Some(TRIES_OF_A_DISK)).ok()?;
    Some(Channel::new(carried, &record.feed, &record.channel).content())
}

impl Subscription {
    /// Opens and locks a subscription. An agent that works on it gives way.
    pub fn open(home: &Home, name: &str) -> Result<Self, PlayerError> {
        Self::with_lock(home, name, |dir| lock_soon(home, dir, name))
    }

    /// Opens and locks a subscription that nobody works on.
    pub(crate) fn open_idle(home: &Home, name: &str) -> Result<Self, PlayerError> {
        Self::with_lock(home, name, |dir| lock(dir, name))
    }

    fn with_lock(
        home: &Home,
        name: &str,
        lock: impl FnOnce(&dyn Dir) -> Result<Box<dyn Lock>, PlayerError>,
    ) -> Result<Self, PlayerError> {
        peek(home, name)?;
        let dir = home.sub(SHELF)?.dir(name).map_err(what())?;
        let lock = lock(dir.as_ref())?;
        let record = peek(home, name)?;
        let state = State::open(dir.clone(), record.line())?;
        let carried = source(home, &record.sources, None)?;
        let channel = Channel::new(carried, &record.feed, &record.channel);
        Ok(Self { record, dir, state, channel, _lock: lock })
    }

    /// Asks what there is, and which version is wanted here.
    pub fn refresh(&mut self, home: &Home) -> Result<Wanted, PlayerError> {
        let updated = self.channel.update(&mut self.state, home.clock.now_unix())?;
        if !updated.is_new {
            self.ask_the_others(home)?;
        }
        self.wanted()
    }

    /// That there is nothing new may be all that a stale mirror knows, so each place is asked by
    /// itself until one has something. Who gives no good answer is left out: one has answered.
    fn ask_the_others(&mut self, home: &Home) -> Result<(), PlayerError> {
        let SubscriptionRecord { sources, feed, channel, .. } = &self.record;
        for location in sources.iter().filter(|_| sources.len() > 1) {
            let carried = source(home, std::slice::from_ref(location), Some(1))?;
            let channel = Channel::new(carried, feed, channel);
            match channel.update(&mut self.state, home.clock.now_unix()) {
                Ok(updated) if updated.is_new => break,
                Err(error @ TrustError::Io { .. }) => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Which version is wanted here, as of the last update.
    pub fn wanted(&self) -> Result<Wanted, PlayerError> {
        let targets = self.state.believed().targets();
        let offered = targets.map(offers).transpose()?.unwrap_or_default();
        let pinned = self.record.pinned;
        let (newest, is_wanted) = (offered.keys().next_back().copied(), |offer: &Offer| {
            pinned.map_or_else(|| offer.is_for(self.record.lot), |pinned| offer.version == pinned)
        });
        let found = offered.into_values().rev().find(|(offer, _)| is_wanted(offer));
        let (offer, target) = found.ok_or_else(|| match pinned {
            Some(version) => {
                PlayerError::Unknown { kind: "version of the channel", name: version.to_string() }
            }
            None => PlayerError::Refused("the channel has no version for this machine yet".into()),
        })?;
        let newest = newest.unwrap_or(offer.version);
        Ok(Wanted { offer, target, newest })
    }

    /// Takes a version of the channel. What of its image is not here yet is brought when it is
    /// read, or by [`Arrival::fill`]; it starts when it is adopted.
    pub fn take(
        &self,
        home: &Home,
        wanted: &Wanted,
        progress: &dyn Progress,
    ) -> Result<Arrival, PlayerError> {
        let SubscriptionRecord { name, sources, feed, channel, .. } = &self.record;
        let channel = &Channel::new(source(home, sources, None)?, feed, channel);
        Receiver { home, name, channel, progress }.receive(wanted)
    }

    /// Follows the same feed from other places, the first one first.
    pub fn carry(&mut self, home: &Home, sources: Vec<String>) -> Result<(), PlayerError> {
        let carried = source(home, &sources, None)?;
        self.channel = Channel::new(carried, &self.record.feed, &self.record.channel);
        self.record.sources = sources;
        step("subscription.carry", || write_record(self.dir.as_ref(), RECORD, &self.record))
    }

    /// Keeps a version, whatever is new, and even if it failed here before; `None` follows what is
    /// newest again.
    pub fn pin(&mut self, home: &Home, version: Option<u64>) -> Result<(), PlayerError> {
        let before = std::mem::replace(&mut self.record.pinned, version);
        if let Err(error) = self.wanted() {
            self.record.pinned = before;
            return Err(error);
        }
        if let Some(version) = version {
            crate::livepc::trial::retry(home, &self.record.name, version)?;
        }
        step("subscription.pin", || write_record(self.dir.as_ref(), RECORD, &self.record))
    }

    /// Lets new versions wait, from being brought to being what starts next, up to a Unix time in
    /// seconds; `None` lets none wait any more.
    pub fn defer(&mut self, home: &Home, until: Option<u64>) -> Result<(), PlayerError> {
        let until = until.filter(|until| *until > home.now_unix_secs());
        if until == self.record.deferred_until {
            return Ok(());
        }
        self.record.deferred_until = until;
        step("subscription.defer", || write_record(self.dir.as_ref(), RECORD, &self.record))
    }

    /// Unix time in seconds up to which a new version waits, while it does.
    pub fn deferred_until(&self, home: &Home) -> Option<u64> {
        self.record.deferred_until.filter(|until| *until > home.now_unix_secs())
    }
}

/// The version of a channel that is to run here.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// How it is offered.
    pub offer: Offer,
    pub(super) target: Target,
    /// The newest version of the channel, which may be for others.
    pub newest: u64,
}

/// The location of a feed in a directory is absolute, wherever the command was given.
pub fn absolute(location: Location, here: &Path) -> Location {
    if location.root.contains("://") {
        return location;
    }
    let root = here.join(&location.root).to_string_lossy().into_owned();
    Location { root, ..location }
}
