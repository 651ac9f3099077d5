//! What a person wants of the agent.

use serde::{Deserialize, Serialize};

use crate::home::{read_record, step, write_record};
use crate::{Home, PlayerError};

/// Format of the records that this program writes.
const FORMAT: u32 = 1;
const RECORD: &str = "agent.json";
/// How often it asks what is new, where nobody says otherwise, in seconds.
const EVERY_SECS: u64 = 4 * 3600;

/// `agent.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Format of this record.
    pub format: u32,
    /// How often it asks what is new, in seconds; a tenth more or less, so that not all endpoints
    /// ask at once.
    pub every_secs: u64,
    /// Bytes in a second that all it brings may take; no limit for `None`.
    pub rate: Option<u64>,
    /// Where it serves to neighbours what it has verified, as `ADDRESS:PORT`; nowhere for `None`.
    pub serve: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { format: FORMAT, every_secs: EVERY_SECS, rate: None, serve: None }
    }
}

impl Settings {
    /// Those of a home.
    pub fn read(home: &Home) -> Result<Self, PlayerError> {
        Ok(read_record(home.dir.as_ref(), RECORD)?.unwrap_or_default())
    }

    /// Makes them those of a home. An agent that runs is told by [`super::Request::Reload`].
    pub fn write(&self, home: &Home) -> Result<(), PlayerError> {
        step("agent.settings", || write_record(home.dir.as_ref(), RECORD, self))
    }
}
