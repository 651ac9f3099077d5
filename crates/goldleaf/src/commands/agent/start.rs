//! `goldleaf agent start`

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use goldleaf_player::Home;
use goldleaf_player::agent;

use crate::cli::App;
use crate::failure::Failure;

/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);
const TICK: Duration = Duration::from_millis(20);
/// What it complains of, in the home.
const LOG: &str = "agent.log";

/// Start the agent in the background, unless it runs
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(app: &App, _: &Args) -> Result<(), Failure> {
    let home = app.open()?;
    let was_there = agent::status(&home)?;
    if was_there.is_none() {
        start(app, &home)?;
    }
    let pid = agent::status(&home)?.map(|status| status.pid);
    let value = serde_json::json!({ "pid": pid, "was_running": was_there.is_some() });
    app.answer(&value, || match was_there {
        Some(_) => "the agent runs already".into(),
        None => "the agent runs".into(),
    })
}

/// Starts it, and waits until it answers.
pub fn start(app: &App, home: &Home) -> Result<(), Failure> {
    let path = app.home_path()?;
    let log = path.join(LOG);
    let failed = |error| Failure::io("starting the agent", &error);
    let program = std::env::current_exe().map_err(failed)?;
    let mut child = Command::new(program)
        .args(["agent", "run", "--quiet", "--home"])
        .arg(&path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&log).map_err(failed)?)
        // A terminal that interrupts this command does not mean the agent.
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    let until = home.clock.monotonic() + PATIENCE;
    while agent::status(home)?.is_none() {
        if let Some(why) = ended(&mut child, &log)? {
            return Err(Failure::environment(format!("the agent did not start: {why}")));
        }
        if home.clock.monotonic() > until {
            return Err(Failure::environment("the agent does not answer")
                .hint(format!("see {}", log.display())));
        }
        home.clock.sleep(TICK);
    }
    Ok(())
}

/// What it said, if it has ended; one that another was faster than has not failed.
fn ended(child: &mut Child, log: &std::path::Path) -> Result<Option<String>, Failure> {
    let failed = |error| Failure::io("waiting for the agent", &error);
    Ok(match child.try_wait().map_err(failed)? {
        None => None,
        Some(_) => Some(std::fs::read_to_string(log).map_err(failed)?.trim().to_owned()),
    })
}
