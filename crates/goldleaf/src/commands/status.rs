//! `goldleaf status`

use goldleaf_player::desktop;
use goldleaf_player::enrolment::{self, EnrolmentRecord};
use goldleaf_player::livepc::trial::STARTS_MAX;

use crate::cli::App;
use crate::failure::Failure;
use crate::output::{counted, number, printable, size, when};
use crate::progress::filed;

/// Show how a desktop is, or how all are
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The desktop [default: all]
    name: Option<String>,
}

pub fn run(app: &App, args: &Args) -> Result<(), Failure> {
    let home = app.open()?;
    if let Some(name) = &args.name {
        let status = desktop::status(&home, name)?;
        return app.answer(&status, || describe(&status));
    }
    let mut found = Vec::new();
    for record in desktop::list(&home)? {
        found.push(desktop::status(&home, &record.name)?);
    }
    let enrolled = enrolment::record(&home)?;
    app.answer(&found, || {
        let desktops = match found.is_empty() {
            true => "there are no desktops\n".into(),
            false => found.iter().map(describe).collect::<Vec<_>>().join("\n"),
        };
        desktops + &enrolled.as_ref().map(describe_enrolment).unwrap_or_default()
    })
}

fn describe_enrolment(record: &EnrolmentRecord) -> String {
    let (server, state) = (printable(&record.tie.server), record.state.as_str());
    let asked = record.checked_in_unix_secs.map_or_else(|| "never".into(), when);
    let organisation = printable(&record.organisation);
    format!("\nthis machine follows {organisation} at {server}: {state}, asked {asked}\n")
}

fn describe(status: &desktop::Status) -> String {
    let mut text = format!("{} is {} (LivePC {})\n", status.name, status.state, status.livepc);
    text += &describe_version(status);
    if let Some(live) = &status.live {
        text += &describe_live(live);
    }
    let record = &status.record;
    if let Some(session) = &record.session {
        let since = when(session.started_unix_secs);
        text += &format!("  session {} since {since}", session.number);
        text += &format!(", on version {} of the image\n", session.image_version);
    }
    if let Some(version) = record.pinned_image {
        text += &format!("  stays on version {version} of the image\n");
    }
    for (layer, version) in &record.pinned_apps {
        text += &format!("  stays on version {version} of layer {layer}\n");
    }
    for (kind, history) in &record.layers {
        let Some(current) = history.current() else { continue };
        let entries = counted(current.entries, "entry", "entries");
        let (number, bytes) = (current.number, size(current.bytes.0));
        text += &format!("  {kind}: version {number}, {entries}, {bytes}\n");
    }
    if let Some(last) = &record.last {
        text += &format!("  last session, {}:\n", when(last.at_unix_secs));
        filed(last).iter().for_each(|line| text += &format!("    {}\n", printable(line)));
    }
    text
}

/// Which version of a channel it is, and what became of others.
fn describe_version(status: &desktop::Status) -> String {
    let mut text = String::new();
    match (status.version, status.trial_starts) {
        (Some(version), Some(starts)) => {
            text += &format!(
                "  version {version} of the channel, on trial: {starts} of {STARTS_MAX} starts\n"
            );
        }
        (Some(version), None) => text += &format!("  version {version} of the channel\n"),
        (None, _) => {}
    }
    for version in &status.failed_versions {
        text += &format!("  version {version} of the channel did not come up here\n");
    }
    text
}

/// The running session's own figures.
fn describe_live(live: &serde_json::Value) -> String {
    let pid = live["hypervisor_pid"].as_u64();
    let mut text = pid.map_or(String::new(), |pid| format!("  hypervisor: pid {pid}\n"));
    let image = |name: &str| live["image"][name].as_u64();
    if let (Some(here), Some(all)) = (image("here_bytes"), image("all_bytes"))
        && here < all
    {
        text += &format!("  image: {} of {} are here, the rest comes\n", size(here), size(all));
    }
    let disk = |name: &str| live["disk"][name].as_u64();
    if let (Some(reads), Some(read), Some(writes), Some(written)) =
        (disk("reads"), disk("read_bytes"), disk("writes"), disk("written_bytes"))
    {
        let (reads, read) = (number(reads), size(read));
        let (writes, written) = (number(writes), size(written));
        text += &format!("  disk: {reads} reads ({read}), {writes} writes ({written})\n");
    }
    text
}
