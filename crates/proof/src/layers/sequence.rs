//! Lives of desktops: sessions of random work, new images, layers rolled back, paths reset. At every
//! start the kernel shows what there is, and it must be what the model says, path by path; and so
//! must every layer.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use goldleaf_layer::Kind;
use goldleaf_player::desktop::{self, create};

use super::ground::Ground;
use super::life;
use super::model::{Layer, Model};
use super::seen::{Tree, differences, look};
use crate::Result;
use crate::budget::Budget;
use crate::dice::Dice;

/// Images of different beginnings, each with as many versions.
const LINES: usize = 6;
const VERSIONS: usize = 3;
const THREADS: usize = 1;
/// Of what is wrong, so much is told.
const TOLD_MAX: u64 = 40;

/// What was found.
#[derive(Default)]
pub struct Found {
    pub sequences: u64,
    pub reboots: u64,
    pub wrong: u64,
}

/// The images of a run, and what is in them.
struct Images {
    ground: Ground,
    trees: Vec<Vec<Tree>>,
}

/// Runs so many lives.
pub fn run(budget: &Budget, count: u64, bug: Option<&str>) -> Result<Found> {
    let images = make_images(budget.seed, bug)?;
    let (next, reboots, wrong) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let failure = Mutex::new(None);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    let mut life = Life::new(&images, budget.seed, number);
                    let lived = life.live();
                    reboots.fetch_add(life.reboots, Ordering::Relaxed);
                    let before = wrong.fetch_add(life.wrong.len() as u64, Ordering::Relaxed);
                    for (said, line) in (before..TOLD_MAX).zip(&life.wrong) {
                        let _ = said;
                        eprintln!("  wrong: life {number} of seed {}: {line}", budget.seed);
                    }
                    if let Err(error) = lived {
                        let text = format!("life {number} of seed {}: {error}", budget.seed);
                        *failure.lock().unwrap_or_else(|e| e.into_inner()) = Some(text);
                        next.store(count, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    if let Some(text) = failure.into_inner().unwrap_or_else(|e| e.into_inner()) {
        return Err(text.into());
    }
    let (reboots, wrong) = (reboots.into_inner(), wrong.into_inner());
    Ok(Found { sequences: count, reboots, wrong })
}

fn line(number: usize) -> String {
    format!("line{number}")
}

fn make_images(seed: u64, bug: Option<&str>) -> Result<Images> {
    let ground = Ground::new(bug)?;
    let mut trees = Vec::new();
    for number in 0..LINES {
        let mut versions = Vec::new();
        for version in 0..VERSIONS {
            let mut dice = Dice::new(seed, 7_000 + (number * VERSIONS + version) as u64);
            ground.image(&line(number), |root| {
                if version == 0 {
                    life::settle(root, &mut dice)?;
                }
                (0..40).for_each(|_| life::operate(&mut dice, root));
                versions.push(look(root)?.tree);
                Ok(())
            })?;
        }
        ground.livepc(&line(number), &line(number), None)?;
        trees.push(versions);
    }
    Ok(Images { ground, trees })
}

/// One desktop.
struct Life<'a> {
    images: &'a Images,
    dice: Dice,
    name: String,
    line: usize,
    version: usize,
    model: Model,
    /// The layers as the model had them, by version.
    past: BTreeMap<(Kind, u64), Layer>,
    reboots: u64,
    wrong: Vec<String>,
}

impl<'a> Life<'a> {
    fn new(images: &'a Images, seed: u64, number: u64) -> Self {
        let mut dice = Dice::new(seed, 10_000 + number);
        let line = dice.index(LINES);
        Self {
            images,
            dice,
            name: format!("d{number}"),
            line,
            version: 0,
            model: Model::default(),
            past: BTreeMap::new(),
            reboots: 0,
            wrong: Vec::new(),
        }
    }

    fn live(&mut self) -> Result<()> {
        let home = &self.images.ground.home;
        create(home, &self.name, &line(self.line))?;
        self.pin(1)?;
        for path in ["var/lib/systemd/random-seed", "var/lib/systemd/credential.secret"] {
            self.model.plant(Kind::Identity, path, None);
        }
        self.session(true)?;
        for _ in 0..2 + self.dice.below(2) {
            self.between()?;
            self.session(false)?;
        }
        if self.dice.one_in(20) {
            self.images.ground.check(&self.name)?;
        }
        self.images.ground.forget(&self.name)
    }

    fn pin(&mut self, version: u64) -> Result<()> {
        desktop::rollback(&self.images.ground.home, &self.name, "os", version, false)?;
        self.version = version as usize - 1;
        Ok(())
    }

    /// One start, random work, and the filing.
    fn session(&mut self, first: bool) -> Result<()> {
        let image = &self.images.trees[self.line][self.version];
        let (dice, model, wrong) = (&mut self.dice, &mut self.model, &mut self.wrong);
        let mut looks = None;
        self.images.ground.session(&self.name, |root| {
            let before = look(root)?;
            if first {
                for path in ["etc/machine-id", "etc/hostname"] {
                    model.plant(Kind::Identity, path, before.tree.get(path).cloned());
                }
            }
            wrong.extend(differences(&model.compose(image), &before.tree));
            (0..5 + dice.below(30)).for_each(|_| life::operate(dice, root));
            looks = Some((before, look(root)?));
            Ok(())
        })?;
        let (before, after) = looks.ok_or("a session without a story")?;
        self.model.file(image, &before, &after);
        self.reboots += 1;
        self.compare_layers("the session")
    }

    /// What may happen to a desktop that is off.
    fn between(&mut self) -> Result<()> {
        let home = &self.images.ground.home;
        let what = match self.dice.below(6) {
            0 | 1 if self.version + 1 < VERSIONS => {
                self.pin(self.version as u64 + 2)?;
                "a new image".to_owned()
            }
            2 => {
                let apps = self.dice.one_in(2);
                desktop::rejuvenate(home, &self.name, apps, false)?;
                self.model.rejuvenate(apps);
                format!("rejuvenation, {apps}")
            }
            3 => {
                let path = self.dice.one(life::PLACES);
                desktop::reset(home, &self.name, &[format!("/{path}")], false)?;
                self.model.reset(path);
                format!("reset of /{path}")
            }
            4 | 5 => self.roll_back()?,
            _ => return Ok(()),
        };
        self.compare_layers(&what)
    }

    fn roll_back(&mut self) -> Result<String> {
        let kind = self.dice.one(&[Kind::UserApps, Kind::UserData, Kind::Local]);
        let known: Vec<u64> =
            self.past.keys().filter(|(other, _)| *other == kind).map(|(_, n)| *n).collect();
        if known.is_empty() {
            return Ok("nothing".into());
        }
        let to = known[self.dice.index(known.len())];
        let home = &self.images.ground.home;
        desktop::rollback(home, &self.name, kind.name(), to, false)?;
        self.model.layers.insert(kind, self.past[&(kind, to)].clone());
        Ok(format!("roll-back of {kind} to {to}"))
    }

    /// The layers have the paths that they must have, and no others.
    fn compare_layers(&mut self, after: &str) -> Result<()> {
        let ground = &self.images.ground;
        let found = ground.layers(&self.name)?;
        for kind in Kind::PRIVATE {
            let none = BTreeMap::new();
            let (have, must) = (found.get(&kind).unwrap_or(&none), self.model.paths(kind));
            let paths: std::collections::BTreeSet<_> = have.keys().chain(must.keys()).collect();
            for path in paths.into_iter().filter(|path| have.get(*path) != must.get(*path)) {
                let say = |one: Option<&bool>| match one {
                    None => "nothing",
                    Some(true) => "a removal",
                    Some(false) => "an entry",
                };
                let (have, must) = (say(have.get(path)), say(must.get(path)));
                self.wrong.push(format!("after {after}: {kind} has {have} for /{path}, not {must}"));
            }
        }
        for history in desktop::history(&ground.home, &self.name)? {
            if let (Some(kind), true) = (Kind::parse(&history.layer), history.current) {
                let layer = self.model.layers.get(&kind).cloned().unwrap_or_default();
                self.past.insert((kind, history.version), layer);
            }
        }
        Ok(())
    }
}
