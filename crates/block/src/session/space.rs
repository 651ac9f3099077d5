//! Slots whose content nobody can ask for any more, and when their space goes back.
//!
//! Giving space back costs a system call for each run of slots, so runs wait until they are worth
//! one. Long runs (trims, rewritten files) go as soon as 1 MiB of newly dead slots has gathered.
//! Single slots, which random overwriting leaves, wait until they are a third of the file, and go a
//! few at each flush. Nothing here touches a file: the caller punches what [`Space::take`] returns.

use super::format::Slot;

/// When slots go back.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// Newly dead slots that make looking worthwhile.
    pub look_at: usize,
    /// Shortest run that goes back at once, in slots.
    pub long: u32,
    /// Dead slots that always may wait.
    pub slack: u64,
    /// Most runs punched in one sweep.
    pub sweep_runs: usize,
}

impl Limits {
    /// 1 MiB, 64 KiB and 64 MiB; and so few runs that a flush is not held up for more than some
    /// milliseconds.
    pub(super) const USUAL: Self = Self { look_at: 256, long: 16, slack: 16_384, sweep_runs: 512 };
}

/// A run of slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SlotRun {
    pub start: Slot,
    pub count: u32,
}

/// The dead slots that still occupy space.
pub(super) struct Space {
    limits: Limits,
    /// One bit a slot: dead and not yet punched.
    dead: Vec<u64>,
    count: u64,
    fresh: Vec<Slot>,
    cursor: u32,
}

impl Space {
    /// No dead slots.
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, dead: Vec::new(), count: 0, fresh: Vec::new(), cursor: 0 }
    }

    /// Takes slots that no durable state refers to.
    pub(super) fn add(&mut self, slots: impl IntoIterator<Item = Slot>) {
        for slot in slots {
            let word = (slot.0 / 64) as usize;
            if word >= self.dead.len() {
                self.dead.resize(word + 1, 0);
            }
            self.dead[word] |= 1 << (slot.0 % 64);
            self.count += 1;
            self.fresh.push(slot);
        }
    }

    /// Dead slots that wait.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The runs that are due, in a file with `live` slots in use.
    pub(super) fn take(&mut self, live: u64) -> Vec<SlotRun> {
        let mut runs = Vec::new();
        if self.fresh.len() >= self.limits.look_at {
            self.take_long(&mut runs);
        }
        if self.count > self.limits.slack.max(live / 2) {
            self.sweep(&mut runs);
        }
        runs
    }

    fn take_long(&mut self, runs: &mut Vec<SlotRun>) {
        let fresh = std::mem::take(&mut self.fresh);
        for slot in fresh {
            if !self.is_dead(slot.0) {
                continue;
            }
            let run = self.run_around(slot.0);
            if run.count >= self.limits.long {
                self.clear(run);
                runs.push(run);
            }
        }
    }

    /// Goes round the file from where the last sweep stopped.
    fn sweep(&mut self, runs: &mut Vec<SlotRun>) {
        let end = (self.dead.len() * 64) as u32;
        let mut looked: u64 = 0;
        let enough = runs.len() + self.limits.sweep_runs;
        while looked < u64::from(end) && runs.len() < enough {
            if self.cursor >= end {
                self.cursor = 0;
            }
            let step = if self.dead[(self.cursor / 64) as usize] >> (self.cursor % 64) == 0 {
                64 - self.cursor % 64
            } else if self.is_dead(self.cursor) {
                let run = self.run_around(self.cursor);
                self.clear(run);
                runs.push(run);
                run.start.0 + run.count - self.cursor
            } else {
                1
            };
            self.cursor += step;
            looked += u64::from(step);
        }
    }

    fn is_dead(&self, slot: u32) -> bool {
        self.dead.get((slot / 64) as usize).is_some_and(|word| word >> (slot % 64) & 1 == 1)
    }

    fn run_around(&self, slot: u32) -> SlotRun {
        let mut start = slot;
        while start > 0 && self.is_dead(start - 1) {
            start -= 1;
        }
        let mut end = slot + 1;
        while self.is_dead(end) {
            end += 1;
        }
        SlotRun { start: Slot(start), count: end - start }
    }

    fn clear(&mut self, run: SlotRun) {
        for slot in run.start.0..run.start.0 + run.count {
            self.dead[(slot / 64) as usize] &= !(1 << (slot % 64));
        }
        self.count -= u64::from(run.count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(range: impl IntoIterator<Item = u32>) -> impl Iterator<Item = Slot> {
        range.into_iter().map(Slot)
    }

    #[test]
    fn long_runs_go_once_enough_has_gathered_and_single_slots_wait() {
        let mut space = Space::new(Limits::USUAL);
        space.add(slots((0..400).step_by(2)));
        space.add(slots(1000..1020));
        assert_eq!(space.take(0), []);
        space.add(slots(1020..1100));
        assert_eq!(space.take(0), [SlotRun { start: Slot(1000), count: 100 }]);
        assert_eq!(space.count(), 200);
    }

    #[test]
    fn a_sweep_takes_everything_in_the_end() {
        let mut space = Space::new(Limits::USUAL);
        space.add(slots((0..80_000).step_by(2)));
        let mut taken = 0;
        loop {
            let runs = space.take(0);
            if runs.is_empty() {
                break;
            }
            assert!(runs.len() <= Limits::USUAL.sweep_runs);
            taken += runs.iter().map(|run| u64::from(run.count)).sum::<u64>();
        }
        assert_eq!(taken + space.count(), 40_000);
        assert!(space.count() <= Limits::USUAL.slack);
    }
}
