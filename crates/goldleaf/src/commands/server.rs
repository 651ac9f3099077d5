//! `goldleaf server`

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use goldleaf_host::{RealClock, RealDir, RealEntropy, read_file};
use goldleaf_server::{Log, Options, Stop};
use serde::Deserialize;
use serde_json::Value;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::cli::App;
use crate::failure::Failure;
use crate::output;

/// Settings, in the directory.
const SETTINGS: &str = "server.toml";
/// Longest file of settings, in bytes.
const SETTINGS_MAX: u64 = 64 << 10;
const DATABASE: &str = "server.db";
const LISTEN: &str = "0.0.0.0:8443";

/// Be the control server, until it is told to stop
///
/// It decides who gets which LivePC, and knows how they are; what a LivePC is stays signed offline.
/// Its directory has the authority by which it is known, and a database unless another is named.
/// What is not said here is read from server.toml there. The manual's "The control server" tells
/// how to run it for many.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where its authority is, and its database
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Whose server it is; it stays so
    #[arg(long, value_name = "NAME")]
    organisation: Option<String>,
    /// Where it listens [default: 0.0.0.0:8443]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// A name or an address by which it is reached; several times for several [default: localhost]
    #[arg(long = "name", value_name = "HOST")]
    names: Vec<String>,
    /// A database of PostgreSQL, as postgres://USER@HOST/NAME; several servers may share one, with
    /// the same authority [default: a file of SQLite in the directory]
    #[arg(long, value_name = "URL")]
    database: Option<String>,
}

/// `server.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    organisation: Option<String>,
    listen: Option<SocketAddr>,
    #[serde(default)]
    names: Vec<String>,
    database: Option<String>,
}

pub fn run(app: &App, args: &Args) -> Result<(), Failure> {
    let failed = |error| Failure::io(format!("opening {}", args.dir.display()), &error);
    let dir = RealDir::create(&args.dir).map_err(failed)?;
    let settings = settings(&args.dir, &*dir)?;
    let organisation = args.organisation.clone().or(settings.organisation).ok_or_else(|| {
        Failure::user("whose server it is was not said").hint("name it with `--organisation`")
    })?;
    let listen = args.listen.or(settings.listen);
    let listen = listen.map_or_else(|| LISTEN.parse(), Ok);
    let listen = listen.map_err(|error| Failure::internal(format!("{LISTEN}: {error}")))?;
    let names = [args.names.clone(), settings.names].into_iter().find(|names| !names.is_empty());
    let database = match args.database.clone().or(settings.database) {
        Some(database) => database,
        None => sqlite(&args.dir.join(DATABASE))?,
    };
    let options = Options {
        organisation,
        database,
        dir,
        names: names.unwrap_or_else(|| vec!["localhost".into()]),
        clock: Arc::new(RealClock::new()),
        entropy: Arc::new(RealEntropy),
        log: Arc::new(ToStandardError),
    };
    let stop = Stop::default();
    obey(&stop)?;
    let mut said = Ok(());
    goldleaf_server::run(options, listen, &stop, |answering| {
        let begin = answering.begin.as_ref().map(ToString::to_string);
        let value = serde_json::json!({
            "address": answering.address, "pid": std::process::id(), "begin": begin,
        });
        said = app.answer(&value, || {
            let mut text = format!("the control server answers at https://{}/", answering.address);
            if let Some(begin) = &begin {
                text += &format!(
                    "\nit has no administrator; within an hour whoever has this code becomes it:\n\
                     goldleaf admin begin https://HOST:PORT {begin}"
                );
            }
            text
        });
        // Whoever waits for that line has it now.
        let _ = std::io::stdout().flush();
    })?;
    said
}

fn settings(path: &Path, dir: &dyn goldleaf_host::Dir) -> Result<Settings, Failure> {
    let path = path.join(SETTINGS);
    match read_file(dir, SETTINGS, SETTINGS_MAX) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Settings::default()),
        Err(error) => Err(Failure::io(format!("reading {}", path.display()), &error)),
        Ok(bytes) => toml::from_slice(&bytes)
            .map_err(|error| Failure::config(format!("{}: {error}", path.display()))),
    }
}

/// The address of a file of SQLite.
fn sqlite(path: &Path) -> Result<String, Failure> {
    let path = std::path::absolute(path)
        .map_err(|error| Failure::io("finding the current directory", &error))?;
    let text = path.to_str().ok_or_else(|| Failure::user("the directory's name is no text"))?;
    // What would end a path in an address is written otherwise (RFC 3986, section 2.1).
    let text = text.replace('%', "%25").replace('?', "%3F").replace('#', "%23");
    Ok(format!("sqlite:{text}?mode=rwc"))
}

/// Ends the server on a signal; a second one ends this process.
fn obey(stop: &Stop) -> Result<(), Failure> {
    let mut signals = Signals::new([SIGINT, SIGTERM])
        .map_err(|error| Failure::io("preparing for signals", &error))?;
    let stop = stop.clone();
    std::thread::spawn(move || {
        for (pressed, signal) in (1..).zip(signals.forever()) {
            match pressed {
                1 => stop.stop(),
                _ => std::process::exit(128 + signal),
            }
        }
    });
    Ok(())
}

/// A line of JSON for each thing that happens.
struct ToStandardError;

impl Log for ToStandardError {
    fn tell(&self, line: &Value) {
        output::complain_json(&line.to_string());
    }
}
