//! Directory objects and the package table.

use std::collections::BTreeMap;

use goldleaf_store::{Digest, Store};

use super::ManifestError;
use super::codec::{Decoder, Encoder};
use super::entry_codec::{decode_entry, encode_entry};
use super::outline::Outline;
use crate::{Content, ContentExtent, Entry, EntryNode};

const DIRECTORY: [u8; 4] = *b"GLD1";
const PACKAGES: [u8; 4] = *b"GLP1";
const HAS_ENTRY: u8 = 1;
const HAS_BELOW: u8 = 2;

/// All that a layer says below a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Subtree {
    pub object: Digest,
    pub totals: Totals,
}

/// What a subtree has, the path itself not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    pub entries: u64,
    /// Blocks of content that the entries name.
    pub blocks: u64,
}

impl Totals {
    /// Saturating, so that a damaged total is found to be wrong and not to be small.
    pub fn add(&mut self, other: Totals) {
        self.entries = self.entries.saturating_add(other.entries);
        self.blocks = self.blocks.saturating_add(other.blocks);
    }

    pub fn of_entry(entry: &Entry) -> Self {
        let extents = content_of(entry).map(|content| content.extents.as_slice());
        Self { entries: 1, blocks: blocks(extents.unwrap_or_default()) }
    }
}

/// What an entry of a directory object is read as.
pub trait FromObject: Sized {
    fn read(from: &mut Decoder) -> Result<Self, ManifestError>;

    fn totals(&self) -> Totals;

    /// Whether it is anything but a directory.
    fn hides_below(&self) -> bool;
}

impl FromObject for Entry {
    fn read(from: &mut Decoder) -> Result<Self, ManifestError> {
        decode_entry(from)
    }

    fn totals(&self) -> Totals {
        Totals::of_entry(self)
    }

    fn hides_below(&self) -> bool {
        !self.is_directory()
    }
}

impl FromObject for Outline {
    fn read(from: &mut Decoder) -> Result<Self, ManifestError> {
        Outline::read(from)
    }

    fn totals(&self) -> Totals {
        Totals { entries: 1, blocks: blocks(&self.extents) }
    }

    fn hides_below(&self) -> bool {
        !self.is_directory
    }
}

/// The content that an entry names.
pub(super) fn content_of(entry: &Entry) -> Option<&Content> {
    match &entry.node {
        EntryNode::Node { content, .. } => Some(content),
        EntryNode::Whiteout => None,
    }
}

fn blocks(extents: &[ContentExtent]) -> u64 {
    extents.iter().fold(0, |sum: u64, run| sum.saturating_add(run.blocks))
}

/// One name of a directory object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Child<E = Entry> {
    pub name: Vec<u8>,
    pub entry: Option<E>,
    pub below: Option<Subtree>,
}

impl<E: FromObject> Child<E> {
    fn totals(&self) -> Totals {
        let mut totals = self.entry.as_ref().map(E::totals).unwrap_or_default();
        totals.add(self.below.map(|below| below.totals).unwrap_or_default());
        totals
    }
}

/// Writes a directory object child by child, in the order of names.
pub(super) struct DirectoryWriter {
    count: u64,
    children: Encoder,
    pub totals: Totals,
}

impl DirectoryWriter {
    pub fn new() -> Self {
        Self { count: 0, children: Encoder::default(), totals: Totals::default() }
    }

    pub fn push(&mut self, name: &[u8], entry: Option<&Entry>, below: Option<Subtree>) {
        let out = &mut self.children;
        out.bytes(name);
        let flags = if entry.is_some() { HAS_ENTRY } else { 0 };
        out.byte(flags | if below.is_some() { HAS_BELOW } else { 0 });
        if let Some(entry) = entry {
            encode_entry(out, entry);
            self.totals.add(Totals::of_entry(entry));
        }
        if let Some(below) = below {
            encode_subtree(out, &below);
            self.totals.add(below.totals);
        }
        self.count += 1;
    }

    /// The object; `None` when there is nothing in it.
    pub fn finish(self) -> Option<Vec<u8>> {
        let mut out = Encoder::tagged(DIRECTORY);
        out.int(self.count);
        out.0.extend_from_slice(&self.children.0);
        (self.count > 0).then_some(out.0)
    }
}

pub(super) fn encode_subtree(out: &mut Encoder, below: &Subtree) {
    out.hash(&below.object);
    out.int(below.totals.entries);
    out.int(below.totals.blocks);
}

pub(super) fn decode_subtree(from: &mut Decoder) -> Result<Subtree, ManifestError> {
    let object = from.hash()?;
    let totals = Totals { entries: from.int()?, blocks: from.int()? };
    if totals.entries == 0 {
        return Err(from.corrupt("entries below", 0));
    }
    Ok(Subtree { object, totals })
}

/// Reads a directory object and checks it against the totals of what names it.
pub(super) fn load<E: FromObject>(
    store: &Store,
    subtree: &Subtree,
) -> Result<Vec<Child<E>>, ManifestError> {
    let children = decode(subtree.object, &store.object(&subtree.object)?)?;
    let mut found = Totals::default();
    children.iter().for_each(|child: &Child<E>| found.add(child.totals()));
    if found != subtree.totals {
        return Err(ManifestError::Corrupt {
            object: subtree.object,
            place: "totals".into(),
            expected: format!("{:?}", subtree.totals),
            found: format!("{found:?}"),
        });
    }
    Ok(children)
}

pub(super) fn decode<E: FromObject>(
    object: Digest,
    bytes: &[u8],
) -> Result<Vec<Child<E>>, ManifestError> {
    let mut from = Decoder::tagged(object, bytes, DIRECTORY)?;
    let mut last: &[u8] = &[];
    let children = from.list(|from| {
        let name = from.bytes()?;
        if name <= last || !is_name(name) {
            let found = name.escape_ascii();
            return Err(from.corrupt("a file name above the last one", found));
        }
        last = name;
        let flags = from.byte()?;
        if !(1..=HAS_ENTRY | HAS_BELOW).contains(&flags) {
            return Err(from.corrupt("flags of a name", flags));
        }
        let entry = if flags & HAS_ENTRY != 0 { Some(E::read(from)?) } else { None };
        let below = if flags & HAS_BELOW != 0 { Some(decode_subtree(from)?) } else { None };
        Ok(Child { name: name.to_vec(), entry, below })
    })?;
    if children.is_empty() {
        return Err(from.corrupt("names", "none"));
    }
    from.end()?;
    Ok(children)
}

/// Whether bytes are one component of a path, by the rules of [`goldleaf_tree::GuestPath::join`].
fn is_name(name: &[u8]) -> bool {
    name.len() <= 255
        && name != b"."
        && name != b".."
        && !name.iter().any(|&byte| byte == b'/' || byte == 0)
}

/// How many entries each package owns.
pub(super) type Packages = BTreeMap<String, u64>;

pub(super) fn encode_packages(packages: &Packages) -> Vec<u8> {
    let mut out = Encoder::tagged(PACKAGES);
    out.int(packages.len() as u64);
    for (name, entries) in packages {
        out.bytes(name.as_bytes());
        out.int(*entries);
    }
    out.0
}

pub(super) fn load_packages(store: &Store, object: &Digest) -> Result<Packages, ManifestError> {
    let bytes = store.object(object)?;
    let mut from = Decoder::tagged(*object, &bytes, PACKAGES)?;
    let rows = from.list(|from| Ok((from.text()?, from.int()?)))?;
    if !rows.is_sorted_by(|one, next| one.0 < next.0) || rows.iter().any(|row| row.1 == 0) {
        return Err(from.corrupt("packages in order, each with entries", "others"));
    }
    from.end()?;
    Ok(rows.into_iter().collect())
}
