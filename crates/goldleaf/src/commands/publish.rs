//! `goldleaf publish`

use std::path::PathBuf;

use goldleaf_player::feeds::{self, Effort, PublishOptions, PublishReport};
use goldleaf_player::workshop::{Rehearsal, Until};
use goldleaf_trust::SigningKey;
use goldleaf_vm::Accel;

use crate::cli::App;
use crate::commands::catalog::parse_feed;
use crate::commands::key::{missing, secret};
use crate::commands::start::AccelChoice;
use crate::failure::Failure;
use crate::output::{counted, size};
use crate::{page, place};

/// What zstd is asked for where it is to be small, and where it is to be quick.
const SMALL: i32 = 19;
const QUICK: i32 = 3;

/// Publish a LivePC into a directory that any web server or stick can carry, or into a bucket
///
/// The current versions of its image and its layers become the newest version of a channel. What
/// was published before is not written again: a version costs what is new in it. Endpoints see it
/// when the image keys and the online key have signed; the first time, `goldleaf key root` begins
/// the channel's metadata in PLACE/feeds/NAME/CHANNEL/metadata.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The LivePC
    name: String,
    /// The directory, or s3://BUCKET/PREFIX; several LivePCs share one
    #[arg(long, value_name = "PLACE")]
    to: PathBuf,
    /// The channel
    #[arg(long, default_value = "stable")]
    channel: String,
    /// For how many endpoints of a hundred; publish again with more to widen it
    #[arg(long, value_name = "PERCENT", default_value = "100%", value_parser = parse_stage)]
    stage: u8,
    /// A secret image key that is here; others sign with `goldleaf key sign`
    #[arg(long = "key", value_name = "FILE")]
    keys: Vec<PathBuf>,
    /// The secret online key; without it, `goldleaf key refresh` lets endpoints see the version
    #[arg(long, value_name = "FILE")]
    online_key: Option<PathBuf>,
    /// Compress less, for trying out
    #[arg(long)]
    draft: bool,
    /// Publish what that version of the channel was, as the newest: a roll-back
    #[arg(long, value_name = "VERSION", conflicts_with = "draft")]
    again: Option<u64>,
    /// From how many of the newest versions to make a delta: a small download for whoever has them
    #[arg(long, value_name = "N", default_value_t = 1)]
    deltas: usize,
    /// How it is found what a guest reads when it starts, which travels first [default: boot, once
    /// for a version of an image; none for a draft]
    #[arg(long, value_enum, value_name = "HOW")]
    profile: Option<Profile>,
    /// What runs the guest for that [default: kvm where a trial shows that it works]
    #[arg(long, value_enum)]
    accel: Option<AccelChoice>,
    /// Another feed of the same place, NAME or NAME/CHANNEL, whose image or layers are much alike:
    /// what its newest version has is not written again
    #[arg(long, value_name = "FEED", value_parser = parse_feed)]
    like: Vec<(String, String)>,
    /// How many versions stay there, to be pinned or published again
    #[arg(long, value_name = "N", default_value_t = 10)]
    keep: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Profile {
    /// Boot a guest, without a window, until it has started
    Boot,
    /// Show a guest: use it as people will at first, and shut it down
    Use,
    /// Not at all: a first start streams slower
    None,
}

fn rehearsal(args: &Args) -> Option<Rehearsal> {
    let (anew, headless, until) = match args.profile {
        None if args.draft => return None,
        None => (false, true, Until::Started),
        Some(Profile::Boot) => (true, true, Until::Started),
        Some(Profile::Use) => (true, false, Until::ShutDown),
        Some(Profile::None) => return None,
    };
    Some(Rehearsal { anew, headless, until, accel: args.accel.map(Accel::from) })
}

fn parse_stage(text: &str) -> Result<u8, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse();
    number.ok().filter(|stage| (1..=100).contains(stage)).ok_or("expected 1% to 100%".into())
}

pub fn run(app: &App, args: &Args) -> Result<(), Failure> {
    let home = app.open()?;
    let keys = args.keys.iter().map(|path| secret(path)).collect::<Result<Vec<SigningKey>, _>>()?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let options = PublishOptions {
        channel: args.channel.clone(),
        stage: args.stage,
        effort: Effort::of(if args.draft { QUICK } else { SMALL }, threads),
        deltas: args.deltas,
        again: args.again,
        like: args.like.clone(),
        keep: args.keep,
        rehearsal: rehearsal(args),
        image_keys: keys,
        online_key: args.online_key.as_deref().map(secret).transpose()?,
    };
    let to = place::create(&args.to)?;
    let console = app.console();
    let report = feeds::publish(&home, &args.name, &to, &options, &console)?;
    if report.is_visible {
        page::write(&home, &to, &args.name, &args.channel)?;
    }
    console.finish();
    let value = serde_json::json!({
        "livepc": args.name,
        "channel": args.channel,
        "version": report.version,
        "is_new": report.is_new,
        "is_visible": report.is_visible,
        "new_packs": report.written.packs,
        "new_pack_bytes": report.written.pack_bytes,
        "map_bytes": report.written.map_bytes,
        "delta_bytes": report.written.delta_bytes,
        "waits_for": report.waits.as_ref().map(missing),
    });
    app.answer(&value, || as_text(args, &report))
}

fn as_text(args: &Args, report: &PublishReport) -> String {
    let Args { name, channel, .. } = args;
    let version = report.version;
    if !report.is_new {
        return format!("{name} version {version} is what {channel} offers already");
    }
    let packs = counted(report.written.packs, "new pack", "new packs");
    let bytes = size(report.written.pack_bytes);
    let mut text = format!("{name} version {version} of {channel}: {packs}, {bytes}");
    if report.written.delta_bytes > 0 {
        text += &format!("; {} for whoever has a version", size(report.written.delta_bytes));
    }
    text.push('\n');
    let metadata = args.to.join("feeds").join(name).join(channel).join("metadata");
    let metadata = metadata.display();
    match &report.waits {
        Some(standing) => {
            let file = &standing.file;
            text += &format!(
                "still missing: {}; `goldleaf key sign {metadata}/{file} --key FILE` adds a \
                 signature",
                missing(standing)
            );
        }
        None if report.is_visible => text += "endpoints see it from now on",
        None => {
            text += &format!(
                "`goldleaf key refresh {metadata} --online-key FILE` lets endpoints see it"
            );
        }
    }
    text
}
