//! `goldleaf rollback`

use goldleaf_player::desktop;

use crate::cli::App;
use crate::failure::Failure;
use crate::output::{printable, when};

/// Set one layer of a desktop to an earlier version
///
/// The image (`os`) and layers of applications stay at that version until they are set to their
/// newest one. A layer of the user's gets a new version with the old content, so that this can be
/// taken back, too. Identity is never rolled back.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The desktop
    name: String,
    /// The layer: os, the name of a layer of applications, user-apps, user-data or local
    #[arg(long)]
    layer: String,
    /// The version
    #[arg(long, value_name = "VERSION")]
    to: u64,
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
}

pub fn run(app: &App, args: &Args) -> Result<(), Failure> {
    let home = app.open()?;
    let line = desktop::rollback(&home, &args.name, &args.layer, args.to, args.dry_run)?;
    app.answer(&line, || {
        let verb = if args.dry_run { "would set" } else { "set" };
        let made = when(line.created_unix_secs);
        let (layer, version, cause) = (&line.layer, line.version, printable(&line.cause));
        format!("{verb} {layer} to version {version} of {made} ({cause})")
    })
}
