//! `goldleaf key root`

use std::path::PathBuf;

use goldleaf_trust::{Line, Repository};

use super::files;
use super::keys::KeyArgs;
use crate::cli::App;
use crate::failure::Failure;
use crate::place;

/// Begin a feed: draft the root that says who may sign what
///
/// Writes DIR/1.root.draft.json, which the root keys sign with `goldleaf key sign`; with the last
/// signature that it takes it becomes DIR/1.root.json. That file is what endpoints are given when
/// they subscribe.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The directory of the feed's metadata, made when it is missing; or its place in a bucket
    dir: PathBuf,
    /// Id of the organisation
    #[arg(long, value_name = "NAME")]
    organisation: String,
    /// Name of the feed, such as office-desktop/stable
    #[arg(long, value_name = "NAME")]
    feed: String,
    #[command(flatten)]
    keys: KeyArgs,
}

pub fn run(app: &App, args: &Args) -> Result<(), Failure> {
    let authority = args.keys.first()?;
    // Refused before a directory is made for it.
    authority.to_root()?;
    let shelf = place::create(&args.dir)?.shelf;
    let line = Line { organisation: args.organisation.clone(), feed: args.feed.clone() };
    let expires = files::in_days(args.keys.days());
    let draft = Repository::on(shelf)?.draft_first_root(&line, &authority, expires)?;
    let threshold = authority.root.threshold;
    let value = serde_json::json!({ "drafts": [draft], "missing": threshold });
    app.answer(&value, || {
        let path = args.dir.join(&draft).display().to_string();
        format!(
            "drafted {path}; {threshold} of its root keys must sign it: \
             `goldleaf key sign {path} --key FILE`"
        )
    })
}
