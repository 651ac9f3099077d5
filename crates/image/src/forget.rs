//! Forgetting versions that were published elsewhere: they can be had again.
//!
//! ```text
//!   1. the record is written without them         from here on they are not there
//!   2. files that no version names any more go
//!   3. of data files that stay, frames that no version refers to become holes
//! ```
//! Whoever is interrupted behind the first has lost nothing: files that are not named are leftovers,
//! and what is spare is found again by the next plan. Versions that were made here stay, and so does
//! what they refer to.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use goldleaf_block::BlockRange;
use goldleaf_cache::{Cache, sidecars};
use goldleaf_host::File;

use crate::registry::{referred, step, write_record};
use crate::{ImageError, ImageRecord, Images};

/// What of an image must stay.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Needs {
    /// Versions that something runs on.
    pub versions: BTreeSet<u32>,
    /// Whether the newest version stays with its content, whoever runs on it: what is new arrives
    /// as a difference from it. It is never forgotten, but its content may go.
    pub newest: bool,
    /// Whether somebody reads the image meanwhile: then nothing of data files that stay goes, for
    /// whoever has them open knows what was there.
    pub is_read: bool,
}

/// What goes of an image.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Forgetting {
    /// Versions.
    pub versions: Vec<u32>,
    /// Files that no version names then.
    pub files: Vec<String>,
    /// Blocks of data files that stay.
    pub holes: Vec<(String, Vec<BlockRange>)>,
    /// Bytes that all this occupies.
    pub bytes: u64,
}

impl Forgetting {
    /// Whether nothing goes.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Images {
    /// What of an image that is published elsewhere is not needed. To be asked under the image's
    /// lock. Never writes.
    pub fn plan_forget(&self, name: &str, needs: &Needs) -> Result<Forgetting, ImageError> {
        let before = self.record(name)?;
        let needs = &self.with_own(&before, needs)?;
        let after = kept(&before, needs);
        let numbers = before.versions.iter().map(|version| version.number);
        let is_kept = |number| after.versions.iter().any(|version| version.number == number);
        let mut plan = Forgetting {
            versions: numbers.filter(|number| !is_kept(*number)).collect(),
            ..Forgetting::default()
        };
        let left: BTreeSet<String> = self.unnamed_by(&before)?.into_iter().collect();
        let files = self.unnamed_by(&after)?;
        plan.files = files.into_iter().filter(|file| !left.contains(file)).collect();
        plan.bytes = self.bytes_of(name, plan.files.iter())?;
        let newest = after.versions.last().filter(|_| needs.newest);
        let needed: Vec<u32> =
            needs.versions.iter().copied().chain(newest.map(|version| version.number)).collect();
        if !needs.is_read {
            plan.holes = self.spare(&after, &needed)?;
        }
        let blocks = plan.holes.iter().flat_map(|(_, blocks)| blocks);
        plan.bytes += blocks.map(|range| range.count.bytes().0).sum::<u64>();
        Ok(plan)
    }

    /// The same needs, and versions that were made here, which nobody could bring again.
    fn with_own(&self, record: &ImageRecord, needs: &Needs) -> Result<Needs, ImageError> {
        let items = self.dir(&record.name)?.list().map_err(ImageError::io("listing an image"))?;
        let files: BTreeSet<String> = items.into_iter().map(|item| item.name).collect();
        let is_published = |data: &String| {
            let [list, ..] = sidecars(data);
            files.contains(&list)
        };
        let own = record.versions.iter().filter(|one| !one.data.iter().all(is_published));
        let mut needs = needs.clone();
        needs.versions.extend(own.map(|version| version.number));
        Ok(needs)
    }

    /// Blocks of a record's data files to which none of some of its versions refers.
    fn spare(
        &self,
        record: &ImageRecord,
        needed: &[u32],
    ) -> Result<Vec<(String, Vec<BlockRange>)>, ImageError> {
        let dir = self.dir(&record.name)?;
        let files = record.versions.iter().flat_map(|version| &version.data);
        let mut used: BTreeMap<&String, Vec<BlockRange>> =
            files.map(|file| (file, Vec::new())).collect();
        for version in record.versions.iter().filter(|one| needed.contains(&one.number)) {
            let map = self.open(&record.name, Some(version.number))?.map;
            for (file, blocks) in version.data.iter().zip(referred(&map, version.data.len())) {
                used.entry(file).or_default().extend(blocks);
            }
        }
        let mut spare = Vec::new();
        for (file, blocks) in used {
            let Some(cache) = Cache::open(dir.clone(), file)? else { continue };
            let blocks = cache.spare(blocks)?;
            if !blocks.is_empty() {
                spare.push((file.clone(), blocks));
            }
        }
        Ok(spare)
    }

    /// Bytes that an image's versions occupy, holes left out.
    pub fn occupied(&self, name: &str) -> Result<u64, ImageError> {
        let record = self.record(name)?;
        let nothing = ImageRecord { versions: Vec::new(), ..record.clone() };
        let unnamed: BTreeSet<String> = self.unnamed_by(&record)?.into_iter().collect();
        let files = self.unnamed_by(&nothing)?;
        self.bytes_of(name, files.iter().filter(|file| !unnamed.contains(*file)))
    }

    fn bytes_of<'a>(
        &self,
        name: &str,
        files: impl Iterator<Item = &'a String>,
    ) -> Result<u64, ImageError> {
        let dir = self.dir(name)?;
        let mut bytes = 0;
        for file in files {
            let opened =
                dir.open(file).map_err(ImageError::io(format!("opening {name}/{file}")))?;
            bytes += data_bytes(opened.as_ref())?;
        }
        Ok(bytes)
    }

    /// Does what [`Images::plan_forget`] says, and returns that.
    pub fn forget(&self, name: &str, needs: &Needs) -> Result<Forgetting, ImageError> {
        let plan = self.plan_forget(name, needs)?;
        let dir = self.dir(name)?;
        if !plan.versions.is_empty() {
            let mut after = self.record(name)?;
            after.versions.retain(|version| !plan.versions.contains(&version.number));
            step("image.retire", || write_record(dir.as_ref(), &after))?;
        }
        for file in &plan.files {
            let what = || ImageError::io(format!("removing {name}/{file}"));
            step("image.discard", || dir.remove(file).map_err(what()))?;
        }
        for (file, blocks) in &plan.holes {
            let Some(cache) = Cache::open(dir.clone(), file)? else { continue };
            step("image.punch", || Ok(cache.give_up(blocks)?))?;
        }
        Ok(plan)
    }
}

/// A record without what is not needed. The newest version is always in it: numbers are not used
/// again.
fn kept(record: &ImageRecord, needs: &Needs) -> ImageRecord {
    let newest = record.versions.last().map(|version| version.number);
    let mut after = record.clone();
    after.versions.retain(|version| {
        needs.versions.contains(&version.number) || Some(version.number) == newest
    });
    after
}

/// Bytes of a file that are not holes.
fn data_bytes(file: &dyn File) -> Result<u64, ImageError> {
    let (mut at, mut bytes) = (0, 0);
    while let Some((start, end)) = file.next_data(at).map_err(ImageError::io("measuring a file"))? {
        bytes += end - start;
        at = end;
    }
    Ok(bytes)
}
