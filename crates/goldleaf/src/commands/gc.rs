//! `goldleaf gc`

use goldleaf_player::collect;

use crate::cli::App;
use crate::failure::Failure;
use crate::output::{counted, printable, size};

/// Give back the space of what nothing needs any more
///
/// Versions that histories forgot, old versions of what is subscribed to that nothing runs on,
/// layers and desktops that were deleted, and what interrupted commands left behind.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only show what would be given back
    #[arg(long)]
    dry_run: bool,
}

pub fn run(app: &App, args: &Args) -> Result<(), Failure> {
    let home = app.open()?;
    let report = if args.dry_run { collect::plan(&home)? } else { collect::apply(&home)? };
    app.answer(&report, || {
        let (removes, rewrites, gives) = match args.dry_run {
            true => ("would remove", "rewrite", "give"),
            false => ("removed", "rewrote", "gave"),
        };
        let removed = counted(report.removed_packs, "pack", "packs");
        let rewritten = counted(report.rewritten_packs, "pack", "packs");
        let gained = size(report.gained_bytes);
        let mut text =
            format!("{removes} {removed}, {rewrites} {rewritten}, {gives} back {gained}\n");
        for forgotten in &report.forgotten {
            text += &format!("{removes} {}, which can be had again\n", printable(forgotten));
        }
        for leftover in &report.leftovers {
            text += &format!("{removes} {}, left by an interrupted command\n", printable(leftover));
        }
        for desktop in &report.skipped {
            text += &format!("left desktop {} alone, which is in use\n", printable(desktop));
        }
        for name in &report.skipped_subscriptions {
            text += &format!("left subscription {} alone, which is in use\n", printable(name));
        }
        if report.over_limit_bytes > 0 {
            let over = size(report.over_limit_bytes);
            text += &format!("what has arrived is {over} over its limit, and no more can go now\n");
        }
        text
    })
}
