//! Slots whose content nobody can ask for any more, and what becomes of them.
//!
//! Long runs (trims, rewritten files) go back to the host as soon as 1 MiB of newly dead slots has
//! gathered. Single slots, which random overwriting leaves, are not worth that: a hole of one slot
//! may cost the host's file system a hundred times the write that made it necessary. They wait, and
//! those that are more than a thirty-second of what lives are used again: handed out as *spare*
//! ones, in the order of the file, so that what is written next lies near together. So the file
//! stops growing where as many slots are written as die. Where slots die and nothing is written
//! (scattered trims), spare ones pile up; these go back to the host after all, a few at each flush.
//!
//! Nothing here touches a file: the caller punches runs, and hands spare ones out, once no reader
//! has them in hand.

use std::collections::VecDeque;

use super::format::Slot;

/// When slots go back.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// Newly dead slots that make looking worthwhile.
    pub look_at: u32,
    /// Shortest run that goes back at once, in slots.
    pub long: u32,
    /// Dead slots that always may wait.
    pub slack: u64,
    /// Spare slots that may go unused from one flush to the next.
    pub spare: u64,
    /// Runs of spare slots that any flush may punch.
    pub few_runs: u64,
}

impl Limits {
    /// 1 MiB, 64 KiB, 16 MiB and 16 MiB; and so few runs that a flush is not held up for more than
    /// some milliseconds.
    pub(super) const USUAL: Self =
        Self { look_at: 256, long: 16, slack: 4096, spare: 4096, few_runs: 32 };

    /// Dead slots that may wait, in a file with `live` slots in use. With an index of twice what
    /// it needs (another thirty-second of what lives) and what the host's file system notes about
    /// a file in pieces, this is less than the twentieth that is promised.
    fn may_wait(&self, live: u64) -> u64 {
        self.slack + live / 32
    }
}

/// A run of slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SlotRun {
    pub start: Slot,
    pub count: u32,
}

/// A set of slots, one bit each.
#[derive(Default)]
pub(super) struct SlotSet(Vec<u64>);

impl SlotSet {
    /// Adds a slot; whether it is a new one.
    pub(super) fn insert(&mut self, slot: Slot) -> bool {
        let word = (slot.0 / 64) as usize;
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        let (before, bit) = (self.0[word], 1 << (slot.0 % 64));
        self.0[word] |= bit;
        before & bit == 0
    }

    fn remove(&mut self, slot: u32) -> bool {
        let Some(word) = self.0.get_mut((slot / 64) as usize) else { return false };
        let (before, bit) = (*word, 1 << (slot % 64));
        *word &= !bit;
        before & bit != 0
    }

    /// Whether it has a slot.
    pub(super) fn has(&self, slot: Slot) -> bool {
        self.0.get((slot.0 / 64) as usize).is_some_and(|word| word >> (slot.0 % 64) & 1 == 1)
    }

    /// The first slot of the set from `from` on.
    fn next(&self, from: u32) -> Option<u32> {
        let first = (from / 64) as usize;
        let masked = self.0.get(first)? & (!0 << (from % 64));
        let rest = self.0[first + 1..].iter().copied();
        let (word, bits) = (first..).zip([masked].into_iter().chain(rest)).find(|w| w.1 != 0)?;
        Some(word as u32 * 64 + bits.trailing_zeros())
    }
}

/// The dead slots that still occupy space and are not spare.
pub(super) struct Space {
    limits: Limits,
    dead: SlotSet,
    count: u64,
    /// Those that nobody has looked at yet, and how many they are.
    fresh: Vec<SlotRun>,
    fresh_count: u32,
    cursor: u32,
}

impl Space {
    /// No dead slots.
    pub(super) fn new(limits: Limits) -> Self {
        let (dead, fresh) = (SlotSet::default(), Vec::new());
        Self { limits, dead, count: 0, fresh, fresh_count: 0, cursor: 0 }
    }

    /// Takes slots that no durable state refers to.
    pub(super) fn add(&mut self, slots: impl IntoIterator<Item = Slot>) {
        for slot in slots {
            self.count += u64::from(self.dead.insert(slot));
            self.fresh_count += 1;
            match self.fresh.last_mut() {
                Some(run) if run.start.0 + run.count == slot.0 => run.count += 1,
                _ => self.fresh.push(SlotRun { start: slot, count: 1 }),
            }
        }
    }

    /// Dead slots that wait.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The long runs among what died, once there is enough of it.
    pub(super) fn take_long(&mut self) -> Vec<SlotRun> {
        let mut runs = Vec::new();
        if self.fresh_count < self.limits.look_at {
            return runs;
        }
        self.fresh_count = 0;
        for fresh in std::mem::take(&mut self.fresh) {
            let end = fresh.start.0 + fresh.count;
            let mut from = fresh.start.0;
            while let Some(slot) = self.dead.next(from).filter(|&slot| slot < end) {
                let run = self.run_around(slot);
                if run.count >= self.limits.long {
                    self.remove(run);
                    runs.push(run);
                }
                from = run.start.0 + run.count;
            }
        }
        runs
    }

    /// What is more than may wait in a file with `live` slots in use, of which `spare` are at hand
    /// already. Goes round the file from where the last call stopped.
    pub(super) fn take_spare(&mut self, live: u64, spare: u64) -> Vec<SlotRun> {
        let over = (self.count + spare).saturating_sub(self.limits.may_wait(live));
        let mut wanted = over.saturating_sub(spare).min(self.count);
        let mut runs = Vec::new();
        while wanted > 0 {
            let Some(slot) = self.dead.next(self.cursor).or_else(|| self.dead.next(0)) else {
                break;
            };
            let most = wanted.min(u64::from(u32::MAX)) as u32;
            let count = (1..most).take_while(|i| self.dead.has(Slot(slot + i))).count() as u32 + 1;
            let run = SlotRun { start: Slot(slot), count };
            self.remove(run);
            self.cursor = slot + count;
            wanted -= u64::from(count);
            runs.push(run);
        }
        runs
    }

    fn run_around(&self, slot: u32) -> SlotRun {
        let start =
            (0..slot).rev().take_while(|&slot| self.dead.has(Slot(slot))).last().unwrap_or(slot);
        let end = (slot + 1..).find(|&slot| !self.dead.has(Slot(slot))).unwrap_or(u32::MAX);
        SlotRun { start: Slot(start), count: end - start }
    }

    fn remove(&mut self, run: SlotRun) {
        for slot in run.start.0..run.start.0 + run.count {
            self.count -= u64::from(self.dead.remove(slot));
        }
    }
}

/// Dead slots that are to be written to.
#[derive(Default)]
pub(super) struct Spare {
    runs: VecDeque<SlotRun>,
    count: u64,
}

impl Spare {
    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Takes runs to be written to after all others.
    pub(super) fn extend(&mut self, runs: Vec<SlotRun>) {
        self.count += runs.iter().map(|run| u64::from(run.count)).sum::<u64>();
        self.runs.extend(runs);
    }

    /// Takes a run to be written to next.
    pub(super) fn put_back(&mut self, run: SlotRun) {
        self.count += u64::from(run.count);
        self.runs.push_front(run);
    }

    /// The next run, or as much of it as is wanted.
    pub(super) fn take(&mut self, most: u32) -> Option<SlotRun> {
        let first = self.runs.front_mut()?;
        let run = SlotRun { start: first.start, count: first.count.min(most) };
        first.start.0 += run.count;
        first.count -= run.count;
        if first.count == 0 {
            self.runs.pop_front();
        }
        self.count -= u64::from(run.count);
        Some(run)
    }

    /// What nobody wrote to in time, a quarter of it at least where it is much, so that a guest
    /// that only trims does not get ahead.
    pub(super) fn take_unused(&mut self, limits: &Limits) -> Vec<SlotRun> {
        let mut unused = self.count.saturating_sub(limits.spare);
        let most = limits.few_runs.max(unused / 4);
        let mut runs = Vec::new();
        while unused > 0 && (runs.len() as u64) < most {
            let Some(run) = self.runs.pop_back() else { break };
            self.count -= u64::from(run.count);
            unused = unused.saturating_sub(u64::from(run.count));
            runs.push(run);
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(range: impl IntoIterator<Item = u32>) -> impl Iterator<Item = Slot> {
        range.into_iter().map(Slot)
    }

    fn run(start: u32, count: u32) -> SlotRun {
        SlotRun { start: Slot(start), count }
    }

    #[test]
    fn long_runs_go_once_enough_has_gathered_and_single_slots_wait() {
        let mut space = Space::new(Limits::USUAL);
        space.add(slots((0..400).step_by(2)));
        space.add(slots(1000..1020));
        assert_eq!(space.take_long(), []);
        space.add(slots(1020..1100));
        assert_eq!(space.take_long(), [run(1000, 100)]);
        assert_eq!(space.count(), 200);
        assert_eq!(space.take_spare(0, 0), []);
    }

    #[test]
    fn what_is_too_much_becomes_spare_in_the_order_of_the_file() {
        let mut space = Space::new(Limits::USUAL);
        space.add(slots((0..20_000).step_by(2)));
        let spare = space.take_spare(64_000, 0);
        assert_eq!(space.count(), 4096 + 2000);
        assert!(spare.iter().zip(0..).all(|(&found, i)| found == run(2 * i, 1)));
        space.add(slots([1]));
        assert_eq!(space.take_spare(64_000, 3904), [run(7808, 1)], "it goes on");
        assert_eq!(space.take_spare(64_000, 3905), []);
    }

    #[test]
    fn it_goes_round_the_file() {
        let mut space = Space::new(Limits { slack: 0, ..Limits::USUAL });
        space.add(slots([500, 501, 502]));
        assert_eq!(space.take_spare(64, 0), [run(500, 1)]);
        space.add(slots([7]));
        assert_eq!(space.take_spare(0, 0), [run(501, 2), run(7, 1)]);
        assert_eq!(space.count(), 0);
    }

    #[test]
    fn spare_slots_that_nobody_uses_go_back_in_the_end() {
        let mut spare = Spare::default();
        spare.extend((0..40_000).map(|i| run(2 * i, 1)).collect());
        assert_eq!(spare.take(9), Some(run(0, 1)));
        spare.put_back(run(0, 1));
        let mut gone = 0;
        while spare.count() > Limits::USUAL.spare {
            let runs = spare.take_unused(&Limits::USUAL);
            assert!(!runs.is_empty() && runs.len() < 9000);
            gone += runs.len() as u64;
        }
        assert_eq!(gone + spare.count(), 40_000);
        assert_eq!(spare.take(9), Some(run(0, 1)));
    }
}
