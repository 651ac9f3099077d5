//! `goldleaf admin code`

use goldleaf_api::v1::{CodeWanted, CreateCode};

use super::call;
use crate::cli::App;
use crate::failure::Failure;
use crate::output::when;

/// Make a code with which one endpoint enrols into a group
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The group
    group: String,
    /// For how many hours it is good: 24 at most, and where nothing is said
    #[arg(long)]
    hours: Option<u32>,
    /// Let somebody approve the endpoint then
    #[arg(long)]
    approval: bool,
}

pub fn run(app: &App, args: &Args) -> Result<(), Failure> {
    let Args { group, hours, approval } = args;
    let wanted = CodeWanted { group: group.clone(), hours: *hours, approval: *approval };
    let code = call::<CreateCode>(app, &wanted)?;
    app.answer(&code, || {
        let until = when(code.expires_at);
        format!("good once, until {until}:\ngoldleaf enrol https://HOST:PORT {}", code.code)
    })
}
