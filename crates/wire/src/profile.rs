//! What a guest reads of its disk when it starts, in that order.
//!
//! ```text
//!   "GLBOOT\x00\x01"           magic and format, 8 bytes
//!   length decompressed        4 bytes, little-endian
//!   one zstd frame:            number of runs, then two columns: first block, as a difference from
//!                              the end of the run before, and blocks
//! ```

use std::collections::BTreeMap;

use goldleaf_block::{BlockCount, BlockNo, BlockRange};

use crate::WireError;
use crate::sealed::Form;
use crate::varint::{Reader, put, put_difference};

const WHAT: &str = "a boot profile";
/// A million runs fit.
const FORM: Form = Form { what: WHAT, magic: b"GLBOOT\x00\x01", limit: 16 << 20 };

/// The runs of a disk that a guest reads when it starts, in the order of their first reads. A hint:
/// a wrong one makes a start slow, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BootProfile {
    runs: Vec<BlockRange>,
}

impl BootProfile {
    /// Of what was read, first things first. What comes twice, or lies outside of the disk, is left
    /// out.
    pub fn new(read: impl IntoIterator<Item = BlockRange>, disk_blocks: BlockCount) -> Self {
        let (mut runs, mut known): (Vec<BlockRange>, _) = (Vec::new(), Known::default());
        for run in read {
            let end = run.start.0.saturating_add(run.count.0).min(disk_blocks.0);
            known.new_parts(run.start.0, end, &mut |start, end| {
                let run = BlockRange::new(BlockNo(start), BlockCount(end - start));
                match runs.last_mut() {
                    Some(last) if last.end() == run.start => {
                        last.count.0 += run.count.0;
                    }
                    _ => runs.push(run),
                }
            });
        }
        Self { runs }
    }

    /// The runs: apart, in the order of reading.
    pub fn runs(&self) -> &[BlockRange] {
        &self.runs
    }

    /// Blocks of all runs.
    pub fn blocks(&self) -> BlockCount {
        BlockCount(self.runs.iter().map(|run| run.count.0).sum())
    }

    /// As it travels.
    pub fn to_bytes(&self) -> Result<Vec<u8>, WireError> {
        let (mut body, mut counts) = (Vec::new(), Vec::new());
        put(&mut body, self.runs.len() as u64);
        let mut end = 0;
        for run in &self.runs {
            put_difference(&mut body, end, run.start.0);
            put(&mut counts, run.count.0);
            end = run.end().0;
        }
        body.extend_from_slice(&counts);
        FORM.seal(&body)
    }

    /// Reads a profile of a disk of so many blocks.
    pub fn from_bytes(bytes: &[u8], disk_blocks: BlockCount) -> Result<Self, WireError> {
        let body = FORM.open(bytes)?;
        let mut reader = Reader::new(WHAT, &body);
        let count = reader.count()?;
        let mut differences = Vec::with_capacity(count);
        for _ in 0..count {
            differences.push(reader.difference(0)?);
        }
        let (mut runs, mut known, mut last) = (Vec::with_capacity(count), Known::default(), 0u64);
        for difference in differences {
            let (start, blocks) = (last.wrapping_add(difference), reader.number()?);
            let end = start.checked_add(blocks).filter(|end| *end <= disk_blocks.0);
            let end = end.ok_or_else(|| WireError::malformed(WHAT, "a run outside of the disk"))?;
            let mut new = 0;
            known.new_parts(start, end, &mut |start, end| new += end - start);
            if blocks == 0 || new != blocks {
                return Err(WireError::malformed(WHAT, "a run of nothing new"));
            }
            runs.push(BlockRange::new(BlockNo(start), BlockCount(blocks)));
            last = end;
        }
        reader.end()?;
        Ok(Self { runs })
    }
}

/// Blocks that were named: ends by starts, apart, as long as they can be.
#[derive(Default)]
struct Known(BTreeMap<u64, u64>);

impl Known {
    /// Hands out the parts of a run that were not named before, and names them.
    fn new_parts(&mut self, mut start: u64, end: u64, take: &mut dyn FnMut(u64, u64)) {
        while start < end {
            let before = self.0.range(..=start).next_back().map(|(_, end)| *end);
            if let Some(known) = before.filter(|known| *known > start) {
                start = known;
                continue;
            }
            let next = self.0.range(start..).next().map_or(end, |(next, _)| end.min(*next));
            take(start, next);
            self.name(start, next);
            start = next;
        }
    }

    fn name(&mut self, mut start: u64, mut end: u64) {
        if let Some((&before, _)) = self.0.range(..=start).next_back().filter(|run| *run.1 == start)
        {
            start = before;
        }
        if let Some(behind) = self.0.remove(&end) {
            end = behind;
        }
        self.0.insert(start, end);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(start: u64, count: u64) -> BlockRange {
        BlockRange::new(BlockNo(start), BlockCount(count))
    }

    proptest! {
        #[test]
        fn each_block_is_there_once_where_it_was_read_first(
            read in proptest::collection::vec((0..120_u64, 0..30_u64), 0..40),
        ) {
            let read: Vec<_> = read.into_iter().map(|(start, count)| range(start, count)).collect();
            let profile = BootProfile::new(read.iter().copied(), BlockCount(100));
            let blocks = |runs: &[BlockRange]| -> Vec<u64> {
                runs.iter().flat_map(|run| run.start.0..run.end().0).collect()
            };
            let mut expected: Vec<u64> = Vec::new();
            for block in blocks(&read) {
                if block < 100 && !expected.contains(&block) {
                    expected.push(block);
                }
            }
            prop_assert_eq!(blocks(profile.runs()), expected);
            let bytes = profile.to_bytes().expect("a profile");
            let read = BootProfile::from_bytes(&bytes, BlockCount(100)).expect("a profile");
            prop_assert_eq!(read, profile);
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        let sealed = |numbers: &[u64]| {
            let mut body = Vec::new();
            put(&mut body, numbers.len() as u64 / 2);
            let (starts, counts) = numbers.split_at(numbers.len() / 2);
            starts.iter().for_each(|start| put_difference(&mut body, 0, *start));
            counts.iter().for_each(|count| put(&mut body, *count));
            FORM.seal(&body).expect("sealed")
        };
        let read = |numbers: &[u64]| BootProfile::from_bytes(&sealed(numbers), BlockCount(10));
        // Two runs of two and four blocks, the second one block behind the first.
        assert_eq!(read(&[3, 1, 2, 4]).expect("sound").runs(), [range(3, 2), range(6, 4)]);
        let none: [&[u64]; 6] = [
            &[3, 1, 2, 5],
            &[3, 1, 2, 0],
            &[3, 1, u64::MAX, 1],
            &[3, u64::MAX, 2, 1],
            &[3, 0, 2, 0],
            &[11, 1],
        ];
        for numbers in none {
            let error = read(numbers).expect_err("none").to_string();
            assert!(error.contains("a run"), "{numbers:?}: {error}");
        }
    }
}
