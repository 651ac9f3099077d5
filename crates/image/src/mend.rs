//! Mending: copies of an image's files in which what is damaged comes from another registry that
//! has a version of the same digest. Adds only.
//!
//! A copy has the same blocks at the same places as the file that it stands for, so the maps of
//! versions and of composed disks hold. Where the other registry has its blocks does not matter:
//! they are found by their place on the disk. Before a copy gets its name, the whole disk of every
//! version that it is made for is compared with the version's digest.

use std::collections::BTreeMap;
use std::sync::Arc;

use goldleaf_block::{
    BLOCK_SIZE, BlockCount, BlockNo, ByteLen, ByteOffset, ExtentMap, FileBlocks, MapDevice,
    ReadBlocks, Target,
};
use goldleaf_host::{Dir, File, Progress, read_file};
use serde::{Deserialize, Serialize};

use crate::registry::{Copies, MAP_LIMIT, map_name};
use crate::{ImageError, Images, VersionRecord, canonical_digest};

/// How much is compared and copied at once, in blocks.
const PIECE: u64 = 16;
/// A length that no extent exceeds: of a file that may be shorter than it was.
const ANY_LEN: BlockCount = BlockCount(u64::MAX / BLOCK_SIZE);

/// What is added to an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageMend {
    /// The image.
    pub image: String,
    /// Versions that are whole then.
    pub versions: Vec<u32>,
    /// Files that are added.
    pub files: Vec<MendedFile>,
}

/// A copy of a file of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MendedFile {
    /// The file that it stands for.
    pub file: String,
    /// Its name.
    pub copy: String,
    /// Bytes of it that come from elsewhere.
    pub bytes: u64,
}

/// What can be added to an image some of whose versions are damaged, and the versions that nobody
/// has whole. Never writes.
pub fn plan_mend(
    images: &Images,
    image: &str,
    hurt: &[u32],
    sources: &[Images],
    progress: &dyn Progress,
) -> Result<(Option<ImageMend>, Vec<u32>), ImageError> {
    let (mender, lost) = Mender::new(images, image, hurt, sources, progress)?;
    let plan = mender.plan();
    if plan.is_none() {
        // What is wrong with them is nothing that a source could have otherwise.
        return Ok((None, hurt.to_vec()));
    }
    Ok((plan, lost))
}

/// Adds what the plan says. Nothing is added that would not be what was planned.
pub fn apply_mend(
    images: &Images,
    mend: &ImageMend,
    sources: &[Images],
    progress: &dyn Progress,
) -> Result<(), ImageError> {
    let (mender, _) = Mender::new(images, &mend.image, &mend.versions, sources, progress)?;
    if mender.plan().as_ref() != Some(mend) {
        return Err(ImageError::Refused {
            reason: format!("image `{}` or its source is not what it was", mend.image),
            cure: "plan the repair again".into(),
        });
    }
    mender.apply(mend, progress)
}

/// A damaged version, and the same disk from elsewhere.
struct Pair {
    record: VersionRecord,
    map: ExtentMap,
    /// The map's bytes, when the image itself has it no more.
    new_map: Option<Vec<u8>>,
    whole: MapDevice,
}

/// A run of a data file that is wrong.
struct Wrong {
    count: BlockCount,
    /// Which pair has it right, and where on the disk.
    pair: usize,
    on_disk: BlockNo,
}

struct Mender {
    image: String,
    dir: Arc<dyn Dir>,
    copies: Copies,
    pairs: Vec<Pair>,
    /// By data file and first block in it.
    wrong: BTreeMap<String, BTreeMap<u64, Wrong>>,
}

impl Mender {
    fn new(
        images: &Images,
        image: &str,
        hurt: &[u32],
        sources: &[Images],
        progress: &dyn Progress,
    ) -> Result<(Self, Vec<u32>), ImageError> {
        let (record, dir) = (images.record(image)?, images.dir(image)?);
        let copies = Copies::list(dir.as_ref())?;
        let (image, pairs, wrong) = (image.to_owned(), Vec::new(), BTreeMap::new());
        let mut mender = Self { image, dir, copies, pairs, wrong };
        let mut lost = Vec::new();
        for version in record.versions.into_iter().filter(|v| hurt.contains(&v.number)) {
            let number = version.number;
            match mender.pair(version, sources, progress) {
                Some(pair) => mender.pairs.push(pair),
                None => lost.push(number),
            }
        }
        for number in 0..mender.pairs.len() {
            mender.compare(number, progress)?;
        }
        Ok((mender, lost))
    }

    /// Looks for somebody who has the version whole.
    fn pair(
        &self,
        record: VersionRecord,
        sources: &[Images],
        progress: &dyn Progress,
    ) -> Option<Pair> {
        let own = self.own_map(&record);
        sources.iter().find_map(|source| {
            // A source that cannot be read is none.
            source.list().ok()?.into_iter().find_map(|theirs| {
                let same = theirs.versions.iter().find(|v| v.digest == record.digest)?;
                let opened = source.open(&theirs.name, Some(same.number)).ok()?;
                let whole = opened.device().ok()?;
                // Without a map of its own, that of a copy of the same files serves.
                let their_map = (same.data == record.data).then(|| opened.map.to_bytes());
                let map = own
                    .clone()
                    .or_else(|| (same.data == record.data).then(|| (*opened.map).clone()))?;
                let new_map = if own.is_some() { None } else { their_map };
                let digest = canonical_digest(&whole, progress).ok()?;
                let record = record.clone();
                (digest == record.digest).then_some(Pair { record, map, new_map, whole })
            })
        })
    }

    fn own_map(&self, record: &VersionRecord) -> Option<ExtentMap> {
        let name = self.copies.newest(&map_name(record.number));
        let bytes = read_file(self.dir.as_ref(), &name, MAP_LIMIT).ok()?;
        ExtentMap::from_bytes(&bytes, &vec![ANY_LEN; record.data.len()]).ok()
    }

    fn own_file(&self, data: &str) -> Option<Arc<dyn File>> {
        self.dir.open(&self.copies.newest(data)).ok()
    }

    /// Compares what the map of a version names with the whole disk.
    fn compare(&mut self, number: usize, progress: &dyn Progress) -> Result<(), ImageError> {
        let pair = &self.pairs[number];
        let files: Vec<_> = pair.record.data.iter().map(|data| self.own_file(data)).collect();
        let total: u64 = pair.map.extents().iter().map(|extent| extent.range.count.0).sum();
        let (mut done, mut found) = (0, Vec::new());
        let (mut theirs, mut ours) = (Vec::new(), Vec::new());
        for extent in pair.map.extents() {
            let Target::Source { source, at } = extent.target else { continue };
            let mut within = 0;
            while within < extent.range.count.0 {
                let count = PIECE.min(extent.range.count.0 - within);
                let on_disk = BlockNo(extent.range.start.0 + within);
                let in_file = at.0 + within;
                theirs.resize((count * BLOCK_SIZE) as usize, 0);
                ours.resize(theirs.len(), 0);
                pair.whole.read_at(ByteOffset(on_disk.0 * BLOCK_SIZE), &mut theirs)?;
                let file = files.get(source.0 as usize).and_then(Option::as_ref);
                let read = file.map(|file| file.read_exact_at(&mut ours, in_file * BLOCK_SIZE));
                if !matches!(read, Some(Ok(()))) || ours != theirs {
                    let count = BlockCount(count);
                    found.push((source.0, in_file, Wrong { count, pair: number, on_disk }));
                }
                within += count;
            }
            done += extent.range.count.0;
            progress.at("comparing an image", done, total);
        }
        for (data, file) in self.pairs[number].record.data.iter().zip(&files) {
            let len = file.as_ref().and_then(|file| file.len().ok());
            if len.is_some_and(|len| len % BLOCK_SIZE != 0) {
                self.wrong.entry(data.clone()).or_default();
            }
        }
        for (source, at, wrong) in found {
            let Some(data) = self.pairs[number].record.data.get(source as usize) else { continue };
            self.wrong.entry(data.clone()).or_default().insert(at, wrong);
        }
        Ok(())
    }

    fn plan(&self) -> Option<ImageMend> {
        let file = |file: String, bytes| {
            let copy = self.copies.next(&file);
            MendedFile { file, copy, bytes }
        };
        let data = self.wrong.iter().map(|(data, runs)| {
            file(data.clone(), runs.values().map(|run| run.count.bytes().0).sum())
        });
        let maps = self.pairs.iter().filter_map(|pair| {
            let len = pair.new_map.as_ref()?.len() as u64;
            Some(file(map_name(pair.record.number), len))
        });
        let files: Vec<MendedFile> = data.chain(maps).collect();
        let versions = self.pairs.iter().map(|pair| pair.record.number).collect();
        (!files.is_empty()).then(|| ImageMend { image: self.image.clone(), versions, files })
    }

    fn apply(&self, mend: &ImageMend, progress: &dyn Progress) -> Result<(), ImageError> {
        for (number, file) in mend.files.iter().enumerate() {
            progress.at("writing whole copies", number as u64, mend.files.len() as u64);
            self.write(file)?;
        }
        for pair in &self.pairs {
            self.verify(pair, mend, progress)?;
        }
        let io = || ImageError::io(format!("adding to image `{}`", self.image));
        for file in &mend.files {
            self.dir.rename(&temporary(&file.copy), &file.copy).map_err(io())?;
        }
        self.dir.sync().map_err(io())
    }

    fn write(&self, file: &MendedFile) -> Result<(), ImageError> {
        let io = || ImageError::io(format!("writing {}/{}", self.image, file.copy));
        let name = temporary(&file.copy);
        match self.dir.remove(&name) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io()(error)),
            _ => {}
        }
        let to = self.dir.create(&name).map_err(io())?;
        match self.wrong.get(&file.file) {
            Some(runs) => self.write_data(&file.file, runs, to.as_ref())?,
            None => {
                let of = |pair: &&Pair| map_name(pair.record.number) == file.file;
                let map = self.pairs.iter().find(of).and_then(|pair| pair.new_map.as_ref());
                to.write_all_at(map.map_or(&[], Vec::as_slice), 0).map_err(io())?;
            }
        }
        to.sync_data().map_err(io())?;
        to.drop_cache().map_err(io())
    }

    /// What the file has, with what is wrong replaced.
    fn write_data(
        &self,
        data: &str,
        runs: &BTreeMap<u64, Wrong>,
        to: &dyn File,
    ) -> Result<(), ImageError> {
        let io = || ImageError::io(format!("copying {}/{data}", self.image));
        let mut buf = vec![0; (PIECE * BLOCK_SIZE) as usize];
        let mut len = 0;
        if let Some(from) = self.own_file(data) {
            len = from.len().map_err(io())?;
            let mut at = 0;
            while let Some((start, end)) = from.next_data(at).map_err(io())? {
                at = start;
                while at < end {
                    let part = (end - at).min(buf.len() as u64) as usize;
                    // What cannot be read is among what is replaced, or in no version.
                    if from.read_exact_at(&mut buf[..part], at).is_ok() {
                        to.write_all_at(&buf[..part], at).map_err(io())?;
                    }
                    at += part as u64;
                }
            }
        }
        for (&at, run) in runs {
            let piece = &mut buf[..run.count.bytes().0 as usize];
            let disk = &self.pairs[run.pair].whole;
            disk.read_at(ByteOffset(run.on_disk.0 * BLOCK_SIZE), piece)?;
            to.write_all_at(piece, at * BLOCK_SIZE).map_err(io())?;
            len = len.max((at + run.count.0) * BLOCK_SIZE);
        }
        to.set_len(ByteLen(len).blocks().bytes().0).map_err(io())
    }

    /// The disk of a version, over the new files, is what its digest says.
    fn verify(
        &self,
        pair: &Pair,
        mend: &ImageMend,
        progress: &dyn Progress,
    ) -> Result<(), ImageError> {
        let mut sources: Vec<Arc<dyn ReadBlocks>> = Vec::new();
        for data in &pair.record.data {
            let new = mend.files.iter().find(|file| file.file == *data);
            let name = new.map_or_else(|| self.copies.newest(data), |file| temporary(&file.copy));
            let file = self.dir.open(&name);
            let file = file.map_err(ImageError::io(format!("opening {}/{name}", self.image)))?;
            sources.push(Arc::new(FileBlocks::new(file)?));
        }
        let device = MapDevice::new(Arc::new(pair.map.clone()), sources)?;
        let found = canonical_digest(&device, progress)?;
        if found == pair.record.digest {
            return Ok(());
        }
        Err(ImageError::Corrupt {
            place: format!("the new copy of image `{}` version {}", self.image, pair.record.number),
            expected: pair.record.digest.clone(),
            found,
        })
    }
}

fn temporary(copy: &str) -> String {
    format!("{copy}.new")
}
