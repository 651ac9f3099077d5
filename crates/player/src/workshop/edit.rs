//! Editing an image: what the guest leaves becomes the next version.

use std::sync::Arc;

use goldleaf_block::{
    BlockNo, ByteLen, ExtentMap, FileBlocks, MapBuilder, MapDevice, MapExtent, ReadBlocks,
    SessionDevice, SourceIndex, Target,
};
use goldleaf_host::{Dir, File, Lock, planted};
use goldleaf_image::{ImageVersion, Images, VersionRecord, canonical_digest};
use goldleaf_vm::SessionEnd;

use super::bench::Bench;
use crate::desktop::{Hex, Listener, StartOptions};
use crate::home::step;
use crate::{Home, PlayerError};

/// What an edit came to.
#[derive(Debug, Clone)]
pub struct Edited {
    /// The new version; `None` when the guest did not power off in order, or changed nothing.
    pub version: Option<u32>,
    /// How the session ended.
    pub end: SessionEnd,
}

/// Boots an image writable; what the guest leaves becomes the next version.
pub fn edit_image(
    home: &Home,
    name: &str,
    options: &StartOptions,
    listener: &dyn Listener,
) -> Result<Edited, PlayerError> {
    let edit = Editing::open(home, name, options, listener)?;
    let end = edit.bench.run(home, &edit.device, options, listener)?;
    if end != SessionEnd::GuestShutdown {
        return Ok(Edited { version: None, end });
    }
    Ok(Edited { version: edit.adopt(home, listener)?, end })
}

/// An edit under way: nobody else works on the image while this lives.
pub struct Editing {
    images: Images,
    dir: Arc<dyn Dir>,
    base: ImageVersion,
    bench: Bench,
    device: Arc<SessionDevice>,
    _lock: Box<dyn Lock>,
}

impl Editing {
    /// Goes on with the edit that was begun on an image, or begins one.
    pub fn open(
        home: &Home,
        name: &str,
        options: &StartOptions,
        listener: &dyn Listener,
    ) -> Result<Self, PlayerError> {
        let images = home.images()?;
        let base = images.open(name, None)?;
        let dir = images.dir(name)?;
        let lock = dir.try_lock("lock").map_err(PlayerError::io("locking an image"))?;
        let _lock = lock.ok_or_else(|| PlayerError::Busy {
            kind: "image",
            name: name.into(),
            detail: "it is being edited or imported".into(),
        })?;
        let mut bench = Bench::open(home, &format!("image-{name}"), options)?;
        let (disk, number) = (Arc::new(base.device()?), base.record.number);
        let digest = Hex::try_from(base.record.digest.clone())
            .map_err(|error| PlayerError::corrupt("image.json", error))?;
        let device = bench.session(home, disk, digest.0.0, number, listener)?;
        Ok(Self { images, dir, base, bench, device, _lock })
    }

    /// The disk that is edited.
    pub fn device(&self) -> &Arc<SessionDevice> {
        &self.device
    }

    /// Makes the next version of what a guest left that came to rest; none when it changed nothing.
    pub fn adopt(
        mut self,
        home: &Home,
        listener: &dyn Listener,
    ) -> Result<Option<u32>, PlayerError> {
        if self.device.dirty().is_empty() {
            self.bench.clear()?;
            return Ok(None);
        }
        listener.at("validating the new version", 0, 0);
        let (version, map) = self.seal(home, listener)?;
        let number = version.number;
        self.bench.made(version.digest.clone())?;
        self.images.add_version(&self.base.image, version, &map)?;
        self.bench.clear()?;
        Ok(Some(number))
    }

    /// The image's next version: the changed blocks become a data file of the image.
    fn seal(
        &self,
        home: &Home,
        listener: &dyn Listener,
    ) -> Result<(VersionRecord, ExtentMap), PlayerError> {
        let (base, device) = (&self.base, &self.device);
        let record = self.images.record(&base.image)?;
        let index = SourceIndex(base.files.len() as u32);
        let map = base.map.overlaid(&device.extents(index))?;
        let mut files = base.files.clone();
        files.push(device.data_file());
        let (report, sealed) = home.jobs.judge(home, &map, &files)?;
        let zeroes: Vec<MapExtent> = sealed
            .zeroes
            .iter()
            .map(|range| MapExtent { range: *range, target: Target::Zero })
            .collect();
        let canonical = map.overlaid(&zeroes)?;
        let data = format!("{:04}.data", record.next_data);
        let (map, added) =
            step("image.data", || copy_added(&self.dir, &data, &canonical, device, index))?;
        let mut sources = base.sources()?;
        let mut version_data = base.record.data.clone();
        if let Some(file) = added {
            sources.push(Arc::new(FileBlocks::new(file)?));
            version_data.push(data);
        }
        let disk = MapDevice::new(Arc::new(map.clone()), sources)?;
        let version = VersionRecord {
            number: base.record.number + 1,
            digest: canonical_digest(&disk, listener)?,
            blocks: map.blocks(),
            created_unix_secs: home.now_unix_secs(),
            cause: format!("edit of version {}", base.record.number),
            os: report.os.clone(),
            data: version_data,
            identity: report.identity.iter().map(ToString::to_string).collect(),
            volumes: goldleaf_image::volume_records(&report.volumes),
        };
        Ok((version, map))
    }
}

type Added = (ExtentMap, Option<Arc<dyn File>>);

/// Copies the blocks that the session wrote and the canonical form keeps into a new data file.
fn copy_added(
    dir: &Arc<dyn Dir>,
    name: &str,
    map: &ExtentMap,
    device: &SessionDevice,
    index: SourceIndex,
) -> Result<Added, PlayerError> {
    let what = || PlayerError::io("writing the new version");
    match dir.remove(name) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(what()(error)),
        _ => {}
    }
    let file = dir.create(name).map_err(what())?;
    let mut builder = MapBuilder::new(map.blocks());
    let mut at = BlockNo(0);
    let mut buffer = vec![0; 1 << 20];
    for extent in map.extents() {
        let Target::Source { source, .. } = extent.target else { continue };
        if source != index {
            builder.push(*extent)?;
            continue;
        }
        let first = at;
        let mut done = 0;
        let bytes = extent.range.count.bytes().0;
        while done < bytes {
            let part = (bytes - done).min(buffer.len() as u64) as usize;
            let from = extent.range.start.offset().plus(ByteLen(done));
            device.read_at(from, &mut buffer[..part])?;
            file.write_all_at(&buffer[..part], first.offset().0 + done).map_err(what())?;
            done += part as u64;
        }
        at = at.plus(extent.range.count);
        let target = Target::Source { source: index, at: first };
        builder.push(MapExtent { range: extent.range, target })?;
    }
    if at == BlockNo(0) {
        dir.remove(name).map_err(what())?;
        return Ok((builder.finish(), None));
    }
    if !planted("a version names data that is not synced") {
        file.sync_data().map_err(what())?;
    }
    dir.sync().map_err(what())?;
    Ok((builder.finish(), Some(file)))
}
