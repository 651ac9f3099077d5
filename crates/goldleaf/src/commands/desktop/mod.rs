//! `goldleaf desktop`: instances of LivePCs.

mod create;
mod delete;

use clap::Subcommand;

use crate::cli::App;
use crate::failure::Failure;

/// Desktops: one person's instances of LivePCs
#[derive(Debug, Subcommand)]
pub enum Command {
    Create(create::Args),
    Delete(delete::Args),
}

/// Runs one of them.
pub fn run(app: &App, command: Command) -> Result<(), Failure> {
    match command {
        Command::Create(args) => create::run(app, &args),
        Command::Delete(args) => delete::run(app, &args),
    }
}
