//! `goldleaf layer delete`

use goldleaf_player::apps;

use crate::cli::App;
use crate::failure::Failure;

/// Delete a layer of applications with all its versions
///
/// A layer that a LivePC has is not deleted. Its content is given back by `goldleaf gc`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The layer
    name: String,
    /// Only show whether it would be deleted
    #[arg(long)]
    dry_run: bool,
}

pub fn run(app: &App, args: &Args) -> Result<(), Failure> {
    let home = app.open()?;
    apps::check_unused(&home, &args.name)?;
    if !args.dry_run {
        apps::delete(&home, &args.name)?;
    }
    let value = serde_json::json!({ "layer": args.name, "deleted": !args.dry_run });
    app.answer(&value, || {
        let verb = if args.dry_run { "would delete" } else { "deleted" };
        format!("{verb} layer {}", args.name)
    })
}
