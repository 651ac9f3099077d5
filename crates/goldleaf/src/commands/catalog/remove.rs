//! `goldleaf catalog remove`

use goldleaf_player::feeds::remove_from_catalog;

use super::{Changing, parse_feed};
use crate::cli::App;
use crate::commands::key::now;
use crate::failure::Failure;

/// Take a feed out of a catalog
///
/// Nothing happens to the feed itself, nor to who follows it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The feed: NAME, or NAME/CHANNEL
    #[arg(value_parser = parse_feed)]
    feed: (String, String),
    #[command(flatten)]
    changing: Changing,
}

pub fn run(app: &App, args: &Args) -> Result<(), Failure> {
    let (feed, channel) = &args.feed;
    args.changing.change(app, &format!("{feed}/{channel}"), |to, keys| {
        Ok(remove_from_catalog(to, (feed, channel), keys, now())?)
    })
}
