//! `goldleaf agent status`

use goldleaf_player::agent::{AgentStatus, Doing, Line, ServerLine, status};

use crate::cli::App;
use crate::failure::Failure;
use crate::output::{Table, printable, size, when};

/// Show what the agent does
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(app: &App, _: &Args) -> Result<(), Failure> {
    let status = status(&app.open()?)?;
    app.answer(&status, || match &status {
        None => "no agent runs; `goldleaf agent start` starts one".into(),
        Some(status) => as_text(status),
    })
}

fn as_text(status: &AgentStatus) -> String {
    let headings = ["SUBSCRIPTION", "VERSION", "NOW", "ASKED", "NEXT", "ERROR"];
    let mut table = Table::new(headings, "nothing is subscribed to\n");
    status.subscriptions.iter().for_each(|line| table.row(row(line)));
    let rate = status.settings.rate.map_or("no limit".into(), |rate| format!("{}/s", size(rate)));
    let (pid, since) = (status.pid, when(status.since_unix_secs));
    let mut text = format!("the agent runs since {since} (pid {pid}), with {rate}\n");
    if let Some(address) = &status.settings.serve {
        text += &format!("neighbours are served at {}\n", printable(address));
    }
    text += &table.render();
    if let Some(server) = &status.server {
        text += &followed(server);
    }
    text
}

/// How it goes with the control server.
fn followed(server: &ServerLine) -> String {
    let ServerLine { server: address, organisation, state, .. } = server;
    let asked = server.checked_in_unix_secs.map_or_else(|| "never".into(), when);
    let mut text = format!(
        "follows {} at {}: {}, asked {asked}, next {}\n",
        printable(organisation),
        printable(address),
        state.as_str(),
        when(server.next_unix_secs)
    );
    let errors = server.error.iter().map(|why| ("asking it".to_owned(), why));
    for (what, why) in errors.chain(server.failed.iter().map(|(name, why)| (name.clone(), why))) {
        text += &format!("  {}: {}\n", printable(&what), printable(why));
    }
    text
}

fn row(line: &Line) -> [String; 6] {
    let now = match line.doing {
        Doing::Waiting => "waits".into(),
        Doing::GivingWay => "gives way".into(),
        Doing::Bringing if line.all_bytes == 0 => "asks".into(),
        Doing::Bringing => format!("{} of {}", size(line.here_bytes), size(line.all_bytes)),
    };
    [
        line.subscription.clone(),
        line.version.map_or_else(String::new, |version| version.to_string()),
        now,
        line.asked_unix_secs.map_or_else(|| "never".into(), when),
        when(line.next_unix_secs),
        line.error.clone().unwrap_or_default(),
    ]
}
