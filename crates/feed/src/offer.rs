//! Which versions a channel has, and for whom.

use std::collections::BTreeMap;

use goldleaf_trust::{Target, Targets};
use goldleaf_wire::DeltaRef;
use serde::{Deserialize, Serialize};

use crate::{FeedError, Object};

/// Most deltas to one version.
const DELTAS_MAX: usize = 64;

/// What the author says about a version of a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Its number: the highest is the newest, whatever is in it.
    pub version: u64,
    /// Unix time of its publication, in seconds.
    pub published_unix_secs: u64,
    /// For how many endpoints of a hundred it is meant.
    pub stage: u8,
    /// Deltas to its image.
    pub deltas: Vec<OfferedDelta>,
}

/// A delta for whoever has an older version of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfferedDelta {
    /// BLAKE3 of that version's canonical form, in hexadecimal digits.
    pub from: String,
    /// The delta.
    pub delta: Object,
}

impl OfferedDelta {
    /// Offers a delta to whoever has the image of that digest.
    pub fn new(from: String, delta: &DeltaRef) -> Self {
        Self { from, delta: Object { digest: delta.name.to_string(), len: delta.len } }
    }

    /// What brings it, by its name.
    pub fn reference(&self) -> Result<DeltaRef, FeedError> {
        Ok(DeltaRef { name: self.delta.name()?, len: self.delta.len })
    }
}

impl Offer {
    /// A target, offered like this.
    pub fn over(&self, target: &Target) -> Result<Target, FeedError> {
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
        let is_none = *name != target_name(offer.version)
            || offer.stage > 100
            || offer.deltas.len() > DELTAS_MAX;
        if is_none {
            return Err(FeedError::malformed(format!("target {name}"), "no version of a channel"));
        }
        offers.insert(offer.version, (offer, target.clone()));
    }
    Ok(offers)
}
