//! What becomes of a LivePC while versions come, fail and come up.

use std::sync::Mutex;
use std::time::Duration;

use goldleaf_host::Clock;

use super::trial::{GivenUp, STARTS_MAX, count, judge, pass, retry};
use super::*;
use crate::check::tests::Ground;

/// A clock that goes on when somebody waits.
#[derive(Default)]
pub(crate) struct Turned(Mutex<Duration>);

impl Clock for Turned {
    fn now_unix(&self) -> Duration {
        self.monotonic()
    }

    fn monotonic(&self) -> Duration {
        *self.0.lock().expect("no panics")
    }

    fn sleep(&self, duration: Duration) {
        *self.0.lock().expect("no panics") += duration;
    }
}

const NAME: &str = "work";

/// The LivePC as a version makes it. Each has another size, by which it is told.
fn version(ground: &Ground, number: u64) -> LivePc {
    let edition =
        Edition { version: number, image_version: 1, layer_versions: vec![1], rules: None };
    let memory_mib = number as u32;
    let (trial, failed) = (None, BTreeSet::new());
    let now = get(&ground.home, NAME).expect("LivePC");
    LivePc { memory_mib, edition: Some(edition), trial, failed, ..now }
}

fn adopted(ground: &Ground, number: u64) -> bool {
    adopt(&ground.home, &version(ground, number)).expect("adopt")
}

/// A LivePC that version 1 is good on.
fn ground() -> Ground {
    let ground = Ground::new();
    assert!(adopted(&ground, 1));
    pass(&ground.home, NAME, 1).expect("pass");
    ground
}

/// Starts so often; none comes up.
fn start(ground: &Ground, starts: u32) {
    let number = get(&ground.home, NAME).expect("LivePC").version().expect("version");
    for start in 1..=starts {
        assert_eq!(judge(&ground.home, NAME).expect("judge"), None, "before start {start}");
        assert_eq!(count(&ground.home, NAME, number).expect("count"), Some(start));
    }
}

/// The version, whether it is on trial, and what failed.
fn now(ground: &Ground) -> (Option<u64>, bool, Vec<u64>) {
    let livepc = get(&ground.home, NAME).expect("LivePC");
    assert_eq!(livepc.version().map(|version| version as u32), Some(livepc.memory_mib));
    (livepc.version(), livepc.trial.is_some(), livepc.failed.into_iter().collect())
}

#[test]
fn what_never_came_up_gives_way_to_what_was_good() {
    let ground = ground();
    assert_eq!(now(&ground), (Some(1), false, vec![]));
    assert!(adopted(&ground, 2));
    start(&ground, STARTS_MAX);
    assert_eq!(now(&ground), (Some(2), true, vec![]));
    let given_up = Some(GivenUp { version: 2, back: Some(1) });
    assert_eq!(judge(&ground.home, NAME).expect("judge"), given_up);
    assert_eq!(now(&ground), (Some(1), false, vec![2]));
    assert_eq!(judge(&ground.home, NAME).expect("judge"), None, "once");

    // Not by itself, and a newer one at once.
    assert!(!adopted(&ground, 2));
    assert_eq!(now(&ground), (Some(1), false, vec![2]));
    assert!(adopted(&ground, 3));
    pass(&ground.home, NAME, 3).expect("pass");
    assert_eq!(now(&ground), (Some(3), false, vec![2]));

    // A person asks.
    retry(&ground.home, NAME, 2).expect("retry");
    assert!(adopted(&ground, 2));
    assert_eq!(now(&ground), (Some(2), true, vec![]));
}

#[test]
fn one_start_that_comes_up_is_enough() {
    let ground = ground();
    adopted(&ground, 2);
    start(&ground, STARTS_MAX);
    pass(&ground.home, NAME, 2).expect("pass");
    assert_eq!(judge(&ground.home, NAME).expect("judge"), None);
    assert_eq!(now(&ground), (Some(2), false, vec![]));
    assert_eq!(count(&ground.home, NAME, 2).expect("count"), None, "it is good");
}

#[test]
fn what_comes_meanwhile_is_tried_over_what_was_good() {
    let ground = ground();
    adopted(&ground, 2);
    // Not tried yet, so nothing is known of it.
    adopted(&ground, 3);
    assert_eq!(now(&ground), (Some(3), true, vec![]));
    start(&ground, 1);
    adopted(&ground, 4);
    assert_eq!(now(&ground), (Some(4), true, vec![3]), "tried, and it never came up");
    assert_eq!(count(&ground.home, NAME, 3).expect("count"), None, "another version");
    // It runs still, and comes up after all.
    pass(&ground.home, NAME, 3).expect("pass");
    assert_eq!(now(&ground), (Some(4), true, vec![]));
    start(&ground, STARTS_MAX);
    let given_up = Some(GivenUp { version: 4, back: Some(1) });
    assert_eq!(judge(&ground.home, NAME).expect("judge"), given_up);

    // Back to what was good by a person's choice is no trial.
    retry(&ground.home, NAME, 4).expect("retry");
    adopted(&ground, 4);
    adopted(&ground, 1);
    assert_eq!(now(&ground), (Some(1), false, vec![]));
}

#[test]
fn layers_that_may_be_back_are_in_use() {
    let ground = ground();
    let new = LivePc { layers: Vec::new(), ..version(&ground, 2) };
    adopt(&ground.home, &new).expect("adopt");
    let kept = crate::apps::check_unused(&ground.home, "office");
    assert!(matches!(kept, Err(PlayerError::Busy { .. })), "{kept:?}");
    pass(&ground.home, NAME, 2).expect("pass");
    crate::apps::check_unused(&ground.home, "office").expect("nothing names it any more");
}

#[test]
fn records_without_a_trial_are_read() {
    let ground = ground();
    let path = ground.path("livepcs/work/livepc.json");
    let text = std::fs::read_to_string(path).expect("record");
    assert!(!text.contains("trial") && !text.contains("failed"), "{text}");
    assert_eq!(now(&ground), (Some(1), false, vec![]));
}

#[test]
fn a_lock_that_is_held_for_ever_is_an_error() {
    let ground = ground();
    adopted(&ground, 2);
    let own = dir(&ground.home).expect("shelf").dir(NAME).expect("own");
    let _held = own.try_lock("lock").expect("lock").expect("free");
    let clock = Arc::new(Turned::default());
    let home = Home { clock: clock.clone(), ..ground.home.clone() };
    let counted = count(&home, NAME, 2);
    assert!(matches!(counted, Err(PlayerError::Busy { kind: "LivePC", .. })), "{counted:?}");
    assert_eq!(clock.monotonic(), Duration::from_secs(5));
}
