//! `goldleaf rules check`

use std::path::PathBuf;

use crate::cli::App;
use crate::failure::Failure;
use crate::output::counted;

/// Check a rules file without using it
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file
    file: PathBuf,
}

pub fn run(app: &App, args: &Args) -> Result<(), Failure> {
    let site = super::read_site(&args.file)?;
    let (name, rules) = (&site.file, super::count_rules(&site)?);
    let value = serde_json::json!({ "file": name, "rules": rules, "valid": true });
    app.answer(&value, || format!("{name}: {}, all valid", counted(rules as u64, "rule", "rules")))
}
