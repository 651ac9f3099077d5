//! Whether a guest came up, by what the host sees of it alone.
//!
//! The guest is another person's system, and nothing in it answers to Goldleaf. What the host does
//! see are writes to the disk, their times, and how the machine ended. Of these two are evidence:
//!
//! - It came to rest by itself: the guest changed files, and shut down or rebooted with all of its
//!   file systems unmounted in order. Only a working init does that. A write is not enough: a
//!   kernel writes superblocks even when it mounts the root to be read only.
//! - It lasts: writes to its file systems lie [`LASTING`] apart, in one run. Somebody still works
//!   with them.
//!
//! A kernel that panics, an init that is broken, an emulator that fails, a machine that hangs or
//! resets over and over: none of them gets so far. Whether the screen shows what it should, the host
//! cannot know.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use goldleaf_block::{BlockError, ByteLen, ByteOffset, RangeKind, ReadBlocks, WriteBlocks};
use goldleaf_host::Clock;
use goldleaf_image::VolumeRecord;

use super::session::{Event, Listener};
use super::{Desktop, SessionRecord};
use crate::livepc::trial::{self, GivenUp, STARTS_MAX};
use crate::{Home, PlayerError};

/// How far apart a guest's writes are that came up: longer than systemd waits for a device that is
/// not there (90 s) with what a guest then still has in memory (30 s).
pub(super) const LASTING: Duration = Duration::from_secs(180);

/// Gives up an edition that did not come up, and says so.
pub(super) fn judge(
    home: &Home,
    desktop: &Desktop,
    listener: &dyn Listener,
) -> Result<(), PlayerError> {
    let name = &desktop.record.livepc;
    let Some(GivenUp { version, back }) = trial::judge(home, name)? else { return Ok(()) };
    let back = back.map_or("what was before".into(), |back| format!("version {back}"));
    listener.event(&Event::Note(format!(
        "version {version} did not come up in {STARTS_MAX} starts: {back} is back; \
         `goldleaf pin {name} {version}` and `goldleaf update {name}` try it again"
    )));
    Ok(())
}

/// Whether a session stands on an edition that was given up.
pub(super) fn is_given_up(
    home: &Home,
    desktop: &Desktop,
    session: &SessionRecord,
) -> Result<bool, PlayerError> {
    let livepc = crate::livepc::get(home, &desktop.record.livepc)?;
    Ok(session.edition.is_some_and(|edition| livepc.failed.contains(&edition)))
}

/// Counts a start, before its guest runs. The edition, when it is on trial.
pub(super) fn count(
    home: &Home,
    desktop: &Desktop,
    edition: Option<u64>,
    listener: &dyn Listener,
) -> Result<Option<u64>, PlayerError> {
    let Some(version) = edition else { return Ok(None) };
    let Some(starts) = trial::count(home, &desktop.record.livepc, version)? else {
        return Ok(None);
    };
    listener.event(&Event::Note(format!(
        "version {version} is on trial: start {starts} of {STARTS_MAX} in which it may come up"
    )));
    Ok(Some(version))
}

/// Whether a part of a disk touches one of its file systems.
fn is_within(volumes: &[VolumeRecord], at: ByteOffset, len: ByteLen) -> bool {
    let end = at.0.saturating_add(len.0);
    volumes
        .iter()
        .any(|volume| at.0 < volume.start.0.saturating_add(volume.len.0) && volume.start.0 < end)
}

/// A session's disk that notes when the guest writes to its file systems.
pub(super) struct Watched {
    disk: Arc<dyn WriteBlocks>,
    volumes: Vec<VolumeRecord>,
    clock: Arc<dyn Clock>,
    /// Of the first write, and milliseconds from there to the last one.
    first: OnceLock<Duration>,
    last_ms: AtomicU64,
}

impl Watched {
    /// Watches a disk with these file systems.
    pub fn new(
        disk: Arc<dyn WriteBlocks>,
        volumes: &[VolumeRecord],
        clock: &Arc<dyn Clock>,
    ) -> Self {
        let (volumes, clock) = (volumes.to_vec(), clock.clone());
        Self { disk, volumes, clock, first: OnceLock::new(), last_ms: AtomicU64::new(0) }
    }

    /// Whether the guest has come up, as far as its writes say.
    pub fn lasts(&self) -> bool {
        Duration::from_millis(self.last_ms.load(Ordering::Relaxed)) >= LASTING
    }

    fn note(&self, at: ByteOffset, len: ByteLen) {
        if is_within(&self.volumes, at, len) {
            let now = self.clock.monotonic();
            let since = now.saturating_sub(*self.first.get_or_init(|| now));
            self.last_ms.fetch_max(since.as_millis() as u64, Ordering::Relaxed);
        }
    }
}

impl ReadBlocks for Watched {
    fn len(&self) -> ByteLen {
        self.disk.len()
    }

    fn read_at(&self, at: ByteOffset, buf: &mut [u8]) -> Result<(), BlockError> {
        self.disk.read_at(at, buf)
    }

    fn status(&self, at: ByteOffset, limit: ByteLen) -> Result<(ByteLen, RangeKind), BlockError> {
        self.disk.status(at, limit)
    }
}

impl WriteBlocks for Watched {
    fn write_at(&self, at: ByteOffset, data: &[u8]) -> Result<(), BlockError> {
        self.disk.write_at(at, data)?;
        self.note(at, ByteLen(data.len() as u64));
        Ok(())
    }

    fn write_zeroes(&self, at: ByteOffset, len: ByteLen) -> Result<(), BlockError> {
        self.disk.write_zeroes(at, len)?;
        self.note(at, len);
        Ok(())
    }

    fn discard(&self, at: ByteOffset, len: ByteLen) -> Result<(), BlockError> {
        self.disk.discard(at, len)?;
        self.note(at, len);
        Ok(())
    }

    fn flush(&self) -> Result<(), BlockError> {
        self.disk.flush()
    }
}

#[cfg(test)]
mod tests {
    use goldleaf_block::{BlockCount, ExtentMap, MapDevice, SessionDevice, SessionId};
    use goldleaf_host::Dir;
    use goldleaf_host::sim::SimDir;

    use super::*;
    use crate::livepc::tests::Turned;

    const BLOCK: u64 = 4096;

    /// A disk of 64 blocks; a file system at blocks 8 to 15, another one at 32 to 39.
    fn volumes() -> Vec<VolumeRecord> {
        let volume = |first: u64| VolumeRecord {
            mount: format!("at{first}"),
            start: ByteOffset(first * BLOCK),
            len: ByteLen(8 * BLOCK),
        };
        vec![volume(8), volume(32)]
    }

    fn watched(clock: &Arc<dyn Clock>) -> Watched {
        let map = Arc::new(ExtentMap::zero(BlockCount(64)));
        let base = Arc::new(MapDevice::new(map, Vec::new()).expect("base"));
        let dir: Arc<dyn Dir> = Arc::new(SimDir::new());
        let disk = SessionDevice::create(dir, base, SessionId([1; 16]), [2; 32]).expect("session");
        Watched::new(Arc::new(disk), &volumes(), clock)
    }

    #[test]
    fn it_lasts_whose_writes_to_its_file_systems_lie_far_apart() {
        let clock: Arc<dyn Clock> = Arc::new(Turned::default());
        let disk = watched(&clock);
        let write =
            |block: u64| disk.write_at(ByteOffset(block * BLOCK), &[1; 512]).expect("write");
        // The partition table, swap: what a firmware or an initramfs may write.
        write(0);
        clock.sleep(LASTING);
        write(20);
        assert!(!disk.lasts());

        write(8);
        clock.sleep(LASTING);
        assert!(!disk.lasts(), "one that hangs writes nothing");
        disk.flush().expect("flush");
        write(16);
        assert!(!disk.lasts(), "behind the first volume");
        disk.discard(ByteOffset(39 * BLOCK), ByteLen(BLOCK)).expect("discard");
        assert!(disk.lasts());
    }

    #[test]
    fn a_moment_is_not_enough() {
        let clock: Arc<dyn Clock> = Arc::new(Turned::default());
        let disk = watched(&clock);
        for _ in 0..LASTING.as_secs() {
            disk.write_zeroes(ByteOffset(15 * BLOCK), ByteLen(BLOCK)).expect("write");
            assert!(!disk.lasts());
            clock.sleep(Duration::from_secs(1));
        }
        disk.write_zeroes(ByteOffset(7 * BLOCK), ByteLen(2 * BLOCK)).expect("write");
        assert!(disk.lasts(), "across the beginning of a volume");
    }
}
