//! Updating: from asking what is new to what starts next.
//!
//! What is new is brought beside what runs, and its disks are composed, before one durable move makes
//! it what starts next. A person may put that move off; what is brought meanwhile waits for it.

use std::ops::ControlFlow;

use goldleaf_host::Progress;
use goldleaf_image::Arrived;

use super::subscription::{current, has_failed};
use super::{Arrival, Subscription};
use crate::{Home, PlayerError, cache, desktop};

/// Told while an image arrives how far it is; [`ControlFlow::Break`] ends the bringing.
pub type Told<'a> = dyn Fn(Arrived) -> ControlFlow<()> + Sync + 'a;

/// What became of a subscription, or would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Updated {
    /// The version of the channel that is wanted here; the one that stays where that has failed.
    pub version: u64,
    /// The newest version of the channel, which may be for others.
    pub newest: u64,
    /// Whether it was not what starts next, and is now.
    pub is_new: bool,
    /// Whether all of it is here.
    pub is_whole: bool,
    /// The version that would be wanted, but did not come up here.
    pub failed: Option<u64>,
    /// Unix time in seconds up to which a new version waits.
    pub deferred_until: Option<u64>,
    /// Bytes by which what has arrived is over its limit, and which nothing may take away.
    pub over_limit_bytes: u64,
}

impl Subscription {
    /// Asks what is new, and changes nothing else.
    pub fn look(&mut self, home: &Home) -> Result<Updated, PlayerError> {
        let wanted = self.refresh(home)?;
        let (name, version) = (&self.record.name, wanted.offer.version);
        let current = current(home, name)?;
        let failed = has_failed(home, name, version)?.then_some(version);
        let deferred_until = self.deferred_until(home).filter(|_| current.is_some());
        Ok(Updated {
            version: failed.map_or(version, |_| current.unwrap_or_default()),
            newest: wanted.newest,
            is_new: failed.is_none() && current != Some(version),
            is_whole: false,
            failed,
            deferred_until,
            over_limit_bytes: 0,
        })
    }

    /// Brings the version that is wanted as a whole, and makes it what starts next, unless that is
    /// put off. `told` may end it; nothing starts otherwise then, and what has arrived stays.
    pub fn update(
        mut self,
        home: &Home,
        progress: &dyn Progress,
        told: &Told<'_>,
    ) -> Result<Updated, PlayerError> {
        progress.at("asking what is new", 0, 0);
        let wanted = self.refresh(home)?;
        let name = self.record.name.clone();
        let failed = has_failed(home, &name, wanted.offer.version)?;
        let arrival = match failed {
            true => Arrival::of_current(home, &name)?,
            false => self.take(home, &wanted, progress)?,
        };
        let is_whole = arrival.fill(told)?;
        let deferred_until = self.deferred_until(home).filter(|_| arrival.is_new);
        let is_new = arrival.is_new && is_whole && deferred_until.is_none();
        if is_new {
            arrival.adopt(home)?;
        }
        let updated = Updated {
            version: arrival.version,
            newest: wanted.newest,
            is_new,
            is_whole,
            failed: failed.then_some(wanted.offer.version),
            deferred_until,
            over_limit_bytes: 0,
        };
        // What it replaced may go, once nothing holds it.
        drop((arrival, self));
        if !is_whole {
            return Ok(updated);
        }
        if is_new {
            // Only ahead of time: a start composes what this could not, or says why.
            let _ = desktop::compose_ahead(home, &name, progress);
        }
        Ok(Updated { over_limit_bytes: cache::make_room(home, 0)?, ..updated })
    }
}
