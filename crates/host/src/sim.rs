//! A directory in memory that forgets what was not synced.
//!
//! Each file has its durable content and the operations since the last sync; each directory its
//! durable names and the changes since. [`SimDir::crash`] keeps a random part of what is pending:
//! written data by sectors of 512 bytes, so a write may tear; lengths one by one; names one by one,
//! a rename as a whole. Contents read as the live system sees them meanwhile.
//!
//! Errors come by count: [`SimDir::fail_after`] for one operation, [`SimDir::stop_after`] for all
//! from one on (the machine is about to lose power). A failed operation does nothing; a failed sync
//! forgets what was pending for ever, as a kernel that marks the pages clean does.
//!
//! A hole is any aligned 4 KiB of zeroes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{Dir, DirItem, File, Lock};

/// What a disk writes as a whole, in bytes.
const SECTOR: usize = 512;
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
    /// The operation to fail, with what, and whether all behind it fail too.
    plan: Option<(u64, io::ErrorKind, bool)>,
}

#[derive(Clone)]
enum Node {
    File(Arc<Mutex<FileNode>>),
    Dir(Arc<Mutex<DirNode>>),
}

#[derive(Default)]
struct DirNode {
    durable: BTreeMap<String, Node>,
    pending: Vec<NameChange>,
    current: BTreeMap<String, Node>,
    locks: BTreeSet<String>,
}

#[derive(Clone)]
enum NameChange {
    Add(String, Node),
    Remove(String),
    Rename(String, String, Node),
}

#[derive(Default)]
struct FileNode {
    durable: Vec<u8>,
    pending: Vec<ContentChange>,
    current: Vec<u8>,
}

enum ContentChange {
    Write(usize, Vec<u8>),
    SetLen(usize),
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
        self.plan(after, kind, false);
    }

    /// Makes all operations fail from the one on that comes `after` further ones.
    pub fn stop_after(&self, after: u64, kind: io::ErrorKind) {
        self.plan(after, kind, true);
    }

    /// The directory as it is found after a power cut at this moment. This one, and what was
    /// opened through it, lives on unchanged.
    pub fn crash(&self, seed: u64) -> SimDir {
        let mut dice = Dice::new(seed);
        SimDir { storage: Arc::default(), node: crash_dir(&self.node, &mut dice) }
    }

    fn plan(&self, after: u64, kind: io::ErrorKind, forever: bool) {
        let mut faults = lock(&self.storage.faults);
        faults.plan = Some((faults.operations + after, kind, forever));
    }

    fn file(&self, node: Arc<Mutex<FileNode>>, writable: bool) -> Arc<dyn File> {
        Arc::new(SimFile { storage: Arc::clone(&self.storage), node, writable })
    }

    fn existing(&self, name: &str, writable: bool) -> io::Result<Arc<dyn File>> {
        self.begin(name)?;
        match lock(&self.node).current.get(name) {
            Some(Node::File(file)) => Ok(self.file(Arc::clone(file), writable)),
            Some(Node::Dir(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn subdirectory(&self, node: &Arc<Mutex<DirNode>>) -> Arc<dyn Dir> {
        Arc::new(SimDir { storage: Arc::clone(&self.storage), node: Arc::clone(node) })
    }

    fn begin(&self, name: &str) -> io::Result<()> {
        crate::real::check_name(name)?;
        self.storage.count()
    }

    fn remove_if(&self, name: &str, is_dir: bool, wrong: io::ErrorKind) -> io::Result<()> {
        self.begin(name)?;
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
    fn count(&self) -> io::Result<()> {
        let mut faults = lock(&self.faults);
        let number = faults.operations;
        faults.operations += 1;
        match faults.plan {
            Some((at, kind, forever)) if number == at || (forever && number > at) => {
                Err(error_of(kind))
            }
            _ => Ok(()),
        }
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

impl DirNode {
    fn change(&mut self, change: NameChange) {
        apply_name(&mut self.current, &change);
        self.pending.push(change);
    }
}

fn apply_name(names: &mut BTreeMap<String, Node>, change: &NameChange) {
    match change {
        NameChange::Add(name, node) => drop(names.insert(name.clone(), node.clone())),
        NameChange::Remove(name) => drop(names.remove(name)),
        NameChange::Rename(from, to, node) => {
            names.remove(from);
            names.insert(to.clone(), node.clone());
        }
    }
}

fn crash_dir(dir: &Arc<Mutex<DirNode>>, dice: &mut Dice) -> Arc<Mutex<DirNode>> {
    let dir = lock(dir);
    let mut names = dir.durable.clone();
    let odds = dice.odds();
    dir.pending
        .iter()
        .filter(|_| dice.hits(odds))
        .for_each(|change| apply_name(&mut names, change));
    for node in names.values_mut() {
        *node = match node {
            Node::File(file) => Node::File(Arc::new(Mutex::new(lock(file).crash(dice)))),
            Node::Dir(dir) => Node::Dir(crash_dir(dir, dice)),
        };
    }
    let current = names.clone();
    Arc::new(Mutex::new(DirNode { durable: names, current, ..DirNode::default() }))
}

impl FileNode {
    fn change(&mut self, change: ContentChange) {
        apply_content(&mut self.current, &change);
        self.pending.push(change);
    }

    /// What is on the disk: sectors of each write kept or lost on their own, and any of the lengths
    /// that the file had since the last sync.
    fn crash(&self, dice: &mut Dice) -> FileNode {
        let mut content = self.durable.clone();
        let mut lens = vec![content.len()];
        let mut live = content.len();
        let odds = dice.odds();
        for change in &self.pending {
            match change {
                ContentChange::Write(at, bytes) => {
                    write_some_sectors(&mut content, *at, bytes, || dice.hits(odds));
                    live = live.max(at + bytes.len());
                }
                ContentChange::SetLen(len) => {
                    if dice.hits(odds) {
                        content.resize(*len, 0);
                    }
                    live = *len;
                }
            }
            lens.push(live);
        }
        let len = if dice.hits(odds) { live } else { lens[dice.below(lens.len())] };
        content.resize(len, 0);
        FileNode { durable: content.clone(), pending: Vec::new(), current: content }
    }
}

fn apply_content(content: &mut Vec<u8>, change: &ContentChange) {
    match change {
        ContentChange::Write(at, bytes) => write_some_sectors(content, *at, bytes, || true),
        ContentChange::SetLen(len) => content.resize(*len, 0),
    }
}

fn write_some_sectors(
    content: &mut Vec<u8>,
    at: usize,
    bytes: &[u8],
    mut keep: impl FnMut() -> bool,
) {
    let end = at + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    let mut start = at;
    while start < end {
        let next = ((start / SECTOR + 1) * SECTOR).min(end);
        if keep() {
            content[start..next].copy_from_slice(&bytes[start - at..next - at]);
        }
        start = next;
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
        self.begin(name)?;
        let mut node = lock(&self.node);
        if node.current.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = Arc::default();
        node.change(NameChange::Add(name.into(), Node::File(Arc::clone(&file))));
        Ok(self.file(file, true))
    }

    fn dir(&self, name: &str) -> io::Result<Arc<dyn Dir>> {
        self.begin(name)?;
        match lock(&self.node).current.get(name) {
            Some(Node::Dir(dir)) => Ok(self.subdirectory(dir)),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn create_dir(&self, name: &str) -> io::Result<Arc<dyn Dir>> {
        self.begin(name)?;
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
        self.begin(from)?;
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

    fn remove_dir_all(&self, name: &str) -> io::Result<()> {
        self.remove_if(name, true, io::ErrorKind::NotADirectory)
    }

    fn list(&self) -> io::Result<Vec<DirItem>> {
        self.storage.count()?;
        let node = lock(&self.node);
        let item = |(name, node): (&String, &Node)| DirItem {
            name: name.clone(),
            is_dir: matches!(node, Node::Dir(_)),
        };
        Ok(node.current.iter().map(item).collect())
    }

    fn sync(&self) -> io::Result<()> {
        let outcome = self.storage.count();
        let mut node = lock(&self.node);
        let pending = std::mem::take(&mut node.pending);
        outcome?;
        pending.iter().for_each(|change| apply_name(&mut node.durable, change));
        Ok(())
    }

    fn try_lock(&self, name: &str) -> io::Result<Option<Box<dyn Lock>>> {
        self.begin(name)?;
        if !lock(&self.node).locks.insert(name.into()) {
            return Ok(None);
        }
        Ok(Some(Box::new(SimLock { node: Arc::clone(&self.node), name: name.into() })))
    }

    fn free_space(&self) -> io::Result<u64> {
        self.storage.count().map(|()| FREE_SPACE)
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
    fn change(&self, change: ContentChange) -> io::Result<()> {
        if !self.writable {
            return Err(rustix::io::Errno::BADF.into());
        }
        self.storage.count()?;
        lock(&self.node).change(change);
        Ok(())
    }
}

impl File for SimFile {
    fn len(&self) -> io::Result<u64> {
        self.storage.count()?;
        Ok(lock(&self.node).current.len() as u64)
    }

    fn read_exact_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        self.storage.count()?;
        let node = lock(&self.node);
        let at = place(at)?;
        let end = at.checked_add(buf.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(node.current.get(at..end).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_all_at(&self, buf: &[u8], at: u64) -> io::Result<()> {
        self.change(ContentChange::Write(place(at)?, buf.to_vec()))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(ContentChange::SetLen(place(len)?))
    }

    fn sync_data(&self) -> io::Result<()> {
        let outcome = self.storage.count();
        let mut node = lock(&self.node);
        let pending = std::mem::take(&mut node.pending);
        outcome?;
        pending.iter().for_each(|change| apply_content(&mut node.durable, change));
        Ok(())
    }

    fn punch_hole(&self, at: u64, len: u64) -> io::Result<()> {
        let there = lock(&self.node).current.len();
        let at = place(at)?.min(there);
        let len = place(len)?.min(there - at);
        self.change(ContentChange::Write(at, vec![0; len]))
    }

    fn allocated(&self) -> io::Result<u64> {
        self.storage.count()?;
        let node = lock(&self.node);
        let pages = node.current.chunks(PAGE).filter(|page| !is_hole(page)).count();
        Ok((pages * PAGE) as u64)
    }

    fn next_data(&self, from: u64) -> io::Result<Option<(u64, u64)>> {
        self.storage.count()?;
        let node = lock(&self.node);
        let from = place(from)?;
        let pages = || node.current.chunks(PAGE).enumerate().skip(from / PAGE);
        let Some((first, _)) = pages().find(|(_, page)| !is_hole(page)) else { return Ok(None) };
        let end = pages().skip_while(|(i, _)| *i < first).find(|(_, page)| is_hole(page));
        let end = end.map_or(node.current.len(), |(i, _)| i * PAGE);
        Ok(Some(((first * PAGE).max(from) as u64, end as u64)).filter(|(start, end)| start < end))
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        None
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

/// Reproducible chance: SplitMix64 (Steele, Lea and Flood, 2014).
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// Chances out of 16, drawn anew for each file: all lost and all kept are worth seeing too.
    fn odds(&mut self) -> usize {
        [0, 1, 4, 8, 12, 15, 16][self.below(7)]
    }

    fn hits(&mut self, odds: usize) -> bool {
        self.below(16) < odds
    }
}

#[cfg(test)]
mod tests {
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
            assert!(bytes[512..1024].iter().all(|&b| b == bytes[512]), "a sector is whole");
            seen.insert((bytes[512], bytes[1024]));
        }
        assert_eq!(seen.len(), 4);
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
        assert!((0..50).all(|seed| content(&dir.crash(seed), "f").is_empty()));
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
