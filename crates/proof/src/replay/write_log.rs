//! A log of what was done to a disk, as QEMU's `blklogwrites` and the kernel's dm-log-writes keep it.
//!
//! ```text
//!   sector 0   magic 8 │ version 8 │ entries 8 │ sector size 4 │ zeroes
//!   entry      sector 8 │ sectors 8 │ flags 8 │ length of data 8 │ zeroes     one sector
//!              what was written                       `sectors` of them, unless it is a discard
//!   entry …
//! ```
//! Numbers are little-endian; places and lengths are in sectors of the size that the first one says.
//! Flags are FLUSH 1, FUA 2, DISCARD 4 and MARK 8. Of these QEMU sets FLUSH, in an entry that holds
//! nothing else, and DISCARD; zeroes that a client asks for are logged as written. The length of
//! data is for marks, which nobody sets here. An entry is added when it is done.
//!
//! See the kernel's `Documentation/admin-guide/device-mapper/log-writes.rst`.

use goldleaf_block::BLOCK_SIZE;

/// What a log begins with.
const MAGIC: u64 = 0x006a_7366_7773_6872;
/// The only version.
const VERSION: u64 = 1;
/// Lengths of sectors that make sense, in bytes.
const SECTOR_LENS: std::ops::RangeInclusive<usize> = 512..=4096;
const FLUSH: u64 = 1;
const DISCARD: u64 = 4;

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    Write,
    Discard,
    Flush,
}

/// One thing that was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// What it was.
    pub deed: Deed,
    /// Where on the disk, in bytes.
    pub at: u64,
    /// Length on the disk, in bytes.
    pub len: u64,
    /// Length of the log with this entry, in bytes.
    pub end: u64,
}

/// What was done to a disk, in its order.
pub struct WriteLog {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

impl WriteLog {
    /// Reads the whole of a log.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, String> {
        let word = |at: usize| word(&bytes, at);
        if (word(0)?, word(8)?) != (MAGIC, VERSION) {
            return Err("no log of writes of version 1".into());
        }
        let sector = bytes.get(24..28).ok_or("a log without a sector size")?;
        let sector = u32::from_le_bytes(sector.try_into().map_err(|_| "no number")?) as usize;
        if !SECTOR_LENS.contains(&sector) || !sector.is_power_of_two() {
            return Err(format!("a log of sectors of {sector} bytes"));
        }
        let (mut entries, mut at) = (Vec::new(), sector);
        for number in 0..word(16)? {
            let entry = entry(&bytes, at, sector as u64)
                .map_err(|error| format!("entry {number} of the log, at {at}: {error}"))?;
            at = entry.end as usize;
            entries.push(entry);
        }
        Ok(Self { bytes, entries })
    }

    /// All that was done.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// How often something was done.
    pub fn count(&self, deed: Deed) -> u64 {
        self.entries.iter().filter(|entry| entry.deed == deed).count() as u64
    }

    /// How many entries are whole in a log of `len` bytes.
    pub fn count_within(&self, len: u64) -> usize {
        self.entries.partition_point(|entry| entry.end <= len)
    }

    /// Length of the log with its first `count` entries, in bytes.
    pub fn len_of(&self, count: usize) -> u64 {
        self.entries[..count].last().map_or(0, |entry| entry.end)
    }

    /// The number of the last flush among the first `count` entries.
    pub fn last_flush(&self, count: usize) -> Option<usize> {
        self.entries[..count].iter().rposition(|entry| entry.deed == Deed::Flush)
    }

    /// What an entry wrote; nothing for other deeds.
    pub fn written(&self, entry: &Entry) -> &[u8] {
        let len = if entry.deed == Deed::Write { entry.len } else { 0 };
        &self.bytes[(entry.end - len) as usize..entry.end as usize]
    }

    /// Does to a part of the disk, which begins at `start`, what an entry does to it; whether it
    /// does anything. A discard makes whole blocks zeroes and leaves the rest, as we promise.
    pub fn lay(&self, entry: &Entry, start: u64, part: &mut [u8]) -> bool {
        let (mut from, mut to) = (entry.at, entry.at + entry.len);
        if entry.deed == Deed::Discard {
            (from, to) = (from.next_multiple_of(BLOCK_SIZE), to - to % BLOCK_SIZE);
        }
        let (from, to) = (from.max(start), to.min(start + part.len() as u64));
        if from >= to {
            return false;
        }
        let place = &mut part[(from - start) as usize..(to - start) as usize];
        match entry.deed {
            Deed::Write => {
                let (from, to) = (from - entry.at, to - entry.at);
                place.copy_from_slice(&self.written(entry)[from as usize..to as usize]);
            }
            Deed::Discard => place.fill(0),
            Deed::Flush => {}
        }
        true
    }
}

fn word(bytes: &[u8], at: usize) -> Result<u64, String> {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk());
    word.map(|word| u64::from_le_bytes(*word)).ok_or_else(|| "the log ends".into())
}

fn entry(bytes: &[u8], at: usize, sector: u64) -> Result<Entry, String> {
    let (place, count, flags) = (word(bytes, at)?, word(bytes, at + 8)?, word(bytes, at + 16)?);
    let deed = match flags {
        0 => Deed::Write,
        DISCARD => Deed::Discard,
        FLUSH if count == 0 => Deed::Flush,
        _ => return Err(format!("flags {flags:#x} with {count} sectors")),
    };
    let (at_disk, len) =
        place.checked_mul(sector).zip(count.checked_mul(sector)).ok_or("a place")?;
    at_disk.checked_add(len).ok_or("a place beyond all disks")?;
    let logged = if deed == Deed::Write { len } else { 0 };
    let end = (at as u64 + sector).checked_add(logged).ok_or("a length")?;
    if end > bytes.len() as u64 {
        return Err("the log ends in it".into());
    }
    Ok(Entry { deed, at: at_disk, len, end })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const SECTOR: usize = 512;

    /// A log of entries: sector, sectors, flags, and with what what was written is filled.
    pub fn log(entries: &[(u64, u64, u64, u8)]) -> Vec<u8> {
        let sector = |words: [u64; 4]| {
            let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            bytes.resize(SECTOR, 0);
            bytes
        };
        let mut bytes = sector([MAGIC, VERSION, entries.len() as u64, SECTOR as u64]);
        for &(at, count, flags, fill) in entries {
            bytes.extend(sector([at, count, flags, 0]));
            let len = if flags == 0 { count as usize * SECTOR } else { 0 };
            bytes.extend(vec![fill; len]);
        }
        bytes
    }

    #[test]
    fn what_was_done_is_read_and_done_again() {
        let bytes = log(&[(8, 8, 0, 1), (0, 0, FLUSH, 0), (1, 1, 0, 2), (4, 15, DISCARD, 0)]);
        let len = bytes.len() as u64;
        let log = WriteLog::parse(bytes).expect("a log");
        let deeds: Vec<Deed> = log.entries().iter().map(|entry| entry.deed).collect();
        assert_eq!(deeds, [Deed::Write, Deed::Flush, Deed::Write, Deed::Discard]);
        assert_eq!(log.entries()[3].end, len);
        assert_eq!((log.last_flush(4), log.last_flush(1)), (Some(1), None));
        assert_eq!((log.count_within(len), log.count_within(len - 1)), (4, 3));
        assert_eq!((log.len_of(4), log.count_within(log.len_of(2))), (len, 2));
        let mut disk = vec![9; 4 * 4096];
        let touched = log.entries().iter().map(|entry| log.lay(entry, 0, &mut disk));
        assert_eq!(touched.collect::<Vec<_>>(), [true, false, true, true]);
        assert_eq!((disk[511], disk[512], disk[1023], disk[1024]), (9, 2, 2, 9));
        assert_eq!((disk[4096], disk[8191], disk[8192]), (0, 0, 9), "whole blocks only");
        let mut block = vec![9; 4096];
        log.lay(&log.entries()[0], 4096, &mut block);
        assert_eq!(block, [1; 4096]);
    }

    #[test]
    fn what_is_no_log_is_refused() {
        let good = log(&[(8, 8, 0, 1)]);
        for len in 0..good.len() {
            assert!(WriteLog::parse(good[..len].to_vec()).is_err(), "{len} bytes");
        }
        for (at, value) in [(0, 1), (8, 2), (25, 3), (SECTOR + 7, 255), (SECTOR + 16, 8)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert!(WriteLog::parse(bad).is_err(), "{value} at {at}");
        }
    }
}
