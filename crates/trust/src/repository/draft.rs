//! Drafts: what is to be said, and the signatures that it has so far.

use std::io;
use std::time::Duration;

use goldleaf_host::Content;
use serde::Serialize;

use super::name::Name;
use super::publish::RootWaits;
use super::standing::{Standing, since};
use super::{Repository, io_error, limit, vouches};
use crate::author::{Draft, sign};
use crate::authority::Authority;
use crate::key::SigningKey;
use crate::role::{Head, Line, Root, Signed, Targets};
use crate::signatures::add_signature;
use crate::{Role, TrustError};

impl Repository {
    /// Begins a feed: writes `1.root.draft.json`, which the root keys sign, and returns its name.
    /// `expires` is time since 1970-01-01T00:00:00Z. [`TrustError::Begun`] when there is a root;
    /// [`TrustError::DraftExists`] when one is under way; [`TrustError::Authority`] when such a
    /// root could not be.
    pub fn draft_first_root(
        &mut self,
        line: &Line,
        authority: &Authority,
        expires: Duration,
    ) -> Result<String, TrustError> {
        let _held = self.hold()?;
        if !self.roots.is_empty() {
            return Err(TrustError::Begun);
        }
        self.write_root(line, &authority.to_root()?, expires)
    }

    /// Writes the draft of the next root, which the keys of the root in place and its own sign
    /// (section 6.1), and returns its name. Where what is published would not be good under its
    /// image keys, and no other targets are under way, the same targets are drafted anew, so that
    /// the new keys can sign them: then theirs is the second name. Errors as
    /// [`draft_first_root`](Self::draft_first_root); [`TrustError::NotBegun`] without a root.
    pub fn draft_next_root(
        &mut self,
        authority: &Authority,
        expires: Duration,
    ) -> Result<Vec<String>, TrustError> {
        let _held = self.hold()?;
        let (line, next) = (self.newest()?.head.line.clone(), authority.to_root()?);
        self.no_root_draft()?;
        // The targets come first: while there is no draft of the root, all can be asked for again.
        let targets = self.targets_for(&next)?;
        let root = self.write_root(&line, &next, expires)?;
        Ok(std::iter::once(root).chain(targets).collect())
    }

    /// Drafts what is published anew, where the image keys of the next root did not sign it.
    fn targets_for(&self, next: &Root) -> Result<Option<String>, TrustError> {
        let Some(current) = self.published()? else { return Ok(None) };
        let (role, targets) = (Role::Targets, current.targets);
        // What only a root before this one vouches for is not to be signed again unseen.
        let is_wanted = vouches(&self.newest()?.body, role, &targets.bytes)
            && !vouches(next, role, &targets.bytes)
            && self.targets_drafts()?.is_empty();
        // They say the same, until the same moment.
        let until = since(targets.head.expires);
        is_wanted.then(|| self.write_targets(&targets.body, until)).transpose()
    }

    /// Writes the draft of the next targets, which the image keys sign, and returns its name.
    /// `expires` is time since 1970-01-01T00:00:00Z. [`TrustError::NotBegun`] without a root.
    pub fn draft_targets(
        &mut self,
        targets: &Targets,
        expires: Duration,
    ) -> Result<String, TrustError> {
        let _held = self.hold()?;
        self.write_targets(targets, expires)
    }

    /// Adds a signature to a draft, by its file's name, and says how it stands then. A root that
    /// has all its signatures is put in place, unless it waits for what is published
    /// ([`place_root`](Self::place_root)). [`TrustError::NotADraft`] for any other file, and for a
    /// draft that is overtaken; [`TrustError::NotItsKey`] for a key that neither the root in place
    /// nor the draft of the next one knows for it.
    pub fn sign(&mut self, draft: &str, key: &SigningKey) -> Result<Standing, TrustError> {
        let _held = self.hold()?;
        let name = self.open_draft(draft)?;
        let before = self.stand(name)?;
        let (role, public) = (name.role, key.public());
        let knows = |root: &Root| {
            let listed = root.of(role).is_some_and(|keys| keys.keyids.contains(&public.id()));
            listed && root.keys.get(&public.id()) == Some(&public)
        };
        let next = self.next_root()?;
        if !self.root().into_iter().chain(next.as_ref().map(|next| &next.body)).any(knows) {
            return Err(TrustError::NotItsKey { role, key: public.id() });
        }
        let bytes = add_signature(&self.read(name)?, key)?;
        self.write(&name.to_string(), role, &bytes)?;
        let standing = Standing { sides: self.sides(name, &bytes)?, ..before };
        if role == Role::Root && standing.is_complete() {
            match self.place() {
                // It stays a draft, and its standing says so.
                Ok(_) | Err(TrustError::RootWaits { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let is_draft = self.newest().is_ok_and(|root| root.head.version < name.version);
        Ok(Standing { is_draft: role != Role::Root || is_draft, ..standing })
    }

    /// Puts the next root in place, and returns its version. [`TrustError::RootRotation`],
    /// [`TrustError::SigThreshold`] or [`TrustError::SigMissing`] when its own keys, or those of
    /// the root before, did not sign it; [`TrustError::RootWaits`] when what is published would not
    /// be good under it, so that [`publish`](Self::publish) has to bring both.
    pub fn place_root(&mut self) -> Result<u64, TrustError> {
        let _held = self.hold()?;
        self.place()
    }

    pub(super) fn place(&mut self) -> Result<u64, TrustError> {
        let draft = self.next_root()?.ok_or_else(|| TrustError::NotADraft("nothing".into()))?;
        let version = draft.head.version;
        let next = self.complete(&draft)?;
        if let Some(current) = self.published()? {
            let good = |role, bytes| vouches(&next.body, role, bytes);
            let is_online = good(Role::Timestamp, &current.timestamp.bytes)
                && good(Role::Snapshot, &current.snapshot.bytes);
            let on = match good(Role::Targets, &current.targets.bytes) {
                false => Some(RootWaits::Targets),
                true => (!is_online).then_some(RootWaits::OnlineKey),
            };
            if let Some(on) = on {
                return Err(TrustError::RootWaits { version, on });
            }
        }
        self.write(&Name::of(Role::Root, version).to_string(), Role::Root, &next.bytes)?;
        self.reload()?;
        self.forget_drafts()?;
        Ok(version)
    }

    /// The draft of the next root, whoever signed it; `None` when there is none.
    pub(super) fn next_root(&self) -> Result<Option<Signed<Root>>, TrustError> {
        let version = self.roots.len() as u64 + 1;
        let name = Name::draft(Role::Root, version);
        let bytes = match self.read(name) {
            Err(TrustError::Missing(_)) => return Ok(None),
            bytes => bytes?,
        };
        let root = Signed::<Root>::unverified(Role::Root, &bytes)?;
        self.belongs(name, &root.head)?;
        Ok(Some(root))
    }

    /// The draft of a root, verified as clients do it.
    pub(super) fn complete(&self, draft: &Signed<Root>) -> Result<Signed<Root>, TrustError> {
        match self.roots.last() {
            Some(before) => before.followed_by(&draft.bytes),
            None => Signed::read(Role::Root, &draft.bytes, None),
        }
    }

    /// Fails when metadata is not what its file's name says, or another feed's.
    pub(super) fn belongs(&self, name: Name, head: &Head) -> Result<(), TrustError> {
        if head.version != name.version {
            let (role, expected, found) = (name.role, name.version, head.version);
            return Err(TrustError::MixAndMatch { role, expected, found });
        }
        self.line().map_or(Ok(()), |line| head.line.must_be(line))
    }

    /// Removes drafts that are overtaken.
    pub(super) fn forget_drafts(&self) -> Result<(), TrustError> {
        let root = self.roots.len() as u64;
        let targets = self.published()?.map_or(0, |current| current.targets.head.version);
        let overtaken = |name: &Name| match name.role {
            Role::Root => name.is_draft && name.version <= root,
            _ => name.is_draft && name.version <= targets,
        };
        for name in self.names()?.into_iter().filter(overtaken) {
            let removed = self.shelf.remove(&name.to_string());
            removed.map_err(io_error("removing a draft"))?;
        }
        Ok(())
    }

    /// A name that somebody gave, of a draft that can still become something.
    fn open_draft(&self, text: &str) -> Result<Name, TrustError> {
        let known = Name::parse(text).filter(|name| match name.role {
            Role::Root => name.is_draft && name.version == self.roots.len() as u64 + 1,
            _ => name.is_draft,
        });
        known.ok_or_else(|| TrustError::NotADraft(text.into()))
    }

    fn no_root_draft(&self) -> Result<(), TrustError> {
        let name = Name::draft(Role::Root, self.roots.len() as u64 + 1);
        match self.names()?.contains(&name) {
            true => Err(TrustError::DraftExists(name.to_string())),
            false => Ok(()),
        }
    }

    fn write_root(
        &self,
        line: &Line,
        body: &Root,
        expires: Duration,
    ) -> Result<String, TrustError> {
        self.no_root_draft()?;
        let version = self.roots.len() as u64 + 1;
        self.write_draft(&Draft { role: Role::Root, version, expires, line, body })
    }

    fn write_targets(&self, body: &Targets, expires: Duration) -> Result<String, TrustError> {
        let (line, role) = (&self.newest()?.head.line, Role::Targets);
        let version = self.unused(role)?;
        self.write_draft(&Draft { role, version, expires, line, body })
    }

    fn write_draft<T: Serialize>(&self, draft: &Draft<'_, T>) -> Result<String, TrustError> {
        let name = Name::draft(draft.role, draft.version).to_string();
        self.write_new(&name, draft.role, &sign(draft, &[])?)?;
        Ok(name)
    }

    /// Makes a file durable, unless clients would refuse its length.
    pub(super) fn write(&self, name: &str, role: Role, bytes: &[u8]) -> Result<(), TrustError> {
        fits(name, role, bytes)?;
        self.shelf.replace(name, Content::of(bytes)).map_err(io_error("writing metadata"))
    }

    /// Makes a file durable that was not there. [`TrustError::Busy`] when it is: where there are no
    /// locks, this is how somebody else is noticed who chose the same number.
    pub(super) fn write_new(&self, name: &str, role: Role, bytes: &[u8]) -> Result<(), TrustError> {
        fits(name, role, bytes)?;
        match self.shelf.add(name, Content::of(bytes)) {
            // A server that was asked twice, because its first answer was lost.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if self.read_named(name, limit(role))? == bytes {
                    Ok(())
                } else {
                    Err(TrustError::Busy)
                }
            }
            written => written.map_err(io_error("writing metadata")),
        }
    }
}

/// What is longer than clients read is not written.
fn fits(name: &str, role: Role, bytes: &[u8]) -> Result<(), TrustError> {
    let limit = limit(role);
    match bytes.len() as u64 > limit {
        true => Err(TrustError::TooLarge { what: name.into(), limit }),
        false => Ok(()),
    }
}
