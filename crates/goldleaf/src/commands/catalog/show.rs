//! `goldleaf catalog show`

use std::path::{Path, PathBuf};

use goldleaf_feed::names;
use goldleaf_player::feeds::{self, CATALOG, CatalogView};

use crate::cli::App;
use crate::commands::subscribe::{location, read_root};
use crate::failure::Failure;
use crate::output::{Table, printable};

/// Show which feeds a place carries
///
/// What is shown is what an endpoint would believe: signatures and dates are checked, and nothing
/// is kept.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The place: an address, a directory or a bucket
    place: String,
    /// The catalog's first root of trust, from somebody whom you trust
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
}

pub fn run(app: &App, args: &Args) -> Result<(), Failure> {
    let place = args.place.trim_end_matches('/');
    let place = location(&format!("{place}/{}/{CATALOG}", names::FEEDS))?.root;
    let root = args.root.as_deref().map(read_root).transpose()?;
    let view = feeds::catalog(&app.open()?, &place, root)?;
    app.answer(&view, || as_text(&view, &place))
}

fn as_text(view: &CatalogView, place: &str) -> String {
    let CatalogView { organisation, root_keys, root_threshold, entries } = view;
    let mut text = format!(
        "the catalog of {}; {root_threshold} of these keys say whose word counts:\n",
        printable(organisation)
    );
    root_keys.iter().for_each(|key| text += &format!("  {key}\n"));
    let mut table = Table::new(["TITLE", "DESCRIPTION", "SUBSCRIBE TO"], "there are no feeds yet");
    for entry in entries {
        let mut address = Path::new(place).join(names::FEEDS).join(&entry.feed);
        if entry.channel != names::STABLE {
            address.push(&entry.channel);
        }
        let address = address.display().to_string();
        table.row([entry.title.clone(), entry.description.clone(), address]);
    }
    text + &table.render()
}
