//! The chapters of a desktop's life. Each is what a person asks for, one command after the other,
//! and can be asked for again after a crash: what is done by then is not done twice.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use goldleaf_api::Code;
use goldleaf_api::v1::AssignedLivePc;
use goldleaf_feed::{Location, names};
use goldleaf_fetch::Destination;
use goldleaf_host::{Dir, Silent};
use goldleaf_image::{ImageError, ImportOptions, import};
use goldleaf_player::desktop::{self, StartOptions};
use goldleaf_player::enrolment::{self, EnrolOptions, Follower};
use goldleaf_player::feeds::{
    self, Effort, ExportOptions, PublishOptions, SubscribeOptions, Subscription,
};
use goldleaf_player::livepc::trial::STARTS_MAX;
use goldleaf_player::livepc::{self, NewLivePc};
use goldleaf_player::workshop::{Rehearsal, Until};
use goldleaf_player::{
    Home, PlayerError, agent, apps, bring, cache, collect, images, repair, workshop,
};
use goldleaf_trust::{Authority, Line, Quorum, Repository, SigningKey};
use goldleaf_vm::Accel;
use goldleaf_worker::Launcher;

use super::director::StandIn;
use super::ground::DESKTOP;
use super::guest::{Act, EDIT, Guest, Hasty, IDLE, RECORDING, WORKS, Work};
use crate::Result;
use crate::replay::tools::{self, text};

const IMAGE: &str = "golden";
const LIVEPC: &str = "office";
const LAYER: &str = "tools";
const RECORDED: &str = "recorded";
/// What is followed.
const FOLLOWED: &str = "followed";
/// What a control server assigned.
const ASSIGNED: &str = "assigned";
/// Its desktop.
const TRIED: &str = "tried";

/// A chapter: its name, what the names of its steps that count begin with, and what happens in it.
pub type Chapter = (&'static str, &'static str, fn(&Stage) -> Result<()>);

/// All chapters, each on what the one before left.
pub const CHAPTERS: &[Chapter] = &[
    ("import", "", import_image),
    ("deliver", "", deliver),
    ("publish", "", publish),
    ("follow", "", follow),
    ("enrol", "enrolment.", enrol),
    ("export", "export.", export),
    ("create", "", create),
    ("work", "", work),
    ("trouble", "", trouble),
    ("edit", "", edit),
    ("publish again", "publish.", publish_again),
    ("follow again", "receive.", follow),
    ("give up", "livepc.", give_up),
    ("try again", "livepc.", try_again),
    ("record", "", record),
    ("repair", "", repair_damage),
    ("upkeep", "", upkeep),
    ("machine", "machine.", machine),
    ("collect", "", collect_garbage),
    ("leave", "subscription.", leave),
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
    fn with_guest(
        &self,
        desktop: Option<&'static str>,
        works: &'static [Work],
        acts: &[Act],
    ) -> Home {
        let guest = Guest {
            desktop: desktop.map(|name| (self.home.clone(), name)),
            scripts: self.goods.join("scripts"),
            memory: self.memory.clone(),
            works,
            acts: Mutex::new(acts.iter().copied().collect()),
        };
        let clock = Hasty::new(&self.home.clock);
        Home { hypervisor: Arc::new(guest), clock, ..self.home.clone() }
    }

    fn start(&self, works: &'static [Work], acts: &[Act]) -> Result<()> {
        self.start_one(DESKTOP, works, acts)
    }

    fn start_one(&self, name: &'static str, works: &'static [Work], acts: &[Act]) -> Result<()> {
        desktop::start(&self.with_guest(Some(name), works, acts), name, &headless(), &Silent)?;
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

/// The directory of the feed: in the home, so that the next chapter finds it.
fn carried(stage: &Stage) -> Result<Arc<dyn Dir>> {
    Ok(stage.home.dir.create_dir("carried")?)
}

fn publish(stage: &Stage) -> Result<()> {
    published(stage, 1)
}

/// The edited image, with a delta, and another version of the layer.
fn publish_again(stage: &Stage) -> Result<()> {
    if apps::get(&stage.home, LAYER)?.versions.len() == 1 {
        bring::add_layer(&stage.home, LAYER, IMAGE, &[stage.goods.join("newer")], &Silent)?;
    }
    published(stage, 2)
}

/// The LivePC is published as that version, by one person who holds all keys.
fn published(stage: &Stage, version: u64) -> Result<()> {
    let key = |number| SigningKey::from_seed(&[number; 32]);
    let (image, online) = (key(1), key(2));
    let dir = carried(stage)?;
    let mut metadata = dir.clone();
    for part in ["feeds", LIVEPC, "stable", "metadata"] {
        metadata = metadata.create_dir(part)?;
    }
    let mut repository = Repository::open(metadata)?;
    if repository.root().is_none() {
        let quorum = |key: &SigningKey| Quorum { keys: vec![key.public()], threshold: 1 };
        let authority =
            Authority { root: quorum(&image), targets: quorum(&image), online: quorum(&online) };
        let line = Line { organisation: "acme".into(), feed: format!("{LIVEPC}/stable") };
        let expires = stage.home.clock.now_unix() + Duration::from_secs(86_400);
        let draft = repository.draft_first_root(&line, &authority, expires)?;
        repository.sign(&draft, &image)?;
    }
    // The guest powers off by itself.
    let (headless, until, accel) = (true, Until::ShutDown, Some(Accel::Tcg));
    let rehearsal = Rehearsal { anew: false, headless, until, accel };
    let to = Destination::directory(dir, "the feed");
    let options = PublishOptions {
        like: Vec::new(),
        channel: "stable".into(),
        stage: 100,
        effort: Effort::of(1, 2),
        deltas: 1,
        again: None,
        keep: 10,
        rehearsal: Some(rehearsal),
        image_keys: vec![image],
        online_key: Some(online),
    };
    let home = stage.with_guest(None, &[], &[]);
    let report = feeds::publish(&home, LIVEPC, &to, &options, &Silent)?;
    match report.version == version && report.is_visible {
        true => Ok(()),
        false => Err(format!("published {report:?}").into()),
    }
}

/// What was published is followed, from the directory itself. Who was interrupted goes on with an
/// update.
fn follow(stage: &Stage) -> Result<()> {
    let (home, root) = (&stage.home, carrier(stage)?);
    let location = Location { root: root.clone(), feed: LIVEPC.into(), channel: "stable".into() };
    if !feeds::list(home)?.iter().any(|record| record.name == FOLLOWED) {
        let name = FOLLOWED.into();
        let options = SubscribeOptions { location, mirrors: vec![], name, root: None };
        let (_subscription, _, arrival) = feeds::subscribe(home, &options, &Silent)?;
        // The image that was published is here.
        if arrival.seed(&[], &Silent)?.0 == 0 {
            return Err("nothing was found of what is here".into());
        }
    }
    let mut subscription = bring_version(stage, None)?;
    subscription.pin(home, Some(1))?;
    subscription.pin(home, None)?;
    subscription.defer(home, Some(u64::MAX))?;
    Ok(subscription.defer(home, None)?)
}

/// A control server says that this machine is to have what was published, and is left again.
fn enrol(stage: &Stage) -> Result<()> {
    let root = Path::new(&carrier(stage)?).join(names::metadata(LIVEPC, "stable"));
    let livepc = AssignedLivePc {
        livepc: ASSIGNED.into(),
        location: format!("{}/feeds/{LIVEPC}", carrier(stage)?),
        mirrors: Vec::new(),
    };
    let anchor = fs::read_to_string(root.join("1.root.json"))?;
    let director = StandIn { memory: stage.memory.clone(), livepc, anchor };
    let home = Home { director: Arc::new(director), ..stage.home.clone() };
    if enrolment::record(&home)?.is_none() {
        forget_assigned(&home)?;
    }
    let code = Code { secret: [1; 16], authority: [2; 16] };
    let (server, name) = ("https://stand-in".into(), "desk".into());
    enrolment::enrol(&home, &EnrolOptions { server, code, name, anchor: None })?;
    // It is let in, renews its certificate, steps on when it starts again, and has news.
    for _ in 0..3 {
        let mut follower = Follower::open(&home)?.ok_or("it is enrolled")?;
        follower.step_on(&home)?;
        if follower.check_in(&home)?.is_none() {
            return Err("it is not let in".into());
        }
        let followed = follower.follow(&home, &Silent);
        if !followed.failed.is_empty() {
            return Err(format!("{followed:?}").into());
        }
        follower.carry_out(&home, &|| Ok(()))?;
    }
    if !enrolment::record(&home)?.is_some_and(|record| record.orders.is_empty()) {
        return Err("an order is left".into());
    }
    desktop::peek(&home, ASSIGNED)?;
    let mut subscription = Subscription::open(&home, ASSIGNED)?;
    subscription.refresh(&home)?;
    let arrival = subscription.take(&home, &subscription.wanted()?, &Silent)?;
    arrival.fill(&|_| ControlFlow::Continue(()))?;
    drop((arrival, subscription));
    enrolment::leave(&home)?;
    forget_assigned(&home)
}

/// Whoever left keeps what was assigned, and may remove it.
fn forget_assigned(home: &Home) -> Result<()> {
    unless_gone(desktop::delete(home, ASSIGNED))?;
    unless_gone(feeds::unsubscribe(home, ASSIGNED))?;
    unless_gone(livepc::delete(home, ASSIGNED))?;
    unless_gone(images::delete(home, ASSIGNED).map(drop))
}

/// No guest comes up on the new version: it powers off before it changed anything, and panics, and
/// the old version is back. What was written meanwhile is the user's.
fn give_up(stage: &Stage) -> Result<()> {
    let home = &stage.home;
    if desktop::peek(home, TRIED).is_err() {
        desktop::create(home, TRIED, FOLLOWED)?;
    }
    while let Some(starts) = starts(home)?.filter(|starts| *starts < STARTS_MAX) {
        // At first it does not come so far, and powers off by itself.
        let (works, act) = match starts {
            0 => (&[][..], Act::PowerOff),
            _ => (&WORKS[..1], Act::Panic),
        };
        stage.start_one(TRIED, works, &[act])?;
    }
    stage.start_one(TRIED, &WORKS[..1], &[])?;
    expect_version(home, 1)
}

/// A person asks for the version that failed, and it lasts this time; and then for the old one,
/// which comes to rest in order.
fn try_again(stage: &Stage) -> Result<()> {
    for (version, act) in [(2, Act::Last), (1, Act::PowerOff)] {
        ask_for(stage, version)?;
        while starts(&stage.home)?.is_some() {
            stage.start_one(TRIED, &IDLE, &[act])?;
        }
        expect_version(&stage.home, version)?;
        if desktop::peek(&stage.home, TRIED)?.session.is_some() {
            stage.start_one(TRIED, &[], &[])?;
        }
    }
    Ok(followed(stage)?.pin(&stage.home, None)?)
}

/// Pins a version, and takes it.
fn ask_for(stage: &Stage, version: u64) -> Result<()> {
    let (home, mut subscription) = (&stage.home, followed(stage)?);
    subscription.pin(home, Some(version))?;
    let wanted = subscription.wanted()?;
    Ok(subscription.take(home, &wanted, &Silent)?.adopt(home)?)
}

/// Starts of the version on trial, while one is.
fn starts(home: &Home) -> Result<Option<u32>> {
    Ok(livepc::get(home, FOLLOWED)?.trial.map(|trial| trial.starts))
}

fn expect_version(home: &Home, version: u64) -> Result<()> {
    match livepc::get(home, FOLLOWED)?.version() {
        Some(found) if found == version => Ok(()),
        other => Err(format!("version {other:?}, not {version}").into()),
    }
}

fn leave(stage: &Stage) -> Result<()> {
    unless_gone(feeds::unsubscribe(&stage.home, FOLLOWED))
}

/// Where the feed is.
fn carrier(stage: &Stage) -> Result<String> {
    let home = stage.home.dir.path().ok_or("a home without a path")?;
    Ok(text(&home.join("carried"))?.into())
}

/// What is followed, from where it is carried now: that may have been in another home.
fn followed(stage: &Stage) -> Result<Subscription> {
    let mut subscription = Subscription::open(&stage.home, FOLLOWED)?;
    subscription.carry(&stage.home, vec![carrier(stage)?])?;
    Ok(subscription)
}

/// Brings a version of what is followed, or the newest.
fn bring_version(stage: &Stage, version: Option<u64>) -> Result<Subscription> {
    let home = &stage.home;
    let mut subscription = followed(stage)?;
    subscription.refresh(home)?;
    if version.is_some() {
        subscription.pin(home, version)?;
    }
    let arrival = subscription.take(home, &subscription.wanted()?, &Silent)?;
    arrival.fill(&|_| ControlFlow::Continue(()))?;
    arrival.adopt(home)?;
    Ok(subscription)
}

/// What is followed is carried on to another directory.
fn export(stage: &Stage) -> Result<()> {
    let dir = stage.home.dir.create_dir("exported")?;
    let to = Destination::directory(dir, "a stick");
    let options = ExportOptions { deltas: true, is_read: true, dry_run: false };
    let mut subscription = followed(stage)?;
    let report = subscription.export(&stage.home, &to, &options, &Silent)?;
    match report.versions == [1] {
        true => Ok(()),
        false => Err(format!("exported {report:?}").into()),
    }
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
    desktop::start(&stage.with_guest(Some(DESKTOP), &WORKS, &[]), DESKTOP, &options, &Silent)?;
    Ok(())
}

fn edit(stage: &Stage) -> Result<()> {
    if stage.home.images()?.record(IMAGE)?.versions.len() == 1 {
        workshop::edit_image(&stage.with_guest(None, &EDIT, &[]), IMAGE, &headless(), &Silent)?;
    }
    stage.start(&WORKS, &[])
}

fn record(stage: &Stage) -> Result<()> {
    if apps::get(&stage.home, RECORDED).is_err() {
        let home = stage.with_guest(None, &RECORDING, &[]);
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

/// Garbage of every kind, and its collection. What is followed goes back to its first version, and
/// the second is old then; and forward again, and so is the first, with a file of its own.
fn collect_garbage(stage: &Stage) -> Result<()> {
    const SPARE: &str = "spare";
    let home = &stage.home;
    cache::set_limit(home, Some(1 << 30))?;
    agent::Settings::default().write(home)?;
    let back = stage.memory.join("back");
    if !back.exists() {
        bring_version(stage, Some(1))?;
        collect::apply(home)?;
        fs::write(&back, "")?;
    }
    let mut subscription = bring_version(stage, Some(2))?;
    subscription.pin(home, None)?;
    drop(subscription);
    // A guest came up on it, so nothing goes back to what was before.
    livepc::trial::pass(home, FOLLOWED, 2)?;
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
