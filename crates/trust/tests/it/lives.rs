//! Random lives of feeds, and power cuts at every operation of what an author does.

use std::collections::BTreeSet;
use std::io::ErrorKind;

use goldleaf_trust::{Published, TrustError};

use crate::feed::{Feed, Holders};
use crate::world::DAY;

/// A small generator: the same life each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    /// Some of these in any order, at least as many as are needed.
    fn some(&mut self, from: &[u8], at_least: usize) -> Vec<u8> {
        let mut left = from.to_vec();
        let count = at_least + self.below((left.len() - at_least + 1) as u64) as usize;
        let mut next = || left.swap_remove(self.below(left.len() as u64) as usize);
        (0..count).map(|_| next()).collect()
    }

    /// A group of keys out of a range, with a threshold.
    fn group(&mut self, first: u8) -> (Vec<u8>, usize) {
        let keys = self.some(&(first..first + 6).collect::<Vec<_>>(), 1);
        let threshold = 1 + self.below(keys.len() as u64) as usize;
        (keys, threshold)
    }
}

/// Rotates to new holders with all signatures that it takes. `lost`: the old image keys and the old
/// online key are not there any more.
fn rotate(feed: &Feed, next: &Holders, lost: bool) -> Result<Option<Published>, TrustError> {
    let drafts = match feed.rotate(next) {
        Err(TrustError::DraftExists(name)) => vec![name],
        drafts => drafts?,
    };
    let threshold = |(keys, threshold): &(Vec<u8>, usize)| keys[..*threshold].to_vec();
    let mut author = goldleaf_trust::Repository::open(std::sync::Arc::new(feed.dir.clone()))?;
    let both = [threshold(&feed.holders.root), threshold(&next.root)].concat();
    for number in both {
        // The last signature may put it in place.
        if feed.has(&drafts[0])? {
            author.sign(&drafts[0], &crate::world::key(number))?;
        }
    }
    if !feed.has(&drafts[0])? {
        return Ok(None);
    }
    let old = if lost { Vec::new() } else { threshold(&feed.holders.targets) };
    if let Some(draft) = feed.targets_draft()? {
        for number in [threshold(&next.targets), old].concat() {
            author.sign(&draft, &crate::world::key(number))?;
        }
    }
    let old = if lost { Vec::new() } else { feed.holders.online.0.clone() };
    feed.refresh(&[next.online.0.clone(), old].concat()).map(Some)
}

/// Whatever the author does, clients see the newest version, those that were away for long too.
#[test]
fn clients_follow_random_lives() {
    for seed in 0..12 {
        let (mut dice, mut feed, mut content) = (Dice(seed), Feed::new(), "version 1".to_string());
        for step in 2..12 {
            feed.clock += dice.below(3 * DAY);
            match dice.below(4) {
                0 => {
                    content = format!("version {step}");
                    feed.publish(&content).unwrap();
                }
                1 => drop(feed.refresh(&feed.holders.online.0).unwrap()),
                2 => {
                    // Somebody begins, and it comes to nothing.
                    let draft = feed.draft("never").unwrap();
                    let (keys, threshold) = &feed.holders.targets;
                    feed.sign(&draft, &keys[..threshold - 1]);
                    feed.refresh(&feed.holders.online.0).unwrap();
                }
                _ => {
                    let mut next = feed.holders.clone();
                    match dice.below(4) {
                        0 => next.root = dice.group(10),
                        1 => next.targets = dice.group(20),
                        2 => next.online = (dice.group(30).0, 1),
                        _ => next.online = (vec![feed.holders.online.0[0]], 1),
                    }
                    forget_drafts(&feed);
                    rotate(&feed, &next, dice.below(2) == 0).unwrap();
                    feed.holders = next;
                }
            }
            feed.sees(&content);
        }
    }
}

/// The author throws unfinished drafts of targets away.
fn forget_drafts(feed: &Feed) {
    use goldleaf_host::Dir;
    for name in feed.files() {
        if name.contains("targets.draft") {
            feed.dir.remove(&name).unwrap();
        }
    }
}

/// Cuts the power at every operation of `work`, in six ways each, and looks at what is left, once at
/// each.
fn cut(at_least: u64, begin: impl Fn() -> Feed, work: impl Fn(&Feed) -> bool, look: impl Fn(Feed)) {
    let mut looked = BTreeSet::new();
    for operation in 0.. {
        let feed = begin();
        let last = feed.dir.operations() + operation;
        feed.dir.stop_after(operation, ErrorKind::Other);
        let is_done = work(&feed);
        if feed.dir.operations() <= last {
            assert!(is_done && operation > at_least, "{operation} operations");
            assert!(looked.len() as u64 > at_least / 10, "{} states", looked.len());
            return;
        }
        feed.dir.heal();
        for way in 0..6 {
            let dir = feed.dir.crash(operation ^ way << 32);
            let left = Feed { dir, client: feed.client.crash(0), ..feed.clone() };
            if looked.insert(left.contents()) {
                look(left);
            }
        }
    }
}

#[test]
fn a_power_cut_in_a_publication_leaves_the_old_or_the_new() {
    let work = |feed: &Feed| feed.publish("version 2").is_ok();
    cut(30, Feed::new, work, |feed| {
        feed.update(&feed.client).unwrap();
        let content = feed.content(&feed.client);
        assert!(["version 1", "version 2"].contains(&content.as_str()), "{content}");
        feed.publish("version 3").unwrap();
        feed.sees("version 3");
    });
}

#[test]
fn a_power_cut_in_the_first_publication_leaves_a_feed_to_go_on_with() {
    cut(
        30,
        Feed::begun,
        |feed| feed.publish("version 1").is_ok(),
        |feed| {
            feed.publish("version 2").unwrap();
            feed.sees("version 2");
        },
    );
}

/// A rotation of all keys. With the old keys at hand no client falls between the roots; without
/// them it may, for as long as the author is away, and keeps what it believes.
#[test]
fn a_power_cut_in_a_rotation_leaves_the_old_or_the_new() {
    let next =
        Holders { root: (vec![2, 11, 12], 2), targets: (vec![14, 15], 2), online: (vec![17], 1) };
    for lost in [false, true] {
        let between = std::cell::Cell::new(0);
        let work = |feed: &Feed| rotate(feed, &next, lost).is_ok();
        cut(60, Feed::new, work, |mut feed| {
            match feed.update(&feed.client) {
                Ok(_) => {}
                Err(TrustError::SigMissing(_) | TrustError::SigThreshold { .. }) if lost => {
                    between.set(between.get() + 1);
                }
                Err(error) => panic!("{error}"),
            }
            if feed.author().root() == Some(&feed.holders.authority().to_root().unwrap()) {
                rotate(&feed, &next, lost).unwrap();
            }
            feed.holders = next.clone();
            feed.publish("version 2").unwrap();
            feed.sees("version 2");
        });
        assert_eq!(between.get() > 0, lost);
    }
}

/// Where only root keys change, the root is put in place by its last signature.
#[test]
fn a_power_cut_in_a_rotation_of_root_keys_is_one_of_a_publication() {
    let mut next = Holders::new();
    next.root = (vec![3, 11], 2);
    let work = |feed: &Feed| rotate(feed, &next, false).is_ok();
    cut(30, Feed::new, work, |mut feed| {
        feed.sees("version 1");
        if feed.author().root() == Some(&feed.holders.authority().to_root().unwrap()) {
            rotate(&feed, &next, false).unwrap();
        }
        feed.holders = next.clone();
        feed.sees("version 1");
        feed.publish("version 2").unwrap();
        feed.sees("version 2");
    });
}
