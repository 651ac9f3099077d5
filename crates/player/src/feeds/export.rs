//! Exporting: a feed as this machine has verified it, carried to a place of one's own, so that
//! somebody who never has a network can follow it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;

use goldleaf_feed::{Channel, Item, Offer, names, offers};
use goldleaf_fetch::Destination;
use goldleaf_host::{Content, Progress, Shelf};
use goldleaf_trust::{Event, Metadata, State, Target, introduce, update};

use super::subscription::{Subscription, first_root, source};
use crate::desktop::StartOptions;
use crate::home::step;
use crate::workshop::Bench;
use crate::{Home, PlayerError};

/// The one file of a channel's metadata that says what is newest.
const NEWEST: &str = "timestamp.json";
/// Longest file of metadata, in bytes, as in the client's workflow.
const METADATA_MAX: u64 = 10 << 20;

/// How a feed is exported.
pub struct ExportOptions {
    /// Deltas to what is exported, too: for whoever updates from there again and again.
    pub deltas: bool,
    /// Whether what is there already is read, and not believed by its length.
    pub is_read: bool,
    /// Write nothing.
    pub dry_run: bool,
}

/// What an export has come to, or would.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exported {
    /// The versions whose content is there.
    pub versions: Vec<u64>,
    /// Files that they are made of.
    pub files: u64,
    /// Their length in bytes.
    pub bytes: u64,
    /// How many of these files were not there.
    pub new_files: u64,
    /// Their length in bytes.
    pub new_bytes: u64,
}

/// Metadata of a channel, by name.
#[derive(Default)]
struct Files(BTreeMap<String, Vec<u8>>);

impl Metadata for Files {
    fn fetch(
        &self,
        name: &str,
        _limit: u64,
    ) -> Result<Option<Vec<u8>>, Box<dyn Error + Send + Sync>> {
        Ok(self.0.get(name).cloned())
    }
}

/// Keeps what somebody who follows the channel from its first root on is given.
struct Recorder<'a> {
    channel: &'a Channel,
    seen: RefCell<Files>,
}

impl Metadata for Recorder<'_> {
    fn fetch(
        &self,
        name: &str,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, Box<dyn Error + Send + Sync>> {
        let fetched = self.channel.fetch(name, limit)?;
        if let Some(bytes) = &fetched {
            self.seen.borrow_mut().0.insert(name.into(), bytes.clone());
        }
        Ok(fetched)
    }
}

impl Subscription {
    /// Carries the channel to a place: its metadata, what its versions are, and the content of
    /// those that somebody who subscribes there may be offered. Metadata come last, and what says
    /// what is newest the very last: until then the place is the feed that it was before.
    pub fn export(
        &mut self,
        home: &Home,
        to: &Destination,
        options: &ExportOptions,
        progress: &dyn Progress,
    ) -> Result<Exported, PlayerError> {
        let bench = format!("export-{}", self.record.name);
        let bench = Bench::open(home, &bench, &StartOptions::default())?;
        progress.at("asking what is new", 0, 0);
        let files = self.metadata(home, &bench)?;
        // Nothing is handed on that this machine would not believe itself.
        let updated = update(&mut self.state, &files, home.clock.now_unix())?;
        if updated.events.iter().any(|event| matches!(event, Event::RootEquivocation(_))) {
            return Err(another_feed("the feed"));
        }
        let path = names::metadata(&self.record.feed, &self.record.channel);
        let metadata = path.split('/').fold(to.shelf.clone(), |shelf, name| shelf.folder(name));
        files.must_not_be_another(metadata.as_ref())?;

        let targets = self.state.believed().targets();
        let offered = targets.map(offers).transpose()?.unwrap_or_default();
        let whole = whole(&offered, self.wanted()?.offer.version);
        let items = self.channel.items(&offered, &whole, options.deltas)?;
        let mut report = Exported {
            versions: whole.into_iter().collect(),
            files: items.len() as u64,
            bytes: items.iter().map(Item::length).sum(),
            ..Exported::default()
        };
        let told = |done, all| progress.at("looking at what is there", done, all);
        let missing = missing(&items, to, options.is_read, &told)?;
        report.new_files = missing.len() as u64;
        report.new_bytes = missing.iter().map(|item| item.length()).sum();
        if !options.dry_run {
            step("export.content", || {
                let mut done = 0;
                missing.iter().try_for_each(|item| {
                    progress.at("exporting", done, report.new_bytes);
                    done += item.length();
                    Ok(self.channel.carry(item, to, bench.dir.as_ref())?)
                })
            })?;
            step("export.metadata", || files.write(metadata.as_ref()))?;
        }
        bench.clear()?;
        Ok(report)
    }

    /// All that leads from the channel's first root to what is newest, verified.
    fn metadata(&self, home: &Home, bench: &Bench) -> Result<Files, PlayerError> {
        let carried = source(home, &self.record.sources, None)?;
        let root = first_root(carried.as_ref(), &self.record.feed, &self.record.channel)?;
        let (line, _) = introduce(&root)?;
        let mut state = State::create(bench.dir.clone(), line, &root)?;
        let recorder = Recorder { channel: &self.channel, seen: RefCell::default() };
        let updated = update(&mut state, &recorder, home.clock.now_unix())?;
        if updated.events.iter().any(|event| matches!(event, Event::RootEquivocation(_))) {
            return Err(another_feed("the feed"));
        }
        Ok(recorder.seen.into_inner())
    }
}

/// What is not there, or not right.
fn missing<'a>(
    items: &'a [Item],
    to: &Destination,
    is_read: bool,
    told: &dyn Fn(u64, u64),
) -> Result<Vec<&'a Item>, PlayerError> {
    let (mut missing, mut done) = (Vec::new(), 0);
    let all = items.iter().map(Item::length).sum();
    for item in items {
        told(done, all);
        done += item.length();
        if !item.is_at(to, is_read)? {
            missing.push(item);
        }
    }
    Ok(missing)
}

/// The versions that somebody may be offered: this machine's, and from the newest on down to the
/// first that is for everybody.
fn whole(offered: &BTreeMap<u64, (Offer, Target)>, wanted: u64) -> BTreeSet<u64> {
    let mut whole = BTreeSet::from([wanted]);
    for (number, (offer, _)) in offered.iter().rev() {
        whole.insert(*number);
        if offer.stage >= 100 {
            break;
        }
    }
    whole
}

fn another_feed(place: &str) -> PlayerError {
    PlayerError::Refused(format!("{place} has another root of trust under the same name"))
}

impl Files {
    /// Fails where something else is under the name of this feed.
    fn must_not_be_another(&self, shelf: &dyn Shelf) -> Result<(), PlayerError> {
        const FIRST: &str = "1.root.json";
        let there = match shelf.read(FIRST, METADATA_MAX) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            there => there.map_err(what())?,
        };
        match self.0.get(FIRST) == Some(&there) {
            true => Ok(()),
            false => Err(another_feed("the place")),
        }
    }

    /// Writes what is new: targets and snapshots, then roots, then what is newest.
    fn write(&self, shelf: &dyn Shelf) -> Result<(), PlayerError> {
        let rank = |name: &str| match name {
            NEWEST => 2,
            name => u8::from(name.ends_with(".root.json")),
        };
        // Of roots, which have no zeroes before their numbers, the shorter names are the older.
        let mut names: Vec<&String> = self.0.keys().collect();
        names.sort_by_key(|name| (rank(name), name.len(), name.as_str()));
        for name in names {
            let bytes = &self.0[name];
            let is_there = match shelf.read(name, METADATA_MAX) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
                // Too long is not this.
                Err(error) if error.kind() == std::io::ErrorKind::InvalidData => false,
                there => there.map_err(what())? == *bytes,
            };
            if !is_there {
                shelf.replace(name, Content::of(bytes)).map_err(what())?;
            }
        }
        Ok(())
    }
}

fn what() -> impl FnOnce(std::io::Error) -> PlayerError {
    PlayerError::io("exporting a feed's metadata")
}
