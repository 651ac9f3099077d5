//! Making metadata: for whoever holds keys.

use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::json::{SignatureEntry, canonical};
use crate::key::SigningKey;
use crate::role::{Head, Line, moment};
use crate::signatures::seal;
use crate::{Role, TrustError};

/// The version of TUF's specification that metadata follows.
const SPEC_VERSION: &str = "1.0.34";

/// Metadata before it is signed.
pub struct Draft<'a, T> {
    /// Whose.
    pub role: Role,
    /// One more than that of the one before.
    pub version: u64,
    /// From then on nobody believes it: time since 1970-01-01T00:00:00Z.
    pub expires: Duration,
    /// What it is for.
    pub line: &'a Line,
    /// What it says.
    pub body: &'a T,
}

#[derive(Serialize)]
struct Whole<'a, T> {
    #[serde(flatten)]
    head: Head,
    #[serde(flatten)]
    body: &'a T,
}

/// A file of metadata, signed by some keys.
pub fn sign<T: Serialize>(
    draft: &Draft<'_, T>,
    keys: &[&SigningKey],
) -> Result<Vec<u8>, TrustError> {
    let name = draft.role.name();
    let expires = moment(draft.expires)?;
    let head = Head {
        kind: name.into(),
        spec_version: SPEC_VERSION.into(),
        version: draft.version,
        expires,
        line: draft.line.clone(),
    };
    let failed = |error| TrustError::malformed(name, error);
    let signed = canonical(&Whole { head, body: draft.body }).map_err(failed)?;
    // JSON is text.
    let signed = String::from_utf8(signed).map_err(|error| TrustError::malformed(name, error))?;
    let entry = |key: &&SigningKey| SignatureEntry {
        keyid: key.public().id(),
        sig: key.sign(signed.as_bytes()),
    };
    let signatures: Vec<SignatureEntry> = keys.iter().map(entry).collect();
    seal(&RawValue::from_string(signed).map_err(failed)?, &signatures)
}
