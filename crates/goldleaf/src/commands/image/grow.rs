//! `goldleaf image grow`

use goldleaf_player::workshop::grow_image;

use crate::cli::App;
use crate::failure::Failure;
use crate::output::{parse_size, size};

/// Give an image a larger disk
///
/// Makes the image's next version: the same disk, only longer, with partition and file system of
/// the root grown to fill it. What does not change is shared with the version before. Desktops of
/// the image have the space from their next start. Disks do not shrink.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The image
    name: String,
    /// The new size of the disk, such as 40G
    #[arg(long, value_parser = parse_size)]
    size: u64,
}

pub fn run(app: &App, args: &Args) -> Result<(), Failure> {
    let home = app.open()?;
    let console = app.console();
    let grown = grow_image(&home, &args.name, args.size, &console)?;
    console.finish();
    app.answer(&grown, || {
        let (from, to) = (size(grown.from.0), size(grown.to.0));
        format!("image {}, version {}: {to}, before {from}", grown.image, grown.version)
    })
}
