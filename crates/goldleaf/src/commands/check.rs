//! `goldleaf check`

use goldleaf_player::check::{self, CheckReport};

use crate::cli::App;
use crate::failure::Failure;
use crate::output::{counted, printable, size};

/// Read everything that is stored and compare it with what names it
///
/// Nothing is written, and desktops may run meanwhile. What is damaged is named by what it means:
/// versions of images and layers, and the LivePCs and desktops that stand on one. Composed disks
/// are made again when they are needed, and are not looked at; a session that was not finished is
/// checked when it is started again. The exit code is 70 when something is damaged.
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(app: &App, _args: &Args) -> Result<(), Failure> {
    let home = app.open()?;
    let console = app.console();
    let report = check::check(&home, &console)?;
    app.answer(&report, || text(&report))?;
    if report.is_clean() {
        return Ok(());
    }
    let what = match report.damage.len() as u64 {
        // Nothing reads wrong, but a file is not there.
        0 => "content is missing".into(),
        count => format!("{} damaged", counted(count, "place is", "places are")),
    };
    Err(Failure::internal(what).hint(
        "`goldleaf repair --from DIR` heals it from an older copy of the home; \
         or roll the layers back that are named, or import the images again",
    ))
}

fn text(report: &CheckReport) -> String {
    let mut text = format!(
        "{}, {}, {}, {} in {} are as they should be\n",
        counted(report.image_versions, "version of an image", "versions of images"),
        counted(report.blobs, "blob", "blobs"),
        counted(report.objects, "object", "objects"),
        size(report.bytes),
        counted(report.packs, "pack", "packs"),
    );
    for sentence in &report.damage {
        text += &format!("damaged: {}\n", printable(sentence));
    }
    for hurt in &report.images {
        text += &format!("image {} version {}\n", printable(&hurt.image), hurt.version);
    }
    for hurt in &report.layers {
        let of = hurt.desktop.as_ref().map_or(String::new(), |name| format!("desktop {name}, "));
        let layer = printable(&hurt.layer);
        text += &format!("{}layer {layer} version {}\n", printable(&of), hurt.version);
    }
    for name in &report.livepcs {
        text += &format!("LivePC {} stands on it\n", printable(name));
    }
    for name in &report.desktops {
        text += &format!("desktop {} stands on it\n", printable(name));
    }
    text
}
