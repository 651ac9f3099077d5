//! Lives of desktops: sessions of random work, new images, layers rolled back, paths reset. At every
//! start the kernel shows what there is, and it must be what the model says, path by path; and so
//! must every layer.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use goldleaf_layer::Kind;
use goldleaf_player::desktop::{self, create};

use super::ground::Ground;
use super::life;
use super::model::{Layer, Model};
use super::seen::{Tree, differences, look};
use crate::Result;
use crate::dice::Dice;

/// Images of different beginnings, each with as many versions.
const LINES: usize = 3;
const VERSIONS: usize = 3;
/// At a time.
const PROCESSES: u64 = 6;
/// Of what is wrong, so much is told.
const TOLD_MAX: usize = 20;
/// Before the counts that the inner process says.
const COUNTS: &str = "lives:";

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

/// Runs so many lives, a few at a time. Processes, because the kernel lets a mount take its time,
/// and because a thread that starts a program would hold the locks of all others for a moment.
pub fn run(seed: u64, count: u64, bug: Option<&str>) -> Result<Found> {
    let mut children = Vec::new();
    for process in 0..PROCESSES {
        let own = count / PROCESSES + u64::from(process < count % PROCESSES);
        let mut command = Command::new(std::env::current_exe()?);
        let from = seed.wrapping_add(process << 32);
        command.arg("lives").arg(from.to_string()).arg(own.to_string()).args(bug);
        if bug.is_some() {
            command.stderr(Stdio::null());
        }
        children.push(command.stdout(Stdio::piped()).spawn()?);
    }
    let mut found = Found::default();
    for child in children {
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        let counts = said.lines().find_map(|line| line.strip_prefix(COUNTS));
        let counts = counts.ok_or("some lives could not be lived to their end")?;
        let numbers: Vec<u64> =
            counts.split_whitespace().map(str::parse).collect::<std::result::Result<_, _>>()?;
        let [sequences, reboots, wrong] = numbers[..] else {
            return Err(format!("the lives said {said}").into());
        };
        found.sequences += sequences;
        found.reboots += reboots;
        found.wrong += wrong;
    }
    Ok(found)
}

/// Lives lives of `SEED COUNT [BUG]`, and says how it went.
pub fn child(args: &[String]) -> Result<()> {
    let [seed, count, bug @ ..] = args else { return Err("lives: SEED COUNT [BUG]".into()) };
    let (seed, count): (u64, u64) = (seed.parse()?, count.parse()?);
    super::plant(bug.first());
    let images = make_images(seed, bug.first().map(String::as_str))?;
    let mut found = Found::default();
    for number in 0..count {
        let mut life = Life::new(&images, seed, number);
        let lived = life.live();
        for line in life.wrong.iter().take(TOLD_MAX.saturating_sub(found.wrong as usize)) {
            eprintln!("  wrong: life {number} of {seed}: {line}");
        }
        lived.map_err(|error| format!("life {number} of {seed}: {error}"))?;
        found.sequences += 1;
        found.reboots += life.reboots;
        found.wrong += life.wrong.len() as u64;
    }
    println!("{COUNTS} {} {} {}", found.sequences, found.reboots, found.wrong);
    Ok(())
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
                self.wrong
                    .push(format!("after {after}: {kind} has {have} for /{path}, not {must}"));
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
