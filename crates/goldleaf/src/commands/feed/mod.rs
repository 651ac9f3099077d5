//! `goldleaf feed`: feeds of others.

mod show;

use clap::Subcommand;

use crate::cli::App;
use crate::failure::Failure;

/// What others publish
#[derive(Debug, Subcommand)]
pub enum Command {
    Show(show::Args),
}

/// Runs one of them.
pub fn run(app: &App, command: Command) -> Result<(), Failure> {
    match command {
        Command::Show(args) => show::run(app, &args),
    }
}
