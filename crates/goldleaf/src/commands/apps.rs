//! `goldleaf apps`

use clap::Subcommand;
use goldleaf_player::desktop;

use crate::cli::App;
use crate::failure::Failure;
use crate::output::{Table, counted, number, printable, size, when};

/// Show or take away the applications that the user installed
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The desktop
    name: String,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Take a package away: its files and its records, not its user's data
    Remove {
        /// The package
        package: String,
        /// Only show what would be removed
        #[arg(long)]
        dry_run: bool,
    },
}

pub fn run(app: &App, args: &Args) -> Result<(), Failure> {
    match &args.action {
        None => show(app, &args.name),
        Some(Action::Remove { package, dry_run }) => remove(app, &args.name, package, *dry_run),
    }
}

fn show(app: &App, name: &str) -> Result<(), Failure> {
    let packages = desktop::apps(&app.open()?, name)?;
    app.answer(&packages, || {
        let headings = ["PACKAGE", "PATHS", "SIZE", "SINCE"];
        let mut table = Table::new(headings, "the user installed nothing");
        for package in &packages {
            table.row([
                package.package.clone(),
                number(package.paths),
                size(package.bytes),
                when(package.since_unix_secs),
            ]);
        }
        table.render()
    })
}

fn remove(app: &App, name: &str, package: &str, dry_run: bool) -> Result<(), Failure> {
    let paths = desktop::remove_package(&app.open()?, name, package, dry_run)?;
    let value = serde_json::json!({ "package": package, "paths": paths, "removed": !dry_run });
    app.answer(&value, || {
        let verb = if dry_run { "would remove" } else { "removed" };
        let count = counted(paths.len() as u64, "path", "paths");
        let list: String = paths.iter().map(|path| format!("{}\n", printable(path))).collect();
        format!("{list}{verb} {package} with {count}")
    })
}
