//! A simulated storage that can lose power between any two operations, also while other threads
//! work on it: every operation passes one gate, and so does the cut.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use goldleaf_host::sim::SimDir;
use goldleaf_host::{Dir, DirItem, File, Lock};

/// What has just been done to the storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// Something that a power cut may undo.
    Change,
    /// A sync of a file or directory.
    Sync,
}

/// Looks at the storage after each operation that matters, before the next one.
pub type Watch = Box<dyn FnMut(Done, &SimDir) + Send>;

/// The way to a storage.
pub struct Gate {
    sim: SimDir,
    watch: Mutex<Option<Watch>>,
}

impl Gate {
    /// A way to `sim`.
    pub fn new(sim: SimDir) -> Arc<Self> {
        Arc::new(Self { sim, watch: Mutex::new(None) })
    }

    /// Sets who looks at each operation from now on.
    pub fn watch(&self, watch: Option<Watch>) {
        *self.lock() = watch;
    }

    /// The storage as a directory.
    pub fn dir(self: &Arc<Self>) -> Arc<dyn Dir> {
        Arc::new(GateDir { gate: Arc::clone(self), inner: Arc::new(self.sim.clone()) })
    }

    /// What a power cut at this moment leaves.
    pub fn crash(&self, seed: u64) -> SimDir {
        let _gate = self.lock();
        self.sim.crash(seed)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Watch>> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pass<T>(&self, done: Done, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let mut watch = self.lock();
        let outcome = act();
        if let Some(watch) = watch.as_mut() {
            watch(done, &self.sim);
        }
        outcome
    }
}

struct GateDir {
    gate: Arc<Gate>,
    inner: Arc<dyn Dir>,
}

impl GateDir {
    fn file(&self, inner: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(GateFile { gate: Arc::clone(&self.gate), inner })
    }

    fn below(&self, inner: Arc<dyn Dir>) -> Arc<dyn Dir> {
        Arc::new(GateDir { gate: Arc::clone(&self.gate), inner })
    }

    fn change<T>(&self, act: impl FnOnce(&dyn Dir) -> io::Result<T>) -> io::Result<T> {
        self.gate.pass(Done::Change, || act(self.inner.as_ref()))
    }
}

impl Dir for GateDir {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.inner.open(name).map(|file| self.file(file))
    }

    fn open_rw(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.inner.open_rw(name).map(|file| self.file(file))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.change(|dir| dir.create(name)).map(|file| self.file(file))
    }

    fn dir(&self, name: &str) -> io::Result<Arc<dyn Dir>> {
        self.inner.dir(name).map(|dir| self.below(dir))
    }

    fn create_dir(&self, name: &str) -> io::Result<Arc<dyn Dir>> {
        self.change(|dir| dir.create_dir(name)).map(|dir| self.below(dir))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change(|dir| dir.rename(from, to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.change(|dir| dir.remove(name))
    }

    fn remove_dir_all(&self, name: &str) -> io::Result<()> {
        self.change(|dir| dir.remove_dir_all(name))
    }

    fn list(&self) -> io::Result<Vec<DirItem>> {
        self.inner.list()
    }

    fn sync(&self) -> io::Result<()> {
        self.gate.pass(Done::Sync, || self.inner.sync())
    }

    fn try_lock(&self, name: &str) -> io::Result<Option<Box<dyn Lock>>> {
        self.inner.try_lock(name)
    }

    fn free_space(&self) -> io::Result<u64> {
        self.inner.free_space()
    }

    fn path(&self) -> Option<&Path> {
        None
    }
}

struct GateFile {
    gate: Arc<Gate>,
    inner: Arc<dyn File>,
}

impl File for GateFile {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read_exact_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        self.inner.read_exact_at(buf, at)
    }

    fn write_all_at(&self, buf: &[u8], at: u64) -> io::Result<()> {
        self.gate.pass(Done::Change, || self.inner.write_all_at(buf, at))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.gate.pass(Done::Change, || self.inner.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.gate.pass(Done::Sync, || self.inner.sync_data())
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.inner.drop_cache()
    }

    fn punch_hole(&self, at: u64, len: u64) -> io::Result<()> {
        self.gate.pass(Done::Change, || self.inner.punch_hole(at, len))
    }

    fn allocated(&self) -> io::Result<u64> {
        self.inner.allocated()
    }

    fn next_data(&self, from: u64) -> io::Result<Option<(u64, u64)>> {
        self.inner.next_data(from)
    }

    fn lend(&self) -> io::Result<Option<OwnedFd>> {
        Ok(None)
    }
}
