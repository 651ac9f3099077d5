//! The registry: finding, opening, adding and removing images and versions.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use goldleaf_block::{ByteLen, ExtentMap, FileBlocks, MapDevice, ReadBlocks};
use goldleaf_host::{Dir, File, read_file, replace_file};

use crate::{ImageError, ImageRecord, VersionRecord};

/// Format of the records that this program writes.
pub const FORMAT: u32 = 1;
/// Longest record that is read, in bytes; a hundred thousand versions fit.
const RECORD_LIMIT: u64 = 64 << 20;
/// Longest map that is read, in bytes: some 40 million extents.
pub(crate) const MAP_LIMIT: u64 = 512 << 20;

/// All images of one Goldleaf home.
#[derive(Clone)]
pub struct Images {
    dir: Arc<dyn Dir>,
}

/// An image's version, opened.
pub struct ImageVersion {
    /// Name of the image.
    pub image: String,
    /// Its record.
    pub record: VersionRecord,
    /// The disk, as extents over [`Self::files`].
    pub map: Arc<ExtentMap>,
    /// The data files, in the order of source indexes.
    pub files: Vec<Arc<dyn File>>,
}

impl ImageVersion {
    /// The files as sources of a device.
    pub fn sources(&self) -> Result<Vec<Arc<dyn ReadBlocks>>, ImageError> {
        let mut sources: Vec<Arc<dyn ReadBlocks>> = Vec::new();
        for file in &self.files {
            sources.push(Arc::new(FileBlocks::new(file.clone())?));
        }
        Ok(sources)
    }

    /// The disk.
    pub fn device(&self) -> Result<MapDevice, ImageError> {
        Ok(MapDevice::new(self.map.clone(), self.sources()?)?)
    }
}

/// Refuses what cannot name an image, a layer or a desktop.
pub fn check_name(name: &str) -> Result<(), ImageError> {
    let fine = (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        && name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if fine { Ok(()) } else { Err(ImageError::BadName(name.into())) }
}

impl Images {
    /// The registry in `dir`.
    pub fn new(dir: Arc<dyn Dir>) -> Self {
        Self { dir }
    }

    /// All images, by name. A directory without a record is what an interrupted import left.
    pub fn list(&self) -> Result<Vec<ImageRecord>, ImageError> {
        let items = self.dir.list().map_err(ImageError::io("listing images"))?;
        let mut records = Vec::new();
        for item in items.iter().filter(|item| item.is_dir) {
            match self.record(&item.name) {
                Err(ImageError::Unknown(_)) => {}
                other => records.push(other?),
            }
        }
        Ok(records)
    }

    /// One image's record.
    pub fn record(&self, name: &str) -> Result<ImageRecord, ImageError> {
        check_name(name)?;
        let dir = match self.dir.dir(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ImageError::Unknown(name.into()));
            }
            other => other.map_err(ImageError::io(format!("opening image `{name}`")))?,
        };
        let bytes = match read_file(dir.as_ref(), "image.json", RECORD_LIMIT) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ImageError::Unknown(name.into()));
            }
            other => other.map_err(ImageError::io(format!("reading image `{name}`")))?,
        };
        serde_json::from_slice(&bytes).map_err(|error| ImageError::Corrupt {
            place: format!("image.json of `{name}`"),
            expected: "a record of an image".into(),
            found: error.to_string(),
        })
    }

    /// Opens a version; the current one when `number` is `None`.
    pub fn open(&self, name: &str, number: Option<u32>) -> Result<ImageVersion, ImageError> {
        let record = self.record(name)?;
        let found = match number {
            None => record.versions.last(),
            Some(number) => record.versions.iter().find(|version| version.number == number),
        };
        let version = found.cloned().ok_or_else(|| match number {
            None => ImageError::Unknown(name.into()),
            Some(number) => ImageError::Unknown(format!("{name} version {number}")),
        })?;
        let dir = self.dir.dir(name).map_err(ImageError::io("opening an image"))?;
        let copies = Copies::list(dir.as_ref())?;
        let mut files = Vec::new();
        for data in &version.data {
            let data = copies.newest(data);
            files.push(dir.open(&data).map_err(ImageError::io(format!("opening {name}/{data}")))?);
        }
        let map = read_map(dir.as_ref(), &copies.newest(&map_name(version.number)), &files)?;
        Ok(ImageVersion { image: name.into(), record: version, map: Arc::new(map), files })
    }

    /// Makes the directory of a new image and locks it against another importer. The image exists
    /// from [`Self::add_version`] on; before that it is not listed.
    pub fn create(&self, name: &str) -> Result<Arc<dyn Dir>, ImageError> {
        check_name(name)?;
        match self.record(name) {
            Err(ImageError::Unknown(_)) => {}
            Ok(_) => return Err(ImageError::Exists(name.into())),
            Err(error) => return Err(error),
        }
        let what = || ImageError::io("making an image");
        step("image.begin", || {
            let dir = self.dir.create_dir(name).map_err(what())?;
            self.dir.sync().map_err(what())?;
            Ok(dir)
        })
    }

    /// The directory of an image that exists.
    pub fn dir(&self, name: &str) -> Result<Arc<dyn Dir>, ImageError> {
        self.record(name)?;
        self.dir.dir(name).map_err(ImageError::io(format!("opening image `{name}`")))
    }

    /// Adds a version whose data files are complete: writes its map, makes everything durable, and
    /// then names it in the record, in one move.
    pub fn add_version(
        &self,
        name: &str,
        version: VersionRecord,
        map: &ExtentMap,
    ) -> Result<(), ImageError> {
        let dir = self.dir.dir(name).map_err(ImageError::io("opening an image"))?;
        let map_name = map_name(version.number);
        step("image.map", || {
            replace_file(dir.as_ref(), &map_name, &map.to_bytes())
                .map_err(ImageError::io("writing a map"))
        })?;
        let mut record = match self.record(name) {
            Err(ImageError::Unknown(_)) => {
                ImageRecord { format: FORMAT, name: name.into(), versions: vec![], next_data: 1 }
            }
            other => other?,
        };
        record.next_data += version.data.len() as u32;
        record.versions.push(version);
        step("image.version", || write_record(dir.as_ref(), &record))
    }

    /// Files of an image that none of its versions names. To be asked under the image's lock: who
    /// makes a version has files that are not named yet.
    pub fn unnamed(&self, name: &str) -> Result<Vec<String>, ImageError> {
        let record = self.record(name)?;
        let dir = self.dir.dir(name).map_err(ImageError::io("opening an image"))?;
        let maps = record.versions.iter().map(|version| map_name(version.number));
        let data = record.versions.iter().flat_map(|version| version.data.iter().cloned());
        let named: BTreeSet<String> = maps.chain(data).collect();
        let is_own = |name: &str| [".data", ".map", ".new"].iter().any(|end| name.ends_with(end));
        let items = dir.list().map_err(ImageError::io("listing an image"))?;
        let files = items.into_iter().filter(|item| !item.is_dir).map(|item| item.name);
        Ok(files
            .filter(|file| {
                let of = copy_of(file).map_or(file.as_str(), |(of, _)| of);
                is_own(of) && !named.contains(of)
            })
            .collect())
    }

    /// Clears what an import that failed left behind.
    pub fn abandon(&self, name: &str) -> Result<(), ImageError> {
        match self.record(name) {
            Err(ImageError::Unknown(_)) => step("image.abandon", || {
                self.dir.remove_dir_all(name).map_err(ImageError::io("clearing an import"))
            }),
            Ok(_) => Err(ImageError::Exists(name.into())),
            Err(error) => Err(error),
        }
    }

    /// Removes an image: its record first, so that what is left after a crash is not an image.
    pub fn remove(&self, name: &str) -> Result<(), ImageError> {
        let dir = self.dir(name)?;
        let what = || ImageError::io("removing an image");
        step("image.forget", || {
            dir.remove("image.json").map_err(what())?;
            dir.sync().map_err(what())
        })?;
        step("image.remove", || self.dir.remove_dir_all(name).map_err(what()))
    }
}

/// A move of an image's durable state.
fn step<T>(
    name: &'static str,
    take: impl FnOnce() -> Result<T, ImageError>,
) -> Result<T, ImageError> {
    goldleaf_host::step(name, |error| ImageError::io(name)(error), take)
}

/// The copies that repairs made of an image's files: `NAME.1`, `NAME.2`, … The newest is the one
/// that is read; those before it are damaged.
pub(crate) struct Copies(BTreeMap<String, u32>);

impl Copies {
    pub(crate) fn list(dir: &dyn Dir) -> Result<Self, ImageError> {
        let items = dir.list().map_err(ImageError::io("listing an image"))?;
        let mut copies = BTreeMap::new();
        for item in items.iter().filter(|item| !item.is_dir) {
            let Some((name, number)) = copy_of(&item.name) else { continue };
            let newest = copies.entry(name.to_owned()).or_insert(number);
            *newest = number.max(*newest);
        }
        Ok(Self(copies))
    }

    pub(crate) fn newest(&self, name: &str) -> String {
        self.0.get(name).map_or_else(|| name.into(), |number| format!("{name}.{number}"))
    }

    /// The name of a copy that comes before all that there are.
    pub(crate) fn next(&self, name: &str) -> String {
        format!("{name}.{}", self.0.get(name).map_or(1, |number| number.saturating_add(1)))
    }
}

/// What a file is a copy of, and the number of the copy.
fn copy_of(name: &str) -> Option<(&str, u32)> {
    let (of, number) = name.rsplit_once('.')?;
    let number = number.parse::<u32>().ok()?;
    (name == format!("{of}.{number}")).then_some((of, number))
}

pub(crate) fn map_name(number: u32) -> String {
    format!("v{number}.map")
}

fn write_record(dir: &dyn Dir, record: &ImageRecord) -> Result<(), ImageError> {
    let bytes = serde_json::to_vec_pretty(record).map_err(|error| ImageError::Corrupt {
        place: "image.json".into(),
        expected: "a record that can be written".into(),
        found: error.to_string(),
    })?;
    replace_file(dir, "image.json", &bytes).map_err(ImageError::io("writing image.json"))
}

fn read_map(dir: &dyn Dir, name: &str, files: &[Arc<dyn File>]) -> Result<ExtentMap, ImageError> {
    let bytes = read_file(dir, name, MAP_LIMIT).map_err(ImageError::io("reading a map"))?;
    let mut lens = Vec::new();
    for file in files {
        lens.push(ByteLen(file.len().map_err(ImageError::io("reading a length"))?).blocks());
    }
    Ok(ExtentMap::from_bytes(&bytes, &lens)?)
}
