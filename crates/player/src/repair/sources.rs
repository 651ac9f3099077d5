//! Where whole copies may be: every store and image of this home and of the homes that were named.

use std::path::Path;
use std::sync::Arc;

use goldleaf_host::{Dir, RealDir};
use goldleaf_image::Images;
use goldleaf_store::Store;

use super::sub;
use crate::{Home, PlayerError};

/// Opens a directory as a source: a home, or a store of packs.
pub fn source(path: &Path) -> Result<Arc<dyn Dir>, PlayerError> {
    let dir = RealDir::open(path);
    dir.map(|dir| dir as Arc<dyn Dir>)
        .map_err(PlayerError::io(format!("opening {}", path.display())))
}

/// Everything that whole copies are looked for in. Nothing of it is written.
pub(super) struct Sources {
    /// Stores: those named, then those of this home.
    pub stores: Vec<Store>,
    /// Images of those named.
    pub images: Vec<Images>,
}

impl Sources {
    pub fn open(home: &Home, named: &[Arc<dyn Dir>]) -> Result<Self, PlayerError> {
        let mut sources = Self { stores: Vec::new(), images: Vec::new() };
        for dir in named {
            if !sources.add(dir)? && !sources.add_store(Some(dir.clone()))? {
                let path = dir.path().map_or_else(String::new, |path| path.display().to_string());
                return Err(PlayerError::Refused(format!(
                    "{path} is neither a home of Goldleaf nor a store of packs"
                )));
            }
        }
        let images = sources.images.len();
        sources.add(&home.dir)?;
        sources.images.truncate(images);
        Ok(sources)
    }

    /// Adds a home; says whether it is one.
    fn add(&mut self, home: &Arc<dyn Dir>) -> Result<bool, PlayerError> {
        let images = sub(home, "images")?;
        let desktops = sub(home, "desktops")?;
        let mut is_home = self.add_store(sub(home, "public")?)?;
        is_home |= images.is_some() || desktops.is_some();
        self.images.extend(images.map(Images::new));
        let Some(desktops) = desktops else { return Ok(is_home) };
        for item in desktops.list().map_err(PlayerError::io("listing desktops"))? {
            if let Some(desktop) = sub(&desktops, &item.name)? {
                self.add_store(sub(&desktop, "private")?)?;
            }
        }
        Ok(is_home)
    }

    /// Adds a store; says whether there is a pack in it.
    fn add_store(&mut self, dir: Option<Arc<dyn Dir>>) -> Result<bool, PlayerError> {
        let Some(dir) = dir else { return Ok(false) };
        let store = Store::open(dir)?;
        let has_packs = !store.packs().is_empty();
        if has_packs {
            self.stores.push(store);
        }
        Ok(has_packs)
    }
}
