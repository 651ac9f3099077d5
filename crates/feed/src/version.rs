//! A version of a LivePC as it is published: all that an endpoint needs to run it, by digest.
//!
//! The number of a version is not in it: signed metadata gives it one, and may give the same version
//! two. So rolling back is publishing what was published before.

use goldleaf_block::{BlockCount, ByteLen, ByteOffset};
use goldleaf_store::Digest;
use goldleaf_trust::Target;
use serde::{Deserialize, Serialize};

use crate::FeedError;

/// Format of the versions that this program writes.
pub const FORMAT: u32 = 1;
/// Longest version that is read, in bytes.
pub const VERSION_MAX: u64 = 8 << 20;
/// Most layers of a LivePC.
const LAYERS_MAX: usize = 256;

/// A published version of a LivePC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LivePcVersion {
    /// Format of this record.
    pub format: u32,
    /// Name of the LivePC with its author.
    pub livepc: String,
    /// The golden image.
    pub image: PublishedImage,
    /// Apps layers, lowest first.
    pub layers: Vec<PublishedLayer>,
    /// The site's rules.
    pub rules: Option<String>,
    /// Memory of the virtual machine, in MiB.
    pub memory_mib: u32,
    /// Its processors.
    pub cpus: u32,
}

/// An object of the feed, by its BLAKE3 digest in hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Object {
    /// Its digest, which is its name.
    pub digest: String,
    /// Its length in bytes.
    pub len: u64,
}

/// A golden image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedImage {
    /// Its name with its author: the line that apps layers are made on.
    pub line: String,
    /// BLAKE3 of its canonical form, in hexadecimal digits.
    pub digest: String,
    /// Length of the disk in blocks.
    pub blocks: BlockCount,
    /// Unix time of its making, in seconds.
    pub created_unix_secs: u64,
    /// Where it comes from, in words.
    pub cause: String,
    /// What the guest calls itself.
    pub os: String,
    /// Identity that the image carries: paths.
    pub identity: Vec<String>,
    /// The volumes that layers go into, the root first.
    pub volumes: Vec<PublishedVolume>,
    /// The map of the disk.
    pub map: Object,
    /// What a guest reads when it starts, as far as that is known.
    pub profile: Option<Object>,
}

/// A volume of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedVolume {
    /// Mount point, without a leading slash; empty for the root.
    pub mount: String,
    /// First byte on the disk.
    pub start: ByteOffset,
    /// Length.
    pub len: ByteLen,
}

/// An apps layer: a pack of a store, which travels as a disk does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedLayer {
    /// Its name.
    pub name: String,
    /// Name of the image that it was made on.
    pub line: String,
    /// Digest of its version object.
    pub digest: String,
    /// Unix time of its making, in seconds.
    pub created_unix_secs: u64,
    /// Why it was made, in words.
    pub cause: String,
    /// Number of entries.
    pub entries: u64,
    /// Bytes of content that it names.
    pub bytes: u64,
    /// The store's pack that has all of it: its id.
    pub pack: String,
    /// Length of that pack's file, in bytes. As a disk it ends with zeroes to a whole block.
    pub pack_len: u64,
    /// The map of that file.
    pub map: Object,
}

impl Object {
    /// Its name.
    pub fn name(&self) -> Result<Digest, FeedError> {
        Digest::parse(&self.digest)
            .ok_or_else(|| FeedError::malformed("a version", "a name that is no digest"))
    }
}

impl LivePcVersion {
    /// As it is published.
    pub fn to_bytes(&self) -> Result<Vec<u8>, FeedError> {
        self.check()?;
        serde_json::to_vec_pretty(self).map_err(|error| FeedError::malformed("a version", error))
    }

    /// Reads a version that a signed target vouches for.
    pub fn parse(bytes: &[u8], target: &Target) -> Result<Self, FeedError> {
        target.check("a version", bytes)?;
        let version: Self = serde_json::from_slice(bytes)
            .map_err(|error| FeedError::malformed("a version", error))?;
        version.check()?;
        Ok(version)
    }

    fn check(&self) -> Result<(), FeedError> {
        let malformed = |why: &str| Err(FeedError::malformed("a version", why));
        if self.format != FORMAT {
            return malformed("written by another release");
        }
        if self.layers.len() > LAYERS_MAX {
            return malformed("more layers than a LivePC has");
        }
        for layer in &self.layers {
            layer.map.name()?;
            if layer.line != self.image.line {
                return Err(FeedError::Incompatible {
                    layer: layer.name.clone(),
                    made_on: layer.line.clone(),
                    image: self.image.line.clone(),
                });
            }
        }
        [Some(&self.image.map), self.image.profile.as_ref()]
            .into_iter()
            .flatten()
            .try_for_each(|object| object.name().map(|_| ()))
    }
}
