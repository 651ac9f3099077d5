//! Deltas between versions that are in a feed: all that they are made of is read from there, so
//! nobody need have kept the older image.

use std::sync::Arc;

use goldleaf_block::{BlockNo, BlockRange, ByteLen};
use goldleaf_feed::{Channel, Disk, OfferedDelta, Pair, PublishedImage, Publisher};
use goldleaf_host::Progress;
use goldleaf_image::{ImageVersion, Images, Layout, layout};
use goldleaf_wire::{DeltaEffort, DiskFile, Side, UNIT_MAX, WireMap};

use super::record::received;
use crate::desktop::{StartOptions, volumes};
use crate::workshop::Bench;
use crate::{Home, PlayerError};

/// Most units that are compressed at once: each takes 400 MB.
const THREADS_MAX: usize = 2;
/// What no file's content is: no path has this name.
const REST: &[u8] = b"\0";

/// What is needed to make deltas.
pub struct Differ<'a> {
    /// Where there is room to work.
    pub home: &'a Home,
    /// The LivePC: one command at a time makes deltas of it.
    pub name: &'a str,
    /// The feed that both versions are in.
    pub channel: &'a Channel,
    /// Told how far it is.
    pub progress: &'a dyn Progress,
}

/// A version's disk, read from the feed as an endpoint reads it.
struct Opened {
    wire: WireMap,
    image: ImageVersion,
    layout: Layout,
    rest: Vec<(BlockNo, BlockRange)>,
}

impl Differ<'_> {
    /// Makes a delta from one image to another; `None` where none is worth it.
    pub fn delta(
        &self,
        publisher: &mut Publisher,
        from: &PublishedImage,
        to: &PublishedImage,
    ) -> Result<Option<OfferedDelta>, PlayerError> {
        let bench = format!("publish-{}", self.name);
        let bench = Bench::open(self.home, &bench, &StartOptions::default())?;
        let content = self.channel.content();
        let scratch = Images::new(bench.dir.clone());
        let scratch = scratch.supplied(Arc::new(move |_| Some(content.clone())));
        let old = self.open(&scratch, "from", from)?;
        let new = self.open(&scratch, "to", to)?;
        let (old_files, new_files) = (old.files(), new.files());
        let pair = Pair::new(old.disk(&old_files)?, new.disk(&new_files)?);
        let effort = DeltaEffort {
            level: publisher.effort.level,
            threads: publisher.effort.threads.min(THREADS_MAX),
            unit: ByteLen(UNIT_MAX),
        };
        let delta = publisher.delta(&pair, bench.dir.as_ref(), effort, self.progress)?;
        bench.clear()?;
        Ok(delta.map(|delta| OfferedDelta::new(from.digest.clone(), &delta)))
    }

    fn open(
        &self,
        scratch: &Images,
        name: &str,
        published: &PublishedImage,
    ) -> Result<Opened, PlayerError> {
        let wire = self.channel.map(&published.map)?;
        scratch.add_published(name, received(published, 1), &wire)?;
        let image = scratch.open(name, None)?;
        let (launcher, volumes) = (&self.home.launcher, volumes(&image)?);
        let layout = layout(launcher, &image.map, &image.files, &volumes, self.progress)?;
        let rest = layout.unexplained_by_files(published.blocks);
        let rest = rest.into_iter().map(|range| (range.start, range)).collect();
        Ok(Opened { wire, image, layout, rest })
    }
}

impl Opened {
    /// Its files, and what is beside them as one more: where it lies is what it is.
    fn files(&self) -> Vec<DiskFile<'_>> {
        let files = self.layout.files.iter();
        let files =
            files.map(|file| DiskFile { path: file.path.as_bytes(), extents: &file.extents });
        files.chain([DiskFile { path: REST, extents: &self.rest }]).collect()
    }

    fn disk<'a>(&'a self, files: &'a [DiskFile<'a>]) -> Result<Disk<'a>, PlayerError> {
        let content = self.image.published().first();
        let empty = || PlayerError::corrupt("a published image", "nothing is in it");
        let content = content.ok_or_else(empty)?.clone();
        Ok(Disk { side: Side { map: &self.wire, files }, content })
    }
}
