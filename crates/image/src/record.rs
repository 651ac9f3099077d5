//! The records of the image registry, as they are stored: JSON, because a person may have to read
//! them after a disaster.

use goldleaf_block::{BlockCount, ByteLen, ByteOffset};
use serde::{Deserialize, Serialize};

/// `image.json`: an image and its versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// Format of this record.
    pub format: u32,
    /// Its name.
    pub name: String,
    /// Its versions, oldest first. The last one is current.
    pub versions: Vec<VersionRecord>,
    /// Number of the next data file; never reused.
    pub next_data: u32,
}

/// One version of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRecord {
    /// 1, 2, 3, …
    pub number: u32,
    /// BLAKE3 of the canonical form, in hexadecimal.
    pub digest: String,
    /// Length of the disk in blocks.
    pub blocks: BlockCount,
    /// Unix time of its making, in seconds.
    pub created_unix_secs: u64,
    /// Where it comes from, in words: the imported file, `edit of version 1`.
    pub cause: String,
    /// What the guest calls itself (`PRETTY_NAME` of os-release).
    pub os: String,
    /// Data files that its map names, in the order of source indexes.
    pub data: Vec<String>,
    /// Identity that the image carries: paths of keys and ids, with a leading slash.
    pub identity: Vec<String>,
    /// The ext4 volumes that layers go into, the root first.
    pub volumes: Vec<VolumeRecord>,
}

/// A volume of the disk and where the guest mounts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeRecord {
    /// Mount point, without a leading slash; empty for the root.
    pub mount: String,
    /// First byte on the disk.
    pub start: ByteOffset,
    /// Length.
    pub len: ByteLen,
}
