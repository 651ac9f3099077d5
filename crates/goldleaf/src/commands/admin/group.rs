//! `goldleaf admin group`: groups of endpoints.

use clap::Subcommand;
use goldleaf_api::v1::{CreateGroup, DeleteGroup, GroupNamed, ListGroups, Nothing};

use super::{call, done};
use crate::cli::App;
use crate::failure::Failure;
use crate::output::Table;

/// Groups of endpoints
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a group
    Create {
        /// Its name
        group: String,
    },
    /// List the groups
    List,
    /// Delete a group in which no endpoint is
    Delete {
        /// Its name
        group: String,
    },
}

pub fn run(app: &App, command: &Command) -> Result<(), Failure> {
    match command {
        Command::Create { group } => {
            let named = GroupNamed { group: group.clone() };
            done::<CreateGroup>(app, &named, format!("there is a group {group}"))
        }
        Command::List => {
            let groups = call::<ListGroups>(app, &Nothing {})?.groups;
            app.answer(&groups, || {
                let mut table = Table::new(["GROUP", "ENDPOINTS"], "there are no groups\n");
                for group in &groups {
                    table.row([group.name.clone(), group.endpoints.to_string()]);
                }
                table.render()
            })
        }
        Command::Delete { group } => {
            let named = GroupNamed { group: group.clone() };
            done::<DeleteGroup>(app, &named, format!("the group {group} is gone"))
        }
    }
}
