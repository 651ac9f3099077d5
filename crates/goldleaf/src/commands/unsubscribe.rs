//! `goldleaf unsubscribe`

use goldleaf_player::feeds;

use crate::cli::App;
use crate::failure::Failure;

/// Stop following a published LivePC, and keep it
///
/// The LivePC, its image and layers, and its desktops stay as they are, and no update comes any
/// more. Refused while something of the image has not arrived yet, because nothing would bring it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The subscription
    name: String,
}

pub fn run(app: &App, args: &Args) -> Result<(), Failure> {
    let (home, name) = (app.open()?, &args.name);
    let version = feeds::current(&home, name)?;
    feeds::unsubscribe(&home, name)?;
    let value = serde_json::json!({ "unsubscribed": name, "version": version });
    app.answer(&value, || match version {
        Some(version) => format!("{name} stays as it is, at version {version}"),
        None => format!("{name} is not followed any more"),
    })
}
