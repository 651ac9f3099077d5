//! A directory whose files are never synced: for proofs that are about space, not about crashes,
//! and would spend their time waiting for the disk. What a file occupies does not depend on it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use goldleaf_host::{Dir, DirItem, File, Lock};

/// The directory.
pub struct HastyDir(pub Arc<dyn Dir>);

struct HastyFile(Arc<dyn File>);

fn hasty(file: Arc<dyn File>) -> Arc<dyn File> {
    Arc::new(HastyFile(file))
}

impl Dir for HastyDir {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.0.open(name).map(hasty)
    }
    fn open_rw(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.0.open_rw(name).map(hasty)
    }
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.0.create(name).map(hasty)
    }
    fn dir(&self, name: &str) -> io::Result<Arc<dyn Dir>> {
        Ok(Arc::new(Self(self.0.dir(name)?)))
    }
    fn create_dir(&self, name: &str) -> io::Result<Arc<dyn Dir>> {
        Ok(Arc::new(Self(self.0.create_dir(name)?)))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }
    fn remove_dir_all(&self, name: &str) -> io::Result<()> {
        self.0.remove_dir_all(name)
    }
    fn list(&self) -> io::Result<Vec<DirItem>> {
        self.0.list()
    }
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
    fn try_lock(&self, name: &str) -> io::Result<Option<Box<dyn Lock>>> {
        self.0.try_lock(name)
    }
    fn free_space(&self) -> io::Result<u64> {
        self.0.free_space()
    }
    fn path(&self) -> Option<&Path> {
        self.0.path()
    }
}

impl File for HastyFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn read_exact_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        self.0.read_exact_at(buf, at)
    }
    fn write_all_at(&self, buf: &[u8], at: u64) -> io::Result<()> {
        self.0.write_all_at(buf, at)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
    fn drop_cache(&self) -> io::Result<()> {
        Ok(())
    }
    fn punch_hole(&self, at: u64, len: u64) -> io::Result<()> {
        self.0.punch_hole(at, len)
    }
    fn allocated(&self) -> io::Result<u64> {
        self.0.allocated()
    }
    fn next_data(&self, from: u64) -> io::Result<Option<(u64, u64)>> {
        self.0.next_data(from)
    }
    fn lend(&self) -> io::Result<Option<OwnedFd>> {
        self.0.lend()
    }
}
