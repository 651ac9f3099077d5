//! `goldleaf key`: who may say what a feed's desktops are.

mod failure;
mod files;
mod keys;
mod new;
mod refresh;
mod root;
mod rotate;
mod show;
mod sign;

use clap::Subcommand;

pub use files::{now, secret};
pub use show::missing;

use crate::cli::App;
use crate::failure::Failure;

/// Keys, and the signed metadata of feeds
///
/// Root keys say whose keys the others are, image keys what there is, and the online key what is
/// the newest. Root and image keys belong to people, each on a machine of its own that is not on
/// the network. The manual's "Keys and signing" tells the whole ceremony.
#[derive(Debug, Subcommand)]
pub enum Command {
    New(new::Args),
    Root(root::Args),
    Rotate(rotate::Args),
    Sign(sign::Args),
    Show(show::Args),
    Refresh(refresh::Args),
}

/// Runs one of them.
pub fn run(app: &App, command: Command) -> Result<(), Failure> {
    match command {
        Command::New(args) => new::run(app, &args),
        Command::Root(args) => root::run(app, &args),
        Command::Rotate(args) => rotate::run(app, &args),
        Command::Sign(args) => sign::run(app, &args),
        Command::Show(args) => show::run(app, &args),
        Command::Refresh(args) => refresh::run(app, &args),
    }
}
