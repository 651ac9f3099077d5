//! `goldleaf export`

use std::path::PathBuf;

use goldleaf_player::feeds::{ExportOptions, Exported, Subscription};

use crate::cli::App;
use crate::failure::Failure;
use crate::output::{counted, size};
use crate::{page, place};

/// Carry what a subscription follows to a stick, for machines that have no network
///
/// The newest version is brought from the subscription's sources, verified, and put into PLACE with
/// all that says whose it is. What is there already and right is not written again, so an export
/// that was interrupted goes on when it is asked for again. `goldleaf subscribe PLACE/feeds/NAME`
/// follows it, and such a place can be a mirror of others.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The subscription
    name: String,
    /// The stick's directory, or any other, or s3://BUCKET/PREFIX; several feeds share one
    #[arg(long, value_name = "PLACE")]
    to: PathBuf,
    /// Deltas, too: for machines that update from there and have the version before
    #[arg(long)]
    deltas: bool,
    /// Only say what would be written
    #[arg(long)]
    dry_run: bool,
}

pub fn run(app: &App, args: &Args) -> Result<(), Failure> {
    let home = app.open()?;
    let mut subscription = Subscription::open(&home, &args.name)?;
    let to = if args.dry_run { place::open(&args.to)? } else { place::create(&args.to)? };
    let options = ExportOptions {
        deltas: args.deltas,
        // What a bucket has is whole; what a stick has, nobody knows.
        is_read: !place::is_in_bucket(&args.to),
        dry_run: args.dry_run,
    };
    let console = app.console();
    let report = subscription.export(&home, &to, &options, &console)?;
    let record = &subscription.record;
    if !args.dry_run {
        page::write(&home, &to, &record.feed, &record.channel)?;
    }
    console.finish();
    let feed = args.to.join("feeds").join(&record.feed);
    let feed = if record.channel == "stable" { feed } else { feed.join(&record.channel) };
    let feed = feed.display().to_string();
    let value = serde_json::json!({
        "subscription": args.name,
        "feed": feed,
        "versions": report.versions,
        "files": report.files,
        "bytes": report.bytes,
        "new_files": report.new_files,
        "new_bytes": report.new_bytes,
    });
    app.answer(&value, || as_text(args, &report, &feed))
}

fn as_text(args: &Args, report: &Exported, feed: &str) -> String {
    let versions = report.versions.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    let (files, bytes) = (counted(report.files, "file", "files"), size(report.bytes));
    let new = size(report.new_bytes);
    let name = &args.name;
    match (args.dry_run, report.new_bytes) {
        (true, _) => {
            format!("{name} version {versions}: {files}, {bytes}; {new} would be written to {feed}")
        }
        (false, 0) => format!("{name} version {versions} is at {feed} already, {files}, {bytes}"),
        (false, _) => format!(
            "{name} version {versions} is at {feed}: {files}, {bytes}, {new} of it new\n\
             `goldleaf subscribe {feed}` follows it"
        ),
    }
}
