//! `record.json`: the root record of a desktop. Everything that a desktop is hangs from this one
//! file, and every change of it is one durable move: old or new, never between.

use std::collections::BTreeMap;

use goldleaf_block::{BlockCount, ByteLen};
use goldleaf_layer::rules::SiteRules;
use goldleaf_layer::{Digest, Kind};
use serde::{Deserialize, Serialize};

use super::stack::StackVersions;
use crate::{Home, PlayerError};

/// Format of the records that this program writes.
pub const FORMAT: u32 = 1;

/// A desktop: one instance of a LivePC on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesktopRecord {
    /// Format of this record.
    pub format: u32,
    /// Raised at every write.
    pub generation: u64,
    /// Its name.
    pub name: String,
    /// The LivePC that it is an instance of.
    pub livepc: String,
    /// The image version to stay on, when `os` was rolled back; else the current one.
    pub pinned_image: Option<u32>,
    /// Versions of apps layers to stay on, by layer.
    pub pinned_apps: BTreeMap<String, u32>,
    /// The private layers.
    pub layers: BTreeMap<Kind, LayerHistory>,
    /// The session that was begun and is not filed yet.
    pub session: Option<SessionRecord>,
    /// Number of the next session; never reused.
    pub next_session: u64,
    /// What makes the virtual machine this one.
    pub hardware: HardwareIdentity,
    /// What happened at the last filing, for `status`.
    pub last: Option<FiledReport>,
}

impl DesktopRecord {
    /// The current versions of the private layers, by their digests.
    pub fn private_versions(&self) -> BTreeMap<Kind, Digest> {
        let current = |(&kind, history): (&Kind, &LayerHistory)| {
            history.current().map(|version| (kind, version.digest.0))
        };
        self.layers.iter().filter_map(current).collect()
    }

    /// What a session that was begun stands on, whatever is current by now.
    pub fn session_versions(
        &self,
        home: &Home,
        session: &SessionRecord,
    ) -> Result<StackVersions, PlayerError> {
        let image = crate::livepc::get(home, &self.livepc)?.image;
        Ok(StackVersions {
            edition: session.edition,
            image: (image, session.image_version),
            apps: session.apps.clone(),
            private: self.private_versions(),
            rules: session.rules.clone(),
        })
    }
}

/// The versions of one private layer, oldest first; the last one is current.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LayerHistory {
    /// The versions that are kept.
    pub versions: Vec<LayerVersion>,
    /// Number of the next version.
    pub next: u64,
}

impl LayerHistory {
    /// The current version; `None` for a layer that never held anything.
    pub fn current(&self) -> Option<&LayerVersion> {
        self.versions.last()
    }
}

/// One version of a private layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerVersion {
    /// 1, 2, 3, …
    pub number: u64,
    /// Digest of its version object in the private store.
    pub digest: Hex,
    /// Unix time of its making, in seconds.
    pub created_unix_secs: u64,
    /// Why it was made, in words.
    pub cause: String,
    /// Number of entries.
    pub entries: u64,
    /// Bytes of content that it names.
    pub bytes: ByteLen,
}

/// A digest in hexadecimal, for records that people read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hex(pub Digest);

impl TryFrom<String> for Hex {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Digest::parse(&text).map(Hex).ok_or_else(|| format!("not a digest: {text:?}"))
    }
}

impl From<Hex> for String {
    fn from(hex: Hex) -> String {
        hex.0.to_string()
    }
}

/// How far a session has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SessionState {
    /// The guest may be running, or was cut off: it goes on at the next start.
    Open,
    /// The guest shut down in order: to be filed.
    Ended,
}

/// A session: a log over a composed disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// Its number; names its directory.
    pub number: u64,
    /// How far it has come.
    pub state: SessionState,
    /// Digest of what was composed; names the composed disk.
    pub composed: Hex,
    /// The LivePC's edition underneath, where nothing was pinned to another version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edition: Option<u64>,
    /// Image version underneath.
    pub image_version: u32,
    /// Apps layers underneath: name and version.
    pub apps: Vec<(String, u32)>,
    /// The site's rules as they were when it began: a rule that changes meanwhile is for the next.
    pub rules: Option<SiteRules>,
    /// Unix time of its beginning, in seconds.
    pub started_unix_secs: u64,
    /// Starts in a row that did not reach an orderly end.
    pub failed_starts: u32,
}

/// What the guest sees of the machine it is on; the same for ever, or it would think itself moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HardwareIdentity {
    /// SMBIOS system UUID.
    pub uuid: String,
    /// Address of its network card.
    pub mac: String,
    /// Serial number of its disk.
    pub disk_serial: String,
}

/// What the last filing did, for `status` and the end of `start`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FiledReport {
    /// Unix time, in seconds.
    pub at_unix_secs: u64,
    /// Kept paths by layer.
    pub kept: BTreeMap<Kind, u64>,
    /// Dropped and shredded paths.
    pub dropped: u64,
    /// Content that was new, in blocks.
    pub new_blocks: BlockCount,
    /// What a person should know: conflicts, things kept aside.
    pub notes: Vec<String>,
}
