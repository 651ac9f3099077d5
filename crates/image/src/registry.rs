//! The registry: finding, opening, adding and removing images and versions.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use goldleaf_block::{
    BlockRange, ExtentMap, FileBlocks, MapDevice, MapExtent, ReadBlocks, SourceIndex, Target, Trace,
};
use goldleaf_cache::{Cache, Cached, Supply, sidecars};
use goldleaf_host::{Dir, File, Progress, read_file, replace_file};
use goldleaf_wire::BootProfile;
use goldleaf_worker::lent;

use crate::{ImageError, ImageRecord, VersionRecord, canonical_digest};

/// Format of the records that this program writes.
pub const FORMAT: u32 = 1;
/// Longest record that is read, in bytes; a hundred thousand versions fit.
const RECORD_LIMIT: u64 = 64 << 20;
/// Longest map that is read, in bytes: some 40 million extents.
pub(crate) const MAP_LIMIT: u64 = 512 << 20;

/// Longest boot profile that is read, in bytes.
const BOOT_LIMIT: u64 = 16 << 20;

/// Knows where what has not arrived of an image is to be had: nowhere, for an image that was made
/// here.
pub type Suppliers = dyn Fn(&str) -> Option<Arc<dyn Supply>> + Send + Sync;

/// All images of one Goldleaf home.
#[derive(Clone)]
pub struct Images {
    pub(crate) dir: Arc<dyn Dir>,
    suppliers: Option<Arc<Suppliers>>,
}

/// An image's version, opened.
pub struct ImageVersion {
    /// Name of the image.
    pub image: String,
    /// Its record.
    pub record: VersionRecord,
    /// The disk, as extents over [`Self::files`].
    pub map: Arc<ExtentMap>,
    /// The data files, in the order of source indexes. One that has not all arrived is read by
    /// bringing what is missing, by a worker too.
    pub files: Vec<Arc<dyn File>>,
    /// The same as devices.
    devices: Vec<Arc<dyn ReadBlocks>>,
    /// Those that are published elsewhere, each wanting what the map refers to.
    published: Vec<Cached>,
    /// Which sources these are.
    pub(crate) published_as: Vec<SourceIndex>,
}

impl ImageVersion {
    /// The files as sources of a device.
    pub fn sources(&self) -> Vec<Arc<dyn ReadBlocks>> {
        self.devices.clone()
    }

    /// The disk.
    pub fn device(&self) -> Result<MapDevice, ImageError> {
        Ok(MapDevice::new(self.map.clone(), self.sources())?)
    }

    fn new(
        image: &str,
        record: VersionRecord,
        map: ExtentMap,
        data: Vec<Data>,
    ) -> Result<Self, ImageError> {
        let mut version = Self {
            image: image.into(),
            record,
            map: map.into(),
            files: Vec::new(),
            devices: Vec::new(),
            published: Vec::new(),
            published_as: Vec::new(),
        };
        let mut referred = referred(&version.map, data.len());
        for ((index, data), blocks) in (0..).map(SourceIndex).zip(data).zip(&mut referred) {
            let data = match data {
                Data::Published(data) => Data::Published(data.wanting(std::mem::take(blocks))),
                own => own,
            };
            let device = data.device()?;
            version.files.push(data.file(&device));
            version.devices.push(device);
            if let Data::Published(data) = data {
                version.published.push(data);
                version.published_as.push(index);
            }
        }
        Ok(version)
    }

    /// Those of its data files that are published elsewhere, and may not all have arrived.
    pub fn published(&self) -> &[Cached] {
        &self.published
    }

    /// Whether all of it is here.
    pub fn is_whole(&self) -> bool {
        self.published.iter().all(Cached::is_whole)
    }

    /// Reads all of it that is here, and compares it with what it is to be. Never writes; where it
    /// was opened with a supplier, what is damaged is brought anew.
    pub fn check(&self, progress: &dyn Progress) -> Result<(), ImageError> {
        if !self.is_whole() {
            return Ok(self.published.iter().try_for_each(Cached::check)?);
        }
        let (expected, found) = (&self.record.digest, canonical_digest(&self.device()?, progress)?);
        if found == *expected {
            return Ok(());
        }
        let (expected, found) = (expected.clone(), found);
        Err(ImageError::Corrupt { place: "the disk".into(), expected, found })
    }

    /// The same, where what is read of its data files is noted. Whole ones are lent to workers
    /// then, too.
    pub fn traced(mut self, trace: &Arc<Trace>) -> Self {
        self.devices = self.devices.into_iter().map(|device| trace.source(device)).collect();
        self.files = self.devices.iter().cloned().map(lent).collect();
        self
    }
}

/// A data file as it is opened.
enum Data {
    /// Made here.
    Own(Arc<dyn File>),
    /// Published elsewhere.
    Published(Cached),
}

impl Data {
    fn device(&self) -> Result<Arc<dyn ReadBlocks>, ImageError> {
        Ok(match self {
            Data::Own(file) => Arc::new(FileBlocks::new(file.clone())?),
            Data::Published(data) => Arc::new(data.clone()),
        })
    }

    /// As a worker reads it, who can bring nothing by itself.
    fn file(&self, device: &Arc<dyn ReadBlocks>) -> Arc<dyn File> {
        match self {
            Data::Own(file) => file.clone(),
            Data::Published(data) if data.is_whole() => data.cache().content().clone(),
            Data::Published(_) => lent(device.clone()),
        }
    }
}

/// What a map refers to of each of its sources.
pub(crate) fn referred(map: &ExtentMap, sources: usize) -> Vec<Vec<BlockRange>> {
    let mut referred = vec![Vec::new(); sources];
    for MapExtent { range, target } in map.extents() {
        if let Target::Source { source, at } = *target {
            referred[source.0 as usize].push(BlockRange::new(at, range.count));
        }
    }
    referred
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
        Self { dir, suppliers: None }
    }

    /// The same registry, where what is missing of images is brought.
    pub fn supplied(self, suppliers: Arc<Suppliers>) -> Self {
        Self { suppliers: Some(suppliers), ..self }
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
        let supply = self.suppliers.as_ref().and_then(|suppliers| suppliers(name));
        let map_name = copies.newest(&map_name(version.number));
        let data: Vec<String> = version.data.iter().map(|data| copies.newest(data)).collect();
        let open = |data: &String| match Cache::open(dir.clone(), data)? {
            Some(cache) => Ok(Data::Published(Cached::new(Arc::new(cache), supply.clone()))),
            None => {
                let what = ImageError::io(format!("opening {name}/{data}"));
                Ok(Data::Own(dir.open(data).map_err(what)?))
            }
        };
        let data = data.iter().map(open).collect::<Result<Vec<_>, ImageError>>()?;
        let devices = data.iter().map(Data::device).collect::<Result<Vec<_>, _>>()?;
        let map = read_map(dir.as_ref(), &map_name, &devices)?;
        ImageVersion::new(name, version, map, data)
    }

    /// What a guest reads when it starts on a version, if that is known. It is a hint, so one that
    /// cannot be read is none.
    pub fn boot_profile(
        &self,
        name: &str,
        version: &VersionRecord,
    ) -> Result<Option<BootProfile>, ImageError> {
        let dir = self.dir(name)?;
        match read_file(dir.as_ref(), &boot_name(version.number), BOOT_LIMIT) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => {
                let bytes = other.map_err(ImageError::io("reading a boot profile"))?;
                Ok(BootProfile::from_bytes(&bytes, version.blocks).ok())
            }
        }
    }

    /// Keeps what a guest reads when it starts on a version.
    pub fn keep_boot_profile(
        &self,
        name: &str,
        number: u32,
        profile: &BootProfile,
    ) -> Result<(), ImageError> {
        let dir = self.dir.dir(name).map_err(ImageError::io("opening an image"))?;
        let bytes = profile.to_bytes().map_err(|error| ImageError::Corrupt {
            place: boot_name(number),
            expected: "a profile that can be written".into(),
            found: error.to_string(),
        })?;
        step("image.boot", || {
            replace_file(dir.as_ref(), &boot_name(number), &bytes)
                .map_err(ImageError::io("writing a boot profile"))
        })
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
        self.unnamed_by(&self.record(name)?)
    }

    /// Files of an image that none of the versions in a record names.
    pub(crate) fn unnamed_by(&self, record: &ImageRecord) -> Result<Vec<String>, ImageError> {
        let dir = self.dir.dir(&record.name).map_err(ImageError::io("opening an image"))?;
        let numbers = record.versions.iter().map(|version| version.number);
        let maps = numbers.flat_map(|number| [map_name(number), boot_name(number)]);
        let data = record.versions.iter().flat_map(|version| version.data.iter().cloned());
        let data: Vec<String> = data.collect();
        let beside = data.iter().flat_map(|data| sidecars(data));
        let named: BTreeSet<String> = maps.chain(beside).chain(data.iter().cloned()).collect();
        const OWN: [&str; 7] = [".data", ".map", ".boot", ".new", ".packs", ".heads", ".have"];
        let is_own = |name: &str| OWN.iter().any(|end| name.ends_with(end));
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
pub(crate) fn step<T>(
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

fn boot_name(number: u32) -> String {
    format!("v{number}.boot")
}

pub(crate) fn write_record(dir: &dyn Dir, record: &ImageRecord) -> Result<(), ImageError> {
    let bytes = serde_json::to_vec_pretty(record).map_err(|error| ImageError::Corrupt {
        place: "image.json".into(),
        expected: "a record that can be written".into(),
        found: error.to_string(),
    })?;
    replace_file(dir, "image.json", &bytes).map_err(ImageError::io("writing image.json"))
}

fn read_map(
    dir: &dyn Dir,
    name: &str,
    devices: &[Arc<dyn ReadBlocks>],
) -> Result<ExtentMap, ImageError> {
    let bytes = read_file(dir, name, MAP_LIMIT).map_err(ImageError::io("reading a map"))?;
    let lens: Vec<_> = devices.iter().map(|device| device.len().blocks()).collect();
    Ok(ExtentMap::from_bytes(&bytes, &lens)?)
}
