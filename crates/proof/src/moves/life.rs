//! One life of a desktop: rounds of moves, each ended by a power cut or by the end of the process.

use std::sync::Arc;

use goldleaf_host::Silent;
use goldleaf_host::sim::SimDir;
use goldleaf_player::collect;
use goldleaf_player::desktop::StartOptions;
use goldleaf_player::workshop::Editing;

use crate::Result;
use crate::storage::oracle::Oracle;
use crate::storage::workload::Random;

use super::look;
use super::model::State;
use super::play::{MOVES, Move, Play, Stop, settle};
use super::toy::{IMAGE, World};

/// Sessions that are filed before a life begins. A collection joins packs from the seventeenth on.
const PASTS: [usize; 4] = [0, 14, 18, 22];
/// Rounds of a life.
const ROUNDS: u64 = 12;
/// Ways in which one cut turns out that are looked at.
const WAYS: u64 = 4;
/// Operations within which a recovery is cut.
const RECOVERY: usize = 400;

/// What was met.
#[derive(Debug, Clone, Copy, Default)]
pub struct Met {
    /// States that were looked at, by the move that was cut.
    pub by: [u64; MOVES.len()],
    /// Recoveries that were themselves cut.
    pub recoveries_cut: u64,
}

impl Met {
    /// Both together.
    pub fn with(mut self, other: Met) -> Met {
        self.by.iter_mut().zip(other.by).for_each(|(own, other)| *own += other);
        self.recoveries_cut += other.recoveries_cut;
        self
    }

    /// States that were looked at.
    pub fn states(&self) -> u64 {
        self.by.iter().sum()
    }

    fn count(&mut self, kind: Move) {
        let counts = MOVES.iter().zip(&mut self.by);
        counts.filter(|((other, _), _)| *other == kind).for_each(|(_, count)| *count += 1);
    }
}

/// The number of a session, and its disk.
type Found = (u64, Vec<u8>);

struct Life {
    seed: u64,
    random: Random,
    world: Arc<World>,
    dir: SimDir,
    state: State,
    met: Met,
}

/// Lives one.
pub fn life(seed: u64) -> std::result::Result<Met, String> {
    let said = |what: String| move |error| format!("seed {seed}, {what}: {error}");
    let mut life = Life::new(seed).map_err(|error| said("furnishing".into())(error.to_string()))?;
    for round in 0..ROUNDS {
        life.round(round).map_err(said(format!("round {round}")))?;
    }
    Ok(life.met)
}

impl Life {
    fn new(seed: u64) -> Result<Self> {
        let mut random = Random(seed);
        let (world, mut dir) = (World::new(seed), SimDir::new());
        let past = PASTS[seed as usize % PASTS.len()];
        let (state, met) = (settle(&world, &dir, &mut random, past)?, Met::default());
        if random.below(4) == 0 {
            dir = dir.crash(seed);
        }
        Ok(Self { seed, random, world, dir, state, met })
    }

    fn round(&mut self, round: u64) -> std::result::Result<(), String> {
        self.world.wait([0, 1, 3600, 40 * 86400][self.random.below(4)]);
        let target = MOVES[self.random.below(MOVES.len())];
        let dir = self.dir.clone();
        let home = self.world.home(&dir).map_err(|error| error.to_string())?;
        let mut play = Play::new(home, &dir, &mut self.random, target, self.state.clone());
        let outcome = play.run();
        let (last, was_hit) = (play.last, play.was_hit());
        let allowed: Vec<State> = [Some(play.state), play.after].into_iter().flatten().collect();
        match outcome {
            Err(Stop::Wrong(what)) => return Err(format!("{last:?}: {what}")),
            Err(Stop::Error(error)) if !was_hit => return Err(format!("{last:?}: {error}")),
            _ => {}
        }
        let mut next = None;
        for way in 0..WAYS {
            let cut = dir.crash(self.seed ^ (round << 56 | way << 48));
            let what = |error| format!("{target:?}, cut in {last:?}, way {way}: {error}");
            next = Some(self.recover(cut, &allowed, last).map_err(what)?);
        }
        if self.random.below(3) == 0 {
            dir.heal();
            let what = |error| format!("{target:?}, killed in {last:?}: {error}");
            next = Some(self.recover(dir, &allowed, last).map_err(what)?);
        }
        if let Some((dir, state)) = next {
            (self.dir, self.state) = (dir, state);
        }
        Ok(())
    }

    /// Recovers what a cut or a killed process left, perhaps with cuts between, and looks at it;
    /// then once more after another cut.
    fn recover(
        &mut self,
        mut dir: SimDir,
        allowed: &[State],
        kind: Move,
    ) -> std::result::Result<(SimDir, State), String> {
        if self.random.below(4) == 0 {
            for again in 0..=self.random.below(2) as u64 {
                let after = self.random.below(RECOVERY) as u64;
                dir.stop_after(after, std::io::ErrorKind::Other);
                let collects = self.random.below(3) == 0;
                self.met.recoveries_cut += u64::from(self.look(&dir, allowed, collects).is_err());
                dir = dir.crash(self.seed ^ again << 40 ^ after);
            }
        }
        let collects = self.random.below(3) == 0;
        let (state, found) =
            self.look(&dir, allowed, collects).map_err(|error| error.to_string())?;
        self.met.count(kind);
        // Nobody has flushed since, but what was seen stays.
        let settled = dir.crash(self.seed.rotate_left(9));
        match self.world.home(&settled).map_err(Into::into).and_then(|home| look::start(&home)) {
            Ok(again) if again == found => self.met.count(kind),
            Ok(_) => return Err("a cut behind the recovery: another disk than before".into()),
            Err(error) => return Err(format!("a cut behind the recovery: {error}")),
        }
        Ok((settled, state))
    }

    /// Starts the desktop and compares all that is there with the states that are allowed.
    fn look(&self, dir: &SimDir, allowed: &[State], collects: bool) -> Result<(State, Found)> {
        let home = self.world.home(dir)?;
        if collects {
            collect::apply(&home)?;
        }
        look::reachable(&home)?;
        let images = look::images(&home)?;
        let found = look::start(&home)?;
        let mut refused = Vec::new();
        let is_fine = |state: &&State| {
            let same = state.images == images;
            let why =
                if same { state.refuses(found.0, &found.1) } else { Some("other images".into()) };
            refused.extend(why.clone());
            why.is_none()
        };
        let Some(mut state) = allowed.iter().find(is_fine).cloned() else {
            return Err(refused.join("; ").into());
        };
        state.settle(found.0, &found.1);
        if let Some(edit) = &mut state.edit {
            let editing = Editing::open(&home, IMAGE, &StartOptions::default(), &Silent)?;
            let there = look::read(editing.device().as_ref())?;
            edit.check(&there).map_err(|wrong| format!("the edit: {wrong}"))?;
            *edit = Oracle::new(there);
        }
        look::tidy(&home)?;
        look::reachable(&home)?;
        if look::start(&home)? != found {
            return Err("another disk after a collection".into());
        }
        Ok((state, found))
    }
}
