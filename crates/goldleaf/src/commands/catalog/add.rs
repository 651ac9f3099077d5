//! `goldleaf catalog add`

use goldleaf_player::feeds::{CatalogEntry, add_to_catalog};

use super::{Changing, parse_feed};
use crate::cli::App;
use crate::commands::key::now;
use crate::failure::Failure;

/// Put a feed of the same place into its catalog, or change what is said of it
///
/// What is signed is the feed's first root of trust, as it is in PLACE now, with a title.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The feed: NAME, or NAME/CHANNEL
    #[arg(value_parser = parse_feed)]
    feed: (String, String),
    /// What people call it
    #[arg(long)]
    title: String,
    /// What it is for
    #[arg(long, default_value = "", hide_default_value = true)]
    description: String,
    #[command(flatten)]
    changing: Changing,
}

pub fn run(app: &App, args: &Args) -> Result<(), Failure> {
    let (feed, channel) = args.feed.clone();
    let entry = CatalogEntry {
        feed,
        channel,
        title: args.title.clone(),
        description: args.description.clone(),
    };
    let name = format!("{}/{}", entry.feed, entry.channel);
    args.changing.change(app, &name, |to, keys| Ok(add_to_catalog(to, &entry, keys, now())?))
}
