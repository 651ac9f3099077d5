//! Publishing: what has its signatures becomes what clients see. First all is made and verified,
//! then it is written, each file durable before the next.

use std::fmt;
use std::time::Duration;

use super::name::{Name, TIMESTAMP};
use super::standing::since;
use super::{Current, Repository, SNAPSHOT_LIFE, TIMESTAMP_LIFE, after, vouches};
use crate::author::{Draft, sign};
use crate::json::{Envelope, parse};
use crate::key::SigningKey;
use crate::role::{Meta, Root, Signed, Snapshot, Targets, Timestamp, moment};
use crate::{Role, TrustError};

/// What a publication brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Version of the root that was put in place by it.
    pub root: Option<u64>,
    /// Version of the targets that are new.
    pub targets: Option<u64>,
    /// Version of the snapshot, where it is new.
    pub snapshot: Option<u64>,
    /// Version of the timestamp, which always is.
    pub timestamp: u64,
    /// When the timestamp expires: time since 1970-01-01T00:00:00Z.
    pub expires: Duration,
    /// Why a root that has all its signatures is not in place yet.
    pub root_waits: Option<RootWaits>,
}

/// What a root waits for that has all its signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RootWaits {
    /// Targets that enough of its image keys signed.
    Targets,
    /// Its online key.
    OnlineKey,
}

impl fmt::Display for RootWaits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Targets => "targets that its image keys signed",
            Self::OnlineKey => "a timestamp that its online key signed",
        })
    }
}

/// What is to be written, in this order.
struct Plan {
    writes: Vec<(String, Role, Vec<u8>)>,
    published: Published,
}

/// What a publication starts from.
struct Work<'a> {
    repository: &'a Repository,
    current: Option<Current>,
    /// The root in place.
    root: &'a Signed<Root>,
    online: &'a [&'a SigningKey],
    now: Duration,
}

impl Repository {
    /// Lets clients see what has its signatures: the newest complete draft of targets, and the next
    /// root; without either it renews the timestamp, and the snapshot where that expires soon.
    /// `online` are the online keys, while they rotate the old and the new one; `now` is time since
    /// 1970-01-01T00:00:00Z.
    ///
    /// [`TrustError::NothingToPublish`] when there never were complete targets,
    /// [`TrustError::NotItsKey`] for a key that is no online key, and what a client would say of
    /// what is there. After an error of the storage's, publishing again goes on.
    pub fn publish(
        &mut self,
        online: &[&SigningKey],
        now: Duration,
    ) -> Result<Published, TrustError> {
        let _held = self.hold()?;
        let Plan { writes, published } = self.plan(online, now)?;
        for (name, role, bytes) in &writes {
            match role {
                // Its number was not used before, by anybody.
                Role::Snapshot => self.write_new(name, *role, bytes)?,
                _ => self.write(name, *role, bytes)?,
            }
        }
        self.reload()?;
        self.forget_drafts()?;
        Ok(published)
    }

    fn plan(&self, online: &[&SigningKey], now: Duration) -> Result<Plan, TrustError> {
        let next = self.next_root()?.and_then(|draft| self.complete(&draft).ok());
        let (root, current) = (self.newest()?, self.published()?);
        let work = Work { repository: self, current, root, online, now };
        work.check_keys(next.as_ref())?;
        let Some(next) = &next else { return work.under(root) };
        let (version, on) = match work.under(next) {
            Err(TrustError::RootWaits { version, on }) => (version, on),
            plan => return plan,
        };
        match work.under(root) {
            Ok(mut plan) => {
                plan.published.root_waits = Some(on);
                Ok(plan)
            }
            // Whoever gave the new online key alone wants the new root.
            Err(TrustError::SigMissing(_) | TrustError::SigThreshold { .. }) => {
                Err(TrustError::RootWaits { version, on })
            }
            error => error,
        }
    }
}

impl Work<'_> {
    /// What there is to write so that all is good under `goal`, which is the root in place or the
    /// next one.
    fn under(&self, goal: &Signed<Root>) -> Result<Plan, TrustError> {
        let (targets, is_new) = self.targets(goal)?;
        let (snapshot, is_new_snapshot) = self.snapshot(goal, &targets)?;
        let timestamp = self.timestamp(goal, &snapshot)?;
        let mut writes = Vec::new();
        if is_new {
            let name = Name::of(Role::Targets, targets.head.version).to_string();
            writes.push((name, Role::Targets, targets.bytes.clone()));
        }
        if is_new_snapshot {
            let name = Name::of(Role::Snapshot, snapshot.head.version).to_string();
            writes.push((name, Role::Snapshot, snapshot.bytes.clone()));
        }
        let is_next = goal.head.version != self.root.head.version;
        let published = Published {
            root: is_next.then_some(goal.head.version),
            targets: is_new.then_some(targets.head.version),
            snapshot: is_new_snapshot.then_some(snapshot.head.version),
            timestamp: timestamp.head.version,
            expires: since(timestamp.head.expires),
            root_waits: None,
        };
        // What is good under both roots comes first: then no client falls in between.
        let is_good = |role, bytes: &[u8]| vouches(&self.root.body, role, bytes);
        let is_smooth = is_good(Role::Targets, &targets.bytes)
            && is_good(Role::Snapshot, &snapshot.bytes)
            && is_good(Role::Timestamp, &timestamp.bytes);
        writes.push((TIMESTAMP.into(), Role::Timestamp, timestamp.bytes));
        if is_next {
            let name = Name::of(Role::Root, goal.head.version).to_string();
            let at = writes.len() - usize::from(!is_smooth);
            writes.insert(at, (name, Role::Root, goal.bytes.clone()));
        }
        Ok(Plan { writes, published })
    }

    /// The newest targets that are good under `goal`, and whether clients do not see them yet.
    fn targets(&self, goal: &Signed<Root>) -> Result<(Signed<Targets>, bool), TrustError> {
        let (repository, role, now) = (self.repository, Role::Targets, moment(self.now)?);
        for name in repository.targets_drafts()? {
            let bytes = repository.read(name)?;
            if !vouches(&goal.body, role, &bytes) {
                continue;
            }
            let targets: Signed<Targets> = Signed::read(role, &bytes, Some(&goal.body))?;
            repository.belongs(name, &targets.head)?;
            if targets.fresh(role, now).is_ok() {
                return Ok((targets, true));
            }
        }
        let known = self.current.as_ref().map(|current| current.targets.clone());
        let good = known.filter(|known| vouches(&goal.body, role, &known.bytes));
        match good {
            Some(targets) => Ok((targets, false)),
            None if self.is_next(goal) => Err(waits(goal, RootWaits::Targets)),
            None => Err(TrustError::NothingToPublish),
        }
    }

    /// The snapshot that names these targets, and whether it is a new one.
    fn snapshot(
        &self,
        goal: &Signed<Root>,
        targets: &Signed<Targets>,
    ) -> Result<(Signed<Snapshot>, bool), TrustError> {
        let role = Role::Snapshot;
        let meta = Meta::of(targets.head.version, &targets.bytes);
        let body = Snapshot { meta: [("targets.json".into(), meta)].into() };
        // No timestamp may outlive its snapshot, and there is one more to come before that.
        let soon = moment(self.now + 2 * TIMESTAMP_LIFE)?;
        let is_good = |known: &&Signed<Snapshot>| {
            known.body == body
                && known.head.expires > soon
                && vouches(&goal.body, role, &known.bytes)
        };
        let known = self.current.as_ref().map(|current| &current.snapshot).filter(is_good);
        if let Some(known) = known {
            return Ok((known.clone(), false));
        }
        let version = self.repository.unused(role)?;
        let expires = self.now + SNAPSHOT_LIFE;
        let line = &self.root.head.line;
        let bytes = self.sign(&Draft { role, version, expires, line, body: &body }, goal)?;
        Ok((Signed::read(role, &bytes, Some(&goal.body))?, true))
    }

    /// The next timestamp.
    fn timestamp(
        &self,
        goal: &Signed<Root>,
        snapshot: &Signed<Snapshot>,
    ) -> Result<Signed<Timestamp>, TrustError> {
        let role = Role::Timestamp;
        let known = match &self.current {
            Some(current) => current.timestamp.head.version,
            // Each snapshot came with a timestamp of its own: a lost one had no lower number.
            None => self.repository.highest(|name| name.role == Role::Snapshot)?,
        };
        let version = after(known, || TIMESTAMP.into())?;
        let meta = Meta::of(snapshot.head.version, &snapshot.bytes);
        let body = Timestamp { meta: [("snapshot.json".into(), meta)].into() };
        let expires = self.now + TIMESTAMP_LIFE;
        let line = &self.root.head.line;
        let bytes = self.sign(&Draft { role, version, expires, line, body: &body }, goal)?;
        Signed::read(role, &bytes, Some(&goal.body))
    }

    /// Signs with all online keys; a root that they are not enough for waits.
    fn sign<T: serde::Serialize>(
        &self,
        draft: &Draft<'_, T>,
        goal: &Signed<Root>,
    ) -> Result<Vec<u8>, TrustError> {
        let bytes = sign(draft, self.online)?;
        let envelope: Envelope<'_> = parse(draft.role.name(), &bytes)?;
        match goal.body.verify(draft.role, &envelope) {
            Err(_) if self.is_next(goal) => Err(waits(goal, RootWaits::OnlineKey)),
            Err(error) => Err(error),
            Ok(()) => Ok(bytes),
        }
    }

    /// Each key must be one that the root in place, or the next one, knows as online.
    fn check_keys(&self, next: Option<&Signed<Root>>) -> Result<(), TrustError> {
        let role = Role::Timestamp;
        for key in self.online.iter().map(|key| key.public()) {
            let id = key.id();
            let knows = |root: &Signed<Root>| {
                let listed = root.body.of(role).is_some_and(|keys| keys.keyids.contains(&id));
                listed && root.body.keys.get(&id) == Some(&key)
            };
            if !(knows(self.root) || next.is_some_and(knows)) {
                return Err(TrustError::NotItsKey { role, key: id });
            }
        }
        Ok(())
    }

    fn is_next(&self, goal: &Signed<Root>) -> bool {
        goal.head.version != self.root.head.version
    }
}

fn waits(goal: &Signed<Root>, on: RootWaits) -> TrustError {
    TrustError::RootWaits { version: goal.head.version, on }
}
