//! A feed's metadata as its author has it: one directory, which is copied to servers as it is.
//!
//! ```text
//!   N.root.json           every root since the first; each is signed by the one before, too
//!   N.targets.json        what there is; those that the newest snapshot names, and older ones
//!   N.snapshot.json       which targets go together
//!   timestamp.json        which snapshot is the newest: the one file that is replaced
//!   N.root.draft.json     under way: signatures are missing, or what is published is not ready
//!   N.targets.draft.json  for it. No snapshot ever names a draft, and clients ask for none
//!   lock                  held while a process writes
//!
//!   draft_…  ──▶  draft  ──sign, sign──▶  complete  ──publish──▶  what clients see
//! ```
//! What must hold, so that a reader sees the old version or the new one at any moment, also after a
//! power cut: each file is durable before another names it, `timestamp.json` is the last but for a
//! root, and a root is put in place only when what is published is good under it. Where that cannot
//! be, because the old keys are lost, the root comes right before the timestamp: a client that falls
//! in between refuses, keeps what it believes, and gets on when the timestamp is there.
//!
//! The directory may have been on a stick that went from hand to hand. What is read is verified as
//! clients do it, from the first root on; that this is the right one, only people can tell.

mod draft;
mod name;
mod publish;
mod standing;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use goldleaf_host::{Dir, DirShelf, Lock, Shelf};
use serde::de::DeserializeOwned;

use crate::json::{Envelope, parse};
use crate::role::{AsRoot, Line, Meta, Root, Signed, Snapshot, Targets, Timestamp};
use crate::update::{SMALL_MAX, TARGETS_MAX};
use crate::{Role, TrustError};

use name::{Name, TIMESTAMP};
pub use publish::{Published, RootWaits};
pub use standing::{Side, Standing};

const DAY: Duration = Duration::from_secs(86_400);

/// How long a timestamp is believed. It bounds for how long a server can hold back what is new, and
/// a week lets an online machine be away over a long weekend.
pub const TIMESTAMP_LIFE: Duration = DAY.saturating_mul(7);
/// How long a snapshot is believed. The same machine renews it; it need not change as often.
pub const SNAPSHOT_LIFE: Duration = DAY.saturating_mul(30);
/// How long targets are believed when nobody says otherwise: a quarter, because people must meet to
/// sign the next ones.
pub const TARGETS_LIFE: Duration = DAY.saturating_mul(90);
/// How long a root is believed when nobody says otherwise: once a year those who hold keys see
/// whether they still do.
pub const ROOT_LIFE: Duration = DAY.saturating_mul(365);

/// A feed's directory of metadata.
pub struct Repository {
    shelf: Arc<dyn Shelf>,
    /// All of them, the first one first.
    roots: Vec<Signed<Root>>,
}

/// What clients see.
struct Current {
    timestamp: Signed<Timestamp>,
    snapshot: Signed<Snapshot>,
    targets: Signed<Targets>,
}

impl Repository {
    /// Opens a directory, which may be empty. Errors as [`on`](Self::on).
    pub fn open(dir: Arc<dyn Dir>) -> Result<Self, TrustError> {
        Self::on(Arc::new(DirShelf::new(dir)))
    }

    /// Opens a shelf, which may be empty, and verifies its roots as a client that knows the first
    /// one does (section 5.3). [`TrustError::Missing`] when one of them is not there.
    pub fn on(shelf: Arc<dyn Shelf>) -> Result<Self, TrustError> {
        let mut repository = Self { shelf, roots: Vec::new() };
        repository.reload()?;
        Ok(repository)
    }

    /// Whose metadata it is; `None` before the first root is signed.
    pub fn line(&self) -> Option<&Line> {
        self.roots.last().map(|root| &root.head.line)
    }

    /// What the newest root in place says.
    pub fn root(&self) -> Option<&Root> {
        self.roots.last().map(|root| &root.body)
    }

    /// The targets that clients see; `None` before the first are published. They are verified, but
    /// may have expired.
    pub fn targets(&self) -> Result<Option<Targets>, TrustError> {
        Ok(self.published()?.map(|current| current.targets.body))
    }

    fn reload(&mut self) -> Result<(), TrustError> {
        self.roots.clear();
        let newest = self.highest(|name| name.role == Role::Root && !name.is_draft)?;
        for version in 1..=newest {
            let bytes = self.read(Name::of(Role::Root, version))?;
            let root = match self.roots.last() {
                Some(before) => before.followed_by(&bytes)?,
                None => Signed::read(Role::Root, &bytes, None)?,
            };
            if root.head.version != version {
                let found = root.head.version;
                return Err(TrustError::RootVersion { expected: version, found });
            }
            self.roots.push(root);
        }
        Ok(())
    }

    /// Keeps other processes from writing, and sees what they wrote before.
    fn hold(&mut self) -> Result<Box<dyn Lock>, TrustError> {
        let lock = self.shelf.try_lock("lock").map_err(io_error("locking the metadata"))?;
        self.reload()?;
        lock.ok_or(TrustError::Busy)
    }

    fn newest(&self) -> Result<&Signed<Root>, TrustError> {
        self.roots.last().ok_or(TrustError::NotBegun)
    }

    /// What clients see; `None` before anything is published.
    fn published(&self) -> Result<Option<Current>, TrustError> {
        let timestamp = match self.read_named(TIMESTAMP, SMALL_MAX) {
            Err(TrustError::Missing(_)) => return Ok(None),
            bytes => self.vouched::<Timestamp>(Role::Timestamp, &bytes?)?,
        };
        let meta = timestamp.body.snapshot().ok_or(TrustError::RoleMissing(Role::Snapshot))?;
        let snapshot: Signed<Snapshot> = self.named(Role::Snapshot, meta)?;
        let meta = snapshot.body.meta.get("targets.json");
        let meta = meta.ok_or(TrustError::RoleMissing(Role::Targets))?;
        let targets = self.named(Role::Targets, meta)?;
        Ok(Some(Current { timestamp, snapshot, targets }))
    }

    /// Metadata that other metadata names.
    fn named<T>(&self, role: Role, meta: &Meta) -> Result<Signed<T>, TrustError>
    where
        T: DeserializeOwned + AsRoot,
    {
        let name = Name::of(role, meta.version);
        let bytes = self.read(name)?;
        meta.check(&name.to_string(), &bytes)?;
        let signed: Signed<T> = self.vouched(role, &bytes)?;
        match signed.head.version == meta.version {
            true => Ok(signed),
            false => Err(TrustError::MixAndMatch {
                role,
                expected: meta.version,
                found: signed.head.version,
            }),
        }
    }

    /// Metadata that the newest root vouches for, or an older one: after a rotation it is what the
    /// author goes on from.
    fn vouched<T>(&self, role: Role, bytes: &[u8]) -> Result<Signed<T>, TrustError>
    where
        T: DeserializeOwned + AsRoot,
    {
        let read = |root: &Signed<Root>| Signed::<T>::read(role, bytes, Some(&root.body));
        let newest = self.newest()?;
        let first = read(newest);
        let older = || self.roots.iter().rev().skip(1).find_map(|root| read(root).ok());
        let signed = first.or_else(|error| older().ok_or(error))?;
        signed.head.line.must_be(&newest.head.line)?;
        Ok(signed)
    }

    fn read(&self, name: Name) -> Result<Vec<u8>, TrustError> {
        self.read_named(&name.to_string(), limit(name.role))
    }

    fn read_named(&self, name: &str, limit: u64) -> Result<Vec<u8>, TrustError> {
        self.shelf.read(name, limit).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => TrustError::Missing(name.into()),
            io::ErrorKind::InvalidData => TrustError::TooLarge { what: name.into(), limit },
            _ => TrustError::Io { what: "reading metadata", source },
        })
    }

    /// The versioned files that are there.
    fn names(&self) -> Result<Vec<Name>, TrustError> {
        let names = self.shelf.list().map_err(io_error("listing metadata"))?;
        Ok(names.iter().filter_map(|name| Name::parse(name)).collect())
    }

    /// The highest version among some files; 0 when there is none.
    fn highest(&self, which: impl Fn(&Name) -> bool) -> Result<u64, TrustError> {
        let versions = self.names()?.into_iter().filter(which).map(|name| name.version);
        Ok(versions.max().unwrap_or(0))
    }

    /// A version of a role that no file has yet, be it a draft.
    fn unused(&self, role: Role) -> Result<u64, TrustError> {
        after(self.highest(|name| name.role == role)?, || role.to_string())
    }
}

/// One more, where there is one.
fn after(version: u64, what: impl FnOnce() -> String) -> Result<u64, TrustError> {
    version.checked_add(1).ok_or_else(|| TrustError::LastVersion(what()))
}

/// The longest file of a role that a client reads, in bytes.
fn limit(role: Role) -> u64 {
    if role == Role::Targets { TARGETS_MAX } else { SMALL_MAX }
}

/// Whether enough of a role's keys signed some metadata.
fn vouches(root: &Root, role: Role, bytes: &[u8]) -> bool {
    let envelope = parse::<Envelope<'_>>(role.name(), bytes);
    envelope.and_then(|envelope| root.verify(role, &envelope)).is_ok()
}

fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> TrustError {
    move |source| TrustError::Io { what, source }
}
