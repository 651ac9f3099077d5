//! Which versions of images and layers something runs on, or would start on.

use std::collections::BTreeSet;

use goldleaf_image::ImageRecord;

use crate::apps::AppsLayer;
use crate::desktop::{self, DesktopRecord};
use crate::livepc::{self, LivePc};
use crate::{Home, PlayerError, workshop};

/// Everything that may name a version.
pub struct InUse {
    livepcs: Vec<LivePc>,
    desktops: Vec<DesktopRecord>,
    /// Versions of images that unfinished work in the workshop stands on, whichever image's.
    begun: Vec<u32>,
}

/// A version of an image, and layers with theirs; the current one for `None`.
type Versions<'a> = (Option<u32>, Vec<(&'a String, Option<u32>)>);

/// What desktops of a LivePC may be started on: what was before a version on trial, too.
fn starts(livepc: &LivePc) -> impl Iterator<Item = Versions<'_>> {
    let before = livepc.trial.as_ref().map(|trial| &*trial.before);
    let editions = [Some(livepc), before].into_iter().flatten();
    editions.map(|edition| (edition.image_version(), edition.layer_versions().collect()))
}

impl InUse {
    /// Reads it all. What cannot be read is an error: it might name anything.
    pub fn read(home: &Home) -> Result<Self, PlayerError> {
        Ok(Self {
            livepcs: livepc::list(home)?,
            desktops: desktop::list(home)?,
            begun: workshop::begun(home)?,
        })
    }

    /// The desktops that run an image.
    pub fn desktops_of(&self, image: &str) -> impl Iterator<Item = &DesktopRecord> {
        let runs = move |desktop: &&DesktopRecord| {
            let livepc = self.livepcs.iter().find(|livepc| livepc.name == desktop.livepc);
            livepc.is_some_and(|livepc| livepc.image == image)
        };
        self.desktops.iter().filter(runs)
    }

    /// Versions of an image.
    pub fn of_image(&self, image: &ImageRecord) -> BTreeSet<u32> {
        let newest = image.versions.last().map(|version| version.number);
        let livepcs = self.livepcs.iter().filter(|livepc| livepc.image == image.name);
        let started = livepcs.flat_map(starts).filter_map(|(version, _)| version.or(newest));
        let mut found: BTreeSet<u32> = started.chain(self.begun.iter().copied()).collect();
        for desktop in self.desktops_of(&image.name) {
            found.extend(desktop.pinned_image);
            found.extend(desktop.session.as_ref().map(|session| session.image_version));
        }
        found
    }

    /// Versions of a layer.
    pub fn of_layer(&self, layer: &AppsLayer) -> BTreeSet<u32> {
        let newest = layer.versions.last().map(|version| version.number);
        let started = self.livepcs.iter().flat_map(starts).flat_map(|(_, layers)| layers);
        let started = started.filter(|(name, _)| **name == layer.name);
        let mut found: BTreeSet<u32> =
            started.filter_map(|(_, version)| version.or(newest)).collect();
        for desktop in &self.desktops {
            found.extend(desktop.pinned_apps.get(&layer.name));
            let session = desktop.session.iter().flat_map(|session| &session.apps);
            let session = session.filter(|(name, _)| *name == layer.name);
            found.extend(session.map(|(_, version)| version));
        }
        found
    }
}
