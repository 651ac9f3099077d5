//! A storage in memory that forgets what was not synced, and fails where it is told to.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::{Arc, Mutex};

use goldleaf_host::{Dir, DirItem, File, Lock};

#[derive(Default, Clone)]
struct Content {
    live: Vec<u8>,
    durable: Vec<u8>,
}

#[derive(Clone)]
enum NameOp {
    Set(String, u64),
    Rename(String, String, u64),
    Remove(String),
}

impl NameOp {
    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            NameOp::Set(name, id) => drop(names.insert(name.clone(), *id)),
            NameOp::Rename(from, to, id) => {
                names.remove(from);
                names.insert(to.clone(), *id);
            }
            NameOp::Remove(name) => drop(names.remove(name)),
        }
    }
}

/// What the n-th changing operation does.
#[derive(Clone, Copy, PartialEq)]
pub enum Fault {
    None,
    /// It fails, and nothing was done.
    ErrorAt(u64),
    /// It and all after it fail: the machine is off.
    CrashAt(u64),
}

#[derive(Default)]
struct State {
    files: HashMap<u64, Content>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    pending: Vec<NameOp>,
    locks: HashSet<String>,
    next_id: u64,
    ops: u64,
}

pub struct SimDir {
    state: Arc<Mutex<State>>,
    fault: Fault,
    prefix: String,
}

impl SimDir {
    pub fn new(fault: Fault) -> Arc<Self> {
        Arc::new(Self { state: Arc::default(), fault, prefix: String::new() })
    }

    pub fn ops(&self) -> u64 {
        self.state.lock().unwrap().ops
    }

    /// What the next start finds: synced content and names, and a part of the rest.
    pub fn after_crash(&self, seed: u64, fault: Fault) -> Arc<Self> {
        let state = self.state.lock().unwrap();
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut names = state.durable_names.clone();
        for op in &state.pending {
            if random.next() % 2 == 0 {
                op.apply(&mut names);
            }
        }
        let mut files = HashMap::new();
        for (id, content) in &state.files {
            files.insert(*id, torn(content, &mut random));
        }
        let next = State {
            files,
            durable_names: names.clone(),
            names,
            next_id: state.next_id,
            ..State::default()
        };
        let state = Arc::new(Mutex::new(next));
        Arc::new(Self { state, fault, prefix: String::new() })
    }

    /// The same storage without faults, for another process.
    pub fn healthy(&self) -> Arc<Self> {
        self.with(Fault::None)
    }

    /// The same storage with that fault.
    pub fn with(&self, fault: Fault) -> Arc<Self> {
        let (state, prefix) = (self.state.clone(), self.prefix.clone());
        Arc::new(Self { state, fault, prefix })
    }

    fn change<T>(&self, act: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        change(&self.state, self.fault, act)
    }
}

fn change<T>(
    state: &Mutex<State>,
    fault: Fault,
    act: impl FnOnce(&mut State) -> io::Result<T>,
) -> io::Result<T> {
    let mut state = state.lock().unwrap();
    state.ops += 1;
    let failing = match fault {
        Fault::None => false,
        Fault::ErrorAt(at) => state.ops == at,
        Fault::CrashAt(at) => state.ops >= at,
    };
    if failing { Err(io::Error::from_raw_os_error(5)) } else { act(&mut state) }
}

/// Sectors that were not synced are there, or not, or zero; so is the length.
fn torn(content: &Content, random: &mut Random) -> Content {
    let mut bytes = content.durable.clone();
    if content.live != content.durable {
        if random.next() % 2 == 0 {
            bytes.resize(content.live.len(), 0);
        }
        for start in (0..bytes.len()).step_by(512) {
            let end = (start + 512).min(bytes.len());
            if random.next() % 2 == 0 && end <= content.live.len() {
                bytes[start..end].copy_from_slice(&content.live[start..end]);
            }
        }
    }
    Content { live: bytes.clone(), durable: bytes }
}

pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

struct SimFile {
    state: Arc<Mutex<State>>,
    fault: Fault,
    id: u64,
}

impl SimFile {
    fn change<T>(&self, act: impl FnOnce(&mut Content) -> T) -> io::Result<T> {
        change(&self.state, self.fault, |state| Ok(act(state.files.entry(self.id).or_default())))
    }
}

impl File for SimFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state.lock().unwrap().files[&self.id].live.len() as u64)
    }
    fn read_exact_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        let state = self.state.lock().unwrap();
        let bytes = &state.files[&self.id].live;
        let range = at as usize..at as usize + buf.len();
        let from = bytes.get(range).ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(from);
        Ok(())
    }
    fn write_all_at(&self, buf: &[u8], at: u64) -> io::Result<()> {
        self.change(|content| {
            let end = at as usize + buf.len();
            if content.live.len() < end {
                content.live.resize(end, 0);
            }
            content.live[at as usize..end].copy_from_slice(buf);
        })
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(|content| content.live.resize(len as usize, 0))
    }
    fn sync_data(&self) -> io::Result<()> {
        self.change(|content| content.durable = content.live.clone())
    }
    fn drop_cache(&self) -> io::Result<()> {
        Ok(())
    }

    fn punch_hole(&self, at: u64, len: u64) -> io::Result<()> {
        self.change(|content| content.live[at as usize..(at + len) as usize].fill(0))
    }
    fn allocated(&self) -> io::Result<u64> {
        self.len()
    }
    fn next_data(&self, from: u64) -> io::Result<Option<(u64, u64)>> {
        let len = self.len()?;
        Ok((from < len).then_some((from, len)))
    }
    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

struct SimLock {
    state: Arc<Mutex<State>>,
    name: String,
}

impl Lock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.state.lock().unwrap().locks.remove(&self.name);
    }
}

impl Dir for SimDir {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let id = *self.state.lock().unwrap().names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(SimFile { state: self.state.clone(), fault: self.fault, id }))
    }
    fn open_rw(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.open(name)
    }
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.change(|state| {
            if state.names.contains_key(name) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            state.next_id += 1;
            let id = state.next_id;
            state.files.insert(id, Content::default());
            state.names.insert(name.into(), id);
            state.pending.push(NameOp::Set(name.into(), id));
            Ok(())
        })?;
        self.open(name)
    }
    fn dir(&self, _: &str) -> io::Result<Arc<dyn Dir>> {
        Err(io::ErrorKind::NotFound.into())
    }
    /// Subdirectories hold locks only.
    fn create_dir(&self, name: &str) -> io::Result<Arc<dyn Dir>> {
        let prefix = format!("{name}/");
        Ok(Arc::new(SimDir { state: self.state.clone(), fault: self.fault, prefix }))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change(|state| {
            let id = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
            state.names.insert(to.into(), id);
            state.pending.push(NameOp::Rename(from.into(), to.into(), id));
            Ok(())
        })
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.change(|state| {
            state.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
            state.pending.push(NameOp::Remove(name.into()));
            Ok(())
        })
    }
    fn remove_dir_all(&self, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn list(&self) -> io::Result<Vec<DirItem>> {
        let state = self.state.lock().unwrap();
        let item = |name: &String| DirItem { name: name.clone(), is_dir: false };
        Ok(state.names.keys().map(item).collect())
    }
    fn sync(&self) -> io::Result<()> {
        self.change(|state| {
            state.durable_names = state.names.clone();
            state.pending.clear();
            Ok(())
        })
    }
    fn try_lock(&self, name: &str) -> io::Result<Option<Box<dyn Lock>>> {
        let name = format!("{}{name}", self.prefix);
        if !self.state.lock().unwrap().locks.insert(name.clone()) {
            return Ok(None);
        }
        Ok(Some(Box::new(SimLock { state: self.state.clone(), name })))
    }
    fn free_space(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }
    fn path(&self) -> Option<&Path> {
        None
    }
}
