//! Entries that are passed on as they are stored.

use serde::de::{Error, Visitor};
use serde::{Deserializer, Serialize, Serializer};

use super::ManifestError;
use super::codec::{Decoder, Encoder};
use super::entry_codec::{decode_entry, encode_entry};
use crate::{ContentExtent, Entry, EntryNode};

/// An entry as it stands in a directory object, see the form there. Within messages it is so many
/// bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEntry(Vec<u8>);

impl From<&Entry> for StoredEntry {
    fn from(entry: &Entry) -> Self {
        let mut out = Encoder::default();
        encode_entry(&mut out, entry);
        Self(out.0)
    }
}

impl Serialize for StoredEntry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

/// For `serde(with)`: an [`Entry`] that is a [`StoredEntry`] within messages.
pub mod stored {
    use super::{Deserializer, Entry, Serialize, Serializer, StoredEntry, StoredVisitor};

    /// See the module.
    pub fn serialize<S: Serializer>(entry: &Entry, serializer: S) -> Result<S::Ok, S::Error> {
        StoredEntry::from(entry).serialize(serializer)
    }

    /// See the module.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Entry, D::Error> {
        deserializer.deserialize_bytes(StoredVisitor)
    }
}

struct StoredVisitor;

impl Visitor<'_> for StoredVisitor {
    type Value = Entry;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the bytes of a stored entry")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Entry, E> {
        let mut from = Decoder::piece(bytes);
        let entry = decode_entry(&mut from).map_err(E::custom)?;
        from.end().map_err(E::custom)?;
        Ok(entry)
    }
}

/// What has to be known of an entry that is passed on: it was read through, but not kept apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    /// The entry.
    pub entry: StoredEntry,
    /// Whether it makes its path a directory.
    pub is_directory: bool,
    /// The runs of its content.
    pub extents: Vec<ContentExtent>,
}

impl Outline {
    pub(super) fn read(from: &mut Decoder) -> Result<Self, ManifestError> {
        let begun = from.rest();
        let entry = decode_entry(from)?;
        let bytes = begun[..begun.len() - from.rest().len()].to_vec();
        Ok(Self::new(StoredEntry(bytes), entry))
    }

    pub(super) fn of(entry: Entry) -> Self {
        Self::new(StoredEntry::from(&entry), entry)
    }

    fn new(stored: StoredEntry, entry: Entry) -> Self {
        let is_directory = entry.is_directory();
        let extents = match entry.node {
            EntryNode::Node { content, .. } => content.extents,
            EntryNode::Whiteout => Vec::new(),
        };
        Self { entry: stored, is_directory, extents }
    }
}
