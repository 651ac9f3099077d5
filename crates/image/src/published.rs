//! Versions that are published elsewhere.

use std::collections::HashMap;
use std::ops::Range;

use goldleaf_block::{
    BlockCount, BlockNo, BlockRange, ExtentMap, MapBuilder, MapExtent, SourceIndex, Target,
};
use goldleaf_cache::{Cache, Cached};
use goldleaf_store::Digest;
use goldleaf_wire::{BootProfile, PackRef, WireMap};

use crate::{ImageError, ImageVersion, Images, VersionRecord};

/// Where the content of a pack is: a data file, and a block of it.
struct Place {
    pack: PackRef,
    data: String,
    at: BlockNo,
}

/// Where packs are, by name.
type Places = HashMap<Digest, Place>;

/// Learns where the packs of a data file are.
fn learn(places: &mut Places, data: &str, cache: &Cache) {
    let place = |(pack, at): (PackRef, BlockNo)| (pack.name, Place { pack, data: data.into(), at });
    places.extend(cache.packs().map(place));
}

/// Blocks that a version needs of what is published elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrived {
    /// Those that are here.
    pub here: BlockCount,
    /// In all.
    pub all: BlockCount,
}

impl Arrived {
    /// Those that are still to come.
    pub fn missing(self) -> BlockCount {
        BlockCount(self.all.0.saturating_sub(self.here.0))
    }

    /// How much is here, of a hundred.
    pub fn percent(self) -> u64 {
        self.here.0 * 100 / self.all.0.max(1)
    }
}

impl ImageVersion {
    /// How much of it has arrived.
    pub fn arrived(&self) -> Arrived {
        let sum = |of: fn(&Cached) -> BlockCount| {
            BlockCount(self.published().iter().map(|data| of(data).0).sum())
        };
        Arrived { here: sum(Cached::arrived), all: sum(Cached::wanted) }
    }

    /// What of published data files a guest reads when it starts, in its order: blocks of one file
    /// for as long as it is the same one.
    pub fn wanted(&self, profile: &BootProfile) -> Vec<(&Cached, Vec<Range<u64>>)> {
        let mut wanted: Vec<(SourceIndex, &Cached, Vec<Range<u64>>)> = Vec::new();
        for extent in profile.runs().iter().flat_map(|run| self.map.slice(*run)) {
            let Target::Source { source, at } = extent.target else { continue };
            let Some(number) = self.published_as.iter().position(|index| *index == source) else {
                continue;
            };
            let blocks = at.0..at.0 + extent.range.count.0;
            match wanted.last_mut() {
                Some((last, _, all)) if *last == source => all.push(blocks),
                _ => wanted.push((source, &self.published()[number], vec![blocks])),
            }
        }
        wanted.into_iter().map(|(_, data, blocks)| (data, blocks)).collect()
    }
}

impl Images {
    /// Adds a version that was published, and makes the image where it is new. Nothing of it is
    /// here then, but for what earlier versions have: it is brought when it is read, or filled.
    /// `version` need not know its data files.
    pub fn add_published(
        &self,
        name: &str,
        version: VersionRecord,
        wire: &WireMap,
    ) -> Result<VersionRecord, ImageError> {
        let dir = match self.dir(name) {
            Err(ImageError::Unknown(_)) => self.create(name)?,
            other => other?,
        };
        let lock = dir.try_lock("lock").map_err(ImageError::io("locking an image"))?;
        let _lock = lock.ok_or_else(|| ImageError::Refused {
            reason: format!("image `{name}` is in use"),
            cure: "try again when the other command is done".into(),
        })?;
        let (mut places, next_data) = self.places(name)?;
        let new: Vec<PackRef> =
            wire.packs.iter().filter(|pack| !places.contains_key(&pack.name)).copied().collect();
        if !new.is_empty() {
            let data = format!("{next_data:04}.data");
            let cache = Cache::create(dir.clone(), &data, &new)?;
            learn(&mut places, &data, &cache);
        }
        let (data, map) = localised(wire, &places)?;
        let version = VersionRecord { data, ..version };
        self.add_version(name, version.clone(), &map)?;
        Ok(version)
    }

    /// Where the packs are that versions of an image have, and the number of the next data file.
    fn places(&self, name: &str) -> Result<(Places, u32), ImageError> {
        let record = match self.record(name) {
            Err(ImageError::Unknown(_)) => return Ok((Places::new(), 1)),
            other => other?,
        };
        let dir = self.dir(name)?;
        let mut places = Places::new();
        for data in record.versions.iter().flat_map(|version| &version.data) {
            let Some(cache) = Cache::open(dir.clone(), data)? else { continue };
            learn(&mut places, data, &cache);
        }
        Ok((places, record.next_data))
    }
}

/// The disk over data files, where the wire form has it over packs.
fn localised(wire: &WireMap, places: &Places) -> Result<(Vec<String>, ExtentMap), ImageError> {
    let mut data: Vec<String> = Vec::new();
    let mut starts = Vec::with_capacity(wire.packs.len());
    for pack in &wire.packs {
        let corrupt = |found: String| ImageError::Corrupt {
            place: "the data files of a published version".into(),
            expected: format!("pack {} of {} bytes", pack.name, pack.len),
            found,
        };
        let place = places.get(&pack.name).ok_or_else(|| corrupt("none".into()))?;
        // A map that says that it has more content would reach into the next one's.
        if place.pack != *pack {
            return Err(corrupt("one of another length".into()));
        }
        let index = data.iter().position(|known| *known == place.data).unwrap_or_else(|| {
            data.push(place.data.clone());
            data.len() - 1
        });
        starts.push((SourceIndex(index as u32), place.at));
    }
    Ok((data, placed(wire, &starts)?))
}

/// A disk over the content of its packs: `starts` has the source of each, and where its content
/// begins there.
pub fn placed(wire: &WireMap, starts: &[(SourceIndex, BlockNo)]) -> Result<ExtentMap, ImageError> {
    let mut builder = MapBuilder::new(wire.map.blocks());
    for MapExtent { range, target } in wire.map.extents() {
        let Target::Source { source, at } = *target else { continue };
        let (source, first) = starts[source.0 as usize];
        let target = Target::Source { source, at: BlockNo(first.0 + at.0) };
        builder.push(MapExtent { range: BlockRange::new(range.start, range.count), target })?;
    }
    Ok(builder.finish())
}
