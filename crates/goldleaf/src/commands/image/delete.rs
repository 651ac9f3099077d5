//! `goldleaf image delete`

use goldleaf_player::images;

use crate::cli::App;
use crate::failure::Failure;
use crate::output::{counted, size};

/// Delete an image with all its versions
///
/// An image that a LivePC is made from is not deleted.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The image
    name: String,
    /// Only show what would be deleted
    #[arg(long)]
    dry_run: bool,
}

pub fn run(app: &App, args: &Args) -> Result<(), Failure> {
    let home = app.open()?;
    let deletion = if args.dry_run {
        images::plan(&home, &args.name)?
    } else {
        images::delete(&home, &args.name)?
    };
    app.answer(&deletion, || {
        let verb = if args.dry_run { "would delete" } else { "deleted" };
        let versions = counted(deletion.versions, "version", "versions");
        let bytes = size(deletion.bytes);
        format!("{verb} image {} with {versions}, {bytes}", deletion.image)
    })
}
