//! The session log: a copy-on-write overlay that no power cut tears.
//!
//! A guest's writes go to the end of a file, `data`; what they mean goes to the end of another,
//! `index`, one record for each flush. Nothing that a durable record refers to is ever changed in
//! place, so there is no moment at which a crash leaves less than the last flush. A slot that was
//! overwritten or trimmed is dead for good once a durable record says that the record that did so
//! is durable; then its space goes back to the host, or it is written to again. Which slots these
//! are follows from the table: there are no reference counts, and no free list on disk.
//!
//! ```text
//!   read ──▶ table ──▶ slot in `data` │ zeroes │ base            (no lock but a shared one)
//!   write ─▶ lock ──▶ spare slots or the end ──▶ table           (one at a time)
//!   flush ─▶ record to `index` ──▶ sync both ──▶ punch or spare the dead
//!                                                                (shared by all who wait)
//! ```
//!
//! Both files together occupy no more than 1.05 times what lives (blocks and their entries) and
//! 64 MiB, except while a [`Snapshot`] holds what dies, and but for an index that is being written
//! anew. A guest that never flushes is made to. Most of the 64 MiB are dead slots: 16 MiB that
//! always may wait, 16 MiB that wait for a flush, 16 MiB that are spare; the rest is the index's
//! floor, and room for one long write.
//!
//! Writers take turns because the host's kernel makes them anyway (a buffered write holds the
//! inode), so one lock costs nothing and spares every question of order. A read that runs at the
//! same time as a write of the same block may see either, like on a disk.
//!
//! It assumes that the caller holds the session's lock: two processes must not open one log.

mod compact;
mod format;
mod limits;
mod log;
mod records;
mod recover;
mod space;
mod table;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;

use goldleaf_host::sync::{
    AtomicBool, AtomicU64, Mutex, MutexGuard, Ordering, PoisonError, RwLock,
};
use goldleaf_host::{Dir, File, planted};

#[cfg(feature = "proof")]
pub use limits::use_little_limits;
pub use recover::Recovery;

use crate::file::check_range;
use crate::units::{BLOCK_SIZE, BlockCount, BlockNo, BlockRange, ByteLen, ByteOffset};
use crate::{BlockError, MapExtent, RangeKind, ReadBlocks, SourceIndex, Target, WriteBlocks};
use format::{Epoch, Header, Sequence, Slot};
use limits::limits;
use log::Log;
use records::Chain;
use space::{SlotSet, Space};
use table::{BlockTable, State};

/// The file of contents.
const DATA: &str = "data";
/// The file of records.
const INDEX: &str = "index";

const BLOCK: usize = BLOCK_SIZE as usize;

/// Names a session; random, chosen by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(pub [u8; 16]);

/// What a session log occupies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Blocks whose content is in the log.
    pub live: BlockCount,
    /// Blocks of the `data` file that nobody needs and that were not given back yet.
    pub dead: BlockCount,
    /// Length of the index.
    pub index: ByteLen,
    /// What the `data` file really occupies.
    pub data_allocated: ByteLen,
    /// Attempts to give space back that failed.
    pub punch_failures: u64,
}

/// A session's content at one moment, by reference. The space of everything that it refers to
/// stays while it lives.
pub struct Snapshot {
    /// As [`SessionDevice::extents`].
    pub extents: Vec<MapExtent>,
    holds: Arc<AtomicU64>,
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        self.holds.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What readers, writers and flushers share.
struct Core {
    data: Arc<dyn File>,
    base: Arc<dyn ReadBlocks>,
    table: BlockTable,
    len: ByteLen,
    poisoned: AtomicBool,
    /// The highest record that is durable.
    durable: AtomicU64,
    /// Counts changes, so that a flush knows whether another one has covered it.
    changes: AtomicU64,
    /// Whether `data` was written to since it was synced.
    data_changed: AtomicBool,
    /// Held shared from looking a slot up to having read it.
    readers: RwLock<()>,
    holds: Arc<AtomicU64>,
    punch_failures: AtomicU64,
}

/// What flushing knows; its lock is held through a flush.
struct Synced {
    /// Changes that are durable.
    changes: u64,
    /// What the last durable record calls durable.
    claimed: Sequence,
    space: Space,
}

/// A session: what a guest wrote, over what it started from.
///
/// A full host disk fails the write or flush that meets it, with the system's `ENOSPC`, and may be
/// tried again: nothing that was accepted is lost. After any other failed write or sync the device
/// is poisoned for writes and flushes; reads go on.
pub struct SessionDevice {
    id: SessionId,
    core: Core,
    dir: Arc<dyn Dir>,
    /// Taken before [`Self::log`] where both are.
    synced: Mutex<Synced>,
    log: Mutex<Log>,
}

impl SessionDevice {
    /// Begins a session in an empty directory: makes `data` and `index`, durable at return.
    /// `base_digest` names the base for [`open`](Self::open).
    pub fn create(
        dir: Arc<dyn Dir>,
        base: Arc<dyn ReadBlocks>,
        id: SessionId,
        base_digest: [u8; 32],
    ) -> Result<Self, BlockError> {
        let header = Header {
            device_len: base.len(),
            first_sequence: Sequence(1),
            durable: Sequence(0),
            epoch: Epoch(1),
            id,
            base_digest,
        };
        let (data, index) = create_files(dir.as_ref(), &header)
            .map_err(|error| BlockError::io("creating a session", &error))?;
        let table = BlockTable::new(header.device_len.blocks());
        let log = Log::new(Chain::start(index, &header), Slot(0), 0);
        Ok(Self::assemble(dir, Core::new(data, base, table), log, Space::new(limits().space)))
    }

    /// Goes on with a session after any end of it. Refuses files that stand on another base.
    pub fn open(
        dir: Arc<dyn Dir>,
        base: Arc<dyn ReadBlocks>,
        base_digest: &[u8; 32],
    ) -> Result<(Self, Recovery), BlockError> {
        let wrap = |error: io::Error| BlockError::io("opening a session", &error);
        compact::remove_leftover(dir.as_ref()).map_err(wrap)?;
        let index = dir.open_rw(INDEX).map_err(wrap)?;
        let data = dir.open_rw(DATA).map_err(wrap)?;
        recover::settle(dir.as_ref(), &[&data, &index]).map_err(wrap)?;
        let header = recover::read_header(index.as_ref())?;
        check_base(&header, base.len(), base_digest)?;
        let found = recover::recover(index, data.as_ref(), &header)?;
        let core = Core::new(data, base, found.table);
        let space = dead_space(&core.table, found.next_slot);
        let mut log = Log::new(found.chain, found.next_slot, found.live);
        begin_epoch(&core, &mut log, found.next_slot)?;
        Ok((Self::assemble(dir, core, log, space), found.recovery))
    }

    fn assemble(dir: Arc<dyn Dir>, core: Core, log: Log, space: Space) -> Self {
        let synced = Synced { changes: 0, claimed: log.chain.claimed, space };
        Self { id: log.chain.id, core, dir, synced: Mutex::new(synced), log: Mutex::new(log) }
    }

    /// Every block that the session changed (written or trimmed), sorted and joined.
    pub fn dirty(&self) -> Vec<BlockRange> {
        let mut ranges: Vec<BlockRange> = Vec::new();
        for run in self.core.table.present() {
            match ranges.last_mut() {
                Some(last) if last.end() == run.start => last.count.0 += run.count.0,
                _ => ranges.push(BlockRange::new(run.start, run.count)),
            }
        }
        ranges
    }

    /// The session's map for [`ExtentMap::overlaid`](crate::ExtentMap::overlaid): sorted; content
    /// as runs of `source`, which is [`data_file`](Self::data_file), and trimmed blocks as
    /// [`Target::Zero`]. For a device that is not written to meanwhile; else see
    /// [`snapshot`](Self::snapshot).
    pub fn extents(&self, source: SourceIndex) -> Vec<MapExtent> {
        let target = |state| match state {
            State::Slot(slot) => Target::Source { source, at: BlockNo(u64::from(slot.0)) },
            _ => Target::Zero,
        };
        let runs = self.core.table.present();
        runs.map(|run| MapExtent {
            range: BlockRange::new(run.start, run.count),
            target: target(run.state),
        })
        .collect()
    }

    /// The map as it is now, of a device that may go on being written to: what it refers to
    /// neither changes nor is given back while the snapshot lives.
    pub fn snapshot(&self, source: SourceIndex) -> Result<Snapshot, BlockError> {
        self.core.check()?;
        let mut log = self.lock_log()?;
        log.close(&self.core)?;
        let holds = Arc::clone(&self.core.holds);
        if planted("a snapshot counts only when it is handed out") {
            let extents = self.extents(source);
            drop(log);
            holds.fetch_add(1, Ordering::AcqRel);
            return Ok(Snapshot { extents, holds });
        }
        holds.fetch_add(1, Ordering::AcqRel);
        Ok(Snapshot { extents: self.extents(source), holds })
    }

    /// Names the session.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// The file that holds the content.
    pub fn data_file(&self) -> Arc<dyn File> {
        Arc::clone(&self.core.data)
    }

    /// What the session occupies.
    pub fn usage(&self) -> Result<Usage, BlockError> {
        let allocated = self.core.data.allocated();
        let early = planted("a lock is held while an earlier one is taken");
        let early = early.then(|| self.lock_log());
        let dead = self.lock_synced()?.space.count();
        drop(early);
        let log = self.lock_log()?;
        Ok(Usage {
            live: BlockCount(log.live),
            dead: BlockCount(dead + log.spare.count() + log.waiting() as u64),
            index: ByteLen(log.chain.end),
            data_allocated: ByteLen(allocated.map_err(|e| BlockError::io("measuring", &e))?),
            punch_failures: self.core.punch_failures.load(Ordering::Relaxed),
        })
    }

    /// A thread that panicked with a lock in hand may have left anything behind.
    fn lock_log(&self) -> Result<MutexGuard<'_, Log>, BlockError> {
        self.log.lock().map_err(|_| BlockError::Poisoned)
    }

    fn lock_synced(&self) -> Result<MutexGuard<'_, Synced>, BlockError> {
        self.synced.lock().map_err(|_| BlockError::Poisoned)
    }

    /// Makes everything durable that was written so far.
    fn sync_all(&self, synced: &mut Synced) -> Result<(), BlockError> {
        let mut log = self.lock_log()?;
        let changes = self.core.changes.load(Ordering::Acquire);
        log.close(&self.core)?;
        let (index, last, claimed) =
            (Arc::clone(&log.chain.file), log.chain.last, log.chain.claimed);
        drop(log);
        self.core.sync(index.as_ref(), last)?;
        synced.changes = changes;
        synced.claimed = claimed;
        if planted("a flush covers what was written while it synced") {
            synced.changes = self.core.changes.load(Ordering::Acquire);
        }
        if planted("a record that was written during a sync counts as synced") {
            self.core.durable.store(self.lock_log()?.chain.last.0, Ordering::Release);
        }
        Ok(())
    }

    /// Gives back what is dead for good, or lets it be written to again.
    fn give_back(&self, synced: &mut Synced) -> Result<(), BlockError> {
        let mut log = self.lock_log()?;
        if log.waiting() >= limits().many_dead {
            let durable = self.core.durable();
            log.claim(&self.core)?;
            log.chain.file.sync_data().map_err(|e| self.core.poison("syncing the index", &e))?;
            synced.claimed = durable;
        }
        let mut freed = synced.claimed;
        if planted("space is given back before a durable record says that it is free") {
            freed = log.chain.last;
        }
        while log.killed.front().is_some_and(|killed| killed.sequence <= freed) {
            synced.space.add(log.killed.pop_front().into_iter().flat_map(|killed| killed.slots));
        }
        let held = self.core.holds.load(Ordering::Acquire) > 0;
        if held && !planted("space that a snapshot refers to is given back") {
            return Ok(());
        }
        let mut holes = log.spare.take_unused(&limits().space);
        let (live, spare) = (log.live, log.spare.count());
        drop(log);
        holes.extend(synced.space.take_long());
        let mut spare = synced.space.take_spare(live, spare);
        if planted("a slot is used again before its hole is punched") {
            spare.extend(&holes);
        }
        if !holes.is_empty() || !spare.is_empty() {
            self.core.wait_for_readers();
        }
        if !planted("what is dead is never used again") {
            self.lock_log()?.spare.extend(spare);
        }
        self.core.punch(&holes);
        Ok(())
    }

    /// Flushes for a guest that overwrites a lot and does not: what it overwrote would stay.
    fn flush_if_due(&self, log: MutexGuard<'_, Log>) -> Result<(), BlockError> {
        let waiting = log.waiting();
        drop(log);
        if waiting < limits().flush_dead || planted("a guest may go on without a flush") {
            return Ok(());
        }
        match self.flush() {
            // The guest's own flush will say so.
            Err(BlockError::Io { .. }) if self.core.check().is_ok() => Ok(()),
            other => other,
        }
    }

    /// Writes the index anew where that is due.
    fn compact_if_due(&self, synced: &mut Synced) -> Result<(), BlockError> {
        let mut log = self.lock_log()?;
        if !compact::is_due(&log) {
            return Ok(());
        }
        let changes = self.core.changes.load(Ordering::Acquire);
        log.close(&self.core)?;
        if !planted("a compaction calls durable what was not synced") {
            self.core.sync(log.chain.file.as_ref(), log.chain.last)?;
        }
        compact::compact(self.dir.as_ref(), &self.core, &mut log)?;
        self.core.durable.store(log.chain.last.0, Ordering::Release);
        synced.changes = changes;
        synced.claimed = log.chain.claimed;
        Ok(())
    }

    /// Writes part of one block, keeping the rest of it.
    fn write_part(&self, log: &mut Log, at: ByteOffset, data: &[u8]) -> Result<(), BlockError> {
        let start = at.block().offset();
        let there = (self.core.len.0 - start.0).min(BLOCK_SIZE) as usize;
        let mut block = [0; BLOCK];
        if !planted("writing part of a block forgets the rest") {
            self.read_at(start, &mut block[..there])?;
        }
        let within = (at.0 - start.0) as usize;
        block[within..within + data.len()].copy_from_slice(data);
        log.write(&self.core, at.block(), &block, &[crc32c::crc32c(&block)])
    }

    /// Makes whole blocks read as zeroes. Where the base does so already, nothing is noted.
    fn zero_blocks(
        &self,
        log: &mut Log,
        start: BlockNo,
        count: BlockCount,
    ) -> Result<(), BlockError> {
        let end = start.plus(count);
        let mut block = start;
        while block < end {
            let limit = ByteLen((end.0 - block.0) * BLOCK_SIZE);
            let limit = ByteLen(limit.0.min(self.core.len.0 - block.offset().0));
            let (len, kind) = self.core.base.status(block.offset(), limit)?;
            let whole = if len == limit { len.blocks().0 } else { len.0 / BLOCK_SIZE };
            let (count, is_zero) = match kind {
                RangeKind::Zero if whole > 0 => (whole, true),
                _ if planted("a trim leaves what the base has") => (len.blocks().0, true),
                _ => (len.blocks().0, false),
            };
            log.zero(&self.core, block, BlockCount(count), is_zero)?;
            block = block.plus(BlockCount(count));
        }
        Ok(())
    }
}

impl ReadBlocks for SessionDevice {
    fn len(&self) -> ByteLen {
        self.core.len
    }

    fn read_at(&self, at: ByteOffset, buf: &mut [u8]) -> Result<(), BlockError> {
        check_range(at, ByteLen(buf.len() as u64), self.core.len)?;
        let mut done = 0;
        while done < buf.len() {
            done += self.core.read_run(at.plus(ByteLen(done as u64)), &mut buf[done..])?;
        }
        Ok(())
    }

    fn status(&self, at: ByteOffset, limit: ByteLen) -> Result<(ByteLen, RangeKind), BlockError> {
        check_range(at, ByteLen(1), self.core.len)?;
        let limit = limit.0.clamp(1, self.core.len.0 - at.0);
        let (mut len, kind) = self.core.status_run(at, limit)?;
        while len < limit {
            let (more, next) = self.core.status_run(at.plus(ByteLen(len)), limit - len)?;
            if next != kind {
                break;
            }
            len += more;
        }
        Ok((ByteLen(len), kind))
    }
}

impl WriteBlocks for SessionDevice {
    fn write_at(&self, at: ByteOffset, data: &[u8]) -> Result<(), BlockError> {
        check_range(at, ByteLen(data.len() as u64), self.core.len)?;
        self.core.check()?;
        let (head, rest) = data.split_at(head_len(at, data.len()));
        let (body, tail) = rest.split_at(rest.len() - rest.len() % BLOCK);
        let body_at = at.plus(ByteLen(head.len() as u64));
        let crcs: Vec<u32> = body.chunks_exact(BLOCK).map(crc32c::crc32c).collect();
        let mut log = self.lock_log()?;
        if !head.is_empty() {
            self.write_part(&mut log, at, head)?;
        }
        log.write(&self.core, body_at.block(), body, &crcs)?;
        if !tail.is_empty() {
            self.write_part(&mut log, body_at.plus(ByteLen(body.len() as u64)), tail)?;
        }
        self.flush_if_due(log)
    }

    fn write_zeroes(&self, at: ByteOffset, len: ByteLen) -> Result<(), BlockError> {
        const ZEROES: [u8; BLOCK] = [0; BLOCK];
        check_range(at, len, self.core.len)?;
        self.core.check()?;
        let end = at.plus(len);
        let Some(inner) = self.core.whole_blocks(at, len) else {
            let head = head_len(at, len.0 as usize);
            let mut log = self.lock_log()?;
            for (at, len) in [(at, head), (ByteOffset(at.0 + head as u64), len.0 as usize - head)] {
                if len > 0 {
                    self.write_part(&mut log, at, &ZEROES[..len])?;
                }
            }
            return Ok(());
        };
        let mut log = self.lock_log()?;
        let head = (inner.start.offset().0 - at.0) as usize;
        if head > 0 {
            self.write_part(&mut log, at, &ZEROES[..head])?;
        }
        self.zero_blocks(&mut log, inner.start, inner.count)?;
        let tail = end.0.saturating_sub(inner.end().offset().0) as usize;
        if tail > 0 {
            self.write_part(&mut log, inner.end().offset(), &ZEROES[..tail])?;
        }
        self.flush_if_due(log)
    }

    fn discard(&self, at: ByteOffset, len: ByteLen) -> Result<(), BlockError> {
        check_range(at, len, self.core.len)?;
        self.core.check()?;
        match self.core.whole_blocks(at, len) {
            None => Ok(()),
            Some(inner) => {
                let mut log = self.lock_log()?;
                self.zero_blocks(&mut log, inner.start, inner.count)?;
                self.flush_if_due(log)
            }
        }
    }

    fn flush(&self) -> Result<(), BlockError> {
        let wanted = self.core.changes.load(Ordering::Acquire);
        let mut synced = self.lock_synced()?;
        self.core.check()?;
        if synced.changes >= wanted || planted("a flush returns before it is done") {
            return Ok(());
        }
        self.sync_all(&mut synced)?;
        // The flush is done. A disk too full for tidying does not undo it.
        match self.give_back(&mut synced).and_then(|()| self.compact_if_due(&mut synced)) {
            Err(BlockError::Io { .. }) if self.core.check().is_ok() => Ok(()),
            other => other,
        }
    }
}

impl Core {
    fn new(data: Arc<dyn File>, base: Arc<dyn ReadBlocks>, table: BlockTable) -> Self {
        Self {
            len: base.len(),
            data,
            base,
            table,
            poisoned: AtomicBool::new(false),
            durable: AtomicU64::new(0),
            changes: AtomicU64::new(0),
            data_changed: AtomicBool::new(true),
            readers: RwLock::new(()),
            holds: Arc::new(AtomicU64::new(0)),
            punch_failures: AtomicU64::new(0),
        }
    }

    fn check(&self) -> Result<(), BlockError> {
        if self.poisoned.load(Ordering::Acquire) { Err(BlockError::Poisoned) } else { Ok(()) }
    }

    /// Stops the device for writes, and says why this once.
    fn poison(&self, what: &'static str, error: &io::Error) -> BlockError {
        let goes_on = planted("the log goes on after a failed sync");
        self.poisoned.store(!goes_on, Ordering::Release);
        BlockError::io(what, error)
    }

    /// A full disk is the guest's to bear; everything else stops the device.
    fn append_error(&self, what: &'static str, error: &io::Error) -> BlockError {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                BlockError::io(what, error)
            }
            _ => self.poison(what, error),
        }
    }

    fn durable(&self) -> Sequence {
        Sequence(self.durable.load(Ordering::Acquire))
    }

    fn note_change(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// What was written counts as changed only then: a sync that began before would take the mark
    /// away and leave the data.
    fn write_data(&self, slot: Slot, data: &[u8]) -> io::Result<()> {
        if planted("data counts as changed before it is written") {
            self.data_changed.store(true, Ordering::Release);
            return self.data.write_all_at(data, slot.offset());
        }
        self.data.write_all_at(data, slot.offset())?;
        if !planted("the data counts as synced although it was written to again") {
            self.data_changed.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Syncs both files; records up to `last` are durable then.
    fn sync(&self, index: &dyn File, last: Sequence) -> Result<(), BlockError> {
        let data_changed = self.data_changed.swap(false, Ordering::AcqRel);
        if data_changed && !planted("a flush does not sync the data") {
            self.data.sync_data().map_err(|error| self.poison("syncing the data", &error))?;
        }
        if !planted("a flush does not sync the index") {
            index.sync_data().map_err(|error| self.poison("syncing the index", &error))?;
        }
        self.durable.store(last.0, Ordering::Release);
        Ok(())
    }

    /// Waits until all readers of now are gone: one that looked a slot up before the table stopped
    /// naming it has it in hand still.
    fn wait_for_readers(&self) {
        if !planted("a hole is punched under a reader") {
            drop(self.readers.write().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Gives runs of slots back that neither the table names nor a reader has in hand.
    fn punch(&self, runs: &[space::SlotRun]) {
        for run in runs {
            let mut len = u64::from(run.count) * BLOCK_SIZE;
            if planted("a hole is punched a block too long") {
                len += BLOCK_SIZE;
            }
            if self.data.punch_hole(run.start.offset(), len).is_err() {
                // Space is lost until the session ends, content is not.
                self.punch_failures.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Reads the run that begins at `at`, as far as `buf` goes; returns its length.
    fn read_run(&self, at: ByteOffset, buf: &mut [u8]) -> Result<usize, BlockError> {
        let within = at.0 % BLOCK_SIZE;
        let limit = ByteLen(within + buf.len() as u64).blocks();
        let guard = self.readers.read().unwrap_or_else(PoisonError::into_inner);
        let run = self.table.run_at(at.block(), limit);
        let guard = (!planted("a reader lets go before it has read")).then_some(guard);
        let len = ((run.count.bytes().0 - within) as usize).min(buf.len());
        let buf = &mut buf[..len];
        match run.state {
            State::Zero => buf.fill(0),
            State::Slot(slot) => self
                .data
                .read_exact_at(buf, slot.offset() + within)
                .map_err(|error| BlockError::io("reading the session's data", &error))?,
            State::Absent => {
                drop(guard);
                self.base.read_at(at, buf)?;
            }
        }
        Ok(len)
    }

    fn status_run(&self, at: ByteOffset, limit: u64) -> Result<(u64, RangeKind), BlockError> {
        let within = at.0 % BLOCK_SIZE;
        let run = self.table.run_at(at.block(), ByteLen(within + limit).blocks());
        let len = (run.count.bytes().0 - within).min(limit);
        match run.state {
            State::Zero => Ok((len, RangeKind::Zero)),
            State::Slot(_) => Ok((len, RangeKind::Data)),
            State::Absent => {
                let (len, kind) = self.base.status(at, ByteLen(len))?;
                Ok((len.0, kind))
            }
        }
    }

    /// The whole blocks of a range on the device. The device's last block is whole even where it
    /// is short.
    fn whole_blocks(&self, at: ByteOffset, len: ByteLen) -> Option<BlockRange> {
        let end = at.plus(len);
        let at_end = end.0 == self.len.0 || planted("a trim takes its last block as a whole");
        let end = if at_end { end.0.div_ceil(BLOCK_SIZE) } else { end.block().0 };
        let start = at.0.div_ceil(BLOCK_SIZE);
        (start < end).then(|| BlockRange::new(BlockNo(start), BlockCount(end - start)))
    }
}

/// Bytes up to the next block's start, when `at` is within a block.
fn head_len(at: ByteOffset, len: usize) -> usize {
    let within = (at.0 % BLOCK_SIZE) as usize;
    if within == 0 { 0 } else { (BLOCK - within).min(len) }
}

fn create_files(dir: &dyn Dir, header: &Header) -> io::Result<(Arc<dyn File>, Arc<dyn File>)> {
    let data = dir.create(DATA)?;
    let index = dir.create(INDEX)?;
    index.write_all_at(&format::encode_header(header).0, 0)?;
    index.sync_data()?;
    data.sync_data()?;
    if !planted("a new log's names are not synced") {
        dir.sync()?;
    }
    Ok((data, index))
}

fn check_base(header: &Header, len: ByteLen, digest: &[u8; 32]) -> Result<(), BlockError> {
    let fits = header.base_digest == *digest && header.device_len == len;
    if fits || planted("a log is opened on another base") {
        return Ok(());
    }
    let describe = |digest: &[u8; 32], len| {
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{hex} of {len} bytes")
    };
    Err(BlockError::WrongBase {
        expected: describe(&header.base_digest, header.device_len),
        found: describe(digest, len),
    })
}

/// All slots that a recovered log has, except those in use. Some are holes already; punching those
/// again is cheap.
fn dead_space(table: &BlockTable, next_slot: Slot) -> Space {
    let mut live = SlotSet::default();
    for run in table.present() {
        if let State::Slot(first) = run.state {
            (first.0..first.0 + run.count.0 as u32).for_each(|slot| _ = live.insert(Slot(slot)));
        }
    }
    let mut space = Space::new(limits().space);
    space.add((0..next_slot.0).map(Slot).filter(|&slot| !live.has(slot)));
    space
}

/// Cuts off what was not recovered, and says that the rest is durable, as it is since it was
/// [settled](recover::settle).
fn begin_epoch(core: &Core, log: &mut Log, next_slot: Slot) -> Result<(), BlockError> {
    core.data
        .set_len(next_slot.offset())
        .map_err(|error| BlockError::io("cutting the session's data", &error))?;
    core.durable.store(log.chain.last.0, Ordering::Release);
    log.chain.epoch = log.chain.epoch.next();
    log.claim(core)?;
    core.sync(log.chain.file.as_ref(), log.chain.last)
}
