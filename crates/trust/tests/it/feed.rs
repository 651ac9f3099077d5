//! A feed's author with a directory, and clients that read it as if a server had it.

use std::cell::RefCell;
use std::error::Error;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use goldleaf_host::sim::SimDir;
use goldleaf_host::{Dir, read_file};
use goldleaf_trust::{
    Authority, Key, Metadata, Published, Quorum, ROOT_LIFE, Repository, SigningKey, State,
    TARGETS_LIFE, Target, Targets, TrustError, Updated, update,
};

use crate::world::{START, key, line};

/// The directory as a server that remembers what it was asked for.
pub struct Web<'a> {
    pub dir: &'a SimDir,
    pub asked: RefCell<Vec<String>>,
}

impl Metadata for Web<'_> {
    fn fetch(&self, name: &str, _: u64) -> Result<Option<Vec<u8>>, Box<dyn Error + Send + Sync>> {
        self.asked.borrow_mut().push(name.into());
        match read_file(self.dir, name, 1 << 30) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            bytes => Ok(Some(bytes?)),
        }
    }
}

/// Keys of a group, by number, and how many it takes.
pub type Group = (Vec<u8>, usize);

/// Who holds which keys, by number.
#[derive(Clone, Debug)]
pub struct Holders {
    pub root: Group,
    pub targets: Group,
    pub online: Group,
}

impl Holders {
    pub fn new() -> Self {
        Self { root: (vec![1, 2, 3], 2), targets: (vec![4, 5, 6], 2), online: (vec![7], 1) }
    }

    pub fn authority(&self) -> Authority {
        let public = |number: &u8| -> Key { key(*number).public() };
        let quorum = |(keys, threshold): &Group| Quorum {
            keys: keys.iter().map(public).collect(),
            threshold: *threshold,
        };
        let (root, targets) = (quorum(&self.root), quorum(&self.targets));
        Authority { root, targets, online: quorum(&self.online) }
    }
}

/// An author, and a client that updates now and then.
#[derive(Clone)]
pub struct Feed {
    pub dir: SimDir,
    pub client: SimDir,
    pub holders: Holders,
    /// Seconds since the beginning.
    pub clock: u64,
}

impl Feed {
    /// With a root in place and a client that knows it, but without targets.
    pub fn begun() -> Self {
        let (dir, client, holders) = (SimDir::new(), SimDir::new(), Holders::new());
        let feed = Self { dir, client, holders, clock: 0 };
        let mut author = feed.author();
        let until = feed.now() + ROOT_LIFE;
        let draft = author.draft_first_root(&line(), &feed.holders.authority(), until).unwrap();
        feed.sign(&draft, &[1, 2]);
        State::create(Arc::new(feed.client.clone()), line(), &feed.file("1.root.json")).unwrap();
        feed
    }

    /// With version 1 published, which the client has.
    pub fn new() -> Self {
        let feed = Self::begun();
        feed.publish("version 1").unwrap();
        feed.sees("version 1");
        feed
    }

    pub fn now(&self) -> Duration {
        Duration::from_secs(START + self.clock)
    }

    pub fn author(&self) -> Repository {
        Repository::open(Arc::new(self.dir.clone())).unwrap()
    }

    pub fn file(&self, name: &str) -> Vec<u8> {
        read_file(&self.dir, name, 1 << 30).unwrap()
    }

    pub fn files(&self) -> Vec<String> {
        let items = self.dir.list().unwrap().into_iter().map(|item| item.name);
        items.filter(|name| name != "lock").collect()
    }

    /// Whether a file is there, on a storage that may fail.
    pub fn has(&self, name: &str) -> Result<bool, TrustError> {
        Ok(self.listed()?.iter().any(|one| one == name))
    }

    /// A draft of targets.
    pub fn targets_draft(&self) -> Result<Option<String>, TrustError> {
        Ok(self.listed()?.into_iter().find(|name| name.ends_with(".targets.draft.json")))
    }

    fn listed(&self) -> Result<Vec<String>, TrustError> {
        let failed = |source| TrustError::Io { what: "listing", source };
        Ok(self.dir.list().map_err(failed)?.into_iter().map(|item| item.name).collect())
    }

    /// Names and contents of all files.
    pub fn contents(&self) -> Vec<(String, Vec<u8>)> {
        self.files().into_iter().map(|name| (name.clone(), self.file(&name))).collect()
    }

    /// Adds signatures to a draft.
    pub fn sign(&self, draft: &str, keys: &[u8]) {
        for number in keys {
            self.author().sign(draft, &key(*number)).unwrap();
        }
    }

    pub fn draft(&self, content: &str) -> Result<String, TrustError> {
        self.author().draft_targets(&targets(content), self.now() + TARGETS_LIFE)
    }

    /// Publishes with these online keys what has its signatures.
    pub fn refresh(&self, online: &[u8]) -> Result<Published, TrustError> {
        let keys: Vec<SigningKey> = online.iter().map(|number| key(*number)).collect();
        let keys: Vec<&SigningKey> = keys.iter().collect();
        Repository::open(Arc::new(self.dir.clone()))?.publish(&keys, self.now())
    }

    /// Publishes new targets with the keys that it takes.
    pub fn publish(&self, content: &str) -> Result<Published, TrustError> {
        let mut author = Repository::open(Arc::new(self.dir.clone()))?;
        let draft = author.draft_targets(&targets(content), self.now() + TARGETS_LIFE)?;
        let (keys, threshold) = &self.holders.targets;
        for number in &keys[..*threshold] {
            author.sign(&draft, &key(*number))?;
        }
        self.refresh(&self.holders.online.0)
    }

    /// Drafts the next root.
    pub fn rotate(&self, next: &Holders) -> Result<Vec<String>, TrustError> {
        let mut author = Repository::open(Arc::new(self.dir.clone()))?;
        author.draft_next_root(&next.authority(), self.now() + ROOT_LIFE)
    }

    pub fn update(&self, client: &SimDir) -> Result<Updated, TrustError> {
        let web = Web { dir: &self.dir, asked: RefCell::default() };
        let mut state = State::open(Arc::new(client.clone()), line())?;
        let updated = update(&mut state, &web, self.now());
        assert!(!web.asked.borrow().iter().any(|name| name.contains("draft")));
        updated
    }

    /// What a client believes that there is.
    pub fn content(&self, client: &SimDir) -> String {
        let state = State::open(Arc::new(client.clone()), line()).unwrap();
        state.believed().targets().unwrap().targets["livepc.json"].custom.as_str().unwrap().into()
    }

    /// The client gets this, and so does one that only knows the first root.
    pub fn sees(&self, content: &str) {
        let fresh = SimDir::new();
        State::create(Arc::new(fresh.clone()), line(), &self.file("1.root.json")).unwrap();
        for client in [&self.client, &fresh] {
            self.update(client).unwrap();
            assert_eq!(self.content(client), content);
        }
    }
}

pub fn targets(content: &str) -> Targets {
    let target = Target::of(content.as_bytes(), content.into());
    Targets { targets: [("livepc.json".into(), target)].into() }
}
