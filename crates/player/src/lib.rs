//! The player: what makes a machine run LivePCs.
//!
//! ```text
//!   home      where everything is              livepc, apps   what is published
//!   desktop   instances: sessions, filing      workshop       editing images, recording layers
//!   machine   a virtual machine over a disk    control        the door to a running one
//!   collect   what may go                      check          what is damaged
//!   cache     how much may be here of what could be brought again
//!   agent     what goes on while nobody waits for it
//!   enrolment what a control server says that is to be here
//!   jobs      who works on guests' bytes      repair         what is damaged, made whole
//! ```

pub mod agent;
pub mod apps;
pub mod bring;
pub mod cache;
pub mod check;
pub mod collect;
pub mod control;
pub mod desktop;
pub mod enrolment;
mod error;
pub mod feeds;
mod home;
pub mod images;
mod in_use;
pub mod jobs;
pub mod livepc;
pub mod machine;
pub mod repair;
pub mod workshop;

pub use error::{PlayerError, sentence};
pub use home::Home;
