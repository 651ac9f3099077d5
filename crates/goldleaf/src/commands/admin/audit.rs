//! `goldleaf admin audit`: who changed what.

use clap::Subcommand;
use goldleaf_api::v1::{AuditWanted, CheckAudit, ListAudit, Nothing};

use super::call;
use crate::cli::App;
use crate::failure::Failure;
use crate::output::{Table, when};

/// The audit log
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show who changed what, a page at a time
    List {
        /// Only what came after this number
        #[arg(long)]
        after: Option<u64>,
        /// How many records at most; 100 where nothing is said
        #[arg(long)]
        limit: Option<u32>,
    },
    /// See that no record was changed, taken away or put in
    ///
    /// The head that it prints is worth keeping elsewhere: a log that was rewritten as a whole has
    /// another one.
    Check,
}

pub fn run(app: &App, command: &Command) -> Result<(), Failure> {
    match command {
        Command::List { after, limit } => {
            let page = call::<ListAudit>(app, &AuditWanted { after: *after, limit: *limit })?;
            app.answer(&page, || {
                let headings = ["NUMBER", "AT", "WHO", "WHAT", "OF", "MORE"];
                let mut table = Table::new(headings, "there are no records\n");
                for record in &page.records {
                    table.row([
                        record.seq.to_string(),
                        when(record.at),
                        record.actor.clone(),
                        record.call.clone(),
                        record.target.clone(),
                        record.detail.clone(),
                    ]);
                }
                let more = page.next.map(|next| format!("more: --after {next}\n"));
                table.render() + &more.unwrap_or_default()
            })
        }
        Command::Check => {
            let checked = call::<CheckAudit>(app, &Nothing {})?;
            if let Some(at) = checked.wrong_at {
                return Err(Failure::internal(format!("record {at} is not what it was")));
            }
            app.answer(&checked, || {
                format!(
                    "{} records are what they were; the head is {}",
                    checked.records, checked.head
                )
            })
        }
    }
}
