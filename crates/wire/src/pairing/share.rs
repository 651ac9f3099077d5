//! How much of which ancestor a reference has.

use goldleaf_block::{BlockCount, BlockNo, BlockRange};

use crate::delta::{PackRun, blocks_of};

/// An ancestor of some new content: a file of the old disk.
pub(super) struct Wanted {
    /// All of it, in its order: block within the file, and where it lies.
    all: Vec<(u64, PackRun)>,
    /// The same, without what the new version kept.
    gone: Vec<(u64, PackRun)>,
    new_len: u64,
    old_len: u64,
    /// How much new content wants it, in blocks.
    weight: u64,
    /// Where in the new file that lies: its first block, and the one behind its last.
    span: (u64, u64),
}

impl Wanted {
    pub fn new(all: Vec<(u64, PackRun)>, kept: Vec<PackRun>, new_len: u64, old_len: u64) -> Self {
        let gone = without(&all, kept);
        Self { all, gone, new_len, old_len, weight: 0, span: (u64::MAX, 0) }
    }

    /// Takes note of new content: its first block within the new file, and its blocks.
    pub fn want(&mut self, within: u64, blocks: u64) {
        self.weight += blocks;
        self.span = (self.span.0.min(within), self.span.1.max(within + blocks));
    }

    /// The part of it that has at most so many blocks, around where the new content lies.
    fn part(&self, budget: u64) -> Vec<PackRun> {
        let runs = if len(&self.all) <= budget { &self.all } else { &self.gone };
        let scaled = |block: u64| {
            let (old, new) = (u128::from(self.old_len), u128::from(self.new_len.max(1)));
            (u128::from(block) * old / new) as u64
        };
        let middle = scaled(self.span.0 + (self.span.1 - self.span.0) / 2);
        let before =
            |(within, run): &(u64, PackRun)| middle.saturating_sub(*within).min(run.blocks.count.0);
        let middle: u64 = runs.iter().map(before).sum();
        let most = len(runs);
        let first = middle.saturating_sub(budget / 2).min(most.saturating_sub(budget));
        window(runs, first, first.saturating_add(budget).min(most))
    }
}

fn len(runs: &[(u64, PackRun)]) -> u64 {
    runs.iter().map(|(_, run)| run.blocks.count.0).sum()
}

/// Those blocks of runs, counted through all of them.
fn window(runs: &[(u64, PackRun)], first: u64, end: u64) -> Vec<PackRun> {
    let mut part = Vec::new();
    let mut at = 0;
    for (_, run) in runs {
        let (from, to) = (first.max(at), end.min(at + run.blocks.count.0));
        if from < to {
            let start = BlockNo(run.blocks.start.0 + (from - at));
            let blocks = BlockRange::new(start, BlockCount(to - from));
            part.push(PackRun { pack: run.pack, blocks });
        }
        at += run.blocks.count.0;
    }
    part
}

/// Runs of a file without those blocks.
pub(super) fn without(all: &[(u64, PackRun)], kept: Vec<PackRun>) -> Vec<(u64, PackRun)> {
    let kept = sorted_apart(kept);
    let mut left = Vec::new();
    for (within, run) in all {
        let (first, end) = (run.blocks.start, run.blocks.end());
        let mut next = first;
        let mut push = |from: BlockNo, to: BlockNo| {
            if from < to {
                let blocks = BlockRange::new(from, BlockCount(to.0 - from.0));
                left.push((within + (from.0 - first.0), PackRun { pack: run.pack, blocks }));
            }
        };
        let here = |kept: &&PackRun| kept.pack == run.pack && kept.blocks.start < end;
        let from = kept.partition_point(|kept| (kept.pack, kept.blocks.end()) <= (run.pack, first));
        for kept in kept[from..].iter().take_while(here) {
            push(next, kept.blocks.start);
            next = kept.blocks.end();
        }
        push(next, end);
    }
    left
}

/// Runs in the order of packs, without what comes twice.
fn sorted_apart(mut runs: Vec<PackRun>) -> Vec<PackRun> {
    runs.sort_unstable_by_key(|run| (run.pack, run.blocks.start));
    let mut apart: Vec<PackRun> = Vec::with_capacity(runs.len());
    for run in runs {
        match apart.last_mut() {
            Some(last) if last.pack == run.pack && last.blocks.end() >= run.blocks.start => {
                let end = last.blocks.end().max(run.blocks.end());
                last.blocks.count = BlockCount(end.0 - last.blocks.start.0);
            }
            _ => apart.push(run),
        }
    }
    apart
}

/// Parts of ancestors that come to so many blocks at most, in their order. What is small is there
/// whole; what is not gets its share of what is left, by how much new content wants it.
pub(super) fn share(wanted: &[Wanted], budget: BlockCount) -> Vec<PackRun> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    let need = |number: &usize| {
        let one = &wanted[*number];
        len(&one.all) * 1024 / one.weight.max(1)
    };
    order.sort_by_key(need);
    let (mut left, mut weight) = (budget.0, wanted.iter().map(|one| one.weight).sum::<u64>());
    let mut parts = vec![Vec::new(); wanted.len()];
    for number in order {
        let one = &wanted[number];
        parts[number] = one.part(left * one.weight / weight.max(1));
        left -= blocks_of(&parts[number]).0;
        weight -= one.weight;
    }
    parts.concat()
}
