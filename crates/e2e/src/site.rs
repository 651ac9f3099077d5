//! A home of the product's with an image, and desktops on it, each session of which is a story.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use goldleaf_block::ReadBlocks;
use goldleaf_host::RealClock;
use goldleaf_image::ImportOptions;
use goldleaf_player::desktop::{self, Event, FiledReport, Stack, StartOptions};
use goldleaf_player::livepc::{self, NewLivePc};
use goldleaf_player::{Home, PlayerError, workshop};
use goldleaf_vm::{Accel, QEMU_BINARY, SessionEnd};
use goldleaf_worker::Launcher;
use tempfile::TempDir;

use crate::console::Console;
use crate::disk::{DiskTree, check_volumes};
use crate::error::HarnessError;
use crate::guest::BOOT_TIMEOUT;
use crate::images::{self, ROOT_PASSWORD};
use crate::watcher::{Silent, Watcher};

/// The image and the LivePC of a site.
pub const IMAGE: &str = "golden";
/// How long composing and starting the hypervisor may take.
const START_TIMEOUT: Duration = Duration::from_secs(180);
/// Memory of a guest, in MiB.
const MEMORY_MIB: u32 = 512;

/// A home with an image. It goes when the test ends.
pub struct Site {
    /// The home.
    pub home: Home,
    /// Where it is.
    pub path: PathBuf,
    _dir: TempDir,
}

/// How a session went.
#[derive(Debug)]
pub struct Session {
    /// What was filed.
    pub filed: Option<FiledReport>,
    /// How the machine ended.
    pub end: SessionEnd,
    /// What was told.
    pub events: Vec<Event>,
}

impl Site {
    /// A home with the suite's image.
    pub fn new() -> Result<Self, HarnessError> {
        Self::with_disk(&images::kept(&images::recipe())?)
    }

    /// A home with an image of a raw disk.
    pub fn with_disk(disk: &Path) -> Result<Self, HarnessError> {
        let site = Self::empty()?;
        site.import(IMAGE, disk)?;
        Ok(site)
    }

    /// A home with nothing in it.
    pub fn empty() -> Result<Self, HarnessError> {
        // The name is short because paths of sockets are.
        let dir = tempfile::Builder::new().prefix("gl").tempdir()?;
        let path = dir.path().to_owned();
        let home = Home::open(&path, Launcher::new(program()?, vec!["worker".into()]))?;
        Ok(Self { home, path, _dir: dir })
    }

    /// Imports a raw disk.
    pub fn import(&self, name: &str, disk: &Path) -> Result<(), HarnessError> {
        let options = ImportOptions { name: name.into(), grow_to: None, cause: None };
        let (images, clock) = (self.home.images()?, self.home.clock.as_ref());
        let launcher = &self.home.launcher;
        goldleaf_image::import(&images, launcher, clock, disk, &options, &Silent)?;
        Ok(())
    }

    /// A desktop with apps layers, lowest first.
    pub fn desktop(&self, name: &str, layers: &[&str]) -> Result<Desktop, HarnessError> {
        let new = NewLivePc {
            name: name.into(),
            image: IMAGE.into(),
            layers: layers.iter().map(|&layer| layer.to_owned()).collect(),
            memory_mib: MEMORY_MIB,
            cpus: 2,
            rules: None,
        };
        livepc::create(&self.home, new)?;
        desktop::create(&self.home, name, name)?;
        Ok(Desktop::of(self, name))
    }

    /// Changes the image in the guest; gives the new version's number.
    pub fn edit_image(
        &self,
        story: impl FnOnce(&mut Console) -> Result<(), HarnessError>,
    ) -> Result<u32, HarnessError> {
        let run = self.path.join("workshop").join(format!("image-{IMAGE}")).join("run");
        let watcher = Watcher::new(&self.home, None);
        let work = || workshop::edit_image(&self.home, IMAGE, &options()?, &watcher);
        let edited = conduct(&watcher, &run, work, story)?;
        edited.version.ok_or_else(|| story_error(&watcher, format!("{edited:?}")))
    }

    /// Records an apps layer in the guest; gives its version's number.
    pub fn record_layer(
        &self,
        name: &str,
        story: impl FnOnce(&mut Console) -> Result<(), HarnessError>,
    ) -> Result<u32, HarnessError> {
        let run = self.path.join("workshop").join(format!("layer-{name}")).join("run");
        let watcher = Watcher::new(&self.home, None);
        let work = || workshop::record_layer(&self.home, name, IMAGE, &options()?, &watcher);
        let recorded = conduct(&watcher, &run, work, story)?;
        recorded.version.ok_or_else(|| story_error(&watcher, format!("{recorded:?}")))
    }
}

/// The product's program, of the same profile as the test's own.
pub fn program() -> Result<PathBuf, HarnessError> {
    let test = std::env::current_exe()?;
    let found = test.ancestors().map(|dir| dir.join("goldleaf")).find(|path| path.is_file());
    found.ok_or_else(|| HarnessError::Tool {
        program: "goldleaf",
        said: "it is not built; run `cargo build -p goldleaf` with the tests' profile".into(),
    })
}

/// How everything is started here. The probe's answer holds for the whole process.
fn options() -> Result<StartOptions, PlayerError> {
    static ACCEL: OnceLock<Accel> = OnceLock::new();
    let accel = match ACCEL.get() {
        Some(accel) => *accel,
        None => {
            let probe = goldleaf_vm::probe(QEMU_BINARY.as_ref(), &RealClock::new())?;
            *ACCEL.get_or_init(|| probe.accel())
        }
    };
    Ok(StartOptions { headless: true, accel: Some(accel), ..Default::default() })
}

fn story_error(watcher: &Watcher, what: String) -> HarnessError {
    HarnessError::Story { what, events: watcher.shown() }
}

/// Runs the product's part in a thread and the guest's part here. A story that fails, by an error
/// or by a panic, ends the machine, so that nothing is waited for in vain.
fn conduct<T: Send>(
    watcher: &Watcher,
    run: &Path,
    work: impl FnOnce() -> Result<T, PlayerError> + Send,
    story: impl FnOnce(&mut Console) -> Result<(), HarnessError>,
) -> Result<T, HarnessError> {
    thread::scope(|scope| {
        let product = scope.spawn(work);
        // It stays connected to the end: what was typed last is lost with the connection.
        let mut console = None;
        let told = catch_unwind(AssertUnwindSafe(|| {
            let start = Instant::now();
            while watcher.started(Duration::from_millis(100)).is_none() {
                if product.is_finished() || start.elapsed() > START_TIMEOUT {
                    return Err(story_error(watcher, "the machine did not start".into()));
                }
            }
            let console = console.insert(Console::connect(&run.join("serial.sock"))?);
            console.login("root", ROOT_PASSWORD, BOOT_TIMEOUT)?;
            eprintln!("booted in {:.1} s", start.elapsed().as_secs_f64());
            story(console)
        }));
        if !matches!(told, Ok(Ok(()))) {
            pull_the_plug(run);
        }
        let done = product.join().unwrap_or_else(|panic| resume_unwind(panic));
        let told = told.unwrap_or_else(|panic| resume_unwind(panic));
        // When both fail, the product's error is the cause more often than not.
        let done = done?;
        told?;
        watcher.trouble().map_or(Ok(done), |trouble| Err(story_error(watcher, trouble)))
    })
}

/// The door of a session may be gone already, with the session.
fn pull_the_plug(run: &Path) {
    use goldleaf_player::control::{Request, ask};
    let _ = ask(&run.join("control.sock"), &Request::Kill);
}

/// A desktop of a site.
pub struct Desktop {
    /// The home.
    pub home: Home,
    /// Its directory.
    pub path: PathBuf,
    /// Its name.
    pub name: String,
}

impl Desktop {
    /// A desktop that there is.
    pub fn of(site: &Site, name: &str) -> Self {
        let path = site.path.join("desktops").join(name);
        Self { home: site.home.clone(), path, name: name.into() }
    }

    /// A session in which everything goes as it should: boots, logs in, tells the story, powers
    /// off, and has e2fsck look at what the session left and at what the next one will find.
    pub fn session(
        &self,
        story: impl FnOnce(&mut Console) -> Result<(), HarnessError>,
    ) -> Result<Session, HarnessError> {
        let session = self.cut_session(|console, _| {
            story(console)?;
            console.send("systemctl poweroff")
        })?;
        if session.end != SessionEnd::GuestShutdown || session.filed.is_none() {
            let what = format!("ended by {:?}, filed {:?}", session.end, session.filed);
            let events = session.events.iter().map(|event| format!("  {event:?}\n")).collect();
            return Err(HarnessError::Story { what, events });
        }
        self.tree()?;
        Ok(session)
    }

    /// A session whose story ends it, in whatever way. It is told the hypervisor's process id.
    pub fn cut_session(
        &self,
        story: impl FnOnce(&mut Console, u32) -> Result<(), HarnessError>,
    ) -> Result<Session, HarnessError> {
        let watcher = Watcher::new(&self.home, Some(&self.name));
        let work = || desktop::start(&self.home, &self.name, &options()?, &watcher);
        let started = conduct(&watcher, &self.path.join("run"), work, |console| {
            story(console, watcher.started(START_TIMEOUT).unwrap_or_default())
        })?;
        Ok(Session { filed: started.filed, end: started.end, events: watcher.events() })
    }

    /// A session whose guest nobody listens to; how it ended.
    pub fn unheard_session(&self) -> Result<SessionEnd, HarnessError> {
        let watcher = Watcher::new(&self.home, Some(&self.name));
        Ok(desktop::start(&self.home, &self.name, &options()?, &watcher)?.end)
    }

    /// The disk that the next session will find, after e2fsck looked at it.
    pub fn tree(&self) -> Result<DiskTree, HarnessError> {
        let opened = desktop::Desktop::open(&self.home, &self.name)?;
        let stack = Stack::open(&self.home, &opened.dir, &opened.versions(&self.home)?)?;
        let (composed, _) = desktop::compose(&self.home, &opened.dir, &stack, &Silent)?;
        let disk: Arc<dyn ReadBlocks> = Arc::new(composed.device()?);
        let volumes = stack.volumes()?;
        check_volumes(&disk, &volumes)?;
        DiskTree::open(&disk, &volumes)
    }

    /// The number of the current version of a private layer.
    pub fn version(&self, layer: &str) -> Result<u64, HarnessError> {
        let lines = desktop::history(&self.home, &self.name)?;
        let current = lines.iter().find(|line| line.layer == layer && line.current);
        Ok(current.map_or(0, |line| line.version))
    }
}
