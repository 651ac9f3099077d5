//! Writing the index anew when half of what it says was overtaken.
//!
//! The new file is complete and synced before it takes the old one's name, and goes on counting
//! records where the old one stopped. A crash leaves either.

use std::io;
use std::sync::Arc;

use goldleaf_host::{Dir, planted};

use super::format::{Change, ENTRY_LEN, Entry, Header, encode_header};
use super::limits::limits;
use super::log::Log;
use super::records::Chain;
use super::recover::read_header;
use super::space::SlotSet;
use super::table::{BlockTable, State};
use super::{Core, INDEX};
use crate::BlockError;
use crate::units::BlockCount;

/// The name of an index that is being written.
pub(super) const INDEX_NEW: &str = "index.new";

/// Whether so little of the index counts that a new one should be written.
pub(super) fn is_due(log: &Log) -> bool {
    let needed = (log.live * ENTRY_LEN as u64).max(log.compacted);
    log.chain.end > 2 * needed + limits().compaction_floor
}

/// Writes the new index and takes it. The caller has closed and synced the generation and keeps
/// everybody else from writing. A failure before the rename changes nothing.
pub(super) fn compact(dir: &dyn Dir, core: &Core, log: &mut Log) -> Result<(), BlockError> {
    let header = read_header(log.chain.file.as_ref())?;
    let chain = match write_new(dir, &core.table, log, &header) {
        Ok(chain) => chain,
        Err(error) => {
            // Perhaps the disk is full. The old index serves; try again when it has doubled.
            log.compacted = log.chain.end;
            let _ = dir.remove(INDEX_NEW);
            return match error {
                BlockError::Io { .. } => Ok(()),
                other => Err(other),
            };
        }
    };
    let sync_names =
        || if planted("a new index's name is not synced") { Ok(()) } else { dir.sync() };
    dir.rename(INDEX_NEW, INDEX)
        .and_then(|()| sync_names())
        .map_err(|error| core.poison("replacing the index", &error))?;
    log.take_chain(chain);
    Ok(())
}

fn write_new(
    dir: &dyn Dir,
    table: &BlockTable,
    log: &Log,
    old: &Header,
) -> Result<Chain, BlockError> {
    let wrap = |error: io::Error| BlockError::io("writing a new index", &error);
    remove_leftover(dir).map_err(wrap)?;
    let file = dir.create(INDEX_NEW).map_err(wrap)?;
    let mut header =
        Header { first_sequence: log.chain.last.next(), epoch: log.chain.epoch, ..old.clone() };
    let mut chain = Chain::start(Arc::clone(&file), &header);
    let durable = log.chain.last;
    let mut batch = Vec::new();
    let mut put = |entry: Entry, chain: &mut Chain| -> Result<(), BlockError> {
        batch.push(entry);
        if batch.len() == limits().entries {
            chain.append(durable, &std::mem::take(&mut batch)).map_err(wrap)?;
        }
        Ok(())
    };
    copy_data(table, log, old, |entry| put(entry, &mut chain))?;
    list_zeroes(table, |entry| put(entry, &mut chain))?;
    chain.append(durable, &batch).map_err(wrap)?;
    header.durable = chain.last;
    chain.claimed = chain.last;
    file.write_all_at(&encode_header(&header).0, 0).map_err(wrap)?;
    if !planted("a new index takes the old one's name before it is synced") {
        file.sync_data().map_err(wrap)?;
    }
    Ok(chain)
}

/// The entries of the old index that still hold, with their checksums and seals. A slot that was
/// used again has several entries, perhaps of one block; the last one holds, so they are gone
/// through from the last record back.
fn copy_data(
    table: &BlockTable,
    log: &Log,
    old: &Header,
    mut put: impl FnMut(Entry) -> Result<(), BlockError>,
) -> Result<(), BlockError> {
    let mut copied = SlotSet::default();
    for at in starts(log, old)?.into_iter().rev() {
        for entry in log.chain.entries_from(at, log.chain.end)?.ok_or_else(|| broken(at))? {
            if let Change::Data { slot, .. } = entry.change
                && (table.get(entry.block) == State::Slot(slot) && copied.insert(slot)
                    || planted("a new index keeps what was overtaken"))
            {
                put(entry)?;
            }
        }
    }
    Ok(())
}

/// Where the records of the old index begin.
fn starts(log: &Log, old: &Header) -> Result<Vec<u64>, BlockError> {
    let mut chain = Chain::start(Arc::clone(&log.chain.file), old);
    let mut starts = Vec::new();
    while let Some(record) = chain.next(log.chain.end)? {
        starts.push(record.before.end);
    }
    if chain.last == log.chain.last {
        return Ok(starts);
    }
    Err(broken(chain.end))
}

fn broken(at: u64) -> BlockError {
    BlockError::Corrupt {
        place: format!("session index, byte {at}"),
        expected: "a record".into(),
        found: "no whole one".into(),
    }
}

fn list_zeroes(
    table: &BlockTable,
    mut put: impl FnMut(Entry) -> Result<(), BlockError>,
) -> Result<(), BlockError> {
    let zeroes = table.present().filter(|run| run.state == State::Zero);
    for run in zeroes.filter(|_| !planted("a new index forgets what was trimmed")) {
        let mut done = 0;
        while done < run.count.0 {
            let count = BlockCount((run.count.0 - done).min(limits().entries as u64));
            put(Entry::plain(run.start.plus(BlockCount(done)), Change::Zero { count }))?;
            done += count.0;
        }
    }
    Ok(())
}

/// Removes what a crash during a compaction left behind.
pub(super) fn remove_leftover(dir: &dyn Dir) -> io::Result<()> {
    if planted("what a compaction left behind stays") {
        return Ok(());
    }
    match dir.remove(INDEX_NEW) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
