//! What a disk may hold: a plain array, and fingerprints of all that it was since the last flush.
//!
//! A disk promises little: what a flush that returned had before it is there after a power cut, and
//! no block is torn. The session log promises more, and is held to it: what is there is what was
//! there at *one* moment since the last flush, except that the operation of that moment may be done
//! in part, block by block.

use std::collections::HashSet;
use std::fmt;

use super::workload::Step;

/// Bytes of a block.
pub const BLOCK: usize = 4096;

/// One moment: a fingerprint a block.
type Moment = Vec<u32>;

/// What a disk must not hold after a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// This block has what was there before the last flush, which is lost.
    Lost(usize),
    /// This block has what another one had.
    Stale(usize),
    /// This block has what no block ever had.
    Torn(usize),
    /// Each block has what it had, but not at one moment.
    Mixed,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wrong::Lost(block) => write!(f, "block {block} lost what was flushed"),
            Wrong::Stale(block) => write!(f, "block {block} has what another block had"),
            Wrong::Torn(block) => write!(f, "block {block} is torn"),
            Wrong::Mixed => f.write_str("blocks of different moments are mixed"),
        }
    }
}

impl From<Wrong> for String {
    fn from(wrong: Wrong) -> String {
        wrong.to_string()
    }
}

/// A disk that cannot fail.
#[derive(Clone)]
pub struct Oracle {
    content: Vec<u8>,
    /// What each block had before the last flush.
    past: Vec<HashSet<u32>>,
    /// The last flush, and every step since.
    moments: Vec<Moment>,
}

impl Oracle {
    /// A disk with this content, all of it durable.
    pub fn new(content: Vec<u8>) -> Self {
        let moments = vec![moment(&content)];
        let past = vec![HashSet::new(); moments[0].len()];
        Self { content, past, moments }
    }

    /// What the disk holds now.
    pub fn content(&self) -> &[u8] {
        &self.content
    }

    /// Does a step, of which nobody knows yet whether it will be done.
    pub fn begin(&mut self, step: &Step) {
        let len = self.content.len();
        let touched = match *step {
            Step::Write { at, len, fill } => {
                self.content[at..at + len].fill(fill);
                at..at + len
            }
            Step::Zero { at, len } => {
                self.content[at..at + len].fill(0);
                at..at + len
            }
            Step::Discard { at, len: count } => {
                let whole = whole_blocks(at, count, len);
                self.content[whole.clone()].fill(0);
                whole
            }
            Step::Flush => return,
        };
        let mut now = self.moments[self.moments.len() - 1].clone();
        let (first, end) = (touched.start / BLOCK, touched.end.div_ceil(BLOCK));
        for (block, sum) in now.iter_mut().enumerate().take(end).skip(first) {
            *sum = crc32c::crc32c(&self.content[block * BLOCK..len.min((block + 1) * BLOCK)]);
        }
        self.moments.push(now);
    }

    /// A flush has returned.
    pub fn flushed(&mut self) {
        for moment in self.moments.drain(..self.moments.len() - 1) {
            self.past.iter_mut().zip(moment).for_each(|(past, sum)| past.extend([sum]));
        }
    }

    /// A step has failed, and the disk was read: it may hold this from now on.
    pub fn found(&mut self, content: &[u8]) {
        self.content.copy_from_slice(content);
        self.moments.push(moment(content));
    }

    /// What a disk after a power cut has that it must not have.
    pub fn check(&self, found: &[u8]) -> Result<(), Wrong> {
        let found = moment(found);
        let last = self.moments.len() - 1;
        let between = |k: usize| {
            let (one, next) = (&self.moments[k], &self.moments[(k + 1).min(last)]);
            found.iter().zip(one.iter().zip(next)).all(|(found, (a, b))| found == a || found == b)
        };
        if (0..=last).any(between) {
            return Ok(());
        }
        let never = |block: &usize| self.moments.iter().all(|one| one[*block] != found[*block]);
        Err(match (0..found.len()).find(never) {
            Some(block) if self.past[block].contains(&found[block]) => Wrong::Lost(block),
            Some(block) if self.was_anywhere(found[block]) => Wrong::Stale(block),
            Some(block) => Wrong::Torn(block),
            None => Wrong::Mixed,
        })
    }

    fn was_anywhere(&self, sum: u32) -> bool {
        self.past.iter().any(|past| past.contains(&sum))
            || self.moments.iter().any(|moment| moment.contains(&sum))
    }
}

/// The whole blocks within a range; the last block of a disk is whole even if it is short.
fn whole_blocks(at: usize, count: usize, len: usize) -> std::ops::Range<usize> {
    let start = at.next_multiple_of(BLOCK);
    let end = if at + count == len { len } else { (at + count) / BLOCK * BLOCK };
    start.min(end)..end
}

fn moment(content: &[u8]) -> Moment {
    content.chunks(BLOCK).map(crc32c::crc32c).collect()
}
