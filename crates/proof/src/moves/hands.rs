//! Two hands at one home at once (A8): a desktop that starts, works and is filed, beside a reset, an
//! edit of the image, a collection, another start.
//!
//! ```text
//!   task   what a hand sets out to do, ──▶ the player's own code, a home of its own a hand
//!          from a seed                        │ at each operation on the storage somebody
//!   deed   what it did of that, with the      │ decides which hand goes on
//!          moments of its call and return ◀───┘
//!   judge  is there an order of the deeds that explains what is found?
//! ```
//! As far as the product can tell each hand is a process: it shares nothing with the other but the
//! directory, and what keeps them apart is the files' locks. A deed is done whole, or refused because
//! the other is at it; with a power cut between, done whole or not at all.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use goldleaf_block::{WriteBlocks, use_little_limits};
use goldleaf_figures::{Bar, Row, Table};
use goldleaf_host::Silent;
use goldleaf_host::sim::SimDir;
use goldleaf_host::sim::turns::{self, Choose};
use goldleaf_player::desktop::{self, Desktop, Live, StartOptions};
use goldleaf_player::workshop::Editing;
use goldleaf_player::{Home, PlayerError, collect};
use goldleaf_store::StoreError;

use super::look::{self, read};
use super::model::{Disk, State};
use super::play::{resettable, settle};
use super::toy::{DESKTOP, DISK_LEN, IMAGE, World};
use crate::Result;
use crate::budget::Budget;
use crate::dice::Dice;
use crate::interleave::choose::{Ranks, Walk};
use crate::storage::oracle::Oracle;
use crate::storage::workload::{Random, Step};

/// Bugs that no single hand can meet, by the name that the code asks for.
pub const BUGS: &[&str] = &[
    "a collection does not keep others away",
    "a desktop is read before it is locked",
    "a session is composed while content is collected",
    "an image is read before it is locked",
];

/// Sessions that are filed before the hands begin. A collection joins packs from the 17th on.
const PASTS: [usize; 8] = [0, 0, 1, 1, 2, 2, 3, 17];
/// About how many steps two hands take together.
const STEPS: u64 = 1500;
/// Ways in which one cut turns out that are looked at.
const WAYS: u64 = 2;

/// What a hand sets out to do.
#[derive(Debug, Clone)]
enum Task {
    /// A desktop is started and works. Then its session is filed, or its guest vanishes.
    Sit(Vec<Step>, bool),
    /// Files go back to what the image has: by this path, these.
    Reset(String, Vec<usize>),
    /// The image is edited, and the edit adopted.
    Edit(Vec<Step>),
    /// A collection.
    Collect,
}

/// What was done.
enum Deed {
    /// The desktop was started: this session, with this disk, if it came so far.
    Started(Option<Found>),
    /// The guest did this.
    Step(Step),
    /// The session was filed.
    Filed,
    /// These files went back.
    Reset(Vec<usize>),
    /// There was a session, so nothing went back.
    Kept,
    /// The image was this, and got a next version that is that; or nothing changed.
    Edited(Option<(Disk, Disk)>),
}

struct Done {
    deed: Deed,
    /// When it was called, in steps of a clock that both hands share.
    begin: u64,
    /// When it returned; `None` when it did not, and may be done or not.
    end: Option<u64>,
}

/// What came of a meeting, or of some.
#[derive(Debug, Clone, Copy, Default)]
pub struct Met {
    /// Deeds that were done.
    pub done: u64,
    /// Tasks that were refused because the other hand was at it.
    pub refused: u64,
}

impl Met {
    /// Both together.
    pub fn with(self, other: Self) -> Self {
        Self { done: self.done + other.done, refused: self.refused + other.refused }
    }
}

/// One hand.
struct Hand<'a> {
    home: Home,
    clock: &'a AtomicU64,
    done: Vec<Done>,
    refused: u64,
}

/// What one hand did, and why it went no further.
#[derive(Default)]
struct Story {
    done: Vec<Done>,
    refused: u64,
    failed: Option<String>,
}

type Outcome = std::result::Result<(), PlayerError>;

impl<'a> Hand<'a> {
    /// Does what it sets out to do, as far as it comes.
    fn live(
        home: std::result::Result<Home, PlayerError>,
        clock: &'a AtomicU64,
        tasks: &[Task],
    ) -> Story {
        let home = match home {
            Ok(home) => home,
            Err(error) => return Story { failed: Some(error.to_string()), ..Story::default() },
        };
        let mut hand = Self { home, clock, done: Vec::new(), refused: 0 };
        let failed = hand.perform(tasks).err().map(|error| error.to_string());
        Story { done: hand.done, refused: hand.refused, failed }
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::AcqRel)
    }

    /// What may come of what is called now.
    fn begin(&mut self, deed: Deed) {
        let begin = self.tick();
        self.done.push(Done { deed, begin, end: None });
    }

    /// What may come of what was called last, now that more is known.
    fn amend(&mut self, deed: Deed) {
        if let Some(last) = self.done.last_mut() {
            last.deed = deed;
        }
    }

    /// What has come of what was called last.
    fn end(&mut self, deed: Deed) {
        self.amend(deed);
        let end = Some(self.tick());
        if let Some(last) = self.done.last_mut() {
            last.end = end;
        }
    }

    fn perform(&mut self, tasks: &[Task]) -> Outcome {
        for task in tasks {
            match self.task(task) {
                Err(error) if is_busy(&error) => {
                    // What was refused was not done.
                    self.done.retain(|done| done.end.is_some());
                    self.refused += 1;
                }
                other => other?,
            }
        }
        Ok(())
    }

    fn task(&mut self, task: &Task) -> Outcome {
        match task {
            Task::Sit(steps, files) => self.sit(steps, *files),
            Task::Reset(path, numbers) => self.reset(path, numbers),
            Task::Edit(steps) => self.edit(steps),
            Task::Collect => collect::apply(&self.home).map(drop),
        }
    }

    fn sit(&mut self, steps: &[Step], files: bool) -> Outcome {
        self.begin(Deed::Started(None));
        let mut desktop = Desktop::open(&self.home, DESKTOP)?;
        let live = Live::open(&self.home, &mut desktop, false, &Silent)?;
        let number = desktop.record.session.as_ref().map_or(0, |session| session.number);
        self.end(Deed::Started(Some((number, read(live.device().as_ref())?))));
        for step in steps {
            self.begin(Deed::Step(*step));
            step.apply(live.device())?;
            self.end(Deed::Step(*step));
        }
        if files {
            self.begin(Deed::Filed);
            live.end(&self.home, &mut desktop, &Silent)?;
            self.end(Deed::Filed);
        }
        Ok(())
    }

    fn reset(&mut self, path: &str, numbers: &[usize]) -> Outcome {
        self.begin(Deed::Reset(numbers.to_vec()));
        match desktop::reset(&self.home, DESKTOP, &[path.to_owned()], false) {
            Ok(_) => self.end(Deed::Reset(numbers.to_vec())),
            Err(PlayerError::Refused(_)) => self.end(Deed::Kept),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn edit(&mut self, steps: &[Step]) -> Outcome {
        self.begin(Deed::Edited(None));
        let editing = Editing::open(&self.home, IMAGE, &StartOptions::default(), &Silent)?;
        let device = editing.device();
        let before = read(device.as_ref())?;
        for step in steps {
            step.apply(device)?;
        }
        device.flush()?;
        let after = read(device.as_ref())?;
        let edited = (!device.dirty().is_empty()).then_some((before, after));
        self.amend(Deed::Edited(edited.clone()));
        editing.adopt(&self.home, &Silent)?;
        self.end(Deed::Edited(edited));
        Ok(())
    }
}

/// Whether somebody else is at it.
fn is_busy(error: &PlayerError) -> bool {
    matches!(error, PlayerError::Busy { .. } | PlayerError::Store(StoreError::Busy(_)))
}

impl Deed {
    /// What it makes of a state; `None` where it cannot have been done. The session that is there
    /// in the end has the number `last`.
    fn after(&self, state: &State, last: u64) -> Option<State> {
        let mut next = state.clone();
        match self {
            Deed::Started(None) if state.session.is_none() => next = state.begun(last),
            Deed::Started(None) => {}
            Deed::Started(Some((number, disk))) => {
                next.settle(*number, disk);
                return state.refuses(*number, disk).is_none().then_some(next);
            }
            Deed::Step(Step::Flush) => next.session.as_mut()?.disk.flushed(),
            Deed::Step(step) => next.session.as_mut()?.disk.begin(step),
            Deed::Filed => next = state.session.is_some().then(|| state.filed())?,
            Deed::Reset(numbers) => next = state.session.is_none().then(|| state.reset(numbers))?,
            Deed::Kept => return state.session.is_some().then_some(next),
            Deed::Edited(None) => {}
            Deed::Edited(Some((before, after))) => {
                next.edit = Some(Oracle::new(after.clone()));
                return (state.images.last()? == before).then(|| next.updated());
            }
        }
        Some(next)
    }
}

/// What was found: the number of a session, and its disk.
type Found = (u64, Disk);

/// Looks for an order of the deeds that explains what is there in the end.
struct Search<'a> {
    images: Vec<Disk>,
    found: Found,
    hands: [&'a [Done]; 2],
}

impl Search<'_> {
    /// Whether what both hands did from there on leads from `state` to what is there.
    fn explains(&self, state: &State, from: [usize; 2]) -> bool {
        let first = |hand: usize| self.hands[hand].get(from[hand]);
        if (0..2).all(|hand| first(hand).is_none()) {
            let (number, disk) = &self.found;
            return state.images == self.images && state.refuses(*number, disk).is_none();
        }
        (0..2).any(|hand| {
            let Some(Done { deed, begin, end }) = first(hand) else { return false };
            let is_before = |other: &Done| other.end.is_some_and(|end| end < *begin);
            let mut next = from;
            next[hand] += 1;
            !first(1 - hand).is_some_and(is_before)
                && (deed
                    .after(state, self.found.0)
                    .is_some_and(|state| self.explains(&state, next))
                    || (end.is_none() && self.explains(state, next)))
        })
    }
}

/// Whether what is there is what both hands did, in some order: nothing missing, nothing left over.
fn judge(world: &Arc<World>, dir: &SimDir, start: &State, hands: [&[Done]; 2]) -> Result<()> {
    let home = world.home(dir)?;
    look::reachable(&home)?;
    let search = Search { images: look::images(&home)?, found: look::start(&home)?, hands };
    if !search.explains(start, [0, 0]) {
        return Err("no order of what was done explains what is there".into());
    }
    look::tidy(&home)?;
    look::reachable(&home)?;
    match look::start(&home)? == search.found {
        true => Ok(()),
        false => Err("another disk after a collection".into()),
    }
}

/// What the hands set out to do, whatever the order.
struct Plan {
    past: usize,
    tasks: [Vec<Task>; 2],
    /// Operations on the storage behind which the power is cut; else it is cut when all is done.
    stop: Option<u64>,
}

impl Plan {
    fn random(random: &mut Random) -> Self {
        let past = PASTS[random.below(PASTS.len())];
        // One hand sits more than the other, which does the rest.
        let tasks = [&[0, 0, 0, 2][..], &[0, 1, 1, 2, 3, 3]].map(|kinds| {
            let count = 1 + random.below(2);
            let any = |_| {
                let kind = kinds[random.below(kinds.len())];
                task(random, kind)
            };
            (0..count).map(any).collect()
        });
        let stop = (random.below(2) == 0).then(|| random.below(STEPS as usize) as u64);
        Self { past, tasks, stop }
    }
}

fn task(random: &mut Random, kind: usize) -> Task {
    let mut steps = |most| (0..random.below(most)).map(|_| random.step(DISK_LEN)).collect();
    match kind {
        0 => Task::Sit(steps(8), random.below(4) > 0),
        1 => {
            let (path, numbers) = resettable(random);
            Task::Reset(path, numbers)
        }
        2 => Task::Edit(steps(6)),
        _ => Task::Collect,
    }
}

/// What decides who goes on.
fn order(seed: u64) -> Box<dyn Choose> {
    let mut dice = Dice::new(seed, 3);
    let (way, falls) = (dice.below(4), 1 + dice.below(4));
    match way {
        0 => Box::new(Walk::new(dice, 8)),
        1 => Box::new(Walk::new(dice, 60)),
        _ => Box::new(Ranks::new(dice, 2, falls, STEPS)),
    }
}

/// What follows from a seed: a plan, an order, and how a power cut turns out.
pub fn meet(seed: u64, bug: Option<&'static str>) -> std::result::Result<Met, String> {
    use_little_limits(true);
    let mut random = Random(seed);
    let plan = Plan::random(&mut random);
    attempt(seed, &mut random, &plan, bug)
        .map_err(|what| format!("seed {seed}: {what}; hands {:?}, cut {:?}", plan.tasks, plan.stop))
}

fn attempt(seed: u64, random: &mut Random, plan: &Plan, bug: Option<&'static str>) -> Result<Met> {
    let (world, dir) = (World::new(seed), SimDir::new());
    let start = settle(&world, &dir, random, plan.past)?;
    let stop = plan.stop.map(|after| {
        dir.stop_after(after, ErrorKind::Other);
        dir.operations() + after
    });
    let [one, two] = work(&world, &dir, plan, order(seed), bug)?;
    let is_cut = stop.is_some_and(|stop| dir.operations() > stop);
    dir.heal();
    if let Some(failed) = one.failed.or(two.failed).filter(|_| !is_cut) {
        return Err(failed.into());
    }
    let done = [&one.done[..], &two.done[..]];
    for way in 0..WAYS {
        judge(&world, &dir.crash(seed ^ way << 48), &start, done)
            .map_err(|error| format!("a power cut, way {way}: {error}"))?;
    }
    // Killed, and the power stays.
    judge(&world, &dir, &start, done)?;
    let done = (one.done.len() + two.done.len()) as u64;
    Ok(Met { done, refused: one.refused + two.refused })
}

/// Lets both hands work, in the order that `choose` decides.
fn work(
    world: &Arc<World>,
    dir: &SimDir,
    plan: &Plan,
    choose: Box<dyn Choose>,
    bug: Option<&'static str>,
) -> Result<[Story; 2]> {
    let clock = AtomicU64::new(0);
    let mut stories = [Story::default(), Story::default()];
    let hand = |(tasks, story): (&'_ Vec<Task>, &'_ mut Story)| {
        use_little_limits(true);
        goldleaf_host::plant(bug);
        *story = Hand::live(world.home(dir), &clock, tasks);
    };
    let hand = &hand;
    let threads = plan
        .tasks
        .iter()
        .zip(&mut stories)
        .map(|both| -> Box<dyn FnOnce() + Send> { Box::new(move || hand(both)) });
    let ran = turns::run(choose, threads.collect());
    match (ran.stuck, ran.panicked.first()) {
        (true, _) => Err("the hands wait for one another".into()),
        (_, Some(hand)) => Err(format!("hand {hand} panicked").into()),
        _ => Ok(stories),
    }
}

/// Meetings for every submission.
const MEETINGS: u64 = 500;
/// Meetings in which a bug must show.
const MEETINGS_A_BUG: u64 = 2_000;

/// Random meetings, on both cores.
pub fn run(budget: &Budget, table: &mut Table) -> Result<()> {
    let first = budget.seed.wrapping_mul(1_000_003);
    let count = budget.of(MEETINGS, 100 * MEETINGS);
    let side = |side: u64| {
        let meet = |number| meet(first.wrapping_add(number), None);
        (side..count).step_by(2).map(meet).collect::<Vec<_>>()
    };
    let (mut met, mut wrong) = (Met::default(), 0);
    let all = std::thread::scope(|scope| {
        let other = scope.spawn(|| side(1));
        [side(0), other.join().unwrap_or_else(|_| vec![Err("a side panicked".into())])]
    });
    for outcome in all.into_iter().flatten() {
        match outcome {
            Ok(one) => met = met.with(one),
            Err(what) => {
                wrong += 1;
                eprintln!("  wrong: {what}");
            }
        }
    }
    let row = |name: &str, value: f64| Row::new(format!("interleavings.{name}"), value, "");
    table.push(row("moves", count as f64).bar(Bar::AtLeast(budget.of(5e2, 5e4))));
    table.push(row("moves.done", met.done as f64));
    table.push(row("moves.refused", met.refused as f64));
    table.push(row("moves.failures", f64::from(wrong)).bar(Bar::AtMost(0.0)));
    Ok(())
}

/// What caught a bug, if anything did. The seeds are always the same.
pub fn hunt(bug: &'static str) -> Option<String> {
    (1..MEETINGS_A_BUG).find_map(|seed| meet(seed, Some(bug)).err())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_tells_all() {
        for seed in 1..8 {
            let told = || format!("{:?}", meet(seed, None));
            assert_eq!(told(), told());
        }
    }
}
