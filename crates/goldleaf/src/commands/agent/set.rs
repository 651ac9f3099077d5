//! `goldleaf agent set`

use std::net::SocketAddr;

use goldleaf_player::agent::{Request, Settings};

use super::ask;
use crate::cli::App;
use crate::failure::Failure;
use crate::output::{parse_duration, parse_size, size};

/// Shortest time between two rounds, in seconds: servers are not to be asked all the time.
const EVERY_MIN: u64 = 60;

/// Set how often the agent asks, how fast it brings, and whom it serves
///
/// Without options it shows the settings. They hold for this home, whether an agent runs or not.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How often it asks what is new, such as 4h
    #[arg(long, value_name = "TIME", value_parser = parse_every)]
    every: Option<u64>,
    /// Bytes that it may bring in a second, such as 2M; `none` lifts the limit
    #[arg(long, value_name = "SIZE", value_parser = parse_rate)]
    rate: Option<u64>,
    /// Serve what this machine has verified to its neighbours there, such as 0.0.0.0:8480, who
    /// name it with `goldleaf subscribe --mirror`; `none` ends that. It takes the room of the packs
    /// again
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    serve: Option<Address>,
}

#[derive(Debug, Clone, Copy)]
struct Address(Option<SocketAddr>);

fn parse_every(text: &str) -> Result<u64, String> {
    match parse_duration(text)? {
        secs if secs < EVERY_MIN => Err(format!("less than {EVERY_MIN} seconds")),
        secs => Ok(secs),
    }
}

/// 0 where there is to be no limit.
fn parse_rate(text: &str) -> Result<u64, String> {
    match parse_size(text) {
        _ if text == "none" => Ok(0),
        Ok(0) => Err("nothing would ever arrive; `none` lifts the limit".into()),
        other => other,
    }
}

fn parse_address(text: &str) -> Result<Address, String> {
    match text {
        "none" => Ok(Address(None)),
        text => match text.parse() {
            Ok(address) => Ok(Address(Some(address))),
            Err(_) => Err("expected an address and a port, such as 0.0.0.0:8480".into()),
        },
    }
}

pub fn run(app: &App, args: &Args) -> Result<(), Failure> {
    let home = app.open()?;
    let before = Settings::read(&home)?;
    let mut settings = before.clone();
    if let Some(every_secs) = args.every {
        settings.every_secs = every_secs;
    }
    if let Some(rate) = args.rate {
        settings.rate = Some(rate).filter(|rate| *rate > 0);
    }
    if let Some(Address(address)) = args.serve {
        settings.serve = address.map(|address| address.to_string());
    }
    let mut is_running = false;
    if settings != before {
        settings.write(&home)?;
        is_running = ask(&home, &Request::Reload)?;
    }
    app.answer(&settings, || {
        let Settings { every_secs, rate, serve, .. } = &settings;
        let rate = rate.map_or("no limit".into(), |rate| format!("{} in a second", size(rate)));
        let served = serve.as_deref().unwrap_or("nobody");
        let mut text = format!(
            "asks every {every_secs} s\nbrings with {rate}\nserves neighbours at: {served}"
        );
        if is_running && settings.serve != before.serve {
            text += "\nthe agent that runs serves otherwise from its next start";
        }
        text
    })
}
