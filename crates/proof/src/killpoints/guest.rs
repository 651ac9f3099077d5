//! A guest without a machine: what it writes is made by debugfs, and goes to the disk that the
//! player serves as a guest's writes do. Everything else of a session is the product's own code.
//!
//! A guest has one piece of work for each session, the first of [`WORKS`] that its disk does not
//! show yet, in two parts with a flush after each. Which blocks that is, follows from the disk
//! alone and is remembered outside of it, as is what was flushed: so that a guest whose session
//! goes on after a crash knows what it must find.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use goldleaf_block::{BLOCK_SIZE, ByteOffset, WriteBlocks};
use goldleaf_host::{Clock, step};
use goldleaf_player::control::Pending;
use goldleaf_player::machine::{Hypervisor, MachineSpec, Owner};
use goldleaf_player::{Home, PlayerError, desktop};
use goldleaf_vm::SessionEnd;

use super::ground::{ROOT_START, SWAP_START, debugfs};
use crate::Result;

/// What a guest does with its disk, in debugfs' words: a file that shows that it is done, what is
/// done before the first flush, and what after it. `@` stands for a file with something in it.
pub type Work = (&'static str, &'static [&'static str], &'static [&'static str]);

/// Of a desktop's user.
pub const WORKS: [Work; 3] = [
    (
        "/home/ada/one",
        &["write @ /home/ada/one", "write @ /var/cache/goods", "rm /etc/motd"],
        &["write @ /usr/local/bin/tool", "write @ /etc/one.conf", "write @ /tmp/one"],
    ),
    (
        "/home/ada/two",
        &["write @ /home/ada/two", "rm /home/ada/text"],
        &["rm /usr/share/golden", "write @ /usr/share/golden", "rm /home/ada/a/b/c/deep"],
    ),
    ("/home/ada/three", &["write @ /home/ada/three"], &["write @ /var/cache/more"]),
];

/// Of somebody who leaves no trace: it is done anew in each session.
pub const IDLE: [Work; 1] = [("/tmp/idle", &["write @ /tmp/idle"], &["write @ /tmp/idler"])];

/// Of the author of an image.
pub const EDIT: [Work; 1] = [(
    "/usr/share/golden-two",
    &["rm /usr/share/golden", "write @ /usr/share/golden"],
    &["write @ /usr/share/golden-two"],
)];

/// Of the author of an apps layer.
pub const RECORDING: [Work; 1] =
    [("/usr/bin/recorded", &["write @ /usr/bin/recorded"], &["write @ /usr/share/recorded"])];

/// Where the kernel says that swap holds a system that sleeps (`kernel/power/swap.c`).
const SWAP_SIGNATURE: u64 = SWAP_START + 4086;

/// How a guest's life goes on after its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    PowerOff,
    Reboot,
    Panic,
    Vanish,
    /// Is still there after some minutes, and vanishes.
    Last,
    /// Sleeps on its disk.
    Sleep,
    /// Wakes from there and powers off.
    Wake,
}

/// The guest, as a hypervisor that has no machines.
pub struct Guest {
    /// The desktop that it is of, and its home; none for a workshop's guest.
    pub desktop: Option<(Home, &'static str)>,
    /// Where scripts are remembered: they are the same for all runs.
    pub scripts: PathBuf,
    /// Where it is remembered what was flushed.
    pub memory: PathBuf,
    /// What is to be done.
    pub works: &'static [Work],
    /// What it does, start by start and reboot by reboot.
    pub acts: Mutex<VecDeque<Act>>,
}

/// How long a guest lasts that lasts.
const MINUTES: Duration = Duration::from_secs(300);

/// A clock on which nobody waits: it is put on instead.
pub struct Hasty {
    clock: Arc<dyn Clock>,
    ahead: Mutex<Duration>,
}

impl Hasty {
    /// As another clock has it, to begin with.
    pub fn new(clock: &Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { clock: clock.clone(), ahead: Mutex::default() })
    }

    fn ahead(&self) -> MutexGuard<'_, Duration> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for Hasty {
    fn now_unix(&self) -> Duration {
        self.clock.now_unix() + *self.ahead()
    }

    fn monotonic(&self) -> Duration {
        self.clock.monotonic() + *self.ahead()
    }

    fn sleep(&self, duration: Duration) {
        *self.ahead() += duration;
    }
}

/// Blocks and what is written to them.
type Part = BTreeMap<u64, Vec<u8>>;

impl Hypervisor for Guest {
    fn run(
        &self,
        disk: Arc<dyn WriteBlocks>,
        _: &MachineSpec,
        clock: Arc<dyn Clock>,
        _: &Receiver<Pending>,
        owner: &mut dyn Owner,
    ) -> std::result::Result<SessionEnd, PlayerError> {
        let mut disk = disk;
        loop {
            mount(disk.as_ref())?;
            self.work(disk.as_ref())?;
            let act = self.acts.lock().map_err(|_| refused("a thread panicked"))?.pop_front();
            match act.unwrap_or(Act::PowerOff) {
                Act::PowerOff => return Ok(SessionEnd::GuestShutdown),
                Act::Reboot => disk = owner.next_disk()?,
                Act::Panic => return Ok(SessionEnd::GuestPanic),
                Act::Vanish | Act::Last => {
                    if act == Some(Act::Last) {
                        clock.sleep(MINUTES);
                        mount(disk.as_ref())?;
                        owner.tick();
                    }
                    let (status, stderr) = ("gone".into(), String::new());
                    return Ok(SessionEnd::Died { status, stderr });
                }
                Act::Sleep => {
                    disk.write_at(ByteOffset(SWAP_SIGNATURE), b"S1SUSPEND\0")?;
                    return Ok(SessionEnd::GuestShutdown);
                }
                Act::Wake => {
                    disk.write_at(ByteOffset(SWAP_SIGNATURE), b"SWAPSPACE2")?;
                    return Ok(SessionEnd::GuestShutdown);
                }
            }
        }
    }
}

fn refused(error: impl ToString) -> PlayerError {
    PlayerError::Refused(error.to_string())
}

/// A kernel that mounts a volume writes its superblock, whatever it mounts it for; here it is the
/// same as before.
fn mount(disk: &dyn WriteBlocks) -> std::result::Result<(), PlayerError> {
    let mut block = vec![0; BLOCK_SIZE as usize];
    disk.read_at(ByteOffset(ROOT_START), &mut block)?;
    Ok(disk.write_at(ByteOffset(ROOT_START), &block)?)
}

impl Guest {
    /// Which script this session's is.
    fn key(&self) -> std::result::Result<String, PlayerError> {
        let Some((home, name)) = &self.desktop else {
            return Ok(self.works[0].0.replace('/', "-"));
        };
        let session = desktop::peek(home, name)?.session;
        let composed = session.ok_or_else(|| refused("a guest without a session"))?.composed.0;
        // Others have this disk, too, and other work to do on it.
        Ok(if self.is_idle() { format!("{composed}-idle") } else { composed.to_string() })
    }

    fn is_idle(&self) -> bool {
        self.works.first().is_some_and(|work| work.0 == IDLE[0].0)
    }

    fn work(&self, disk: &dyn WriteBlocks) -> std::result::Result<(), PlayerError> {
        if self.desktop.is_none() && self.works.is_empty() {
            return Ok(());
        }
        let key = self.key()?;
        let parts = self.script(&key, disk).map_err(refused)?;
        self.remember(&key, &parts, disk)?;
        for ((part, number), name) in parts.iter().zip(1_u8..).zip(["guest.first", "guest.second"])
        {
            step(
                name,
                |error| PlayerError::io(name)(error),
                || {
                    for (block, bytes) in part {
                        disk.write_at(ByteOffset(block * BLOCK_SIZE), bytes)?;
                    }
                    disk.flush()?;
                    if part.is_empty() {
                        return Ok(());
                    }
                    let flushed = self.memory.join(format!("{key}.flushed"));
                    fs::write(flushed, [number]).map_err(PlayerError::io("remembering"))
                },
            )?;
        }
        Ok(())
    }

    /// What was flushed is there, unless what was written after it is.
    fn remember(
        &self,
        key: &str,
        parts: &[Part; 2],
        disk: &dyn WriteBlocks,
    ) -> std::result::Result<(), PlayerError> {
        let flushed = fs::read(self.memory.join(format!("{key}.flushed"))).unwrap_or_default();
        // What leaves no trace is nothing that the next session would have to find.
        let number = if self.is_idle() { 0 } else { flushed.first().copied().unwrap_or(0) };
        let mut found = vec![0; BLOCK_SIZE as usize];
        for (part, _) in parts.iter().zip(0..number) {
            for (block, bytes) in part {
                disk.read_at(ByteOffset(block * BLOCK_SIZE), &mut found)?;
                if found != *bytes && parts[1].get(block) != Some(&found) {
                    return Err(refused(format!("LOST: block {block} was flushed and is gone")));
                }
            }
        }
        Ok(())
    }

    fn script(&self, key: &str, disk: &dyn WriteBlocks) -> Result<[Part; 2]> {
        let path = self.scripts.join(key);
        if let Ok(bytes) = fs::read(&path) {
            return parse(&bytes);
        }
        if self.works.is_empty() {
            return Ok(Default::default());
        }
        let scratch = tempfile::tempdir_in(&self.scripts)?;
        let parts = self.make(disk, scratch.path())?;
        // Whole or not at all: others need it too, and this process is about to be killed.
        let whole = scratch.path().join("script");
        fs::write(&whole, serialise(&parts))?;
        fs::rename(whole, path)?;
        Ok(parts)
    }

    /// What the first work comes to that this disk does not show.
    fn make(&self, disk: &dyn WriteBlocks, scratch: &Path) -> Result<[Part; 2]> {
        let (image, goods) = (scratch.join("disk"), scratch.join("goods"));
        let mut parts = [Part::new(), Part::new()];
        let mut before = contents(disk)?;
        fs::write(&image, &before)?;
        let missing = self.works.iter().find(|work| !shows(&image, work.0).unwrap_or(true));
        let Some((shown, first, second)) = missing else { return Ok(parts) };
        fs::write(&goods, shown.repeat(1000))?;
        for (part, commands) in parts.iter_mut().zip([first, second]) {
            debugfs(&image, commands, &goods)?;
            let after = fs::read(&image)?;
            *part = difference(&before, &after);
            before = after;
        }
        Ok(parts)
    }
}

fn contents(disk: &dyn WriteBlocks) -> Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(disk.len().0)?];
    disk.read_at(ByteOffset(0), &mut bytes)?;
    Ok(bytes)
}

/// Whether a file is there.
fn shows(image: &Path, file: &str) -> Result<bool> {
    let device = format!("{}?offset={ROOT_START}", image.display());
    let said = crate::replay::tools::run("debugfs", &["-R", &format!("stat {file}"), &device])?;
    Ok(String::from_utf8_lossy(&said.stdout).contains("Inode:"))
}

fn difference(before: &[u8], after: &[u8]) -> Part {
    let block = BLOCK_SIZE as usize;
    let pairs = before.chunks(block).zip(after.chunks(block)).zip(0..);
    pairs.filter(|((old, new), _)| old != new).map(|((_, new), no)| (no, new.to_vec())).collect()
}

/// Each part as its number of blocks, and each block as its number and its content.
fn serialise(parts: &[Part; 2]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend((part.len() as u64).to_le_bytes());
        for (block, content) in part {
            bytes.extend(block.to_le_bytes());
            bytes.extend(content);
        }
    }
    bytes
}

fn parse(bytes: &[u8]) -> Result<[Part; 2]> {
    let mut rest = bytes;
    let mut take = |len: usize| -> Result<&[u8]> {
        let (head, tail) = rest.split_at_checked(len).ok_or("a script that ends too early")?;
        rest = tail;
        Ok(head)
    };
    let mut parts = [Part::new(), Part::new()];
    for part in &mut parts {
        for _ in 0..u64::from_le_bytes(take(8)?.try_into()?) {
            let block = u64::from_le_bytes(take(8)?.try_into()?);
            part.insert(block, take(BLOCK_SIZE as usize)?.to_vec());
        }
    }
    Ok(parts)
}
