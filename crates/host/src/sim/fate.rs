//! Who decides what a power cut leaves.

/// What became of a sector that was written and not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SectorFate {
    /// It is there.
    Kept,
    /// What was there before is there.
    Lost,
    /// Bytes that nobody wrote are there, from this seed: the power went in the middle of it.
    Garbled(u64),
}

/// Decides what becomes of each pending change.
pub trait Fate {
    /// Another file or directory comes.
    fn begin(&mut self) {}
    /// Whether a change of a name or a length is there.
    fn keeps(&mut self) -> bool;
    /// What became of a sector.
    fn of_sector(&mut self) -> SectorFate;
    /// Which of `end` lengths a file has; 0 is the last that it was given.
    fn below(&mut self, end: usize) -> usize;
}

/// Chance, the same for the same seed. Each file has odds of its own: all lost and all kept are
/// worth seeing too. One power cut in four garbles some of the sectors that it loses.
pub struct Chance {
    dice: Dice,
    odds: usize,
    garbles: bool,
}

impl Chance {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let garbles = dice.below(4) == 0;
        Self { dice, odds: 16, garbles }
    }

    /// A number below `end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.dice.below(end)
    }

    pub(super) fn fill(&mut self, bytes: &mut [u8]) {
        bytes.iter_mut().for_each(|byte| *byte = self.dice.next() as u8);
    }

    fn hits(&mut self) -> bool {
        self.dice.below(16) < self.odds
    }
}

impl Fate for Chance {
    fn begin(&mut self) {
        self.odds = [0, 1, 4, 8, 12, 15, 16][self.dice.below(7)];
    }

    fn keeps(&mut self) -> bool {
        self.hits()
    }

    fn of_sector(&mut self) -> SectorFate {
        if self.hits() {
            SectorFate::Kept
        } else if self.garbles && self.dice.below(4) == 0 {
            SectorFate::Garbled(self.dice.next())
        } else {
            SectorFate::Lost
        }
    }

    fn below(&mut self, end: usize) -> usize {
        if self.hits() { 0 } else { self.dice.below(end) }
    }
}

/// All pending changes share one fate, with exceptions: for going through all the ways that a
/// power cut can turn out, in the order of how many exceptions they need.
#[derive(Debug, Clone, Default)]
pub struct Exceptions {
    /// Whether changes are lost, but for the exceptions, which are kept; else the reverse.
    pub lost: bool,
    /// Numbers of the changes that are exceptions, in the order in which they are asked for.
    pub except: Vec<usize>,
    asked: usize,
}

impl Exceptions {
    /// The common fate, and who is excepted from it.
    pub fn new(lost: bool, except: Vec<usize>) -> Self {
        Self { lost, except, asked: 0 }
    }

    /// Changes that were asked for.
    pub fn asked(&self) -> usize {
        self.asked
    }

    fn loses_next(&mut self) -> bool {
        let excepted = self.except.contains(&self.asked);
        self.asked += 1;
        excepted != self.lost
    }
}

impl Fate for Exceptions {
    fn keeps(&mut self) -> bool {
        !self.loses_next()
    }

    fn of_sector(&mut self) -> SectorFate {
        if self.keeps() { SectorFate::Kept } else { SectorFate::Lost }
    }

    fn below(&mut self, end: usize) -> usize {
        if end == 1 || self.keeps() { 0 } else { end - 1 }
    }
}

/// Reproducible chance: SplitMix64 (Steele, Lea and Flood, 2014).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}
