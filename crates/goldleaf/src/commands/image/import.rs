//! `goldleaf image import`

use std::path::PathBuf;

use goldleaf_image::{ImportOptions, Imported, import};

use crate::cli::App;
use crate::failure::Failure;
use crate::output::{counted, parse_size, printable, size};

/// Make a golden image of a virtual machine's disk
///
/// Takes disks as they are, in any format that QEMU reads (raw, qcow2, vmdk, vdi, vhd, vhdx), told
/// by the ending of the file's name. The guest must be Linux on ext4, and must have been shut down
/// in order. Nothing has to be installed in it. The file itself is not changed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The disk
    file: PathBuf,
    /// Name of the new image
    #[arg(long)]
    name: String,
    /// Grow disk, partition and file system to this size, such as 40G
    #[arg(long, value_parser = parse_size)]
    size: Option<u64>,
}

pub fn run(app: &App, args: &Args) -> Result<(), Failure> {
    let home = app.open()?;
    let console = app.console();
    let options = ImportOptions { name: args.name.clone(), grow_to: args.size, cause: None };
    let images = home.images()?;
    let clock = home.clock.as_ref();
    let imported = import(&images, &home.launcher, clock, &args.file, &options, &console)?;
    console.finish();
    app.answer(&imported, || describe(&imported))
}

/// What was made, for people.
pub fn describe(imported: &Imported) -> String {
    let Imported { image, version, os, bytes, .. } = imported;
    let os = printable(os);
    let mut text = format!("image {image}, version {version}: {os}, {} on disk\n", size(*bytes));
    if !imported.identity.is_empty() {
        let carried = counted(imported.identity.len() as u64, "piece", "pieces");
        text += &format!("it carries {carried} of identity; each desktop gets its own\n");
    }
    for remark in &imported.remarks {
        text += &format!("note: {}\n", printable(remark));
    }
    text
}
