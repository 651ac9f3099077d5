//! The end of the log: where the next slot is, and what the next record will say.
//!
//! The slots that were written since the last record belong to the *generation*. No record names
//! them yet, so a block that is written again within a generation is overwritten in its slot.
//! Closing a generation (writing its record) makes its slots immutable.
//!
//! New slots are at the end of the file, or spare ones while there are any: slots that are dead for
//! good, and so many that the file would grow beyond its bound.

use std::collections::{BTreeMap, VecDeque};
use std::io::ErrorKind::StorageFull;

use goldleaf_host::planted;

use super::Core;
use super::format::{Change, Entry, Sequence, Slot, record_len};
use super::limits::limits;
use super::records::Chain;
use super::space::{SlotRun, Spare};
use super::table::{LAST_SLOT, State};
use crate::BlockError;
use crate::units::{BLOCK_SIZE, BlockCount, BlockNo};

/// Slots that die with a record, and the record.
pub(super) struct Killed {
    pub sequence: Sequence,
    pub slots: Vec<Slot>,
}

/// A block written in the generation.
struct Written {
    block: BlockNo,
    crc: u32,
}

/// What has changed since the last record.
#[derive(Default)]
struct Generation {
    written: BTreeMap<Slot, Written>,
    zeroed: Vec<(BlockNo, BlockCount)>,
    dead: Vec<Slot>,
}

/// The state that the single writer owns.
pub(super) struct Log {
    pub chain: Chain,
    /// Up to where the index is filled with zeroes.
    prepared: u64,
    /// The slot behind the last one of the file.
    next: Slot,
    generation: Generation,
    /// What may be given back once a durable record calls the record that killed it durable.
    pub killed: VecDeque<Killed>,
    /// Dead slots to write to; the end of the file comes after them.
    pub spare: Spare,
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
            next: next_slot,
            generation: Generation::default(),
            killed: VecDeque::new(),
            spare: Spare::default(),
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
            let (slots, is_open) = match open {
                Some(slots) => (slots, true),
                None => (self.new_slots(self.closed_run(core, block, rest))?, false),
            };
            let count = slots.count as usize;
            let bytes = &data[done * BLOCK_SIZE as usize..(done + count) * BLOCK_SIZE as usize];
            let part = &crcs[done..done + count];
            if is_open {
                self.overwrite(core, slots.start, bytes, part)?;
            } else {
                self.append(core, block, slots, bytes, part)?;
            }
            done += count;
            self.close_if_full(core)?;
        }
        Ok(())
    }

    /// The slots of `block` and those behind it, as far as they lie together, when the generation
    /// has them.
    fn open_run(&self, core: &Core, block: BlockNo, limit: usize) -> Option<SlotRun> {
        let start = self.open_slot(core, block)?;
        let count = (1..limit as u32)
            .take_while(|&i| {
                let slot = self.open_slot(core, block.plus(BlockCount(u64::from(i))));
                slot == Some(Slot(start.0 + i))
            })
            .count();
        Some(SlotRun { start, count: count as u32 + 1 })
    }

    /// How many blocks from `block` on the generation does not have.
    fn closed_run(&self, core: &Core, block: BlockNo, limit: usize) -> usize {
        let next = |i: &usize| self.open_slot(core, block.plus(BlockCount(*i as u64))).is_none();
        (1..limit).take_while(next).count() + 1
    }

    fn open_slot(&self, core: &Core, block: BlockNo) -> Option<Slot> {
        match core.table.get(block) {
            State::Slot(slot) if self.generation.written.contains_key(&slot) => Some(slot),
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
        for (slot, crc) in (slot.0..).map(Slot).zip(crcs) {
            if let Some(written) = self.generation.written.get_mut(&slot) {
                written.crc = *crc;
            }
        }
        Ok(())
    }

    /// Slots for at most so many blocks, at least one; they lie together.
    fn new_slots(&mut self, most: usize) -> Result<SlotRun, BlockError> {
        let most = most as u32;
        if let Some(run) = self.spare.take(most) {
            return Ok(run);
        }
        let start = self.next;
        let end = u64::from(start.0) + u64::from(most);
        if end > u64::from(LAST_SLOT.0) {
            let error = std::io::Error::from(StorageFull);
            return Err(BlockError::io("the session log has used up its slots", &error));
        }
        self.next = Slot(end as u32);
        Ok(SlotRun { start, count: most })
    }

    /// A full disk fails this write alone: nothing names the slots, and the next write has them.
    fn append(
        &mut self,
        core: &Core,
        start: BlockNo,
        slots: SlotRun,
        data: &[u8],
        crcs: &[u32],
    ) -> Result<(), BlockError> {
        core.note_change();
        if let Err(error) = core.write_data(slots.start, data) {
            if planted("a write to a full disk counts as done") {
                return Ok(());
            }
            self.spare.put_back(slots);
            return Err(core.append_error("writing to the log", &error));
        }
        for (i, &crc) in crcs.iter().enumerate() {
            let block = start.plus(BlockCount(i as u64));
            let slot = Slot(slots.start.0 + i as u32);
            self.generation.written.insert(slot, Written { block, crc });
            let before = core.table.replace(block, State::Slot(slot));
            self.live += 1;
            self.bury(before);
        }
        Ok(())
    }

    /// Notes that the content of `before` is no longer asked for.
    fn bury(&mut self, before: State) {
        let State::Slot(slot) = before else { return };
        if planted("dead slots are forgotten") {
            return;
        }
        self.live -= 1;
        self.generation.dead.push(slot);
        if !planted("a block that was trimmed comes back") {
            self.generation.written.remove(&slot);
        }
    }

    /// Dead slots that may not be given back yet.
    pub(super) fn waiting(&self) -> usize {
        let killed: usize = self.killed.iter().map(|killed| killed.slots.len()).sum();
        killed + self.generation.dead.len()
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
        let entries = self.generation.entries();
        let needed: usize =
            entries.chunks(limits().entries).map(|part| record_len(part.len())).sum();
        self.prepare(core, needed as u64)?;
        for part in entries.chunks(limits().entries) {
            self.append_record(core, part)?;
        }
        if planted("slots are used twice") && self.next.0 > 8 {
            self.next.0 -= 1;
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
    fn entries(&self) -> Vec<Entry> {
        let zeroed =
            self.zeroed.iter().map(|&(block, count)| Entry::plain(block, Change::Zero { count }));
        let written = self.written.iter().map(|(&slot, written)| {
            Entry::plain(written.block, Change::Data { slot, crc: written.crc })
        });
        if planted("a record has its zeroes last") {
            return written.chain(zeroed).collect();
        }
        zeroed.chain(written).collect()
    }
}
