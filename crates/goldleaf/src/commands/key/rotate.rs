//! `goldleaf key rotate`

use std::path::PathBuf;

use goldleaf_trust::{Authority, TrustError};

use super::files;
use super::keys::KeyArgs;
use crate::cli::App;
use crate::failure::Failure;

/// Draft the next root: other keys, other thresholds, or the same for another year
///
/// What is not given stays; the keys of a group are given all together. The keys of the root in
/// place sign the draft, and its own, each as many as it takes. When the image keys change and what
/// is published is not signed by enough of the new ones, the same targets are drafted too, for the
/// new keys to sign.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The directory of the feed's metadata
    dir: PathBuf,
    #[command(flatten)]
    keys: KeyArgs,
}

pub fn run(app: &App, args: &Args) -> Result<(), Failure> {
    let mut repository = files::repository(&args.dir)?;
    let before = Authority::of(repository.root().ok_or(TrustError::NotBegun)?)?;
    let next = args.keys.next(before)?;
    let drafts = repository.draft_next_root(&next, files::in_days(args.keys.days()))?;
    let value = serde_json::json!({ "drafts": drafts });
    app.answer(&value, || {
        let paths = drafts.iter().map(|draft| args.dir.join(draft).display().to_string());
        let lines = paths.map(|path| format!("drafted {path}"));
        let lines = lines.collect::<Vec<_>>().join("\n");
        format!("{lines}\nsign with `goldleaf key sign DRAFT --key FILE`, old keys and new ones")
    })
}
