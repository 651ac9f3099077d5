//! Old versions of what is subscribed to: whoever wants one again can bring it again.
//!
//! What something runs on stays, and the newest of each. Nobody may receive, start or roll back
//! meanwhile: what is subscribed to is locked, and so are the desktops that run it. One that a
//! session runs on is not disturbed: files go that it does not have open.

use std::collections::BTreeSet;

use goldleaf_host::Lock;
use goldleaf_image::{Forgetting, ImageError, Needs};

use super::subscription;
use crate::apps::AppsLayer;
use crate::desktop::Desktop;
use crate::in_use::InUse;
use crate::{Home, PlayerError};

/// A subscription that nothing else changes while this lives.
pub(crate) struct Followed {
    /// Its name, which is that of its image.
    pub name: String,
    /// Whether a session runs on its image.
    pub is_running: bool,
    _locks: Vec<Box<dyn Lock>>,
    _desktops: Vec<Desktop>,
}

/// All subscriptions that nobody works on, and the names of the others.
pub(crate) fn followed(home: &Home) -> Result<(Vec<Followed>, Vec<String>), PlayerError> {
    let (mut found, mut busy) = (Vec::new(), Vec::new());
    for record in subscription::list(home)? {
        match hold(home, &record.name)? {
            Some(followed) => found.push(followed),
            None => busy.push(record.name),
        }
    }
    Ok((found, busy))
}

fn hold(home: &Home, name: &str) -> Result<Option<Followed>, PlayerError> {
    let Some(own) = unless_busy(subscription::hold(home, name))? else { return Ok(None) };
    let mut locks = vec![own];
    match home.images_here()?.dir(name) {
        // Not received yet.
        Err(ImageError::Unknown(_)) => {}
        dir => {
            let lock = dir?.try_lock("lock").map_err(PlayerError::io("locking an image"))?;
            let Some(lock) = lock else { return Ok(None) };
            locks.push(lock);
        }
    }
    let (mut desktops, mut is_running) = (Vec::new(), false);
    for record in InUse::read(home)?.desktops_of(name) {
        match unless_busy(Desktop::open(home, &record.name))? {
            Some(desktop) => desktops.push(desktop),
            // Where a session is under way nothing but that session can hold it.
            None if record.session.is_some() => is_running = true,
            None => return Ok(None),
        }
    }
    Ok(Some(Followed { name: name.into(), is_running, _locks: locks, _desktops: desktops }))
}

fn unless_busy<T>(result: Result<T, PlayerError>) -> Result<Option<T>, PlayerError> {
    match result {
        Err(PlayerError::Busy { .. }) => Ok(None),
        other => other.map(Some),
    }
}

impl Followed {
    /// Forgets versions of the image that are not needed; only plans it unless `apply` is set. The
    /// content of the newest stays where `newest` is set.
    pub fn forget_image(
        &self,
        home: &Home,
        newest: bool,
        apply: bool,
    ) -> Result<Forgetting, PlayerError> {
        let images = home.images_here()?;
        let record = match images.record(&self.name) {
            Err(ImageError::Unknown(_)) => return Ok(Forgetting::default()),
            other => other?,
        };
        let versions = InUse::read(home)?.of_image(&record);
        let needs = Needs { versions, newest, is_read: self.is_running };
        Ok(match apply {
            true => images.forget(&self.name, &needs)?,
            false => images.plan_forget(&self.name, &needs)?,
        })
    }

    /// Versions of a layer that came with it and that nothing needs. To be asked while no filing
    /// may begin.
    pub fn old_versions(
        &self,
        home: &Home,
        layer: &AppsLayer,
    ) -> Result<BTreeSet<u32>, PlayerError> {
        let is_of = layer.name.strip_prefix(&self.name).is_some_and(|rest| rest.starts_with('.'));
        if !is_of || layer.image != self.name {
            return Ok(BTreeSet::new());
        }
        let needed = InUse::read(home)?.of_layer(layer);
        // The newest stays: numbers are not used again.
        let numbers = layer.versions.iter().rev().skip(1).map(|version| version.number);
        Ok(numbers.filter(|number| !needed.contains(number)).collect())
    }
}
