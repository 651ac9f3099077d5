//! What each role says (section 4).

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::json::{Envelope, parse, unique};
use crate::key::{Key, KeyId, Verdict, hex};
use crate::{Role, TrustError};

/// Whose metadata this is: signed into every role, so that what is good for one organisation and
/// feed is good for no other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Id of the organisation.
    pub organisation: String,
    /// Name of the feed: a LivePC and its channel.
    pub feed: String,
}

impl Line {
    /// Fails where it is another's.
    pub(crate) fn must_be(&self, expected: &Line) -> Result<(), TrustError> {
        let say = |line: &Line| format!("{}/{}", line.organisation, line.feed);
        match self == expected {
            true => Ok(()),
            false => Err(TrustError::WrongTarget { expected: say(expected), found: say(self) }),
        }
    }
}

/// What all roles begin with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    #[serde(rename = "_type")]
    pub kind: String,
    pub spec_version: String,
    pub version: u64,
    pub expires: jiff::Timestamp,
    #[serde(rename = "x-goldleaf-line")]
    pub line: Line,
}

/// A moment, from the time since 1970-01-01T00:00:00Z.
pub(crate) fn moment(since: Duration) -> Result<jiff::Timestamp, TrustError> {
    jiff::Timestamp::UNIX_EPOCH
        .checked_add(since)
        .map_err(|error| TrustError::malformed("a moment", error))
}

/// The keys of a role, and how many of them it takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleKeys {
    /// Names of keys.
    pub keyids: Vec<KeyId>,
    /// How many of them must sign, at least 1.
    pub threshold: usize,
}

/// `root`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// All keys, by name.
    #[serde(deserialize_with = "unique")]
    pub keys: BTreeMap<KeyId, Key>,
    /// The keys of each role, by its name.
    #[serde(deserialize_with = "unique")]
    pub roles: BTreeMap<String, RoleKeys>,
    /// Always true: files other than the timestamp have their version in their name.
    pub consistent_snapshot: bool,
}

impl Root {
    /// The keys of a role.
    pub fn of(&self, role: Role) -> Option<&RoleKeys> {
        self.roles.get(role.name())
    }

    /// The keys of a role with what they are, to see whether they were changed.
    pub(crate) fn known(&self, role: Role) -> Option<(Vec<Option<&Key>>, usize)> {
        let keys = self.of(role)?;
        Some((keys.keyids.iter().map(|id| self.keys.get(id)).collect(), keys.threshold))
    }

    /// Whether enough of a role's keys signed a message. A key counts once, under however many
    /// names it is listed.
    fn verify(&self, role: Role, envelope: &Envelope<'_>) -> Result<(), TrustError> {
        let message = envelope.signed.get().as_bytes();
        let keys = self.of(role).ok_or(TrustError::RoleMissing(role))?;
        let (mut good, mut tried, mut unknown) = (Vec::new(), 0, false);
        for signature in &envelope.signatures {
            let listed = keys.keyids.contains(&signature.keyid);
            let Some(key) = self.keys.get(&signature.keyid).filter(|_| listed) else { continue };
            if good.contains(&key) {
                continue;
            }
            tried += 1;
            match key.verify(message, &signature.sig) {
                Verdict::Good => good.push(key),
                Verdict::Bad => {}
                Verdict::Unknown => unknown = true,
            }
        }
        match good.len() {
            found if found >= keys.threshold.max(1) => Ok(()),
            _ if unknown => Err(TrustError::SigAlgorithm(role)),
            0 if tried == 0 => Err(TrustError::SigMissing(role)),
            found => Err(TrustError::SigThreshold { role, found, threshold: keys.threshold }),
        }
    }
}

/// A file of metadata as another role names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Its version.
    pub version: u64,
    /// Its length in bytes, where that is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    /// Digests, by the algorithm's name; `sha256` is checked.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "unique")]
    pub hashes: BTreeMap<String, String>,
}

impl Meta {
    /// A file of that version with this content.
    pub fn of(version: u64, bytes: &[u8]) -> Self {
        let hashes = [("sha256".into(), hex(&Sha256::digest(bytes)))].into();
        Self { version, length: Some(bytes.len() as u64), hashes }
    }

    pub(crate) fn check(&self, what: &str, bytes: &[u8]) -> Result<(), TrustError> {
        let found = bytes.len() as u64;
        if let Some(expected) = self.length.filter(|length| *length != found) {
            return Err(TrustError::Length { what: what.into(), expected, found });
        }
        match self.hashes.get("sha256") {
            Some(digest) if *digest != hex(&Sha256::digest(bytes)) => {
                Err(TrustError::HashMismatch { what: what.into() })
            }
            _ => Ok(()),
        }
    }
}

/// `timestamp`: the newest snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timestamp {
    /// `snapshot.json` and nothing else.
    #[serde(deserialize_with = "unique")]
    pub meta: BTreeMap<String, Meta>,
}

impl Timestamp {
    /// The snapshot that it names.
    pub fn snapshot(&self) -> Option<&Meta> {
        self.meta.get("snapshot.json")
    }
}

/// `snapshot`: the targets that go together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Metadata of targets, by file name without version.
    #[serde(deserialize_with = "unique")]
    pub meta: BTreeMap<String, Meta>,
}

/// `targets`: what there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Targets {
    /// By name. Names are ids of this format's own, never paths on an endpoint.
    #[serde(deserialize_with = "unique")]
    pub targets: BTreeMap<String, Target>,
}

/// One target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Length in bytes.
    pub length: u64,
    /// Digests, by the algorithm's name.
    #[serde(deserialize_with = "unique")]
    pub hashes: BTreeMap<String, String>,
    /// What else the author says about it.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub custom: serde_json::Value,
}

/// Metadata that was verified, with its bytes.
#[derive(Debug, Clone)]
pub(crate) struct Signed<T> {
    pub head: Head,
    pub body: T,
    pub bytes: Vec<u8>,
}

impl<T: serde::de::DeserializeOwned> Signed<T> {
    /// Reads metadata of a role that `root` must vouch for; without a root it vouches for itself.
    pub fn read(role: Role, bytes: &[u8], root: Option<&Root>) -> Result<Self, TrustError>
    where
        T: AsRoot,
    {
        let name = role.name();
        let envelope: Envelope<'_> = parse(name, bytes)?;
        if let Some(root) = root {
            root.verify(role, &envelope)?;
        }
        let signed = envelope.signed.get().as_bytes();
        let head: Head = parse(name, signed)?;
        if head.kind != name {
            return Err(TrustError::WrongType { expected: role, found: head.kind });
        }
        if !head.spec_version.starts_with("1.") {
            return Err(TrustError::malformed(name, "written for another version of TUF"));
        }
        let body: T = parse(name, signed)?;
        if let Some(root) = body.as_root() {
            check_root(root)?;
            root.verify(role, &envelope)?;
        }
        Ok(Self { head, body, bytes: bytes.to_vec() })
    }

    /// Fails when it is too old to be believed.
    pub fn fresh(&self, role: Role, now: jiff::Timestamp) -> Result<(), TrustError> {
        match self.head.expires > now {
            true => Ok(()),
            false => Err(TrustError::Freeze { role, expired: self.head.expires.to_string() }),
        }
    }
}

/// A root has every role with a threshold that it can reach, and keys under their own names.
fn check_root(root: &Root) -> Result<(), TrustError> {
    let wrong = |why: &str| Err(TrustError::malformed("root", why));
    for role in [Role::Root, Role::Timestamp, Role::Snapshot, Role::Targets] {
        let Some(keys) = root.of(role) else { return wrong("a role has no keys") };
        if keys.threshold == 0 {
            return wrong("a role that takes no signature");
        }
    }
    if !root.consistent_snapshot {
        return wrong("files must have their version in their name");
    }
    Ok(())
}

/// Whether metadata is a root, which vouches for itself too.
pub(crate) trait AsRoot {
    fn as_root(&self) -> Option<&Root> {
        None
    }
}

impl AsRoot for Root {
    fn as_root(&self) -> Option<&Root> {
        Some(self)
    }
}
impl AsRoot for Timestamp {}
impl AsRoot for Snapshot {}
impl AsRoot for Targets {}
