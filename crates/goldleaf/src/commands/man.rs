//! `goldleaf man`

use std::path::PathBuf;

use clap::CommandFactory;

use crate::cli::{App, Cli};
use crate::failure::Failure;
use crate::output::counted;

/// Write the manual pages into a directory
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The directory; it is made when it is missing
    directory: PathBuf,
}

pub fn run(app: &App, args: &Args) -> Result<(), Failure> {
    let directory = &args.directory;
    let place = directory.display();
    std::fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), directory))
        .map_err(|error| Failure::io(format!("writing manual pages to {place}"), &error))?;
    let pages = count(&Cli::command());
    let value = serde_json::json!({ "directory": directory, "pages": pages });
    app.answer(&value, || format!("{} in {place}", counted(pages, "page", "pages")))
}

/// A page a command.
fn count(command: &clap::Command) -> u64 {
    1 + command.get_subcommands().map(count).sum::<u64>()
}
