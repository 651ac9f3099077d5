//! `goldleaf layer record`

use std::sync::Arc;

use goldleaf_player::workshop::record_layer;

use crate::cli::App;
use crate::commands::{ending, start};
use crate::failure::Failure;
use crate::output::counted;
use crate::signals::PowerButton;

/// Record a layer of applications by installing them
///
/// Boots the image: install what the layer is to have, then shut the guest down inside. What was
/// added or changed becomes the layer, or its next version; the image stays as it is.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The layer
    name: String,
    /// The image to record on
    #[arg(long, value_name = "IMAGE")]
    on: String,
    #[command(flatten)]
    machine: start::Machine,
}

pub fn run(app: &App, args: &Args) -> Result<(), Failure> {
    let home = app.open()?;
    let console = Arc::new(app.console());
    let place = app.home_path()?.join("workshop").join(format!("layer-{}", args.name)).join("run");
    let options = args.machine.prepare(app, &console, &place)?;
    let button = PowerButton::wire(place.join("control.sock"), console.clone())?;
    let recorded = record_layer(&home, &args.name, &args.on, &options, console.as_ref())?;
    drop(button);
    console.finish();
    let value = serde_json::json!({
        "layer": args.name,
        "version": recorded.version,
        "entries": recorded.entries,
        "end": ending::word(&recorded.end),
    });
    app.answer(&value, || match recorded.version {
        Some(version) => {
            let entries = counted(recorded.entries, "entry", "entries");
            format!("layer {} is at version {version} now, with {entries}", args.name)
        }
        None => format!("{}: no new version was made", ending::sentence(&recorded.end)),
    })?;
    let again = format!(
        "the recording is unfinished; `goldleaf layer record {} --on {}` goes on with it, and \
         `--discard-session` drops it",
        args.name, args.on
    );
    ending::check(&recorded.end, &again)
}
