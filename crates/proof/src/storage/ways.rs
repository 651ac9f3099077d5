//! All small workloads, at all crash points, in all the ways of a cut with few exceptions (A2).
//!
//! A workload is one or two steps on a disk of four blocks, between a flush and another one. It is
//! stopped at each of its operations on the storage in turn. There, all pending sectors, lengths
//! and names are kept, or all are lost, except for every choice of at most so many of them.

use std::io::ErrorKind;

use goldleaf_host::sim::{Exceptions, SimDir};

use super::oracle::{BLOCK, Oracle};
use super::workload::{Base, Step, content, create, open};
use super::{Failure, failure};

const LEN: usize = 4 * BLOCK;

/// The steps that workloads are made of.
pub fn alphabet() -> Vec<Step> {
    let mut steps = vec![
        Step::Write { at: 0, len: LEN, fill: 5 },
        Step::Zero { at: BLOCK, len: 2 * BLOCK },
        Step::Discard { at: 0, len: LEN },
        Step::Flush,
    ];
    for block in 0..4 {
        let at = block * BLOCK;
        steps.push(Step::Write { at, len: BLOCK, fill: 6 });
        steps.push(Step::Write { at: at + 512, len: 100, fill: 7 });
        steps.push(Step::Zero { at, len: BLOCK });
        steps.push(Step::Discard { at, len: BLOCK });
    }
    steps
}

/// Runs one workload with all its cuts; at most `most` changes are exceptions. Returns the number
/// of states.
pub fn all_cuts(steps: &[Step], most: usize) -> Result<u64, Failure> {
    let mut states = 0;
    for stop in 0.. {
        let dir = SimDir::new();
        let fail = failure(stop, "preparing a small workload");
        let device = create(&dir, LEN).map_err(&fail)?;
        let mut oracle = Oracle::new(Base(LEN).content());
        for step in [Step::Write { at: 0, len: 2 * BLOCK, fill: 1 }, Step::Flush] {
            oracle.begin(&step);
            step.apply(&device).map_err(&fail)?;
        }
        oracle.flushed();
        dir.stop_after(stop, ErrorKind::Other);
        let mut stopped = false;
        for step in steps.iter().chain([&Step::Flush]) {
            oracle.begin(step);
            match step.apply(&device) {
                Ok(()) if *step == Step::Flush => oracle.flushed(),
                Ok(()) => {}
                Err(_) => {
                    stopped = true;
                    break;
                }
            }
        }
        states += ways(&dir, &oracle, most, stop, steps)?;
        if !stopped {
            break;
        }
    }
    Ok(states)
}

fn ways(
    dir: &SimDir,
    oracle: &Oracle,
    most: usize,
    stop: u64,
    steps: &[Step],
) -> Result<u64, Failure> {
    let mut count = Exceptions::default();
    dir.crash_by(&mut count);
    let mut states = 0;
    let mut try_one = |lost: bool, except: &[usize]| -> Result<(), Failure> {
        let cut = dir.crash_by(&mut Exceptions::new(lost, except.to_vec()));
        let what = || format!("{steps:?}, stopped at {stop}, all lost {lost} but {except:?}");
        let fail =
            |error: String| failure(stop, "a small workload")(format!("{}: {error}", what()));
        let (device, _) = open(&cut, LEN).map_err(|error| fail(error.to_string()))?;
        let found = content(&device).map_err(|error| fail(error.to_string()))?;
        states += 1;
        oracle.check(&found).map_err(|wrong| fail(wrong.into()))
    };
    for lost in [false, true] {
        choices(count.asked(), most, &mut Vec::new(), &mut |except| try_one(lost, except))?;
    }
    Ok(states)
}

/// Calls `each` with every choice of at most `most` of `of` numbers.
fn choices(
    of: usize,
    most: usize,
    chosen: &mut Vec<usize>,
    each: &mut dyn FnMut(&[usize]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    each(chosen)?;
    if chosen.len() == most {
        return Ok(());
    }
    for next in chosen.last().map_or(0, |last| last + 1)..of {
        chosen.push(next);
        choices(of, most, chosen, each)?;
        chosen.pop();
    }
    Ok(())
}
