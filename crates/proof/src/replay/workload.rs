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
/// Steps at least, so that the log is worth doing again.
const STEPS_MIN: usize = 120;
/// Steps after which a workload that did not reach its cuts has failed.
const STEPS_MAX: usize = 20_000;
/// Steps from one group of cuts to the next, at most.
const PAUSE_MAX: u64 = 40;

/// What each file may hold: ids of contents.
pub type Synced = BTreeMap<String, Vec<u64>>;

/// A power cut while the file system works.
pub struct LiveCut {
    /// The session.
    pub sim: SimDir,
    /// Length of the log of writes at that moment, in bytes.
    pub position: u64,
    /// By which part of what was not synced is kept.
    pub seed: u64,
}

/// From a moment on, which is a length of the log of writes, a file holds one of some contents; or
/// nothing is known of it.
struct Moment {
    position: u64,
    name: String,
    ids: Vec<u64>,
}

/// What a workload did.
pub struct History {
    /// Power cuts meanwhile, in their order.
    pub cuts: Vec<LiveCut>,
    /// Length of the log of writes when it began, in bytes.
    pub begin: u64,
    moments: Vec<Moment>,
}

impl History {
    /// What must be there when the log of writes has a length.
    ///
    /// What is synced is noted behind the sync, whose flush is in the log by then; what is not to
    /// be relied on any more is noted before it begins, with nothing of it in the log yet.
    pub fn synced(&self, position: u64) -> Synced {
        let moments = self.moments.iter().take_while(|moment| moment.position <= position);
        let mut synced: Synced =
            moments.map(|moment| (moment.name.clone(), moment.ids.clone())).collect();
        synced.retain(|_, ids| !ids.is_empty());
        synced
    }
}

/// The content of an id.
pub fn content(id: u64) -> Vec<u8> {
    let mut dice = Dice::new(id, 77);
    let len = 1 + dice.below(FILE_LEN_MAX);
    dice.bytes(len as usize)
}

#[derive(Default)]
struct Shared {
    cuts: Vec<LiveCut>,
    /// Cuts still to be taken of this group.
    due: usize,
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Works until `count` cuts are taken and so many steps are done.
pub fn run(bridge: &Bridge, count: usize, dice: &mut Dice) -> Result<History> {
    let shared = Arc::new(Mutex::new(Shared::default()));
    for number in 0..DIRS {
        fs::create_dir(bridge.mounted.join(format!("d{number}")))?;
    }
    fs::create_dir(bridge.mounted.join("churn"))?;
    sync_dir(&bridge.mounted)?;
    let begin = file_len(&bridge.log)?;
    bridge.gate.watch(Some(watcher(&shared, &bridge.log, dice.next())));
    let mut workload = Workload {
        root: &bridge.mounted,
        log: &bridge.log,
        shared: &shared,
        synced: BTreeMap::new(),
        moments: Vec::new(),
        dice,
    };
    let outcome = workload.until(count);
    bridge.gate.watch(None);
    outcome?;
    let cuts = std::mem::take(&mut lock(&shared).cuts);
    Ok(History { cuts, begin, moments: workload.moments })
}

/// Length of a file, in bytes.
pub fn file_len(path: &Path) -> Result<u64> {
    Ok(fs::metadata(path)?.len())
}

/// Takes the cuts. The length of the log is read behind the gate: what is in it by then was done
/// before.
fn watcher(shared: &Arc<Mutex<Shared>>, log: &Path, seed: u64) -> Watch {
    let (shared, log) = (Arc::clone(shared), log.to_owned());
    let mut dice = Dice::new(seed, 6);
    Box::new(move |done: Done, sim: &SimDir| {
        let mut shared = lock(&shared);
        // A disk that syncs nothing loses power too.
        let ends_sync = done == Done::Sync || dice.one_in(SYNC_ONE_IN);
        let begins = shared.due == GROUP && ends_sync;
        let goes_on = (1..GROUP).contains(&shared.due) && dice.one_in(CUT_ONE_IN);
        let position = (begins || goes_on).then(|| file_len(&log).ok()).flatten();
        if let Some(position) = position {
            let seed = dice.next();
            shared.cuts.push(LiveCut { sim: sim.crash(seed), position, seed });
            shared.due -= 1;
        }
    })
}

fn sync_dir(path: &Path) -> Result<()> {
    Ok(File::open(path)?.sync_all()?)
}

struct Workload<'a> {
    root: &'a Path,
    log: &'a Path,
    shared: &'a Mutex<Shared>,
    /// What is known at the last of the moments.
    synced: Synced,
    moments: Vec<Moment>,
    dice: &'a mut Dice,
}

impl Workload<'_> {
    fn until(&mut self, count: usize) -> Result<()> {
        let mut pause = self.dice.below(PAUSE_MAX);
        for step in 0..STEPS_MAX {
            let (taken, due) = {
                let shared = lock(self.shared);
                (shared.cuts.len(), shared.due)
            };
            if taken >= count && step >= STEPS_MIN {
                return Ok(());
            }
            if due == 0 && pause == 0 && taken < count {
                pause = 1 + self.dice.below(PAUSE_MAX);
                lock(self.shared).due = GROUP;
            }
            pause = pause.saturating_sub(u64::from(due == 0));
            self.step()?;
        }
        Err("the workload came to its end before the last cut".into())
    }

    /// From now on a file holds one of some contents, or is not to be relied on.
    fn note(&mut self, name: &str, ids: Vec<u64>) -> Result<()> {
        let (position, name) = (file_len(self.log)?, name.to_owned());
        match ids.is_empty() {
            true => self.synced.remove(&name),
            false => self.synced.insert(name.clone(), ids.clone()),
        };
        self.moments.push(Moment { position, name, ids });
        Ok(())
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
        if self.synced.len() >= FILES_MAX {
            return self.remove();
        }
        let id = self.dice.next();
        let name = format!("d{}/f{id:x}", self.dice.below(DIRS));
        let path = self.root.join(&name);
        let mut file = File::create_new(&path)?;
        file.write_all(&content(id))?;
        file.sync_all()?;
        sync_dir(path.parent().unwrap_or(self.root))?;
        self.note(&name, vec![id])
    }

    fn any_synced(&mut self) -> Option<String> {
        let number = self.dice.index(self.synced.len());
        self.synced.keys().nth(number).cloned()
    }

    /// A new content by another file and a rename: the old or the new, nothing between.
    fn replace(&mut self) -> Result<()> {
        let Some(name) = self.any_synced() else { return self.create() };
        let id = self.dice.next();
        let (path, new) = (self.root.join(&name), self.root.join(format!("{name}.new")));
        let mut file = File::create(&new)?;
        file.write_all(&content(id))?;
        file.sync_all()?;
        let old = self.synced.get(&name).into_iter().flatten().copied();
        let either = old.chain([id]).collect();
        self.note(&name, either)?;
        fs::rename(&new, &path)?;
        sync_dir(path.parent().unwrap_or(self.root))?;
        self.note(&name, vec![id])
    }

    fn remove(&mut self) -> Result<()> {
        let Some(name) = self.any_synced() else { return Ok(()) };
        self.note(&name, Vec::new())?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_a_file_is_what_was_noted_last() {
        let note = |position, name: &str, ids: &[u64]| {
            let (name, ids) = (name.to_owned(), ids.to_vec());
            Moment { position, name, ids }
        };
        let moments = vec![
            note(10, "a", &[1]),
            note(10, "b", &[2]),
            note(20, "a", &[1, 3]),
            note(30, "a", &[3]),
            note(40, "a", &[]),
        ];
        let history = History { cuts: Vec::new(), begin: 0, moments };
        assert!(history.synced(9).is_empty());
        let at = |position| history.synced(position).get("a").cloned();
        assert_eq!(at(10), Some(vec![1]));
        assert_eq!((at(29), at(30), at(40)), (Some(vec![1, 3]), Some(vec![3]), None));
        assert_eq!(history.synced(50).len(), 1, "of b all is still known");
    }
}
