//! An author with keys, a server that anybody may tamper with, and an endpoint.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use goldleaf_host::sim::SimDir;
use goldleaf_trust::{
    Draft, KeyId, Line, Meta, Metadata, Role, RoleKeys, Root, SigningKey, Snapshot, State, Target,
    Targets, Timestamp, TrustError, Updated, sign, update,
};

pub const DAY: u64 = 86_400;
/// When the tests begin.
pub const START: u64 = 1_800_000_000;

pub fn key(number: u8) -> SigningKey {
    SigningKey::from_seed(&[number; 32])
}

pub fn line() -> Line {
    Line { organisation: "acme".into(), feed: "office-desktop/stable".into() }
}

/// Files on a server.
#[derive(Default)]
pub struct Server {
    pub files: RefCell<BTreeMap<String, Vec<u8>>>,
    /// Names that were asked for.
    pub asked: RefCell<Vec<String>>,
}

impl Metadata for Server {
    fn fetch(
        &self,
        name: &str,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, Box<dyn Error + Send + Sync>> {
        self.asked.borrow_mut().push(name.into());
        let cut = |bytes: &Vec<u8>| bytes[..bytes.len().min(limit as usize + 1)].to_vec();
        Ok(self.files.borrow().get(name).map(cut))
    }
}

impl Server {
    pub fn put(&self, name: impl Into<String>, bytes: Vec<u8>) {
        self.files.borrow_mut().insert(name.into(), bytes);
    }

    pub fn get(&self, name: &str) -> Vec<u8> {
        self.files.borrow()[name].clone()
    }
}

/// Numbers of keys by role; the next versions.
#[derive(Clone)]
pub struct Author {
    pub keys: BTreeMap<Role, (Vec<u8>, usize)>,
    pub versions: BTreeMap<Role, u64>,
    /// Seconds since the beginning.
    pub now: u64,
    pub line: Line,
    pub content: String,
}

impl Author {
    pub fn new() -> Self {
        let keys = [
            (Role::Root, (vec![1, 2, 3], 2)),
            (Role::Targets, (vec![4, 5, 6], 2)),
            (Role::Snapshot, (vec![7], 1)),
            (Role::Timestamp, (vec![8], 1)),
        ];
        let versions = keys.iter().map(|(role, _)| (*role, 1)).collect();
        let (line, content) = (line(), "version 1".into());
        Self { keys: keys.into(), versions, now: 0, line, content }
    }

    pub fn bump(&mut self, role: Role) {
        *self.versions.get_mut(&role).unwrap() += 1;
    }

    pub fn root(&self) -> Root {
        let all = self.keys.values().flat_map(|(numbers, _)| numbers);
        let keys = all.map(|number| key(*number).public());
        let id = |number: &u8| key(*number).public().id();
        let roles = self.keys.iter().map(|(role, (numbers, threshold))| {
            let keyids: Vec<KeyId> = numbers.iter().map(id).collect();
            (role.name().to_string(), RoleKeys { keyids, threshold: *threshold })
        });
        Root {
            roles: roles.collect(),
            keys: keys.map(|key| (key.id(), key)).collect(),
            consistent_snapshot: true,
        }
    }

    /// Signs with these keys.
    pub fn sign<T: serde::Serialize>(&self, role: Role, body: &T, keys: &[u8]) -> Vec<u8> {
        let days = if role == Role::Timestamp { 7 } else { 365 };
        let expires = Duration::from_secs(START + self.now + days * DAY);
        let draft = Draft { role, version: self.versions[&role], expires, line: &self.line, body };
        let keys: Vec<SigningKey> = keys.iter().map(|number| key(*number)).collect();
        sign(&draft, &keys.iter().collect::<Vec<_>>()).unwrap()
    }

    /// Signs with the keys that it takes.
    pub fn signed<T: serde::Serialize>(&self, role: Role, body: &T) -> Vec<u8> {
        let (keys, threshold) = &self.keys[&role];
        self.sign(role, body, &keys[..*threshold])
    }

    pub fn targets(&self) -> Targets {
        let hashes = [("blake3".into(), "00".into())].into();
        let target = Target { length: 1, hashes, custom: self.content.clone().into() };
        Targets { targets: [("livepc.json".into(), target)].into() }
    }

    pub fn put_root(&self, server: &Server, signers: &[u8]) {
        let bytes = self.sign(Role::Root, &self.root(), signers);
        server.put(format!("{}.root.json", self.versions[&Role::Root]), bytes);
    }

    /// Publishes all but the root.
    pub fn publish(&self, server: &Server) {
        let targets = self.signed(Role::Targets, &self.targets());
        self.publish_targets(server, &targets);
    }

    /// Publishes these targets, and what leads to them.
    pub fn publish_targets(&self, server: &Server, targets: &[u8]) {
        let version = self.versions[&Role::Targets];
        server.put(format!("{version}.targets.json"), targets.to_vec());
        let meta = [("targets.json".into(), Meta::of(version, targets))].into();
        let snapshot = self.signed(Role::Snapshot, &Snapshot { meta });
        self.publish_snapshot(server, &snapshot);
    }

    /// Publishes this snapshot, and what leads to it.
    pub fn publish_snapshot(&self, server: &Server, snapshot: &[u8]) {
        let version = self.versions[&Role::Snapshot];
        server.put(format!("{version}.snapshot.json"), snapshot.to_vec());
        let meta = [("snapshot.json".into(), Meta::of(version, snapshot))].into();
        server.put("timestamp.json", self.signed(Role::Timestamp, &Timestamp { meta }));
    }

    /// Makes and publishes the next version.
    pub fn next(&mut self, server: &Server) {
        for role in [Role::Targets, Role::Snapshot, Role::Timestamp] {
            self.bump(role);
        }
        self.content = format!("version {}", self.versions[&Role::Targets]);
        self.publish(server);
    }
}

/// An author, a server, and an endpoint that is up to date.
pub struct World {
    pub author: Author,
    pub server: Server,
    pub dir: SimDir,
    /// What the endpoint's clock says, in seconds since the beginning.
    pub clock: u64,
}

impl World {
    pub fn new() -> Self {
        let (author, server, dir) = (Author::new(), Server::default(), SimDir::new());
        author.put_root(&server, &[1, 2]);
        author.publish(&server);
        State::create(Arc::new(dir.clone()), line(), &server.get("1.root.json")).unwrap();
        let world = Self { author, server, dir, clock: 0 };
        world.update().unwrap();
        world
    }

    pub fn state(&self) -> Result<State, TrustError> {
        State::open(Arc::new(self.dir.clone()), line())
    }

    pub fn update(&self) -> Result<Updated, TrustError> {
        let now = Duration::from_secs(START + self.clock);
        update(&mut self.state()?, &self.server, now)
    }

    /// What the endpoint believes that there is.
    pub fn content(&self) -> String {
        let state = self.state().unwrap();
        let targets = state.believed().targets().unwrap();
        targets.targets["livepc.json"].custom.as_str().unwrap().into()
    }

    /// What the endpoint has written.
    pub fn written(&self) -> Vec<u8> {
        goldleaf_host::read_file(&self.dir, "believed", 1 << 30).unwrap()
    }

    /// After an attack: nothing is believed that was not before, and the next honest version is.
    pub fn recovers(mut self, before: &[u8]) {
        assert!(self.written() == before, "what is believed has changed");
        self.still_updates();
    }

    /// The next honest version is believed.
    pub fn still_updates(&mut self) {
        self.author.put_root(&self.server, &self.author.keys[&Role::Root].0.clone());
        // Whoever publishes after an attack is ahead of what the attacker could make up.
        for role in [Role::Targets, Role::Snapshot, Role::Timestamp] {
            *self.author.versions.get_mut(&role).unwrap() += 10;
        }
        self.author.now = self.clock;
        self.author.next(&self.server);
        let updated = self.update();
        assert!(updated.as_ref().is_ok_and(|updated| updated.is_new), "{updated:?}");
        assert_eq!(self.content(), self.author.content);
    }
}
