//! `goldleaf update`

use std::ops::ControlFlow;

use goldleaf_host::Progress;
use goldleaf_player::Home;
use goldleaf_player::agent::Request;
use goldleaf_player::feeds::{self, Arrival, Subscription, Told, Updated};

use super::agent;
use crate::cli::App;
use crate::failure::Failure;
use crate::output::{parse_duration, printable, size, when};
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
    /// Let new versions run from the next start, even if they were put off
    #[arg(long, conflicts_with = "dry_run")]
    now: bool,
    /// Bring new versions, but let them wait for so long before they run, such as 3d; those that
    /// come meanwhile, too
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    #[arg(conflicts_with_all = ["now", "dry_run"])]
    defer: Option<u64>,
    /// Leave it to the agent, and return at once; starts the agent where none runs
    #[arg(long, conflicts_with = "dry_run")]
    background: bool,
}

/// What became of a subscription.
#[derive(serde::Serialize)]
struct Line {
    subscription: String,
    version: u64,
    newest: u64,
    is_new: bool,
    /// Unix time up to which a new version waits, in seconds.
    deferred_until: Option<u64>,
    /// Bytes by which what has arrived is over its limit, and which nothing may take away.
    over_limit_bytes: u64,
    /// The version that would be wanted, but did not come up here.
    failed: Option<u64>,
    error: Option<String>,
}

impl Line {
    fn new(subscription: &str, updated: Updated) -> Self {
        let Updated { version, newest, is_new, deferred_until, over_limit_bytes, failed, .. } =
            updated;
        let (subscription, error) = (subscription.into(), None);
        Self {
            subscription,
            version,
            newest,
            is_new,
            deferred_until,
            over_limit_bytes,
            failed,
            error,
        }
    }

    fn failed(subscription: &str, failure: &Failure) -> Self {
        Self {
            subscription: subscription.into(),
            version: 0,
            newest: 0,
            is_new: false,
            deferred_until: None,
            over_limit_bytes: 0,
            failed: None,
            error: Some(failure.message().to_owned()),
        }
    }
}

pub fn run(app: &App, args: &Args) -> Result<(), Failure> {
    let home = app.open()?;
    let names = match args.names.is_empty() {
        true => feeds::list(&home)?.into_iter().map(|record| record.name).collect(),
        false => args.names.clone(),
    };
    if args.now || args.defer.is_some() {
        let until = args.defer.map(|secs| home.now_unix_secs().saturating_add(secs));
        for name in &names {
            Subscription::open(&home, name)?.defer(&home, until)?;
        }
    }
    if args.background {
        agent::ask_or_start(app, &home, &Request::Update { names: args.names.clone() })?;
        return app.answer(&serde_json::json!({ "left_to_agent": names }), || {
            "the agent brings what is new; `goldleaf agent status` says how far it is".into()
        });
    }
    let console = app.console();
    let mut lines = Vec::new();
    let mut failure = None;
    for name in names {
        match one(&home, &name, args.dry_run, &console) {
            Ok(updated) => lines.push(Line::new(&name, updated)),
            Err(error) if args.names.len() == 1 => return Err(error),
            Err(error) => {
                lines.push(Line::failed(&name, &error));
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

fn one(home: &Home, name: &str, dry_run: bool, console: &Console) -> Result<Updated, Failure> {
    let mut subscription = Subscription::open(home, name)?;
    Ok(match dry_run {
        true => subscription.look(home)?,
        false => subscription.update(home, console, &told(console))?,
    })
}

/// Brings all of an image, and shows how far it is.
pub fn fill(arrival: &Arrival, console: &Console) -> Result<bool, Failure> {
    Ok(arrival.fill(&told(console))?)
}

/// Shows how far an image is.
fn told(console: &Console) -> Box<Told<'_>> {
    Box::new(|now| {
        console.at("bringing the image", now.here.bytes().0, now.all.bytes().0);
        ControlFlow::Continue(())
    })
}

fn as_text(line: &Line, dry_run: bool) -> String {
    let Line { subscription, version, .. } = line;
    if let Some(failed) = line.failed {
        return format!(
            "{subscription} stays at version {version}: version {failed} did not come up here; \
             `goldleaf pin {subscription} {failed}` tries it again"
        );
    }
    let text = match (&line.error, line.deferred_until, line.is_new) {
        (Some(error), ..) => format!("{subscription}: {}", printable(error)),
        (None, Some(until), _) if !dry_run => format!(
            "{subscription}: version {version} is here, and waits until {}; \
             `goldleaf update --now {subscription}` lets it run from the next start",
            when(until)
        ),
        (None, _, true) if dry_run => format!("{subscription}: version {version} is new"),
        (None, _, true) => format!("{subscription}: version {version} runs from the next start"),
        (None, ..) => format!("{subscription} is up to date, at version {version}"),
    };
    match line.over_limit_bytes {
        0 => text,
        over => {
            let over = size(over);
            format!("{text}\nwhat has arrived is {over} over its limit, and no more can go now")
        }
    }
}
