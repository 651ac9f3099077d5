//! The first download takes what is here already: from other images, and from what a person names.

use std::ops::ControlFlow;
use std::sync::Arc;

use goldleaf_block::{BlockCount, SourceIndex};
use goldleaf_cache::{Cached, Frames, Seed};
use goldleaf_host::{Dir, Progress};
use goldleaf_image::{ImageVersion, Layout, layout};

use super::receive::Arrival;
use super::seeds::{ByPath, Carrier, Files, OnDisk, Places, Rooted};
use crate::desktop::volumes;
use crate::home::step;
use crate::{Home, PlayerError};

impl Arrival {
    /// Takes what is here already of the image, so that less has to be brought: from the other
    /// images of the home, and from directories that carry packs or have files where the image has
    /// them. Nothing of it is believed, and what cannot be read is no help and no error. To know
    /// where the image has files, its metadata is brought. Returns how much was taken.
    pub fn seed(
        &self,
        dirs: &[Arc<dyn Dir>],
        progress: &dyn Progress,
    ) -> Result<BlockCount, PlayerError> {
        if self.image.is_whole() {
            return Ok(BlockCount(0));
        }
        let others = others(&self.home, &self.image.image)?;
        if others.is_empty() && dirs.is_empty() {
            return Ok(BlockCount(0));
        }
        step("receive.seed", || {
            let frames = self.take_frames(&others, dirs, progress)?;
            let files = self.take_files(&others, dirs, progress)?;
            Ok(BlockCount(frames + files))
        })
    }

    /// Frames that are whole somewhere.
    fn take_frames(
        &self,
        others: &[ImageVersion],
        dirs: &[Arc<dyn Dir>],
        progress: &dyn Progress,
    ) -> Result<u64, PlayerError> {
        let caches = others.iter().flat_map(|other| other.published().iter().cloned());
        let caches: Vec<Cached> = caches.collect();
        let frames = Frames::of(&caches);
        let carriers: Vec<Carrier> = dirs.iter().cloned().map(Carrier).collect();
        let mut seeds: Vec<&dyn Seed> = vec![&frames];
        seeds.extend(carriers.iter().map(|carrier| carrier as &dyn Seed));
        let all = self.image.published().iter();
        all.map(|data| self.take(data, &seeds, progress)).sum()
    }

    /// Frames of which each file is somewhere where the image has it.
    fn take_files(
        &self,
        others: &[ImageVersion],
        dirs: &[Arc<dyn Dir>],
        progress: &dyn Progress,
    ) -> Result<u64, PlayerError> {
        if self.image.is_whole() {
            return Ok(0);
        }
        let mut files: Vec<Box<dyn Files>> = Vec::new();
        files.extend(dirs.iter().cloned().map(|dir| Box::new(Rooted(dir)) as Box<dyn Files>));
        let newest = others.chunk_by(|one, next| one.image == next.image);
        let newest = newest.filter_map(|versions| versions.last());
        for other in newest.filter(|other| other.record.os == self.image.record.os) {
            // One that has not all arrived cannot be read through.
            let Ok(layout) = layout_of(&self.home, other, progress) else { continue };
            files.push(Box::new(OnDisk { layout, disk: Arc::new(other.device()?) }));
        }
        if files.is_empty() {
            return Ok(0);
        }
        let mut taken = 0;
        let layout = layout_of(&self.home, &self.image, progress)?;
        for (source, data) in (0..).map(SourceIndex).zip(self.image.published()) {
            let places = Places::new(&layout, &self.image.map, source);
            let by_path = files.iter().map(|files| ByPath::new(&layout, &places, files.as_ref()));
            let by_path: Vec<ByPath<'_>> = by_path.collect();
            let seeds: Vec<&dyn Seed> = by_path.iter().map(|seed| seed as &dyn Seed).collect();
            taken += self.take(data, &seeds, progress)?;
        }
        Ok(taken)
    }

    /// Takes what seeds have of a data file; how many blocks that was.
    fn take(
        &self,
        data: &Cached,
        seeds: &[&dyn Seed],
        progress: &dyn Progress,
    ) -> Result<u64, PlayerError> {
        let before = data.arrived();
        let told = |_| {
            let now = self.arrived();
            progress.at("taking what is here", now.here.bytes().0, now.all.bytes().0);
            ControlFlow::Continue(())
        };
        data.take_from(seeds, &told)?;
        Ok(data.arrived().0 - before.0)
    }
}

fn layout_of(
    home: &Home,
    image: &ImageVersion,
    progress: &dyn Progress,
) -> Result<Layout, PlayerError> {
    let volumes = volumes(image)?;
    Ok(layout(&home.launcher, &image.map, &image.files, &volumes, progress)?)
}

/// The versions of all other images, as they are here: image by image, oldest first.
fn others(home: &Home, name: &str) -> Result<Vec<ImageVersion>, PlayerError> {
    let images = home.images_here()?;
    let mut found = Vec::new();
    for image in images.list()?.iter().filter(|image| image.name != name) {
        let numbers = image.versions.iter().map(|version| version.number);
        // One that is damaged is no help.
        found.extend(numbers.filter_map(|number| images.open(&image.name, Some(number)).ok()));
    }
    Ok(found)
}
