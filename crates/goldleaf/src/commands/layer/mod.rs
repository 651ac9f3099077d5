//! `goldleaf layer`: apps layers.

mod add;
mod delete;
mod list;
mod record;

use clap::Subcommand;

use crate::cli::App;
use crate::failure::Failure;

/// Layers of applications, recorded once and given to many desktops
#[derive(Debug, Subcommand)]
pub enum Command {
    Record(record::Args),
    Add(add::Args),
    List(list::Args),
    Delete(delete::Args),
}

/// Runs one of them.
pub fn run(app: &App, command: Command) -> Result<(), Failure> {
    match command {
        Command::Record(args) => record::run(app, &args),
        Command::Add(args) => add::run(app, &args),
        Command::List(args) => list::run(app, &args),
        Command::Delete(args) => delete::run(app, &args),
    }
}
