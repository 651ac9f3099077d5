//! The end of the log: where the next slot is, and what the next record will say.
//!
//! The slots between the last record and the end belong to the *generation* that is being written.
//! No record names them yet, so a block that is written again within a generation is overwritten
//! in its slot. Closing a generation (writing its record) makes its slots immutable.

use std::collections::VecDeque;
use std::io::ErrorKind::StorageFull;

use goldleaf_host::planted;

use super::Core;
use super::format::{Change, Entry, Sequence, Slot, record_len};
use super::limits::limits;
use super::records::Chain;
use super::space::SlotRun;
use super::table::{LAST_SLOT, State};
use crate::BlockError;
use crate::units::{BLOCK_SIZE, BlockCount, BlockNo};

/// Slots that die with a record, and the record.
pub(super) struct Killed {
    pub sequence: Sequence,
    pub slots: Vec<Slot>,
}

/// A block written in the generation; `block` is `None` once it was trimmed again.
struct Written {
    block: Option<BlockNo>,
    crc: u32,
}

/// What has changed since the last record.
#[derive(Default)]
struct Generation {
    /// By slot, from `first` on.
    written: Vec<Written>,
    zeroed: Vec<(BlockNo, BlockCount)>,
    dead: Vec<Slot>,
}

/// The state that the single writer owns.
pub(super) struct Log {
    pub chain: Chain,
    /// Up to where the index is filled with zeroes.
    prepared: u64,
    /// First slot of the generation.
    first: u32,
    generation: Generation,
    /// What may be given back once a durable record calls the record that killed it durable.
    pub killed: VecDeque<Killed>,
    /// Blocks whose content is in a slot.
    pub live: u64,
    /// Length of the index after the last compaction, in bytes.
    pub compacted: u64,
}

impl Log {
    /// Goes on from where a log ends.
    pub(super) fn new(chain: Chain, next_slot: Slot, live: u64) -> Self {
        Self {
            prepared: chain.end,
            chain,
            first: next_slot.0,
            generation: Generation::default(),
            killed: VecDeque::new(),
            live,
            compacted: 0,
        }
    }

    /// Goes on in a new index that says the same.
    pub(super) fn take_chain(&mut self, chain: Chain) {
        self.prepared = chain.end;
        self.compacted = chain.end;
        self.chain = chain;
    }

    /// Writes whole blocks; `crcs` has the checksum of each.
    pub(super) fn write(
        &mut self,
        core: &Core,
        start: BlockNo,
        data: &[u8],
        crcs: &[u32],
    ) -> Result<(), BlockError> {
        let mut done = 0;
        while done < crcs.len() {
            let block = start.plus(BlockCount(done as u64));
            let rest = (crcs.len() - done).min(limits().entries);
            let open = self.open_run(core, block, rest);
            let count = open.map_or_else(|| self.closed_run(core, block, rest), |(_, count)| count);
            let bytes = &data[done * BLOCK_SIZE as usize..(done + count) * BLOCK_SIZE as usize];
            let part = &crcs[done..done + count];
            match open {
                Some((slot, _)) => self.overwrite(core, slot, bytes, part)?,
                None => self.append(core, block, bytes, part)?,
            }
            done += count;
            self.close_if_full(core)?;
        }
        Ok(())
    }

    /// The slot of `block` and how many blocks on it is contiguous, when the generation has it.
    fn open_run(&self, core: &Core, block: BlockNo, limit: usize) -> Option<(Slot, usize)> {
        let first = self.open_slot(core, block)?;
        let count = (1..limit)
            .take_while(|&i| {
                let slot = self.open_slot(core, block.plus(BlockCount(i as u64)));
                slot == Some(Slot(first.0 + i as u32))
            })
            .count();
        Some((first, count + 1))
    }

    /// How many blocks from `block` on the generation does not have.
    fn closed_run(&self, core: &Core, block: BlockNo, limit: usize) -> usize {
        let next = |i: &usize| self.open_slot(core, block.plus(BlockCount(*i as u64))).is_none();
        (1..limit).take_while(next).count() + 1
    }

    fn open_slot(&self, core: &Core, block: BlockNo) -> Option<Slot> {
        match core.table.get(block) {
            State::Slot(slot) if slot.0 >= self.first => Some(slot),
            State::Slot(slot)
                if slot.0 > 0 && planted("a slot that a record names is overwritten") =>
            {
                Some(slot)
            }
            _ => None,
        }
    }

    /// A failed overwrite leaves a slot that does not match its checksum, so it stops the device.
    fn overwrite(
        &mut self,
        core: &Core,
        slot: Slot,
        data: &[u8],
        crcs: &[u32],
    ) -> Result<(), BlockError> {
        core.note_change();
        core.write_data(slot, data).map_err(|error| match error.kind() {
            StorageFull if planted("an overwrite that failed may be tried again") => {
                core.append_error("writing to the log", &error)
            }
            _ => core.poison("writing to the log", &error),
        })?;
        if planted("an overwritten block keeps its old checksum") {
            return Ok(());
        }
        let at = slot.0.saturating_sub(self.first) as usize;
        for (written, crc) in self.generation.written[at..].iter_mut().zip(crcs) {
            written.crc = *crc;
        }
        Ok(())
    }

    /// A full disk fails this write alone: the slots that it would have had are abandoned.
    fn append(
        &mut self,
        core: &Core,
        start: BlockNo,
        data: &[u8],
        crcs: &[u32],
    ) -> Result<(), BlockError> {
        let first = self.next_slot();
        if u64::from(first.0) + crcs.len() as u64 > u64::from(LAST_SLOT.0) {
            let error = std::io::Error::from(std::io::ErrorKind::StorageFull);
            return Err(BlockError::io("the session log has used up its slots", &error));
        }
        core.note_change();
        if let Err(error) = core.write_data(first, data) {
            if planted("a write to a full disk counts as done") {
                return Ok(());
            }
            self.abandon(first, crcs);
            return Err(core.append_error("writing to the log", &error));
        }
        for (i, crc) in crcs.iter().enumerate() {
            let block = start.plus(BlockCount(i as u64));
            let slot = Slot(first.0 + i as u32);
            self.generation.written.push(Written { block: Some(block), crc: *crc });
            let before = core.table.replace(block, State::Slot(slot));
            self.live += 1;
            self.bury(before);
        }
        Ok(())
    }

    fn abandon(&mut self, first: Slot, crcs: &[u32]) {
        for i in 0..crcs.len() as u32 {
            self.generation.written.push(Written { block: None, crc: 0 });
            self.generation.dead.push(Slot(first.0 + i));
        }
    }

    /// Notes that the content of `before` is no longer asked for.
    fn bury(&mut self, before: State) {
        let State::Slot(slot) = before else { return };
        if planted("dead slots are forgotten") {
            return;
        }
        self.live -= 1;
        self.generation.dead.push(slot);
        if let Some(written) = slot
            .0
            .checked_sub(self.first)
            .and_then(|at| self.generation.written.get_mut(at as usize))
        {
            if !planted("a block that was trimmed comes back") {
                written.block = None;
            }
        }
    }

    /// Makes a run of blocks read as zeroes. Blocks that no slot holds are left alone where
    /// `base_is_zero`.
    pub(super) fn zero(
        &mut self,
        core: &Core,
        start: BlockNo,
        count: BlockCount,
        base_is_zero: bool,
    ) -> Result<(), BlockError> {
        let end = start.plus(count);
        let mut block = start;
        while block < end {
            let rest = end.0 - block.0;
            let run = core.table.run_at(block, BlockCount(rest.min(limits().entries as u64)));
            let already = match run.state {
                State::Zero => true,
                State::Absent => base_is_zero,
                State::Slot(_) => false,
            };
            if !already {
                self.zero_run(core, block, run.count);
                self.close_if_full(core)?;
            }
            block = block.plus(run.count);
        }
        Ok(())
    }

    fn zero_run(&mut self, core: &Core, start: BlockNo, count: BlockCount) {
        if !planted("a trim is not a change to flush") {
            core.note_change();
        }
        for i in 0..count.0 {
            let before = core.table.replace(start.plus(BlockCount(i)), State::Zero);
            self.bury(before);
        }
        match self.generation.zeroed.last_mut() {
            Some((last, len))
                if last.plus(*len) == start && len.0 + count.0 <= limits().entries as u64 =>
            {
                len.0 += count.0;
            }
            _ => self.generation.zeroed.push((start, count)),
        }
    }

    /// A bug to plant: slots that were given back at the end of the file are the next ones again.
    pub(super) fn use_again(&mut self, runs: &[SlotRun]) {
        let at_end = |run: &&SlotRun| run.start.0 + run.count == self.first;
        if let Some(run) = runs.iter().find(at_end)
            && self.generation.written.is_empty()
        {
            self.first = run.start.0;
        }
    }

    /// The slot behind the last one.
    pub(super) fn next_slot(&self) -> Slot {
        Slot(self.first + self.generation.written.len() as u32)
    }

    /// Bounds the memory of a guest that never flushes.
    fn close_if_full(&mut self, core: &Core) -> Result<(), BlockError> {
        if self.generation.written.len() + self.generation.zeroed.len() >= limits().entries {
            self.close(core)?;
        }
        Ok(())
    }

    /// Writes the records of the generation, if it changed anything. A disk too full to hold them
    /// fails the call and loses nothing; any other failure stops the device.
    pub(super) fn close(&mut self, core: &Core) -> Result<(), BlockError> {
        let entries = self.generation.entries(self.first);
        let needed: usize =
            entries.chunks(limits().entries).map(|part| record_len(part.len())).sum();
        self.prepare(core, needed as u64)?;
        for part in entries.chunks(limits().entries) {
            self.append_record(core, part)?;
        }
        self.first = self.next_slot().0;
        if planted("slots are used twice") && self.first > 8 {
            self.first -= 1;
        }
        let slots = std::mem::take(&mut self.generation).dead;
        if !slots.is_empty() {
            self.killed.push_back(Killed { sequence: self.chain.last, slots });
        }
        Ok(())
    }

    /// Appends an empty record, which tells a later recovery what is durable by now.
    pub(super) fn claim(&mut self, core: &Core) -> Result<(), BlockError> {
        self.prepare(core, record_len(0) as u64)?;
        self.append_record(core, &[])
    }

    fn append_record(&mut self, core: &Core, part: &[Entry]) -> Result<(), BlockError> {
        let mut durable = core.durable();
        if planted("a record calls itself durable") {
            durable = self.chain.last.next();
        }
        self.chain.append(durable, part).map_err(|error| core.poison("writing the index", &error))
    }

    /// Makes sure that the next `needed` bytes of the index have room on the disk.
    fn prepare(&mut self, core: &Core, needed: u64) -> Result<(), BlockError> {
        if self.chain.end + needed <= self.prepared {
            return Ok(());
        }
        let start = self.prepared.max(self.chain.end);
        let end = self.chain.end + needed + limits().prepare;
        self.chain
            .file
            .write_all_at(&vec![0; (end - start) as usize], start)
            .map_err(|error| core.append_error("growing the index", &error))?;
        self.prepared = end;
        Ok(())
    }
}

impl Generation {
    /// The zeroes first: a block that was zeroed and then written has a live slot, and one that
    /// was written and then zeroed has none.
    fn entries(&self, first: u32) -> Vec<Entry> {
        let zeroed =
            self.zeroed.iter().map(|&(block, count)| Entry::plain(block, Change::Zero { count }));
        let written = self.written.iter().enumerate().filter_map(|(i, written)| {
            let slot = Slot(first + i as u32);
            Some(Entry::plain(written.block?, Change::Data { slot, crc: written.crc }))
        });
        if planted("a record has its zeroes last") {
            return written.chain(zeroed).collect();
        }
        zeroed.chain(written).collect()
    }
}
