//! Ways to decide which thread goes on.

use std::sync::{Arc, Mutex, PoisonError};

use goldleaf_host::sim::turns::Choose;

use crate::dice::Dice;

fn can<'a>(next: &'a [Option<&'static str>]) -> impl Iterator<Item = usize> + 'a {
    (0..next.len()).filter(|&thread| next[thread].is_some())
}

/// At each step somebody else goes on, with the same odds.
pub struct Walk {
    dice: Dice,
    stays: u64,
}

impl Walk {
    /// About one step in `stays` is another thread's than the one before.
    pub fn new(dice: Dice, stays: u64) -> Self {
        Self { dice, stays }
    }
}

impl Choose for Walk {
    fn choose(&mut self, last: Option<usize>, next: &[Option<&'static str>]) -> usize {
        match last.filter(|&last| next[last].is_some()) {
            Some(last) if !self.dice.one_in(self.stays) => last,
            _ => {
                let free: Vec<usize> = can(next).collect();
                self.dice.one(&free)
            }
        }
    }
}

/// Who has the highest rank goes on until it waits; at a few moments who goes on loses its rank.
/// Probabilistic concurrency testing (Burckhardt, Kothari, Musuvathi and Nagarakatte, 2010): a bug
/// that needs d things in order is met with a chance that does not vanish with the threads' length.
pub struct Ranks {
    ranks: Vec<u64>,
    /// Steps at which the rank is lost, in any order.
    falls: Vec<u64>,
    step: u64,
    /// Below the rank of everybody.
    floor: u64,
}

impl Ranks {
    /// For so many threads, which take about `steps` steps together.
    pub fn new(mut dice: Dice, threads: usize, falls: u64, steps: u64) -> Self {
        let floor = falls;
        let ranks = (0..threads).map(|_| floor + dice.below(1 << 32)).collect();
        let falls = (0..falls).map(|_| dice.below(steps)).collect();
        Self { ranks, falls, step: 0, floor }
    }
}

impl Choose for Ranks {
    fn choose(&mut self, last: Option<usize>, next: &[Option<&'static str>]) -> usize {
        self.step += 1;
        if let Some(last) = last.filter(|_| self.falls.contains(&self.step)) {
            self.floor = self.floor.saturating_sub(1);
            self.ranks[last] = self.floor;
        }
        can(next).max_by_key(|&thread| self.ranks[thread]).unwrap_or_default()
    }
}

/// A known order: each of the list goes on until it is about to take such a step, so often.
/// Behind the list whoever can.
pub struct Script {
    lines: std::vec::IntoIter<(usize, &'static str, usize)>,
    line: Option<(usize, &'static str, usize)>,
}

impl Script {
    /// A thread, the step before which it stops, and which of these steps, from 1 on. A step that
    /// never comes is its end.
    pub fn new(lines: &[(usize, &'static str, usize)]) -> Self {
        let mut lines = lines.to_vec().into_iter();
        let line = lines.next();
        Self { lines, line }
    }
}

impl Choose for Script {
    fn choose(&mut self, _: Option<usize>, next: &[Option<&'static str>]) -> usize {
        while let Some((thread, until, times)) = self.line {
            match next[thread] {
                Some(what) if what == until && times == 1 => {}
                Some(what) => {
                    self.line = Some((thread, until, times - usize::from(what == until)));
                    return thread;
                }
                None => {}
            }
            self.line = self.lines.next();
        }
        can(next).next().unwrap_or_default()
    }
}

/// All orders, one after the other, in which threads are interrupted at most so often.
#[derive(Clone)]
pub struct All {
    path: Arc<Mutex<Path>>,
    interruptions_max: usize,
}

#[derive(Default)]
struct Path {
    /// Which of how many were taken, where there was more than one.
    choices: Vec<(usize, usize)>,
    at: usize,
    interruptions: usize,
}

impl All {
    /// The first order.
    pub fn new(interruptions_max: usize) -> Self {
        Self { path: Arc::default(), interruptions_max }
    }

    /// Goes on to the next order; false when there is none.
    pub fn advance(&self) -> bool {
        let mut path = self.path.lock().unwrap_or_else(PoisonError::into_inner);
        path.at = 0;
        path.interruptions = 0;
        while let Some((taken, of)) = path.choices.pop() {
            if taken + 1 < of {
                path.choices.push((taken + 1, of));
                return true;
            }
        }
        false
    }
}

impl Choose for All {
    fn choose(&mut self, last: Option<usize>, next: &[Option<&'static str>]) -> usize {
        let mut path = self.path.lock().unwrap_or_else(PoisonError::into_inner);
        let last = last.filter(|&last| next[last].is_some());
        let mut options: Vec<usize> = last.into_iter().collect();
        if last.is_none() || path.interruptions < self.interruptions_max {
            options.extend(can(next).filter(|&thread| Some(thread) != last));
        }
        if options.len() == 1 {
            return options[0];
        }
        if path.at == path.choices.len() {
            path.choices.push((0, options.len()));
        }
        let taken = path.choices[path.at].0;
        path.at += 1;
        path.interruptions += usize::from(last.is_some() && taken > 0);
        options[taken]
    }
}
