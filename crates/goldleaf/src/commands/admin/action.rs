//! `goldleaf admin action`: what an endpoint is to do.

use clap::Subcommand;
use goldleaf_api::v1::{Action, ActionWanted, EndpointNamed, ListActions, SendAction};

use super::call;
use crate::cli::App;
use crate::failure::Failure;
use crate::output::{Table, when};

/// Have an endpoint do something, once
///
/// It does so within seconds where its agent runs, and else when it is there again. A desktop that
/// runs is not disturbed: what concerns it waits until it has come to rest.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bring what is new of all that it follows
    Update {
        /// The endpoint's id
        endpoint: String,
    },
    /// Make a desktop as it was delivered, but for the user's data
    Rejuvenate {
        /// The endpoint's id
        endpoint: String,
        /// The desktop
        desktop: String,
        /// Remove the applications as well that its user installed
        #[arg(long)]
        apps: bool,
    },
    /// Set one layer of a desktop to an earlier version
    Rollback {
        /// The endpoint's id
        endpoint: String,
        /// The desktop
        desktop: String,
        /// The layer: os, user-apps, user-data, or the name of a layer of applications
        #[arg(long)]
        layer: String,
        /// The version
        #[arg(long, value_name = "VERSION")]
        to: u64,
    },
    /// Show what an endpoint was to do, and what came of it
    List {
        /// The endpoint's id
        endpoint: String,
    },
}

pub fn run(app: &App, command: &Command) -> Result<(), Failure> {
    match command {
        Command::Update { endpoint } => send(app, endpoint, Action::Update {}),
        Command::Rejuvenate { endpoint, desktop, apps } => {
            send(app, endpoint, Action::Rejuvenate { desktop: desktop.clone(), apps: *apps })
        }
        Command::Rollback { endpoint, desktop, layer, to } => {
            let (desktop, layer) = (desktop.clone(), layer.clone());
            send(app, endpoint, Action::RollBack { desktop, layer, to: *to })
        }
        Command::List { endpoint } => list(app, endpoint),
    }
}

fn send(app: &App, endpoint: &str, action: Action) -> Result<(), Failure> {
    let wanted = ActionWanted { endpoint: endpoint.into(), action };
    let ordered = call::<SendAction>(app, &wanted)?;
    app.answer(&ordered, || {
        format!("ordered as {}; `goldleaf admin action list {endpoint}` shows it", ordered.id)
    })
}

fn list(app: &App, endpoint: &str) -> Result<(), Failure> {
    let named = EndpointNamed { endpoint: endpoint.into() };
    let actions = call::<ListActions>(app, &named)?.actions;
    app.answer(&actions, || {
        let headings = ["NUMBER", "WHAT", "BY", "AT", "DONE", "ERROR"];
        let mut table = Table::new(headings, "it was to do nothing\n");
        for action in &actions {
            let what = match &action.action {
                Action::Update {} => "update".into(),
                Action::Rejuvenate { desktop, apps: false } => format!("rejuvenate {desktop}"),
                Action::Rejuvenate { desktop, apps: true } => {
                    format!("rejuvenate {desktop} with applications")
                }
                Action::RollBack { desktop, layer, to } => {
                    format!("roll back {layer} of {desktop} to {to}")
                }
            };
            table.row([
                action.id.to_string(),
                what,
                action.by.clone(),
                when(action.at),
                action.done_at.map_or_else(|| "waits".into(), when),
                action.error.clone().unwrap_or_default(),
            ]);
        }
        table.render()
    })
}
