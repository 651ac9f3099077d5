//! A bit for each block, set by any thread and never cleared.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bits, all clear at first.
pub(crate) struct Bitmap {
    words: Box<[AtomicU64]>,
    bits: u64,
}

impl Bitmap {
    /// `bits` clear bits.
    pub fn new(bits: u64) -> Self {
        let words = (0..bits.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Self { words, bits }
    }

    /// Bits from as much as there is of what [`Self::to_bytes`] made; the rest are clear.
    pub fn from_bytes(bytes: &[u8], bits: u64) -> Self {
        let bitmap = Self::new(bits);
        for (word, bytes) in bitmap.words.iter().zip(bytes.chunks_exact(8)) {
            let bytes = bytes.try_into().expect("chunks of eight bytes have eight");
            word.store(u64::from_le_bytes(bytes), Ordering::Relaxed);
        }
        // What is past the end counts for nothing.
        if let (Some(last), rest @ 1..) = (bitmap.words.last(), bits % 64) {
            last.fetch_and((1 << rest) - 1, Ordering::Relaxed);
        }
        bitmap
    }

    /// The bits, little-endian, in whole words.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.words.iter().flat_map(|word| word.load(Ordering::Acquire).to_le_bytes()).collect()
    }

    /// How many bits are set.
    pub fn count(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.load(Ordering::Relaxed).count_ones())).sum()
    }

    /// Whether all bits of a range are set.
    pub fn has(&self, range: Range<u64>) -> bool {
        self.run(range.start, range.end) == range.end
    }

    /// Where the set bits that begin at `from` end, at most `limit`.
    pub fn run(&self, from: u64, limit: u64) -> u64 {
        let (mut at, limit) = (from, limit.min(self.bits));
        while at < limit {
            let word = self.words[(at / 64) as usize].load(Ordering::Acquire) >> (at % 64);
            let ones = u64::from((!word).trailing_zeros()).min(64 - at % 64);
            at += ones;
            if ones == 0 || at % 64 != 0 {
                break;
            }
        }
        at.min(limit)
    }

    /// Sets the bits of a range. Whoever sees them set sees what was done before.
    pub fn set(&self, range: Range<u64>) {
        let (mut at, end) = (range.start, range.end.min(self.bits));
        while at < end {
            let count = (64 - at % 64).min(end - at);
            let mask = (u64::MAX >> (64 - count)) << (at % 64);
            self.words[(at / 64) as usize].fetch_or(mask, Ordering::Release);
            at += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_bitmap_is_a_list_of_truths(
            bits in 1u64..300,
            changes in prop::collection::vec((0u64..300, 0u64..300), 0..8),
        ) {
            let bitmap = Bitmap::new(bits);
            let mut model = vec![false; bits as usize];
            for (one, two) in changes {
                let range = one.min(two).min(bits)..one.max(two).min(bits);
                model[range.start as usize..range.end as usize].fill(true);
                bitmap.set(range);
            }
            let bitmap = Bitmap::from_bytes(&bitmap.to_bytes(), bits);
            prop_assert_eq!(bitmap.count(), model.iter().filter(|bit| **bit).count() as u64);
            for from in 0..bits {
                let ones = model[from as usize..].iter().take_while(|bit| **bit).count() as u64;
                prop_assert_eq!(bitmap.run(from, bits), from + ones);
                prop_assert_eq!(bitmap.run(from, from), from);
                prop_assert_eq!(bitmap.has(from..from + 1), ones > 0);
            }
        }

        #[test]
        fn bits_past_the_end_count_for_nothing(bits in 1u64..200) {
            let bitmap = Bitmap::from_bytes(&[0xff; 64], bits);
            prop_assert_eq!(bitmap.count(), bits);
        }
    }
}
