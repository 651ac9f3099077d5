//! `goldleaf desktop create`

use goldleaf_player::desktop;

use crate::cli::App;
use crate::failure::Failure;

/// Make a desktop of a LivePC, with an identity of its own
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the new desktop
    name: String,
    /// The LivePC
    #[arg(long, value_name = "LIVEPC")]
    livepc: String,
}

pub fn run(app: &App, args: &Args) -> Result<(), Failure> {
    let record = desktop::create(&app.open()?, &args.name, &args.livepc)?;
    app.answer(&record, || {
        let name = &args.name;
        format!("desktop {name} is made; start it with `goldleaf start {name}`")
    })
}
