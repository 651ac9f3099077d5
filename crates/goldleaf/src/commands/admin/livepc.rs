//! `goldleaf admin livepc`: LivePCs, and who gets them.

use clap::Subcommand;
use goldleaf_api::v1::{
    AssignLivePc, Assignment, DeleteLivePc, ListLivePcs, LivePcAt, LivePcNamed, Nothing, PutLivePc,
    UnassignLivePc,
};

use super::{call, done};
use crate::cli::App;
use crate::failure::Failure;
use crate::output::Table;

/// LivePCs, and who gets them
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Say where a LivePC is published
    Put {
        /// Its name
        livepc: String,
        /// PLACE/feeds/NAME or PLACE/feeds/NAME/CHANNEL, as endpoints reach it
        location: String,
        /// Another place that carries the same feeds
        #[arg(long = "mirror", value_name = "PLACE")]
        mirrors: Vec<String>,
    },
    /// List the LivePCs
    List,
    /// Forget a LivePC that nobody is assigned
    Delete {
        /// Its name
        livepc: String,
    },
    /// Let everybody, a group or an endpoint have a LivePC
    Assign {
        /// Its name
        livepc: String,
        /// everybody, group:NAME or endpoint:ID
        to: String,
    },
    /// Take an assignment back; endpoints keep what they have
    Unassign {
        /// Its name
        livepc: String,
        /// everybody, group:NAME or endpoint:ID
        from: String,
    },
}

pub fn run(app: &App, command: &Command) -> Result<(), Failure> {
    let assignment = |livepc: &String, scope: &String| Assignment {
        livepc: livepc.clone(),
        scope: scope.clone(),
    };
    match command {
        Command::Put { livepc, location, mirrors } => {
            let (name, at, mirrors) = (livepc.clone(), location.clone(), mirrors.clone());
            let request = LivePcAt { livepc: name, location: at, mirrors };
            done::<PutLivePc>(app, &request, format!("{livepc} is at {location}"))
        }
        Command::List => {
            let livepcs = call::<ListLivePcs>(app, &Nothing {})?.livepcs;
            app.answer(&livepcs, || {
                let headings = ["LIVEPC", "LOCATION", "ASSIGNED"];
                let mut table = Table::new(headings, "there are no LivePCs\n");
                for livepc in &livepcs {
                    let assigned = livepc.assigned.join(", ");
                    table.row([livepc.name.clone(), livepc.location.clone(), assigned]);
                }
                table.render()
            })
        }
        Command::Delete { livepc } => {
            let named = LivePcNamed { livepc: livepc.clone() };
            done::<DeleteLivePc>(app, &named, format!("{livepc} is forgotten"))
        }
        Command::Assign { livepc, to } => {
            done::<AssignLivePc>(app, &assignment(livepc, to), format!("{to} gets {livepc}"))
        }
        Command::Unassign { livepc, from } => {
            let text = format!("{livepc} is not assigned to {from} any more");
            done::<UnassignLivePc>(app, &assignment(livepc, from), text)
        }
    }
}
