//! `goldleaf pin` and `goldleaf unpin`

use goldleaf_player::feeds::Subscription;

use crate::cli::App;
use crate::failure::Failure;

/// Keep a subscription at a version of its channel, whatever is new
///
/// The next `goldleaf update` brings that version, an older one too, until `goldleaf unpin`. One
/// that did not come up here before is tried again.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The subscription
    name: String,
    /// The version, by its number in the channel
    version: u64,
}

/// Let a subscription follow its channel again
#[derive(Debug, clap::Args)]
pub struct UnpinArgs {
    /// The subscription
    name: String,
}

pub fn run(app: &App, args: &Args) -> Result<(), Failure> {
    set(app, &args.name, Some(args.version))
}

pub fn unpin(app: &App, args: &UnpinArgs) -> Result<(), Failure> {
    set(app, &args.name, None)
}

fn set(app: &App, name: &str, version: Option<u64>) -> Result<(), Failure> {
    let home = app.open()?;
    Subscription::open(&home, name)?.pin(&home, version)?;
    let value = serde_json::json!({ "subscription": name, "pinned": version });
    app.answer(&value, || match version {
        Some(version) => format!("{name} stays at version {version}; `goldleaf update` brings it"),
        None => format!("{name} follows its channel; `goldleaf update` brings what is new"),
    })
}
