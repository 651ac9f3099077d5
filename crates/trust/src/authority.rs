//! Who may sign what, as an author thinks of it: three groups of keys, where TUF has four roles.
//!
//! Snapshot and timestamp share the online key: both say only what goes together and that it is the
//! newest, and whoever has the one key can do no more with two.

use std::collections::BTreeSet;

use crate::key::{Key, KeyId};
use crate::role::{RoleKeys, Root};
use crate::{Role, TrustError};

/// Keys of which some must sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quorum {
    /// The keys.
    pub keys: Vec<Key>,
    /// How many of them it takes.
    pub threshold: usize,
}

/// What a root says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// Who may say who may: TUF's root. Kept offline.
    pub root: Quorum,
    /// Who may say what there is: TUF's targets. Kept offline.
    pub targets: Quorum,
    /// Who may say what is the newest: TUF's snapshot and timestamp. Kept where metadata is
    /// published, because it signs every few days.
    pub online: Quorum,
}

impl Authority {
    /// What a root says. Online keys are those of its timestamp: a root made here has the same ones
    /// for its snapshot. [`TrustError::RoleMissing`] when it has no such role.
    pub fn of(root: &Root) -> Result<Self, TrustError> {
        let quorum = |role| {
            let named = root.of(role).ok_or(TrustError::RoleMissing(role))?;
            let key = |id: &KeyId| {
                let wrong = || TrustError::malformed("root", format!("key {id} is not in it"));
                root.keys.get(id).cloned().ok_or_else(wrong)
            };
            let keys = named.keyids.iter().map(key).collect::<Result<_, _>>()?;
            Ok(Quorum { keys, threshold: named.threshold })
        };
        let (root, targets) = (quorum(Role::Root)?, quorum(Role::Targets)?);
        Ok(Self { root, targets, online: quorum(Role::Timestamp)? })
    }

    /// As a root's metadata has it. [`TrustError::Authority`] when a group cannot reach its
    /// threshold, lists a key twice, or an online key is among those that are to be offline.
    pub fn to_root(&self) -> Result<Root, TrustError> {
        let groups = [("root", &self.root), ("image", &self.targets), ("online", &self.online)];
        for (name, quorum) in groups {
            quorum.check(name)?;
        }
        let offline = || self.root.keys.iter().chain(&self.targets.keys);
        if let Some(key) = self.online.keys.iter().find(|key| offline().any(|one| one == *key)) {
            let id = key.id();
            let why = format!("key {id} cannot be an online key and an offline one");
            return Err(TrustError::Authority(why));
        }
        let keys = offline().chain(&self.online.keys);
        let roles = [
            (Role::Root, &self.root),
            (Role::Targets, &self.targets),
            (Role::Snapshot, &self.online),
            (Role::Timestamp, &self.online),
        ];
        Ok(Root {
            keys: keys.map(|key| (key.id(), key.clone())).collect(),
            roles: roles.map(|(role, quorum)| (role.name().into(), quorum.named())).into(),
            consistent_snapshot: true,
        })
    }
}

impl Quorum {
    fn check(&self, name: &str) -> Result<(), TrustError> {
        let wrong = |why: String| Err(TrustError::Authority(why));
        let (count, threshold) = (self.keys.len(), self.threshold);
        if self.keys.iter().collect::<BTreeSet<_>>().len() != count {
            return wrong(format!("one of the {name} keys is given twice"));
        }
        if threshold == 0 || threshold > count {
            return wrong(format!("{threshold} of {count} {name} keys can never sign"));
        }
        Ok(())
    }

    fn named(&self) -> RoleKeys {
        RoleKeys { keyids: self.keys.iter().map(Key::id).collect(), threshold: self.threshold }
    }
}
