//! `goldleaf catalog`: which feeds a place carries.

mod add;
mod remove;
mod show;

use std::path::PathBuf;

use clap::Subcommand;
use goldleaf_feed::names;
use goldleaf_player::feeds::{CATALOG, CatalogKeys, CatalogReport};

use crate::cli::App;
use crate::commands::key::{missing, secret};
use crate::failure::Failure;
use crate::{page, place};

/// The catalog of a place: which feeds it carries, signed
///
/// Who believes the catalog need not believe each feed at first sight: `goldleaf subscribe
/// --catalog-root` takes a feed's root of trust as the catalog vouches for it. Its keys are its
/// own; `goldleaf key root PLACE/feeds/catalog/stable/metadata --feed catalog/stable` begins it.
#[derive(Debug, Subcommand)]
pub enum Command {
    Add(add::Args),
    Remove(remove::Args),
    Show(show::Args),
}

/// Runs one of them.
pub fn run(app: &App, command: Command) -> Result<(), Failure> {
    match command {
        Command::Add(args) => add::run(app, &args),
        Command::Remove(args) => remove::run(app, &args),
        Command::Show(args) => show::run(app, &args),
    }
}

/// Which catalog is changed, by whom.
#[derive(Debug, clap::Args)]
struct Changing {
    /// The directory, or s3://BUCKET/PREFIX
    #[arg(long, value_name = "PLACE")]
    to: PathBuf,
    /// A secret image key of the catalog that is here; others sign with `goldleaf key sign`
    #[arg(long = "key", value_name = "FILE")]
    keys: Vec<PathBuf>,
    /// Its secret online key; without it, `goldleaf key refresh` lets others see the change
    #[arg(long, value_name = "FILE")]
    online_key: Option<PathBuf>,
}

impl Changing {
    /// Changes it, and its page.
    fn change(
        &self,
        app: &App,
        feed: &str,
        change: impl FnOnce(
            &goldleaf_fetch::Destination,
            &CatalogKeys,
        ) -> Result<CatalogReport, Failure>,
    ) -> Result<(), Failure> {
        let image_keys = self.keys.iter().map(|path| secret(path)).collect::<Result<_, _>>()?;
        let online_key = self.online_key.as_deref().map(secret).transpose()?;
        let (home, to) = (app.open()?, place::open(&self.to)?);
        let report = change(&to, &CatalogKeys { image_keys, online_key })?;
        if report.is_visible {
            page::write(&home, &to, CATALOG, names::STABLE)?;
        }
        let value = serde_json::json!({
            "feed": feed,
            "is_new": report.is_new,
            "is_visible": report.is_visible,
            "waits_for": report.waits.as_ref().map(missing),
        });
        let metadata = self.to.join(names::metadata(CATALOG, names::STABLE));
        let metadata = metadata.display();
        app.answer(&value, || match (&report.waits, report.is_visible) {
            _ if !report.is_new => "the catalog says so already".into(),
            (Some(standing), _) => format!(
                "still missing: {}; `goldleaf key sign {metadata}/{} --key FILE` adds a signature",
                missing(standing),
                standing.file
            ),
            (None, true) => "others see it from now on".into(),
            (None, false) => {
                format!("`goldleaf key refresh {metadata} --online-key FILE` lets others see it")
            }
        })
    }
}

/// A feed and its channel, from what a person wrote.
pub fn parse_feed(text: &str) -> Result<(String, String), String> {
    let location = goldleaf_feed::Location::parse(&format!("/feeds/{text}"));
    let location = location.ok_or("expected NAME or NAME/CHANNEL, such as office/pilot")?;
    Ok((location.feed, location.channel))
}
