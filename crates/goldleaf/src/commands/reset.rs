//! `goldleaf reset`

use goldleaf_player::desktop;

use crate::cli::App;
use crate::failure::Failure;
use crate::output::{Table, counted};

/// Take paths back to what the image and the layers of applications have
///
/// A directory is taken back with everything in it; what only the user has there is gone.
/// What makes the desktop this one (machine id, host keys, secrets) stays.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The desktop
    name: String,
    /// A path in the guest; several can follow
    #[arg(long = "path", value_name = "PATH", required = true, num_args = 1..)]
    paths: Vec<String>,
    /// Only show what would be taken back
    #[arg(long)]
    dry_run: bool,
}

pub fn run(app: &App, args: &Args) -> Result<(), Failure> {
    let items = desktop::reset(&app.open()?, &args.name, &args.paths, args.dry_run)?;
    app.answer(&items, || {
        let mut table = Table::new(["LAYER", "PATH"], "nothing of the user's is there");
        for item in &items {
            table.row([item.layer.clone(), item.path.clone()]);
        }
        let verb = if args.dry_run { "would take back" } else { "took back" };
        let paths = counted(items.len() as u64, "path", "paths");
        match items.is_empty() {
            true => table.render(),
            false => format!("{}{verb} {paths}", table.render()),
        }
    })
}
