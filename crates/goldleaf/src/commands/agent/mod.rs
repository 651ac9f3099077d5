//! `goldleaf agent`: what goes on while nobody waits for it.

mod install;
mod run;
mod set;
mod start;
mod status;
mod stop;

use clap::Subcommand;
use goldleaf_player::Home;
use goldleaf_player::agent::{Request, request};
use goldleaf_player::control::Answer;

use crate::cli::App;
use crate::failure::Failure;

/// The agent, which brings new versions in the background
///
/// There is one for a home. Nothing needs it: every command does by itself what it can, and the
/// agent gives way to it, and to a guest whose disk still arrives. It asks every few hours what is
/// new and brings it; a new version runs from the next start, and a desktop that runs is not
/// disturbed.
#[derive(Debug, Subcommand)]
pub enum Command {
    Start(start::Args),
    Stop(stop::Args),
    Status(status::Args),
    Set(set::Args),
    Install(install::Args),
    Run(run::Args),
}

/// Runs one of them.
pub fn run(app: &App, command: Command) -> Result<(), Failure> {
    match command {
        Command::Start(args) => start::run(app, &args),
        Command::Stop(args) => stop::run(app, &args),
        Command::Status(args) => status::run(app, &args),
        Command::Set(args) => set::run(app, &args),
        Command::Install(args) => install::run(app, &args),
        Command::Run(args) => run::run(app, &args),
    }
}

/// Asks the agent; whether one runs.
fn ask(home: &Home, what: &Request) -> Result<bool, Failure> {
    match request(home, what)? {
        None => Ok(false),
        Some(Answer::Done(_)) => Ok(true),
        Some(Answer::Failed(why)) => Err(Failure::user(why)),
    }
}

/// Asks the agent, after starting one where none runs.
pub fn ask_or_start(app: &App, home: &Home, what: &Request) -> Result<(), Failure> {
    if ask(home, what)? {
        return Ok(());
    }
    start::start(app, home)?;
    match ask(home, what)? {
        true => Ok(()),
        false => Err(Failure::internal("the agent ended at once")),
    }
}
