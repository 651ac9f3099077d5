//! `goldleaf admin`: what an administrator does at a control server.

mod action;
mod audit;
mod code;
mod endpoint;
mod group;
mod livepc;
mod session;
mod token;

use clap::Subcommand;
use goldleaf_api::Call;
use serde::Serialize;

use crate::cli::App;
use crate::failure::Failure;

/// Govern who gets what, at a control server
///
/// All of it can be done by the server's API as well, which is described in openapi.json. `begin`
/// or `login` come first; what they learn is kept in the home.
#[derive(Debug, Subcommand)]
pub enum Command {
    Begin(session::BeginArgs),
    Login(session::LoginArgs),
    Logout(session::LogoutArgs),
    Whoami(session::WhoamiArgs),
    #[command(subcommand)]
    Token(token::Command),
    #[command(subcommand)]
    Group(group::Command),
    Code(code::Args),
    #[command(subcommand)]
    Endpoint(endpoint::Command),
    #[command(subcommand)]
    Action(action::Command),
    #[command(subcommand)]
    Livepc(livepc::Command),
    Trust(session::TrustArgs),
    #[command(subcommand)]
    Audit(audit::Command),
}

/// Runs one of them.
pub fn run(app: &App, command: Command) -> Result<(), Failure> {
    match command {
        Command::Begin(args) => session::begin(app, &args),
        Command::Login(args) => session::login(app, &args),
        Command::Logout(args) => session::logout(app, &args),
        Command::Whoami(args) => session::whoami(app, &args),
        Command::Token(command) => token::run(app, &command),
        Command::Group(command) => group::run(app, &command),
        Command::Code(args) => code::run(app, &args),
        Command::Endpoint(command) => endpoint::run(app, &command),
        Command::Action(command) => action::run(app, &command),
        Command::Livepc(command) => livepc::run(app, &command),
        Command::Trust(args) => session::trust(app, &args),
        Command::Audit(command) => audit::run(app, &command),
    }
}

/// Makes a call as whoever is logged in.
fn call<C: Call>(app: &App, request: &C::Request) -> Result<C::Answer, Failure> {
    Ok(session::server(app)?.call::<C>(request)?)
}

/// Makes a call, and says what it did.
fn done<C: Call>(app: &App, request: &C::Request, text: String) -> Result<(), Failure>
where
    C::Answer: Serialize,
{
    let answer = call::<C>(app, request)?;
    app.answer(&answer, || text)
}
