//! Which versions there are, for whom, and where.

use goldleaf_feed::{FeedError, Location, Offer, offers, target_name};
use goldleaf_trust::{Target, Targets};

fn offer(version: u64, stage: u8) -> Offer {
    Offer { version, published_unix_secs: 1_800_000_000, stage, deltas: Vec::new() }
}

fn target(offer: Offer) -> Target {
    offer.over(&Target::of(b"a version", serde_json::Value::Null)).unwrap()
}

#[test]
fn versions_are_found_by_their_numbers() {
    let all = [offer(9, 100), offer(10, 5)].map(|one| (target_name(one.version), target(one)));
    let found = offers(&Targets { targets: all.into() }).unwrap();
    let found: Vec<Offer> = found.into_values().map(|(offer, _)| offer).collect();
    assert_eq!(found, [offer(9, 100), offer(10, 5)]);
}

#[test]
fn what_is_no_version_is_refused() {
    let refused = |name: &str, target: Target| {
        let result = offers(&Targets { targets: [(name.to_owned(), target)].into() });
        assert!(matches!(result, Err(FeedError::Malformed { .. })), "{name}");
    };
    refused("v2", target(offer(1, 100)));
    refused("../v1", target(offer(1, 100)));
    refused("v1", target(offer(1, 101)));
    refused("v1", Target::of(b"a version", serde_json::Value::Null));
    refused("v1", Target::of(b"a version", serde_json::json!({"version": -1})));
}

#[test]
fn who_is_early_once_is_early_always() {
    for lot in 0..100 {
        let stages: Vec<bool> = (0..=100).map(|stage| offer(1, stage).is_for(lot)).collect();
        assert!(stages.is_sorted(), "wider takes it from nobody");
        assert!(!stages[0] && stages[100]);
    }
}

#[test]
fn places_are_read_and_others_are_not() {
    let parsed = |text| Location::parse(text).map(|l| (l.root, l.feed, l.channel));
    let own = |root: &str, feed: &str, channel: &str| {
        Some((root.to_owned(), feed.to_owned(), channel.to_owned()))
    };
    assert_eq!(parsed("https://host/a/feeds/office"), own("https://host/a", "office", "stable"));
    assert_eq!(parsed("https://host/feeds/office/pilot/"), own("https://host", "office", "pilot"));
    assert_eq!(parsed("/feeds/office"), own("/", "office", "stable"));
    assert_eq!(parsed("here/feeds/office"), own("here", "office", "stable"));
    for text in [
        "https://host/office",
        "https://host/feeds/",
        "https://host/feeds/../secret",
        "https://host/feeds/a/b/c",
        "https://host/feeds/a/..",
        "https://host/feeds/a b",
        "https://host/feeds/\u{e9}",
    ] {
        assert_eq!(parsed(text), None, "{text}");
    }
}
