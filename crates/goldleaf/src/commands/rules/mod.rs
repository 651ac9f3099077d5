//! `goldleaf rules`: which layer owns a path.

mod check;
mod explain;
mod list;

use std::path::Path;

use clap::Subcommand;
use goldleaf_layer::rules::{RuleFile, RuleSet, SiteRules};
use goldleaf_player::livepc;

use crate::cli::App;
use crate::failure::Failure;

/// Longest rules file that is read, in bytes.
const FILE_LIMIT: u64 = 1 << 20;

/// Rules: what happens to which path when a session ends
#[derive(Debug, Subcommand)]
pub enum Command {
    Explain(explain::Args),
    Check(check::Args),
    List(list::Args),
}

/// Runs one of them.
pub fn run(app: &App, command: Command) -> Result<(), Failure> {
    match command {
        Command::Explain(args) => explain::run(app, &args),
        Command::Check(args) => check::run(app, &args),
        Command::List(args) => list::run(app, &args),
    }
}

/// The rules that hold: the factory's, and over them those of a LivePC.
fn effective(app: &App, of: Option<&str>) -> Result<RuleSet, Failure> {
    let mut files = vec![RuleFile::debian()?];
    if let Some(name) = of {
        let home = app.open()?;
        livepc::get(&home, name)?;
        if let Some(site) = livepc::rules(&home, name)? {
            files.push(site.parse()?);
        }
    }
    Ok(RuleSet::compile(&files, &[])?)
}

/// Reads a rules file of the site, wholly checked.
pub fn read_site(path: &Path) -> Result<SiteRules, Failure> {
    let file = path.display().to_string();
    let io = |error: std::io::Error| Failure::io(format!("reading {file}"), &error);
    let len = std::fs::metadata(path).map_err(io)?.len();
    if len > FILE_LIMIT {
        let found = format!("{file} has {len} bytes; a rules file has at most {FILE_LIMIT}");
        return Err(Failure::user(found));
    }
    let bytes = std::fs::read(path).map_err(io)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::user(format!("{file} is not text in UTF-8")))?;
    let rules = SiteRules { file, text };
    count_rules(&rules)?;
    Ok(rules)
}

/// Parses and compiles a site's rules; how many they are.
fn count_rules(rules: &SiteRules) -> Result<usize, Failure> {
    let set = RuleSet::compile(&[rules.parse()?], &[])?;
    Ok(set.rules().count())
}
