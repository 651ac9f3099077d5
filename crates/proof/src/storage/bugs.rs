//! Planted bugs (A9): the proof must catch every one of them, or it proves nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Failure, ageing_and_rest, cuts, errors, ways};

/// Every bug that a single thread can meet, by the name that the code asks for.
pub const BUGS: &[&str] = &[
    "a block that was trimmed comes back",
    "a flush does not sync the data",
    "a flush does not sync the index",
    "a flush returns before it is done",
    "a guest may go on without a flush",
    "a header's checksum is not looked at",
    "a hole is punched a block too long",
    "a log is opened on another base",
    "a new index forgets what was trimmed",
    "a new index keeps what was overtaken",
    "a new index takes the old one's name before it is synced",
    "a new index's name is not synced",
    "a new log's names are not synced",
    "a record calls itself durable",
    "a record has its zeroes last",
    "a record is believed without its data",
    "a record is left out in the middle",
    "a record's checksum is not looked at",
    "a slot that a record names is overwritten",
    "a trim is not a change to flush",
    "a trim leaves what the base has",
    "a trim takes its last block as a whole",
    "a write to a full disk counts as done",
    "an overwrite that failed may be tried again",
    "an overwritten block keeps its old checksum",
    "damage is taken for a torn end",
    "dead slots are forgotten",
    "records of an earlier life are taken for new ones",
    "recovery takes the last record's slots for free",
    "slots are used twice",
    "space is given back before a durable record says that it is free",
    "space that a snapshot refers to is given back",
    "the cache is believed after a failed sync",
    "the data counts as synced although it was written to again",
    "the index that is found may lose its name",
    "the log goes on after a failed sync",
    "what a compaction left behind stays",
    "what is dead is never used again",
    "what was recovered is called durable without a sync",
    "writing part of a block forgets the rest",
];

/// Plants one bug after the other; returns those that `hunt` finds nothing of.
pub fn survivors(
    bugs: &[&'static str],
    hunt: impl Fn(&'static str) -> Option<String>,
) -> Vec<&'static str> {
    let said = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let survivors = bugs.iter().copied().filter(|bug| {
        goldleaf_host::plant(Some(bug));
        let caught = hunt(bug);
        goldleaf_host::plant(None);
        match &caught {
            Some(by) => eprintln!("    {bug}: {by}"),
            None => eprintln!("    {bug}: SURVIVED"),
        }
        caught.is_none()
    });
    let survivors = survivors.collect();
    std::panic::set_hook(said);
    survivors
}

/// What caught the bug that is planted, if anything did.
pub fn hunt(seed: u64, lives: u64) -> Option<String> {
    let live = |from: u64, to: u64| {
        (from..to).try_fold(0, |sum, life| Ok(sum + cuts::life(seed + life)?.states))
    };
    let trials: [&dyn Fn() -> Result<u64, Failure>; 6] = [
        &|| live(0, 200),
        &|| ageing_and_rest(seed, 60, 400),
        &|| errors::run().map(|found| found.failed),
        &|| ways::alphabet().iter().try_fold(0, |sum, step| Ok(sum + ways::all_cuts(&[*step], 1)?)),
        &|| live(200, lives),
        &|| ageing_and_rest(seed + 400, 60, 6000),
    ];
    trials.iter().find_map(|trial| match catch_unwind(AssertUnwindSafe(trial)) {
        Ok(Ok(_)) => None,
        Ok(Err(failure)) => Some(failure.to_string()),
        Err(_) => Some("a panic".into()),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    /// Every bug that the code asks for is in the list, and the reverse.
    #[test]
    fn the_list_is_whole() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../block/src/session");
        let mut asked = BTreeSet::new();
        for entry in std::fs::read_dir(source).expect("sources") {
            let text = std::fs::read_to_string(entry.expect("entry").path()).expect("text");
            for part in text.split("planted(").skip(1) {
                let name =
                    part.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next());
                asked.extend(name.map(str::to_owned));
            }
        }
        let listed: BTreeSet<String> =
            super::BUGS.iter().chain(crate::interleave::BUGS).map(|bug| bug.to_string()).collect();
        assert_eq!(asked, listed);
    }
}
