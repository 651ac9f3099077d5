//! The audit log: who changed what. Each record has the hash of the one before in its own, so that
//! none can be changed, taken away or put in without all later ones being others.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which records are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditWanted {
    /// Only those after this number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// How many, at most; no more than 1,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditPage {
    /// By number.
    pub records: Vec<AuditRecord>,
    /// Where to go on, when there are more.
    pub next: Option<u64>,
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditRecord {
    /// Its number, from 1 on, without gaps.
    pub seq: u64,
    /// Unix time, in seconds.
    pub at: u64,
    /// Who it was.
    pub actor: String,
    /// What was called.
    pub call: String,
    /// Of what.
    pub target: String,
    /// What else is to be known.
    pub detail: String,
    /// SHA-256 over the record and the hash of the one before, in hexadecimal.
    pub hash: String,
}

/// What checking found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditChecked {
    /// How many records there are.
    pub records: u64,
    /// The hash of the last one, in hexadecimal: whoever keeps it elsewhere can tell later whether
    /// the log was rewritten.
    pub head: String,
    /// The first record that is not what it was.
    pub wrong_at: Option<u64>,
}
