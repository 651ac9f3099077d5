//! Groups of endpoints, and the codes with which endpoints come into them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GroupNamed {
    /// Its name.
    pub group: String,
}

/// The groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Groups {
    /// By name.
    pub groups: Vec<Group>,
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// How many endpoints are in it.
    pub endpoints: u64,
}

/// A code that is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CodeWanted {
    /// The group into which an endpoint comes with it.
    pub group: String,
    /// For how many hours it is good, 24 at most; 24 where nothing is said.
    pub hours: Option<u32>,
    /// Whether somebody has to approve the endpoint then.
    pub approval: bool,
}

/// A code that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NewCode {
    /// What is given to `goldleaf enrol`. It is told only now.
    pub code: String,
    /// Unix time up to which it is good, in seconds.
    pub expires_at: u64,
}
