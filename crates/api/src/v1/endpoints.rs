//! The endpoints, as administrators see them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Desired, Report};

/// Whether an endpoint is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EndpointState {
    /// It waits for somebody to approve it.
    Pending,
    /// It is let in.
    Active,
    /// It is told nothing.
    Quarantined,
}

impl EndpointState {
    /// Its name, as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Quarantined => "quarantined",
        }
    }

    /// The state of a name.
    pub fn parse(name: &str) -> Option<Self> {
        let all = [Self::Pending, Self::Active, Self::Quarantined];
        all.into_iter().find(|state| state.as_str() == name)
    }
}

/// Which endpoints are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EndpointsWanted {
    /// Only those of a group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Only those in this state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<EndpointState>,
    /// Only those whose name has this in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search: Option<String>,
    /// Only those after this id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// How many, at most; no more than 1,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Endpoints {
    /// By id.
    pub endpoints: Vec<Endpoint>,
    /// Where to go on, when there are more.
    pub next: Option<String>,
}

/// An endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Endpoint {
    /// Its id.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// The group that it is in.
    pub group: String,
    /// Whether it is let in.
    pub state: EndpointState,
    /// Why it is not.
    pub because: Option<String>,
    /// Unix time of its enrolment, in seconds.
    pub enrolled_at: u64,
    /// Unix time of its last check-in, in seconds.
    pub seen_at: Option<u64>,
}

/// An endpoint with all that is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EndpointDetail {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// What it last told of itself.
    pub report: Option<Report>,
    /// What it is to have.
    pub desired: Desired,
}

/// One endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EndpointNamed {
    /// Its id.
    pub endpoint: String,
}

/// One endpoint, and a reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EndpointBecause {
    /// Its id.
    pub endpoint: String,
    /// Why.
    pub because: String,
}

/// One endpoint, and a group for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EndpointInGroup {
    /// Its id.
    pub endpoint: String,
    /// The group.
    pub group: String,
}
