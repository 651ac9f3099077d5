//! Mutated disks by the thousand: a jailed process that was handed the sound ones makes one after
//! the other in memory, and lets all readers, and where they let it through the composer, work on
//! it. It tells which it is about to try, so that the parent knows what it died of.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use goldleaf_block::{
    BlockError, BlockNo, BlockRange, ByteLen, ByteOffset, PartitionNumber, RangeKind, ReadBlocks,
    SourceIndex, grown_table,
};
use goldleaf_ext4::{Limits as Work, Volume, canonical, diff, diff_full, gate, validate};
use goldleaf_ext4_compose::{Composer, Content, Op, Options, PutNode};
use goldleaf_host::{File, file_from_fd};
use goldleaf_jail::{Cause, Limits};
use goldleaf_tree::{Attrs, GuestPath, NodeKind, Timestamp};
use goldleaf_worker::protocol::{DiskSpec, SealTask, Task};
use goldleaf_worker::{Channel, look};
use std::fs::File as HostFile;

use super::ground::Ground;
use super::judge::whole;
use super::layout::Disk;
use super::mutate::{BASES, Placed, base_of, mutate, places};
use crate::Result;

/// As a worker's, with room for the sound disks; the time is for a whole batch.
const LIMITS: Limits = Limits { memory_bytes: 768 << 20, cpu_secs: 120, file_bytes: 1 << 30 };
/// Disks that one process tries; its time for all of them is four times what one worker has.
const BATCH: u64 = 2_000;
const NOW: Timestamp = Timestamp { secs: 1_800_000_000, nanos: 0 };

/// What came of all mutations.
#[derive(Debug, Default)]
pub struct Tally {
    /// Disks that were tried.
    pub tried: u64,
    /// Disks of which the reader or the composer died, with its cause.
    pub deaths: Vec<(u64, Cause)>,
    /// Disks that the gate and the validation let through.
    pub sound: u64,
    /// The longest that one disk took, in milliseconds.
    pub slowest_ms: u64,
}

/// What a batch's process tells.
type Told = (u64, bool, u64);

/// Tries so many mutations from a first one on.
pub fn run(ground: &Ground, seed: u64, count: u64) -> Result<Tally> {
    let mut files = Vec::new();
    for base in bases(ground) {
        let mut file = tempfile::tempfile()?;
        io::Write::write_all(&mut file, &base.bytes)?;
        files.push(file);
    }
    files.push(tempfile::tempfile()?);
    let mut tally = Tally::default();
    let mut next = seed;
    let end = seed.saturating_add(count);
    while next < end {
        next = one_batch(&files, next, end.min(next + BATCH), &mut tally)?;
    }
    Ok(tally)
}

/// The sound disks, by their numbers.
pub fn bases(ground: &Ground) -> [&Disk; 6] {
    [&ground.clean, &ground.dirty, &ground.plain, &ground.plain_dirty, &ground.gpt, &ground.mbr]
}

/// Runs a process until it is through or dies; the seed to go on with.
fn one_batch(files: &[HostFile], from: u64, to: u64, tally: &mut Tally) -> Result<u64> {
    let fds: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
    let args = ["batch".into(), from.to_string().into(), to.to_string().into()];
    let program = std::env::current_exe()?;
    let mut jailed = goldleaf_jail::spawn(&program, &args, &fds, LIMITS)?;
    let socket = jailed.socket().ok_or("a process without a socket")?;
    let mut channel = Channel::new(OwnedFd::from(socket))?;
    let mut at = from;
    while let Ok((seed, sound, took_ms)) = channel.receive::<Told>() {
        at = seed;
        tally.sound += u64::from(sound);
        tally.slowest_ms = tally.slowest_ms.max(took_ms);
    }
    drop(channel);
    let ended = jailed.wait()?;
    if ended.status.success() {
        tally.tried += to - from;
        return Ok(to);
    }
    tally.tried += at + 1 - from;
    tally.deaths.push((at, ended.cause()));
    eprintln!("  seed {at} ({}): {}\n{}", BASES[base_of(at)], ended.cause(), ended.stderr.trim());
    Ok(at + 1)
}

/// What this program does when this group started it.
pub fn child(args: &[String]) -> Result<ExitCode> {
    let [from, to] = args else { return Err("batch: started by the group `hostile` only".into()) };
    let (from, to): (u64, u64) = (from.parse()?, to.parse()?);
    let socket = goldleaf_jail::inherited_socket();
    let output = socket.as_fd().try_clone_to_owned()?;
    let mut files: Vec<Arc<dyn File>> =
        goldleaf_jail::inherited(BASES.len() + 1).into_iter().map(file_from_fd).collect();
    goldleaf_jail::enter()?;
    let mut channel = Channel::from_halves(socket, output);
    let metadata = files.pop().ok_or("no file for metadata")?;
    let mut grounds = Vec::new();
    for (number, file) in files.iter().enumerate() {
        grounds.push(Base::new(file.as_ref(), number < 4)?);
    }
    let (mut sound, mut took_ms) = (false, 0);
    for seed in from..to {
        channel.send(&(seed, sound, took_ms))?;
        channel.flush()?;
        let began = Instant::now();
        sound = grounds[base_of(seed)].attempt(seed, &metadata);
        took_ms = began.elapsed().as_millis() as u64;
    }
    channel.send(&(to - 1, sound, took_ms))?;
    channel.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// A sound disk and what lies on it; mutated in place and healed again.
struct Base {
    disk: Shared,
    spots: Vec<Placed>,
    /// The volume as it is when it is sound, when the disk is one.
    before: Option<Volume>,
}

impl Base {
    fn new(file: &dyn File, is_volume: bool) -> Result<Self> {
        let mut bytes = vec![0; file.len()? as usize];
        file.read_exact_at(&mut bytes, 0)?;
        let sound = Shared::new(Disk::new(bytes.clone()));
        let disk = Disk::new(bytes);
        let spots = places(&disk);
        let before = if is_volume { Some(Volume::open_replayed(Arc::new(sound))?) } else { None };
        Ok(Self { disk: Shared::new(disk), spots, before })
    }

    /// Tries one mutation; whether validation let it through.
    fn attempt(&self, seed: u64, metadata: &Arc<dyn File>) -> bool {
        let write = || self.disk.0.write().unwrap_or_else(PoisonError::into_inner);
        mutate(&mut write(), &self.spots, seed);
        let dirty = write().touched();
        let sound = self.look(seed, &dirty, metadata);
        write().heal();
        sound
    }

    /// Every reader that meets a guest's bytes. Refusals are what is expected.
    fn look(&self, seed: u64, dirty: &[BlockRange], metadata: &Arc<dyn File>) -> bool {
        let device: Arc<dyn ReadBlocks> = Arc::new(self.disk.clone());
        let imported = self.import().unwrap_or(false);
        let Some(before) = &self.before else {
            let longer = ByteLen(device.len().0 + (8 << 20));
            for partition in [1, 2, 5] {
                let _ = grown_table(&device, longer, PartitionNumber(partition));
            }
            return imported;
        };
        let after = Volume::open_replayed(device.clone());
        if let Ok(after) = &after {
            let _ = diff(before, after, dirty);
            if seed % 8 == 0 {
                let _ = diff_full(before, after);
            }
        }
        // The composer works on what was validated, whether it was brought or comes of a replay.
        let Ok(after) = after else { return imported };
        let validated = validate(&after, Work::default()).is_ok() && canonical(&after).is_ok();
        if validated && gate(&after.replayed()).is_ok() {
            let _ = compose(after.replayed(), metadata);
        }
        imported || validated
    }

    fn import(&self) -> Result<bool> {
        let file: Arc<dyn File> = Arc::new(self.disk.clone());
        let map = whole(file.len()?)?;
        let spec = || DiskSpec { map: map.clone(), sources: vec![0] };
        let volumes = look(vec![file.clone()], &Task::Inspect(spec()))?;
        if volumes.is_empty() {
            return Ok(false);
        }
        look(vec![file], &Task::Seal(SealTask { disk: spec(), volumes }))?;
        Ok(true)
    }
}

/// Puts, replaces and removes in the directories that the mutations like.
fn compose(base: Arc<dyn ReadBlocks>, metadata: &Arc<dyn File>) -> Result<()> {
    let options = Options { now: NOW, zero_unused_inode_tables: true };
    let mut composer = Composer::open(base, metadata.clone(), BlockNo(0), SourceIndex(1), options)?;
    let put = |path: &str, kind, target: &[u8]| -> Result<Op> {
        let (mode, uid, gid, flags) = (0o755, 1000, 1000, 0);
        let attrs = Attrs { mode, uid, gid, mtime: NOW, ctime: NOW, crtime: NOW, flags };
        let (content, target) = (Content::Bytes(b"content".to_vec()), target.to_vec());
        let node = PutNode { kind, attrs, xattrs: Vec::new(), content, target, link: None };
        Ok(Op::Put { path: GuestPath::parse(path)?, node })
    };
    let remove = |path: &str| -> Result<Op> { Ok(Op::Remove { path: GuestPath::parse(path)? }) };
    for op in [
        put("etc/added", NodeKind::File, b"")?,
        put("etc/hostname", NodeKind::File, b"")?,
        remove("home/ada/a")?,
        put("home/ada/fresh", NodeKind::Directory, b"")?,
        put("home/ada/fresh/link", NodeKind::Symlink, b"text")?,
        remove("home/ada/many/a name of some length 0007")?,
        put("home/ada/many/zero", NodeKind::File, b"")?,
        put("home/ada/pieces", NodeKind::File, b"")?,
        remove("home/ada/text")?,
        remove("usr")?,
    ] {
        composer.apply(op)?;
    }
    composer.finish()?;
    Ok(())
}

/// A disk in memory that is read while nobody changes it.
#[derive(Clone)]
struct Shared(Arc<RwLock<Disk>>);

impl Shared {
    fn new(disk: Disk) -> Self {
        Self(Arc::new(RwLock::new(disk)))
    }

    fn copy(&self, at: u64, buf: &mut [u8]) -> io::Result<()> {
        let disk = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let end = at.checked_add(buf.len() as u64).filter(|end| *end <= disk.bytes.len() as u64);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(&disk.bytes[at as usize..end as usize]);
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.0.read().unwrap_or_else(PoisonError::into_inner).bytes.len() as u64
    }
}

impl ReadBlocks for Shared {
    fn len(&self) -> ByteLen {
        ByteLen(self.bytes())
    }

    fn read_at(&self, at: ByteOffset, buf: &mut [u8]) -> std::result::Result<(), BlockError> {
        let (len, size) = (ByteLen(buf.len() as u64), ByteLen(self.bytes()));
        self.copy(at.0, buf).map_err(|_| BlockError::OutOfRange { at, len, size })
    }

    fn status(
        &self,
        at: ByteOffset,
        limit: ByteLen,
    ) -> std::result::Result<(ByteLen, RangeKind), BlockError> {
        Ok((ByteLen(limit.0.min(self.bytes().saturating_sub(at.0))), RangeKind::Data))
    }
}

impl File for Shared {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes())
    }

    fn read_exact_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        self.copy(at, buf)
    }

    fn write_all_at(&self, _buf: &[u8], _at: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn set_len(&self, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn drop_cache(&self) -> io::Result<()> {
        Ok(())
    }

    fn punch_hole(&self, _at: u64, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn allocated(&self) -> io::Result<u64> {
        Ok(self.bytes())
    }

    fn next_data(&self, from: u64) -> io::Result<Option<(u64, u64)>> {
        Ok((from < self.bytes()).then(|| (from, self.bytes())))
    }

    fn lend(&self) -> io::Result<Option<OwnedFd>> {
        Ok(None)
    }
}
