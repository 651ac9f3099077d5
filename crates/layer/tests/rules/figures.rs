//! How long it takes. The bounds are generous, because tests run unoptimised and side by side; the
//! figures are printed.

use std::time::{Duration, Instant};

use goldleaf_layer::Kind;
use goldleaf_layer::classify::{Options, classify};
use goldleaf_layer::plan::plan;
use goldleaf_layer::rules::{RuleFile, RuleSet};
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
    let start = Instant::now();
    let all = classify(&changes, &rules, &guest, Options::default());
    let took = start.elapsed();
    println!("classify 20,000 changes, {} rules: {took:?}", rules.rules().count());
    assert_eq!(all.len(), 20_000);
    let start = Instant::now();
    let facts = goldleaf_layer::classify::facts_of(&changes[0], &guest);
    let ruled = changes.iter().filter(|change| {
        rules.evaluate(change.path(), &facts) != goldleaf_layer::rules::RuleRef::Default
    });
    assert_eq!(ruled.count(), 20_000);
    println!("evaluate alone: {:?}", start.elapsed());
    assert!(took < Duration::from_secs(2), "{took:?}");
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
    let start = Instant::now();
    let count = plan(&tree, entries, &Plain).filter(Result::is_ok).count();
    let took = start.elapsed();
    println!("plan 200,000 entries: {took:?}");
    assert_eq!(count, 200_000 + 1_000);
    assert!(took < Duration::from_secs(5), "{took:?}");
}
