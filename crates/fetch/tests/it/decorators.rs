//! What stands before a source: several, limits, further tries.

use std::io;
use std::ops::{ControlFlow, Range};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use goldleaf_fetch::{At, FetchError, Limited, Rate, Retrying, Several, Source, Take, Tries};
use goldleaf_host::Clock;

use crate::world::{Same, Ticks, range};

/// How a source answers.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Good,
    Empty,
    Broken,
    /// Breaks after so many bytes of a range.
    Halfway(usize),
    Refusing,
}

/// A source in memory, with a mood and a memory for what it was asked.
struct Toy {
    name: &'static str,
    fill: u8,
    mood: Mutex<Mood>,
    asked: Mutex<Vec<Range<u64>>>,
}

impl Toy {
    fn new(name: &'static str, fill: u8, mood: Mood) -> Arc<Self> {
        Arc::new(Self { name, fill, mood: Mutex::new(mood), asked: Mutex::default() })
    }

    fn asked(&self) -> usize {
        std::mem::take(&mut *self.asked.lock().unwrap()).len()
    }

    fn answer(&self, path: &str) -> Result<Option<usize>, FetchError> {
        let at = At { name: self.name.into(), path: path.into() };
        match *self.mood.lock().unwrap() {
            Mood::Good => Ok(Some(usize::MAX)),
            Mood::Empty => Ok(None),
            Mood::Broken => {
                let source = io::ErrorKind::ConnectionReset.into();
                Err(FetchError::Io { at, source })
            }
            Mood::Halfway(len) => Ok(Some(len)),
            Mood::Refusing => Err(FetchError::Tls { at, why: "who are you?".into() }),
        }
    }
}

impl Source for Toy {
    fn name(&self) -> &str {
        self.name
    }

    fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, FetchError> {
        self.asked.lock().unwrap().push(0..limit);
        let len = usize::try_from(limit).unwrap();
        Ok(self.answer(path)?.map(|most| vec![self.fill; len.min(most)]))
    }

    fn stream(&self, path: &str, range: Range<u64>, take: &mut Take<'_>) -> Result<(), FetchError> {
        self.asked.lock().unwrap().push(range.clone());
        let at = At { name: self.name.into(), path: path.into() };
        let Some(most) = self.answer(path)? else { return Err(FetchError::Missing { at }) };
        let len = (range.end - range.start) as usize;
        for piece in vec![self.fill; len.min(most)].chunks(10) {
            if take(piece).is_break() {
                return Ok(());
            }
        }
        if most < len {
            let (expected, found) = (range.end, range.start + most as u64);
            return Err(FetchError::Length { at, expected, found });
        }
        Ok(())
    }

    fn distrust(&self, _path: &str) -> bool {
        false
    }
}

fn several(toys: &[&Arc<Toy>], clock: &Arc<Ticks>) -> Arc<Several> {
    let sources = toys.iter().map(|toy| Arc::clone(toy) as Arc<dyn Source>).collect();
    Arc::new(Several::new(sources, Arc::clone(clock) as Arc<dyn Clock>))
}

#[test]
fn who_fails_is_put_behind_and_asked_again_later() {
    let clock = Arc::new(Ticks::default());
    let (a, b) = (Toy::new("a", 1, Mood::Broken), Toy::new("b", 2, Mood::Good));
    let source = several(&[&a, &b], &clock);
    assert_eq!(source.name(), "a, b");
    assert_eq!(source.read("x", 3).unwrap().unwrap(), [2; 3]);
    assert_eq!(source.behind(), ["a"]);
    assert_eq!((a.asked(), b.asked()), (1, 1));
    *a.mood.lock().unwrap() = Mood::Good;
    assert_eq!(range(&*source, "x", 0, 30).unwrap(), [2; 30]);
    assert_eq!((a.asked(), b.asked()), (0, 1));
    clock.pass(Duration::from_secs(300));
    assert!(source.behind().is_empty());
    assert_eq!(source.read("x", 3).unwrap().unwrap(), [1; 3]);
}

#[test]
fn another_ends_what_one_began() {
    let clock = Arc::new(Ticks::default());
    let (a, b) = (Toy::new("a", 1, Mood::Halfway(25)), Toy::new("b", 2, Mood::Good));
    let source = several(&[&a, &b], &clock);
    let bytes = range(&*source, "x", 100, 60).unwrap();
    assert_eq!(bytes, [vec![1; 25], vec![2; 35]].concat());
    assert_eq!(b.asked.lock().unwrap().first(), Some(&(125..160)));
    // Both gave something of it: the one that also failed is no better than the other.
    assert!(!source.distrust("x"));
    assert_eq!(source.behind(), ["a", "b"]);
}

#[test]
fn what_one_does_not_have_another_may() {
    let clock = Arc::new(Ticks::default());
    let (a, b) = (Toy::new("a", 1, Mood::Empty), Toy::new("b", 2, Mood::Good));
    let source = several(&[&a, &b], &clock);
    assert_eq!(source.read("x", 3).unwrap().unwrap(), [2; 3]);
    assert_eq!(range(&*source, "x", 0, 30).unwrap(), [2; 30]);
    assert!(source.behind().is_empty(), "it is no fault");
    *b.mood.lock().unwrap() = Mood::Empty;
    assert_eq!(source.read("x", 3).unwrap(), None);
    let error = range(&*source, "x", 0, 30).unwrap_err();
    assert!(matches!(error, FetchError::Missing { .. }), "{error}");
    *b.mood.lock().unwrap() = Mood::Broken;
    assert_eq!(source.read("x", 3).unwrap(), None, "as far as anybody knows who answers");
    let error = range(&*source, "x", 0, 30).unwrap_err();
    assert!(matches!(error, FetchError::All { .. }), "{error}");
}

#[test]
fn all_that_fail_are_named() {
    let clock = Arc::new(Ticks::default());
    let (a, b) = (Toy::new("one", 1, Mood::Refusing), Toy::new("two", 2, Mood::Refusing));
    let source = several(&[&a, &b], &clock);
    let error = source.read("x", 3).unwrap_err();
    assert_eq!(error.to_string(), "one/x: who are you?; two/x: who are you?");
    assert!(!error.is_passing());
    *b.mood.lock().unwrap() = Mood::Broken;
    assert!(range(&*source, "x", 0, 3).unwrap_err().is_passing());
    assert!(several(&[], &clock).read("x", 3).is_err());
}

#[test]
fn a23_a37_who_gave_what_is_wrong_is_put_behind() {
    let clock = Arc::new(Ticks::default());
    let toys = [1, 2, 3].map(|fill| Toy::new(["a", "b", "c"][fill - 1], fill as u8, Mood::Good));
    let source = several(&[&toys[0], &toys[1], &toys[2]], &clock);
    let next = || source.read("timestamp.json", 1).unwrap().unwrap()[0];
    assert_eq!(next(), 1);
    assert!(source.distrust("timestamp.json"), "b and c are left");
    assert_eq!(source.behind(), ["a"]);
    // Said twice, by two threads that got the same bytes, it counts once.
    assert!(source.distrust("timestamp.json"));
    assert_eq!(source.behind(), ["a"]);
    clock.pass(Duration::from_secs(1));
    assert_eq!(next(), 2);
    assert!(source.distrust("timestamp.json"));
    clock.pass(Duration::from_secs(1));
    assert_eq!(next(), 3);
    assert!(!source.distrust("timestamp.json"), "nobody is left");
    assert_eq!(next(), 1, "who was found out first has had most time");
}

/// A file that there is not, which one of them makes up.
#[test]
fn who_has_lied_makes_no_files_up() {
    let clock = Arc::new(Ticks::default());
    let (liar, honest) = (Toy::new("a", 1, Mood::Good), Toy::new("b", 2, Mood::Empty));
    let source = several(&[&liar, &honest], &clock);
    assert_eq!(source.read("2.root.json", 1).unwrap().unwrap(), [1]);
    assert!(source.distrust("2.root.json"));
    assert_eq!(source.read("2.root.json", 1).unwrap(), None);
    *honest.mood.lock().unwrap() = Mood::Broken;
    assert_eq!(source.read("2.root.json", 1).unwrap().unwrap(), [1], "nobody else answers");
}

#[test]
fn a_rate_is_kept() {
    let clock = Arc::new(Ticks::default());
    let rate = Rate::new(Arc::clone(&clock) as Arc<dyn Clock>, Some(1000));
    let source: Arc<dyn Source> =
        Arc::new(Limited::new(Toy::new("a", 1, Mood::Good), Arc::clone(&rate)));
    let took = |len: usize| {
        let began = clock.monotonic();
        range(&*source, "x", 0, len).unwrap();
        (clock.monotonic() - began).as_secs_f64()
    };
    clock.pass(Duration::from_secs(100));
    assert!((9.7..=10.0).contains(&took(10_000)), "what nobody took is not saved up");
    rate.set(Some(4000));
    assert!((2.2..=2.6).contains(&took(10_000)));
    rate.set(None);
    assert_eq!(took(10_000), 0.0);
    rate.set(Some(1000));
    let began = clock.monotonic();
    source.read("x", 5000).unwrap();
    assert!((4.7..=5.0).contains(&(clock.monotonic() - began).as_secs_f64()));
    let longest = *clock.slept.lock().unwrap().iter().max().unwrap();
    assert!(longest <= Duration::from_millis(260), "{longest:?}");
}

#[test]
fn a_rate_changes_while_it_is_kept() {
    let clock = Arc::new(Ticks::default());
    let rate = Rate::new(Arc::clone(&clock) as Arc<dyn Clock>, Some(10));
    let source = Limited::new(Toy::new("a", 1, Mood::Good), Arc::clone(&rate));
    let mut seen = 0;
    source
        .stream("x", 0..100_000, &mut |piece| {
            seen += piece.len();
            if seen > 50 {
                rate.set(Some(1_000_000));
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    assert!((5.0..6.0).contains(&clock.monotonic().as_secs_f64()));
}

fn retrying(toy: &Arc<Toy>, clock: &Arc<Ticks>, chance: u8) -> Retrying {
    let tries = Tries { count: 5, first: Duration::from_secs(1), wait_max: Duration::from_secs(3) };
    let clock = Arc::clone(clock) as Arc<dyn Clock>;
    Retrying::new(Arc::clone(toy) as Arc<dyn Source>, tries, clock, Arc::new(Same(chance)))
}

#[test]
fn what_passes_is_tried_again_at_growing_intervals() {
    for (chance, expected) in [(255, [1, 2, 3, 3]), (0, [0; 4])] {
        let clock = Arc::new(Ticks::default());
        let toy = Toy::new("a", 1, Mood::Broken);
        assert!(retrying(&toy, &clock, chance).read("x", 3).unwrap_err().is_passing());
        assert_eq!(toy.asked(), 5);
        assert_eq!(*clock.slept.lock().unwrap(), expected.map(Duration::from_secs));
    }
}

#[test]
fn what_stays_is_not() {
    let clock = Arc::new(Ticks::default());
    for mood in [Mood::Good, Mood::Empty, Mood::Refusing] {
        let toy = Toy::new("a", 1, mood);
        let _ = retrying(&toy, &clock, 255).read("x", 3);
        assert_eq!(toy.asked(), 1);
    }
    assert!(clock.slept.lock().unwrap().is_empty());
}

#[test]
fn a_stream_goes_on_where_it_broke() {
    let clock = Arc::new(Ticks::default());
    let toy = Toy::new("a", 1, Mood::Halfway(20));
    assert_eq!(range(&retrying(&toy, &clock, 0), "x", 5, 90).unwrap(), [1; 90]);
    assert_eq!(*toy.asked.lock().unwrap(), [5..95, 25..95, 45..95, 65..95, 85..95]);
    let error = range(&retrying(&toy, &clock, 0), "x", 5, 110).unwrap_err();
    assert!(matches!(error, FetchError::Length { .. }), "{error}");
}
