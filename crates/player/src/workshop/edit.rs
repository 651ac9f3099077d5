//! Editing an image: what the guest leaves becomes the next version.

use std::sync::Arc;

use goldleaf_block::{
    BlockNo, ByteLen, ExtentMap, FileBlocks, MapBuilder, MapDevice, MapExtent, ReadBlocks,
    SessionDevice, SourceIndex, Target,
};
use goldleaf_host::{Dir, File};
use goldleaf_image::{ImageVersion, VersionRecord, canonical_digest, inspect_disk, seal_disk};
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
    let end = bench.run(home, &device, options, listener)?;
    if end != SessionEnd::GuestShutdown {
        return Ok(Edited { version: None, end });
    }
    if device.dirty().is_empty() {
        bench.clear()?;
        return Ok(Edited { version: None, end });
    }
    listener.at("validating the new version", 0, 0);
    let (version, map) = seal(home, name, &dir, &base, &device, listener)?;
    let number = version.number;
    bench.made(version.digest.clone())?;
    images.add_version(name, version, &map)?;
    bench.clear()?;
    Ok(Edited { version: Some(number), end })
}

/// An edit as the image's next version: its changed blocks become a data file of the image.
fn seal(
    home: &Home,
    name: &str,
    dir: &Arc<dyn Dir>,
    base: &ImageVersion,
    device: &SessionDevice,
    listener: &dyn Listener,
) -> Result<(VersionRecord, ExtentMap), PlayerError> {
    let record = home.images()?.record(name)?;
    let index = SourceIndex(base.files.len() as u32);
    let map = base.map.overlaid(&device.extents(index))?;
    let mut files = base.files.clone();
    files.push(device.data_file());
    let report = inspect_disk(&home.launcher, &map, &files)?;
    let sealed = seal_disk(&home.launcher, &map, &files, &report.volumes)?;
    let zeroes: Vec<MapExtent> = sealed
        .zeroes
        .iter()
        .map(|range| MapExtent { range: *range, target: Target::Zero })
        .collect();
    let canonical = map.overlaid(&zeroes)?;
    let data = format!("{:04}.data", record.next_data);
    let (map, added) = step("image.data", || copy_added(dir, &data, &canonical, device, index))?;
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
    file.sync_data().map_err(what())?;
    dir.sync().map_err(what())?;
    Ok((builder.finish(), Some(file)))
}
