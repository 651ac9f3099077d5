//! `goldleaf rejuvenate`

use goldleaf_player::desktop;

use crate::cli::App;
use crate::failure::Failure;
use crate::output::{counted, printable};

/// Clean a desktop's system: clear caches, and take back edits of the image's files
///
/// Documents, settings and identity stay.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The desktop
    name: String,
    /// Also take away the applications that the user installed
    #[arg(long)]
    apps: bool,
    /// Only show what would be taken away
    #[arg(long)]
    dry_run: bool,
}

pub fn run(app: &App, args: &Args) -> Result<(), Failure> {
    let done = desktop::rejuvenate(&app.open()?, &args.name, args.apps, args.dry_run)?;
    app.answer(&done, || {
        let verb = if args.dry_run { "would clear" } else { "cleared" };
        let mut text = format!("{verb} {} of caches\n", counted(done.local, "entry", "entries"));
        for path in &done.edits {
            text += &format!("{verb} the edit of {}\n", printable(path));
        }
        for package in &done.packages {
            text += &format!("{verb} the application {}\n", printable(package));
        }
        text
    })
}
