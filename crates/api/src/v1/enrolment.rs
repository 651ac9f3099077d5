//! How a machine becomes an endpoint.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::EndpointState;

/// The authorities.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Authorities {
    /// Whose server it is.
    pub organisation: String,
    /// Certificates in PEM, the one that signs now first.
    pub certificates: Vec<String>,
}

/// An endpoint that enrols.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Enrolling {
    /// The code.
    pub code: String,
    /// A certificate signing request in PEM (RFC 2986): the endpoint's key, and the proof that it
    /// has it. What else it asks for is ignored.
    pub csr: String,
    /// What people call the machine.
    pub name: String,
}

/// An endpoint whose certificate has expired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ComingBack {
    /// Which one it is.
    pub endpoint: String,
    /// A certificate signing request in PEM, of the key with which it enrolled.
    pub csr: String,
}

/// An endpoint whose certificate will expire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Renewing {
    /// A certificate signing request in PEM, of the key with which it enrolled.
    pub csr: String,
}

/// How enrolment stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Enrolled {
    /// The endpoint's id.
    pub endpoint: String,
    /// Whose server it is.
    pub organisation: String,
    /// Whether it is let in.
    pub state: EndpointState,
    /// Its certificate in PEM; none before it is let in.
    pub certificate: Option<String>,
    /// Unix time from which it should be renewed, in seconds.
    pub renew_at: Option<u64>,
    /// The authorities, in PEM.
    pub authorities: Vec<String>,
    /// Roots of trust that the organisation signs with, offline: what the endpoint believes from
    /// its enrolment on, and this server cannot change then.
    pub anchors: Vec<String>,
}

/// What an endpoint believes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Anchor {
    /// The first root of trust of a catalog or of a feed.
    pub root: String,
}

/// It is believed by those that enrol from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AnchorAdded {
    /// SHA-256 of it, in hexadecimal.
    pub sha256: String,
}
