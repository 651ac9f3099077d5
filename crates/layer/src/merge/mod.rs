//! Merge handlers: files that the image, apps layers and the user share.
//!
//! `/etc/passwd` or `/var/lib/dpkg/status` cannot belong to one layer. A layer holds *records*
//! about such a file instead: each says what one key (an account, a package, a line) is to be, what
//! it was in the stack below when that was recorded, and which layer it belongs to. Composing a
//! stack applies the records of its layers in order, each layer onto the result of those below it;
//! no layer needs an old image to be merged.
//!
//! ```text
//!   below ──┐ diff                      apply ┌── below, today
//!           ├──────▶ records (in layers) ─────┤
//!   after ──┘                                 └─▶ files · removed · dormant · notes
//! ```
//!
//! The rule of every handler, for a key whose value below is `now`: equal to the record, nothing;
//! equal to the record's ancestor, the record is written; anything else is a conflict, settled by
//! the handler's own table and noted. A record that cannot be written is returned as *dormant*: it
//! stays in its layer, so that nothing of the user's is lost.
//!
//! What a round trip does not keep, in all handlers: owner and mode of a shared file (the stack's
//! hold), the order of what is added, comments that a session adds, second entries for one key, and
//! the difference between an absent file and one without entries. A file that a session deleted
//! says nothing, unless its handler says otherwise.
//!
//! Everything here parses bytes that a guest wrote: time is linear (up to sorting), memory is a
//! small multiple of the input, and [`FILE_MAX`] bounds the input.

pub mod accounts;
pub mod derived;
pub mod dpkg;
mod items;
mod lines;

use std::collections::{BTreeMap, BTreeSet};

use goldleaf_tree::GuestPath;
use serde::{Deserialize, Serialize};

use crate::{Digest, Kind};

/// The largest shared file that is merged: a status file of every package in Debian is 70 MB.
pub const FILE_MAX: usize = 96 << 20;

/// Type bits of `st_mode` that make a [`FileState`] a symbolic link.
pub const MODE_LINK: u16 = 0o120000;

/// A shared file, or a symbolic link among them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileState {
    /// Content; of a symbolic link its target.
    pub bytes: Vec<u8>,
    /// Lower 12 bits of `st_mode`; with [`MODE_LINK`] set this is a symbolic link.
    pub mode: u16,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
}

impl FileState {
    /// A file of root's with this content.
    pub fn file(bytes: impl Into<Vec<u8>>, mode: u16) -> Self {
        Self { bytes: bytes.into(), mode, uid: 0, gid: 0 }
    }

    /// A symbolic link of root's.
    pub fn link(target: impl Into<Vec<u8>>) -> Self {
        Self { bytes: target.into(), mode: MODE_LINK | 0o777, uid: 0, gid: 0 }
    }

    /// Whether it is a symbolic link.
    pub fn is_link(&self) -> bool {
        self.mode & 0o170000 == MODE_LINK
    }
}

/// The files that one handler merges jointly; a path that is missing is absent in the guest.
pub type FileSet = BTreeMap<GuestPath, FileState>;

/// What a layer says about one key of a shared file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Record {
    /// The handler that made it: [`MergeHandler::name`].
    pub handler: String,
    /// What it is about, such as `user:redis` or `status:redis-server:amd64`.
    pub key: String,
    /// The layer that it belongs to.
    pub layer: Kind,
    /// The package that it belongs to (`name` or `name:arch`), if any.
    pub package: Option<String>,
    /// Digest of the key's value below when this was recorded; `None` when there was none.
    pub ancestor: Option<Digest>,
    /// The key's value; `None` says that the key is gone.
    pub value: Option<Vec<u8>>,
}

/// What a handler must be told to tell whose a change is.
pub struct DiffContext<'a> {
    /// The package whose installation made a system account or group of that name.
    pub package_of_account: &'a dyn Fn(&str) -> Option<String>,
    /// The package that owns a path.
    pub package_of_path: &'a dyn Fn(&GuestPath) -> Option<String>,
    /// Set when everything belongs to one layer: [`Kind::Apps`] when an apps layer is recorded.
    pub all_to: Option<Kind>,
}

impl Default for DiffContext<'_> {
    fn default() -> Self {
        Self { package_of_account: &|_| None, package_of_path: &|_| None, all_to: None }
    }
}

/// What a handler must be told to write records.
#[derive(Debug, Clone, Default)]
pub struct ApplyContext {
    /// Numeric ids that are in use in the stack below without an account, never to be given out.
    pub reserved_ids: BTreeSet<u32>,
}

/// What kind of thing a note reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoteKind {
    /// An id was given a new number.
    Renumbered,
    /// Two accounts have one number, and neither may move.
    Clash,
    /// Both sides changed a key; the text says which one holds.
    Conflict,
    /// A record could not be written, and waits in its layer.
    KeptAside,
    /// The stack below provides what the layer had installed.
    Superseded,
    /// A package lacks what it needs; `apt-get -f install` in the guest repairs it.
    Broken,
    /// The guest was in the middle of something that only the guest can finish.
    NotAtRest,
    /// A derived file may be out of date.
    Stale,
    /// It is in no layer: the next start has the image's state of it.
    Reset,
}

/// Something that a person should be able to see.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Note {
    /// What kind of thing.
    pub kind: NoteKind,
    /// The account, package or file that it is about.
    pub subject: String,
    /// A sentence.
    pub text: String,
}

impl Note {
    pub(crate) fn new(kind: NoteKind, subject: impl Into<String>, text: impl Into<String>) -> Self {
        Self { kind, subject: subject.into(), text: text.into() }
    }
}

/// What applying records gave.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Applied {
    /// The files that differ from below.
    pub files: FileSet,
    /// The files of below that are gone.
    pub removed: Vec<GuestPath>,
    /// Records that could not be written, and stay in their layer.
    pub dormant: Vec<Record>,
    /// What was settled and how.
    pub notes: Vec<Note>,
}

impl Applied {
    /// `below` with the changes made.
    pub fn onto(&self, below: &FileSet) -> FileSet {
        let mut files = below.clone();
        files.extend(self.files.iter().map(|(path, state)| (path.clone(), state.clone())));
        for path in &self.removed {
            files.remove(path);
        }
        files
    }

    /// Sets the content of a file, keeping below's attributes; `fresh` is for a file that below
    /// does not have.
    fn put(&mut self, below: &FileSet, path: &GuestPath, bytes: Vec<u8>, fresh: FileState) {
        let old = below.get(path);
        if old.is_some_and(|old| old.bytes == bytes) || (old.is_none() && bytes.is_empty()) {
            return;
        }
        let state = old.cloned().unwrap_or(fresh);
        self.files.insert(path.clone(), FileState { bytes, ..state });
    }

    fn keep_aside(&mut self, record: &Record, why: &str) {
        self.notes.push(Note::new(NoteKind::KeptAside, &record.key, why));
        self.dormant.push(record.clone());
    }
}

/// Why shared files could not be merged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MergeError {
    /// A file is larger than is merged.
    #[error("{path}: {len} bytes, at most {FILE_MAX} are merged")]
    TooLarge {
        /// The file.
        path: GuestPath,
        /// Its length in bytes.
        len: usize,
    },
    /// A value is not in its format.
    #[error("{place}: expected {expected}, found {found}")]
    Malformed {
        /// Where.
        place: String,
        /// What would have been right.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A tree could not be read.
    #[error(transparent)]
    Tree(#[from] goldleaf_tree::TreeError),
}

/// One kind of shared files.
pub trait MergeHandler: Sync {
    /// Its name in records.
    fn name(&self) -> &'static str;
    /// Whether it merges this path, jointly with the others that it owns.
    fn owns(&self, path: &GuestPath) -> bool;
    /// What `after` says differently from `below`, as records sorted by key.
    fn diff(
        &self,
        below: &FileSet,
        after: &FileSet,
        context: &DiffContext<'_>,
    ) -> Result<Vec<Record>, MergeError>;
    /// Writes the records of one layer onto the stack as it is now. Deterministic; independent of
    /// the order of the records. Conflicts never fail: the handler's table settles them.
    fn apply(
        &self,
        below: &FileSet,
        records: &[Record],
        context: &ApplyContext,
    ) -> Result<Applied, MergeError>;
}

/// All handlers, in the order in which they are to run: accounts first, because their result says
/// which number a name has.
pub fn handlers() -> &'static [&'static dyn MergeHandler] {
    &[&accounts::Accounts, &dpkg::Dpkg, &lines::Lines]
}

/// The handler that merges a path.
pub fn handler_of(path: &GuestPath) -> Option<&'static dyn MergeHandler> {
    handlers().iter().copied().find(|handler| handler.owns(path))
}

fn check_sizes(files: &FileSet) -> Result<(), MergeError> {
    match files.iter().find(|(_, state)| state.bytes.len() > FILE_MAX) {
        Some((path, state)) => {
            Err(MergeError::TooLarge { path: path.clone(), len: state.bytes.len() })
        }
        None => Ok(()),
    }
}

/// How a record stands to the value below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Below says the same already.
    Same,
    /// Below is as it was when this was recorded.
    Clean,
    /// Below says something else.
    Conflict,
}

fn standing(now: Option<&[u8]>, record: &Record) -> Standing {
    if now == record.value.as_deref() {
        Standing::Same
    } else if now.map(Digest::of) == record.ancestor {
        Standing::Clean
    } else {
        Standing::Conflict
    }
}

/// The differences between two maps from keys to values, as (key, before, after).
fn differences<'a, V: PartialEq>(
    below: &'a BTreeMap<String, V>,
    after: &'a BTreeMap<String, V>,
) -> Vec<(&'a str, Option<&'a V>, Option<&'a V>)> {
    let keys: BTreeSet<&String> = below.keys().chain(after.keys()).collect();
    keys.into_iter()
        .map(|key| (key.as_str(), below.get(key), after.get(key)))
        .filter(|(_, old, new)| old != new)
        .collect()
}

/// Bytes as a part of a key: control characters, `%` and what is no UTF-8 are written `%xx`.
fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '%' => text.push_str("%25"),
                c if c.is_control() => {
                    let mut buffer = [0; 4];
                    for byte in c.encode_utf8(&mut buffer).bytes() {
                        text.push_str(&format!("%{byte:02x}"));
                    }
                }
                c => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("%{byte:02x}"));
        }
    }
    text
}

/// A path of this program's own tables.
fn path(text: &str) -> GuestPath {
    GuestPath::parse(text).unwrap_or_default()
}
