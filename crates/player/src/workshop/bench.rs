//! A bench: a directory of its own for one piece of work, gone when the work is done.
//!
//! ```text
//!   workshop/NAME.lock
//!   workshop/NAME/bench.json      what the work stands on, and what came of it; written when the
//!                                 session's log is there, and before what came of it is adopted
//!   workshop/NAME/session/        the session's log
//!   workshop/NAME/composed/       the composed disk of a recording
//!   workshop/NAME/run/            sockets
//! ```

use std::io;
use std::sync::Arc;

use goldleaf_block::{BlockError, ReadBlocks, SessionDevice, SessionId, WriteBlocks};
use goldleaf_host::{Dir, Lock, planted};
use goldleaf_image::ImageError;
use goldleaf_vm::{AfterReboot, SessionEnd};
use serde::{Deserialize, Serialize};

use crate::control::listen;
use crate::desktop::{Event, Listener, StartOptions, fresh_socket, hardware, probe, run_directory};
use crate::home::{read_record, step, write_record};
use crate::machine::{MachineNews, MachineSpec, Owner};
use crate::{Home, PlayerError};

/// Memory and processors of a workshop's machine.
const MEMORY_MIB: u32 = 2048;
const CPUS: u32 = 2;
const RECORD: &str = "bench.json";
const SESSION: &str = "session";
const SHELF: &str = "workshop";

/// What is said when work goes on.
const GOES_ON: &str =
    "the work that was cut off goes on where it was; `--discard-session` drops it";

/// `bench.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct BenchRecord {
    /// Format of this record.
    format: u32,
    /// The version of the image that the work stands on.
    image_version: u32,
    /// Digest of the version that came of it.
    made: Option<String>,
}

/// A bench, locked: nobody else works on it while this lives.
pub(crate) struct Bench {
    parent: Arc<dyn Dir>,
    name: String,
    /// Its directory.
    pub(crate) dir: Arc<dyn Dir>,
    record: Option<BenchRecord>,
    _lock: Box<dyn Lock>,
}

fn what() -> impl FnOnce(io::Error) -> PlayerError {
    PlayerError::io("using the workshop")
}

impl Bench {
    /// Opens a bench, with the work that was begun on it.
    pub(crate) fn open(
        home: &Home,
        name: &str,
        options: &StartOptions,
    ) -> Result<Self, PlayerError> {
        let parent = home.sub(SHELF)?;
        let lock = lock(&parent, name)?.ok_or_else(|| PlayerError::Busy {
            kind: SHELF,
            name: name.into(),
            detail: "another edit or recording of that name is under way".into(),
        })?;
        let record = match options.discard_session {
            true => None,
            false => unfinished(home, &parent, name)?,
        };
        if record.is_none() {
            clear(&parent, name)?;
        }
        let dir = parent.create_dir(name).map_err(what())?;
        Ok(Self { parent, name: name.into(), dir, record, _lock: lock })
    }

    /// The version of the image that work stands on that goes on.
    pub(super) fn image_version(&self) -> Option<u32> {
        self.record.as_ref().map(|record| record.image_version)
    }

    /// The disk of the work on a base: with what was begun on it, or else a new one.
    pub(super) fn session(
        &mut self,
        home: &Home,
        base: Arc<dyn ReadBlocks>,
        digest: [u8; 32],
        image_version: u32,
        listener: &dyn Listener,
    ) -> Result<Arc<SessionDevice>, PlayerError> {
        if self.record.is_some() {
            let dir = self.dir.dir(SESSION).map_err(what())?;
            let (device, _) = match SessionDevice::open(dir, base, &digest) {
                Err(BlockError::WrongBase { .. }) => return Err(moved_on()),
                other => other?,
            };
            listener.event(&Event::Note(GOES_ON.into()));
            return Ok(Arc::new(device));
        }
        let device = self.log(home, base, digest)?;
        let record = BenchRecord { format: 1, image_version, made: None };
        self.write("workshop.begin", record)?;
        Ok(device)
    }

    /// A new disk on a base. Until a record says what it is, it is a leftover.
    pub(super) fn log(
        &self,
        home: &Home,
        base: Arc<dyn ReadBlocks>,
        digest: [u8; 32],
    ) -> Result<Arc<SessionDevice>, PlayerError> {
        let mut id = [0; 16];
        home.entropy.fill(&mut id).map_err(PlayerError::io("drawing random numbers"))?;
        let dir = self.dir.create_dir(SESSION).map_err(what())?;
        let device = SessionDevice::create(dir, base, SessionId(id), digest)?;
        if !planted("a bench's session is not synced") {
            self.dir.sync().map_err(what())?;
        }
        self.parent.sync().map_err(what())?;
        Ok(Arc::new(device))
    }

    fn write(&mut self, name: &'static str, record: BenchRecord) -> Result<(), PlayerError> {
        step(name, || write_record(self.dir.as_ref(), RECORD, &record))?;
        self.record = Some(record);
        Ok(())
    }

    /// Boots a guest on the disk, until its session ends.
    pub(super) fn run(
        &self,
        home: &Home,
        device: &Arc<SessionDevice>,
        options: &StartOptions,
        listener: &dyn Listener,
    ) -> Result<SessionEnd, PlayerError> {
        let accel = match options.accel {
            Some(accel) => accel,
            None => probe(home, listener)?,
        };
        let (hardware, disk_serial) = hardware(home, &self.name, MEMORY_MIB, CPUS, options)?;
        let run_dir = run_directory(&self.dir)?;
        let after_reboot = AfterReboot::Restarts;
        let requests = listen(&fresh_socket(&run_dir)?)?;
        let spec = MachineSpec { hardware, disk_serial, accel, after_reboot, run: run_dir };
        let owner = &mut Author(listener);
        let end =
            home.hypervisor.run(device.clone(), &spec, home.clock.clone(), &requests, owner)?;
        device.flush()?;
        Ok(end)
    }

    /// Says which version comes of the work, before that is adopted.
    pub(super) fn made(&mut self, digest: String) -> Result<(), PlayerError> {
        match self.record.clone() {
            Some(record) => {
                self.write("workshop.made", BenchRecord { made: Some(digest), ..record })
            }
            None => Ok(()),
        }
    }

    /// The work is done, or there was none.
    pub(crate) fn clear(self) -> Result<(), PlayerError> {
        step("workshop.clear", || clear(&self.parent, &self.name))
    }
}

/// What is on a bench, if that can go on.
fn unfinished(
    home: &Home,
    workshop: &Arc<dyn Dir>,
    bench: &str,
) -> Result<Option<BenchRecord>, PlayerError> {
    let dir = match workshop.dir(bench) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(what())?,
    };
    let record: Option<BenchRecord> = read_record(dir.as_ref(), RECORD)?;
    Ok(match record {
        Some(record) if !is_adopted(home, bench, &record)? => Some(record),
        _ => None,
    })
}

/// Whether what came of the work is a version by now.
fn is_adopted(home: &Home, bench: &str, record: &BenchRecord) -> Result<bool, PlayerError> {
    let Some(made) = &record.made else { return Ok(false) };
    Ok(match bench.split_once('-') {
        Some(("image", name)) => match home.images()?.record(name) {
            Ok(image) => {
                home.settle("images", name)?;
                let versions = image.versions.iter();
                let mut later = versions.filter(|one| one.number > record.image_version);
                later.any(|version| version.digest == *made)
            }
            Err(ImageError::Unknown(_)) => false,
            Err(error) => return Err(error.into()),
        },
        Some(("layer", name)) => match crate::apps::get(home, name) {
            Ok(layer) => {
                home.settle("layers", name)?;
                layer.versions.iter().any(|one| one.digest.0.to_string() == *made)
            }
            Err(PlayerError::Unknown { .. }) => false,
            Err(error) => return Err(error),
        },
        _ => false,
    })
}

fn moved_on() -> PlayerError {
    let text = "what was begun there stands on something that has changed since; \
                `--discard-session` drops it and begins anew";
    PlayerError::Refused(text.into())
}

fn lock(workshop: &Arc<dyn Dir>, bench: &str) -> Result<Option<Box<dyn Lock>>, PlayerError> {
    workshop.try_lock(&format!("{bench}.lock")).map_err(what())
}

/// Clears a bench; the record goes first, for good: while it is there, work goes on.
fn clear(workshop: &Arc<dyn Dir>, bench: &str) -> Result<(), PlayerError> {
    let dir = match workshop.dir(bench) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(what())?,
    };
    match dir.remove(RECORD) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => {
            other.map_err(what())?;
            if !planted("a bench goes before its record") {
                dir.sync().map_err(what())?;
            }
        }
    }
    workshop.remove_dir_all(bench).map_err(what())
}

/// Versions of images that work stands on that was begun.
pub fn begun(home: &Home) -> Result<Vec<u32>, PlayerError> {
    let parent = home.sub(SHELF)?;
    let mut found = Vec::new();
    for item in parent.list().map_err(what())?.iter().filter(|item| item.is_dir) {
        let record = match parent.dir(&item.name) {
            // Done meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            dir => read_record::<BenchRecord>(dir.map_err(what())?.as_ref(), RECORD)?,
        };
        found.extend(record.map(|record| record.image_version));
    }
    Ok(found)
}

/// Whether anybody works on a bench.
pub fn is_busy(home: &Home) -> Result<bool, PlayerError> {
    let parent = home.sub(SHELF)?;
    for item in parent.list().map_err(what())?.iter().filter(|item| item.is_dir) {
        if lock(&parent, &item.name)?.is_none() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Benches without work that could go on, which crashes left: named, and cleared where `apply`.
pub fn leftovers(home: &Home, apply: bool) -> Result<Vec<String>, PlayerError> {
    let parent = home.sub(SHELF)?;
    let mut found = Vec::new();
    for item in parent.list().map_err(what())? {
        if !item.is_dir {
            continue;
        }
        // One that is worked on is locked.
        let Some(_lock) = lock(&parent, &item.name)? else { continue };
        if unfinished(home, &parent, &item.name)?.is_none() {
            if apply {
                step("collect.bench", || clear(&parent, &item.name))?;
            }
            found.push(item.name);
        }
    }
    Ok(found)
}

/// Tells what happens; a workshop's guest reboots by itself.
struct Author<'a>(&'a dyn Listener);

impl Owner for Author<'_> {
    fn news(&mut self, news: &MachineNews) {
        self.0.event(&Event::Machine(news.clone()));
    }

    fn tick(&mut self) {}

    fn next_disk(&mut self) -> Result<Arc<dyn WriteBlocks>, PlayerError> {
        Err(PlayerError::Refused("a workshop's guest keeps its disk over a reboot".into()))
    }

    fn changes(&mut self) -> Result<serde_json::Value, PlayerError> {
        Err(PlayerError::Refused("a workshop has no changes to show before it ends".into()))
    }
}
