//! Every row of the threat table about updates has a test by its name, in whichever crate the matter
//! is, or a reason why it has none yet.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The rows about what there is: those behind them are about servers, and about updates of the
/// program itself.
const ROWS: std::ops::RangeInclusive<u32> = 1..=53;

/// Rows that nothing can be tried on yet.
const WAITING: &[(u32, &str)] = &[
    (24, "there are no delegated roles: a channel has one list of targets"),
    (40, "no server takes what others upload"),
    (44, "there are no policies"),
    (45, "there are no leases"),
    (46, "there are no lists of what was revoked"),
];

/// The rows that a test's name begins with: `a07_a08_half_a_rotation` is about two.
fn rows(name: &str) -> impl Iterator<Item = u32> {
    let digits = |part: &str| {
        let digits = part.strip_prefix('a').filter(|digits| digits.len() == 2)?;
        digits.parse().ok()
    };
    name.split('_').map_while(digits)
}

/// The rows that tests below a directory are named after.
fn tested(dir: &Path, found: &mut BTreeSet<u32>) {
    for item in fs::read_dir(dir).unwrap().map(|item| item.unwrap().path()) {
        if item.is_dir() {
            tested(&item, found);
        } else if item.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(item).unwrap();
            let tests = text.split("#[test]\nfn ").skip(1);
            found.extend(tests.flat_map(|test| rows(test.split('(').next().unwrap())));
        }
    }
}

#[test]
fn every_row_has_a_test_or_waits() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = BTreeSet::new();
    for item in fs::read_dir(crates).unwrap().map(|item| item.unwrap().path()) {
        let tests = item.join("tests/it");
        if tests.is_dir() {
            tested(&tests, &mut found);
        }
    }
    let waiting: BTreeSet<u32> = WAITING.iter().map(|(row, _)| *row).collect();
    let both: Vec<&u32> = found.intersection(&waiting).collect();
    assert!(both.is_empty(), "no longer waiting: {both:?}");
    let missing: Vec<u32> =
        ROWS.filter(|row| !found.contains(row) && !waiting.contains(row)).collect();
    assert!(missing.is_empty(), "without a test: {missing:?}");
}
