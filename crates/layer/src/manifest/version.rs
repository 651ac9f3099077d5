//! Version objects.

use goldleaf_store::Digest;

use super::ManifestError;
use super::codec::{Decoder, Encoder};
use super::directory::{Subtree, Totals, decode_subtree, encode_subtree};
use super::entry_codec::{decode_entry, encode_entry};
use crate::{Entry, Kind};

const VERSION: [u8; 4] = *b"GLV1";

/// Entries that a layer may have: enough for any desktop, and a bound for what a layer from
/// elsewhere can cost.
pub const ENTRIES_MAX: u64 = 64 << 20;

/// How much a layer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Entries, whiteouts included.
    pub entries: u64,
    /// Bytes of content in whole blocks; a file with several names counts once a name.
    pub content_bytes: u64,
    /// Packages that own entries.
    pub packages: u64,
}

/// What one version of a layer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Kind of the layer.
    pub kind: Kind,
    /// When it was made, in seconds since 1970-01-01T00:00:00Z.
    pub created: u64,
    /// The version that it was made from.
    pub parent: Option<Digest>,
    /// Why it was made, in words.
    pub cause: String,
    /// Objects with merge records, in the order of the merge handlers.
    pub records: Vec<Digest>,
    /// How much it has.
    pub counts: Counts,
    pub(super) packages: Option<Digest>,
    pub(super) root_entry: Option<Entry>,
    pub(super) root: Option<Subtree>,
}

impl Version {
    /// The objects that it names beside its directories: merge records, the table of packages.
    pub fn side_objects(&self) -> Vec<Digest> {
        self.records.iter().copied().chain(self.packages).collect()
    }

    pub(super) fn empty(kind: Kind) -> Self {
        Self {
            kind,
            created: 0,
            parent: None,
            cause: String::new(),
            records: Vec::new(),
            counts: Counts::default(),
            packages: None,
            root_entry: None,
            root: None,
        }
    }

    pub(super) fn totals(&self) -> Totals {
        let mut totals = self.root_entry.as_ref().map(Totals::of_entry).unwrap_or_default();
        totals.add(self.root.map(|root| root.totals).unwrap_or_default());
        totals
    }

    /// Sets the counts from what the version names.
    pub(super) fn count(&mut self, packages: u64) {
        let totals = self.totals();
        let content_bytes = totals.blocks.saturating_mul(goldleaf_block::BLOCK_SIZE);
        self.counts = Counts { entries: totals.entries, content_bytes, packages };
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::tagged(VERSION);
        out.byte(kind_number(self.kind));
        out.int(self.created);
        out.option(self.parent.as_ref(), Encoder::hash);
        out.bytes(self.cause.as_bytes());
        out.int(self.records.len() as u64);
        self.records.iter().for_each(|record| out.hash(record));
        out.option(self.packages.as_ref(), Encoder::hash);
        out.int(self.counts.entries);
        out.int(self.totals().blocks);
        out.int(self.counts.packages);
        out.option(self.root_entry.as_ref(), encode_entry);
        out.option(self.root.as_ref(), encode_subtree);
        out.0
    }

    pub(super) fn decode(object: Digest, bytes: &[u8]) -> Result<Self, ManifestError> {
        let mut from = Decoder::tagged(object, bytes, VERSION)?;
        let number = from.byte()?;
        let kind = KINDS.iter().find(|kind| kind_number(**kind) == number);
        let kind = *kind.ok_or_else(|| from.corrupt("a kind of layer", number))?;
        let mut version = Self::empty(kind);
        version.created = from.int()?;
        version.parent = from.option(Decoder::hash)?;
        version.cause = from.text()?;
        version.records = from.list(Decoder::hash)?;
        version.packages = from.option(Decoder::hash)?;
        let stated = Totals { entries: from.int_to(ENTRIES_MAX)?, blocks: from.int()? };
        let packages = from.int_to(stated.entries)?;
        version.root_entry = from.option(decode_entry)?;
        version.root = from.option(decode_subtree)?;
        let found = version.totals();
        if found != stated || version.packages.is_some() != (packages > 0) {
            let stated = format!("{stated:?} and {packages} packages");
            return Err(from.corrupt(stated, format!("{found:?}")));
        }
        from.end()?;
        version.count(packages);
        Ok(version)
    }
}

const KINDS: [Kind; 5] = [Kind::Apps, Kind::UserApps, Kind::UserData, Kind::Local, Kind::Identity];

fn kind_number(kind: Kind) -> u8 {
    match kind {
        Kind::Apps => 0,
        Kind::UserApps => 1,
        Kind::UserData => 2,
        Kind::Local => 3,
        Kind::Identity => 4,
    }
}
