//! `goldleaf livepc`: what desktops are instances of.

mod create;
mod delete;
mod list;

use clap::Subcommand;

use crate::cli::App;
use crate::failure::Failure;

/// LivePCs: an image with layers of applications, rules and hardware
#[derive(Debug, Subcommand)]
pub enum Command {
    Create(create::Args),
    List(list::Args),
    Delete(delete::Args),
}

/// Runs one of them.
pub fn run(app: &App, command: Command) -> Result<(), Failure> {
    match command {
        Command::Create(args) => create::run(app, &args),
        Command::List(args) => list::run(app, &args),
        Command::Delete(args) => delete::run(app, &args),
    }
}
