//! `goldleaf stop`

use goldleaf_player::desktop;

use crate::cli::App;
use crate::failure::Failure;

/// Ask a running desktop to shut down
///
/// Presses the power button and waits until the guest is off; its session is filed then.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The desktop
    name: String,
    /// Pull the plug instead: the session is unfinished, and goes on at the next start
    #[arg(long)]
    force: bool,
}

pub fn run(app: &App, args: &Args) -> Result<(), Failure> {
    let stopped = desktop::stop(&app.open()?, &args.name, args.force)?;
    let value = serde_json::json!({ "desktop": args.name, "was_running": stopped });
    app.answer(&value, || match (stopped, args.force) {
        (false, _) => format!("desktop {} does not run", args.name),
        (true, false) => format!("desktop {} is shut down", args.name),
        (true, true) => format!("the plug of desktop {} is pulled", args.name),
    })
}
