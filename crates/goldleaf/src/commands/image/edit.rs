//! `goldleaf image edit`

use std::sync::Arc;

use goldleaf_player::workshop::edit_image;

use crate::cli::App;
use crate::commands::{ending, start};
use crate::failure::Failure;
use crate::signals::PowerButton;

/// Start an image writable, to change it
///
/// Boots the image itself: install, update and configure in it as on any machine, then shut it
/// down inside. What is there then becomes the image's next version, which every desktop of the
/// image stands on from its next start.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The image
    name: String,
    #[command(flatten)]
    machine: start::Machine,
}

pub fn run(app: &App, args: &Args) -> Result<(), Failure> {
    let home = app.open()?;
    let console = Arc::new(app.console());
    let place = app.home_path()?.join("workshop").join(format!("image-{}", args.name)).join("run");
    let options = args.machine.prepare(app, &console, &place)?;
    let button = PowerButton::wire(place.join("control.sock"), console.clone())?;
    let edited = edit_image(&home, &args.name, &options, console.as_ref())?;
    drop(button);
    console.finish();
    let end = ending::word(&edited.end);
    let value = serde_json::json!({ "image": args.name, "version": edited.version, "end": end });
    app.answer(&value, || match edited.version {
        Some(version) => format!("image {} is at version {version} now", args.name),
        None => format!("{}: no new version was made", ending::sentence(&edited.end)),
    })?;
    let again = format!(
        "the edit is unfinished, and the image as it was; `goldleaf image edit {name}` goes on \
         with it, and `--discard-session` drops it",
        name = args.name
    );
    ending::check(&edited.end, &again)
}
