//! `goldleaf image`: golden images.

mod create;
mod delete;
mod edit;
mod grow;
mod import;
mod list;

use clap::Subcommand;

use crate::cli::App;
use crate::failure::Failure;

/// Golden images: the disks that desktops are made from
#[derive(Debug, Subcommand)]
pub enum Command {
    Import(import::Args),
    Create(create::Args),
    Edit(edit::Args),
    Grow(grow::Args),
    List(list::Args),
    Delete(delete::Args),
}

/// Runs one of them.
pub fn run(app: &App, command: Command) -> Result<(), Failure> {
    match command {
        Command::Import(args) => import::run(app, &args),
        Command::Create(args) => create::run(app, &args),
        Command::Edit(args) => edit::run(app, &args),
        Command::Grow(args) => grow::run(app, &args),
        Command::List(args) => list::run(app, &args),
        Command::Delete(args) => delete::run(app, &args),
    }
}
