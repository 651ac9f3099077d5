//! Limits that can be kept are kept, and others are reported.

use goldleaf_host::sim::SimDir;

use super::*;
use crate::collect;
use crate::desktop::{self, Desktop, FiledReport};
use crate::feeds::tests::{Shelf, adopt, disk, follow, home, read, receive, take, version};

const FRAME: u64 = 64 * 4096;
/// More than maps and lists occupy.
const SLACK: u64 = FRAME;

/// Two subscriptions at their first version, each with a newer one that was not adopted yet. The
/// second was used later.
fn ground() -> (Home, [Shelf; 2]) {
    let home = home(&SimDir::new());
    let shelves = [("one", 0), ("two", 1 << 32)].map(|(name, other)| {
        let mut shelf = Shelf::new();
        follow(&home, name, shelf.place());
        let first = disk(|_| other + 1);
        receive(&home, name, 1, &shelf.publish(&first));
        // Its own second half.
        let second = disk(|block| other + if block < 320 { 1 } else { 2 });
        receive(&home, name, 2, &shelf.publish(&second));
        adopt(&home, name, 1, &[]);
        let desk = format!("desk-{name}");
        desktop::create(&home, &desk, name).unwrap();
        let last = FiledReport { at_unix_secs: 7 + other, ..FiledReport::default() };
        let mut desktop = Desktop::open(&home, &desk).unwrap();
        desktop.commit("test", |record| record.last = Some(last)).unwrap();
        shelf
    });
    (home, shelves)
}

fn view(home: &Home) -> CacheView {
    super::view(home).unwrap()
}

/// How many whole frames are here of each.
fn frames(home: &Home) -> Vec<u64> {
    view(home).subscriptions.iter().map(|line| line.bytes / FRAME).collect()
}

#[test]
fn what_is_here_is_counted() {
    let (home, mut shelves) = ground();
    let shown = view(&home);
    assert_eq!((shown.limit_bytes, frames(&home)), (None, vec![15, 15]));
    assert_eq!(shown.bytes, shown.subscriptions.iter().map(|line| line.bytes).sum::<u64>());
    let [one, two] = &shown.subscriptions[..] else { panic!("{shown:?}") };
    assert_eq!((one.last_used_unix_secs, two.last_used_unix_secs), (Some(7), Some(7 + (1 << 32))));
    for line in [one, two] {
        assert_eq!((line.spare_bytes, line.is_in_use, line.is_whole), (5 * FRAME, false, true));
        assert_eq!((line.arrived_bytes, line.current_bytes), (10 * FRAME, 10 * FRAME));
    }
    // A version that has not arrived.
    follow(&home, "three", shelves[0].place());
    take(&home, "three", 1, &shelves[0].publish(&version(9)));
    adopt(&home, "three", 1, &[]);
    let shown = view(&home);
    let three = shown.subscriptions.iter().find(|line| line.subscription == "three").unwrap();
    assert_eq!((three.arrived_bytes, three.current_bytes), (0, 10 * FRAME));
    assert!(!three.is_whole && three.last_used_unix_secs.is_none());
}

#[test]
fn over_the_limit_what_was_used_longest_ago_goes_first() {
    let (home, _shelves) = ground();
    set_limit(&home, Some(26 * FRAME)).unwrap();
    let planned = collect::plan(&home).unwrap();
    assert_eq!(planned.gained_bytes, 5 * FRAME);
    assert_eq!(planned.forgotten, ["content of the newest version of image one"]);
    assert_eq!(collect::apply(&home).unwrap(), planned);
    assert_eq!(frames(&home), [10, 15]);
    assert_eq!(collect::apply(&home).unwrap(), collect::CollectReport::default());

    // Less than what runs: that stays, and it is said.
    set_limit(&home, Some(12 * FRAME)).unwrap();
    let report = collect::apply(&home).unwrap();
    assert_eq!((report.gained_bytes, frames(&home)), (5 * FRAME, vec![10, 10]));
    assert!((8 * FRAME..8 * FRAME + SLACK).contains(&report.over_limit_bytes), "{report:?}");
    assert_eq!(read(&home, "one", 1), disk(|_| 1));
    assert_eq!(read(&home, "two", 1), disk(|_| (1 << 32) + 1));

    set_limit(&home, None).unwrap();
    assert_eq!(collect::apply(&home).unwrap(), collect::CollectReport::default());
}

#[test]
fn room_is_made_for_what_is_to_come() {
    let (home, _shelves) = ground();
    assert_eq!(make_room(&home, 1 << 40).unwrap(), 0, "there is no limit");
    set_limit(&home, Some(32 * FRAME)).unwrap();
    assert_eq!((make_room(&home, FRAME).unwrap(), frames(&home)), (0, vec![15, 15]));
    assert_eq!((make_room(&home, 4 * FRAME).unwrap(), frames(&home)), (0, vec![10, 15]));
    // What is held by somebody stays.
    let held = feeds::followed(&home).unwrap();
    let over = make_room(&home, 10 * FRAME).unwrap();
    assert!((3 * FRAME..3 * FRAME + SLACK).contains(&over), "{over}");
    drop(held);
    assert_eq!((make_room(&home, 10 * FRAME).unwrap(), frames(&home)), (0, vec![10, 10]));
}

#[test]
fn old_versions_are_enough_where_they_are() {
    let (home, mut shelves) = ground();
    receive(&home, "two", 3, &shelves[1].publish(&disk(|block| (1 << 32) + 1 + block / 640)));
    // The third is the first again: the second has content of its own, and is not the newest.
    set_limit(&home, Some(26 * FRAME)).unwrap();
    let report = collect::apply(&home).unwrap();
    assert_eq!(report.forgotten, ["version 2 of image two"]);
    assert_eq!((report.over_limit_bytes, frames(&home)), (0, vec![15, 10]));
}
