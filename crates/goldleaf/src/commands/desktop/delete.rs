//! `goldleaf desktop delete`

use goldleaf_player::desktop::{self, DesktopRecord};

use crate::cli::App;
use crate::commands::asking;
use crate::failure::Failure;
use crate::output::size;

/// Delete a desktop with everything of its user's
///
/// Documents, settings, installed applications and their histories are gone; there is no way back.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The desktop
    name: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Only show what would be deleted
    #[arg(long)]
    dry_run: bool,
}

pub fn run(app: &App, args: &Args) -> Result<(), Failure> {
    let home = app.open()?;
    let record = desktop::peek(&home, &args.name)?;
    let held = held(&record);
    if !args.dry_run {
        if !args.yes {
            confirm(&args.name, held)?;
        }
        desktop::delete(&home, &args.name)?;
    }
    let value = serde_json::json!({
        "desktop": args.name,
        "bytes": held,
        "deleted": !args.dry_run,
    });
    app.answer(&value, || {
        let verb = if args.dry_run { "would delete" } else { "deleted" };
        format!("{verb} desktop {} with {} of its user's", args.name, size(held))
    })
}

/// Bytes that the current versions of the private layers name.
fn held(record: &DesktopRecord) -> u64 {
    record.layers.values().filter_map(|history| history.current()).map(|v| v.bytes.0).sum()
}

fn confirm(name: &str, held: u64) -> Result<(), Failure> {
    let held = size(held);
    asking::confirm(
        &format!("Delete desktop `{name}` with {held} of its user's? There is no way back."),
        &format!("desktop `{name}` is not deleted"),
    )
}
