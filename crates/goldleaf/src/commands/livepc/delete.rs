//! `goldleaf livepc delete`

use goldleaf_player::livepc;

use crate::cli::App;
use crate::failure::Failure;

/// Delete a LivePC; its image and its layers stay
///
/// A LivePC that has desktops is not deleted: delete those first.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The LivePC
    name: String,
    /// Only show whether it would be deleted
    #[arg(long)]
    dry_run: bool,
}

pub fn run(app: &App, args: &Args) -> Result<(), Failure> {
    let home = app.open()?;
    livepc::check_unused(&home, &args.name)?;
    if !args.dry_run {
        livepc::delete(&home, &args.name)?;
    }
    let value = serde_json::json!({ "livepc": args.name, "deleted": !args.dry_run });
    app.answer(&value, || {
        let verb = if args.dry_run { "would delete" } else { "deleted" };
        format!("{verb} LivePC {}", args.name)
    })
}
