//! The chapters of a desktop's life. Each is what a person asks for, one command after the other,
//! and can be asked for again after a crash: what is done by then is not done twice.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use goldleaf_host::Silent;
use goldleaf_image::{ImageError, ImportOptions, import};
use goldleaf_player::desktop::{self, StartOptions};
use goldleaf_player::livepc::{self, NewLivePc};
use goldleaf_player::{Home, PlayerError, apps, bring, collect, images, repair, workshop};
use goldleaf_vm::Accel;
use goldleaf_worker::Launcher;

use super::ground::DESKTOP;
use super::guest::{Act, EDIT, Guest, RECORDING, WORKS, Work};
use crate::Result;
use crate::replay::tools::{self, text};

const IMAGE: &str = "golden";
const LIVEPC: &str = "office";
const LAYER: &str = "tools";
const RECORDED: &str = "recorded";

/// A chapter: its name, what the names of its steps that count begin with, and what happens in it.
pub type Chapter = (&'static str, &'static str, fn(&Stage) -> Result<()>);

/// All chapters, each on what the one before left.
pub const CHAPTERS: &[Chapter] = &[
    ("import", "", import_image),
    ("deliver", "", deliver),
    ("create", "", create),
    ("work", "", work),
    ("trouble", "", trouble),
    ("edit", "", edit),
    ("record", "", record),
    ("repair", "", repair_damage),
    ("upkeep", "", upkeep),
    ("machine", "machine.", machine),
    ("collect", "", collect_garbage),
    ("remove", "", remove),
];

/// Where a chapter plays.
pub struct Stage {
    /// The home.
    pub home: Home,
    /// What is imported and delivered, the guest's scripts among it. The same for all runs.
    pub goods: PathBuf,
    /// What this run's guest remembers.
    pub memory: PathBuf,
}

/// Opens a home whose workers are this program.
pub fn open_home(path: &Path) -> Result<Home> {
    let launcher = Launcher::new(std::env::current_exe()?, vec!["worker".into()]);
    Ok(Home::open(path, launcher)?)
}

fn headless() -> StartOptions {
    StartOptions { headless: true, accel: Some(Accel::Tcg), ..Default::default() }
}

impl Stage {
    /// The home with a guest in the place of machines.
    fn with_guest(&self, of_desktop: bool, works: &'static [Work], acts: &[Act]) -> Home {
        let guest = Guest {
            home: of_desktop.then(|| self.home.clone()),
            scripts: self.goods.join("scripts"),
            memory: self.memory.clone(),
            works,
            acts: Mutex::new(acts.iter().copied().collect()),
        };
        Home { hypervisor: Arc::new(guest), ..self.home.clone() }
    }

    fn start(&self, works: &'static [Work], acts: &[Act]) -> Result<()> {
        desktop::start(&self.with_guest(true, works, acts), DESKTOP, &headless(), &Silent)?;
        Ok(())
    }
}

fn import_image(stage: &Stage) -> Result<()> {
    let (images, home) = (stage.home.images()?, &stage.home);
    let clock = home.clock.as_ref();
    let bring = |name: &str, disk: &str| {
        let options = ImportOptions { name: name.into(), grow_to: None, cause: None };
        import(&images, &home.launcher, clock, &stage.goods.join(disk), &options, &Silent)
    };
    if images.record(IMAGE).is_err() {
        bring(IMAGE, "golden.raw")?;
    }
    match bring("junk", "junk.raw") {
        Err(ImageError::Refused { .. }) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => Err("junk was imported".into()),
    }
}

fn deliver(stage: &Stage) -> Result<()> {
    if apps::get(&stage.home, LAYER).is_err() {
        bring::add_layer(&stage.home, LAYER, IMAGE, &[stage.goods.join("tools")], &Silent)?;
    }
    if livepc::get(&stage.home, LIVEPC).is_ok() {
        return Ok(());
    }
    let new = NewLivePc {
        name: LIVEPC.into(),
        image: IMAGE.into(),
        layers: vec![LAYER.into()],
        memory_mib: 64,
        cpus: 1,
        rules: None,
    };
    livepc::create(&stage.home, new)?;
    Ok(())
}

fn create(stage: &Stage) -> Result<()> {
    if desktop::peek(&stage.home, DESKTOP).is_err() {
        desktop::create(&stage.home, DESKTOP, LIVEPC)?;
    }
    Ok(())
}

/// A session, a reboot, another session.
fn work(stage: &Stage) -> Result<()> {
    stage.start(&WORKS[..2], &[Act::Reboot, Act::PowerOff])
}

/// Panics until the session is filed, sleep and waking up, a plug that is pulled, a session that
/// is thrown away.
fn trouble(stage: &Stage) -> Result<()> {
    for act in [Act::Panic, Act::Panic, Act::PowerOff, Act::Sleep, Act::Wake, Act::Vanish] {
        stage.start(&WORKS, &[act])?;
    }
    let options = StartOptions { discard_session: true, ..headless() };
    desktop::start(&stage.with_guest(true, &WORKS, &[]), DESKTOP, &options, &Silent)?;
    Ok(())
}

fn edit(stage: &Stage) -> Result<()> {
    if stage.home.images()?.record(IMAGE)?.versions.len() == 1 {
        workshop::edit_image(&stage.with_guest(false, &EDIT, &[]), IMAGE, &headless(), &Silent)?;
    }
    stage.start(&WORKS, &[])
}

fn record(stage: &Stage) -> Result<()> {
    if apps::get(&stage.home, RECORDED).is_err() {
        let home = stage.with_guest(false, &RECORDING, &[]);
        workshop::record_layer(&home, RECORDED, IMAGE, &headless(), &Silent)?;
    }
    Ok(())
}

/// A file of the user's and a file of the image's go bad: what nobody has is salvaged first, and
/// healed when a copy of the home turns up.
fn repair_damage(stage: &Stage) -> Result<()> {
    let home = &stage.home;
    let path = home.dir.path().ok_or("a home without a path")?;
    let (backup, hurt) = (stage.memory.join("backup"), stage.memory.join("hurt"));
    if !hurt.exists() {
        tools::succeed("cp", &["-a", text(path)?, text(&backup)?])?;
        damage(&path.join("desktops").join(DESKTOP).join("private"), "/home/ada/three")?;
        damage(&path.join("images").join(IMAGE), "/usr/share/golden-two")?;
        fs::write(&hurt, "")?;
    }
    let salvage = repair::plan(home, &[], true, &Silent)?;
    repair::apply(home, &[], &salvage, &Silent)?;
    let sources = [repair::source(&backup)?];
    let plan = repair::plan(home, &sources, false, &Silent)?;
    Ok(repair::apply(home, &sources, &plan, &Silent)?)
}

/// Spoils a byte of a file's content, which says the file's name over and over, wherever it is.
fn damage(dir: &Path, name: &str) -> Result<()> {
    let pattern = name.repeat(2);
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let mut bytes = if path.is_file() { fs::read(&path)? } else { continue };
        let found = bytes.windows(pattern.len()).position(|part| part == pattern.as_bytes());
        if let Some(at) = found {
            bytes[at] ^= 1;
            return Ok(fs::write(path, bytes)?);
        }
    }
    Err(format!("no file in {} has the content of {name}", dir.display()).into())
}

fn upkeep(stage: &Stage) -> Result<()> {
    let home = &stage.home;
    if desktop::peek(home, DESKTOP)?.session.is_some() {
        // What a person is told to do first.
        stage.start(&[], &[])?;
    }
    desktop::rollback(home, DESKTOP, "os", 1, false)?;
    stage.start(&[], &[])?;
    desktop::rollback(home, DESKTOP, "os", 2, false)?;
    desktop::rollback(home, DESKTOP, "user-data", 1, false)?;
    desktop::reset(home, DESKTOP, &["/home/ada/one".into()], false)?;
    desktop::rejuvenate(home, DESKTOP, true, false)?;
    Ok(())
}

/// A real machine, whose guest is the boot code of the disk: it reboots once and powers off.
fn machine(stage: &Stage) -> Result<()> {
    desktop::start(&stage.home, DESKTOP, &headless(), &Silent)?;
    Ok(())
}

/// Garbage of every kind, and its collection.
fn collect_garbage(stage: &Stage) -> Result<()> {
    const SPARE: &str = "spare";
    let home = &stage.home;
    if apps::get(home, SPARE).is_err() {
        bring::add_layer(home, SPARE, IMAGE, &[stage.goods.join("spare")], &Silent)?;
    }
    apps::delete(home, SPARE)?;
    let path = home.dir.path().ok_or("a home without a path")?;
    fs::create_dir_all(path.join("desktops").join(DESKTOP).join("sessions/99"))?;
    fs::create_dir_all(path.join("images/unfinished"))?;
    fs::create_dir_all(path.join("workshop/bring-spare"))?;
    collect::apply(home)?;
    Ok(())
}

fn remove(stage: &Stage) -> Result<()> {
    let home = &stage.home;
    unless_gone(desktop::delete(home, DESKTOP))?;
    unless_gone(livepc::delete(home, LIVEPC))?;
    unless_gone(apps::delete(home, LAYER))?;
    unless_gone(images::delete(home, IMAGE).map(drop))?;
    collect::apply(home)?;
    Ok(())
}

/// Somebody who asks for a removal again hears that there is nothing to remove.
fn unless_gone(removed: std::result::Result<(), PlayerError>) -> Result<()> {
    match removed {
        Err(PlayerError::Unknown { .. } | PlayerError::Image(ImageError::Unknown(_))) => Ok(()),
        other => Ok(other?),
    }
}
