//! The next version of an image, out of what was written over the one before.

use std::sync::Arc;

use goldleaf_block::{
    BlockNo, ByteLen, ExtentMap, FileBlocks, MapBuilder, MapDevice, MapExtent, ReadBlocks,
    SourceIndex, Target,
};
use goldleaf_host::{Dir, File, Progress, planted};
use goldleaf_image::{ImageVersion, VersionRecord, canonical_digest, volume_records};

use crate::home::step;
use crate::{Home, PlayerError};

/// A disk that is to become the version after `base`.
pub(super) struct NextVersion<'a> {
    /// The version that it was made from.
    pub base: &'a ImageVersion,
    /// Where its blocks are: in the files of the base, or in `written`, the source behind those.
    pub map: ExtentMap,
    /// What was written.
    pub written: Arc<dyn File>,
    /// The whole disk, to be read.
    pub disk: &'a dyn ReadBlocks,
    /// What was done, in words.
    pub cause: String,
}

impl NextVersion<'_> {
    /// Validates it, and makes what was written, as far as the canonical form has it, a data file
    /// in the image's directory.
    pub fn seal(
        self,
        home: &Home,
        dir: &Arc<dyn Dir>,
        next_data: u32,
        progress: &dyn Progress,
    ) -> Result<(VersionRecord, ExtentMap), PlayerError> {
        progress.at("validating the new version", 0, 0);
        let Self { base, map, written, disk, cause } = self;
        let index = SourceIndex(base.files.len() as u32);
        let mut files = base.files.clone();
        files.push(written);
        let (report, sealed) = home.jobs.judge(home, &map, &files)?;
        let zero = |range: &_| MapExtent { range: *range, target: Target::Zero };
        let zeroes: Vec<MapExtent> = sealed.zeroes.iter().map(zero).collect();
        let canonical = map.overlaid(&zeroes)?;
        let data = format!("{next_data:04}.data");
        let (map, added) = step("image.data", || copy_added(dir, &data, &canonical, disk, index))?;
        let mut sources = base.sources();
        let mut version_data = base.record.data.clone();
        if let Some(file) = added {
            sources.push(Arc::new(FileBlocks::new(file)?));
            version_data.push(data);
        }
        let disk = MapDevice::new(Arc::new(map.clone()), sources)?;
        let version = VersionRecord {
            number: base.record.number + 1,
            digest: canonical_digest(&disk, progress)?,
            blocks: map.blocks(),
            created_unix_secs: home.now_unix_secs(),
            cause,
            os: report.os.clone(),
            data: version_data,
            identity: report.identity.iter().map(ToString::to_string).collect(),
            volumes: volume_records(&report.volumes),
        };
        Ok((version, map))
    }
}

type Added = (ExtentMap, Option<Arc<dyn File>>);

/// Copies the blocks that were written and the canonical form keeps into a new data file.
fn copy_added(
    dir: &Arc<dyn Dir>,
    name: &str,
    map: &ExtentMap,
    disk: &dyn ReadBlocks,
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
            disk.read_at(from, &mut buffer[..part])?;
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
