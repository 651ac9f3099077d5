//! `goldleaf list`

use goldleaf_player::desktop;

use crate::cli::App;
use crate::failure::Failure;
use crate::output::{Table, size, when};

/// Show the desktops of this machine
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(app: &App, _args: &Args) -> Result<(), Failure> {
    let home = app.open()?;
    let mut found = Vec::new();
    for record in desktop::list(&home)? {
        found.push(desktop::status(&home, &record.name)?);
    }
    let value: Vec<serde_json::Value> = found
        .iter()
        .map(|status| {
            serde_json::json!({
                "name": status.name,
                "livepc": status.livepc,
                "state": status.state,
                "version": status.version,
                "trial_starts": status.trial_starts,
                "failed_versions": status.failed_versions,
                "last_filed_unix_secs": status.record.last.as_ref().map(|last| last.at_unix_secs),
            })
        })
        .collect();
    app.answer(&value, || {
        let headings = ["NAME", "LIVEPC", "STATE", "LAST FILED", "THE USER'S"];
        let mut table = Table::new(headings, "there are no desktops");
        for status in &found {
            let last = status.record.last.as_ref();
            let layers = status.record.layers.values().filter_map(|history| history.current());
            table.row([
                status.name.clone(),
                status.livepc.clone(),
                status.state.clone(),
                last.map_or("never".into(), |last| when(last.at_unix_secs)),
                size(layers.map(|version| version.bytes.0).sum()),
            ]);
        }
        table.render()
    })
}
