//! A round of a desktop's life: the product's own moves, one after the other, until the machine
//! stops in the middle of one.

use std::io::ErrorKind;
use std::sync::Arc;

use goldleaf_block::{BlockError, SessionDevice};
use goldleaf_host::Silent;
use goldleaf_host::sim::SimDir;
use goldleaf_player::desktop::{self, Desktop, Live, SessionView, StartOptions};
use goldleaf_player::workshop::Editing;
use goldleaf_player::{Home, PlayerError, collect};

use crate::Result;
use crate::storage::oracle::{BLOCK, Oracle};
use crate::storage::workload::{Random, Step};

use super::look::read;
use super::model::State;
use super::toy::{DESKTOP, DISK_LEN, FILE_LEN, FILES, IMAGE, World, path};

/// What takes durable state from one state to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// A session begins, goes on, or is thrown away.
    Session,
    /// A running session is read.
    Snapshot,
    /// A session goes into layers, and the next one begins.
    Filing,
    /// Paths go back to what the image has.
    Reset,
    /// An edit of the image becomes its next version.
    Update,
    /// A collection.
    Collection,
}

/// All of them, with the operations on the storage that most of them take.
pub const MOVES: [(Move, usize); 6] = [
    (Move::Session, 200),
    (Move::Snapshot, 80),
    (Move::Filing, 240),
    (Move::Reset, 160),
    (Move::Update, 160),
    (Move::Collection, 240),
];

/// Why a round ends.
#[derive(Debug)]
pub enum Stop {
    /// Something is there that must not be.
    Wrong(String),
    /// The product said so.
    Error(String),
}

impl From<PlayerError> for Stop {
    fn from(error: PlayerError) -> Self {
        Stop::Error(error.to_string())
    }
}

impl From<BlockError> for Stop {
    fn from(error: BlockError) -> Self {
        Stop::Error(error.to_string())
    }
}

/// A home with an image of some files, and a desktop with so many filed sessions behind it.
pub fn settle(
    world: &Arc<World>,
    dir: &SimDir,
    random: &mut Random,
    sessions: usize,
) -> Result<State> {
    let mut image = vec![0; DISK_LEN];
    for file in image.chunks_mut(FILE_LEN).take(FILES) {
        if random.below(2) == 0 {
            file.chunks_mut(BLOCK).for_each(|block| block.fill(random.below(255) as u8 + 1));
        }
    }
    let apps = (random.below(2) == 0).then(|| vec![random.below(255) as u8 + 1; FILE_LEN]);
    world.furnish(dir, &image, apps.as_deref())?;
    let nowhere = (Move::Collection, 1);
    let mut play = Play::new(world.home(dir)?, dir, random, nowhere, State::new(image, apps));
    play.live(sessions).map_err(|stop| format!("{stop:?}"))?;
    Ok(play.state)
}

/// Something to reset: by its path, which files.
pub fn resettable(random: &mut Random) -> (String, Vec<usize>) {
    let one = random.below(FILES);
    match random.below(4) {
        0 => ("home".into(), (0..FILES).filter(|number| number % 2 == 0).collect()),
        _ => (path(one), vec![one]),
    }
}

/// A round.
pub struct Play<'a> {
    home: Home,
    dir: &'a SimDir,
    random: &'a mut Random,
    /// The move in which the machine is to stop, and within how many operations.
    target: (Move, usize),
    /// What is there.
    pub state: State,
    /// What may be there instead: the move under way is done.
    pub after: Option<State>,
    /// The move that was made last.
    pub last: Move,
    /// The operation that fails.
    fault: Option<u64>,
    /// Whether all behind it fail too.
    stops: bool,
}

type Outcome = std::result::Result<(), Stop>;

impl<'a> Play<'a> {
    /// A round that begins with this state.
    pub fn new(
        home: Home,
        dir: &'a SimDir,
        random: &'a mut Random,
        target: (Move, usize),
        state: State,
    ) -> Self {
        let (after, fault, last) = (None, None, Move::Session);
        let stops = random.below(4) > 0;
        Self { home, dir, random, target, state, after, last, fault, stops }
    }

    /// Files some sessions: a desktop with a past has many packs.
    fn live(&mut self, sessions: usize) -> Outcome {
        let mut desktop = Desktop::open(&self.home, DESKTOP)?;
        for _ in 0..sessions {
            let live = self.open(&mut desktop)?;
            self.work(&live)?;
            self.end(&mut desktop, live)?;
        }
        Ok(())
    }

    /// Makes some moves, the one that is the target among them.
    pub fn run(&mut self) -> Outcome {
        let mut desktop = Desktop::open(&self.home, DESKTOP)?;
        match self.target.0 {
            Move::Session => {
                let live = self.open(&mut desktop)?;
                self.work(&live)
            }
            Move::Snapshot => {
                let live = self.open(&mut desktop)?;
                self.work(&live)?;
                self.snapshot(&live)?;
                self.work(&live)
            }
            Move::Filing => {
                let live = self.open(&mut desktop)?;
                self.work(&live)?;
                let next = self.file(&mut desktop, live)?;
                self.work(&next)
            }
            Move::Reset => {
                let live = self.open(&mut desktop)?;
                self.work(&live)?;
                self.end(&mut desktop, live)?;
                drop(desktop);
                self.reset()
            }
            Move::Update => {
                let running = match self.random.below(2) {
                    0 => None,
                    _ => Some(self.open(&mut desktop)?),
                };
                self.update()?;
                match running {
                    Some(live) => self.file(&mut desktop, live).map(drop),
                    None => Ok(()),
                }
            }
            Move::Collection => {
                let live = self.open(&mut desktop)?;
                self.work(&live)?;
                if self.random.below(2) == 0 {
                    self.end(&mut desktop, live)?;
                }
                drop(desktop);
                self.collect()
            }
        }
    }

    /// A move begins: here the machine may be going to stop.
    fn begin(&mut self, kind: Move) {
        self.last = kind;
        if kind == self.target.0 && self.fault.is_none() {
            let after = self.random.below(self.target.1) as u64;
            self.fault = Some(self.dir.operations() + after);
            let fault = if self.stops { SimDir::stop_after } else { SimDir::fail_after };
            fault(self.dir, after, ErrorKind::Other);
        }
    }

    /// Whether the operation that was to fail has failed.
    pub fn was_hit(&self) -> bool {
        self.fault.is_some_and(|fault| self.dir.operations() > fault)
    }

    fn done(&mut self) {
        if let Some(after) = self.after.take() {
            self.state = after;
        }
    }

    fn open(&mut self, desktop: &mut Desktop) -> std::result::Result<Live, Stop> {
        self.begin(Move::Session);
        let discard = self.state.session.is_some() && self.random.below(6) == 0;
        if discard {
            self.after = Some(self.state.discarded());
        }
        let live = Live::open(&self.home, desktop, discard, &Silent)?;
        self.done();
        if self.state.session.is_none() {
            self.state = self.state.begun(number(desktop));
        }
        let found = read(live.device().as_ref())?;
        match &self.state.session {
            Some(session) if session.disk.content() == found => Ok(live),
            _ => Err(Stop::Wrong("the session has another disk".into())),
        }
    }

    fn work(&mut self, live: &Live) -> Outcome {
        let Some(session) = &mut self.state.session else { return Ok(()) };
        steps(self.random, live.device(), &mut session.disk)
    }

    fn snapshot(&mut self, live: &Live) -> Outcome {
        self.begin(Move::Snapshot);
        let report = live.changes(&self.home, true, &Silent)?;
        let told: Vec<String> = report.changes.into_iter().map(|line| line.path).collect();
        if told != self.state.changes() {
            return Err(Stop::Wrong(format!("{told:?} changed, it says")));
        }
        let view = SessionView::new(live.composed(), live.device())?;
        let then = read(&view.device)?;
        self.work(live)?;
        match read(&view.device)? == then {
            true => Ok(()),
            false => Err(Stop::Wrong("a snapshot changes under its reader".into())),
        }
    }

    fn end(&mut self, desktop: &mut Desktop, live: Live) -> Outcome {
        self.begin(Move::Filing);
        self.after = Some(self.state.filed());
        live.end(&self.home, desktop, &Silent)?;
        self.done();
        Ok(())
    }

    fn file(&mut self, desktop: &mut Desktop, live: Live) -> std::result::Result<Live, Stop> {
        self.end(desktop, live)?;
        let next = Live::begin(&self.home, desktop, &Silent)?;
        self.state = self.state.begun(number(desktop));
        Ok(next)
    }

    fn reset(&mut self) -> Outcome {
        self.begin(Move::Reset);
        let (what, numbers) = resettable(self.random);
        self.after = Some(self.state.reset(&numbers));
        desktop::reset(&self.home, DESKTOP, &[what], false)?;
        self.done();
        Ok(())
    }

    fn update(&mut self) -> Outcome {
        self.begin(Move::Update);
        let last = self.state.images.len() - 1;
        let begun = Oracle::new(self.state.images[last].clone());
        let edit = self.state.edit.get_or_insert(begun);
        let options = StartOptions::default();
        let editing = Editing::open(&self.home, IMAGE, &options, &Silent)?;
        let device = editing.device();
        if read(device.as_ref())? != edit.content() {
            return Err(Stop::Wrong("the edit has another disk".into()));
        }
        // Now and then the author only looks.
        if self.random.below(4) > 0 {
            steps(self.random, device, edit)?;
            flush(device, edit)?;
        }
        if self.random.below(4) == 0 {
            // The guest vanished.
            return Ok(());
        }
        self.after = Some(match device.dirty().is_empty() {
            true => self.state.without_edit(),
            false => self.state.updated(),
        });
        editing.adopt(&self.home, &Silent)?;
        self.done();
        Ok(())
    }

    fn collect(&mut self) -> Outcome {
        self.begin(Move::Collection);
        collect::apply(&self.home)?;
        Ok(())
    }
}

/// The number of the session under way.
fn number(desktop: &Desktop) -> u64 {
    desktop.record.session.as_ref().map_or(0, |session| session.number)
}

/// What a guest does to a disk.
fn steps(random: &mut Random, device: &SessionDevice, disk: &mut Oracle) -> Outcome {
    for _ in 0..random.below(24) {
        match random.step(DISK_LEN) {
            Step::Flush => flush(device, disk)?,
            step => {
                disk.begin(&step);
                step.apply(device)?;
            }
        }
    }
    Ok(())
}

fn flush(device: &SessionDevice, disk: &mut Oracle) -> Outcome {
    Step::Flush.apply(device)?;
    disk.flushed();
    Ok(())
}
