//! `goldleaf completions`

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use crate::cli::{App, Cli};
use crate::failure::Failure;
use crate::output;

/// Print completions for a shell
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    shell: Shell,
}

pub fn run(_app: &App, args: &Args) -> Result<(), Failure> {
    let mut script = Vec::new();
    generate(args.shell, &mut Cli::command(), "goldleaf", &mut script);
    output::bytes_out(&script)
}
