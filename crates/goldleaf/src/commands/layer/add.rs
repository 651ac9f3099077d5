//! `goldleaf layer add`

use std::path::PathBuf;

use goldleaf_player::bring::add_layer;

use crate::cli::App;
use crate::failure::Failure;
use crate::output::counted;

/// Make a layer of applications from files of this machine
///
/// Takes directories, .tar archives and .deb packages, the later ones over the earlier. Everything
/// becomes root's. A package that must run a script to be installed is refused: install it in a
/// guest, with `goldleaf layer record`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The layer
    name: String,
    /// What to make it from
    #[arg(long, value_name = "DIR|TAR|DEB", required = true, num_args = 1..)]
    from: Vec<PathBuf>,
    /// The image that it is for
    #[arg(long, value_name = "IMAGE")]
    on: String,
}

pub fn run(app: &App, args: &Args) -> Result<(), Failure> {
    let home = app.open()?;
    let console = app.console();
    let brought = add_layer(&home, &args.name, &args.on, &args.from, &console)?;
    console.finish();
    let value = serde_json::json!({
        "layer": args.name,
        "version": brought.version,
        "entries": brought.entries,
        "packages": brought.packages,
    });
    app.answer(&value, || {
        let entries = counted(brought.entries, "entry", "entries");
        format!("layer {} is at version {} now, with {entries}", args.name, brought.version)
    })
}
