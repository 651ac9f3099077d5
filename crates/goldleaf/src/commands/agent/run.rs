//! `goldleaf agent run`

use std::io::Write;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use goldleaf_host::RealClock;
use goldleaf_player::Home;
use goldleaf_player::agent::{self, MIRROR, Settings};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::cli::App;
use crate::failure::Failure;
use crate::serve;

/// Be the agent, until it is told to stop
///
/// This is what a service manager runs; `goldleaf agent install` writes it a service.
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(app: &App, _: &Args) -> Result<(), Failure> {
    let home = app.open()?;
    if agent::status(&home)?.is_some() {
        let already = Failure::user("an agent runs already");
        return Err(already.hint("`goldleaf agent stop` ends it"));
    }
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, stop.clone())
            .map_err(|error| Failure::io("preparing for signals", &error))?;
    }
    let address = Settings::read(&home)?.serve;
    let served = address.as_deref().map(|address| serve_neighbours(&home, address)).transpose()?;
    let value = serde_json::json!({ "pid": std::process::id(), "serves_at": served });
    let mut said = Ok(());
    agent::run(&home, &stop, || {
        said = app.answer(&value, || match &served {
            Some(address) => format!("the agent runs, and serves neighbours at http://{address}/"),
            None => "the agent runs".into(),
        });
        // Whoever waits for that line has it now.
        let _ = std::io::stdout().flush();
    })?;
    said
}

/// Serves what was verified, for as long as this process lives. Returns where.
fn serve_neighbours(home: &Home, address: &str) -> Result<String, Failure> {
    let failed = |error| Failure::io(format!("listening at {address}"), &error);
    let listener = TcpListener::bind(address).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let dir = home.sub(MIRROR)?;
    std::thread::spawn(move || serve::serve(&dir, &listener, &RealClock::new()));
    Ok(bound.to_string())
}
