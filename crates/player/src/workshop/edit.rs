//! Editing an image: what the guest leaves becomes the next version.

use std::sync::Arc;

use goldleaf_block::{SessionDevice, SourceIndex};
use goldleaf_host::{Dir, Lock, planted};
use goldleaf_image::{ImageVersion, Images};
use goldleaf_vm::SessionEnd;

use super::bench::Bench;
use super::version::NextVersion;
use crate::desktop::{Hex, Listener, StartOptions};
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

/// Keeps others from making versions of an image; what is there is durable.
pub(super) fn lock_image(
    home: &Home,
    dir: &Arc<dyn Dir>,
    name: &str,
) -> Result<Box<dyn Lock>, PlayerError> {
    let lock = dir.try_lock("lock").map_err(PlayerError::io("locking an image"))?;
    let lock = lock.ok_or_else(|| PlayerError::Busy {
        kind: "image",
        name: name.into(),
        detail: "it is being edited or imported".into(),
    })?;
    home.settle("images", name)?;
    Ok(lock)
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
        let dir = images.dir(name)?;
        let is_early = planted("an image is read before it is locked");
        let early = if is_early { Some(images.open(name, None)?) } else { None };
        let _lock = lock_image(home, &dir, name)?;
        let base = early.map_or_else(|| images.open(name, None), Ok)?;
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
        let index = SourceIndex(self.base.files.len() as u32);
        let next = NextVersion {
            base: &self.base,
            map: self.base.map.overlaid(&self.device.extents(index))?,
            written: self.device.data_file(),
            disk: self.device.as_ref(),
            cause: format!("edit of version {}", self.base.record.number),
        };
        let next_data = self.images.record(&self.base.image)?.next_data;
        let (version, map) = next.seal(home, &self.dir, next_data, listener)?;
        let number = version.number;
        self.bench.made(version.digest.clone())?;
        self.images.add_version(&self.base.image, version, &map)?;
        self.bench.clear()?;
        Ok(Some(number))
    }
}
