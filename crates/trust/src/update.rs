//! The client's workflow (section 5): from what is believed to what is new, one role after the
//! other, each believed as soon as it is verified.

use std::error::Error;
use std::time::Duration;

use crate::role::{Line, Meta, Signed, Snapshot, Targets, Timestamp, moment};
use crate::state::State;
use crate::{Role, TrustError};

/// How many new roots one update follows.
pub const ROOTS_MAX: u64 = 1024;
/// Longest root, timestamp and snapshot, in bytes.
pub(crate) const SMALL_MAX: u64 = 64 << 10;
/// Longest targets, in bytes.
pub(crate) const TARGETS_MAX: u64 = 10 << 20;

/// Where metadata comes from. It is believed for nothing.
pub trait Metadata {
    /// Up to one byte more than `limit` of a file; `None` when there is no such file.
    fn fetch(
        &self,
        name: &str,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, Box<dyn Error + Send + Sync>>;
}

/// What an update noticed that it did not stop for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A root under the number of the one that is believed, with other content: ignored.
    RootEquivocation(u64),
    /// A timestamp under the number of the one that is believed, with other content: ignored.
    TimestampEquivocation(u64),
    /// This root is believed now.
    NewRoot(u64),
}

/// What came of an update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Updated {
    /// Whether there is anything new among the targets.
    pub is_new: bool,
    /// What was noticed.
    pub events: Vec<Event>,
}

/// Brings what is believed up to date. `now` is what the endpoint's clock says; it is believed no
/// earlier than the last update that was accepted. `now` is time since 1970-01-01T00:00:00Z.
pub fn update(
    state: &mut State,
    source: &dyn Metadata,
    now: Duration,
) -> Result<Updated, TrustError> {
    let now = moment(now)?.max(state.believed().seen);
    let mut work = Work { state, source, now, events: Vec::new() };
    work.roots()?;
    work.timestamp()?;
    let snapshot = work.snapshot()?;
    let is_new = work.targets(&snapshot)?;
    let Work { state, events, .. } = work;
    if state.believed().seen < now {
        state.commit(|believed| believed.seen = now)?;
    }
    Ok(Updated { is_new, events })
}

struct Work<'a> {
    state: &'a mut State,
    source: &'a dyn Metadata,
    now: jiff::Timestamp,
    events: Vec<Event>,
}

impl Work<'_> {
    fn fetch(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, TrustError> {
        let fetched = self.source.fetch(name, limit);
        let fetched = fetched.map_err(|source| TrustError::Source { what: name.into(), source })?;
        match fetched {
            Some(bytes) if bytes.len() as u64 > limit => {
                Err(TrustError::TooLarge { what: name.into(), limit })
            }
            fetched => Ok(fetched),
        }
    }

    /// A file that must be there, as another role names it.
    fn named(&self, name: &str, meta: &Meta, limit: u64) -> Result<Vec<u8>, TrustError> {
        let limit = meta.length.map_or(limit, |length| length.min(limit));
        let name = format!("{}.{name}", meta.version);
        let bytes = self.fetch(&name, limit)?.ok_or_else(|| TrustError::Missing(name.clone()))?;
        meta.check(&name, &bytes)?;
        Ok(bytes)
    }

    /// Section 5.3.
    fn roots(&mut self) -> Result<(), TrustError> {
        let first = self.state.believed().root.clone();
        if let Some(bytes) = self.fetch(&format!("{}.root.json", first.head.version), SMALL_MAX)?
            && bytes != first.bytes
        {
            self.events.push(Event::RootEquivocation(first.head.version));
        }
        for step in 0.. {
            let version = self.state.believed().root_version().saturating_add(1);
            let Some(bytes) = self.fetch(&format!("{version}.root.json"), SMALL_MAX)? else {
                break;
            };
            if step == ROOTS_MAX {
                return Err(TrustError::RootCap(ROOTS_MAX));
            }
            self.root(&bytes)?;
        }
        self.state.believed().root.fresh(Role::Root, self.now)
    }

    fn root(&mut self, bytes: &[u8]) -> Result<(), TrustError> {
        let before = &self.state.believed().root;
        let (next, old) = (before.followed_by(bytes)?, &before.body);
        // Section 5.3.11: whoever had the old keys may have pushed the versions as high as they go.
        let is_other = |role| next.body.known(role) != old.known(role);
        let is_rotated = is_other(Role::Timestamp) || is_other(Role::Snapshot);
        self.state.commit(|believed| {
            believed.root = next;
            if is_rotated {
                (believed.timestamp, believed.snapshot) = (None, None);
            }
        })?;
        self.events.push(Event::NewRoot(self.state.believed().root_version()));
        Ok(())
    }

    /// Section 5.4.
    fn timestamp(&mut self) -> Result<(), TrustError> {
        const NAME: &str = "timestamp.json";
        let bytes = self.fetch(NAME, SMALL_MAX)?;
        let bytes = bytes.ok_or_else(|| TrustError::Missing(NAME.into()))?;
        let next: Signed<Timestamp> = self.read(Role::Timestamp, &bytes)?;
        let Some(snapshot) = next.body.snapshot() else {
            return Err(TrustError::RoleMissing(Role::Snapshot));
        };
        if let Some(known) = &self.state.believed().timestamp {
            not_older(Role::Timestamp, known.head.version, next.head.version)?;
            if known.head.version == next.head.version {
                if known.bytes != next.bytes {
                    self.events.push(Event::TimestampEquivocation(next.head.version));
                }
                return known.fresh(Role::Timestamp, self.now);
            }
            if let Some(known) = known.body.snapshot() {
                not_older(Role::Snapshot, known.version, snapshot.version)?;
            }
        }
        next.fresh(Role::Timestamp, self.now)?;
        self.state.commit(|believed| believed.timestamp = Some(next))
    }

    /// Section 5.5. Returns what the snapshot says of targets.
    fn snapshot(&mut self) -> Result<Meta, TrustError> {
        const NAME: &str = "snapshot.json";
        let believed = self.state.believed();
        let named = believed.timestamp.as_ref().and_then(|one| one.body.snapshot()).cloned();
        let named = named.ok_or(TrustError::RoleMissing(Role::Snapshot))?;
        let is_known = |known: &&Signed<Snapshot>| {
            known.head.version == named.version && named.check(NAME, &known.bytes).is_ok()
        };
        let next = match believed.snapshot.as_ref().filter(is_known) {
            Some(known) => known.clone(),
            None => {
                let bytes = self.named(NAME, &named, SMALL_MAX)?;
                self.read::<Snapshot>(Role::Snapshot, &bytes)?
            }
        };
        as_named(Role::Snapshot, named.version, next.head.version)?;
        let before = self.state.believed().snapshot.as_ref();
        for (name, known) in before.iter().flat_map(|before| &before.body.meta) {
            let now = next.body.meta.get(name).ok_or(TrustError::RoleMissing(Role::Targets))?;
            not_older(Role::Targets, known.version, now.version)?;
        }
        next.fresh(Role::Snapshot, self.now)?;
        let targets = next.body.meta.get("targets.json").cloned();
        let targets = targets.ok_or(TrustError::RoleMissing(Role::Targets))?;
        if before.is_none_or(|before| before.bytes != next.bytes) {
            self.state.commit(|believed| believed.snapshot = Some(next))?;
        }
        Ok(targets)
    }

    /// Section 5.6. Says whether they are new.
    fn targets(&mut self, named: &Meta) -> Result<bool, TrustError> {
        const NAME: &str = "targets.json";
        let believed = self.state.believed().targets.as_ref();
        if let Some(known) = believed
            && known.head.version == named.version
            && named.check(NAME, &known.bytes).is_ok()
        {
            known.fresh(Role::Targets, self.now)?;
            return Ok(false);
        }
        let bytes = self.named(NAME, named, TARGETS_MAX)?;
        let next: Signed<Targets> = self.read(Role::Targets, &bytes)?;
        as_named(Role::Targets, named.version, next.head.version)?;
        next.fresh(Role::Targets, self.now)?;
        self.state.commit(|believed| believed.targets = Some(next))?;
        Ok(true)
    }

    /// Metadata that the believed root vouches for, of this line.
    fn read<T>(&self, role: Role, bytes: &[u8]) -> Result<Signed<T>, TrustError>
    where
        T: serde::de::DeserializeOwned + crate::role::AsRoot,
    {
        let signed = Signed::<T>::read(role, bytes, Some(&self.state.believed().root.body))?;
        self.on_line(&signed.head.line)?;
        Ok(signed)
    }

    fn on_line(&self, found: &Line) -> Result<(), TrustError> {
        found.must_be(self.state.line())
    }
}

fn not_older(role: Role, known: u64, found: u64) -> Result<(), TrustError> {
    if found < known { Err(TrustError::Rollback { role, known, found }) } else { Ok(()) }
}

fn as_named(role: Role, expected: u64, found: u64) -> Result<(), TrustError> {
    match found == expected {
        true => Ok(()),
        false => Err(TrustError::MixAndMatch { role, expected, found }),
    }
}
