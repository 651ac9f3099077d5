//! The command line: global options, the commands, and the way from arguments to an exit code.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use goldleaf_player::Home;
use serde::Serialize;

use crate::commands;
use crate::failure::Failure;
use crate::output;
use crate::place;
use crate::progress::Console;
use crate::worker;

/// Desktop virtual machines from one golden image and thin layers
///
/// A golden image is a disk that is never changed. A LivePC is an image with layers of
/// applications and rules, and a desktop is one person's instance of a LivePC: at every start its
/// disk is put together from the image, the layers of applications and the person's own layers, and
/// at every shutdown what the session changed is filed: documents and settings are kept, caches
/// stay on this machine, and the system itself is clean again.
///
/// Exit codes: 0 done, 2 the request was wrong, 3 a file of rules or settings is wrong, 4 this
/// machine lacks something, 70 Goldleaf itself failed.
#[derive(Debug, Parser)]
#[command(name = "goldleaf", version, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Args)]
struct Global {
    /// Where images, layers and desktops are [default: $GOLDLEAF_HOME, else
    /// $XDG_DATA_HOME/goldleaf, else ~/.local/share/goldleaf]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    home: Option<PathBuf>,
    /// Print one JSON document on standard output; errors are JSON on standard error
    #[arg(long, global = true, help_heading = "Global options")]
    json: bool,
    /// Say nothing of progress
    #[arg(short, long, global = true, help_heading = "Global options")]
    quiet: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
enum Command {
    #[command(subcommand)]
    Image(commands::image::Command),
    #[command(subcommand)]
    Layer(commands::layer::Command),
    #[command(subcommand)]
    Livepc(commands::livepc::Command),
    #[command(subcommand)]
    Desktop(commands::desktop::Command),
    Start(commands::start::Args),
    Stop(commands::stop::Args),
    Status(commands::status::Args),
    List(commands::list::Args),
    Changes(commands::changes::Args),
    History(commands::history::Args),
    Rollback(commands::rollback::Args),
    Reset(commands::reset::Args),
    Rejuvenate(commands::rejuvenate::Args),
    Apps(commands::apps::Args),
    Gc(commands::gc::Args),
    Cache(commands::cache::Args),
    Check(commands::check::Args),
    Repair(commands::repair::Args),
    #[command(subcommand)]
    Rules(commands::rules::Command),
    #[command(subcommand)]
    Key(commands::key::Command),
    Publish(commands::publish::Args),
    #[command(subcommand)]
    Catalog(commands::catalog::Command),
    #[command(subcommand)]
    Feed(commands::feed::Command),
    Subscribe(commands::subscribe::Args),
    Unsubscribe(commands::unsubscribe::Args),
    Update(commands::update::Args),
    #[command(subcommand)]
    Agent(commands::agent::Command),
    Enrol(commands::enrol::Args),
    Export(commands::export::Args),
    ServeStatic(commands::serve_static::Args),
    Server(commands::server::Args),
    #[command(subcommand)]
    Admin(commands::admin::Command),
    Pin(commands::pin::Args),
    Unpin(commands::pin::UnpinArgs),
    Doctor(commands::doctor::Args),
    Completions(commands::completions::Args),
    Man(commands::man::Args),
}

/// What every command is given: where things are, and how to speak.
pub struct App {
    home: Option<PathBuf>,
    /// Whether the answer is a JSON document.
    pub json: bool,
    quiet: bool,
}

impl App {
    /// The path of the home.
    pub fn home_path(&self) -> Result<PathBuf, Failure> {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        if let Some(home) = &self.home {
            return Ok(home.clone());
        }
        if let Some(home) = variable("GOLDLEAF_HOME") {
            return Ok(home.into());
        }
        if let Some(data) = variable("XDG_DATA_HOME") {
            return Ok(PathBuf::from(data).join("goldleaf"));
        }
        variable("HOME").map(|home| PathBuf::from(home).join(".local/share/goldleaf")).ok_or_else(
            || {
                Failure::environment("the variable HOME is not set")
                    .hint("say where Goldleaf's files are, with `--home DIR`")
            },
        )
    }

    /// Opens the home.
    pub fn open(&self) -> Result<Home, Failure> {
        let home = Home::open(&self.home_path()?, worker::launcher()?)?;
        Ok(Home { account: place::account(), ..home })
    }

    /// Where progress is shown.
    pub fn console(&self) -> Console {
        Console::new(self.quiet || self.json)
    }

    /// Prints the answer: as JSON, or as text for people.
    pub fn answer<T: Serialize>(
        &self,
        value: &T,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        if self.json { output::json(value) } else { output::text(&text()) }
    }
}

/// Parses, runs, reports.
pub fn main() -> ExitCode {
    // Known before parsing, because the parser's own errors have to be JSON then, too.
    let json = std::env::args_os().skip(1).take_while(|arg| arg != "--").any(|arg| arg == "--json");
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error, json),
    };
    let Global { home, json, quiet } = cli.global;
    match run(&App { home, json, quiet }, cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(json),
    }
}

/// Help and version go to standard output and are no failure; the rest is the user's.
fn usage(error: &clap::Error, json: bool) -> ExitCode {
    use clap::error::ErrorKind;
    let shown = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if shown || !json {
        // A terminal that went away is nobody's to tell.
        let _ = error.print();
        return if shown { ExitCode::SUCCESS } else { ExitCode::from(2) };
    }
    let text = error.to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or("the command line is wrong");
    Failure::user(first.trim_start_matches("error: ")).hint("see `goldleaf --help`").report(true)
}

fn run(app: &App, command: Command) -> Result<(), Failure> {
    match command {
        Command::Image(command) => commands::image::run(app, command),
        Command::Layer(command) => commands::layer::run(app, command),
        Command::Livepc(command) => commands::livepc::run(app, command),
        Command::Desktop(command) => commands::desktop::run(app, command),
        Command::Start(args) => commands::start::run(app, &args),
        Command::Stop(args) => commands::stop::run(app, &args),
        Command::Status(args) => commands::status::run(app, &args),
        Command::List(args) => commands::list::run(app, &args),
        Command::Changes(args) => commands::changes::run(app, &args),
        Command::History(args) => commands::history::run(app, &args),
        Command::Rollback(args) => commands::rollback::run(app, &args),
        Command::Reset(args) => commands::reset::run(app, &args),
        Command::Rejuvenate(args) => commands::rejuvenate::run(app, &args),
        Command::Apps(args) => commands::apps::run(app, &args),
        Command::Gc(args) => commands::gc::run(app, &args),
        Command::Cache(args) => commands::cache::run(app, &args),
        Command::Check(args) => commands::check::run(app, &args),
        Command::Repair(args) => commands::repair::run(app, &args),
        Command::Rules(command) => commands::rules::run(app, command),
        Command::Key(command) => commands::key::run(app, command),
        Command::Publish(args) => commands::publish::run(app, &args),
        Command::Catalog(command) => commands::catalog::run(app, command),
        Command::Feed(command) => commands::feed::run(app, command),
        Command::Subscribe(args) => commands::subscribe::run(app, &args),
        Command::Unsubscribe(args) => commands::unsubscribe::run(app, &args),
        Command::Update(args) => commands::update::run(app, &args),
        Command::Agent(command) => commands::agent::run(app, command),
        Command::Enrol(args) => commands::enrol::run(app, &args),
        Command::Export(args) => commands::export::run(app, &args),
        Command::ServeStatic(args) => commands::serve_static::run(app, &args),
        Command::Server(args) => commands::server::run(app, &args),
        Command::Admin(command) => commands::admin::run(app, command),
        Command::Pin(args) => commands::pin::run(app, &args),
        Command::Unpin(args) => commands::pin::unpin(app, &args),
        Command::Doctor(args) => commands::doctor::run(app, &args),
        Command::Completions(args) => commands::completions::run(app, &args),
        Command::Man(args) => commands::man::run(app, &args),
    }
}
