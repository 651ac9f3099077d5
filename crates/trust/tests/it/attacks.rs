//! The attacks on updates, by their row in the threat table. After each the endpoint believes what
//! it believed, and the next honest version.

use std::collections::BTreeMap;

use goldleaf_trust::{Event, KeyId, Line, Meta, ROOTS_MAX, Role, Snapshot, Timestamp, TrustError};

use crate::world::{DAY, World, key};

/// The answer to an attack; nothing of it may stick, and honest updates go on.
fn refused(world: World, before: &[u8]) -> TrustError {
    let error = world.update().expect_err("it was believed");
    world.recovers(before);
    error
}

/// A world with an attack prepared: what was written before, and the attack.
fn attacked(attack: impl FnOnce(&mut World)) -> TrustError {
    let mut world = World::new();
    let before = world.written();
    attack(&mut world);
    refused(world, &before)
}

/// Publishes a next timestamp over the snapshot that is there, signed by some keys.
fn stamp(world: &mut World, signers: &[u8]) {
    world.author.bump(Role::Timestamp);
    let snapshot = world.server.get("1.snapshot.json");
    let meta = [("snapshot.json".into(), Meta::of(1, &snapshot))].into();
    let bytes = world.author.sign(Role::Timestamp, &Timestamp { meta }, signers);
    world.server.put("timestamp.json", bytes);
}

/// Changes the text of a file.
fn edit(world: &World, name: &str, change: impl FnOnce(String) -> String) {
    let text = String::from_utf8(world.server.get(name)).unwrap();
    let changed = change(text.clone());
    assert_ne!(changed, text, "the attack does nothing");
    world.server.put(name, changed.into_bytes());
}

#[test]
fn a01_unsigned() {
    let error = attacked(|world| stamp(world, &[]));
    assert!(matches!(error, TrustError::SigMissing(Role::Timestamp)), "{error}");
}

/// Targets that one of the two signed: all that leads to them is honest.
fn targets_signed(world: &mut World, signers: &[u8]) -> TrustError {
    for role in [Role::Targets, Role::Snapshot, Role::Timestamp] {
        world.author.bump(role);
    }
    let targets = world.author.sign(Role::Targets, &world.author.targets(), signers);
    world.author.publish_targets(&world.server, &targets);
    let error = world.update().expect_err("it was believed");
    assert_eq!(world.content(), "version 1");
    world.still_updates();
    error
}

#[test]
fn a02_one_signature_too_few() {
    let error = targets_signed(&mut World::new(), &[4]);
    assert!(matches!(error, TrustError::SigThreshold { found: 1, threshold: 2, .. }), "{error}");
}

#[test]
fn a03_one_signature_twice() {
    let error = targets_signed(&mut World::new(), &[4, 4, 4]);
    assert!(matches!(error, TrustError::SigThreshold { found: 1, .. }), "{error}");
}

/// Whoever makes the root may blunder; one key is still one.
#[test]
fn a04_one_key_under_two_names() {
    let mut world = World::new();
    world.author.bump(Role::Root);
    let mut root = world.author.root();
    let other = KeyId("0".repeat(64));
    root.keys.insert(other.clone(), key(4).public());
    root.roles.get_mut("targets").unwrap().keyids.push(other.clone());
    let bytes = world.author.sign(Role::Root, &root, &[1, 2]);
    world.server.put("2.root.json", bytes);
    for role in [Role::Targets, Role::Snapshot, Role::Timestamp] {
        world.author.bump(role);
    }
    let targets = world.author.sign(Role::Targets, &world.author.targets(), &[4]);
    let text = String::from_utf8(targets).unwrap();
    let end = text.find(']').unwrap();
    let first = &text["{\"signatures\":[".len()..end];
    let again = first.replace(&key(4).public().id().0, &other.0);
    let twice = format!("{{\"signatures\":[{first},{again}{}", &text[end..]);
    world.author.publish_targets(&world.server, twice.as_bytes());
    let error = world.update().expect_err("one key counted twice");
    assert!(matches!(error, TrustError::SigThreshold { found: 1, .. }), "{error}");
}

#[test]
fn a05_a_key_of_another_role() {
    let error = attacked(|world| stamp(world, &[7]));
    assert!(matches!(error, TrustError::SigMissing(Role::Timestamp)), "{error}");
    let error = targets_signed(&mut World::new(), &[4, 8]);
    assert!(matches!(error, TrustError::SigThreshold { found: 1, .. }), "{error}");
}

#[test]
fn a06_a_key_that_was_removed() {
    let mut world = World::new();
    world.author.bump(Role::Root);
    world.author.keys.insert(Role::Timestamp, (vec![18], 1));
    world.author.put_root(&world.server, &[1, 2]);
    world.author.next(&world.server);
    world.update().unwrap();
    let before = world.written();
    world.author.bump(Role::Timestamp);
    let (version, bytes) = (2, world.server.get("2.snapshot.json"));
    let meta = [("snapshot.json".into(), Meta::of(version, &bytes))].into();
    let old = world.author.sign(Role::Timestamp, &Timestamp { meta }, &[8]);
    world.server.put("timestamp.json", old);
    let error = refused(world, &before);
    assert!(matches!(error, TrustError::SigMissing(Role::Timestamp)), "{error}");
}

/// A07 and A08: the next root by the old keys alone, and by its own alone.
#[test]
fn a07_a08_half_a_rotation() {
    for (signers, missing) in [(&[1, 2][..], "its own keys"), (&[11, 12], "the root before")] {
        let mut world = World::new();
        let before = world.written();
        let honest = world.author.clone();
        world.author.bump(Role::Root);
        world.author.keys.insert(Role::Root, (vec![11, 12], 2));
        world.author.put_root(&world.server, signers);
        let error = world.update().expect_err("it was believed");
        assert!(
            matches!(error, TrustError::RootRotation { version: 2, side } if side == missing),
            "{error}"
        );
        world.author = honest;
        world.server.files.borrow_mut().remove("2.root.json");
        world.recovers(&before);
    }
}

#[test]
fn a09_a_root_in_another_ones_place() {
    let mut world = World::new();
    let before = world.written();
    let honest = world.author.clone();
    world.author.bump(Role::Root);
    world.author.bump(Role::Root);
    world.author.put_root(&world.server, &[1, 2]);
    let three = world.server.get("3.root.json");
    world.server.put("2.root.json", three);
    let error = world.update().expect_err("it was believed");
    assert!(matches!(error, TrustError::RootVersion { expected: 2, found: 3 }), "{error}");
    world.author = honest;
    world.server.files.borrow_mut().retain(|name, _| !name.ends_with("root.json"));
    world.recovers(&before);
}

#[test]
fn a10_another_root_under_the_same_number() {
    let world = World::new();
    let before = world.written();
    let mut other = world.author.clone();
    other.now = DAY;
    other.put_root(&world.server, &[1, 2]);
    assert_eq!(world.update().unwrap().events, [Event::RootEquivocation(1)]);
    world.recovers(&before);
}

#[test]
fn a11_another_algorithm() {
    for kind in ["rsa", "none", ""] {
        let mut world = World::new();
        world.author.bump(Role::Root);
        let root = serde_json::to_string(&world.author.root()).unwrap();
        let id = key(8).public().id().0;
        let at = root.find(&format!("\"{id}\":{{\"keytype\":\"ed25519\"")).unwrap();
        let (head, tail) = root.split_at(at);
        let swapped =
            tail.replacen("\"keytype\":\"ed25519\"", &format!("\"keytype\":\"{kind}\""), 1);
        let root: serde_json::Value = serde_json::from_str(&(head.to_owned() + &swapped)).unwrap();
        world.server.put("2.root.json", world.author.sign(Role::Root, &root, &[1, 2]));
        world.author.bump(Role::Timestamp);
        world.author.publish(&world.server);
        let error = world.update().expect_err("it was believed");
        assert!(matches!(error, TrustError::SigAlgorithm(Role::Timestamp)), "{kind}: {error}");
        assert_eq!(world.content(), "version 1");
    }
}

/// A12: what two readers could read in two ways; and a byte that was not signed.
#[test]
fn a12_malformed() {
    let edits: [(&str, &str, &str); 4] = [
        ("a role twice", "\"version\":2", "\"version\":2,\"version\":3"),
        ("an envelope twice", "{\"signatures\":[", "{\"signatures\":[],\"signatures\":["),
        ("a file twice", "\"meta\":{", "\"meta\":{\"snapshot.json\":{\"version\":9},"),
        ("no JSON", "{\"signatures\"", "<html>{\"signatures\""),
    ];
    for (what, from, to) in edits {
        let error = attacked(|world| {
            stamp(world, &[8]);
            edit(world, "timestamp.json", |text| text.replacen(from, to, 1));
        });
        // Where what is signed changed, the signature is what says so.
        let is_signed = what == "a role twice" || what == "a file twice";
        match error {
            TrustError::SigThreshold { found: 0, .. } if is_signed => {}
            TrustError::Malformed { .. } if !is_signed => {}
            other => panic!("{what}: {other}"),
        }
    }
    let error = attacked(|world| {
        stamp(world, &[8]);
        edit(world, "timestamp.json", |text| text.replacen("\"version\":2", "\"version\": 2", 1));
    });
    assert!(matches!(error, TrustError::SigThreshold { found: 0, .. }), "{error}");
}

/// The same, signed by somebody who has the key.
#[test]
fn a12_a_name_twice_though_signed() {
    let error = attacked(|world| {
        world.author.bump(Role::Timestamp);
        let text = r#"{"meta":{"snapshot.json":{"version":1},"snapshot.json":{"version":1}}}"#;
        let raw: Box<serde_json::value::RawValue> = serde_json::from_str(text).unwrap();
        // Only a signer that keeps what it is given can make such a thing.
        let body = BTreeMap::from([("meta", "MARK")]);
        let bytes = world.author.sign(Role::Timestamp, &body, &[]);
        let signed = String::from_utf8(bytes).unwrap();
        let at = signed.find("\"signed\":").unwrap() + "\"signed\":".len();
        let inner = &raw.get()["{\"meta\":".len()..raw.get().len() - 1];
        let message = signed[at..].trim_end().strip_suffix('}').unwrap();
        let message = message.replace("\"MARK\"", inner);
        let (id, sig) = (key(8).public().id().0, key(8).sign(message.as_bytes()));
        let file = format!(
            "{{\"signatures\":[{{\"keyid\":\"{id}\",\"sig\":\"{sig}\"}}],\"signed\":{message}}}"
        );
        world.server.put("timestamp.json", file.into_bytes());
    });
    assert!(
        matches!(&error, TrustError::Malformed { why, .. } if why.contains("twice")),
        "{error}"
    );
}

#[test]
fn a14_an_older_timestamp() {
    let mut world = World::new();
    let old = world.server.get("timestamp.json");
    world.author.next(&world.server);
    world.update().unwrap();
    let before = world.written();
    world.server.put("timestamp.json", old);
    let error = refused(world, &before);
    let is_it = matches!(error, TrustError::Rollback { role: Role::Timestamp, known: 2, found: 1 });
    assert!(is_it, "{error}");
}

#[test]
fn a15_a_newer_timestamp_with_an_older_snapshot() {
    let mut world = World::new();
    world.author.next(&world.server);
    world.update().unwrap();
    let before = world.written();
    stamp(&mut world, &[8]);
    let error = refused(world, &before);
    assert!(matches!(error, TrustError::Rollback { role: Role::Snapshot, .. }), "{error}");
}

/// A snapshot by somebody who has the online keys: the timestamp is believed, no more.
fn snapshot_of(world: &mut World, meta: BTreeMap<String, Meta>) -> TrustError {
    let content = world.content();
    for role in [Role::Snapshot, Role::Timestamp] {
        world.author.bump(role);
    }
    let snapshot = world.author.signed(Role::Snapshot, &Snapshot { meta });
    world.author.publish_snapshot(&world.server, &snapshot);
    let error = world.update().expect_err("it was believed");
    assert_eq!(world.content(), content);
    world.still_updates();
    error
}

#[test]
fn a16_a_snapshot_with_older_targets() {
    let mut world = World::new();
    world.author.next(&world.server);
    world.update().unwrap();
    let meta = Meta::of(1, &world.server.get("1.targets.json"));
    let error = snapshot_of(&mut world, [("targets.json".into(), meta)].into());
    let is_it = matches!(error, TrustError::Rollback { role: Role::Targets, known: 2, found: 1 });
    assert!(is_it, "{error}");
}

#[test]
fn a17_a_snapshot_without_targets() {
    let error = snapshot_of(&mut World::new(), BTreeMap::new());
    assert!(matches!(error, TrustError::RoleMissing(Role::Targets)), "{error}");
}

/// A18, and A19: with the endpoint's clock set back.
#[test]
fn a18_a19_an_expired_timestamp() {
    for (role, days) in [(Role::Timestamp, 8), (Role::Root, 400)] {
        let mut world = World::new();
        let before = world.written();
        world.clock = days * DAY;
        let error = world.update().expect_err("it was believed");
        assert!(matches!(&error, TrustError::Freeze { role: found, .. } if *found == role));
        assert!(world.written() == before);
    }
    let mut world = World::new();
    stamp(&mut world, &[8]);
    let held_back = world.server.get("timestamp.json");
    (world.clock, world.author.now) = (20 * DAY, 20 * DAY);
    world.author.publish_snapshot(&world.server, &world.server.get("1.snapshot.json"));
    world.author.bump(Role::Timestamp);
    world.author.publish_snapshot(&world.server, &world.server.get("1.snapshot.json"));
    world.update().unwrap();
    let before = world.written();
    // What expired on the seventh day, and what is newer but no fresher, on the eighth day anew.
    world.clock = DAY;
    world.author.now = 0;
    world.author.bump(Role::Timestamp);
    world.author.publish_snapshot(&world.server, &world.server.get("1.snapshot.json"));
    let error = world.update().expect_err("it was believed");
    assert!(matches!(error, TrustError::Freeze { role: Role::Timestamp, .. }), "{error}");
    world.server.put("timestamp.json", held_back);
    let error = world.update().expect_err("it was believed");
    assert!(matches!(error, TrustError::Rollback { .. } | TrustError::Freeze { .. }), "{error}");
    assert!(world.written() == before);
    (world.clock, world.author.now) = (21 * DAY, 21 * DAY);
    world.still_updates();
}

/// Somebody with the online keys pushes versions as high as they go; the keys are changed.
#[test]
fn a20_fast_forward() {
    let mut world = World::new();
    let honest = world.author.clone();
    for role in [Role::Snapshot, Role::Timestamp] {
        world.author.versions.insert(role, u64::MAX);
    }
    world.author.publish(&world.server);
    world.update().unwrap();
    world.author = honest;
    world.author.next(&world.server);
    assert!(matches!(world.update(), Err(TrustError::Rollback { .. })));
    world.author.bump(Role::Root);
    world.author.keys.insert(Role::Snapshot, (vec![17], 1));
    world.author.keys.insert(Role::Timestamp, (vec![18], 1));
    world.author.put_root(&world.server, &[1, 2]);
    world.author.publish(&world.server);
    assert!(world.update().unwrap().is_new);
    assert_eq!(world.content(), "version 2");
}

#[test]
fn a21_another_timestamp_under_the_same_number() {
    let mut world = World::new();
    let before = world.written();
    world.author.now = DAY;
    world.author.publish_snapshot(&world.server, &world.server.get("1.snapshot.json"));
    assert_eq!(world.update().unwrap().events, [Event::TimestampEquivocation(1)]);
    world.recovers(&before);
}

/// Targets of the day before under the name of today's.
#[test]
fn a22_mix_and_match() {
    let mut world = World::new();
    world.author.next(&world.server);
    let yesterday = world.server.get("1.targets.json");
    world.server.put("2.targets.json", yesterday.clone());
    let error = world.update().expect_err("it was believed");
    assert!(matches!(error, TrustError::HashMismatch { .. } | TrustError::Length { .. }));
    assert_eq!(world.content(), "version 1");
    world.still_updates();
    // The digest is right, the number is not.
    let mut world = World::new();
    let error = snapshot_of(&mut world, [("targets.json".into(), Meta::of(2, &yesterday))].into());
    assert!(matches!(error, TrustError::Missing(_)), "{error}");
    let mut world = World::new();
    world.server.put("2.targets.json", yesterday.clone());
    let error = snapshot_of(&mut world, [("targets.json".into(), Meta::of(2, &yesterday))].into());
    assert!(matches!(error, TrustError::MixAndMatch { expected: 2, found: 1, .. }), "{error}");
}

#[test]
fn a26_endless_metadata() {
    let error = attacked(|world| world.server.put("timestamp.json", vec![b' '; 1 << 20]));
    assert!(matches!(error, TrustError::TooLarge { limit: 65_536, .. }), "{error}");
    let mut world = World::new();
    world.author.next(&world.server);
    let mut long = world.server.get("2.targets.json");
    long.resize(20 << 20, b' ');
    world.server.put("2.targets.json", long);
    let error = world.update().expect_err("it was believed");
    assert!(matches!(error, TrustError::TooLarge { .. }), "no longer than was named: {error}");
    assert_eq!(world.content(), "version 1");
}

#[test]
fn a31_endless_roots() {
    let mut world = World::new();
    for _ in 0..=ROOTS_MAX {
        world.author.bump(Role::Root);
        world.author.put_root(&world.server, &[1, 2]);
    }
    let error = world.update().expect_err("it was believed");
    assert!(matches!(error, TrustError::RootCap(ROOTS_MAX)), "{error}");
    assert_eq!(world.content(), "version 1");
    // Each of them was sound: the next update goes on from there.
    world.author.next(&world.server);
    world.update().unwrap();
    assert_eq!(world.content(), "version 2");
}

#[test]
fn a32_bombs_of_json() {
    let deep = format!("{{\"signed\":{}", "[".repeat(60_000));
    let many = format!("{{\"signatures\":[{}", "{\"keyid\":\"\",\"sig\":\"\"},".repeat(2_500));
    for bomb in [deep, many] {
        let error = attacked(|world| world.server.put("timestamp.json", bomb.into_bytes()));
        assert!(matches!(error, TrustError::Malformed { .. }), "{error}");
    }
    // As many signatures as fit, all of them nonsense.
    let id = key(8).public().id().0;
    let one = format!("{{\"keyid\":\"{id}\",\"sig\":\"\"}},");
    let all = one.repeat(60_000 / one.len());
    let error = attacked(|world| {
        stamp(world, &[]);
        edit(world, "timestamp.json", |text| {
            text.replacen("[]", &format!("[{}]", all.trim_end_matches(',')), 1)
        });
    });
    assert!(matches!(error, TrustError::SigThreshold { found: 0, .. }), "{error}");
}

#[test]
fn a41_another_line() {
    for (organisation, feed) in
        [("other", "office-desktop/stable"), ("acme", "office-desktop/pilot")]
    {
        let error = attacked(|world| {
            let honest = world.author.line.clone();
            world.author.line = Line { organisation: organisation.into(), feed: feed.into() };
            stamp(world, &[8]);
            world.author.line = honest;
        });
        assert!(matches!(error, TrustError::WrongTarget { .. }), "{error}");
    }
}

#[test]
fn a43_one_role_in_the_place_of_another() {
    let mut world = World::new();
    world.author.keys.insert(Role::Snapshot, (vec![8], 1));
    world.author.bump(Role::Root);
    world.author.put_root(&world.server, &[1, 2]);
    world.author.bump(Role::Timestamp);
    world.author.publish(&world.server);
    let _ = world.update();
    let before = world.written();
    // One key may sign both, and one does not do for the other.
    let snapshot = world.server.get("1.snapshot.json");
    world.server.put("timestamp.json", snapshot);
    let error = world.update().expect_err("it was believed");
    assert!(matches!(&error, TrustError::WrongType { found, .. } if found == "snapshot"));
    assert!(world.written() == before);
}

/// A53: all that the online keys can do is hold back what is new.
#[test]
fn a53_the_online_keys_make_no_image() {
    let mut world = World::new();
    for role in [Role::Targets, Role::Snapshot, Role::Timestamp] {
        world.author.bump(role);
    }
    world.author.content = "evil".into();
    let targets = world.author.sign(Role::Targets, &world.author.targets(), &[7, 8]);
    world.author.publish_targets(&world.server, &targets);
    let error = world.update().expect_err("it was believed");
    assert!(matches!(error, TrustError::SigMissing(Role::Targets)), "{error}");
    assert_eq!(world.content(), "version 1");
    world.still_updates();
}
