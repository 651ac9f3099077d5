//! `goldleaf key refresh`

use std::path::{Path, PathBuf};

use goldleaf_feed::Location;
use goldleaf_trust::{Published, SigningKey};

use super::files;
use crate::cli::App;
use crate::failure::Failure;
use crate::output::when;
use crate::{page, place};

/// Publish what has its signatures, and renew the timestamp
///
/// To be run by a timer, every day or two: endpoints believe a timestamp for 7 days. A draft of
/// targets that is complete becomes what endpoints see, and a root that waited for it is put in
/// place.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The directory of the feed's metadata
    dir: PathBuf,
    /// The file of the online key's secret; while that rotates, the old one and the new one
    #[arg(long = "online-key", value_name = "FILE", required = true)]
    online: Vec<PathBuf>,
}

pub fn run(app: &App, args: &Args) -> Result<(), Failure> {
    let keys = args.online.iter().map(|path| files::secret(path)).collect::<Result<Vec<_>, _>>()?;
    let keys: Vec<&SigningKey> = keys.iter().collect();
    let published = files::repository(&args.dir)?.publish(&keys, files::now())?;
    let value = serde_json::json!({
        "root": published.root,
        "targets": published.targets,
        "snapshot": published.snapshot,
        "timestamp": published.timestamp,
        "expires_unix_secs": published.expires.as_secs(),
        "root_waits_for": published.root_waits.map(|on| on.to_string()),
    });
    show_page(app, &args.dir)?;
    app.answer(&value, || as_text(&published))
}

/// Writes the page beside the feed anew, where the metadata lie as in a place that carries feeds.
fn show_page(app: &App, dir: &Path) -> Result<(), Failure> {
    let location = dir.parent().and_then(Path::to_str).and_then(Location::parse);
    let Some(Location { root, feed, channel }) = location else { return Ok(()) };
    page::write(&app.open()?, &place::open(Path::new(&root))?, &feed, &channel)
}

fn as_text(published: &Published) -> String {
    let mut text = String::new();
    if let Some(version) = published.targets {
        text += &format!("targets {version} are published\n");
    }
    if let Some(version) = published.root {
        text += &format!("root {version} is in place\n");
    }
    if let Some(on) = published.root_waits {
        text += &format!("the next root has its signatures, and waits for {on}\n");
    }
    let (version, expires) = (published.timestamp, when(published.expires.as_secs()));
    text + &format!("timestamp {version} is believed until {expires}")
}
