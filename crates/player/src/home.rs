//! Where everything is on this machine.
//!
//! ```text
//!   HOME/images/NAME/…              golden images (crate `image`)
//!   HOME/public/                    store of what is shared: apps layers
//!   HOME/layers/NAME/layer.json     apps layers: their versions
//!   HOME/livepcs/NAME/livepc.json   LivePCs, with rules.toml beside it
//!   HOME/cache.json                 how much may be here of what could be brought again
//!   HOME/enrolment.json             how this machine is known to a control server
//!   HOME/agent.json, agent.lock, agent.sock    the agent's settings, and the door to it
//!   HOME/desktops/NAME/
//!     record.json                   the root record
//!     lock                          held while a session or a command works on the desktop
//!     private/                      store of the desktop's own layers
//!     composed/KEY/{map,metadata,facts}    composed disks: caches
//!     sessions/N/{index,data}       session logs
//!     run/                          sockets while a session runs
//! ```

use std::io;
use std::path::Path;
use std::sync::Arc;

use goldleaf_fetch::{Account, Options, Rate};
use goldleaf_host::{
    Clock, Dir, Entropy, RealClock, RealDir, RealEntropy, planted, read_file, replace_file,
};
use goldleaf_image::Images;
use goldleaf_store::Store;
use goldleaf_worker::Launcher;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::PlayerError;
use crate::enrolment::{Director, OverTls};
use crate::jobs::{Jobs, Workers};
use crate::machine::{Hypervisor, QemuOverNbd};

/// Longest record that is read, in bytes.
const RECORD_LIMIT: u64 = 64 << 20;

/// One Goldleaf home and the machine it is on.
#[derive(Clone)]
pub struct Home {
    /// The directory.
    pub dir: Arc<dyn Dir>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Starts workers.
    pub launcher: Launcher,
    /// Works on guests' bytes.
    pub jobs: Arc<dyn Jobs>,
    /// Runs guests.
    pub hypervisor: Arc<dyn Hypervisor>,
    /// The control server, if this machine is enrolled at one.
    pub director: Arc<dyn Director>,
    /// How buckets are reached.
    pub account: Account,
    /// What all that is brought shares, where that is limited.
    pub rate: Option<Arc<Rate>>,
    /// A place that has what is brought, perhaps, and is asked before all others.
    pub nearest: Option<String>,
}

impl Home {
    /// Opens a home on the real machine, making it when it is missing.
    pub fn open(path: &Path, launcher: Launcher) -> Result<Self, PlayerError> {
        let what = || PlayerError::io(format!("opening {}", path.display()));
        Self::on(RealDir::create(path).map_err(what())?, launcher)
    }

    /// Opens the home that is in a directory.
    pub fn on(dir: Arc<dyn Dir>, launcher: Launcher) -> Result<Self, PlayerError> {
        // A process that was killed may have left names that are not durable yet.
        dir.sync().map_err(PlayerError::io("opening a home"))?;
        Ok(Self {
            dir,
            clock: Arc::new(RealClock::new()),
            entropy: Arc::new(RealEntropy),
            launcher,
            jobs: Arc::new(Workers),
            hypervisor: Arc::new(QemuOverNbd),
            director: Arc::new(OverTls),
            account: Account::default(),
            rate: None,
            nearest: None,
        })
    }

    /// The golden images as they are here; what has not arrived of them cannot be read.
    pub fn images_here(&self) -> Result<Images, PlayerError> {
        Ok(Images::new(self.sub("images")?))
    }

    /// The golden images.
    pub fn images(&self) -> Result<Images, PlayerError> {
        let home = self.clone();
        let suppliers = move |image: &str| crate::feeds::supplier(&home, image);
        Ok(self.images_here()?.supplied(Arc::new(suppliers)))
    }

    /// The store of what desktops share.
    pub fn public(&self) -> Result<Store, PlayerError> {
        Ok(Store::open(self.sub("public")?)?)
    }

    /// A subdirectory, made when it is missing.
    pub fn sub(&self, name: &str) -> Result<Arc<dyn Dir>, PlayerError> {
        let what = || PlayerError::io(format!("opening {name}"));
        match self.dir.dir(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let made = self.dir.create_dir(name).map_err(what())?;
                self.dir.sync().map_err(what())?;
                Ok(made)
            }
            other => other.map_err(what()),
        }
    }

    /// Makes durable what is about to be built upon: whoever put it on its shelf may have been
    /// killed before it was.
    pub fn settle(&self, shelf: &str, name: &str) -> Result<(), PlayerError> {
        if planted("what a killed process left is built upon") {
            return Ok(());
        }
        let what = || PlayerError::io(format!("syncing {shelf}/{name}"));
        let shelf = self.sub(shelf)?;
        shelf.dir(name).and_then(|dir| dir.sync()).map_err(what())?;
        shelf.sync().map_err(what())
    }

    /// How places that carry feeds are asked.
    pub fn fetch_options(&self) -> Options {
        let options = Options::new(self.clock.clone(), self.entropy.clone());
        Options { account: self.account.clone(), ..options }
    }

    /// Unix time in whole seconds.
    pub fn now_unix_secs(&self) -> u64 {
        self.clock.now_unix().as_secs()
    }
}

/// Reads a JSON record; `None` when there is none.
pub fn read_record<T: DeserializeOwned>(
    dir: &dyn Dir,
    name: &str,
) -> Result<Option<T>, PlayerError> {
    match read_file(dir, name, RECORD_LIMIT) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(PlayerError::io(format!("reading {name}"))(error)),
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| PlayerError::corrupt(name, error.to_string())),
    }
}

/// A move of durable state. No two moves of one kind have the same name.
pub fn step<T>(
    name: &'static str,
    take: impl FnOnce() -> Result<T, PlayerError>,
) -> Result<T, PlayerError> {
    goldleaf_host::step(name, |error| PlayerError::io(name)(error), take)
}

/// Writes a JSON record: the old one or the new one survives a crash.
pub fn write_record<T: Serialize>(
    dir: &dyn Dir,
    name: &str,
    record: &T,
) -> Result<(), PlayerError> {
    let bytes = serde_json::to_vec_pretty(record)
        .map_err(|error| PlayerError::corrupt(name, error.to_string()))?;
    replace_file(dir, name, &bytes).map_err(PlayerError::io(format!("writing {name}")))
}
