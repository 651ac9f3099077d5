//! `goldleaf history`

use goldleaf_player::desktop;

use crate::cli::App;
use crate::failure::Failure;
use crate::output::{Table, number, size, when};

/// Show the versions of all layers of a desktop
///
/// A `*` marks the version that the next session stands on.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The desktop
    name: String,
}

pub fn run(app: &App, args: &Args) -> Result<(), Failure> {
    let lines = desktop::history(&app.open()?, &args.name)?;
    app.answer(&lines, || {
        let headings = ["LAYER", "VERSION", "", "MADE", "ENTRIES", "SIZE", "CAUSE"];
        let mut table = Table::new(headings, "there are no versions");
        for line in &lines {
            table.row([
                line.layer.clone(),
                line.version.to_string(),
                if line.current { "*".into() } else { String::new() },
                when(line.created_unix_secs),
                line.entries.map_or("-".into(), number),
                line.bytes.map_or("-".into(), size),
                line.cause.clone(),
            ]);
        }
        table.render()
    })
}
