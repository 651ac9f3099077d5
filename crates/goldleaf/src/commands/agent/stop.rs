//! `goldleaf agent stop`

use std::time::Duration;

use goldleaf_player::agent::{Request, status};

use super::ask;
use crate::cli::App;
use crate::failure::Failure;

const PATIENCE: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(20);

/// End the agent
///
/// What it brings is kept as far as it came. One that a service manager runs is ended there.
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(app: &App, _: &Args) -> Result<(), Failure> {
    let home = app.open()?;
    let was_running = ask(&home, &Request::Stop)?;
    let until = home.clock.monotonic() + PATIENCE;
    while status(&home)?.is_some() {
        if home.clock.monotonic() > until {
            return Err(Failure::environment("the agent was told to end, and still runs"));
        }
        home.clock.sleep(TICK);
    }
    app.answer(&serde_json::json!({ "was_running": was_running }), || match was_running {
        true => "the agent has ended".into(),
        false => "no agent runs".into(),
    })
}
