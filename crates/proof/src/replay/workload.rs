//! Files made, replaced, renamed and removed, some of them synced, and the power cut meanwhile.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use goldleaf_host::sim::SimDir;

use super::bridge::Bridge;
use crate::Result;
use crate::dice::Dice;
use crate::nbd::gate::{Done, Watch};

/// Directories of synced files.
const DIRS: u64 = 4;
/// Length of a file, in bytes, at most.
const FILE_LEN_MAX: u64 = 150_000;
/// Synced files at one time.
const FILES_MAX: usize = 60;
/// Files that are never synced.
const CHURN: u64 = 20;
/// Cuts of one group: one at the end of a sync, the others behind it.
const GROUP: usize = 6;
/// Of so many operations behind a sync one is followed by a cut.
const CUT_ONE_IN: u64 = 6;
/// A group begins after so many operations at the latest, about.
const SYNC_ONE_IN: u64 = 500;
/// Steps after which a workload that did not reach its cuts has failed.
const STEPS_MAX: usize = 20_000;
/// Steps from one group of cuts to the next, at most.
const PAUSE_MAX: u64 = 40;

/// What a file may hold: ids of contents.
pub type Synced = BTreeMap<String, Vec<u64>>;

/// The session's files as a power cut left them, and what must be in the file system there.
pub struct Cut {
    /// The session.
    pub sim: SimDir,
    /// What was synced by then.
    pub synced: Synced,
    /// Which part of what was not synced is kept.
    pub seed: u64,
}

/// The content of an id.
pub fn content(id: u64) -> Vec<u8> {
    let mut dice = Dice::new(id, 77);
    let len = 1 + dice.below(FILE_LEN_MAX);
    dice.bytes(len as usize)
}

#[derive(Default)]
struct Shared {
    synced: Synced,
    cuts: Vec<Cut>,
    /// Cuts still to be taken of this group.
    due: usize,
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Works until `count` cuts are taken.
pub fn run(bridge: &Bridge, count: usize, dice: &mut Dice) -> Result<Vec<Cut>> {
    let shared = Arc::new(Mutex::new(Shared::default()));
    for number in 0..DIRS {
        fs::create_dir(bridge.mounted.join(format!("d{number}")))?;
    }
    fs::create_dir(bridge.mounted.join("churn"))?;
    sync_dir(&bridge.mounted)?;
    bridge.gate.watch(Some(watcher(&shared, dice.next())));
    let outcome = Workload { root: &bridge.mounted, shared: &shared, dice }.until(count);
    bridge.gate.watch(None);
    outcome?;
    let cuts = std::mem::take(&mut lock(&shared).cuts);
    Ok(cuts)
}

/// Takes the cuts. The list of what is synced is read behind the gate: what is in it by then was
/// synced before.
fn watcher(shared: &Arc<Mutex<Shared>>, seed: u64) -> Watch {
    let shared = Arc::clone(shared);
    let mut dice = Dice::new(seed, 6);
    Box::new(move |done: Done, sim: &SimDir| {
        let mut shared = lock(&shared);
        // A disk that syncs nothing loses power too.
        let ends_sync = done == Done::Sync || dice.one_in(SYNC_ONE_IN);
        let begins = shared.due == GROUP && ends_sync;
        let goes_on = (1..GROUP).contains(&shared.due) && dice.one_in(CUT_ONE_IN);
        if begins || goes_on {
            let seed = dice.next();
            let synced = shared.synced.clone();
            shared.cuts.push(Cut { sim: sim.crash(seed), synced, seed });
            shared.due -= 1;
        }
    })
}

fn sync_dir(path: &Path) -> Result<()> {
    Ok(File::open(path)?.sync_all()?)
}

struct Workload<'a> {
    root: &'a Path,
    shared: &'a Mutex<Shared>,
    dice: &'a mut Dice,
}

impl Workload<'_> {
    fn until(&mut self, count: usize) -> Result<()> {
        let mut pause = self.dice.below(PAUSE_MAX);
        for _ in 0..STEPS_MAX {
            let (taken, due) = {
                let shared = lock(self.shared);
                (shared.cuts.len(), shared.due)
            };
            if taken >= count {
                return Ok(());
            }
            if due == 0 && pause == 0 {
                pause = 1 + self.dice.below(PAUSE_MAX);
                lock(self.shared).due = GROUP;
            }
            pause = pause.saturating_sub(u64::from(due == 0));
            self.step()?;
        }
        Err("the workload came to its end before the last cut".into())
    }

    fn step(&mut self) -> Result<()> {
        match self.dice.below(10) {
            0..3 => self.create(),
            3..5 => self.replace(),
            5 => self.remove(),
            _ => self.churn(),
        }
    }

    /// A new file that stays as it is.
    fn create(&mut self) -> Result<()> {
        if lock(self.shared).synced.len() >= FILES_MAX {
            return self.remove();
        }
        let id = self.dice.next();
        let name = format!("d{}/f{id:x}", self.dice.below(DIRS));
        let path = self.root.join(&name);
        let mut file = File::create_new(&path)?;
        file.write_all(&content(id))?;
        file.sync_all()?;
        sync_dir(path.parent().unwrap_or(self.root))?;
        lock(self.shared).synced.insert(name, vec![id]);
        Ok(())
    }

    fn any_synced(&mut self) -> Option<String> {
        let shared = lock(self.shared);
        let count = shared.synced.len() as u64;
        (count > 0).then(|| shared.synced.keys().nth(self.dice.below(count) as usize).cloned())?
    }

    /// A new content by another file and a rename: the old or the new, nothing between.
    fn replace(&mut self) -> Result<()> {
        let Some(name) = self.any_synced() else { return self.create() };
        let id = self.dice.next();
        let (path, new) = (self.root.join(&name), self.root.join(format!("{name}.new")));
        let mut file = File::create(&new)?;
        file.write_all(&content(id))?;
        file.sync_all()?;
        lock(self.shared).synced.entry(name.clone()).or_default().push(id);
        fs::rename(&new, &path)?;
        sync_dir(path.parent().unwrap_or(self.root))?;
        lock(self.shared).synced.insert(name, vec![id]);
        Ok(())
    }

    fn remove(&mut self) -> Result<()> {
        let Some(name) = self.any_synced() else { return Ok(()) };
        lock(self.shared).synced.remove(&name);
        Ok(fs::remove_file(self.root.join(name))?)
    }

    /// Files that nobody syncs, so that there is always something half-way.
    fn churn(&mut self) -> Result<()> {
        let path = self.root.join(format!("churn/c{}", self.dice.below(CHURN)));
        match self.dice.below(8) {
            0 => match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
                _ => Ok(()),
            },
            1 if path.exists() => {
                let to = self.root.join(format!("churn/c{}", self.dice.below(CHURN)));
                Ok(fs::rename(&path, to)?)
            }
            _ => {
                let mut file =
                    OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
                if self.dice.one_in(4) {
                    file.set_len(self.dice.below(FILE_LEN_MAX))?;
                }
                file.seek(SeekFrom::Start(self.dice.below(FILE_LEN_MAX)))?;
                let len = self.dice.below(FILE_LEN_MAX / 4) as usize;
                Ok(file.write_all(&self.dice.bytes(len))?)
            }
        }
    }
}
