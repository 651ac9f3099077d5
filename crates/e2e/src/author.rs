//! Somebody who publishes: one image key, one online key, one directory.

use std::path::Path;
use std::time::Duration;

use goldleaf_fetch::Destination;
use goldleaf_host::RealDir;
use goldleaf_player::feeds::{Effort, PublishOptions};
use goldleaf_player::{Home, PlayerError};
use goldleaf_trust::{Authority, Line, Quorum, Repository, SigningKey};

use crate::error::HarnessError;

/// How long the first root holds.
const LIFE: Duration = Duration::from_secs(86_400);

/// The author of one feed's channel `stable`.
pub struct Author {
    /// Where it publishes.
    pub to: Destination,
    /// Signs roots and versions.
    pub key: SigningKey,
    /// Signs what is newest.
    pub online: SigningKey,
}

impl Author {
    /// Begins the channel of a feed.
    pub fn begin(home: &Home, root: &Path, feed: &str) -> Result<Self, HarnessError> {
        let trust = |error| HarnessError::Player(PlayerError::Trust(error));
        let key = SigningKey::generate(home.entropy.as_ref()).map_err(trust)?;
        let online = SigningKey::generate(home.entropy.as_ref()).map_err(trust)?;
        let to = Destination::directory(RealDir::create_public(root)?, "the feed");
        let author = Self { to, key, online };
        RealDir::create_public(&root.join(format!("feeds/{feed}/stable/metadata")))?;
        let mut repository = author.repository(root, feed)?;
        let quorum = |key: &SigningKey| Quorum { keys: vec![key.public()], threshold: 1 };
        let (root, online) = (quorum(&author.key), quorum(&author.online));
        let authority = Authority { targets: root.clone(), root, online };
        let line = Line { organisation: "acme".into(), feed: format!("{feed}/stable") };
        let expires = home.clock.now_unix() + LIFE;
        let draft = repository.draft_first_root(&line, &authority, expires).map_err(trust)?;
        repository.sign(&draft, &author.key).map_err(trust)?;
        Ok(author)
    }

    /// The channel's signed metadata.
    pub fn repository(&self, root: &Path, feed: &str) -> Result<Repository, HarnessError> {
        let metadata = RealDir::open(&root.join(format!("feeds/{feed}/stable/metadata")))?;
        Ok(Repository::open(metadata).map_err(PlayerError::Trust)?)
    }

    /// For everybody, quickly, with all keys.
    pub fn options(&self) -> Result<PublishOptions, HarnessError> {
        let copy =
            |key: &SigningKey| SigningKey::from_pem(&key.to_pem()).map_err(PlayerError::Trust);
        Ok(PublishOptions {
            channel: "stable".into(),
            stage: 100,
            effort: Effort::of(3, 2),
            deltas: 1,
            again: None,
            like: Vec::new(),
            keep: 10,
            rehearsal: None,
            image_keys: vec![copy(&self.key)?],
            online_key: Some(copy(&self.online)?),
        })
    }
}
