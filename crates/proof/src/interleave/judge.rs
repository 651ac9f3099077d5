//! What a history may look like: two questions, each answered by trying all orders.
//!
//! *While it runs* each cell is a register, and the disk is linearizable (Herlihy and Wing, 1990):
//! each access takes effect at one moment between its call and its return. Cells are judged one by
//! one, because a disk does not promise that a long write is seen all at once. The search is Wing
//! and Gong's (1993).
//!
//! *After a power cut* the log promises more: what is there is what all changes of an order of them
//! up to some moment made, that of the moment itself perhaps in part, block by block; and all that
//! had returned before a flush began that returned is before that moment.

use std::collections::HashSet;

use super::work::{Act, CELLS, Cells, Done, PER_BLOCK};

/// What comes behind all that returned.
const NEVER: u64 = u64::MAX;

/// An access to one cell.
struct Access {
    begin: u64,
    end: u64,
    /// What was written, or read.
    value: u8,
    is_read: bool,
}

/// Whether all that was read may have been, on a disk that held `start`.
pub fn reads(start: &Cells, done: &[Done]) -> Result<(), String> {
    for (cell, &value) in start.iter().enumerate() {
        let accesses: Vec<Access> = done.iter().filter_map(|done| access(done, cell)).collect();
        if accesses.iter().any(|access| access.is_read)
            && !orders(&accesses, 0, value, &mut HashSet::new())
        {
            return Err(format!("no order explains what was read in cell {cell}"));
        }
    }
    Ok(())
}

fn access(done: &Done, cell: usize) -> Option<Access> {
    let (begin, end) = (done.begin, done.end.unwrap_or(NEVER));
    if let Some((_, value)) = done.seen.iter().find(|seen| seen.0 == cell) {
        return Some(Access { begin, end, value: *value, is_read: true });
    }
    // What leaves two different disks alone in this cell does not write there.
    let after = [0xFE, 0xFF].map(|fill| done.act.effect([fill; CELLS])[cell]);
    (after[0] == after[1]).then_some(Access { begin, end, value: after[0], is_read: false })
}

/// Whether what is not in `placed` can follow when the cell holds `value`.
fn orders(all: &[Access], placed: u64, value: u8, tried: &mut HashSet<(u64, u8)>) -> bool {
    let is_placed = |i: usize| placed >> i & 1 == 1;
    if (0..all.len()).all(|i| is_placed(i) || all[i].end == NEVER) {
        return true;
    }
    if !tried.insert((placed, value)) {
        return false;
    }
    let left = || (0..all.len()).filter(|&i| !is_placed(i));
    let first_end = left().map(|i| all[i].end).min().unwrap_or(NEVER);
    let mut first = left().filter(|&i| all[i].begin <= first_end);
    // A read that fits now never does harm.
    if let Some(read) = first.clone().find(|&i| all[i].is_read && all[i].value == value) {
        return orders(all, placed | 1 << read, value, tried);
    }
    first.any(|i| !all[i].is_read && orders(all, placed | 1 << i, all[i].value, tried))
}

/// Whether `found` may be what a power cut left.
pub fn moment(start: &Cells, done: &[Done], found: &Cells) -> Result<(), String> {
    let flushes = done.iter().filter(|done| done.act == Act::Flush && done.end.is_some());
    let flushed = flushes.map(|done| done.begin).max().unwrap_or(0);
    let changes: Vec<&Done> = done.iter().filter(|done| done.act.is_change()).collect();
    let needed = (0..changes.len()).filter(|&i| changes[i].end.is_some_and(|end| end < flushed));
    let needed = needed.fold(0, |needed, i| needed | 1 << i);
    let mut search = Search { changes, needed, found, tried: HashSet::new() };
    if search.reaches(0, *start) {
        return Ok(());
    }
    Err(format!("after a power cut there is {found:02x?}, which is no moment since the last flush"))
}

struct Search<'a> {
    changes: Vec<&'a Done>,
    /// What must be in.
    needed: u64,
    found: &'a Cells,
    tried: HashSet<(u64, Cells)>,
}

impl Search<'_> {
    fn reaches(&mut self, placed: u64, now: Cells) -> bool {
        let is_enough = placed & self.needed == self.needed;
        if is_enough && now == *self.found {
            return true;
        }
        if !self.tried.insert((placed, now)) {
            return false;
        }
        let left: Vec<usize> = (0..self.changes.len()).filter(|i| placed >> i & 1 == 0).collect();
        let end = |i: &usize| self.changes[*i].end.unwrap_or(NEVER);
        let first_end = left.iter().map(end).min().unwrap_or(NEVER);
        for i in left {
            let change = self.changes[i];
            if change.begin > first_end {
                continue;
            }
            let after = change.act.effect(now);
            let in_part = is_enough && is_mixture(self.found, &now, &after);
            if in_part || self.reaches(placed | 1 << i, after) {
                return true;
            }
        }
        false
    }
}

/// Whether each block is as in one of two disks.
fn is_mixture(found: &Cells, one: &Cells, two: &Cells) -> bool {
    let blocks = |cells: &Cells| -> Vec<[u8; PER_BLOCK]> {
        (0..CELLS).step_by(PER_BLOCK).map(|at| std::array::from_fn(|i| cells[at + i])).collect()
    };
    let either = blocks(one).into_iter().zip(blocks(two));
    blocks(found).iter().zip(either).all(|(found, (one, two))| *found == one || *found == two)
}
