//! Ways to decide which thread goes on.

use std::collections::VecDeque;
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
    /// Whether only locks and files count as steps.
    is_coarse: bool,
    /// Below the rank of everybody.
    floor: u64,
}

impl Ranks {
    /// For so many threads, which take about so many steps together.
    pub fn new(mut dice: Dice, threads: usize, falls: u64, steps: u64) -> Self {
        let ranks = (0..threads).map(|_| falls + dice.below(1 << 32)).collect();
        let fallen = (0..falls).map(|_| dice.below(steps)).collect();
        Self { ranks, falls: fallen, step: 0, is_coarse: false, floor: falls }
    }

    /// Only locks and files count as steps.
    pub fn coarse(self) -> Self {
        Self { is_coarse: true, ..self }
    }
}

impl Choose for Ranks {
    fn choose(&mut self, last: Option<usize>, next: &[Option<&'static str>]) -> usize {
        let what = last.and_then(|last| next[last]);
        if self.is_coarse && matches!(what, Some("load" | "store" | "swap" | "add" | "subtract")) {
            return last.unwrap_or_default();
        }
        self.step += 1;
        if let Some(last) = last.filter(|_| self.falls.contains(&self.step)) {
            self.floor = self.floor.saturating_sub(1);
            self.ranks[last] = self.floor;
        }
        can(next).max_by_key(|&thread| self.ranks[thread]).unwrap_or_default()
    }
}

/// A known order. Behind its end goes on who can.
pub struct Script {
    lines: VecDeque<Line>,
}

/// A thread, the step before which it stops, and which one of these, from 1 on. A thread that waits
/// or is at its end stops there too.
type Line = (usize, (&'static str, usize));

impl Script {
    /// One line after the other.
    pub fn new(lines: &[Line]) -> Self {
        Self { lines: lines.iter().copied().collect() }
    }
}

impl Choose for Script {
    fn choose(&mut self, _: Option<usize>, next: &[Option<&'static str>]) -> usize {
        while let Some((thread, (until, times))) = self.lines.front_mut() {
            match next[*thread] {
                Some(what) if what == *until && *times == 1 => {}
                Some(what) => {
                    *times -= usize::from(what == *until);
                    return *thread;
                }
                None => {}
            }
            self.lines.pop_front();
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
