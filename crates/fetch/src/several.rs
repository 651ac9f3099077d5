//! Several sources of the same feed, asked in turn.
//!
//! One that failed, or gave what the caller found wrong, is put behind the others for a while. So a
//! mirror that is stale, slow or hostile costs one try, and gets another chance when its time is
//! over. Files of a feed never change under their names but for the few that are signed anew, and
//! nothing is believed unverified: so a range may be begun by one and ended by another.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use goldleaf_host::Clock;

use crate::{At, FetchError, Source, Take, name};

/// How long a source is behind: as long as a server is usually away.
const BEHIND: Duration = Duration::from_secs(300);
/// Names whose givers are remembered. Who distrusts does so soon after it got the bytes.
const GIVEN_MAX: usize = 4096;

/// Several sources as one.
pub struct Several {
    sources: Vec<Arc<dyn Source>>,
    name: String,
    clock: Arc<dyn Clock>,
    standing: Mutex<Standing>,
}

/// Why a source is behind, and until when.
#[derive(Clone, Copy)]
struct Behind {
    /// By the clock's monotonic time.
    until: Duration,
    /// What it gave was wrong.
    has_lied: bool,
}

/// What is known of the sources, by their numbers.
struct Standing {
    behind: Vec<Option<Behind>>,
    /// Who gave the bytes under a name.
    given: BTreeMap<String, Vec<usize>>,
}

impl Several {
    /// The first is asked first, as long as it is good.
    pub fn new(sources: Vec<Arc<dyn Source>>, clock: Arc<dyn Clock>) -> Self {
        let name = sources.iter().map(|source| source.name()).collect::<Vec<_>>().join(", ");
        let behind = vec![None; sources.len()];
        let standing = Mutex::new(Standing { behind, given: BTreeMap::new() });
        Self { sources, name, clock, standing }
    }

    /// The names of those that are behind now.
    pub fn behind(&self) -> Vec<String> {
        let standing = self.standing();
        let behind = self.sources.iter().zip(&standing.behind);
        behind.filter(|(_, behind)| behind.is_some()).map(|(one, _)| one.name().into()).collect()
    }

    /// What is known as of now.
    fn standing(&self) -> MutexGuard<'_, Standing> {
        let now = self.clock.monotonic();
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        for behind in &mut standing.behind {
            *behind = behind.filter(|behind| now < behind.until);
        }
        standing
    }

    /// Numbers of the sources: the good ones as they stand, then who has been behind for longest.
    fn order(&self) -> Vec<usize> {
        let standing = self.standing();
        let mut order: Vec<usize> = (0..self.sources.len()).collect();
        order.sort_by_key(|&number| standing.behind[number].map(|behind| behind.until));
        order
    }

    fn put_behind(&self, number: usize, has_lied: bool) {
        let until = self.clock.monotonic() + BEHIND;
        self.standing().behind[number] = Some(Behind { until, has_lied });
    }

    fn has_lied(&self, number: usize) -> bool {
        self.standing().behind[number].is_some_and(|behind| behind.has_lied)
    }

    fn gave(&self, number: usize, path: &str) {
        let mut standing = self.standing();
        if standing.given.len() >= GIVEN_MAX && !standing.given.contains_key(path) {
            standing.given.pop_first();
        }
        let givers = standing.given.entry(path.into()).or_default();
        if !givers.contains(&number) {
            givers.push(number);
        }
    }

    /// A file that one does not have may be with another, and that is no fault. All that failed,
    /// where not all just do not have it.
    fn outcome(at: At, errors: Vec<FetchError>) -> FetchError {
        let is_missing = |error: &FetchError| matches!(error, FetchError::Missing { .. });
        if !errors.is_empty() && errors.iter().all(is_missing) {
            FetchError::Missing { at }
        } else {
            FetchError::All { errors }
        }
    }
}

impl Source for Several {
    fn name(&self) -> &str {
        &self.name
    }

    /// `None` when nobody has it of those who answer. Where somebody does not have it, who has lied
    /// is not asked: there may be no such file, and they could make one up again and again.
    fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, FetchError> {
        name::at(&self.name, path)?;
        let (mut errors, mut is_missing) = (Vec::new(), false);
        for number in self.order() {
            if is_missing && self.has_lied(number) {
                continue;
            }
            match self.sources[number].read(path, limit) {
                Ok(Some(bytes)) => {
                    self.gave(number, path);
                    return Ok(Some(bytes));
                }
                Ok(None) => is_missing = true,
                Err(error) => {
                    self.put_behind(number, false);
                    errors.push(error);
                }
            }
        }
        if is_missing { Ok(None) } else { Err(FetchError::All { errors }) }
    }

    fn stream(&self, path: &str, range: Range<u64>, take: &mut Take<'_>) -> Result<(), FetchError> {
        let at = name::at(&self.name, path)?;
        if range.is_empty() {
            return Ok(());
        }
        let (mut errors, mut next) = (Vec::new(), range.start);
        for number in self.order() {
            let begun = next;
            let streamed = self.sources[number].stream(path, next..range.end, &mut |piece| {
                next += piece.len() as u64;
                take(piece)
            });
            if next > begun {
                self.gave(number, path);
            }
            match streamed {
                Ok(()) => return Ok(()),
                Err(error @ FetchError::Missing { .. }) => errors.push(error),
                Err(error) => {
                    self.put_behind(number, false);
                    errors.push(error);
                }
            }
        }
        Err(Self::outcome(at, errors))
    }

    fn distrust(&self, path: &str) -> bool {
        let givers = self.standing().given.remove(path).unwrap_or_default();
        for number in givers {
            // One that is several itself, and has somebody else to ask, is as good as before.
            if !self.sources[number].distrust(path) {
                self.put_behind(number, true);
            }
        }
        self.standing().behind.iter().any(Option::is_none)
    }
}
