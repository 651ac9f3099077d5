//! Steps: the moves that take durable state from one state to the next, each with a name.
//!
//! The product's code wraps every such move in [`step`]. Nothing comes of it, and it costs nothing,
//! unless the feature `steps` is on, which only the proof has: that is told before each step and
//! after it, and can stop, kill or fail the process right there.

use std::io;
#[cfg(feature = "steps")]
use std::sync::OnceLock;

/// Where a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Nothing of it is done.
    Before,
    /// It is done, and nothing yet of what follows.
    After,
}

/// Hears of steps; an error is the step's.
#[cfg(feature = "steps")]
pub type StepHook = Box<dyn Fn(&'static str, Side) -> io::Result<()> + Send + Sync>;

#[cfg(feature = "steps")]
static HOOK: OnceLock<StepHook> = OnceLock::new();

/// Lets a process hear of its steps, from now to its end; only the first call counts.
#[cfg(feature = "steps")]
pub fn watch_steps(hook: StepHook) {
    let _ = HOOK.set(hook);
}

#[cfg(feature = "steps")]
fn reached(name: &'static str, side: Side) -> io::Result<()> {
    HOOK.get().map_or(Ok(()), |hook| hook(name, side))
}

#[cfg(not(feature = "steps"))]
#[inline(always)]
fn reached(_name: &'static str, _side: Side) -> io::Result<()> {
    Ok(())
}

/// Takes the step of that name: a durable move, and what must not be apart from it. `wrap` makes
/// the caller's error of an error that was asked for at this place.
pub fn step<T, E>(
    name: &'static str,
    wrap: impl Fn(io::Error) -> E,
    take: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    reached(name, Side::Before).map_err(&wrap)?;
    let taken = take()?;
    reached(name, Side::After).map_err(&wrap)?;
    Ok(taken)
}
