//! One bit for each of many: blocks of a volume, inodes.

use goldleaf_block::{BlockCount, BlockNo, BlockRange};

/// Bits from 0 on. One behind the end is clear and stays so.
pub(crate) struct Bits(Vec<u64>);

impl Bits {
    /// So many clear ones.
    pub fn new(count: u64) -> Self {
        Self(vec![0; count.div_ceil(64) as usize])
    }

    /// Whether a bit is set.
    pub fn get(&self, index: u64) -> bool {
        self.0.get((index / 64) as usize).is_some_and(|word| word >> (index % 64) & 1 == 1)
    }

    /// Sets a bit; returns whether it was clear.
    pub fn set(&mut self, index: u64) -> bool {
        let Some(word) = self.0.get_mut((index / 64) as usize) else { return false };
        let clear = *word >> (index % 64) & 1 == 0;
        *word |= 1 << (index % 64);
        clear
    }

    /// The runs of set bits, taken for blocks: sorted, apart, as long as they can be.
    pub fn ranges(&self) -> Vec<BlockRange> {
        let mut out = Vec::new();
        let mut at = 0;
        while let Some(start) = self.next(at, true) {
            let end = self.next(start, false).unwrap_or(self.0.len() as u64 * 64);
            out.push(BlockRange::new(BlockNo(start), BlockCount(end - start)));
            at = end;
        }
        out
    }

    /// The first bit from `at` on that is set, or clear.
    fn next(&self, at: u64, set: bool) -> Option<u64> {
        let mut word = (at / 64) as usize;
        let mut mask = !0 << (at % 64);
        loop {
            let bits = *self.0.get(word)?;
            let found = if set { bits } else { !bits } & mask;
            if found != 0 {
                return Some(word as u64 * 64 + u64::from(found.trailing_zeros()));
            }
            (word, mask) = (word + 1, !0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(set: &[u64]) {
        let mut bits = Bits::new(200);
        set.iter().for_each(|&index| assert!(bits.set(index)));
        assert!((0..300).all(|index| bits.get(index) == set.contains(&index)));
        let ranges = bits.ranges();
        let again: Vec<u64> = ranges.iter().flat_map(|r| r.start.0..r.end().0).collect();
        assert_eq!(again, set);
        assert!(ranges.windows(2).all(|pair| pair[0].end() < pair[1].start), "as long as can be");
    }

    #[test]
    fn ranges_are_the_set_bits() {
        check(&[]);
        check(&[0]);
        check(&[0, 1, 62, 63, 64, 65, 127, 129, 199]);
        check(&(60..140).collect::<Vec<_>>());
        check(&(0..200).collect::<Vec<_>>());
        check(&(0..200).step_by(2).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_behind_the_end_is_not_there() {
        let mut bits = Bits::new(64);
        assert!(!bits.set(64) && !bits.get(64));
        assert!(bits.set(63) && !bits.set(63));
    }
}
