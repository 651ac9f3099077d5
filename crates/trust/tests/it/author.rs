//! A feed from its author's side: what is written, what clients make of it, what is refused.

use std::sync::Arc;
use std::time::Duration;

use goldleaf_host::{Dir, replace_file};
use goldleaf_trust::{
    KeyId, Line, Quorum, ROOT_LIFE, Repository, Role, RootWaits, SNAPSHOT_LIFE, State,
    TIMESTAMP_LIFE, Target, TrustError, add_signature, signers,
};

use crate::feed::{Feed, Holders, targets};
use crate::world::{DAY, key, line};

fn ids(numbers: &[u8]) -> Vec<KeyId> {
    numbers.iter().map(|number| key(*number).public().id()).collect()
}

#[test]
fn a_feed_goes_from_version_to_version() {
    let feed = Feed::new();
    let names = ["1.root.json", "1.snapshot.json", "1.targets.json", "timestamp.json"];
    assert_eq!(feed.files(), names);
    let published = feed.publish("version 2").unwrap();
    assert_eq!((published.targets, published.snapshot), (Some(2), Some(2)));
    assert_eq!((published.timestamp, published.root, published.root_waits), (2, None, None));
    feed.sees("version 2");
    assert_eq!(feed.author().targets().unwrap(), Some(targets("version 2")));
    assert_eq!(feed.author().line(), Some(&line()));
}

/// A draft gathers signatures, wherever it is, and clients see nothing of it meanwhile.
#[test]
fn a_draft_is_never_visible() {
    let feed = Feed::new();
    let draft = feed.draft("version 2").unwrap();
    assert_eq!(draft, "2.targets.draft.json");
    let unchanged = |signed: &[u8]| {
        let published = feed.refresh(&[7]).unwrap();
        assert_eq!((published.targets, published.snapshot), (None, None));
        feed.sees("version 1");
        assert!(!feed.files().contains(&"2.targets.json".into()));
        let root = feed.author().root().unwrap().clone();
        let so_far = signers(&feed.file(&draft), &root).unwrap();
        assert_eq!((so_far.signed, so_far.missing), (ids(signed), 2 - signed.len()));
        assert_eq!(so_far.role, Role::Targets);
    };
    unchanged(&[]);
    feed.sign(&draft, &[5]);
    feed.sign(&draft, &[5]);
    unchanged(&[5]);
    // The second one signs a copy at home, and brings it back.
    let copy = add_signature(&feed.file(&draft), &key(4)).unwrap();
    replace_file(&feed.dir, &draft, &copy).unwrap();
    assert_eq!(feed.refresh(&[7]).unwrap().targets, Some(2));
    feed.sees("version 2");
    assert!(!feed.files().contains(&draft), "it has become what is published");
}

#[test]
fn versions_leave_no_draft_out() {
    let feed = Feed::new();
    let names = ["2.targets.draft.json", "3.targets.draft.json", "4.targets.draft.json"];
    for name in names {
        assert_eq!(feed.draft(name).unwrap(), name);
    }
    feed.sign(names[1], &[4, 5]);
    feed.sign(names[0], &[4, 5]);
    assert_eq!(feed.refresh(&[7]).unwrap().targets, Some(3), "the newest complete one");
    feed.sees(names[1]);
    let refused = feed.author().sign(names[0], &key(4));
    assert!(matches!(refused, Err(TrustError::Missing(_))), "{refused:?}");
    feed.sign(names[2], &[5, 6]);
    assert_eq!(feed.refresh(&[7]).unwrap().targets, Some(4));
    feed.sees(names[2]);
}

/// A week at a time for a year, by the online key alone; targets and root are signed in between.
#[test]
fn freshness_is_the_online_keys_alone() {
    let mut feed = Feed::new();
    let mut snapshots = 0;
    for step in 1..=12 {
        feed.clock = step * 6 * DAY;
        let published = feed.refresh(&[7]).unwrap();
        assert_eq!(published.expires, feed.now() + TIMESTAMP_LIFE);
        assert_eq!((published.targets, published.timestamp), (None, step + 1));
        snapshots += u64::from(published.snapshot.is_some());
        feed.sees("version 1");
    }
    let per_snapshot = (SNAPSHOT_LIFE - 2 * TIMESTAMP_LIFE).as_secs() / (6 * DAY);
    assert!((3..=12 / per_snapshot).contains(&snapshots), "{snapshots} snapshots in 72 days");
    feed.clock += TIMESTAMP_LIFE.as_secs();
    let refused = feed.update(&feed.client);
    assert!(matches!(refused, Err(TrustError::Freeze { role: Role::Timestamp, .. })));
    feed.refresh(&[7]).unwrap();
    feed.sees("version 1");
}

/// A threshold goes up, one of the keys goes, and nobody has to publish for it.
#[test]
fn root_keys_rotate_at_once() {
    let mut feed = Feed::new();
    feed.holders.root = (vec![2, 3, 11, 12], 3);
    assert_eq!(feed.rotate(&feed.holders).unwrap(), ["2.root.draft.json"]);
    let again = feed.rotate(&feed.holders);
    assert!(matches!(again, Err(TrustError::DraftExists(_))), "{again:?}");
    feed.sign("2.root.draft.json", &[2, 3]);
    assert_eq!(feed.author().root().unwrap().of(Role::Root).unwrap().threshold, 2);
    let placed = feed.author().sign("2.root.draft.json", &key(12)).unwrap();
    assert!(placed.is_complete() && !placed.is_draft, "{placed:?}");
    assert_eq!(feed.author().root().unwrap().of(Role::Root).unwrap().threshold, 3);
    assert!(!feed.files().contains(&"2.root.draft.json".into()));
    feed.sees("version 1");
    feed.publish("version 2").unwrap();
    feed.sees("version 2");
}

/// Image keys and the online key change, and the old ones are still there: no client notices.
#[test]
fn all_keys_rotate_without_a_gap() {
    let mut feed = Feed::new();
    let next = Holders {
        root: (vec![1, 2, 11], 2),
        targets: (vec![14, 15, 16], 2),
        online: (vec![17], 1),
    };
    let drafts = feed.rotate(&next).unwrap();
    assert_eq!(drafts, ["2.root.draft.json", "2.targets.draft.json"]);
    feed.sign(&drafts[0], &[1, 2]);
    let waits = |on| {
        let refused = feed.author().place_root();
        assert!(matches!(refused, Err(TrustError::RootWaits { version: 2, on: o }) if o == on));
    };
    waits(RootWaits::Targets);
    assert_eq!(feed.refresh(&[7]).unwrap().root_waits, Some(RootWaits::Targets));
    // The old keys sign for those who have the old root, the new ones for the rest.
    feed.sign(&drafts[1], &[4, 14, 5, 15]);
    let published = feed.refresh(&[7]).unwrap();
    assert_eq!(published.root_waits, Some(RootWaits::OnlineKey));
    assert_eq!(published.targets, Some(2), "good under the old root, too");
    waits(RootWaits::OnlineKey);
    feed.sees("version 1");
    let published = feed.refresh(&[7, 17]).unwrap();
    assert_eq!((published.root, published.root_waits), (Some(2), None));
    feed.sees("version 1");
    feed.holders = next;
    feed.publish("version 2").unwrap();
    feed.sees("version 2");
    let old = feed.refresh(&[7]);
    assert!(matches!(old, Err(TrustError::NotItsKey { role: Role::Timestamp, .. })), "{old:?}");
}

/// All image keys and the online key are lost: the root keys make new ones, whatever was there.
#[test]
fn lost_keys_are_replaced() {
    let mut feed = Feed::new();
    feed.holders.targets = (vec![14, 15], 2);
    feed.holders.online = (vec![17], 1);
    let drafts = feed.rotate(&feed.holders).unwrap();
    feed.sign(&drafts[0], &[2, 3]);
    let early = feed.refresh(&[17]);
    assert!(matches!(early, Err(TrustError::RootWaits { version: 2, on: RootWaits::Targets })));
    feed.sign(&drafts[1], &[14, 15]);
    let published = feed.refresh(&[17]).unwrap();
    assert_eq!((published.root, published.targets), (Some(2), Some(2)));
    feed.sees("version 1");
    feed.publish("version 3").unwrap();
    feed.sees("version 3");
}

/// Signed by the keys of one side only, a root is refused before anything is written.
#[test]
fn a_rotation_takes_both_sides() {
    for (signers, missing) in [(vec![1, 2], "its own keys"), (vec![11, 12], "the root before")] {
        let mut feed = Feed::new();
        feed.holders.root = (vec![11, 12], 2);
        feed.rotate(&feed.holders).unwrap();
        feed.sign("2.root.draft.json", &signers);
        let before = feed.contents();
        match feed.author().place_root() {
            Err(TrustError::RootRotation { version: 2, side }) => assert_eq!(side, missing),
            other => panic!("{other:?}"),
        }
        assert!(feed.contents() == before);
        feed.refresh(&[7]).unwrap();
        feed.sees("version 1");
        assert!(!feed.files().contains(&"2.root.json".into()));
    }
}

#[test]
fn keys_sign_only_what_they_may() {
    let feed = Feed::new();
    let draft = feed.draft("version 2").unwrap();
    let before = feed.contents();
    for number in [1, 7, 99] {
        match feed.author().sign(&draft, &key(number)) {
            Err(TrustError::NotItsKey { role: Role::Targets, key: id }) => {
                assert_eq!(id, key(number).public().id());
            }
            other => panic!("{other:?}"),
        }
    }
    for name in ["1.targets.json", "timestamp.json", "7.root.draft.json", "../x", "x"] {
        let refused = feed.author().sign(name, &key(4));
        assert!(matches!(refused, Err(TrustError::NotADraft(_))), "{name}: {refused:?}");
    }
    let refused = feed.refresh(&[8]);
    assert!(matches!(refused, Err(TrustError::NotItsKey { .. })), "{refused:?}");
    let refused = feed.refresh(&[]);
    assert!(matches!(refused, Err(TrustError::SigMissing(Role::Timestamp))), "{refused:?}");
    assert!(feed.contents() == before, "nothing of it was written");
}

#[test]
fn a_root_that_could_not_be_is_refused() {
    let good = Holders::new().authority();
    let quorum = |numbers: &[u8], threshold| Quorum {
        keys: numbers.iter().map(|number| key(*number).public()).collect(),
        threshold,
    };
    for (bad, why) in [
        (quorum(&[1, 2], 3), "can never sign"),
        (quorum(&[1, 2], 0), "can never sign"),
        (quorum(&[], 1), "can never sign"),
        (quorum(&[1, 1], 2), "given twice"),
        (quorum(&[1, 7], 1), "an online key and an offline one"),
    ] {
        for which in 0..2 {
            let mut authority = good.clone();
            [&mut authority.root, &mut authority.targets][which].clone_from(&bad);
            match authority.to_root() {
                Err(TrustError::Authority(said)) => assert!(said.contains(why), "{said}"),
                other => panic!("{why}: {other:?}"),
            }
        }
    }
    let root = good.to_root().unwrap();
    assert_eq!(goldleaf_trust::Authority::of(&root).unwrap(), good);
}

#[test]
fn a_feed_begins_once() {
    let feed = Feed::begun();
    let none = feed.refresh(&[7]);
    assert!(matches!(none, Err(TrustError::NothingToPublish)), "{none:?}");
    let authority = feed.holders.authority();
    let until = feed.now() + ROOT_LIFE;
    let again = feed.author().draft_first_root(&line(), &authority, until);
    assert!(matches!(again, Err(TrustError::Begun)), "{again:?}");
    let empty = goldleaf_host::sim::SimDir::new();
    let mut author = Repository::open(Arc::new(empty)).unwrap();
    let early = author.draft_targets(&targets("early"), until);
    assert!(matches!(early, Err(TrustError::NotBegun)), "{early:?}");
    author.draft_first_root(&line(), &authority, until).unwrap();
    let again = author.draft_first_root(&line(), &authority, until);
    assert!(matches!(again, Err(TrustError::DraftExists(_))), "{again:?}");
    assert!(author.root().is_none());
    author.sign("1.root.draft.json", &key(1)).unwrap();
    let early = author.place_root();
    assert!(matches!(early, Err(TrustError::SigThreshold { found: 1, .. })), "{early:?}");
}

/// The stick was in other hands.
#[test]
fn what_is_read_is_verified() {
    let spoilt = |name: &str, how: &dyn Fn(&Feed) -> Option<Vec<u8>>| {
        let mut feed = Feed::new();
        feed.holders.root = (vec![1, 2], 2);
        feed.rotate(&feed.holders).unwrap();
        feed.sign("2.root.draft.json", &[1, 2]);
        match how(&feed) {
            Some(bytes) => replace_file(&feed.dir, name, &bytes).unwrap(),
            None => feed.dir.remove(name).unwrap(),
        }
        feed.refresh(&[7]).expect_err(name)
    };
    let gone = |_: &Feed| None;
    let error = spoilt("1.root.json", &gone);
    assert!(matches!(&error, TrustError::Missing(name) if name == "1.root.json"), "{error}");
    for name in ["1.targets.json", "1.snapshot.json"] {
        assert!(matches!(spoilt(name, &gone), TrustError::Missing(_)), "{name}");
        let longer = |feed: &Feed| Some([feed.file(name), b" ".to_vec()].concat());
        assert!(matches!(spoilt(name, &longer), TrustError::Length { .. }), "{name}");
    }
    let edited = |name: &'static str, from: &'static str, to: &'static str| {
        move |feed: &Feed| {
            let text = String::from_utf8(feed.file(name)).unwrap();
            assert!(text.contains(from));
            Some(text.replacen(from, to, 1).into_bytes())
        }
    };
    let error = spoilt("2.root.json", &edited("2.root.json", "acme", "evil"));
    assert!(matches!(error, TrustError::RootRotation { .. }), "{error}");
    let stamp = edited("timestamp.json", "\"version\":1}", "\"version\":7}");
    let error = spoilt("timestamp.json", &stamp);
    assert!(matches!(error, TrustError::SigThreshold { .. }), "{error}");
    let error = spoilt("timestamp.json", &|_| Some(vec![b' '; 70_000]));
    assert!(matches!(error, TrustError::TooLarge { .. }), "{error}");
    for role in ["targets", "snapshot"] {
        let feed = Feed::new();
        replace_file(&feed.dir, &format!("18446744073709551615.{role}.json"), b"").unwrap();
        let refused = feed.publish("version 2");
        assert!(matches!(refused, Err(TrustError::LastVersion(_))), "{refused:?}");
    }
}

/// A complete draft of another feed's, signed by the same people.
#[test]
fn a_draft_of_another_feed_is_refused() {
    let feed = Feed::new();
    let other = Feed { dir: goldleaf_host::sim::SimDir::new(), ..Feed::new() };
    let until = feed.now() + ROOT_LIFE;
    let mut author = other.author();
    let elsewhere = Line { feed: "other".into(), ..line() };
    author.draft_first_root(&elsewhere, &other.holders.authority(), until).unwrap();
    other.sign("1.root.draft.json", &[1, 2]);
    let draft = other.draft("evil").unwrap();
    other.sign(&draft, &[4, 5]);
    replace_file(&feed.dir, "9.targets.draft.json", &other.file(&draft)).unwrap();
    let refused = feed.refresh(&[7]);
    assert!(matches!(refused, Err(TrustError::MixAndMatch { .. })), "{refused:?}");
    feed.dir.remove("9.targets.draft.json").unwrap();
    replace_file(&feed.dir, "1.targets.draft.json", &other.file(&draft)).unwrap();
    let refused = feed.author().sign("1.targets.draft.json", &key(4));
    assert!(matches!(refused, Err(TrustError::WrongTarget { .. })), "{refused:?}");
    feed.refresh(&[7]).unwrap();
    feed.sees("version 1");
}

#[test]
fn an_expired_draft_is_not_published() {
    let mut feed = Feed::new();
    let draft = feed.author().draft_targets(&targets("late"), feed.now() + Duration::from_secs(9));
    feed.sign(&draft.unwrap(), &[4, 5]);
    feed.clock = 10;
    assert_eq!(feed.refresh(&[7]).unwrap().targets, None);
    feed.sees("version 1");
}

#[test]
fn one_process_at_a_time() {
    let feed = Feed::new();
    let held = feed.dir.try_lock("lock").unwrap().unwrap();
    let busy = feed.refresh(&[7]);
    assert!(matches!(busy, Err(TrustError::Busy)), "{busy:?}");
    feed.author().standing().unwrap();
    drop(held);
    feed.refresh(&[7]).unwrap();
}

#[test]
fn the_standing_says_who_signed() {
    let mut feed = Feed::new();
    feed.holders.targets = (vec![4, 14, 15], 2);
    let drafts = feed.rotate(&feed.holders).unwrap();
    feed.sign(&drafts[0], &[3]);
    feed.sign(&drafts[1], &[14]);
    let all = feed.author().standing().unwrap();
    let files: Vec<&str> = all.iter().map(|one| one.file.as_str()).collect();
    let published = ["1.root.json", "1.targets.json", "1.snapshot.json", "timestamp.json"];
    assert_eq!(files, [&published[..], &["2.root.draft.json", "2.targets.draft.json"]].concat());
    let sides = |at: usize| {
        let side = |side: &goldleaf_trust::Side| {
            (side.root, side.signers.signed.clone(), side.signers.missing)
        };
        all[at].sides.iter().map(side).collect::<Vec<_>>()
    };
    assert_eq!(sides(0), [(1, ids(&[1, 2]), 0)]);
    assert_eq!(sides(1), [(1, ids(&[4, 5]), 0), (2, ids(&[4]), 1)]);
    assert_eq!(sides(4), [(1, ids(&[3]), 1), (2, ids(&[3]), 1)]);
    assert_eq!(sides(5), [(1, vec![], 2), (2, ids(&[14]), 1)]);
    assert!(all[..4].iter().all(|one| one.is_complete() && !one.is_draft));
    assert!(all[4..].iter().all(|one| !one.is_complete() && one.is_draft));
    assert_eq!(all[0].expires, feed.now() + ROOT_LIFE);
    let next = feed.holders.authority().to_root().unwrap();
    assert_eq!(feed.author().drafted_root().unwrap(), Some(next));
    assert_eq!(feed.author().drafted_targets(&drafts[1]).unwrap(), targets("version 1"));
    let other = feed.author().drafted_targets(&drafts[0]);
    assert!(matches!(other, Err(TrustError::NotADraft(_))), "{other:?}");
}

#[test]
fn a_target_is_its_content_and_nothing_else() {
    let target = Target::of(b"content", serde_json::Value::Null);
    target.check("x", b"content").unwrap();
    let refused = |target: &Target, bytes: &[u8]| target.check("x", bytes).unwrap_err();
    assert!(matches!(refused(&target, b"contents"), TrustError::Length { .. }));
    assert!(matches!(refused(&target, b"Content"), TrustError::HashMismatch { .. }));
    for algorithm in ["sha256", "blake3"] {
        let mut other = target.clone();
        other.hashes.insert(algorithm.into(), "00".repeat(32));
        assert!(matches!(refused(&other, b"content"), TrustError::HashMismatch { .. }));
        let mut one = target.clone();
        one.hashes.remove(algorithm);
        one.check("x", b"content").unwrap();
    }
    let unknown = Target { hashes: [("md5".into(), "00".into())].into(), ..target };
    assert!(matches!(refused(&unknown, b"content"), TrustError::Malformed { .. }));
}

/// A client that is on the feed already takes no other feed's directory.
#[test]
fn clients_stay_on_their_feed() {
    let feed = Feed::new();
    let other = Line { feed: "other".into(), ..line() };
    let begun = State::create(
        Arc::new(goldleaf_host::sim::SimDir::new()),
        other,
        &feed.file("1.root.json"),
    );
    assert!(matches!(begun.map(drop), Err(TrustError::WrongTarget { .. })));
}
