//! `goldleaf livepc list`

use goldleaf_player::livepc;

use crate::cli::App;
use crate::failure::Failure;
use crate::output::{Table, when};

/// Show the LivePCs
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(app: &App, _args: &Args) -> Result<(), Failure> {
    let livepcs = livepc::list(&app.open()?)?;
    app.answer(&livepcs, || {
        let headings = ["NAME", "IMAGE", "LAYERS", "MEMORY", "CPUS", "MADE"];
        let mut table = Table::new(headings, "there are no LivePCs");
        for livepc in &livepcs {
            let none = livepc.layers.is_empty();
            table.row([
                livepc.name.clone(),
                livepc.image.clone(),
                if none { "-".into() } else { livepc.layers.join(", ") },
                format!("{} MiB", livepc.memory_mib),
                livepc.cpus.to_string(),
                when(livepc.created_unix_secs),
            ]);
        }
        table.render()
    })
}
