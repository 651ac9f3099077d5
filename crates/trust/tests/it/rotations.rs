//! The cases of TUF's public conformance suite in which keys change (see `conformance`).

use std::sync::Arc;

use goldleaf_host::sim::SimDir;
use goldleaf_trust::{Role, State, TrustError};

use crate::conformance::{believed, bump_all, rotate};
use crate::world::{Author, Server, World, line};

/// Keys of a role by number, how many of them it takes, and who signs.
type Step = (&'static [u8], usize, &'static [u8]);

/// Roots one after the other; whether the last one is believed.
const ROOT_ROTATIONS: &[(&str, &[Step], bool)] = &[
    ("1-of-1-key-rotation", &[(&[1], 1, &[1]), (&[2], 1, &[2, 1]), (&[2], 1, &[2])], true),
    (
        "1-of-1-key-rotation-unused-signatures",
        &[(&[1], 1, &[3, 1, 4]), (&[2], 1, &[3, 2, 1, 4]), (&[2], 1, &[3, 2, 4])],
        true,
    ),
    (
        "3-of-5-sign-with-different-keycombos",
        &[
            (&[0, 1, 2, 3, 4], 3, &[0, 2, 4]),
            (&[0, 1, 2, 3, 4], 3, &[0, 4, 1]),
            (&[0, 1, 2, 3, 4], 3, &[0, 1, 3]),
            (&[0, 1, 2, 3, 4], 3, &[0, 1, 3]),
        ],
        true,
    ),
    (
        "3-of-5-one-key-rotated",
        &[(&[0, 1, 2, 3, 4], 3, &[0, 2, 4]), (&[0, 1, 3, 4, 5], 3, &[0, 4, 1])],
        true,
    ),
    (
        "3-of-5-one-key-rotated-with-intermediate-step",
        &[
            (&[0, 1, 2, 3, 4], 3, &[0, 2, 4]),
            (&[0, 1, 3, 4, 5], 3, &[0, 2, 4, 5]),
            (&[0, 1, 3, 4, 5], 3, &[0, 4, 5]),
        ],
        true,
    ),
    (
        "3-of-5-all-keys-rotated-with-intermediate-step",
        &[
            (&[0, 1, 2, 3, 4], 3, &[0, 2, 4]),
            (&[5, 6, 7, 8, 9], 3, &[0, 2, 4, 5, 6, 7]),
            (&[5, 6, 7, 8, 9], 3, &[5, 6, 7]),
        ],
        true,
    ),
    (
        "1-of-3-threshold-increase-to-2-of-3",
        &[(&[1, 2, 3], 1, &[1]), (&[1, 2, 3], 2, &[1, 2])],
        true,
    ),
    (
        "2-of-3-threshold-decrease-to-1-of-3",
        &[(&[1, 2, 3], 2, &[1, 2]), (&[1, 2, 3], 1, &[1, 2]), (&[1, 2, 3], 1, &[1])],
        true,
    ),
    ("1-of-2-threshold-increase-to-2-of-2", &[(&[1], 1, &[1]), (&[1, 2], 2, &[1, 2])], true),
    (
        "1-of-1-key-rotation-fail-not-signed-with-old-key",
        &[(&[1], 1, &[1]), (&[2], 1, &[2, 3, 4])],
        false,
    ),
    (
        "1-of-1-key-rotation-fail-not-signed-with-new-key",
        &[(&[1], 1, &[1]), (&[2], 1, &[1, 3, 4])],
        false,
    ),
    (
        "3-of-5-one-key-rotate-fails-not-signed-with-3-new-keys",
        &[(&[0, 1, 2, 3, 4], 3, &[0, 2, 4]), (&[0, 1, 3, 4, 5], 3, &[0, 2, 4])],
        false,
    ),
    (
        "3-of-5-one-key-rotate-fails-not-signed-with-3-old-keys",
        &[(&[0, 1, 2, 3, 4], 3, &[0, 2, 4]), (&[0, 1, 3, 4, 5], 3, &[0, 4, 5])],
        false,
    ),
    (
        "1-of-3-threshold-bump-to-2-of-3-fails-new-threshold-not-reached",
        &[(&[1, 2, 3], 1, &[1]), (&[1, 2, 3], 2, &[2])],
        false,
    ),
    (
        "2-of-3-threshold-decr-to-1-of-3-fails-old-threshold-not-eached",
        &[(&[1, 2, 3], 2, &[1, 2]), (&[1, 2, 3], 1, &[1])],
        false,
    ),
];

/// The keys of the tables are others than those of the world.
fn numbers(keys: &[u8]) -> Vec<u8> {
    keys.iter().map(|number| number + 100).collect()
}

#[test]
fn test_root_rotation() {
    for (name, steps, is_good) in ROOT_ROTATIONS {
        let (mut author, server, dir) = (Author::new(), Server::default(), SimDir::new());
        for (number, (keys, threshold, signers)) in (1..).zip(*steps) {
            author.versions.insert(Role::Root, number);
            author.keys.insert(Role::Root, (numbers(keys), *threshold));
            author.put_root(&server, &numbers(signers));
        }
        author.publish(&server);
        State::create(Arc::new(dir.clone()), line(), &server.get("1.root.json")).unwrap();
        let world = World { author, server, dir, clock: 0 };
        let (updated, last) = (world.update(), steps.len() as u64);
        match is_good {
            true => drop(updated.unwrap_or_else(|error| panic!("{name}: {error}"))),
            false => {
                let is_it = matches!(updated, Err(TrustError::RootRotation { .. }));
                assert!(is_it, "{name}: {updated:?}");
            }
        }
        assert_eq!(believed(&world).0, last - u64::from(!is_good), "{name}");
    }
}

const ROTATIONS: &[(&str, Step, bool)] = &[
    ("1-of-1-key-rotation", (&[2], 1, &[2]), true),
    ("1-of-1-key-rotation-unused-signatures", (&[1], 1, &[3, 1, 4]), true),
    ("1-of-1-key-rotation-fail-not-signed-with-new-key", (&[2], 1, &[1, 3, 4]), false),
    (
        "3-of-5-one-key-signature-wrong-not-signed-with-3-expected-keys",
        (&[0, 1, 3, 4, 5], 3, &[0, 2, 4]),
        false,
    ),
    (
        "2-of-5-one-key-signature-mising-threshold-not-reached",
        (&[0, 1, 3, 4, 5], 3, &[0, 4]),
        false,
    ),
    ("3-of-5-sign-first-combo", (&[0, 1, 2, 3, 4], 3, &[0, 2, 4]), true),
    ("3-of-5-sign-second-combo", (&[0, 1, 2, 3, 4], 3, &[0, 4, 1]), true),
    ("3-of-5-sign-third-combo", (&[0, 1, 2, 3, 4], 3, &[0, 1, 3]), true),
    ("3-of-5-sign-fourth-combo", (&[0, 1, 2, 3, 4], 3, &[1, 2, 3]), true),
    ("3-of-5-sign-fifth-combo", (&[0, 1, 2, 3, 4], 3, &[2, 3, 4]), true),
];

/// Each role by itself, while the others stay as they are.
#[test]
fn test_non_root_rotations() {
    for (name, (keys, threshold, signers), is_good) in ROTATIONS {
        for role in [Role::Timestamp, Role::Snapshot, Role::Targets] {
            let mut world = World::new();
            rotate(&mut world, &[(role, &numbers(keys), *threshold)]);
            bump_all(&mut world.author);
            world.author.content = "version 2".into();
            // What the role signs with is another question than what it must be signed with.
            world.author.keys.insert(role, (numbers(signers), signers.len()));
            world.author.publish(&world.server);
            let updated = world.update();
            assert_eq!(updated.is_ok(), *is_good, "{name}: {role}: {updated:?}");
            if *is_good {
                assert_eq!(believed(&world), (2, Some(2), Some(2), Some(2)), "{name}: {role}");
            } else {
                let error = updated.unwrap_err();
                let is_it = matches!(
                    &error,
                    TrustError::SigMissing(found) | TrustError::SigThreshold { role: found, .. }
                        if *found == role
                );
                assert!(is_it, "{name}: {error}");
            }
        }
    }
}
