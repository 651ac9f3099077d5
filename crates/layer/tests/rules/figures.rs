//! How long it takes. The bounds are generous, because tests run unoptimised and side by side; the
//! figures are printed.

use std::time::Duration;

use goldleaf_layer::Kind;
use goldleaf_layer::classify::{Options, classify, facts_of};
use goldleaf_layer::plan::plan;
use goldleaf_layer::rules::{RuleFile, RuleRef, RuleSet};
use goldleaf_tree::{Change, GuestPath, NodeKind};

use crate::classify::{put, session};
use crate::path;
use crate::plan::{Plain, item};
use crate::tree::Tree;

#[test]
fn twenty_thousand_paths_over_a_hundred_rules() {
    let more: String = (0..60)
        .map(|n| format!("[[rule]]\npath = '/srv/**/v{n}/*.x{n}'\nto = 'local'\n"))
        .collect();
    let files = [RuleFile::debian().expect("rules"), RuleFile::site("s", &more).expect("rules")];
    let rules = RuleSet::compile(&files, &[]).expect("patterns");
    let (guest, small) = session();
    let changes: Vec<Change> = (0..20_000)
        .map(|n| {
            let at = small[n % small.len()].path().to_string();
            put(&format!("{at}/{n}"), NodeKind::File, "", false)
        })
        .collect();
    let (took, kept) = best(|| classify(&changes, &rules, &guest, Options::default()).len());
    println!("classify 20,000 changes, {} rules: {took:?}", rules.rules().count());
    assert_eq!(kept, 20_000);
    let facts = facts_of(&changes[0], &guest);
    let (alone, ruled) = best(|| {
        let decided = |change: &&Change| rules.evaluate(change.path(), &facts) != RuleRef::Default;
        changes.iter().filter(decided).count()
    });
    println!("evaluate alone: {alone:?}");
    assert_eq!(ruled, 20_000);
    assert!(took < Duration::from_secs(2), "{took:?}");
}

/// The shortest processor time of five runs, so that what else the machine does counts least.
fn best<T>(mut run: impl FnMut() -> T) -> (Duration, T) {
    let mut timed = || {
        let start = on_processor();
        let result = run();
        (on_processor().saturating_sub(start), result)
    };
    let first = timed();
    (0..4).map(|_| timed()).fold(first, |a, b| if b.0 < a.0 { b } else { a })
}

/// How long this thread has been running on a processor.
fn on_processor() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    Duration::from_nanos(text.split(' ').next().and_then(|ns| ns.parse().ok()).expect("a number"))
}

#[test]
fn two_hundred_thousand_entries() {
    let mut tree = Tree::new();
    for n in 0..100_000 {
        tree.add(&path(&format!("/usr/share/d{}/f{}", n / 100, n % 100)), NodeKind::File, b"7");
    }
    let mut entries: Vec<(GuestPath, _)> = (0..200_000)
        .map(|n| path(&format!("/usr/share/d{}/g{}", n / 100, n % 100)))
        .map(|at| (at, item(Kind::UserApps, Some(NodeKind::File), None)))
        .collect();
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    let mut copies = vec![entries; 5];
    let (took, count) = best(|| {
        let entries = copies.pop().unwrap_or_default();
        plan(&tree, entries, &Plain).filter(Result::is_ok).count()
    });
    println!("plan 200,000 entries: {took:?}");
    assert_eq!(count, 200_000 + 1_000);
    assert!(took < Duration::from_secs(5), "{took:?}");
}
