//! Growing an image: its next version is the same disk, only longer.

use std::sync::Arc;

use goldleaf_block::{
    BLOCK_SIZE, BlockCount, BlockNo, BlockRange, ByteLen, ByteOffset, ExtentMap, FileBlocks,
    MapBuilder, MapExtent, ReadBlocks, SourceIndex, Target,
};
use goldleaf_host::{File, Progress};
use goldleaf_image::{ImageVersion, grow, inspect_disk};
use serde::{Deserialize, Serialize};

use super::bench::Bench;
use super::edit::lock_image;
use super::version::NextVersion;
use crate::desktop::StartOptions;
use crate::{Home, PlayerError};

/// Disks are copied and compared in pieces of this many bytes.
const PIECE: u64 = 1 << 20;

/// What growing an image came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grown {
    /// The image.
    pub image: String,
    /// Its new version.
    pub version: u32,
    /// Length of its disk before, in bytes.
    pub from: ByteLen,
    /// And now.
    pub to: ByteLen,
}

/// Makes a new version of an image on a disk of so many bytes: partition and file system of the
/// root fill it. What does not change is shared with the version before.
pub fn grow_image(
    home: &Home,
    name: &str,
    bytes: u64,
    progress: &dyn Progress,
) -> Result<Grown, PlayerError> {
    let images = home.images()?;
    let dir = images.dir(name)?;
    let _lock = lock_image(home, &dir, name)?;
    let base = images.open(name, None)?;
    let bench = Bench::open(home, &format!("image-{name}"), &StartOptions::default())?;
    if bench.image_version().is_some() {
        return Err(PlayerError::Refused(format!(
            "an edit of image `{name}` was cut off; `goldleaf image edit {name}` goes on with it, \
             and `--discard-session` drops it"
        )));
    }
    let grown = Growth { home, base: &base, bench: &bench, progress }.grow(bytes);
    let sealed = grown.and_then(|(file, map)| {
        let next = NextVersion {
            base: &base,
            map,
            disk: &FileBlocks::new(file.clone())?,
            written: file,
            cause: format!("version {}, grown", base.record.number),
        };
        next.seal(home, &dir, images.record(name)?.next_data, progress)
    });
    bench.clear()?;
    let (version, map) = sealed?;
    let grown = Grown {
        image: name.into(),
        version: version.number,
        from: base.record.blocks.bytes(),
        to: version.blocks.bytes(),
    };
    images.add_version(name, version, &map)?;
    Ok(grown)
}

/// The growth of a version on a bench.
struct Growth<'a> {
    home: &'a Home,
    base: &'a ImageVersion,
    bench: &'a Bench,
    progress: &'a dyn Progress,
}

impl Growth<'_> {
    /// The grown disk as a file, and what of it is still the version's.
    fn grow(&self, bytes: u64) -> Result<(Arc<dyn File>, ExtentMap), PlayerError> {
        let file = self.copy()?;
        let launcher = &self.home.launcher;
        let report = inspect_disk(launcher, &self.base.map, &self.base.files)?;
        self.progress.at("growing the disk", 0, 0);
        grow(launcher, &file, &report, bytes)?;
        let map = self.compare(&file)?;
        Ok((file, map))
    }

    fn copy(&self) -> Result<Arc<dyn File>, PlayerError> {
        let what = || PlayerError::io("copying an image");
        let file = self.bench.dir.create("disk").map_err(what())?;
        let map = &self.base.map;
        file.set_len(map.blocks().bytes().0).map_err(what())?;
        let device = self.base.device()?;
        let total = map.extents().iter().map(|extent| extent.range.count.bytes().0).sum();
        let (mut done, mut buffer) = (0, vec![0; PIECE as usize]);
        for extent in map.extents() {
            let end = extent.range.end().offset().0;
            let mut at = extent.range.start.offset().0;
            while at < end {
                let part = &mut buffer[..(end - at).min(PIECE) as usize];
                device.read_at(ByteOffset(at), part)?;
                file.write_all_at(part, at).map_err(what())?;
                at += part.len() as u64;
                done += part.len() as u64;
                self.progress.at("copying the disk", done, total);
            }
        }
        Ok(file)
    }

    /// Where each block of the grown disk is: in the version's files while it is the same there.
    fn compare(&self, file: &Arc<dyn File>) -> Result<ExtentMap, PlayerError> {
        let what = || PlayerError::io("comparing an image");
        let len = file.len().map_err(what())?;
        let mut builder = MapBuilder::new(ByteLen(len).blocks());
        let mut at = 0;
        while let Some((start, end)) = file.next_data(at).map_err(what())? {
            let (mut from, end) =
                (start / BLOCK_SIZE * BLOCK_SIZE, end.next_multiple_of(BLOCK_SIZE));
            while from < end {
                let part = (end - from).min(PIECE);
                self.compare_piece(file, from, part, &mut builder)?;
                from += part;
            }
            at = end;
        }
        Ok(builder.finish())
    }

    fn compare_piece(
        &self,
        file: &Arc<dyn File>,
        at: u64,
        len: u64,
        builder: &mut MapBuilder,
    ) -> Result<(), PlayerError> {
        let map = &self.base.map;
        let index = SourceIndex(self.base.files.len() as u32);
        let (mut new, mut old) = (vec![0; len as usize], vec![0; len as usize]);
        file.read_exact_at(&mut new, at).map_err(PlayerError::io("comparing an image"))?;
        let there = map.blocks().bytes().0.saturating_sub(at).min(len) as usize;
        if there > 0 {
            self.base.device()?.read_at(ByteOffset(at), &mut old[..there])?;
        }
        let blocks = new.chunks(BLOCK_SIZE as usize).zip(old.chunks(BLOCK_SIZE as usize));
        for (block, (new, old)) in (at / BLOCK_SIZE..).map(BlockNo).zip(blocks) {
            let target = if new.iter().all(|&byte| byte == 0) {
                continue;
            } else if new == old {
                map.look_up(block).0
            } else {
                Target::Source { source: index, at: block }
            };
            builder.push(MapExtent { range: BlockRange::new(block, BlockCount(1)), target })?;
        }
        Ok(())
    }
}
