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

    /// Whether enough of a role's keys signed a message.
    pub(crate) fn verify(&self, role: Role, envelope: &Envelope<'_>) -> Result<(), TrustError> {
        let Tally { good, tried, has_unknown, threshold } = self.tally(role, envelope)?;
        match good.len() {
            found if found >= threshold => Ok(()),
            _ if has_unknown => Err(TrustError::SigAlgorithm(role)),
            0 if tried == 0 => Err(TrustError::SigMissing(role)),
            found => Err(TrustError::SigThreshold { role, found, threshold }),
        }
    }

    /// Which of a role's keys signed a message. A key counts once, under however many names it is
    /// listed.
    pub(crate) fn tally(
        &self,
        role: Role,
        envelope: &Envelope<'_>,
    ) -> Result<Tally<'_>, TrustError> {
        let message = envelope.signed.get().as_bytes();
        let keys = self.of(role).ok_or(TrustError::RoleMissing(role))?;
        let threshold = keys.threshold.max(1);
        let mut tally = Tally { good: Vec::new(), tried: 0, has_unknown: false, threshold };
        for signature in &envelope.signatures {
            let listed = keys.keyids.contains(&signature.keyid);
            let Some((id, key)) = self.keys.get_key_value(&signature.keyid).filter(|_| listed)
            else {
                continue;
            };
            if tally.good.iter().any(|(_, good)| *good == key) {
                continue;
            }
            tally.tried += 1;
            match key.verify(message, &signature.sig) {
                Verdict::Good => tally.good.push((id, key)),
                Verdict::Bad => {}
                Verdict::Unknown => tally.has_unknown = true,
            }
        }
        Ok(tally)
    }
}

/// What came of the signatures of some metadata.
pub(crate) struct Tally<'a> {
    /// Keys with a good signature.
    pub good: Vec<(&'a KeyId, &'a Key)>,
    /// Signatures in the name of a key that may.
    pub tried: usize,
    /// Whether one of those is of a kind that nobody here knows.
    pub has_unknown: bool,
    /// How many good ones it takes.
    pub threshold: usize,
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

impl Target {
    /// The target that has this content, named by SHA-256 and by BLAKE3: the one is what TUF's
    /// other clients know, the other what Goldleaf's stores name content by.
    pub fn of(bytes: &[u8], custom: serde_json::Value) -> Self {
        let hashes = DIGESTS.map(|(name, digest)| (name.into(), digest(bytes)));
        Self { length: bytes.len() as u64, hashes: hashes.into(), custom }
    }

    /// Whether some content is this target's (section 5.7.2). `what` names it in errors:
    /// [`TrustError::Length`], [`TrustError::HashMismatch`] when any digest is another, and
    /// [`TrustError::Malformed`] when the author named none that this release knows.
    pub fn check(&self, what: &str, bytes: &[u8]) -> Result<(), TrustError> {
        let (expected, found) = (self.length, bytes.len() as u64);
        if expected != found {
            return Err(TrustError::Length { what: what.into(), expected, found });
        }
        let known = DIGESTS.iter().filter_map(|(name, digest)| {
            self.hashes.get(*name).map(|expected| *expected == digest(bytes))
        });
        let known: Vec<bool> = known.collect();
        match (known.is_empty(), known.iter().all(|is_same| *is_same)) {
            (true, _) => Err(TrustError::malformed(what, "no digest of it is of a known kind")),
            (false, true) => Ok(()),
            (false, false) => Err(TrustError::HashMismatch { what: what.into() }),
        }
    }
}

type Digester = fn(&[u8]) -> String;

/// The digests that targets are named by, as hexadecimal digits.
const DIGESTS: [(&str, Digester); 2] = [
    ("sha256", |bytes| hex(&Sha256::digest(bytes))),
    ("blake3", |bytes| blake3::hash(bytes).to_hex().to_string()),
];

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
        let signed = Self::decode(role, &envelope, bytes)?;
        if let Some(root) = signed.body.as_root() {
            root.verify(role, &envelope)?;
        }
        Ok(signed)
    }

    /// What metadata of a role says, whoever signed it: for authors, who complete it.
    pub fn unverified(role: Role, bytes: &[u8]) -> Result<Self, TrustError>
    where
        T: AsRoot,
    {
        Self::decode(role, &parse(role.name(), bytes)?, bytes)
    }

    fn decode(role: Role, envelope: &Envelope<'_>, bytes: &[u8]) -> Result<Self, TrustError>
    where
        T: AsRoot,
    {
        let name = role.name();
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

impl Signed<Root> {
    /// The root that follows this one (section 5.3): signed by its own keys and by this one's, of
    /// the same line, and one higher.
    pub fn followed_by(&self, bytes: &[u8]) -> Result<Self, TrustError> {
        let version = self.head.version.saturating_add(1);
        let unsigned_by = |side| {
            move |error| match error {
                TrustError::SigMissing(_) | TrustError::SigThreshold { .. } => {
                    TrustError::RootRotation { version, side }
                }
                other => other,
            }
        };
        let next = Self::read(Role::Root, bytes, None).map_err(unsigned_by("its own keys"))?;
        Self::read(Role::Root, bytes, Some(&self.body)).map_err(unsigned_by("the root before"))?;
        next.head.line.must_be(&self.head.line)?;
        if next.head.version != version {
            let found = next.head.version;
            return Err(TrustError::RootVersion { expected: version, found });
        }
        Ok(next)
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
