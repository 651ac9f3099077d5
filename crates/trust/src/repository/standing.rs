//! How the metadata of a feed stands: who signed what, who has not yet, and what expires when.

use std::time::Duration;

use super::Repository;
use super::name::{Name, TIMESTAMP};
use crate::role::{AsRoot, Line, Root, Signed, Targets};
use crate::signatures::{Signers, signers};
use crate::{Role, TrustError};

/// How one file stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Whose metadata it is.
    pub role: Role,
    /// Its version.
    pub version: u64,
    /// Its name in the feed's directory.
    pub file: String,
    /// What it is for.
    pub line: Line,
    /// Whether it is under way; clients see the others.
    pub is_draft: bool,
    /// From then on nobody believes it: time since 1970-01-01T00:00:00Z.
    pub expires: Duration,
    /// Who signed, by the roots that matter: for a root, the one before and itself; for the rest
    /// the root in place, and the next one while it is under way.
    pub sides: Vec<Side>,
}

/// The signatures of metadata from one root's point of view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Side {
    /// Version of that root.
    pub root: u64,
    /// Who signed.
    pub signers: Signers,
}

impl Standing {
    /// Whether it has the signatures that it takes: a root those of all sides, the rest those of
    /// one.
    pub fn is_complete(&self) -> bool {
        let is_enough = |side: &Side| side.signers.missing == 0;
        match self.role {
            Role::Root => self.sides.iter().all(is_enough),
            _ => self.sides.iter().any(is_enough),
        }
    }
}

impl Repository {
    /// How everything stands: what clients see first, then what is under way. Files that newer ones
    /// replaced are not in it. Errors as those of clients, but for what has expired.
    pub fn standing(&self) -> Result<Vec<Standing>, TrustError> {
        let mut all = Vec::new();
        if let Some(root) = self.roots.last() {
            all.push(self.of(Name::of(Role::Root, root.head.version), root)?);
        }
        if let Some(current) = self.published()? {
            let name = |role, version| Name::of(role, version);
            let (targets, snapshot) = (&current.targets, &current.snapshot);
            all.push(self.of(name(Role::Targets, targets.head.version), targets)?);
            all.push(self.of(name(Role::Snapshot, snapshot.head.version), snapshot)?);
            let version = current.timestamp.head.version;
            let timestamp = self.of(name(Role::Timestamp, version), &current.timestamp)?;
            all.push(Standing { file: TIMESTAMP.into(), ..timestamp });
        }
        if let Some(next) = self.next_root()? {
            all.push(self.of(Name::draft(Role::Root, next.head.version), &next)?);
        }
        for name in self.targets_drafts()? {
            all.push(self.stand(name)?);
        }
        Ok(all)
    }

    /// What the draft of the next root says, whoever signed it; `None` when there is none.
    pub fn drafted_root(&self) -> Result<Option<Root>, TrustError> {
        Ok(self.next_root()?.map(|next| next.body))
    }

    /// What a draft of targets says, by its file's name, whoever signed it: to be looked at before
    /// it is signed. [`TrustError::NotADraft`] for any other file.
    pub fn drafted_targets(&self, draft: &str) -> Result<Targets, TrustError> {
        let known = Name::parse(draft).filter(|name| name.is_draft && name.role == Role::Targets);
        let name = known.ok_or_else(|| TrustError::NotADraft(draft.into()))?;
        let targets = Signed::<Targets>::unverified(Role::Targets, &self.read(name)?)?;
        self.belongs(name, &targets.head)?;
        Ok(targets.body)
    }

    /// How a draft stands.
    pub(super) fn stand(&self, name: Name) -> Result<Standing, TrustError> {
        let bytes = self.read(name)?;
        match name.role {
            Role::Root => self.of(name, &Signed::<Root>::unverified(name.role, &bytes)?),
            _ => self.of(name, &Signed::<Targets>::unverified(name.role, &bytes)?),
        }
    }

    /// Drafts of targets that are not overtaken, the newest first.
    pub(super) fn targets_drafts(&self) -> Result<Vec<Name>, TrustError> {
        let published = self.published()?.map_or(0, |current| current.targets.head.version);
        let is_open =
            |name: &Name| name.role == Role::Targets && name.is_draft && name.version > published;
        let mut names: Vec<Name> = self.names()?.into_iter().filter(is_open).collect();
        names.sort_by_key(|name| std::cmp::Reverse(name.version));
        Ok(names)
    }

    fn of<T: AsRoot>(&self, name: Name, signed: &Signed<T>) -> Result<Standing, TrustError> {
        self.belongs(name, &signed.head)?;
        Ok(Standing {
            role: name.role,
            version: name.version,
            file: name.to_string(),
            line: signed.head.line.clone(),
            is_draft: name.is_draft,
            expires: since(signed.head.expires),
            sides: self.sides(name, &signed.bytes)?,
        })
    }

    /// Who signed, by the roots that matter.
    pub(super) fn sides(&self, name: Name, bytes: &[u8]) -> Result<Vec<Side>, TrustError> {
        let side = |root: &Signed<Root>| {
            let signers = signers(bytes, &root.body)?;
            Ok(Side { root: root.head.version, signers })
        };
        if name.role == Role::Root {
            let own = Signed::<Root>::unverified(Role::Root, bytes)?;
            let before = self.roots.iter().find(|root| root.head.version + 1 == name.version);
            return before.into_iter().chain([&own]).map(side).collect();
        }
        let next = self.next_root()?;
        self.roots.last().into_iter().chain(&next).map(side).collect()
    }
}

/// Time since 1970-01-01T00:00:00Z. What lies before it has expired in any case.
pub(super) fn since(moment: jiff::Timestamp) -> Duration {
    Duration::try_from(moment.as_duration()).unwrap_or_default()
}
