//! Plans: what composing a desktop's layers over an image comes to, as plain data.
//!
//! ```text
//!   lower tree (image + what is composed already) ──┐
//!   entries of the stack, topmost of each path ─────┤ driver ─▶ operations, in path order
//!   facts (packages, keep rules) ───────────────────┘    │
//!                                     compose::decide ◀──┘  one pure decision a path
//! ```
//!
//! An image moves on while layers stand still. Each entry records what it replaced, so that its
//! path can be told to be as it was then, fixed since, gone, or something else altogether.
//! [`compose`] holds the table of what then holds, [`driver`] walks tree and entries together, and
//! [`report`] says what a person should know afterwards.

mod compose;
mod driver;
mod report;

pub use compose::{
    Case, Conffile, Decision, Lower, PackageState, Parent, UPSTREAM_SUFFIX, bare_digest, decide,
    needs_digest,
};
pub use driver::{
    ComposeFacts, Part, Plan, PlanError, PlannedOp, Planner, StackItem, content_digest, plan,
};
pub use report::{Outcome, Reason, Report};
