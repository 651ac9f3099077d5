//! What a session's files say after any end of the process or the machine.
//!
//! A record belongs to the log when its checksum is right and it continues the chain: next number,
//! the checksum of the record before, the same session, the same epoch. Each opening of a log
//! begins a new epoch with an empty record that is synced before anything else is written, so
//! records that an earlier crash left behind the end can never be taken for new ones.
//!
//! Data and index are synced together, in no order. So a record that no later one calls durable is
//! believed only if the data that it names has the right checksums; the first that has not ends
//! the log, and no flush that returned can have relied on it. Slots are punched only after a
//! *durable record* says that the record that freed them is durable: so no record whose data is
//! still to be checked names a punched slot.
//!
//! Before anything is read, both files are synced and the host's cache of them is dropped. A killed
//! process left its last writes in the cache, and they are the guest's; but if a sync failed, the
//! cache also holds what the medium does not have, calls it clean, and would let the next sync
//! succeed (the failure that PostgreSQL's developers found in 2018). So what counts is what the
//! medium says. The directory is synced as well: a process that was killed behind a rename leaves a
//! new index whose name may still be lost, and with it every record that goes into it from now on.
//!
//! Damage is told from a torn end: behind a torn end there is no record of this epoch that calls
//! the missing ones durable.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use goldleaf_host::{Dir, File, planted};

use super::format::{Change, Entry, HEADER_LEN, Header, Sequence, Slot, decode_header};
use super::records::{Chain, Record};
use super::table::{BlockTable, LAST_SLOT, State};
use crate::BlockError;
use crate::units::{BLOCK_SIZE, BlockCount, ByteLen};

/// What opening a log found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Recovery {
    /// Records that the log consists of.
    pub commits: u64,
    /// Records at the end that were complete, but whose data was not.
    pub dropped_commits: u64,
    /// Records that were checked against their data.
    pub checked_commits: u64,
}

/// A log as it was found.
pub(super) struct Found {
    pub chain: Chain,
    pub table: BlockTable,
    pub next_slot: Slot,
    pub live: u64,
    pub recovery: Recovery,
}

/// Makes what can be read of files the same as what is durable of them.
pub(super) fn settle(dir: &dyn Dir, files: &[&Arc<dyn File>]) -> io::Result<()> {
    if planted("what was recovered is called durable without a sync") {
        return Ok(());
    }
    if !planted("the index that is found may lose its name") {
        dir.sync()?;
    }
    for file in files {
        file.sync_data()?;
        if !planted("the cache is believed after a failed sync") {
            file.drop_cache()?;
        }
    }
    Ok(())
}

/// Reads the header of an index.
pub(super) fn read_header(index: &dyn File) -> Result<Header, BlockError> {
    let mut block = [0; HEADER_LEN];
    match index.read_exact_at(&mut block, 0) {
        Ok(()) => Ok(decode_header(&block)?.0),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(BlockError::Corrupt {
            place: "session index, header".into(),
            expected: format!("{HEADER_LEN} bytes"),
            found: "the end of the file".into(),
        }),
        Err(error) => Err(BlockError::io("reading the session's index", &error)),
    }
}

/// Reads a log from its files. Changes nothing.
pub(super) fn recover(
    index: Arc<dyn File>,
    data: &dyn File,
    header: &Header,
) -> Result<Found, BlockError> {
    let len = index.len().map_err(|error| BlockError::io("reading a length", &error))?;
    let mut replay = Replay::new(header);
    let mut chain = Chain::start(index, header);
    let mut queue = VecDeque::new();
    while let Some(record) = chain.next(len)? {
        replay.durable = replay.durable.max(record.header.durable);
        queue.push_back(record);
        while queue.front().is_some_and(|first: &Record| first.header.sequence <= replay.durable) {
            replay.apply_front(&mut queue)?;
        }
    }
    while let Some(record) = queue.front() {
        if !holds(data, &record.entries)? {
            if planted("a record is left out in the middle") && queue.len() > 1 {
                queue.pop_front();
                continue;
            }
            chain = record.before.clone();
            replay.recovery.dropped_commits = queue.len() as u64;
            break;
        }
        replay.recovery.checked_commits += 1;
        replay.apply_front(&mut queue)?;
    }
    refuse_damage(&chain, len, replay.durable)?;
    Ok(replay.finish(chain))
}

fn refuse_damage(chain: &Chain, len: u64, durable: Sequence) -> Result<(), BlockError> {
    if planted("damage is taken for a torn end") {
        return Ok(());
    }
    let orphan = chain.find_orphan(len)?.map(|header| header.durable);
    match orphan.or((durable > chain.last).then_some(durable)) {
        None => Ok(()),
        Some(durable) => Err(BlockError::Corrupt {
            place: format!("session index, byte {}", chain.end),
            expected: format!("record {}, as record {} was durable", chain.last.0 + 1, durable.0),
            found: "no such record".into(),
        }),
    }
}

/// Whether the data of a record is as the record says.
fn holds(data: &dyn File, entries: &[Entry]) -> Result<bool, BlockError> {
    let mut block = [0; BLOCK_SIZE as usize];
    for entry in entries {
        let Change::Data { slot, crc } = entry.change else { continue };
        match data.read_exact_at(&mut block, slot.offset()) {
            Ok(()) if crc32c::crc32c(&block) == crc => {}
            _ if planted("a record is believed without its data") => {}
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
                return Err(BlockError::io("checking the session's data", &error));
            }
            _ => return Ok(false),
        }
    }
    Ok(true)
}

struct Replay {
    table: BlockTable,
    durable: Sequence,
    next_slot: u32,
    live: u64,
    recovery: Recovery,
}

impl Replay {
    fn new(header: &Header) -> Self {
        Self {
            table: BlockTable::new(ByteLen(header.device_len.0).blocks()),
            durable: header.durable,
            next_slot: 0,
            live: 0,
            recovery: Recovery::default(),
        }
    }

    fn apply_front(&mut self, queue: &mut VecDeque<Record>) -> Result<(), BlockError> {
        let Some(record) = queue.pop_front() else { return Ok(()) };
        self.recovery.commits += 1;
        record.entries.iter().try_for_each(|entry| self.apply(&record, entry))
    }

    fn apply(&mut self, record: &Record, entry: &Entry) -> Result<(), BlockError> {
        let (count, slot) = match entry.change {
            Change::Data { slot, .. } => (BlockCount(1), Some(slot)),
            Change::Zero { count } => (count, None),
        };
        let end = entry.block.0.checked_add(count.0);
        let fits = end.is_some_and(|end| end <= self.table.blocks().0);
        if !fits || slot.is_some_and(|slot| slot >= LAST_SLOT) {
            return Err(BlockError::Corrupt {
                place: format!("session index, record {}", record.header.sequence.0),
                expected: format!("an entry within {} blocks", self.table.blocks()),
                found: format!("{entry:?}"),
            });
        }
        for block in (0..count.0).map(|i| entry.block.plus(BlockCount(i))) {
            let before = self.table.replace(block, slot.map_or(State::Zero, State::Slot));
            self.live -= u64::from(matches!(before, State::Slot(_)));
            self.live += u64::from(slot.is_some());
        }
        let next = slot.map_or(0, |slot| slot.0 + 1);
        let forgetful = planted("recovery takes the last record's slots for free");
        self.next_slot = if forgetful { next } else { self.next_slot.max(next) };
        Ok(())
    }

    fn finish(self, chain: Chain) -> Found {
        Found {
            chain,
            table: self.table,
            next_slot: Slot(self.next_slot),
            live: self.live,
            recovery: self.recovery,
        }
    }
}
