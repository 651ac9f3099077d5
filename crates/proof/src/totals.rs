//! The totals of long runs on the page of promises: they are what the file of them says.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

/// What is counted over all runs.
const COUNTED: &[&str] = &[
    "ageing.overwrites",
    "crash.recoveries_cut",
    "crash.states",
    "fuzz.runs",
    "guest_kills",
    "hostile.images",
    "interleavings.moves",
    "interleavings.schedules",
    "killpoints.cases",
    "layers.reboots",
    "layers.sequences",
    "media.decays",
    "nbd.histories",
    "replay.images",
    "workloads.states",
];

/// The rows of the page, by figure.
fn rows(page: &str) -> BTreeMap<String, (u64, u64)> {
    let section = page.split("## So far").nth(1).expect("a section of totals");
    let section = section.split("\n## ").next().unwrap_or_default();
    let number = |text: &str| text.replace(',', "").parse().expect("a number");
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, sum, runs] = cells[..] else { panic!("a row of other cells: {line}") };
        (name.trim_matches('`').to_owned(), (number(sum), number(runs)))
    })
    .collect()
}

#[test]
fn the_page_has_the_totals() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let read = |name: &str| std::fs::read_to_string(root.join(name)).expect(name);
    let mut sums: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for line in read("bench/reliability-totals.jsonl").lines() {
        let run: Value = serde_json::from_str(line).expect("a run");
        for (name, value) in run["figures"].as_object().expect("figures") {
            if COUNTED.contains(&name.as_str()) {
                let sum = sums.entry(name.clone()).or_default();
                *sum = (sum.0 + value.as_f64().expect("a number") as u64, sum.1 + 1);
            }
        }
    }
    assert_eq!(rows(&read("docs/promises.md")), sums);
}
