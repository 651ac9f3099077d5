//! Planted bugs: the comparison with a log must find each of them, or it proves nothing.

use super::again::{self, Again};
use super::check;
use super::cut::Prescribed;
use super::life::Life;
use crate::Result;
use crate::dice::Dice;
use crate::storage::bugs::survivors;

/// Bugs that any file system's work brings to light.
pub const BUGS: &[&str] = &[
    "a flush does not sync the data",
    "a flush does not sync the index",
    "a flush returns before it is done",
    "a hole is punched a block too long",
    "a new log's names are not synced",
    "a slot that a record names is overwritten",
    "a trim takes its last block as a whole",
    "the data counts as synced although it was written to again",
    "writing part of a block forgets the rest",
];
/// Flushes at which the power is cut for each of them, until it is caught.
const FLUSHES: usize = 12;
/// Power cuts behind each flush.
const BEHIND: u64 = 5;

/// How many of them are caught when a log is done again; without any, nothing must be.
pub fn caught(life: &Life, dice: &mut Dice) -> Result<usize> {
    let seed = dice.next();
    hunt(life, seed).map_err(|error| format!("without a bug, with seed {seed}: {error}"))?;
    let survivors = survivors(BUGS, |_| hunt(life, seed).err().map(|error| error.to_string()));
    Ok(BUGS.len() - survivors.len())
}

/// Fails when something is wrong.
fn hunt(life: &Life, seed: u64) -> Result<()> {
    let mut dice = Dice::new(seed, 9);
    let flushes = again::some_flushes(&life.log, life.history.begin, FLUSHES, &mut dice);
    let mut prescribed = Prescribed::new(&life.log, &life.base)?;
    let mut again = Again::new(&life.log, &life.base)?;
    for flush in flushes {
        again.go_to(flush)?;
        for cut in again.cuts(BEHIND, &mut dice) {
            match check::recover(&cut?, &life.base, &mut prescribed, None)? {
                0 => {}
                wrong => return Err(format!("{wrong} wrong blocks").into()),
            }
        }
    }
    Ok(())
}
