//! `goldleaf update`

use std::ops::ControlFlow;

use goldleaf_host::Progress;
use goldleaf_player::cache;
use goldleaf_player::feeds::{self, Arrival, Subscription};

use crate::cli::App;
use crate::failure::Failure;
use crate::output::{printable, size};
use crate::progress::Console;

/// Bring the newest versions of what is subscribed to
///
/// A new version is brought as a whole, beside the one that runs; desktops stand on it from their
/// next start. A desktop that runs is not disturbed. A version on which no guest comes up in three
/// starts gives way to the one before, and is not brought again unless `goldleaf pin` asks for it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The subscriptions [default: all]
    names: Vec<String>,
    /// Only look what is new
    #[arg(long)]
    dry_run: bool,
}

/// What became of a subscription.
#[derive(serde::Serialize)]
struct Line {
    subscription: String,
    version: u64,
    newest: u64,
    is_new: bool,
    /// Bytes by which what has arrived is over its limit, and which nothing may take away.
    over_limit_bytes: u64,
    /// The version that would be wanted, but did not come up here.
    failed: Option<u64>,
    error: Option<String>,
}

pub fn run(app: &App, args: &Args) -> Result<(), Failure> {
    let home = app.open()?;
    let names = match args.names.is_empty() {
        true => feeds::list(&home)?.into_iter().map(|record| record.name).collect(),
        false => args.names.clone(),
    };
    let console = app.console();
    let mut lines = Vec::new();
    let mut failure = None;
    for name in names {
        match one(&home, &name, args.dry_run, &console) {
            Ok(line) => lines.push(line),
            Err(error) if args.names.len() == 1 => return Err(error),
            Err(error) => {
                let line = Line {
                    subscription: name,
                    version: 0,
                    newest: 0,
                    is_new: false,
                    over_limit_bytes: 0,
                    failed: None,
                    error: Some(error.message().to_owned()),
                };
                lines.push(line);
                failure.get_or_insert(error);
            }
        }
    }
    console.finish();
    app.answer(&lines, || {
        lines.iter().map(|line| as_text(line, args.dry_run)).collect::<Vec<_>>().join("\n")
    })?;
    failure.map_or(Ok(()), Err)
}

fn one(
    home: &goldleaf_player::Home,
    name: &str,
    dry_run: bool,
    console: &Console,
) -> Result<Line, Failure> {
    let mut subscription = Subscription::open(home, name)?;
    console.at("asking what is new", 0, 0);
    let wanted = subscription.refresh(home)?;
    let version = wanted.offer.version;
    let failed = feeds::has_failed(home, name, version)?.then_some(version);
    let line = |version, is_new| Line {
        subscription: name.into(),
        version,
        newest: wanted.newest,
        is_new,
        over_limit_bytes: 0,
        failed,
        error: None,
    };
    let current = feeds::current(home, name)?;
    if dry_run {
        return Ok(match failed {
            Some(_) => line(current.unwrap_or_default(), false),
            None => line(version, current != Some(version)),
        });
    }
    let arrival = match failed {
        Some(_) => Arrival::of_current(home, name)?,
        None => subscription.take(home, &wanted, console)?,
    };
    fill(&arrival, console)?;
    arrival.adopt(home)?;
    let line = line(arrival.version, arrival.is_new);
    // What it replaced may go, once nothing holds it.
    drop((arrival, subscription));
    Ok(Line { over_limit_bytes: cache::make_room(home, 0)?, ..line })
}

/// Brings all of an image, and shows how far it is.
pub fn fill(arrival: &Arrival, console: &Console) -> Result<bool, Failure> {
    Ok(arrival.fill(&|now| {
        console.at("bringing the image", now.here.bytes().0, now.all.bytes().0);
        ControlFlow::Continue(())
    })?)
}

fn as_text(line: &Line, dry_run: bool) -> String {
    let Line { subscription, version, .. } = line;
    if let Some(failed) = line.failed {
        return format!(
            "{subscription} stays at version {version}: version {failed} did not come up here; \
             `goldleaf pin {subscription} {failed}` tries it again"
        );
    }
    let text = match (&line.error, line.is_new, dry_run) {
        (Some(error), ..) => format!("{subscription}: {}", printable(error)),
        (None, true, true) => format!("{subscription}: version {version} is new"),
        (None, true, false) => {
            format!("{subscription}: version {version} runs from the next start")
        }
        (None, false, _) => format!("{subscription} is up to date, at version {version}"),
    };
    match line.over_limit_bytes {
        0 => text,
        over => {
            let over = size(over);
            format!("{text}\nwhat has arrived is {over} over its limit, and no more can go now")
        }
    }
}
