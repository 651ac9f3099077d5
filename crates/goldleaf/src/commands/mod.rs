//! One file a command. Each parses its arguments, calls a library, and prints.

pub mod apps;
mod asking;
pub mod changes;
pub mod check;
pub mod completions;
pub mod desktop;
pub mod doctor;
mod ending;
pub mod gc;
pub mod history;
pub mod image;
pub mod key;
pub mod layer;
pub mod list;
pub mod livepc;
pub mod man;
pub mod rejuvenate;
pub mod repair;
pub mod reset;
pub mod rollback;
pub mod rules;
pub mod start;
pub mod status;
pub mod stop;
