//! The cases of TUF's public conformance suite (`theupdateframework/tuf-conformance`), by the names
//! that they have there and written anew for this client.
//!
//! Where the suite asks for the version of a file on disk, what is believed is asked here. A root is
//! asked for under the number of the one that is believed too, so a list of questions is one longer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use goldleaf_host::sim::SimDir;
use goldleaf_trust::{Draft, Event, Meta, Role, Snapshot, State, Timestamp, TrustError, sign};
use serde_json::{Value, json};

use crate::feed::Feed;
use crate::world::{Author, DAY, START, Server, World, key, line};

const DELEGATIONS: &str = "a channel has one list of targets, and nobody to delegate to";

/// All cases of the suite; with a reason those that say nothing about this client.
const CASES: &[(&str, Option<&str>)] = &[
    ("test_basic_init_and_refresh", None),
    ("test_implicit_refresh", Some("nothing can be asked for that an update did not name before")),
    ("test_invalid_initial_root", None),
    ("test_unsigned_initial_root", None),
    ("test_unsigned_metadata", None),
    ("test_timestamp_content_changes", None),
    ("test_timestamp_eq_versions_check", None),
    ("test_basic_metadata_hash_support", None),
    ("test_new_targets_hash_mismatch", None),
    ("test_new_targets_version_mismatch", None),
    ("test_custom_fields", None),
    ("test_root_expired", None),
    ("test_timestamp_expired", None),
    ("test_snapshot_expired", None),
    ("test_targets_expired", None),
    ("test_expired_metadata", None),
    ("test_delegated_targets_expired", Some(DELEGATIONS)),
    ("test_expired_local_delegated_targets", Some(DELEGATIONS)),
    ("test_expired_local_delegated_targets_updates", Some(DELEGATIONS)),
    ("test_client_downloads_expected_file", None),
    (
        "test_client_downloads_expected_file_in_sub_dir",
        Some("names of targets are ids, and never paths"),
    ),
    ("test_repository_substitutes_target_file", None),
    ("test_multiple_changes_to_target", None),
    ("test_root_has_keys_but_not_snapshot", None),
    ("test_root_meets_threshold_but_snapshot_does_not", None),
    ("test_wrong_hashing_algorithm", None),
    ("test_snapshot_threshold", None),
    ("test_duplicate_keys_root", None),
    ("test_keytype_and_scheme", None),
    ("test_unusual_role_name", Some(DELEGATIONS)),
    ("test_simple_snapshot_rollback", None),
    ("test_new_timestamp_version_rollback", None),
    ("test_snapshot_rollback", None),
    ("test_new_targets_fast_forward_recovery", None),
    ("test_new_snapshot_fast_forward_recovery", None),
    ("test_new_snapshot_version_mismatch", None),
    ("test_new_timestamp_fast_forward_recovery", None),
    ("test_targets_rollback", None),
    ("test_static_repo", Some("its metadata are for no organisation and feed, and by other keys")),
    ("test_graph_traversal", Some(DELEGATIONS)),
    ("test_targetfile_search", Some(DELEGATIONS)),
    ("test_root_rotation", None),
    ("test_non_root_rotations", None),
];

#[test]
fn every_case_is_here_or_has_a_reason_not_to_be() {
    let written = [include_str!("conformance.rs"), include_str!("rotations.rs")].concat();
    for (name, reason) in CASES {
        let is_here = written.contains(&format!("\n#[test]\nfn {name}() {{\n"));
        assert!(is_here != reason.is_some(), "{name}");
    }
    let listed = CASES.iter().filter(|(_, reason)| reason.is_none()).count();
    let here = written.matches("\n#[test]\nfn test_").count();
    // The pattern itself is not at the beginning of a line.
    assert_eq!(listed, here, "a case is missing in the list");
}

/// Versions of what is believed: root, timestamp, snapshot, targets.
pub type Versions = (u64, Option<u64>, Option<u64>, Option<u64>);

pub fn believed(world: &World) -> Versions {
    let written = world.written();
    let body = written.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let record: Value = serde_json::from_slice(&written[body..]).unwrap();
    let version = |role: &str| {
        let file: Value = serde_json::from_str(record[role].as_str()?).unwrap();
        file["signed"]["version"].as_u64()
    };
    (version("root").unwrap(), version("timestamp"), version("snapshot"), version("targets"))
}

/// An endpoint that has nothing but the root.
fn fresh() -> World {
    let (author, server, dir) = (Author::new(), Server::default(), SimDir::new());
    author.put_root(&server, &[1, 2]);
    author.publish(&server);
    State::create(Arc::new(dir.clone()), line(), &server.get("1.root.json")).unwrap();
    World { author, server, dir, clock: 0 }
}

/// All but the root have a next version.
pub fn bump_all(author: &mut Author) {
    for role in [Role::Targets, Role::Snapshot, Role::Timestamp] {
        author.bump(role);
    }
}

/// Metadata that expired yesterday.
fn expired<T: serde::Serialize>(author: &Author, role: Role, body: &T, keys: &[u8]) -> Vec<u8> {
    let expires = Duration::from_secs(START - DAY);
    let draft = Draft { role, version: author.versions[&role], expires, line: &author.line, body };
    let keys: Vec<_> = keys.iter().map(|number| key(*number)).collect();
    sign(&draft, &keys.iter().collect::<Vec<_>>()).unwrap()
}

fn snapshot_of(version: u64, targets: &[u8]) -> Snapshot {
    Snapshot { meta: [("targets.json".into(), Meta::of(version, targets))].into() }
}

fn timestamp_of(version: u64, snapshot: &[u8]) -> Timestamp {
    Timestamp { meta: [("snapshot.json".into(), Meta::of(version, snapshot))].into() }
}

/// Gives a role other keys, in a next root.
pub fn rotate(world: &mut World, keys: &[(Role, &[u8], usize)]) {
    for (role, numbers, threshold) in keys {
        world.author.keys.insert(*role, (numbers.to_vec(), *threshold));
    }
    world.author.bump(Role::Root);
    world.author.put_root(&world.server, &[1, 2]);
}

/// Publishes a snapshot of the targets that are there, by these keys.
fn snapshot_by(world: &mut World, keys: &[u8]) {
    world.author.bump(Role::Snapshot);
    world.author.bump(Role::Timestamp);
    let version = world.author.versions[&Role::Targets];
    let targets = world.server.get(&format!("{version}.targets.json"));
    let snapshot = world.author.sign(Role::Snapshot, &snapshot_of(version, &targets), keys);
    world.author.publish_snapshot(&world.server, &snapshot);
}

#[test]
fn test_basic_init_and_refresh() {
    let world = fresh();
    assert!(world.update().unwrap().is_new);
    let asked =
        ["1.root.json", "2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"];
    assert_eq!(*world.server.asked.borrow(), asked);
    assert_eq!(believed(&world), (1, Some(1), Some(1), Some(1)));
}

/// Nothing is begun on a root that is none, and nobody is asked for anything.
fn no_beginning(change: impl FnOnce(&mut Value)) -> TrustError {
    let (author, server, dir) = (Author::new(), Server::default(), SimDir::new());
    author.put_root(&server, &[1, 2]);
    let mut root: Value = serde_json::from_slice(&server.get("1.root.json")).unwrap();
    change(&mut root);
    let created = State::create(Arc::new(dir.clone()), line(), root.to_string().as_bytes());
    let opened = State::open(Arc::new(dir), line()).map(drop);
    assert!(matches!(opened, Err(TrustError::Lost(_))), "{opened:?}");
    created.map(drop).unwrap_err()
}

#[test]
fn test_invalid_initial_root() {
    let error = no_beginning(|root| {
        root["signed"].as_object_mut().unwrap().remove("version").unwrap();
    });
    assert!(matches!(error, TrustError::Malformed { .. } | TrustError::SigThreshold { .. }));
}

#[test]
fn test_unsigned_initial_root() {
    let error = no_beginning(|root| root["signatures"][0]["sig"] = "0".repeat(128).into());
    assert!(matches!(error, TrustError::SigThreshold { found: 1, .. }), "{error}");
}

#[test]
fn test_unsigned_metadata() {
    let none = (1, None, None, None);
    let cases = [
        (Role::Root, none),
        (Role::Timestamp, none),
        (Role::Snapshot, (1, Some(2), None, None)),
        (Role::Targets, (1, Some(2), Some(2), None)),
    ];
    for (role, trusted) in cases {
        let mut world = fresh();
        let author = &mut world.author;
        if role == Role::Root {
            author.bump(Role::Root);
            author.put_root(&world.server, &[1]);
        } else {
            bump_all(author);
            // One signature fewer than it takes.
            author.keys.get_mut(&role).unwrap().1 -= 1;
            author.publish(&world.server);
            author.keys.get_mut(&role).unwrap().1 += 1;
        }
        world.update().unwrap_err();
        assert_eq!(believed(&world), trusted, "{role}");
    }
}

#[test]
fn test_timestamp_content_changes() {
    let world = World::new();
    let timestamp = timestamp_of(100, b"another");
    world.server.put("timestamp.json", world.author.signed(Role::Timestamp, &timestamp));
    let before = world.written();
    assert_eq!(world.update().unwrap().events, [Event::TimestampEquivocation(1)]);
    assert!(world.written() == before);
    assert_eq!(world.server.asked.borrow().last().unwrap(), "timestamp.json");
}

/// The same, for a snapshot that is there.
#[test]
fn test_timestamp_eq_versions_check() {
    let mut world = World::new();
    let old = world.author.versions[&Role::Timestamp];
    world.author.next(&world.server);
    *world.author.versions.get_mut(&Role::Timestamp).unwrap() = old;
    let timestamp = timestamp_of(2, &world.server.get("2.snapshot.json"));
    world.server.put("timestamp.json", world.author.signed(Role::Timestamp, &timestamp));
    assert_eq!(world.update().unwrap().events, [Event::TimestampEquivocation(1)]);
    assert_eq!(believed(&world), (1, Some(1), Some(1), Some(1)));
}

#[test]
fn test_basic_metadata_hash_support() {
    let mut world = World::new();
    world.author.next(&world.server);
    world.update().unwrap();
    assert_eq!(believed(&world), (1, Some(2), Some(2), Some(2)));
    bump_all(&mut world.author);
    let targets = world.author.signed(Role::Targets, &world.author.targets());
    world.server.put("3.targets.json", targets.clone());
    let mut meta = Meta::of(3, &targets);
    meta.hashes.insert("sha256".into(), "46".repeat(32));
    let snapshot = Snapshot { meta: [("targets.json".into(), meta)].into() };
    let snapshot = world.author.signed(Role::Snapshot, &snapshot);
    world.author.publish_snapshot(&world.server, &snapshot);
    let error = world.update().unwrap_err();
    assert!(matches!(error, TrustError::HashMismatch { .. }), "{error}");
    assert_eq!(believed(&world), (1, Some(3), Some(3), Some(2)));
}

#[test]
fn test_new_targets_hash_mismatch() {
    let mut world = World::new();
    world.author.next(&world.server);
    world.author.content = "versioN 2".into();
    world.server.put("2.targets.json", world.author.signed(Role::Targets, &world.author.targets()));
    let error = world.update().unwrap_err();
    assert!(matches!(error, TrustError::HashMismatch { .. }), "{error}");
    assert_eq!(believed(&world).3, Some(1));
}

#[test]
fn test_new_targets_version_mismatch() {
    let mut world = World::new();
    world.author.bump(Role::Targets);
    world.server.put("2.targets.json", world.author.signed(Role::Targets, &world.author.targets()));
    assert!(!world.update().unwrap().is_new);
    assert_eq!(believed(&world), (1, Some(1), Some(1), Some(1)));
    assert_eq!(world.server.asked.borrow().last().unwrap(), "timestamp.json");
}

/// A root with fields that nobody here knows, signed as it is.
fn root_with(world: &mut World, change: impl FnOnce(&mut Value)) {
    world.author.bump(Role::Root);
    let mut root = serde_json::to_value(world.author.root()).unwrap();
    change(&mut root);
    let version = world.author.versions[&Role::Root];
    let bytes = world.author.sign(Role::Root, &root, &[1, 2]);
    world.server.put(format!("{version}.root.json"), bytes);
}

#[test]
fn test_custom_fields() {
    let mut world = World::new();
    root_with(&mut world, |root| {
        root["custom-field"] = "value".into();
        let id = root["roles"]["root"]["keyids"][0].as_str().unwrap().to_string();
        root["keys"][id]["extra-field"] = json!({"a": 1, "b": 2});
        root["roles"]["root"]["another-field"] = "value".into();
    });
    assert_eq!(world.update().unwrap().events, [Event::NewRoot(2)]);
    assert_eq!(believed(&world).0, 2);
}

/// The root is believed first, and then found to be too old.
#[test]
fn test_root_expired() {
    let mut world = World::new();
    rotate(&mut world, &[]);
    world.update().unwrap();
    world.author.bump(Role::Root);
    let root = expired(&world.author, Role::Root, &world.author.root(), &[1, 2]);
    world.server.put("3.root.json", root);
    world.author.next(&world.server);
    let error = world.update().unwrap_err();
    assert!(matches!(error, TrustError::Freeze { role: Role::Root, .. }), "{error}");
    assert_eq!(believed(&world), (3, Some(1), Some(1), Some(1)));
}

#[test]
fn test_timestamp_expired() {
    let mut world = World::new();
    world.author.bump(Role::Timestamp);
    let timestamp = timestamp_of(1, &world.server.get("1.snapshot.json"));
    let timestamp = expired(&world.author, Role::Timestamp, &timestamp, &[8]);
    world.server.put("timestamp.json", timestamp);
    let error = world.update().unwrap_err();
    assert!(matches!(error, TrustError::Freeze { role: Role::Timestamp, .. }), "{error}");
    assert_eq!(believed(&world), (1, Some(1), Some(1), Some(1)));
}

#[test]
fn test_snapshot_expired() {
    let mut world = World::new();
    world.author.bump(Role::Snapshot);
    world.author.bump(Role::Timestamp);
    let snapshot = snapshot_of(1, &world.server.get("1.targets.json"));
    let snapshot = expired(&world.author, Role::Snapshot, &snapshot, &[7]);
    world.author.publish_snapshot(&world.server, &snapshot);
    let error = world.update().unwrap_err();
    assert!(matches!(error, TrustError::Freeze { role: Role::Snapshot, .. }), "{error}");
    assert_eq!(believed(&world), (1, Some(2), Some(1), Some(1)));
}

#[test]
fn test_targets_expired() {
    let mut world = World::new();
    bump_all(&mut world.author);
    let targets = expired(&world.author, Role::Targets, &world.author.targets(), &[4, 5]);
    world.author.publish_targets(&world.server, &targets);
    let error = world.update().unwrap_err();
    assert!(matches!(error, TrustError::Freeze { role: Role::Targets, .. }), "{error}");
    assert_eq!(believed(&world), (1, Some(2), Some(2), Some(1)));
}

/// What is believed may be too old to be used, and is good enough to go on from.
#[test]
fn test_expired_metadata() {
    let mut world = World::new();
    (world.clock, world.author.now) = (18 * DAY, 14 * DAY);
    world.author.next(&world.server);
    assert!(world.update().unwrap().is_new);
    assert_eq!(believed(&world), (1, Some(2), Some(2), Some(2)));
}

/// What a client that follows a feed says of content that is offered to it as the target.
fn download(feed: &Feed, content: &str) -> Result<(), TrustError> {
    feed.update(&feed.client).unwrap();
    let state = State::open(Arc::new(feed.client.clone()), line()).unwrap();
    let targets = state.believed().targets().unwrap();
    targets.targets["livepc.json"].check("livepc.json", content.as_bytes())
}

#[test]
fn test_client_downloads_expected_file() {
    download(&Feed::new(), "version 1").unwrap();
}

#[test]
fn test_repository_substitutes_target_file() {
    let feed = Feed::new();
    let error = download(&feed, "version 9").unwrap_err();
    assert!(matches!(error, TrustError::HashMismatch { .. }), "{error}");
    let error = download(&feed, "malicious data").unwrap_err();
    assert!(matches!(error, TrustError::Length { .. }), "{error}");
    download(&feed, "version 1").unwrap();
}

#[test]
fn test_multiple_changes_to_target() {
    let feed = Feed::new();
    for round in 0..11 {
        let content = format!("modified content {round}");
        feed.publish(&content).unwrap();
        // The client sees one version of five.
        if round % 5 == 0 {
            download(&feed, &content).unwrap();
            // Metadata anew, in which the target is what it was; and another content in its place.
            feed.refresh(&feed.holders.online.0).unwrap();
            download(&feed, &content.replace("modified", "maliciou")).unwrap_err();
        }
    }
}

/// Root knows three keys of the snapshot's and later more; one that did not sign does not count.
#[test]
fn test_root_has_keys_but_not_snapshot() {
    let mut world = World::new();
    rotate(&mut world, &[(Role::Snapshot, &[7], 3)]);
    rotate(&mut world, &[(Role::Snapshot, &[7, 31], 3)]);
    snapshot_by(&mut world, &[7, 31]);
    world.update().unwrap_err();
    rotate(&mut world, &[(Role::Snapshot, &[7, 31, 32, 33], 3)]);
    snapshot_by(&mut world, &[7, 31, 32, 33]);
    world.update().unwrap();
    assert_eq!(believed(&world), (4, Some(3), Some(3), Some(1)));
    // More than there are keys; and a key of the role that did not sign.
    for keys in [&[7, 31, 32, 33][..], &[7, 31, 32, 33, 34]] {
        rotate(&mut world, &[(Role::Snapshot, keys, 5)]);
        snapshot_by(&mut world, &[7, 31, 32, 33]);
        let error = world.update().unwrap_err();
        let is_it = matches!(error, TrustError::SigThreshold { found: 4, threshold: 5, .. });
        assert!(is_it, "{error}");
    }
    assert_eq!((believed(&world).0, world.content()), (6, "version 1".into()));
}

#[test]
fn test_root_meets_threshold_but_snapshot_does_not() {
    let mut world = World::new();
    rotate(&mut world, &[(Role::Snapshot, &[7, 31, 32, 33], 3)]);
    snapshot_by(&mut world, &[7, 31, 32, 33]);
    world.update().unwrap();
    rotate(&mut world, &[(Role::Snapshot, &[7, 31, 32, 33], 4)]);
    snapshot_by(&mut world, &[7, 31, 32]);
    let error = world.update().unwrap_err();
    assert!(matches!(error, TrustError::SigThreshold { found: 3, threshold: 4, .. }), "{error}");
    assert_eq!((believed(&world).0, believed(&world).3), (3, Some(1)));
}

#[test]
fn test_wrong_hashing_algorithm() {
    let mut world = World::new();
    root_with(&mut world, |root| {
        let id = root["roles"]["snapshot"]["keyids"][0].as_str().unwrap().to_string();
        root["keys"][id]["keyid_hash_algorithms"] = json!(["md5"]);
    });
    snapshot_by(&mut world, &[7]);
    world.update().unwrap();
    assert_eq!(believed(&world), (2, Some(2), Some(2), Some(1)));
}

#[test]
fn test_snapshot_threshold() {
    let mut world = World::new();
    rotate(&mut world, &[(Role::Snapshot, &[7, 31, 32, 33, 34], 6)]);
    snapshot_by(&mut world, &[7, 31, 32, 33, 34]);
    let error = world.update().unwrap_err();
    assert!(matches!(error, TrustError::SigThreshold { found: 5, threshold: 6, .. }), "{error}");
    assert_eq!((believed(&world).0, world.content()), (2, "version 1".into()));
}

#[test]
fn test_duplicate_keys_root() {
    let mut world = World::new();
    rotate(&mut world, &[(Role::Snapshot, &[31; 9], 6)]);
    snapshot_by(&mut world, &[31; 9]);
    let error = world.update().unwrap_err();
    assert!(matches!(error, TrustError::SigThreshold { found: 1, threshold: 6, .. }), "{error}");
}

/// Ed25519 is what this client knows. Of other kinds it says so, and takes no such root.
#[test]
fn test_keytype_and_scheme() {
    let mut world = World::new();
    rotate(&mut world, &[(Role::Root, &[1, 2, 31], 3)]);
    world.author.put_root(&world.server, &[1, 2, 31]);
    world.update().unwrap();
    assert_eq!(believed(&world).0, 2);
    world.author.bump(Role::Root);
    world.author.put_root(&world.server, &[1, 2, 31]);
    let signed = world.server.get("3.root.json");
    let mut root: Value = serde_json::from_slice(&signed).unwrap();
    root["signatures"][2]["sig"] = "b6".repeat(64).into();
    let forged = String::from_utf8(signed).unwrap();
    let (_, body) = forged.split_once("\"signed\":").unwrap();
    let forged = format!("{{\"signatures\":{},\"signed\":{body}", root["signatures"]);
    world.server.put("3.root.json", forged.into_bytes());
    let error = world.update().unwrap_err();
    assert!(matches!(error, TrustError::RootRotation { version: 3, .. }), "{error}");
    assert_eq!(believed(&world).0, 2);
    for (keytype, scheme) in [("rsa", "rsassa-pss-sha256"), ("ecdsa", "ecdsa-sha2-nistp256")] {
        let mut world = World::new();
        rotate(&mut world, &[(Role::Root, &[1, 2, 31], 3)]);
        let id = key(31).public().id().0;
        let mut root = serde_json::to_value(world.author.root()).unwrap();
        (root["keys"][&id]["keytype"], root["keys"][&id]["scheme"]) =
            (keytype.into(), scheme.into());
        let bytes = world.author.sign(Role::Root, &root, &[1, 2, 31]);
        world.server.put("2.root.json", bytes);
        let error = world.update().unwrap_err();
        assert!(matches!(error, TrustError::SigAlgorithm(Role::Root)), "{error}");
        assert_eq!(believed(&world).0, 1);
    }
}

/// The snapshot that the timestamp names is there, so nobody is asked for it.
#[test]
fn test_simple_snapshot_rollback() {
    let mut world = World::new();
    snapshot_by(&mut world, &[7]);
    world.update().unwrap();
    world.server.put("2.snapshot.json", world.server.get("1.snapshot.json"));
    world.update().unwrap();
    assert_eq!(believed(&world).2, Some(2));
    assert_eq!(world.server.asked.borrow().last().unwrap(), "timestamp.json");
}

#[test]
fn test_new_timestamp_version_rollback() {
    let mut world = World::new();
    let first = world.server.get("timestamp.json");
    world.author.bump(Role::Timestamp);
    world.author.publish_snapshot(&world.server, &world.server.get("1.snapshot.json"));
    world.update().unwrap();
    world.server.put("timestamp.json", first);
    let error = world.update().unwrap_err();
    assert!(matches!(error, TrustError::Rollback { role: Role::Timestamp, .. }), "{error}");
    assert_eq!(believed(&world).1, Some(2));
    assert_eq!(world.server.asked.borrow().last().unwrap(), "timestamp.json");
}

/// What a file names another by: with digest and length, or by its version alone.
fn named(version: u64, bytes: &[u8], with_hashes: bool) -> Meta {
    match with_hashes {
        true => Meta::of(version, bytes),
        false => serde_json::from_value(json!({ "version": version })).unwrap(),
    }
}

/// Publishes snapshots and timestamps that name others with or without their digests.
fn publish_named(world: &mut World, with_hashes: bool) {
    let version = |role| world.author.versions[&role];
    let targets = world.server.get(&format!("{}.targets.json", version(Role::Targets)));
    let meta = named(version(Role::Targets), &targets, with_hashes);
    let snapshot = Snapshot { meta: [("targets.json".into(), meta)].into() };
    let snapshot = world.author.signed(Role::Snapshot, &snapshot);
    let meta = named(version(Role::Snapshot), &snapshot, with_hashes);
    world.server.put(format!("{}.snapshot.json", version(Role::Snapshot)), snapshot);
    let timestamp = Timestamp { meta: BTreeMap::from([("snapshot.json".into(), meta)]) };
    world.server.put("timestamp.json", world.author.signed(Role::Timestamp, &timestamp));
}

fn set(world: &mut World, versions: &[(Role, u64)]) {
    world.author.versions.extend(versions.iter().copied());
}

#[test]
fn test_snapshot_rollback() {
    for with_hashes in [false, true] {
        let mut world = fresh();
        set(&mut world, &[(Role::Snapshot, 2), (Role::Timestamp, 2)]);
        publish_named(&mut world, with_hashes);
        world.update().unwrap();
        set(&mut world, &[(Role::Snapshot, 1), (Role::Timestamp, 3)]);
        publish_named(&mut world, with_hashes);
        let error = world.update().unwrap_err();
        assert!(matches!(error, TrustError::Rollback { role: Role::Snapshot, .. }), "{error}");
        assert_eq!(believed(&world), (1, Some(2), Some(2), Some(1)));
        assert_eq!(world.server.asked.borrow().last().unwrap(), "timestamp.json");
    }
}

#[test]
fn test_targets_rollback() {
    for with_hashes in [false, true] {
        let mut world = fresh();
        for version in [3, 1] {
            let next = believed(&world).1.unwrap_or(1) + 1;
            let versions =
                [(Role::Targets, version), (Role::Snapshot, next), (Role::Timestamp, next)];
            set(&mut world, &versions);
            let targets = world.author.signed(Role::Targets, &world.author.targets());
            world.server.put(format!("{version}.targets.json"), targets);
            publish_named(&mut world, with_hashes);
            let updated = world.update();
            match version {
                3 => drop(updated.unwrap()),
                _ => {
                    let error = updated.unwrap_err();
                    let is_it = matches!(error, TrustError::Rollback { role: Role::Targets, .. });
                    assert!(is_it, "{error}");
                }
            }
        }
        assert_eq!(believed(&world).3, Some(3));
    }
}

#[test]
fn test_new_snapshot_version_mismatch() {
    let mut world = fresh();
    set(&mut world, &[(Role::Snapshot, 2)]);
    let snapshot = snapshot_of(1, &world.server.get("1.targets.json"));
    let snapshot = world.author.signed(Role::Snapshot, &snapshot);
    world.server.put("1.snapshot.json", snapshot.clone());
    let meta = BTreeMap::from([("snapshot.json".into(), named(1, &snapshot, false))]);
    world.server.put("timestamp.json", world.author.signed(Role::Timestamp, &Timestamp { meta }));
    let error = world.update().unwrap_err();
    let is_it = matches!(error, TrustError::MixAndMatch { role: Role::Snapshot, found: 2, .. });
    assert!(is_it, "{error}");
    assert_eq!(believed(&world), (1, Some(1), None, None));
    assert_eq!(world.server.asked.borrow().last().unwrap(), "1.snapshot.json");
}

/// After somebody pushed versions up, new keys make the way free again.
fn recovers(
    pushed: &[(Role, u64)],
    rotated: &[(Role, &[u8], usize)],
    back: &[(Role, u64)],
) -> World {
    let mut world = World::new();
    set(&mut world, pushed);
    world.author.publish(&world.server);
    world.update().unwrap();
    set(&mut world, back);
    world.author.publish(&world.server);
    assert!(matches!(world.update(), Err(TrustError::Rollback { .. })), "without new keys");
    rotate(&mut world, rotated);
    world.author.publish(&world.server);
    world.update().unwrap();
    world
}

#[test]
fn test_new_targets_fast_forward_recovery() {
    let pushed = [(Role::Targets, 100), (Role::Snapshot, 2), (Role::Timestamp, 2)];
    let back = [(Role::Targets, 2), (Role::Snapshot, 3), (Role::Timestamp, 3)];
    let world = recovers(&pushed, &[(Role::Snapshot, &[31], 1)], &back);
    assert_eq!(believed(&world).3, Some(2));
}

#[test]
fn test_new_snapshot_fast_forward_recovery() {
    let pushed = [(Role::Snapshot, 99_999), (Role::Timestamp, 2)];
    let back = [(Role::Snapshot, 1), (Role::Timestamp, 3)];
    let keys = [(Role::Snapshot, &[31][..], 1), (Role::Timestamp, &[32], 1)];
    assert_eq!(believed(&recovers(&pushed, &keys, &back)).2, Some(1));
}

#[test]
fn test_new_timestamp_fast_forward_recovery() {
    let (pushed, back) = ([(Role::Timestamp, 100)], [(Role::Timestamp, 1)]);
    let world = recovers(&pushed, &[(Role::Timestamp, &[32], 1)], &back);
    assert_eq!(believed(&world).1, Some(1));
}
