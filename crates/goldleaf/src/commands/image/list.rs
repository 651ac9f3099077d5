//! `goldleaf image list`

use crate::cli::App;
use crate::failure::Failure;
use crate::output::{Table, size, when};

/// Show the golden images
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(app: &App, _args: &Args) -> Result<(), Failure> {
    let images = app.open()?.images()?.list()?;
    app.answer(&images, || {
        let headings = ["NAME", "VERSION", "SYSTEM", "DISK", "MADE", "CAUSE"];
        let mut table = Table::new(headings, "there are no images");
        for image in &images {
            let Some(current) = image.versions.last() else { continue };
            table.row([
                image.name.clone(),
                current.number.to_string(),
                current.os.clone(),
                size(current.blocks.bytes().0),
                when(current.created_unix_secs),
                current.cause.clone(),
            ]);
        }
        table.render()
    })
}
