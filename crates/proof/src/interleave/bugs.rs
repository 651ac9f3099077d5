//! Bugs that no single thread can meet (A9), and what must catch them.

/// Every such bug that can be planted in the session log, by the name that the code asks for.
pub const BUGS: &[&str] = &[
    "a compaction calls durable what was not synced",
    "a flush covers what was written while it synced",
    "a hole is punched under a reader",
    "a lock is held while an earlier one is taken",
    "a reader lets go before it has read",
    "a record that was written during a sync counts as synced",
    "a slot is used again before its hole is punched",
    "a snapshot counts only when it is handed out",
    "data counts as changed before it is written",
];

/// Schedules after which a bug has survived: those of the short budget.
const SCHEDULES: u64 = 100_000;

/// What caught a bug, if anything did. The seeds are always the same.
pub fn hunt(bug: &'static str) -> Option<String> {
    let first_line = |text: &str| text.lines().next().unwrap_or_default().to_owned();
    if let Some(failure) = super::known::all(Some(bug)).failures.first() {
        return Some(first_line(failure));
    }
    (1..SCHEDULES).find_map(|seed| {
        let failure = super::chance(seed, Some(bug)).err()?;
        Some(format!("schedule {seed}: {}", failure.what))
    })
}
