//! A bit for each block, set and cleared by any thread.

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

    /// `bits` set bits.
    pub fn full(bits: u64) -> Self {
        let bitmap = Self::new(bits);
        bitmap.set(0..bits);
        bitmap
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
        self.words(range).for_each(|(word, mask)| {
            word.fetch_or(mask, Ordering::Release);
        });
    }

    /// Clears the bits of a range.
    pub fn clear(&self, range: Range<u64>) {
        self.words(range).for_each(|(word, mask)| {
            word.fetch_and(!mask, Ordering::Release);
        });
    }

    /// Whether any bit of a range is set.
    pub fn has_any(&self, range: Range<u64>) -> bool {
        self.words(range).any(|(word, mask)| word.load(Ordering::Relaxed) & mask != 0)
    }

    /// Whether all bits of a range that `other` has, which is as long, are set.
    pub fn covers(&self, other: &Self, range: Range<u64>) -> bool {
        let mut both = self.words(range.clone()).zip(other.words(range));
        both.all(|((own, mask), (other, _))| {
            other.load(Ordering::Acquire) & mask & !own.load(Ordering::Acquire) == 0
        })
    }

    /// How many bits are set here and in `other`, which is as long.
    pub fn count_with(&self, other: &Self) -> u64 {
        let both = self.words.iter().zip(&other.words);
        let common = |(own, other): (&AtomicU64, &AtomicU64)| {
            own.load(Ordering::Relaxed) & other.load(Ordering::Relaxed)
        };
        both.map(|both| u64::from(common(both).count_ones())).sum()
    }

    /// The words that a range lies in, each with its bits of the range.
    fn words(&self, range: Range<u64>) -> impl Iterator<Item = (&AtomicU64, u64)> {
        let (mut at, end) = (range.start, range.end.min(self.bits));
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let count = (64 - at % 64).min(end - at);
            let mask = (u64::MAX >> (64 - count)) << (at % 64);
            let word = &self.words[(at / 64) as usize];
            at += count;
            Some((word, mask))
        })
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
            changes in prop::collection::vec((0u64..300, 0u64..300, any::<bool>()), 0..8),
        ) {
            let bitmap = Bitmap::new(bits);
            let mut model = vec![false; bits as usize];
            for (one, two, is_set) in changes {
                let range = one.min(two).min(bits)..one.max(two).min(bits);
                model[range.start as usize..range.end as usize].fill(is_set);
                if is_set { bitmap.set(range) } else { bitmap.clear(range) }
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
        fn two_bitmaps_compare_bit_by_bit(
            bits in 1u64..300,
            one in prop::collection::vec(0u64..300, 0..40),
            other in prop::collection::vec(0u64..300, 0..40),
            ends in (0u64..300, 0u64..300),
        ) {
            let of = |set: &[u64]| {
                let bitmap = Bitmap::new(bits);
                set.iter().for_each(|bit| bitmap.set(*bit..bit + 1));
                bitmap
            };
            let range = ends.0.min(ends.1).min(bits)..ends.0.max(ends.1).min(bits);
            let covers = range.clone().all(|bit| !other.contains(&bit) || one.contains(&bit));
            let any = range.clone().any(|bit| one.contains(&bit));
            let common = (0..bits).filter(|bit| one.contains(bit) && other.contains(bit)).count();
            let (one, other) = (of(&one), of(&other));
            prop_assert_eq!(one.covers(&other, range.clone()), covers);
            prop_assert_eq!(one.has_any(range), any);
            prop_assert_eq!(one.count_with(&other), common as u64);
            prop_assert_eq!(Bitmap::full(bits).count(), bits);
        }

        #[test]
        fn bits_past_the_end_count_for_nothing(bits in 1u64..200) {
            let bitmap = Bitmap::from_bytes(&[0xff; 64], bits);
            prop_assert_eq!(bitmap.count(), bits);
        }
    }
}
