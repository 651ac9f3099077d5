//! `goldleaf subscribe`

use std::path::{Path, PathBuf};
use std::sync::Arc;

use goldleaf_feed::Location;
use goldleaf_host::{Dir, RealDir};
use goldleaf_player::feeds::{self, SubscribeOptions};
use goldleaf_player::{Home, PlayerError, desktop};

use crate::cli::App;
use crate::failure::Failure;
use crate::output::{printable, size};

/// Longest root of trust that is read, in bytes.
const ROOT_LIMIT: u64 = 64 << 10;

/// Follow a published LivePC, and make a desktop of it on this machine
///
/// The desktop can be started at once: what it reads is brought when it is read, and the rest while
/// it runs. The first subscription believes the feed's own root of trust from then on; with
/// `--root` it must be the one that somebody gave you.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where it is: an address, a directory or a bucket, such as https://HOST/feeds/NAME,
    /// /media/stick/feeds/NAME or s3://BUCKET/PREFIX/feeds/NAME; a channel other than stable stands
    /// behind the name
    location: String,
    /// Its name here [default: the feed's]
    #[arg(long = "as", value_name = "NAME")]
    name: Option<String>,
    /// The feed's first root of trust, from somebody whom you trust
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// The first root of trust of the catalog of that place, from somebody whom you trust: the feed
    /// is believed as the catalog vouches for it
    #[arg(long, value_name = "FILE", conflicts_with = "root")]
    catalog_root: Option<PathBuf>,
    /// Another place that carries the same feeds: what comes before /feeds/
    #[arg(long = "mirror", value_name = "PLACE")]
    mirrors: Vec<String>,
    /// A directory that may have some of it: a root directory of the same distribution, such as /,
    /// or a copy of the feed; nothing of it is believed. Other images here are asked by themselves
    #[arg(long = "seed", value_name = "DIR")]
    seeds: Vec<PathBuf>,
    /// Bring all of it now, so that it starts without a network
    #[arg(long)]
    whole: bool,
    /// Make no desktop
    #[arg(long)]
    no_desktop: bool,
}

pub fn run(app: &App, args: &Args) -> Result<(), Failure> {
    let home = app.open()?;
    let options = options(&home, args)?;
    let name = &options.name;
    if !args.no_desktop {
        check_free(&home, name)?;
    }
    let seeds = args.seeds.iter().map(|path| seed(path)).collect::<Result<Vec<_>, _>>()?;
    let console = app.console();
    let (subscription, root, arrival) = feeds::subscribe(&home, &options, &console)?;
    if !args.no_desktop {
        desktop::create(&home, name, name)?;
    }
    let found = arrival.seed(&seeds, &console)?.bytes().0;
    let is_whole = !args.whole || super::update::fill(&arrival, &console)?;
    console.finish();
    let keys: Vec<&str> = root.keys.keys().map(|id| id.0.as_str()).collect();
    let arrived = arrival.arrived();
    let value = serde_json::json!({
        "subscription": name,
        "organisation": subscription.record.organisation,
        "version": arrival.version,
        "bytes_here": arrived.here.bytes().0,
        "bytes_found_here": found,
        "bytes_in_all": arrived.all.bytes().0,
        "root_keys": keys,
    });
    app.answer(&value, || {
        let organisation = printable(&subscription.record.organisation);
        let (version, all) = (arrival.version, size(arrived.all.bytes().0));
        let mut text =
            format!("{name} is version {version} of what {organisation} publishes, {all}\n");
        if found > 0 {
            text += &format!("{} of it was here already\n", size(found));
        }
        if args.root.is_none() && args.catalog_root.is_none() {
            text += "its author was not known before and is believed from now on; the keys:\n";
            keys.iter().for_each(|key| text += &format!("  {key}\n"));
        }
        match (args.no_desktop, is_whole) {
            (true, _) => text + "`goldleaf desktop create` makes desktops of it",
            (false, _) => text + &format!("start it with `goldleaf start {name}`"),
        }
    })
}

/// Where a feed is, from what a person wrote.
pub fn location(text: &str) -> Result<Location, Failure> {
    let location = Location::parse(text).ok_or_else(|| {
        Failure::user(format!("`{text}` is not where a feed is"))
            .hint("a feed is at PLACE/feeds/NAME or PLACE/feeds/NAME/CHANNEL")
    })?;
    let here = std::env::current_dir()
        .map_err(|error| Failure::io("finding the current directory", &error))?;
    Ok(feeds::absolute(location, &here))
}

fn options(home: &Home, args: &Args) -> Result<SubscribeOptions, Failure> {
    let location = location(&args.location)?;
    let root = match &args.catalog_root {
        Some(path) => Some(feeds::root_by_catalog(home, &location, read_root(path)?)?),
        None => args.root.as_deref().map(read_root).transpose()?,
    };
    let name = args.name.clone().unwrap_or_else(|| location.feed.clone());
    Ok(SubscribeOptions { location, mirrors: args.mirrors.clone(), name, root })
}

/// A directory that may have some of what is to arrive.
fn seed(path: &Path) -> Result<Arc<dyn Dir>, Failure> {
    RealDir::open(path).map_err(|error| Failure::io(format!("opening {}", path.display()), &error))
}

/// A root of trust from a file.
pub fn read_root(path: &Path) -> Result<Vec<u8>, Failure> {
    use std::io::Read;
    let failed = |error| Failure::io(format!("reading {}", path.display()), &error);
    let (mut root, file) = (Vec::new(), std::fs::File::open(path).map_err(failed)?);
    file.take(ROOT_LIMIT).read_to_end(&mut root).map_err(failed)?;
    Ok(root)
}

fn check_free(home: &Home, name: &str) -> Result<(), Failure> {
    match desktop::peek(home, name) {
        Ok(_) => Err(PlayerError::Exists { kind: "desktop", name: name.into() }.into()),
        Err(PlayerError::Unknown { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
