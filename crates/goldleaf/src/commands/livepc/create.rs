//! `goldleaf livepc create`

use std::path::PathBuf;

use goldleaf_player::livepc::NewLivePc;
use goldleaf_player::{Home, PlayerError, desktop, livepc};

use crate::cli::App;
use crate::commands::rules;
use crate::failure::Failure;

/// Make a LivePC, and a desktop of it on this machine
///
/// Desktops of a LivePC follow its image and its layers: they stand on their newest versions from
/// their next start.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the LivePC, and of the desktop
    name: String,
    /// The golden image
    #[arg(long)]
    image: String,
    /// A layer of applications; several are stacked in the order given, the lowest first
    #[arg(long = "layer", value_name = "LAYER")]
    layers: Vec<String>,
    /// Rules of the site, over those of the factory
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    /// Memory of the virtual machine, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 2048,
          value_parser = clap::value_parser!(u32).range(64..=16_777_216))]
    memory: u32,
    /// Processors of the virtual machine
    #[arg(long, value_name = "N", default_value_t = 2,
          value_parser = clap::value_parser!(u32).range(1..=255))]
    cpus: u32,
    /// Make no desktop
    #[arg(long)]
    no_desktop: bool,
}

pub fn run(app: &App, args: &Args) -> Result<(), Failure> {
    let home = app.open()?;
    let rules = args.rules.as_deref().map(rules::read_site).transpose()?;
    if !args.no_desktop {
        check_free(&home, &args.name)?;
    }
    let new = NewLivePc {
        name: args.name.clone(),
        image: args.image.clone(),
        layers: args.layers.clone(),
        memory_mib: args.memory,
        cpus: args.cpus,
        rules,
    };
    let made = livepc::create(&home, new)?;
    if !args.no_desktop
        && let Err(error) = desktop::create(&home, &args.name, &args.name)
    {
        // Both or none; the error that counts is the first one.
        let _ = livepc::delete(&home, &args.name);
        return Err(error.into());
    }
    let value =
        serde_json::json!({ "livepc": made, "desktop": (!args.no_desktop).then_some(&args.name) });
    app.answer(&value, || match args.no_desktop {
        true => format!("LivePC {} is made", args.name),
        false => {
            let name = &args.name;
            format!("LivePC {name} and its desktop are made; start it with `goldleaf start {name}`")
        }
    })
}

fn check_free(home: &Home, name: &str) -> Result<(), Failure> {
    match desktop::peek(home, name) {
        Ok(_) => Err(PlayerError::Exists { kind: "desktop", name: name.into() }.into()),
        Err(PlayerError::Unknown { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
