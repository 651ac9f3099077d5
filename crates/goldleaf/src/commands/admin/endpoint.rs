//! `goldleaf admin endpoint`: the endpoints.

use std::time::Duration;

use clap::Subcommand;
use goldleaf_api::v1::{
    ApproveEndpoint, Endpoint, EndpointBecause, EndpointDetail, EndpointInGroup, EndpointNamed,
    EndpointState, EndpointsWanted, GetEndpoint, ListEndpoints, MoveEndpoint, QuarantineEndpoint,
    RetireEndpoint,
};
use goldleaf_host::{Clock, RealClock};

use super::{call, done};
use crate::cli::App;
use crate::failure::Failure;
use crate::output::{Table, printable, when};

/// How often `--watch` looks.
const WATCHING: Duration = Duration::from_secs(2);

/// The endpoints
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List endpoints
    List(ListArgs),
    /// Show an endpoint, what it told of itself, and what it is to have
    Show {
        /// Its id
        endpoint: String,
    },
    /// Let in an endpoint that waits for that, or is in quarantine
    Approve {
        /// Its id
        endpoint: String,
    },
    /// Tell an endpoint nothing more
    Quarantine {
        /// Its id
        endpoint: String,
        /// Why
        #[arg(long)]
        because: String,
    },
    /// Forget an endpoint: it comes back only with a new code
    Retire {
        /// Its id
        endpoint: String,
    },
    /// Put an endpoint into another group
    Move {
        /// Its id
        endpoint: String,
        /// The group
        group: String,
    },
}

#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Only those of a group
    #[arg(long)]
    group: Option<String>,
    /// Only those in this state: pending, active, quarantined
    #[arg(long, value_parser = parse_state)]
    state: Option<EndpointState>,
    /// Only those whose name has this in it
    #[arg(long)]
    search: Option<String>,
    /// Show it again whenever it has changed, until it is interrupted
    #[arg(long, conflicts_with = "json")]
    watch: bool,
}

fn parse_state(text: &str) -> Result<EndpointState, String> {
    EndpointState::parse(text).ok_or_else(|| "expected pending, active or quarantined".into())
}

pub fn run(app: &App, command: &Command) -> Result<(), Failure> {
    let named = |endpoint: &String| EndpointNamed { endpoint: endpoint.clone() };
    match command {
        Command::List(args) if args.watch => watch(app, args),
        Command::List(args) => {
            let endpoints = all(app, args)?;
            app.answer(&endpoints, || table(&endpoints))
        }
        Command::Show { endpoint } => {
            let detail = call::<GetEndpoint>(app, &named(endpoint))?;
            app.answer(&detail, || shown(&detail))
        }
        Command::Approve { endpoint } => {
            done::<ApproveEndpoint>(app, &named(endpoint), format!("{endpoint} is let in"))
        }
        Command::Quarantine { endpoint, because } => {
            let request = EndpointBecause { endpoint: endpoint.clone(), because: because.clone() };
            done::<QuarantineEndpoint>(app, &request, format!("{endpoint} is told nothing more"))
        }
        Command::Retire { endpoint } => {
            done::<RetireEndpoint>(app, &named(endpoint), format!("{endpoint} is forgotten"))
        }
        Command::Move { endpoint, group } => {
            let request = EndpointInGroup { endpoint: endpoint.clone(), group: group.clone() };
            done::<MoveEndpoint>(app, &request, format!("{endpoint} is in {group}"))
        }
    }
}

/// Page after page.
fn all(app: &App, args: &ListArgs) -> Result<Vec<Endpoint>, Failure> {
    let server = super::session::server(app)?;
    let mut wanted = EndpointsWanted {
        group: args.group.clone(),
        state: args.state,
        search: args.search.clone(),
        after: None,
        limit: Some(1000),
    };
    let mut found = Vec::new();
    loop {
        let page = server.call::<ListEndpoints>(&wanted)?;
        found.extend(page.endpoints);
        match page.next {
            Some(next) => wanted.after = Some(next),
            None => return Ok(found),
        }
    }
}

fn watch(app: &App, args: &ListArgs) -> Result<(), Failure> {
    let (clock, mut before) = (RealClock::new(), None);
    loop {
        let endpoints = all(app, args)?;
        if before.as_ref() != Some(&endpoints) {
            app.answer(&endpoints, || table(&endpoints) + "\n")?;
            before = Some(endpoints);
        }
        clock.sleep(WATCHING);
    }
}

fn table(endpoints: &[Endpoint]) -> String {
    let headings = ["ID", "NAME", "GROUP", "STATE", "SEEN"];
    let mut table = Table::new(headings, "there are no such endpoints\n");
    for endpoint in endpoints {
        let Endpoint { id, name, group, .. } = endpoint;
        let seen = endpoint.seen_at.map_or_else(|| "never".into(), when);
        table.row([id.clone(), name.clone(), group.clone(), state(endpoint), seen]);
    }
    table.render()
}

fn state(endpoint: &Endpoint) -> String {
    let state = endpoint.state.as_str();
    match &endpoint.because {
        Some(because) => format!("{state}: {because}"),
        None => state.into(),
    }
}

fn shown(detail: &EndpointDetail) -> String {
    let Endpoint { id, name, group, enrolled_at, seen_at, .. } = &detail.endpoint;
    let seen = seen_at.map_or_else(|| "never".into(), when);
    let mut text = format!(
        "{id}  {}\ngroup: {}\nstate: {}\nenrolled: {}\nseen: {seen}\n",
        printable(name),
        printable(group),
        printable(&state(&detail.endpoint)),
        when(*enrolled_at)
    );
    let reports = detail.report.iter().flat_map(|report| &report.livepcs);
    let mut table = Table::new(["LIVEPC", "VERSION", "HERE", "ERROR"], "");
    for assigned in &detail.desired.livepcs {
        let report = reports.clone().find(|report| report.livepc == assigned.livepc);
        let version = report.and_then(|report| report.version);
        let here = match report {
            Some(report) if report.is_whole => "all",
            Some(_) => "partly",
            None => "no",
        };
        let error = report.and_then(|report| report.error.clone()).unwrap_or_default();
        let version = version.map_or_else(|| "none".into(), |version| version.to_string());
        table.row([assigned.livepc.clone(), version, here.into(), error]);
    }
    text += &table.render();
    text
}
