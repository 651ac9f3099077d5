//! Which versions a channel has, and for whom.

use std::collections::BTreeMap;

use goldleaf_trust::{Target, Targets};
use serde::{Deserialize, Serialize};

use crate::FeedError;

/// What the author says about a version of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Its number: the highest is the newest, whatever is in it.
    pub version: u64,
    /// Unix time of its publication, in seconds.
    pub published_unix_secs: u64,
    /// For how many endpoints of a hundred it is meant.
    pub stage: u8,
}

impl Offer {
    /// A target, offered like this.
    pub fn over(self, target: &Target) -> Result<Target, FeedError> {
        let custom =
            serde_json::to_value(self).map_err(|error| FeedError::malformed("an offer", error))?;
        Ok(Target { custom, ..target.clone() })
    }

    /// Whether it is meant for an endpoint that drew `lot`, a number below 100. Who has a low lot
    /// is early every time, so that a version that is offered to more takes nobody back.
    pub fn is_for(&self, lot: u8) -> bool {
        lot < self.stage
    }
}

/// The name that a version has among a channel's targets.
pub fn target_name(version: u64) -> String {
    format!("v{version}")
}

/// The versions of a channel, by number.
pub fn offers(targets: &Targets) -> Result<BTreeMap<u64, (Offer, Target)>, FeedError> {
    let mut offers = BTreeMap::new();
    for (name, target) in &targets.targets {
        let offer = Offer::deserialize(&target.custom)
            .map_err(|error| FeedError::malformed(format!("target {name}"), error))?;
        if *name != target_name(offer.version) || offer.stage > 100 {
            return Err(FeedError::malformed(format!("target {name}"), "no version of a channel"));
        }
        offers.insert(offer.version, (offer, target.clone()));
    }
    Ok(offers)
}
