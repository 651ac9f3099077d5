//! `goldleaf enrol`

use std::path::PathBuf;

use goldleaf_api::Code;
use goldleaf_api::v1::EndpointState;
use goldleaf_player::agent::Request;
use goldleaf_player::enrolment::{self, EnrolOptions};

use super::agent::ask_or_start;
use super::subscribe::read_root;
use crate::cli::App;
use crate::failure::Failure;
use crate::output::printable;

/// Let a control server say what this machine is to have
///
/// Its administrator gives you the address and a code, which is good once. From then on the agent
/// asks the server, and subscribes to what is assigned to this machine. Whose signatures are
/// believed about it is settled now; no server can change that later.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The server, as https://HOST:PORT
    #[arg(required_unless_present = "leave")]
    server: Option<String>,
    /// The code
    #[arg(required_unless_present = "leave")]
    code: Option<Code>,
    /// What people are to call this machine [default: its host name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The first root of trust of a catalog or a feed, from somebody whom you trust: it is
    /// believed, and nothing that the server names
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// Start no agent
    #[arg(long)]
    no_agent: bool,
    /// Forget the server instead; what it assigned stays
    #[arg(long, conflicts_with_all = ["server", "code", "name", "root", "no_agent"])]
    leave: bool,
}

pub fn run(app: &App, args: &Args) -> Result<(), Failure> {
    let home = app.open()?;
    let (Some(server), Some(code)) = (&args.server, &args.code) else {
        let had_one = enrolment::leave(&home)?;
        let value = serde_json::json!({ "left": had_one });
        return app.answer(&value, || match had_one {
            true => "this machine follows no server any more; what it had stays".into(),
            false => "this machine followed no server".into(),
        });
    };
    let anchor = args.root.as_deref().map(read_root).transpose()?.map(String::from_utf8);
    let anchor = anchor.transpose().map_err(|_| Failure::user("the root of trust is no text"))?;
    let name = args.name.clone().map_or_else(host_name, Ok)?;
    let options = EnrolOptions { server: server.clone(), code: code.clone(), name, anchor };
    let record = enrolment::enrol(&home, &options)?;
    if !args.no_agent {
        ask_or_start(app, &home, &Request::Update { names: Vec::new() })?;
    }
    let value = serde_json::json!({
        "endpoint": record.endpoint,
        "organisation": record.organisation,
        "state": record.state,
        "anchors": record.anchors.len(),
    });
    app.answer(&value, || {
        let organisation = printable(&record.organisation);
        let mut text = match record.state {
            EndpointState::Pending => {
                format!("{organisation} knows of this machine; somebody there has to approve it\n")
            }
            _ => format!("this machine follows {organisation}\n"),
        };
        if record.anchors.is_empty() {
            text += "nobody's signatures are believed: nothing can be subscribed to\n";
        }
        text + "`goldleaf agent status` tells how it goes"
    })
}

fn host_name() -> Result<String, Failure> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_err(|error| Failure::io("finding this machine's name", &error))?;
    Ok(name.trim().into())
}
