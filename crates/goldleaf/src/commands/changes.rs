//! `goldleaf changes`

use goldleaf_player::desktop::{self, ChangeLine};

use crate::cli::App;
use crate::failure::Failure;
use crate::output::{Table, printable, size};

/// Show what a session changed, and where each change goes when it ends
///
/// Of a running session only what the guest has written to its disk is known; that is some
/// seconds behind what it shows.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The desktop
    name: String,
    /// Only what is kept
    #[arg(long, conflicts_with = "dropped")]
    kept: bool,
    /// Only what is not
    #[arg(long)]
    dropped: bool,
}

pub fn run(app: &App, args: &Args) -> Result<(), Failure> {
    let home = app.open()?;
    let console = app.console();
    let report = desktop::changes(&home, &args.name, &console)?;
    console.finish();
    let Some(mut report) = report else {
        let nothing = || format!("desktop {} has no session", args.name);
        return app.answer(&serde_json::Value::Null, nothing);
    };
    report.changes.retain(|line| match (args.kept, args.dropped) {
        (true, _) => is_kept(line),
        (_, true) => !is_kept(line),
        _ => true,
    });
    app.answer(&report, || {
        let headings = ["FATE", "LAYER", "WHAT", "SIZE", "PATH", "WHY"];
        let mut table = Table::new(headings, "the session changed nothing of that kind");
        for line in &report.changes {
            table.row([
                line.fate.clone(),
                line.layer.clone().unwrap_or_else(|| "-".into()),
                line.what.clone(),
                size(line.size),
                line.path.clone(),
                line.why.clone(),
            ]);
        }
        let notes = report.notes.iter().map(|note| format!("note: {}\n", printable(note)));
        format!("{}\n{}", table.render(), notes.collect::<String>())
    })
}

fn is_kept(line: &ChangeLine) -> bool {
    matches!(line.fate.as_str(), "kept" | "merged")
}
