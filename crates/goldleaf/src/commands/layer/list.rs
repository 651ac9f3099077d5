//! `goldleaf layer list`

use goldleaf_player::apps;

use crate::cli::App;
use crate::failure::Failure;
use crate::output::{Table, number, size, when};

/// Show the layers of applications
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(app: &App, _args: &Args) -> Result<(), Failure> {
    let layers = apps::list(&app.open()?)?;
    app.answer(&layers, || {
        let headings = ["NAME", "VERSION", "RECORDED ON", "ENTRIES", "SIZE", "MADE"];
        let mut table = Table::new(headings, "there are no layers");
        for layer in &layers {
            let Some(current) = layer.versions.last() else { continue };
            table.row([
                layer.name.clone(),
                current.number.to_string(),
                format!("{} {}", layer.image, current.image_version),
                number(current.entries),
                size(current.bytes),
                when(current.created_unix_secs),
            ]);
        }
        table.render()
    })
}
