//! `goldleaf feed show`

use std::path::PathBuf;

use goldleaf_player::feeds::{self, FeedView, VersionView};

use crate::cli::App;
use crate::commands::subscribe::{location, read_root};
use crate::failure::Failure;
use crate::output::{Table, printable, size, when};

/// Show which versions a feed has, without following it
///
/// What is shown is what an endpoint would believe: signatures, dates and digests are checked, and
/// nothing is kept.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where it is, such as https://HOST/feeds/NAME or /media/stick/feeds/NAME/CHANNEL
    location: String,
    /// The feed's first root of trust, from somebody whom you trust
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
}

pub fn run(app: &App, args: &Args) -> Result<(), Failure> {
    let (home, location) = (app.open()?, location(&args.location)?);
    let root = args.root.as_deref().map(read_root).transpose()?;
    let view = feeds::look(&home, &location, root)?;
    app.answer(&view, || as_text(&view))
}

fn as_text(view: &FeedView) -> String {
    let FeedView { organisation, feed, root_keys, root_threshold, versions } = view;
    let mut text = format!(
        "{} of {}; {root_threshold} of these keys say whose word counts:\n",
        printable(feed),
        printable(organisation)
    );
    root_keys.iter().for_each(|key| text += &format!("  {key}\n"));
    let headings = ["VERSION", "PUBLISHED", "FOR", "IMAGE", "OS", "LAYERS", "FULL", "DELTAS"];
    let mut table = Table::new(headings, "no version was published yet");
    for version in versions {
        table.row([
            version.version.to_string(),
            when(version.published_unix_secs),
            format!("{}%", version.stage),
            version.image.clone(),
            version.os.clone(),
            version.layers.join(", "),
            size(version.pack_bytes),
            deltas(version),
        ]);
    }
    text + &table.render()
}

/// The length of each delta, and the version that it is from.
fn deltas(version: &VersionView) -> String {
    let from = |number: &Option<u64>| match number {
        Some(number) => format!("from {number}"),
        None => "from one that is gone".into(),
    };
    let one = |(number, len): &(Option<u64>, u64)| format!("{} {}", size(*len), from(number));
    version.deltas.iter().map(one).collect::<Vec<_>>().join(", ")
}
