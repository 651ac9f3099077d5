//! Carrying versions from where a feed is to somewhere else: to a stick, to another server.
//!
//! What is carried is verified on the way, as an endpoint would, and then put there under its own
//! name. So whatever is there is right, whenever it ends, and the next time goes on from there.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::ControlFlow;

use goldleaf_fetch::{Destination, FetchError, Source};
use goldleaf_host::{Content, Dir, File};
use goldleaf_store::Digest;
use goldleaf_trust::Target;
use goldleaf_wire::{DeltaIndex, DeltaRef, PackIndex, PackRef};

use crate::author::put;
use crate::reader::{Channel, MAP_MAX, PROFILE_MAX, digest_of};
use crate::version::VERSION_MAX;
use crate::{FeedError, Object, Offer, names};

/// What is on its way.
const SCRATCH: &str = "carried.new";

/// A file of a feed, named by a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// A version of a LivePC.
    Version(Digest, u64),
    /// A disk over packs.
    Map(Digest, u64),
    /// What of a disk a guest reads when it starts.
    Profile(Digest, u64),
    /// Content.
    Pack(PackRef),
    /// The same content, for whoever has an older version.
    Delta(DeltaRef),
}

impl Item {
    /// Its length in bytes.
    pub fn length(&self) -> u64 {
        match self {
            Item::Version(_, len) | Item::Map(_, len) | Item::Profile(_, len) => *len,
            Item::Pack(pack) => pack.len,
            Item::Delta(delta) => delta.len,
        }
    }

    /// The folder that it is in, and its name.
    fn place(&self) -> (&'static str, Digest) {
        match self {
            Item::Version(name, _) => (names::VERSIONS, *name),
            Item::Map(name, _) => (names::MAPS, *name),
            Item::Profile(name, _) => (names::PROFILES, *name),
            Item::Pack(pack) => (names::PACKS, pack.name),
            Item::Delta(delta) => (names::DELTAS, delta.name),
        }
    }

    fn path(&self) -> String {
        let (folder, name) = self.place();
        format!("{folder}/{name}")
    }

    /// Whether it is there. With `is_read` it is read, and one that is not right is not there.
    pub fn is_at(&self, to: &Destination, is_read: bool) -> Result<bool, FeedError> {
        let (folder, name) = self.place();
        let what = || FeedError::io(format!("looking for {}", self.path()));
        let len = to.shelf.folder(folder).len_of(&name.to_string()).map_err(what())?;
        if len != Some(self.length()) || !is_read {
            return Ok(len == Some(self.length()));
        }
        let path = self.path();
        let mut read = |at, buf: &mut [u8]| Ok(to.source.read_range(&path, at, buf)?);
        match self.verify(&mut read) {
            // What cannot be read may well be written again, on another part of a medium.
            Err(
                FeedError::Wire(_)
                | FeedError::Malformed { .. }
                | FeedError::Fetch(FetchError::Io { .. }),
            ) => Ok(false),
            verified => verified.map(|()| true),
        }
    }

    /// Reads all of it and compares it with its name.
    fn verify(&self, read: &mut Read<'_>) -> Result<(), FeedError> {
        match self {
            Item::Version(name, len) | Item::Map(name, len) | Item::Profile(name, len) => {
                self.part(read, 0, *len, name)
            }
            Item::Pack(pack) => {
                let head = bytes(read, 0, pack.head_len.into())?;
                let index = PackIndex::parse(&head, &pack.name)?;
                self.must_be_long(index.pack_len)?;
                index.frames().iter().try_for_each(|frame| {
                    self.part(read, frame.at, frame.stored_len.into(), &frame.stored)
                })
            }
            Item::Delta(delta) => {
                let first = bytes(read, 0, (DeltaIndex::FIRST as u64).min(delta.len))?;
                let head_len = DeltaIndex::head_len(&first)? as u64;
                let head = bytes(read, 0, head_len.min(delta.len))?;
                let index = DeltaIndex::parse(&head, &delta.name)?;
                self.must_be_long(index.len)?;
                index.units().iter().try_for_each(|unit| {
                    self.part(read, unit.at, unit.stored_len.into(), &unit.stored)
                })
            }
        }
    }

    fn part(
        &self,
        read: &mut Read<'_>,
        at: u64,
        len: u64,
        digest: &Digest,
    ) -> Result<(), FeedError> {
        match Digest::of(&bytes(read, at, len)?) == *digest {
            true => Ok(()),
            false => Err(FeedError::malformed(self.path(), "another digest")),
        }
    }

    fn must_be_long(&self, len: u64) -> Result<(), FeedError> {
        match len == self.length() {
            true => Ok(()),
            false => Err(FeedError::malformed(self.path(), "another length")),
        }
    }
}

/// Fills a buffer with what stands from a byte on.
type Read<'a> = dyn FnMut(u64, &mut [u8]) -> Result<(), FeedError> + 'a;

/// Some bytes of what is read. Lengths are signed, or checked against what was.
fn bytes(read: &mut Read<'_>, at: u64, len: u64) -> Result<Vec<u8>, FeedError> {
    let mut bytes = vec![0; len as usize];
    if len > 0 {
        read(at, &mut bytes)?;
    }
    Ok(bytes)
}

impl Channel {
    /// All that versions of the channel are made of: of each what it is, and of those in `whole`
    /// the content, too. With `deltas` also what is offered to those that have older ones.
    pub fn items(
        &self,
        offered: &BTreeMap<u64, (Offer, Target)>,
        whole: &BTreeSet<u64>,
        deltas: bool,
    ) -> Result<Vec<Item>, FeedError> {
        let mut items = Items::default();
        for (number, (offer, target)) in offered {
            let version = self.version(target)?;
            items.add(Item::Version(digest_of(target)?, target.length.min(VERSION_MAX)));
            let maps = version.layers.iter().map(|layer| &layer.map);
            for map in [&version.image.map].into_iter().chain(maps) {
                let wire = self.map(map)?;
                items.add(map_item(map)?);
                if whole.contains(number) {
                    wire.packs.iter().for_each(|pack| items.add(Item::Pack(*pack)));
                }
            }
            if let Some(profile) = &version.image.profile {
                items.add(Item::Profile(profile.name()?, profile.len.min(PROFILE_MAX)));
            }
            if deltas && whole.contains(number) {
                for delta in &offer.deltas {
                    items.add(Item::Delta(delta.reference()?));
                }
            }
        }
        Ok(items.all)
    }

    /// Carries an item to where it is not. `scratch` has room for it on the way.
    pub fn carry(&self, item: &Item, to: &Destination, scratch: &dyn Dir) -> Result<(), FeedError> {
        let (what, path) = (|| FeedError::io(format!("carrying {}", item.path())), item.path());
        loop {
            let file = fresh(scratch).map_err(what())?;
            bring(self.source(), &path, item.length(), file.as_ref())?;
            let mut read = |at, buf: &mut [u8]| file.read_exact_at(buf, at).map_err(what());
            match item.verify(&mut read) {
                Ok(()) => {
                    let (folder, name) = item.place();
                    let content = Content::with(&[], file.as_ref());
                    let shelf = to.shelf.folder(folder);
                    // What is there under that name and was found wrong is replaced.
                    let written = match shelf.len_of(&name.to_string()).map_err(what())? {
                        None => put(shelf.as_ref(), &name, content),
                        Some(_) => shelf.replace(&name.to_string(), content),
                    };
                    written.map_err(what())?;
                    return scratch.remove(SCRATCH).map_err(what());
                }
                // Somebody else may have it right.
                Err(FeedError::Wire(_) | FeedError::Malformed { .. })
                    if self.source().distrust(&path) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Each once, in the order in which they came.
#[derive(Default)]
struct Items {
    known: BTreeSet<String>,
    all: Vec<Item>,
}

impl Items {
    fn add(&mut self, item: Item) {
        if self.known.insert(item.path()) {
            self.all.push(item);
        }
    }
}

fn map_item(map: &Object) -> Result<Item, FeedError> {
    Ok(Item::Map(map.name()?, map.len.min(MAP_MAX)))
}

/// An empty file for what is on its way.
fn fresh(scratch: &dyn Dir) -> io::Result<std::sync::Arc<dyn File>> {
    match scratch.remove(SCRATCH) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    scratch.create(SCRATCH)
}

fn bring(source: &dyn Source, path: &str, len: u64, file: &dyn File) -> Result<(), FeedError> {
    let (mut at, mut failed) = (0, None);
    source.stream(path, 0..len, &mut |piece| match file.write_all_at(piece, at) {
        Ok(()) => {
            at += piece.len() as u64;
            ControlFlow::Continue(())
        }
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
    })?;
    failed.map_or(Ok(()), |error| Err(FeedError::io("keeping what is on its way")(error)))
}
