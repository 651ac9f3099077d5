//! What a disk may hold: a plain array, and fingerprints of all that it was since the last flush.
//!
//! A disk promises little: what a flush that returned had before it is there after a power cut, and
//! no block is torn. The session log promises more, and is held to it: what is there is what was
//! there at *one* moment since the last flush, except that the operation of that moment may be done
//! in part, block by block.

use super::workload::Step;

/// Bytes of a block.
pub const BLOCK: usize = 4096;

/// One moment: a fingerprint a block.
type Moment = Vec<u32>;

/// A disk that cannot fail.
pub struct Oracle {
    content: Vec<u8>,
    /// The last flush, and every step since.
    moments: Vec<Moment>,
}

impl Oracle {
    /// A disk with this content, all of it durable.
    pub fn new(content: Vec<u8>) -> Self {
        let moments = vec![moment(&content)];
        Self { content, moments }
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
        self.moments.drain(..self.moments.len() - 1);
    }

    /// A step has failed, and the disk was read: it may hold this from now on.
    pub fn found(&mut self, content: &[u8]) {
        self.content.copy_from_slice(content);
        self.moments.push(moment(content));
    }

    /// What a disk after a power cut has that it must not have.
    pub fn check(&self, found: &[u8]) -> Result<(), String> {
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
            Some(block) => format!("block {block} holds what it never held since the last flush"),
            None => "blocks of different moments are mixed".into(),
        })
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
