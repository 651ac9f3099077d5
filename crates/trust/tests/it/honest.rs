//! Updates as they should be.

use std::sync::Arc;

use goldleaf_host::sim::SimDir;
use goldleaf_trust::{Event, Role, State, TrustError};

use crate::world::{Author, DAY, Server, World, line};

#[test]
fn a_new_version_is_believed_and_an_old_one_is_not_asked_for_again() {
    let mut world = World::new();
    assert_eq!(world.content(), "version 1");
    assert!(!world.update().unwrap().is_new);
    world.author.next(&world.server);
    assert!(world.update().unwrap().is_new);
    assert_eq!(world.content(), "version 2");
    world.server.asked.borrow_mut().clear();
    world.update().unwrap();
    assert_eq!(*world.server.asked.borrow(), ["1.root.json", "2.root.json", "timestamp.json"]);
}

/// Keys are changed one set after the other, and an endpoint that slept through it follows.
#[test]
fn keys_rotate() {
    let mut world = World::new();
    world.author.bump(Role::Root);
    world.author.keys.insert(Role::Root, (vec![2, 3, 11], 2));
    world.author.put_root(&world.server, &[1, 2, 3]);
    world.author.bump(Role::Root);
    world.author.keys.insert(Role::Root, (vec![3, 11, 12], 2));
    world.author.keys.insert(Role::Targets, (vec![14, 15], 2));
    world.author.keys.insert(Role::Timestamp, (vec![18], 1));
    world.author.put_root(&world.server, &[2, 3, 11]);
    world.author.next(&world.server);
    let updated = world.update().unwrap();
    assert_eq!(updated.events, [Event::NewRoot(2), Event::NewRoot(3)]);
    assert_eq!(world.content(), "version 2");
    assert_eq!(world.state().unwrap().believed().root_version(), 3);
}

/// Only the freshness is signed again each week.
#[test]
fn a_version_stays_believed_while_its_timestamp_is_renewed() {
    let mut world = World::new();
    for week in 1..20 {
        (world.clock, world.author.now) = (week * 6 * DAY, week * 6 * DAY);
        world.author.bump(Role::Timestamp);
        world.author.publish_snapshot(&world.server, &world.server.get("1.snapshot.json"));
        assert!(!world.update().unwrap().is_new);
    }
}

#[test]
fn trust_begins_once_and_with_a_whole_root() {
    let (author, server, dir) = (Author::new(), Server::default(), SimDir::new());
    author.put_root(&server, &[1]);
    let begin = |bytes: &[u8]| State::create(Arc::new(dir.clone()), line(), bytes).map(drop);
    let one_of_two = begin(&server.get("1.root.json"));
    assert!(matches!(one_of_two, Err(TrustError::SigThreshold { found: 1, .. })));
    author.put_root(&server, &[1, 2]);
    begin(&server.get("1.root.json")).unwrap();
    assert!(matches!(begin(&server.get("1.root.json")), Err(TrustError::Io { .. })));
}
