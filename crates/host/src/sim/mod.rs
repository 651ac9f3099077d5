//! A directory in memory that forgets what was not synced.
//!
//! Each file has its durable content and the operations since the last sync; each directory its
//! durable names and the changes since. A power cut ([`SimDir::crash`]) does to what is pending
//! what disks and file systems are known to do:
//!
//! ```text
//!   written data      by sectors of 512 bytes: lost, kept, or garbled; so a write tears, and of
//!                     two writes to one place the earlier may be what is there
//!   lengths           one by one: a file may have its new length before its data
//!   names             one by one, a rename as a whole, before or after the content
//! ```
//! A [`Fate`] decides: [`Chance`] by a seed, [`Exceptions`] for all the ways there are in turn.
//! Contents read as the live system sees them meanwhile.
//!
//! Errors come by count: [`SimDir::fail_after`] for one operation, [`SimDir::stop_after`] for all
//! from one on (the machine is about to lose power). A failed operation does nothing, except that
//! a write may be [cut short](SimDir::cut_short_after); a failed sync of a file forgets what was
//! pending for ever, reads it back all the same and succeeds the next time, as a kernel that marks
//! the pages clean does. (A failed sync of a directory forgets nothing: a journal that could not be
//! written stops its file system.) Media that go bad
//! at rest are [`SimDir::decay`].
//!
//! A hole is any aligned 4 KiB of zeroes.

mod fate;
mod nodes;
pub mod turns;

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{Dir, DirItem, File, Lock};

pub use fate::{Chance, Exceptions, Fate, SectorFate};
use nodes::{ContentChange, DirNode, FileNode, NameChange, Node};

/// The unit of holes, in bytes.
const PAGE: usize = 4096;
/// What the simulated disk offers, in bytes. Running out is simulated by [`SimDir::fail_after`].
const FREE_SPACE: u64 = 1 << 40;

/// A directory of a simulated storage. Clones are the same directory.
#[derive(Clone)]
pub struct SimDir {
    storage: Arc<Storage>,
    node: Arc<Mutex<DirNode>>,
}

/// What all directories and files of one storage share.
#[derive(Default)]
struct Storage {
    faults: Mutex<Faults>,
}

#[derive(Default)]
struct Faults {
    operations: u64,
    plan: Option<Plan>,
}

/// The operation to fail.
#[derive(Clone, Copy)]
struct Plan {
    at: u64,
    kind: io::ErrorKind,
    /// All behind it fail too.
    forever: bool,
    /// If it is a write, half of it is done.
    short: bool,
}

/// What went bad at rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decay {
    /// One bit is another.
    Flipped {
        /// Where, in bytes.
        at: usize,
    },
    /// A sector has the content of another one, as if a write had gone astray.
    Misdirected {
        /// Whose content it has, in bytes.
        from: usize,
        /// Where, in bytes.
        to: usize,
    },
    /// A sector reads as zeroes.
    Zeroed {
        /// Where, in bytes.
        at: usize,
    },
}

impl SimDir {
    /// An empty storage.
    #[allow(clippy::new_without_default, reason = "a storage is made, it does not just occur")]
    pub fn new() -> Self {
        Self { storage: Arc::default(), node: Arc::default() }
    }

    /// Operations so far, of the whole storage.
    pub fn operations(&self) -> u64 {
        lock(&self.storage.faults).operations
    }

    /// Makes the operation fail that comes `after` further ones, once.
    pub fn fail_after(&self, after: u64, kind: io::ErrorKind) {
        self.plan(after, Plan { at: 0, kind, forever: false, short: false });
    }

    /// As [`fail_after`](Self::fail_after), but of a write one half is done.
    pub fn cut_short_after(&self, after: u64, kind: io::ErrorKind) {
        self.plan(after, Plan { at: 0, kind, forever: false, short: true });
    }

    /// Makes all operations fail from the one on that comes `after` further ones.
    pub fn stop_after(&self, after: u64, kind: io::ErrorKind) {
        self.plan(after, Plan { at: 0, kind, forever: true, short: false });
    }

    /// Lets no operation fail any more that was planned to.
    pub fn heal(&self) {
        lock(&self.storage.faults).plan = None;
    }

    /// The directory as it is found after a power cut at this moment. This one, and what was
    /// opened through it, lives on unchanged.
    pub fn crash(&self, seed: u64) -> SimDir {
        self.crash_by(&mut Chance::new(seed))
    }

    /// As [`crash`](Self::crash); `fate` decides what becomes of each pending change.
    pub fn crash_by(&self, fate: &mut dyn Fate) -> SimDir {
        SimDir { storage: Arc::default(), node: nodes::crash_dir(&self.node, fate) }
    }

    /// Lets the medium below the file `name` go bad in one place; `None` when it has none.
    pub fn decay(&self, name: &str, seed: u64) -> Option<Decay> {
        match lock(&self.node).current.get(name) {
            Some(Node::File(file)) => lock(file).decay(&mut Chance::new(seed)),
            _ => None,
        }
    }

    fn plan(&self, after: u64, plan: Plan) {
        let mut faults = lock(&self.storage.faults);
        faults.plan = Some(Plan { at: faults.operations + after, ..plan });
    }

    fn file(&self, node: Arc<Mutex<FileNode>>, writable: bool) -> Arc<dyn File> {
        Arc::new(SimFile { storage: Arc::clone(&self.storage), node, writable })
    }

    fn existing(&self, name: &str, writable: bool) -> io::Result<Arc<dyn File>> {
        self.begin("open", name)?;
        match lock(&self.node).current.get(name) {
            Some(Node::File(file)) => Ok(self.file(Arc::clone(file), writable)),
            Some(Node::Dir(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn subdirectory(&self, node: &Arc<Mutex<DirNode>>) -> Arc<dyn Dir> {
        Arc::new(SimDir { storage: Arc::clone(&self.storage), node: Arc::clone(node) })
    }

    fn begin(&self, what: &'static str, name: &str) -> io::Result<()> {
        crate::real::check_name(name)?;
        self.storage.count(what)
    }

    fn remove_if(&self, name: &str, is_dir: bool, wrong: io::ErrorKind) -> io::Result<()> {
        self.begin("remove", name)?;
        let mut node = lock(&self.node);
        match node.current.get(name) {
            None => Err(io::ErrorKind::NotFound.into()),
            Some(found) if matches!(found, Node::Dir(_)) != is_dir => Err(wrong.into()),
            Some(_) => {
                node.change(NameChange::Remove(name.into()));
                Ok(())
            }
        }
    }
}

impl Storage {
    fn count(&self, what: &'static str) -> io::Result<()> {
        self.next_operation(what).map_or(Ok(()), |plan| Err(error_of(plan.kind)))
    }

    /// Counts an operation; the plan by which it fails, if it does.
    fn next_operation(&self, what: &'static str) -> Option<Plan> {
        turns::step(what);
        let mut faults = lock(&self.faults);
        let number = faults.operations;
        faults.operations += 1;
        faults.plan.filter(|plan| number == plan.at || (plan.forever && number > plan.at))
    }
}

/// The error as a system call would give it, with its number where there is one.
fn error_of(kind: io::ErrorKind) -> io::Error {
    match kind {
        io::ErrorKind::StorageFull => rustix::io::Errno::NOSPC.into(),
        io::ErrorKind::Other => rustix::io::Errno::IO.into(),
        kind => kind.into(),
    }
}

impl Dir for SimDir {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.existing(name, false)
    }

    fn open_rw(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.existing(name, true)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.begin("create", name)?;
        let mut node = lock(&self.node);
        if node.current.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = Arc::default();
        node.change(NameChange::Add(name.into(), Node::File(Arc::clone(&file))));
        Ok(self.file(file, true))
    }

    fn dir(&self, name: &str) -> io::Result<Arc<dyn Dir>> {
        self.begin("open", name)?;
        match lock(&self.node).current.get(name) {
            Some(Node::Dir(dir)) => Ok(self.subdirectory(dir)),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn create_dir(&self, name: &str) -> io::Result<Arc<dyn Dir>> {
        self.begin("create", name)?;
        let mut node = lock(&self.node);
        match node.current.get(name) {
            Some(Node::Dir(dir)) => return Ok(self.subdirectory(dir)),
            Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
            None => {}
        }
        let dir = Arc::default();
        node.change(NameChange::Add(name.into(), Node::Dir(Arc::clone(&dir))));
        Ok(self.subdirectory(&dir))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        crate::real::check_name(to)?;
        self.begin("rename", from)?;
        let mut node = lock(&self.node);
        let moved = node.current.get(from).cloned().ok_or(io::ErrorKind::NotFound)?;
        if from != to {
            node.change(NameChange::Rename(from.into(), to.into(), moved));
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.remove_if(name, false, io::ErrorKind::IsADirectory)
    }

    /// One name after the other, as a file system that knows no better.
    fn remove_dir_all(&self, name: &str) -> io::Result<()> {
        let inner = self.dir(name)?;
        for item in inner.list()? {
            let remove = if item.is_dir { Dir::remove_dir_all } else { Dir::remove };
            remove(inner.as_ref(), &item.name)?;
        }
        self.remove_if(name, true, io::ErrorKind::NotADirectory)
    }

    fn list(&self) -> io::Result<Vec<DirItem>> {
        self.storage.count("list")?;
        let node = lock(&self.node);
        let item = |(name, node): (&String, &Node)| DirItem {
            name: name.clone(),
            is_dir: matches!(node, Node::Dir(_)),
        };
        Ok(node.current.iter().map(item).collect())
    }

    fn sync(&self) -> io::Result<()> {
        self.storage.count("sync")?;
        let mut node = lock(&self.node);
        let pending = std::mem::take(&mut node.pending);
        pending.iter().for_each(|change| change.apply(&mut node.durable));
        Ok(())
    }

    fn try_lock(&self, name: &str) -> io::Result<Option<Box<dyn Lock>>> {
        self.begin("lock", name)?;
        if !lock(&self.node).locks.insert(name.into()) {
            return Ok(None);
        }
        Ok(Some(Box::new(SimLock { node: Arc::clone(&self.node), name: name.into() })))
    }

    fn free_space(&self) -> io::Result<u64> {
        self.storage.count("measure").map(|()| FREE_SPACE)
    }

    fn path(&self) -> Option<&Path> {
        None
    }
}

struct SimLock {
    node: Arc<Mutex<DirNode>>,
    name: String,
}

impl Lock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        lock(&self.node).locks.remove(&self.name);
    }
}

struct SimFile {
    storage: Arc<Storage>,
    node: Arc<Mutex<FileNode>>,
    writable: bool,
}

impl SimFile {
    fn change(&self, what: &'static str, change: ContentChange) -> io::Result<()> {
        if !self.writable {
            return Err(rustix::io::Errno::BADF.into());
        }
        let Some(plan) = self.storage.next_operation(what) else {
            lock(&self.node).change(change);
            return Ok(());
        };
        if let ContentChange::Write(at, mut bytes) = change
            && plan.short
        {
            bytes.truncate(bytes.len() / 2);
            lock(&self.node).change(ContentChange::Write(at, bytes));
        }
        Err(error_of(plan.kind))
    }
}

impl File for SimFile {
    fn len(&self) -> io::Result<u64> {
        self.storage.count("measure")?;
        Ok(lock(&self.node).current.len() as u64)
    }

    fn read_exact_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        self.storage.count("read")?;
        let node = lock(&self.node);
        let at = place(at)?;
        let end = at.checked_add(buf.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(node.current.get(at..end).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_all_at(&self, buf: &[u8], at: u64) -> io::Result<()> {
        self.change("write", ContentChange::Write(place(at)?, buf.to_vec()))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change("set-len", ContentChange::SetLen(place(len)?))
    }

    fn sync_data(&self) -> io::Result<()> {
        let outcome = self.storage.count("sync");
        let mut node = lock(&self.node);
        let pending = std::mem::take(&mut node.pending);
        outcome?;
        pending.iter().for_each(|change| change.apply(&mut node.durable));
        Ok(())
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.storage.count("drop-cache")?;
        lock(&self.node).drop_cache();
        Ok(())
    }

    fn punch_hole(&self, at: u64, len: u64) -> io::Result<()> {
        let there = lock(&self.node).current.len();
        let at = place(at)?.min(there);
        let len = place(len)?.min(there - at);
        self.change("punch", ContentChange::Write(at, vec![0; len]))
    }

    fn allocated(&self) -> io::Result<u64> {
        self.storage.count("measure")?;
        let node = lock(&self.node);
        let pages = node.current.chunks(PAGE).filter(|page| !is_hole(page)).count();
        Ok((pages * PAGE) as u64)
    }

    fn next_data(&self, from: u64) -> io::Result<Option<(u64, u64)>> {
        self.storage.count("measure")?;
        let node = lock(&self.node);
        let from = place(from)?;
        let pages = || node.current.chunks(PAGE).enumerate().skip(from / PAGE);
        let Some((first, _)) = pages().find(|(_, page)| !is_hole(page)) else { return Ok(None) };
        let end = pages().skip_while(|(i, _)| *i < first).find(|(_, page)| is_hole(page));
        let end = end.map_or(node.current.len(), |(i, _)| i * PAGE);
        Ok(Some(((first * PAGE).max(from) as u64, end as u64)).filter(|(start, end)| start < end))
    }

    fn lend(&self) -> io::Result<Option<OwnedFd>> {
        Ok(None)
    }
}

fn is_hole(page: &[u8]) -> bool {
    page.iter().all(|&byte| byte == 0)
}

fn place(at: u64) -> io::Result<usize> {
    usize::try_from(at).map_err(io::Error::other)
}

/// A thread that panicked in a test has nothing to hide from the others.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn content(dir: &SimDir, name: &str) -> Vec<u8> {
        crate::read_file(dir, name, 1 << 20).expect("file")
    }

    #[test]
    fn synced_bytes_stay_and_others_may_tear() {
        let dir = SimDir::new();
        let file = dir.create("f").expect("create");
        file.write_all_at(&[1; 4096], 0).expect("write");
        file.sync_data().expect("sync");
        dir.sync().expect("sync");
        file.write_all_at(&[2; 1024], 512).expect("write");
        let mut seen = BTreeSet::new();
        for seed in 0..200 {
            let bytes = content(&dir.crash(seed), "f");
            assert_eq!((bytes[0], bytes[511], bytes[1536]), (1, 1, 1));
            let sector = |at: usize| match &bytes[at..at + 512] {
                whole if whole.iter().all(|byte| *byte == whole[0]) => whole[0],
                _ => 0,
            };
            seen.insert((sector(512), sector(1024)));
        }
        let plain = seen.iter().filter(|pair| pair.0 * pair.1 > 0).count();
        assert!(plain == 4 && seen.len() > 4, "kept, lost and garbled, each alone: {seen:?}");
        assert_eq!(content(&dir, "f")[512], 2);
    }

    #[test]
    fn names_and_lengths_need_their_sync() {
        let dir = SimDir::new();
        let file = dir.create("f").expect("create");
        file.sync_data().expect("sync");
        let names = |seed| dir.crash(seed).list().expect("list").len();
        assert_eq!((0..50).map(names).collect::<BTreeSet<_>>(), BTreeSet::from([0, 1]));
        dir.sync().expect("sync");
        file.set_len(8192).expect("set_len");
        let lens: BTreeSet<_> = (0..50).map(|seed| content(&dir.crash(seed), "f").len()).collect();
        assert_eq!(lens, BTreeSet::from([0, 8192]));
    }

    #[test]
    fn a_replaced_file_is_old_or_new_at_every_operation() {
        let (mut old, mut new) = (0, 0);
        for stop in 0..20 {
            for seed in 0..20 {
                let dir = SimDir::new();
                crate::replace_file(&dir, "f", &[1; 2000]).expect("first");
                dir.stop_after(stop, io::ErrorKind::Other);
                let done = crate::replace_file(&dir, "f", &[2; 3000]).is_ok();
                let bytes = content(&dir.crash(seed), "f");
                assert!(bytes == [1; 2000] || bytes == [2; 3000], "stop {stop} seed {seed}");
                assert!(!done || bytes[0] == 2);
                old += u32::from(bytes[0] == 1);
                new += u32::from(bytes[0] == 2);
            }
        }
        assert!(old > 20 && new > 20);
    }

    #[test]
    fn a_failed_sync_never_makes_the_bytes_durable() {
        let dir = SimDir::new();
        let file = dir.create("f").expect("create");
        dir.sync().expect("sync");
        file.write_all_at(&[1; 512], 0).expect("write");
        dir.fail_after(0, io::ErrorKind::Other);
        assert!(file.sync_data().is_err());
        file.sync_data().expect("the error is reported once");
        assert_eq!(content(&dir, "f").len(), 512, "the cache has it");
        file.drop_cache().expect("drop");
        assert!(content(&dir, "f").is_empty());
        assert!((0..50).all(|seed| content(&dir.crash(seed), "f").is_empty()));
    }

    #[test]
    fn all_the_ways_of_a_power_cut_can_be_gone_through() {
        let dir = SimDir::new();
        let file = dir.create("f").expect("create");
        file.sync_data().expect("sync");
        dir.sync().expect("sync");
        file.write_all_at(&[1; 1024], 0).expect("write");
        let mut all = Exceptions::default();
        assert_eq!(content(&dir.crash_by(&mut all), "f"), [1; 1024]);
        assert_eq!(all.asked(), 3, "two sectors and a length");
        let first = content(&dir.crash_by(&mut Exceptions::new(false, vec![0])), "f");
        assert_eq!((first[0], first[512], first.len()), (0, 1, 1024));
        let length = content(&dir.crash_by(&mut Exceptions::new(true, vec![2])), "f");
        assert_eq!(length, [0; 1024], "the size before the data");
    }

    #[test]
    fn media_go_bad_in_one_place() {
        let mut kinds = BTreeSet::new();
        for seed in 0..50 {
            let dir = SimDir::new();
            let bytes: Vec<u8> = (0..4096).map(|at| (at / 512) as u8 + 1).collect();
            dir.create("f").expect("create").write_all_at(&bytes, 0).expect("write");
            dir.open("f").expect("open").sync_data().expect("sync");
            let decay = dir.decay("f", seed).expect("a place");
            let changed: Vec<usize> =
                (0..4096).filter(|&at| content(&dir, "f")[at] != bytes[at]).collect();
            match decay {
                Decay::Flipped { at } => assert_eq!(changed, [at]),
                Decay::Misdirected { from, to } => {
                    assert_eq!(changed.len(), if from == to { 0 } else { 512 });
                }
                Decay::Zeroed { at } => assert_eq!((changed[0], changed.len()), (at, 512)),
            }
            kinds.insert(
                std::mem::discriminant(&decay) == std::mem::discriminant(&Decay::Flipped { at: 0 }),
            );
        }
        assert_eq!(kinds.len(), 2);
    }

    #[test]
    fn a_write_may_be_cut_short() {
        let dir = SimDir::new();
        let file = dir.create("f").expect("create");
        dir.cut_short_after(0, io::ErrorKind::StorageFull);
        assert!(file.write_all_at(&[1; 100], 0).is_err());
        assert_eq!(content(&dir, "f"), [1; 50]);
    }

    #[test]
    fn errors_have_the_systems_number() {
        let dir = SimDir::new();
        dir.fail_after(1, io::ErrorKind::StorageFull);
        let file = dir.create("f").expect("the first is spared");
        let error = file.write_all_at(&[1], 0).expect_err("planned");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(error.raw_os_error(), Some(28));
        file.write_all_at(&[1], 0).expect("once");
    }

    #[test]
    fn locks_exclude_and_holes_show() {
        let dir = SimDir::new();
        let held = dir.try_lock("l").expect("lock").expect("free");
        assert!(dir.try_lock("l").expect("lock").is_none());
        drop(held);
        assert!(dir.try_lock("l").expect("lock").is_some());
        let file = dir.create("f").expect("create");
        file.write_all_at(&[1; 3 * PAGE], 0).expect("write");
        file.punch_hole(PAGE as u64, PAGE as u64).expect("punch");
        assert_eq!(file.allocated().expect("allocated"), 8192);
        assert_eq!(file.next_data(100).expect("seek"), Some((100, 4096)));
        assert_eq!(file.next_data(4096).expect("seek"), Some((8192, 12288)));
        assert_eq!(file.next_data(12288).expect("seek"), None);
    }
}
