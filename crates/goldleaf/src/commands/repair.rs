//! `goldleaf repair`

use std::path::PathBuf;

use goldleaf_player::repair::{self, Lost, LostWhat, RepairPlan, Salvage, StoreRepair};

use super::asking;
use crate::cli::App;
use crate::failure::Failure;
use crate::output::{self, counted, printable, size};

/// Heal what is damaged with whole copies of it
///
/// Reads everything as `goldleaf check` does, looks for whole copies of what is damaged or missing,
/// in this home and in those that `--from` names, shows what it would add, and asks. Nothing is
/// removed, shortened or overwritten: packs and files of images get further copies, which are read
/// instead of the damaged ones. Desktops may run meanwhile. Where nothing is damaged, nothing is
/// written. What nobody has whole is named by path and size, and the exit code is 70 then.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where whole copies may be: an older copy of the home, a backup of it, another home, or a
    /// directory of packs; can be given several times
    #[arg(long, value_name = "DIR")]
    from: Vec<PathBuf>,
    /// Where the current version of a user's documents or caches lost files that nobody has: add a
    /// version in which each has its newest older content that is whole, or is left out
    #[arg(long)]
    salvage: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Only show what would be added
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
}

pub fn run(app: &App, args: &Args) -> Result<(), Failure> {
    let home = app.open()?;
    let console = app.console();
    let sources = args.from.iter().map(|path| repair::source(path));
    let sources = sources.collect::<Result<Vec<_>, _>>()?;
    let plan = repair::plan(&home, &sources, args.salvage, &console)?;
    let acts = !args.dry_run && !plan.is_empty();
    if acts {
        if !args.yes {
            if !app.json {
                output::complain(text(&plan, "would add").trim_end());
            }
            let question = format!("Add {}?", size(plan.bytes()));
            asking::confirm(&question, "nothing was repaired")?;
        }
        repair::apply(&home, &sources, &plan, &console)?;
    }
    app.answer(&plan, || text(&plan, if acts { "added" } else { "would add" }))?;
    if plan.heals_all() { Ok(()) } else { Err(left(&plan)) }
}

fn left(plan: &RepairPlan) -> Failure {
    let count = plan.lost.len() + plan.lost_images.len() + plan.by_hand.len();
    let count = count as u64 + plan.unneeded;
    let things = counted(count, "thing stays", "things stay");
    Failure::internal(format!("{things} damaged: no whole copy was found")).hint(
        "name an older copy of the home with `--from DIR`; \
         or roll the layers back that are named, or import the images again",
    )
}

fn text(plan: &RepairPlan, verb: &str) -> String {
    if plan.is_empty() && plan.heals_all() {
        return "nothing is damaged, and nothing was written\n".into();
    }
    let mut text: String = plan.stores.iter().map(|store| of_store(store, verb)).collect();
    for image in &plan.images {
        let numbers: Vec<String> = image.versions.iter().map(u32::to_string).collect();
        let name = printable(&image.image);
        text += &format!("image {name}: heals version {}\n", numbers.join(", "));
        for file in &image.files {
            let bytes = size(file.bytes);
            text += &format!("image {name}: {verb} {} with {bytes} from elsewhere\n", file.copy);
        }
    }
    text += &plan.lost.iter().map(of_lost).collect::<String>();
    let verb = if plan.salvages { verb } else { "`--salvage` would add" };
    text += &plan.salvage.iter().map(|salvage| of_salvage(salvage, verb)).collect::<String>();
    for lost in &plan.lost_images {
        text += &format!("lost: image {} version {}\n", printable(&lost.image), lost.version);
    }
    for sentence in &plan.by_hand {
        text += &format!("to be put right by hand: {}\n", printable(sentence));
    }
    if plan.unneeded > 0 {
        let pieces = counted(
            plan.unneeded,
            "piece that nothing needs stays",
            "pieces that nothing needs stay",
        );
        text += &format!("{pieces} damaged\n");
    }
    text
}

fn of_store(store: &StoreRepair, verb: &str) -> String {
    let place = match &store.desktop {
        Some(name) => format!("store of desktop {}", printable(name)),
        None => "shared store".into(),
    };
    let mut text = String::new();
    for pack in &store.packs {
        let healed = counted(pack.healed.len() as u64, "piece", "pieces");
        text += &format!("{place}: {verb} {} ({}), heals {healed}", pack.file, size(pack.bytes));
        text += &match pack.lost.len() as u64 {
            0 => "\n".into(),
            lost => format!("; {}\n", counted(lost, "stays damaged", "stay damaged")),
        };
    }
    let filed = (store.blobs.len() + store.objects.len()) as u64;
    if filed > 0 {
        let pieces = counted(filed, "piece", "pieces");
        let bytes = size(store.filed_bytes);
        text += &format!("{place}: {verb} a pack with {pieces} of lost packs ({bytes})\n");
    }
    for pack in &store.retired {
        let pack = String::from(*pack);
        text += &format!("{place}: {verb} a mark that nothing is missed of pack {pack}\n");
    }
    text
}

fn of_salvage(salvage: &Salvage, verb: &str) -> String {
    let name = printable(&salvage.desktop);
    let (layer, version) = (salvage.layer, salvage.version);
    let mut text =
        format!("desktop {name}: {verb} a version of layer {layer} after version {version}\n");
    for file in &salvage.files {
        let path = printable(&file.path);
        text += &match file.from {
            Some(from) => format!("  {path}: as in version {from} ({})\n", size(file.bytes)),
            None => format!("  {path}: left out\n"),
        };
    }
    text
}

fn of_lost(lost: &Lost) -> String {
    let of = lost.desktop.as_ref().map_or(String::new(), |name| format!("desktop {name}, "));
    let what = match lost.what {
        LostWhat::Version => "all of it".into(),
        LostWhat::Records => "what it says of accounts and packages".into(),
        LostWhat::Below => format!("all below {}", lost.path),
        LostWhat::File => format!("{} ({})", lost.path, size(lost.bytes)),
    };
    let text = format!("lost: {of}layer {} version {}: {what}", lost.layer, lost.version);
    format!("{}\n", printable(&text))
}
