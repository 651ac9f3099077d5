//! LivePCs, and who gets them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One LivePC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LivePcNamed {
    /// Its name.
    pub livepc: String,
}

/// A LivePC, and where it is published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LivePcAt {
    /// Its name.
    pub livepc: String,
    /// `PLACE/feeds/FEED` or `PLACE/feeds/FEED/CHANNEL`.
    pub location: String,
    /// Other places that carry the same.
    #[serde(default)]
    pub mirrors: Vec<String>,
}

/// The LivePCs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LivePcs {
    /// By name.
    pub livepcs: Vec<LivePc>,
}

/// A LivePC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LivePc {
    /// Its name.
    pub name: String,
    /// Where it is published.
    pub location: String,
    /// Other places that carry the same.
    pub mirrors: Vec<String>,
    /// Who gets it: `everybody`, `group:NAME`, `endpoint:ID`.
    pub assigned: Vec<String>,
}

/// Who gets a LivePC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Assignment {
    /// The LivePC.
    pub livepc: String,
    /// `everybody`, `group:NAME` or `endpoint:ID`.
    pub scope: String,
}
